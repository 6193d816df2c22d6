//! Clients of every service, and the objects that most tests need.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;
use v1::wait_request::Until;
use weft_model::Problem;
use weft_proto::{problem_from_status, v1};

use super::ok;

/// Clients of every service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) instances: v1::instances_client::InstancesClient<Channel>,
    pub(crate) images: v1::images_client::ImagesClient<Channel>,
    pub(crate) key_pairs: v1::key_pairs_client::KeyPairsClient<Channel>,
    pub(crate) types: v1::instance_types_client::InstanceTypesClient<Channel>,
    pub(crate) groups: v1::security_groups_client::SecurityGroupsClient<Channel>,
    pub(crate) rules: v1::security_group_rules_client::SecurityGroupRulesClient<Channel>,
    pub(crate) insights: v1::network_insights_client::NetworkInsightsClient<Channel>,
    pub(crate) vpcs: v1::vpcs_client::VpcsClient<Channel>,
    pub(crate) subnets: v1::subnets_client::SubnetsClient<Channel>,
    pub(crate) elastic_ips: v1::elastic_ips_client::ElasticIpsClient<Channel>,
    pub(crate) associations:
        v1::elastic_ip_associations_client::ElasticIpAssociationsClient<Channel>,
    pub(crate) forwards: v1::port_forwards_client::PortForwardsClient<Channel>,
    pub(crate) interfaces: v1::network_interfaces_client::NetworkInterfacesClient<Channel>,
    pub(crate) attachments:
        v1::network_interface_attachments_client::NetworkInterfaceAttachmentsClient<Channel>,
    pub(crate) volumes: v1::volumes_client::VolumesClient<Channel>,
    pub(crate) volume_attachments: v1::volume_attachments_client::VolumeAttachmentsClient<Channel>,
    pub(crate) snapshots: v1::snapshots_client::SnapshotsClient<Channel>,
    pub(crate) hosts: v1::hosts_client::HostsClient<Channel>,
    pub(crate) sessions: v1::sessions_client::SessionsClient<Channel>,
    pub(crate) watch: v1::watch_client::WatchClient<Channel>,
    pub(crate) events: v1::events_client::EventsClient<Channel>,
    pub(crate) usage: v1::usage_client::UsageClient<Channel>,
    pub(crate) monitoring: v1::monitoring_client::MonitoringClient<Channel>,
}

/// A token that no other Create of this process has.
pub(crate) fn token() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("token-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The context of a Create by nobody's session.
pub(crate) fn context() -> Option<v1::CreateContext> {
    Some(v1::CreateContext { client_token: token(), ..v1::CreateContext::default() })
}

/// The context of an Update of `metadata`'s object as it is now.
pub(crate) fn update_context(metadata: Option<&v1::Metadata>) -> Option<v1::UpdateContext> {
    let metadata = metadata.unwrap();
    Some(v1::UpdateContext {
        id: metadata.id.clone(),
        expected_generation: metadata.generation,
        tags: metadata.tags.clone(),
        client_data: metadata.client_data.clone(),
    })
}

pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn image_spec(name: &str, disk: &[u8]) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec {
        name: name.to_owned(),
        disk_sha256: sha256_of(disk),
        boot_mode: "bios".to_owned(),
        architecture: "x86_64".to_owned(),
        default_user: "admin".to_owned(),
        ..v1::ImageSpec::default()
    })
}

/// A stop that leaves the guest the instance's own time.
pub(crate) fn stop_request(id: &str) -> v1::StopRequest {
    v1::StopRequest { id: id.to_owned(), claim: false, timeout_seconds: None }
}

/// An object that is looked at, and claimed by nobody.
pub(crate) fn get(id: &str) -> v1::GetRequest {
    v1::GetRequest { id: id.to_owned(), claim: false }
}

pub(crate) fn delete(id: &str) -> v1::DeleteRequest {
    v1::DeleteRequest { id: id.to_owned() }
}

/// The id of an answer's object.
pub(crate) fn id_of(metadata: Option<&v1::Metadata>) -> String {
    metadata.unwrap().id.clone()
}

/// The smallest instance of an image.
pub(crate) fn instance_spec(name: &str, image_id: &str) -> v1::InstanceSpec {
    v1::InstanceSpec {
        name: Some(name.to_owned()),
        image_id: image_id.to_owned(),
        instance_type: Some("w1.nano".to_owned()),
        ..v1::InstanceSpec::default()
    }
}

/// TCP to `port` from everywhere.
pub(crate) fn rule_spec(group_id: &str, port: i64) -> v1::SecurityGroupRuleSpec {
    v1::SecurityGroupRuleSpec {
        security_group_id: group_id.to_owned(),
        direction: v1::RuleDirection::Ingress.into(),
        ip_protocol: "tcp".to_owned(),
        from_port: Some(port),
        to_port: Some(port),
        peer: Some(v1::security_group_rule_spec::Peer::CidrIpv4("0.0.0.0/0".to_owned())),
        description: String::new(),
    }
}

/// A size with a name.
pub(crate) fn type_spec(name: &str, vcpus: u32, memory_mib: u32) -> v1::InstanceTypeSpec {
    v1::InstanceTypeSpec { name: name.to_owned(), vcpus, memory_mib, network_mbps: None }
}

/// A routed VPC.
pub(crate) fn vpc_spec(name: &str, cidr: &str) -> v1::VpcSpec {
    let (name, cidr_block) = (name.to_owned(), cidr.to_owned());
    v1::VpcSpec { name, cidr_block, ..v1::VpcSpec::default() }
}

/// A subnet with the router that it has unless another one is named.
pub(crate) fn subnet_spec(name: &str, vpc_id: &str, cidr: &str) -> v1::SubnetSpec {
    let (name, vpc_id, cidr_block) = (name.to_owned(), vpc_id.to_owned(), cidr.to_owned());
    v1::SubnetSpec { name, vpc_id, cidr_block, ..v1::SubnetSpec::default() }
}

impl Api {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            instances: v1::instances_client::InstancesClient::new(channel.clone()),
            images: v1::images_client::ImagesClient::new(channel.clone()),
            key_pairs: v1::key_pairs_client::KeyPairsClient::new(channel.clone()),
            types: v1::instance_types_client::InstanceTypesClient::new(channel.clone()),
            groups: v1::security_groups_client::SecurityGroupsClient::new(channel.clone()),
            insights: v1::network_insights_client::NetworkInsightsClient::new(channel.clone()),
            rules: v1::security_group_rules_client::SecurityGroupRulesClient::new(channel.clone()),
            vpcs: v1::vpcs_client::VpcsClient::new(channel.clone()),
            subnets: v1::subnets_client::SubnetsClient::new(channel.clone()),
            elastic_ips: v1::elastic_ips_client::ElasticIpsClient::new(channel.clone()),
            associations: v1::elastic_ip_associations_client::ElasticIpAssociationsClient::new(
                channel.clone(),
            ),
            forwards: v1::port_forwards_client::PortForwardsClient::new(channel.clone()),
            interfaces: v1::network_interfaces_client::NetworkInterfacesClient::new(
                channel.clone(),
            ),
            attachments:
                v1::network_interface_attachments_client::NetworkInterfaceAttachmentsClient::new(
                    channel.clone(),
                ),
            volumes: v1::volumes_client::VolumesClient::new(channel.clone()),
            volume_attachments: v1::volume_attachments_client::VolumeAttachmentsClient::new(
                channel.clone(),
            ),
            snapshots: v1::snapshots_client::SnapshotsClient::new(channel.clone()),
            hosts: v1::hosts_client::HostsClient::new(channel.clone()),
            sessions: v1::sessions_client::SessionsClient::new(channel.clone()),
            watch: v1::watch_client::WatchClient::new(channel.clone()),
            events: v1::events_client::EventsClient::new(channel.clone()),
            usage: v1::usage_client::UsageClient::new(channel.clone()),
            monitoring: v1::monitoring_client::MonitoringClient::new(channel),
        }
    }

    /// Sends a whole blob.
    pub(crate) async fn upload(&self, bytes: &[u8]) -> Result<(), Problem> {
        let (mut images, sha256) = (self.images.clone(), sha256_of(bytes));
        let size_bytes = bytes.len() as u64;
        let begin = v1::BeginUploadRequest { sha256: sha256.clone(), size_bytes };
        let begun = images.begin_upload(begin).await.map_err(|s| problem_from_status(&s))?;
        let begun = begun.into_inner();
        if begun.complete {
            return Ok(());
        }
        let offset_bytes = begun.offset_bytes;
        let data = bytes[usize::try_from(offset_bytes).unwrap()..].to_vec();
        let all =
            v1::UploadRequest { sha256, size_bytes, offset_bytes, data, ..Default::default() };
        let sent = images.upload(futures::stream::iter([all])).await;
        sent.map(|_| ()).map_err(|status| problem_from_status(&status))
    }

    /// A raw image with `content` in it.
    pub(crate) async fn image(&self, content: &str) -> v1::Image {
        let mut disk = vec![0; 4096];
        disk[512..512 + content.len()].copy_from_slice(content.as_bytes());
        self.upload(&disk).await.unwrap();
        let spec = image_spec(content, &disk);
        ok(self.images.clone().create(v1::CreateImageRequest { context: context(), spec }).await)
    }

    /// The id of an image that all instances of a test may share.
    pub(crate) async fn image_id(&self) -> String {
        self.image("shared").await.metadata.unwrap().id
    }

    pub(crate) async fn create(
        &self,
        spec: v1::InstanceSpec,
    ) -> Result<tonic::Response<v1::Instance>, tonic::Status> {
        let request = v1::CreateInstanceRequest { context: context(), spec: Some(spec) };
        self.instances.clone().create(request).await
    }

    /// An instance that runs and answers on SSH.
    pub(crate) async fn running(&self, name: &str, image_id: &str) -> v1::Instance {
        let made = ok(self.create(instance_spec(name, image_id)).await);
        let id = made.metadata.unwrap().id;
        self.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
        self.instance(&id).await
    }

    pub(crate) async fn instance(&self, id: &str) -> v1::Instance {
        let request = v1::GetRequest { id: id.to_owned(), claim: false };
        ok(self.instances.clone().get(request).await)
    }

    pub(crate) async fn list(&self) -> Vec<v1::Instance> {
        ok(self.instances.clone().list(v1::ListRequest::default()).await).items
    }

    /// Waits long, and returns every event.
    pub(crate) async fn wait(&self, id: &str, until: Until) -> Result<Vec<v1::WaitEvent>, Problem> {
        self.wait_for(id, until, 60).await
    }

    pub(crate) async fn wait_for(
        &self,
        id: &str,
        until: Until,
        timeout_seconds: u32,
    ) -> Result<Vec<v1::WaitEvent>, Problem> {
        let request = v1::WaitRequest { id: id.to_owned(), until: Some(until), timeout_seconds };
        let problem = |status: tonic::Status| problem_from_status(&status);
        let answer = self.instances.clone().wait(request).await.map_err(problem)?;
        let (mut stream, mut events) = (answer.into_inner(), Vec::new());
        while let Some(event) = stream.message().await.map_err(problem)? {
            events.push(event);
        }
        Ok(events)
    }

    pub(crate) async fn delete(&self, id: &str) {
        ok(self.instances.clone().delete(v1::DeleteRequest { id: id.to_owned() }).await);
    }

    /// Deletes the instance and returns when nothing of it is left.
    pub(crate) async fn remove(&self, id: &str) {
        self.delete(id).await;
        self.wait(id, Until::Gone(true)).await.unwrap();
    }

    pub(crate) async fn group(&self, name: &str) -> v1::SecurityGroup {
        let spec =
            v1::SecurityGroupSpec { name: name.to_owned(), ..v1::SecurityGroupSpec::default() };
        let request = v1::CreateSecurityGroupRequest { context: context(), spec: Some(spec) };
        ok(self.groups.clone().create(request).await)
    }

    pub(crate) async fn rule(
        &self,
        spec: v1::SecurityGroupRuleSpec,
    ) -> Result<tonic::Response<v1::SecurityGroupRule>, tonic::Status> {
        let request = v1::CreateSecurityGroupRuleRequest { context: context(), spec: Some(spec) };
        self.rules.clone().create(request).await
    }

    pub(crate) async fn vpc(
        &self,
        spec: v1::VpcSpec,
    ) -> Result<tonic::Response<v1::Vpc>, tonic::Status> {
        let request = v1::CreateVpcRequest { context: context(), spec: Some(spec) };
        self.vpcs.clone().create(request).await
    }

    pub(crate) async fn subnet(
        &self,
        spec: v1::SubnetSpec,
    ) -> Result<tonic::Response<v1::Subnet>, tonic::Status> {
        let request = v1::CreateSubnetRequest { context: context(), spec: Some(spec) };
        self.subnets.clone().create(request).await
    }

    pub(crate) async fn interface(
        &self,
        spec: v1::NetworkInterfaceSpec,
    ) -> Result<tonic::Response<v1::NetworkInterface>, tonic::Status> {
        let request = v1::CreateNetworkInterfaceRequest { context: context(), spec: Some(spec) };
        self.interfaces.clone().create(request).await
    }

    pub(crate) async fn attach(
        &self,
        instance: &str,
        interface: &str,
        device_index: Option<u32>,
    ) -> Result<tonic::Response<v1::NetworkInterfaceAttachment>, tonic::Status> {
        let spec = v1::NetworkInterfaceAttachmentSpec {
            instance_id: instance.to_owned(),
            network_interface_id: interface.to_owned(),
            device_index,
        };
        let (context, spec) = (context(), Some(spec));
        let request = v1::CreateNetworkInterfaceAttachmentRequest { context, spec };
        self.attachments.clone().create(request).await
    }

    pub(crate) async fn volume(
        &self,
        spec: v1::VolumeSpec,
    ) -> Result<tonic::Response<v1::Volume>, tonic::Status> {
        let request = v1::CreateVolumeRequest { context: context(), spec: Some(spec) };
        self.volumes.clone().create(request).await
    }

    pub(crate) async fn attach_volume(
        &self,
        instance: &str,
        volume: &str,
        delete_on_termination: bool,
    ) -> Result<tonic::Response<v1::VolumeAttachment>, tonic::Status> {
        let spec = Some(v1::VolumeAttachmentSpec {
            instance_id: instance.to_owned(),
            volume_id: volume.to_owned(),
            delete_on_termination,
        });
        let request = v1::CreateVolumeAttachmentRequest { context: context(), spec };
        self.volume_attachments.clone().create(request).await
    }

    pub(crate) async fn key_pair(
        &self,
        name: &str,
    ) -> Result<tonic::Response<v1::KeyPair>, tonic::Status> {
        let spec =
            v1::KeyPairSpec { key_name: name.to_owned(), public_key: super::PUBLIC_KEY.to_owned() };
        let request = v1::CreateKeyPairRequest { context: context(), spec: Some(spec) };
        self.key_pairs.clone().create(request).await
    }

    pub(crate) async fn instance_type(
        &self,
        spec: v1::InstanceTypeSpec,
    ) -> Result<tonic::Response<v1::InstanceType>, tonic::Status> {
        let request = v1::CreateInstanceTypeRequest { context: context(), spec: Some(spec) };
        self.types.clone().create(request).await
    }

    pub(crate) async fn free_memory_mib(&self) -> u64 {
        let hosts = ok(self.hosts.clone().list(v1::ListRequest::default()).await);
        hosts.items[0].free_memory_mib
    }
}
