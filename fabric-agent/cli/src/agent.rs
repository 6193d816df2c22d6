//! The connection to the agent and the clients of its services.

use tonic::transport::Channel;
use weft_model::Problem;
use weft_proto::client::Endpoint;
use weft_proto::{MAX_ANSWER_BYTES, v1};

/// A connected agent.
#[derive(Debug)]
pub(crate) struct Agent {
    endpoint: Endpoint,
    channel: Channel,
}

macro_rules! clients {
    ($($name:ident: $module:ident::$client:ident,)*) => {$(
        pub(crate) fn $name(&self) -> v1::$module::$client<Channel> {
            v1::$module::$client::new(self.channel.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES)
        }
    )*};
}

impl Agent {
    pub(crate) async fn connect(endpoint: Endpoint) -> Result<Self, Problem> {
        let channel = weft_proto::client::connect(&endpoint).await?;
        Ok(Self { endpoint, channel })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    clients! {
        instances: instances_client::InstancesClient,
        images: images_client::ImagesClient,
        key_pairs: key_pairs_client::KeyPairsClient,
        groups: security_groups_client::SecurityGroupsClient,
        rules: security_group_rules_client::SecurityGroupRulesClient,
        vpcs: vpcs_client::VpcsClient,
        subnets: subnets_client::SubnetsClient,
        prefix_lists: prefix_lists_client::PrefixListsClient,
        elastic_ips: elastic_ips_client::ElasticIpsClient,
        associations: elastic_ip_associations_client::ElasticIpAssociationsClient,
        interfaces: network_interfaces_client::NetworkInterfacesClient,
        attachments: network_interface_attachments_client::NetworkInterfaceAttachmentsClient,
        volumes: volumes_client::VolumesClient,
        volume_attachments: volume_attachments_client::VolumeAttachmentsClient,
        forwards: port_forwards_client::PortForwardsClient,
        route_tables: route_tables_client::RouteTablesClient,
        route_associations: route_table_associations_client::RouteTableAssociationsClient,
        snapshots: snapshots_client::SnapshotsClient,
        hosts: hosts_client::HostsClient,
        types: instance_types_client::InstanceTypesClient,
        watch: watch_client::WatchClient,
        events: events_client::EventsClient,
        usage: usage_client::UsageClient,
        monitoring: monitoring_client::MonitoringClient,
        states: terraform_states_client::TerraformStatesClient,
    }
}

/// Asks for the object `id`. What people look at does not become part of a client's state.
pub(crate) fn get_request(id: impl std::fmt::Display) -> v1::GetRequest {
    v1::GetRequest { id: id.to_string(), claim: false }
}
