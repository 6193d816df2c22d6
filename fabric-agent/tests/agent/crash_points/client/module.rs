//! What the client makes, changes and destroys: two images, a key pair, a VPC on a bridge with a
//! subnet, a group with a rule, and an instance.

use std::time::{Duration, Instant};

use sha2::Digest as _;
use tonic::{Response, Status};
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::{problem_from_status, v1};

use super::storage::GROWN_GIB;
use super::{Away, Client, NOT_YET, Patience, Stage};
use crate::support::{
    Api, PUBLIC_KEY, image_spec, instance_spec, rule_spec, sha256_of, subnet_spec, vpc_spec,
};

/// Uploaded by the client.
const DISK: &[u8] = &[7; 4096];
/// Fetched by the agent.
pub(in super::super) const DISK_BY_URL: &[u8] = &[9; 4096];
/// How long a blob that no image names is kept after a start, at least (`reconcile/blobs.rs`).
const BLOBS_ARE_KEPT: Duration = Duration::from_secs(2);
/// How many images there are.
pub(in super::super) const IMAGES: usize = 2;
/// vCPUs and MiB of memory that the instance's guest can grow to: those of the type `w1.large`.
pub(in super::super) const GROWN: (u32, u32) = (2, 2048);
/// What the instance's root disk is limited to.
pub(in super::super) const ROOT_IOPS: u32 = 300;

/// What a client was answered, as in Terraform's state.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    image: Option<String>,
    image_by_url: Option<String>,
    key: Option<String>,
    vpc: Option<String>,
    subnet: Option<String>,
    group: Option<String>,
    rule: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) snapshot: Option<String>,
    pub(super) image_of_it: Option<String>,
    pub(super) volume: Option<String>,
    pub(super) attachment: Option<String>,
}

impl Client {
    /// The instance's id, if the client was told.
    pub(in super::super) fn instance(&self) -> Option<&str> {
        self.state.instance.as_deref()
    }

    /// Brings the module to a stage, from whatever it is at.
    pub(in super::super) async fn reach(&mut self, stage: Stage) -> Result<(), Away> {
        match stage {
            Stage::NotStarted => Ok(()),
            Stage::Absent => self.destroy().await,
            Stage::Captured => {
                self.make().await?;
                self.make_captured().await?;
                let id = self.state.instance.clone().unwrap();
                self.wait(&id, Until::WaitFor("ssh".to_owned())).await
            }
            Stage::Stored => {
                self.make().await?;
                self.make_stored().await
            }
            stage => {
                self.make().await?;
                match stage {
                    Stage::Hibernated => self.hibernate().await,
                    stage => self.update(stage).await,
                }
            }
        }
    }

    async fn make(&mut self) -> Result<(), Away> {
        if self.state.image.is_none() {
            self.state.image = Some(self.make_image("it", DISK, Self::upload).await?);
        }
        if self.state.image_by_url.is_none() {
            let image = self.make_image("by URL", DISK_BY_URL, Self::fetch).await?;
            self.state.image_by_url = Some(image);
        }
        if self.state.key.is_none() {
            let made = self.create(async |api, context| {
                let (key_name, public_key) = ("it".to_owned(), PUBLIC_KEY.to_owned());
                let spec = Some(v1::KeyPairSpec { key_name, public_key });
                api.key_pairs.clone().create(v1::CreateKeyPairRequest { context, spec }).await
            });
            self.state.key = Some(made.await?.metadata.unwrap().id);
        }
        self.make_network().await?;
        if self.state.group.is_none() {
            let group = self.group_spec("it");
            let made = self.create(async |api, context| {
                let spec = Some(group.clone());
                api.groups.clone().create(v1::CreateSecurityGroupRequest { context, spec }).await
            });
            self.state.group = Some(made.await?.metadata.unwrap().id);
        }
        let group = self.state.group.clone().unwrap();
        if self.state.rule.is_none() {
            let made = self.create(async |api, context| {
                let spec = Some(rule_spec(&group, 22));
                let request = v1::CreateSecurityGroupRuleRequest { context, spec };
                api.rules.clone().create(request).await
            });
            self.state.rule = Some(made.await?.metadata.unwrap().id);
        }
        if self.state.instance.is_none() {
            let spec = self.spec(Stage::Made);
            let made = self.create(async |api, context| {
                let spec = Some(spec.clone());
                api.instances.clone().create(v1::CreateInstanceRequest { context, spec }).await
            });
            self.state.instance = Some(made.await?.metadata.unwrap().id);
        }
        Ok(())
    }

    /// On a bridge, joined to one of the operator's: the routed way is the default VPC's.
    async fn make_network(&mut self) -> Result<(), Away> {
        if self.state.vpc.is_none() {
            let spec = v1::VpcSpec {
                mode: "bridge".to_owned(),
                bridge_name: Some("br0".to_owned()),
                ..vpc_spec("it", "192.168.1.0/24")
            };
            let made = self.create(async |api, context| {
                let spec = Some(spec.clone());
                api.vpcs.clone().create(v1::CreateVpcRequest { context, spec }).await
            });
            self.state.vpc = Some(made.await?.metadata.unwrap().id);
        }
        if self.state.subnet.is_none() {
            let vpc = self.state.vpc.clone().unwrap();
            let made = self.create(async |api, context| {
                let spec = Some(subnet_spec("it", &vpc, "192.168.1.0/25"));
                api.subnets.clone().create(v1::CreateSubnetRequest { context, spec }).await
            });
            self.state.subnet = Some(made.await?.metadata.unwrap().id);
        }
        Ok(())
    }

    fn group_spec(&self, name: &str) -> v1::SecurityGroupSpec {
        let (name, vpc_id) = (name.to_owned(), self.state.vpc.clone());
        v1::SecurityGroupSpec { name, vpc_id, ..v1::SecurityGroupSpec::default() }
    }

    fn spec(&self, stage: Stage) -> v1::InstanceSpec {
        let image = self.state.image.as_deref().unwrap_or_default();
        let name = if stage == Stage::Renamed { "renamed" } else { "it" };
        let mut spec = instance_spec(name, image);
        let ids = self.state.group.clone().into_iter().collect();
        spec.security_group_ids = Some(v1::SecurityGroupIds { ids });
        spec.subnet_id = self.state.subnet.clone();
        spec.key_names = vec!["it".to_owned()];
        spec.root_volume_iops = Some(ROOT_IOPS);
        let stopped = stage == Stage::Stopped;
        spec.power_state = Some(if stopped { "stopped" } else { "running" }.to_owned());
        if stage == Stage::Stored {
            spec.root_volume_size_gib = Some(GROWN_GIB);
        }
        (spec.max_vcpus, spec.max_memory_mib) = (Some(GROWN.0), Some(GROWN.1));
        if stage == Stage::Resized {
            spec.instance_type = Some("w1.micro".to_owned());
            (spec.max_vcpus, spec.max_memory_mib) = (None, None);
        }
        if stage == Stage::Grown {
            spec.instance_type = Some("w1.large".to_owned());
        }
        spec
    }

    /// Brings the disk and makes an image of it. A blob that no image names is kept for a while only,
    /// and a machine under load may be slower than that: then it is brought once more.
    async fn make_image(
        &mut self,
        name: &str,
        disk: &[u8],
        bring: impl AsyncFn(&mut Self) -> Result<(), Away>,
    ) -> Result<String, Away> {
        loop {
            bring(self).await?;
            let brought = Instant::now();
            let made = self.try_create(async |api, context| {
                let spec = image_spec(name, disk);
                api.images.clone().create(v1::CreateImageRequest { context, spec }).await
            });
            match made.await? {
                Ok(made) => return Ok(made.metadata.unwrap().id),
                Err(problem) => {
                    assert_eq!(problem.field.as_deref(), Some("disk_sha256"), "{problem:?}");
                    assert!(brought.elapsed() >= BLOBS_ARE_KEPT, "{problem:?}");
                }
            }
        }
    }

    async fn upload(&mut self) -> Result<(), Away> {
        let (sha256, size_bytes) = (sha256_of(DISK), DISK.len() as u64);
        loop {
            let begin = v1::BeginUploadRequest { sha256: sha256.clone(), size_bytes };
            let begun =
                self.ask(async |api| api.images.clone().begin_upload(begin.clone()).await).await?;
            if begun.complete {
                return Ok(());
            }
            // In two parts, so that there is a middle.
            let at = |offset: u64| v1::UploadRequest {
                sha256: sha256.clone(),
                size_bytes,
                offset_bytes: offset,
                data: match offset {
                    0 => DISK[..1000].to_vec(),
                    _ => DISK[usize::try_from(offset).unwrap()..].to_vec(),
                },
                ..v1::UploadRequest::default()
            };
            let parts = match begun.offset_bytes {
                0 => vec![at(0), at(1000)],
                offset => vec![at(offset)],
            };
            let api = self.api().await;
            match api.images.clone().upload(futures::stream::iter(parts)).await {
                Ok(_) => return Ok(()),
                Err(_) if self.patience == Patience::Waits => tokio::time::sleep(NOT_YET).await,
                Err(_) => return Err(Away),
            }
        }
    }

    async fn fetch(&mut self) -> Result<(), Away> {
        // What has no SHA-256 beforehand is written down besides.
        let sha512 = hex::encode(sha2::Sha512::digest(DISK_BY_URL));
        let (url, role) = (self.url.clone(), "disk".to_owned());
        let request = v1::FetchRequest { url, role, sha512, ..v1::FetchRequest::default() };
        let fetched = self
            .call(async |api| {
                let mut events = api.images.clone().fetch(request.clone()).await?.into_inner();
                while let Some(event) = events.message().await? {
                    if event.done {
                        return Ok(());
                    }
                }
                Err(Status::unavailable("the stream broke"))
            })
            .await?;
        fetched.unwrap_or_else(|status| panic!("{:?}", problem_from_status(&status)));
        Ok(())
    }

    pub(super) async fn update(&mut self, stage: Stage) -> Result<(), Away> {
        let (id, spec) = (self.state.instance.clone().unwrap(), self.spec(stage));
        let mut known = self.read_instance().await?;
        loop {
            let metadata = known.metadata.clone().unwrap();
            let context = Some(v1::UpdateContext {
                id: id.clone(),
                expected_generation: metadata.generation,
                ..v1::UpdateContext::default()
            });
            let request = v1::UpdateInstanceRequest { context, spec: Some(spec.clone()) };
            let answer =
                self.call(async |api| api.instances.clone().update(request.clone()).await).await?;
            match answer {
                Ok(_) => break,
                // An answer that was lost: look again, as the provider does.
                Err(status) => {
                    let problem = problem_from_status(&status);
                    assert_eq!(problem.reason, Reason::StaleGeneration, "{problem:?}");
                    known = self.read_instance().await?;
                }
            }
        }
        if stage == Stage::Renamed {
            self.rename_group().await?;
        }
        let until = match stage {
            Stage::Stopped => Until::Stopped(true),
            _ => Until::WaitFor("ssh".to_owned()),
        };
        self.wait(&id, until).await
    }

    async fn hibernate(&mut self) -> Result<(), Away> {
        let id = self.state.instance.clone().unwrap();
        let spec = self.read_instance().await?.spec.unwrap();
        // Only what runs can be put to sleep; it is about to sleep where the answer was lost.
        if spec.power_state.as_deref() == Some("running") {
            self.wait(&id, Until::WaitFor("running".to_owned())).await?;
        }
        let get = v1::GetRequest { id, claim: false };
        let asleep = self.ask(async |api| api.instances.clone().hibernate(get.clone()).await);
        asleep.await.map(drop)
    }

    async fn rename_group(&mut self) -> Result<(), Away> {
        let id = self.state.group.clone().unwrap();
        let context = v1::UpdateContext { id, ..v1::UpdateContext::default() };
        let spec = self.group_spec("renamed");
        let request = v1::UpdateSecurityGroupRequest { context: Some(context), spec: Some(spec) };
        self.ask(async |api| api.groups.clone().update(request.clone()).await).await.map(drop)
    }

    async fn read_instance(&mut self) -> Result<v1::Instance, Away> {
        let id = self.state.instance.clone().unwrap();
        let get = v1::GetRequest { id, claim: true };
        self.ask(async |api| api.instances.clone().get(get.clone()).await).await
    }

    pub(super) async fn wait(&mut self, id: &str, until: Until) -> Result<(), Away> {
        let request =
            v1::WaitRequest { id: id.to_owned(), until: Some(until), timeout_seconds: 60 };
        let waited = self
            .call(async |api| {
                let mut events = api.instances.clone().wait(request.clone()).await?.into_inner();
                while events.message().await?.is_some() {}
                Ok(())
            })
            .await?;
        waited.unwrap_or_else(|status| panic!("{:?}", problem_from_status(&status)));
        Ok(())
    }

    /// Deletes in the order of the references; what is gone already is fine.
    async fn destroy(&mut self) -> Result<(), Away> {
        self.destroy_captured().await?;
        self.destroy_stored().await?;
        if let Some(id) = self.state.instance.clone() {
            self.delete(&id, async |api, it| api.instances.clone().delete(it).await).await?;
            self.wait(&id, Until::Gone(true)).await?;
            self.state.instance = None;
        }
        if let Some(id) = self.state.rule.clone() {
            self.delete(&id, async |api, it| api.rules.clone().delete(it).await).await?;
            self.state.rule = None;
        }
        if let Some(id) = self.state.group.clone() {
            self.delete(&id, async |api, it| api.groups.clone().delete(it).await).await?;
            self.state.group = None;
        }
        if let Some(id) = self.state.subnet.clone() {
            self.delete(&id, async |api, it| api.subnets.clone().delete(it).await).await?;
            self.state.subnet = None;
        }
        if let Some(id) = self.state.vpc.clone() {
            self.delete(&id, async |api, it| api.vpcs.clone().delete(it).await).await?;
            self.state.vpc = None;
        }
        if let Some(id) = self.state.key.clone() {
            self.delete(&id, async |api, it| api.key_pairs.clone().delete(it).await).await?;
            self.state.key = None;
        }
        if let Some(id) = self.state.image.clone() {
            self.delete(&id, async |api, it| api.images.clone().delete(it).await).await?;
            self.state.image = None;
        }
        if let Some(id) = self.state.image_by_url.clone() {
            self.delete(&id, async |api, it| api.images.clone().delete(it).await).await?;
            self.state.image_by_url = None;
        }
        Ok(())
    }

    pub(super) async fn delete(
        &mut self,
        id: &str,
        request: impl AsyncFn(Api, v1::DeleteRequest) -> Result<Response<v1::DeleteResponse>, Status>,
    ) -> Result<(), Away> {
        let delete = v1::DeleteRequest { id: id.to_owned() };
        match self.call(async |api| request(api, delete.clone()).await).await? {
            Ok(_) => Ok(()),
            Err(status) => {
                let problem = problem_from_status(&status);
                assert_eq!(problem.reason, Reason::NotFound, "{problem:?}");
                Ok(())
            }
        }
    }
}
