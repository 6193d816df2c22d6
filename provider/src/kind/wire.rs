//! The agent's objects, each with its service.
//!
//! The gRPC services have the same form, but the generated code has no trait for it: here is one.

use std::future::Future;
use std::str::FromStr;

use tonic::transport::Channel;
use tonic::{Response, Status};
use weft_model::{
    AssociationId, AttachmentId, ElasticIpId, GroupId, ImageId, InstanceId, InstanceTypeId,
    InterfaceId, InvalidId, KeyPairId, PortForwardId, PrefixListId, RouteTableAssociationId,
    RouteTableId, RuleId, SnapshotId, SubnetId, VolumeAttachmentId, VolumeId, VpcId,
};
use weft_proto::v1;

use crate::agent::reads::{Queue, Reads};

/// What a service answers.
pub(crate) type Answer<T> = Result<Response<T>, Status>;

/// An object as the API shows it, and the requests about it.
pub(crate) trait Wire: Clone + Send + Sync + 'static {
    type Id: FromStr<Err = InvalidId>;
    type Spec: Clone + Send + Sync;
    /// Of the service, for what only this kind can do.
    type Client;

    fn metadata(&self) -> Option<&v1::Metadata>;
    /// What is being removed can neither be used nor kept.
    fn is_being_removed(&self) -> bool {
        self.metadata().is_some_and(|metadata| metadata.deleting_since_unix_ms.is_some())
    }
    /// The reads of this kind that are waiting.
    fn queue(reads: &Reads) -> &Queue<Self>;
    fn client(channel: Channel) -> Self::Client;

    fn create(
        channel: Channel,
        context: v1::CreateContext,
        spec: Self::Spec,
    ) -> impl Future<Output = Answer<Self>> + Send;
    fn update(
        channel: Channel,
        context: v1::UpdateContext,
        spec: Self::Spec,
    ) -> impl Future<Output = Answer<Self>> + Send;
    fn delete(
        channel: Channel,
        request: v1::DeleteRequest,
    ) -> impl Future<Output = Answer<v1::DeleteResponse>> + Send;
    /// Ids that do not exist are missing from the answer.
    fn batch_get(
        channel: Channel,
        request: v1::BatchGetRequest,
    ) -> impl Future<Output = Answer<Vec<Self>>> + Send;
}

/// A kind whose service lists, mostly by name and tags. What an answer lacks of the request is
/// the caller's to look at.
pub(crate) trait Listed: Wire {
    fn list(
        channel: Channel,
        request: v1::ListRequest,
    ) -> impl Future<Output = Answer<Vec<Self>>> + Send;
}

macro_rules! listed {
    ($($wire:ident),+ $(,)?) => {$(
        impl Listed for v1::$wire {
            async fn list(channel: Channel, request: v1::ListRequest) -> Answer<Vec<Self>> {
                let list = Self::client(channel).list(request).await?;
                Ok(list.map(|list| list.items))
            }
        }
    )+};
}

listed!(
    ElasticIp,
    ElasticIpAssociation,
    Image,
    Instance,
    InstanceType,
    KeyPair,
    NetworkInterface,
    NetworkInterfaceAttachment,
    PortForward,
    PrefixList,
    RouteTable,
    RouteTableAssociation,
    SecurityGroup,
    Snapshot,
    Subnet,
    Volume,
    VolumeAttachment,
    Vpc,
);

impl Listed for v1::SecurityGroupRule {
    /// Rules have no names, and their service does not look at tags.
    async fn list(channel: Channel, _request: v1::ListRequest) -> Answer<Vec<Self>> {
        let request = v1::ListSecurityGroupRulesRequest::default();
        let list = Self::client(channel).list(request).await?;
        Ok(list.map(|list| list.items))
    }
}

macro_rules! wire {
    ($wire:ident: $id:ty, $spec:ident, $queue:ident, $client:path, $create:ident, $update:ident) => {
        impl Wire for v1::$wire {
            type Id = $id;
            type Spec = v1::$spec;
            type Client = $client;

            fn metadata(&self) -> Option<&v1::Metadata> {
                self.metadata.as_ref()
            }
            fn queue(reads: &Reads) -> &Queue<Self> {
                &reads.$queue
            }
            fn client(channel: Channel) -> Self::Client {
                Self::Client::new(channel).max_decoding_message_size(weft_proto::MAX_ANSWER_BYTES)
            }

            async fn create(
                channel: Channel,
                context: v1::CreateContext,
                spec: Self::Spec,
            ) -> Answer<Self> {
                let request = v1::$create { context: Some(context), spec: Some(spec) };
                Self::client(channel).create(request).await
            }
            async fn update(
                channel: Channel,
                context: v1::UpdateContext,
                spec: Self::Spec,
            ) -> Answer<Self> {
                let request = v1::$update { context: Some(context), spec: Some(spec) };
                Self::client(channel).update(request).await
            }
            async fn delete(
                channel: Channel,
                request: v1::DeleteRequest,
            ) -> Answer<v1::DeleteResponse> {
                Self::client(channel).delete(request).await
            }
            async fn batch_get(
                channel: Channel,
                request: v1::BatchGetRequest,
            ) -> Answer<Vec<Self>> {
                let list = Self::client(channel).batch_get(request).await?;
                Ok(list.map(|list| list.items))
            }
        }
    };
}

wire!(
    Image: ImageId, ImageSpec, images, v1::images_client::ImagesClient<Channel>,
    CreateImageRequest, UpdateImageRequest
);
wire!(
    KeyPair: KeyPairId, KeyPairSpec, key_pairs, v1::key_pairs_client::KeyPairsClient<Channel>,
    CreateKeyPairRequest, UpdateKeyPairRequest
);
wire!(
    InstanceType: InstanceTypeId, InstanceTypeSpec, types,
    v1::instance_types_client::InstanceTypesClient<Channel>,
    CreateInstanceTypeRequest, UpdateInstanceTypeRequest
);
wire!(
    SecurityGroup: GroupId, SecurityGroupSpec, groups,
    v1::security_groups_client::SecurityGroupsClient<Channel>,
    CreateSecurityGroupRequest, UpdateSecurityGroupRequest
);
wire!(
    SecurityGroupRule: RuleId, SecurityGroupRuleSpec, rules,
    v1::security_group_rules_client::SecurityGroupRulesClient<Channel>,
    CreateSecurityGroupRuleRequest, UpdateSecurityGroupRuleRequest
);
wire!(
    Vpc: VpcId, VpcSpec, vpcs, v1::vpcs_client::VpcsClient<Channel>,
    CreateVpcRequest, UpdateVpcRequest
);
wire!(
    PrefixList: PrefixListId, PrefixListSpec, prefix_lists,
    v1::prefix_lists_client::PrefixListsClient<Channel>,
    CreatePrefixListRequest, UpdatePrefixListRequest
);
wire!(
    Subnet: SubnetId, SubnetSpec, subnets, v1::subnets_client::SubnetsClient<Channel>,
    CreateSubnetRequest, UpdateSubnetRequest
);
wire!(
    ElasticIp: ElasticIpId, ElasticIpSpec, elastic_ips,
    v1::elastic_ips_client::ElasticIpsClient<Channel>,
    CreateElasticIpRequest, UpdateElasticIpRequest
);
wire!(
    ElasticIpAssociation: AssociationId, ElasticIpAssociationSpec, associations,
    v1::elastic_ip_associations_client::ElasticIpAssociationsClient<Channel>,
    CreateElasticIpAssociationRequest, UpdateElasticIpAssociationRequest
);
wire!(
    PortForward: PortForwardId, PortForwardSpec, port_forwards,
    v1::port_forwards_client::PortForwardsClient<Channel>,
    CreatePortForwardRequest, UpdatePortForwardRequest
);
wire!(
    RouteTable: RouteTableId, RouteTableSpec, route_tables,
    v1::route_tables_client::RouteTablesClient<Channel>,
    CreateRouteTableRequest, UpdateRouteTableRequest
);
wire!(
    RouteTableAssociation: RouteTableAssociationId, RouteTableAssociationSpec,
    route_table_associations,
    v1::route_table_associations_client::RouteTableAssociationsClient<Channel>,
    CreateRouteTableAssociationRequest, UpdateRouteTableAssociationRequest
);
wire!(
    NetworkInterface: InterfaceId, NetworkInterfaceSpec, interfaces,
    v1::network_interfaces_client::NetworkInterfacesClient<Channel>,
    CreateNetworkInterfaceRequest, UpdateNetworkInterfaceRequest
);
wire!(
    NetworkInterfaceAttachment: AttachmentId, NetworkInterfaceAttachmentSpec, attachments,
    v1::network_interface_attachments_client::NetworkInterfaceAttachmentsClient<Channel>,
    CreateNetworkInterfaceAttachmentRequest, UpdateNetworkInterfaceAttachmentRequest
);
wire!(
    Volume: VolumeId, VolumeSpec, volumes, v1::volumes_client::VolumesClient<Channel>,
    CreateVolumeRequest, UpdateVolumeRequest
);
wire!(
    VolumeAttachment: VolumeAttachmentId, VolumeAttachmentSpec, volume_attachments,
    v1::volume_attachments_client::VolumeAttachmentsClient<Channel>,
    CreateVolumeAttachmentRequest, UpdateVolumeAttachmentRequest
);
wire!(
    Snapshot: SnapshotId, SnapshotSpec, snapshots, v1::snapshots_client::SnapshotsClient<Channel>,
    CreateSnapshotRequest, UpdateSnapshotRequest
);
wire!(
    Instance: InstanceId, InstanceSpec, instances,
    v1::instances_client::InstancesClient<Channel>,
    CreateInstanceRequest, UpdateInstanceRequest
);
