//! A volume of the instance with a snapshot, and disks that grow under the guest: the volume, and the
//! root disk.

use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::{problem_from_status, v1};

use super::{Away, Client, Stage};

/// What both disks have in the end.
pub(in super::super) const GROWN_GIB: u32 = 2;

impl Client {
    pub(super) async fn make_stored(&mut self) -> Result<(), Away> {
        let instance_id = self.state.instance.clone().unwrap();
        if self.state.volume.is_none() {
            let made = self.create(async |api, context| {
                let spec = Some(volume_spec(1));
                api.volumes.clone().create(v1::CreateVolumeRequest { context, spec }).await
            });
            self.state.volume = Some(made.await?.metadata.unwrap().id);
        }
        let volume_id = self.state.volume.clone().unwrap();
        if self.state.attachment.is_none() {
            // Below the running guest, whatever died.
            self.wait(&instance_id, Until::WaitFor("running".to_owned())).await?;
            let spec = v1::VolumeAttachmentSpec {
                instance_id,
                volume_id: volume_id.clone(),
                delete_on_termination: false,
            };
            let made = self.create(async |api, context| {
                let request =
                    v1::CreateVolumeAttachmentRequest { context, spec: Some(spec.clone()) };
                api.volume_attachments.clone().create(request).await
            });
            self.state.attachment = Some(made.await?.metadata.unwrap().id);
        }
        let spec = v1::SnapshotSpec {
            volume_id: volume_id.clone(),
            description: "data".to_owned(),
            consistency: "frozen".to_owned(),
            ..v1::SnapshotSpec::default()
        };
        self.have_snapshot(spec).await?;
        self.grow_volume(&volume_id).await?;
        self.update(Stage::Stored).await
    }

    async fn grow_volume(&mut self, id: &str) -> Result<(), Away> {
        loop {
            let get = v1::GetRequest { id: id.to_owned(), claim: true };
            let known = self.ask(async |api| api.volumes.clone().get(get.clone()).await).await?;
            let context = Some(v1::UpdateContext {
                id: id.to_owned(),
                expected_generation: known.metadata.unwrap().generation,
                ..v1::UpdateContext::default()
            });
            let request = v1::UpdateVolumeRequest { context, spec: Some(volume_spec(GROWN_GIB)) };
            let answer =
                self.call(async |api| api.volumes.clone().update(request.clone()).await).await?;
            let Err(status) = answer else { return Ok(()) };
            // An answer that was lost: look again, as the provider does.
            let problem = problem_from_status(&status);
            assert_eq!(problem.reason, Reason::StaleGeneration, "{problem:?}");
        }
    }

    /// What is gone already is fine.
    pub(super) async fn destroy_stored(&mut self) -> Result<(), Away> {
        if let Some(id) = self.state.attachment.clone() {
            self.delete(&id, async |api, it| api.volume_attachments.clone().delete(it).await)
                .await?;
            self.state.attachment = None;
        }
        if let Some(id) = self.state.volume.clone() {
            self.delete(&id, async |api, it| api.volumes.clone().delete(it).await).await?;
            self.state.volume = None;
        }
        Ok(())
    }
}

fn volume_spec(size_gib: u32) -> v1::VolumeSpec {
    let name = Some("data".to_owned());
    v1::VolumeSpec { name, size_gib, encrypted: Some(true), ..v1::VolumeSpec::default() }
}
