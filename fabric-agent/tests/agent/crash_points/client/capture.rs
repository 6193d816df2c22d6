//! A snapshot of the instance's root disk, and an image of the instance, which is rebooted for it.

use v1::wait_request::Until;
use weft_proto::{problem_from_status, v1};

use super::{Away, Client, NOT_YET};
use crate::support::{image_spec, token};

impl Client {
    /// Asks for the snapshot, once, and waits until it is made.
    pub(super) async fn have_snapshot(&mut self, spec: v1::SnapshotSpec) -> Result<(), Away> {
        if self.state.snapshot.is_none() {
            let made = self.create(async |api, context| {
                let request = v1::CreateSnapshotRequest { context, spec: Some(spec.clone()) };
                api.snapshots.clone().create(request).await
            });
            self.state.snapshot = Some(made.await?.metadata.unwrap().id);
        }
        self.until_completed().await
    }

    pub(super) async fn make_captured(&mut self) -> Result<(), Away> {
        let instance_id = self.state.instance.clone().unwrap();
        if self.state.snapshot.is_none() {
            // Only a guest that runs is frozen.
            self.wait(&instance_id, Until::WaitFor("running".to_owned())).await?;
        }
        let spec = v1::SnapshotSpec {
            instance_id: instance_id.clone(),
            description: "it".to_owned(),
            consistency: "frozen".to_owned(),
            ..v1::SnapshotSpec::default()
        };
        self.have_snapshot(spec).await?;
        if self.state.image_of_it.is_none() {
            let captured = self.capture(&instance_id).await?;
            let made = self.create(async |api, context| {
                let spec = image_spec("captured", &[]).map(|spec| v1::ImageSpec {
                    disk_sha256: captured.disk_sha256.clone(),
                    boot_mode: captured.boot_mode.clone(),
                    default_user: captured.default_user.clone(),
                    captured_from: Some(instance_id.clone()),
                    ..spec
                });
                api.images.clone().create(v1::CreateImageRequest { context, spec }).await
            });
            self.state.image_of_it = Some(made.await?.metadata.unwrap().id);
        }
        Ok(())
    }

    pub(super) async fn until_completed(&mut self) -> Result<(), Away> {
        let id = self.state.snapshot.clone().unwrap();
        loop {
            let get = v1::GetRequest { id: id.clone(), claim: true };
            let snapshot =
                self.ask(async |api| api.snapshots.clone().get(get.clone()).await).await?;
            match snapshot.state.as_str() {
                "completed" => return Ok(()),
                "pending" => tokio::time::sleep(NOT_YET).await,
                other => panic!("{other}: {}", snapshot.reason),
            }
        }
    }

    async fn capture(&mut self, instance_id: &str) -> Result<v1::CaptureEvent, Away> {
        let request = v1::CaptureRequest {
            client_token: token(),
            source: Some(v1::capture_request::Source::InstanceId(instance_id.to_owned())),
            reboot: true,
            consistency: String::new(),
        };
        let captured = self
            .call(async |api| {
                let mut events = api.images.clone().capture(request.clone()).await?.into_inner();
                while let Some(event) = events.message().await? {
                    if event.done {
                        return Ok(event);
                    }
                }
                Err(tonic::Status::unavailable("the stream broke"))
            })
            .await?;
        Ok(captured.unwrap_or_else(|status| panic!("{:?}", problem_from_status(&status))))
    }

    /// What is gone already is fine. A snapshot that is being made goes when it is.
    pub(super) async fn destroy_captured(&mut self) -> Result<(), Away> {
        if let Some(id) = self.state.image_of_it.clone() {
            self.delete(&id, async |api, it| api.images.clone().delete(it).await).await?;
            self.state.image_of_it = None;
        }
        if let Some(id) = self.state.snapshot.clone() {
            self.delete(&id, async |api, it| api.snapshots.clone().delete(it).await).await?;
            self.state.snapshot = None;
        }
        Ok(())
    }
}
