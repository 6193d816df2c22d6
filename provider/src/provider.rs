//! The provider itself: its settings, and what it offers.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tfplugin::{
    Action, ConfigureContext, DataSource, Diagnostics, EphemeralResource, Function, ListResource,
    Provider, Resource, Schema, Value, async_trait,
};

use crate::agent::Agent;
use crate::console_token::ConsoleToken;
use crate::data::found::Found;
use crate::data::found_all::FoundAll;
use crate::elastic_ip::ElasticIp;
use crate::elastic_ip_association::ElasticIpAssociation;
use crate::environment::Environment;
use crate::image::Image;
use crate::instance::Instance;
use crate::instance_type::InstanceType;
use crate::key_pair::KeyPair;
use crate::kind::plain::PlainResource;
use crate::network_interface::NetworkInterface;
use crate::network_interface_attachment::NetworkInterfaceAttachment;
use crate::port_forward::PortForward;
use crate::prefix_list::PrefixList;
use crate::route_table::RouteTable;
use crate::route_table_association::RouteTableAssociation;
use crate::rule::Rule;
use crate::security_group::SecurityGroup;
use crate::snapshot::Snapshot;
use crate::subnet::Subnet;
use crate::volume::Volume;
use crate::volume_attachment::VolumeAttachment;
use crate::vpc::Vpc;
use crate::{action, data, function, list, settings};

/// The provider `weft`.
pub struct Weft {
    agent: Arc<Agent>,
    environment: Environment,
}

impl fmt::Debug for Weft {
    /// Without the environment: a variable may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weft").field("agent", &self.agent).finish_non_exhaustive()
    }
}

impl Weft {
    /// With the environment's settings, which those of the configuration override.
    pub fn from_environment() -> Self {
        Self { agent: Arc::default(), environment: Environment::of_the_process() }
    }

    /// With `endpoint` where the configuration names none.
    pub fn new(endpoint: Option<String>) -> Self {
        let environment = Environment::new(endpoint.map(|text| ("endpoint", text)));
        Self { agent: Arc::default(), environment }
    }
}

#[async_trait]
impl Provider for Weft {
    fn schema(&self) -> Schema {
        settings::schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        settings::read(&self.environment, config).err().unwrap_or_default()
    }

    async fn configure(&self, ctx: &ConfigureContext) -> Diagnostics {
        match settings::read(&self.environment, &ctx.config) {
            Ok(settings) => {
                self.agent.configure(settings).await;
                Diagnostics::new()
            }
            Err(diagnostics) => diagnostics,
        }
    }

    fn resources(&self) -> Vec<Box<dyn Resource>> {
        let agent = || self.agent.clone();
        vec![
            Box::new(Image::new(agent())),
            Box::new(PlainResource::<KeyPair>::new(agent())),
            Box::new(PlainResource::<InstanceType>::new(agent())),
            Box::new(PlainResource::<Vpc>::new(agent())),
            Box::new(PlainResource::<Subnet>::new(agent())),
            Box::new(PlainResource::<NetworkInterface>::new(agent())),
            Box::new(PlainResource::<NetworkInterfaceAttachment>::new(agent())),
            Box::new(PlainResource::<RouteTable>::new(agent())),
            Box::new(PlainResource::<RouteTableAssociation>::new(agent())),
            Box::new(PlainResource::<PrefixList>::new(agent())),
            Box::new(PlainResource::<SecurityGroup>::new(agent())),
            Box::new(Rule::<crate::security_group_ingress_rule::Ingress>(agent(), PhantomData)),
            Box::new(Rule::<crate::security_group_egress_rule::Egress>(agent(), PhantomData)),
            Box::new(Instance(agent())),
            Box::new(PlainResource::<Volume>::new(agent())),
            Box::new(PlainResource::<VolumeAttachment>::new(agent())),
            Box::new(Snapshot(agent())),
            Box::new(PlainResource::<ElasticIp>::new(agent())),
            Box::new(PlainResource::<ElasticIpAssociation>::new(agent())),
            Box::new(PlainResource::<PortForward>::new(agent())),
        ]
    }

    fn data_sources(&self) -> Vec<Box<dyn DataSource>> {
        let agent = || self.agent.clone();
        vec![
            Box::new(Found::<Vpc>::new(agent())),
            Box::new(FoundAll::<Vpc>::new(agent())),
            Box::new(Found::<Subnet>::new(agent())),
            Box::new(FoundAll::<Subnet>::new(agent())),
            Box::new(Found::<NetworkInterface>::new(agent())),
            Box::new(FoundAll::<NetworkInterface>::new(agent())),
            Box::new(Found::<RouteTable>::new(agent())),
            Box::new(FoundAll::<RouteTable>::new(agent())),
            Box::new(Found::<PrefixList>::new(agent())),
            Box::new(FoundAll::<PrefixList>::new(agent())),
            Box::new(Found::<SecurityGroup>::new(agent())),
            Box::new(FoundAll::<SecurityGroup>::new(agent())),
            Box::new(Found::<KeyPair>::new(agent())),
            Box::new(FoundAll::<KeyPair>::new(agent())),
            Box::new(data::image::Image(agent())),
            Box::new(data::image_alias::ImageAlias(agent())),
            Box::new(data::images::Images(agent())),
            Box::new(data::snapshot::Snapshot(agent())),
            Box::new(data::instance::Instance(agent())),
            Box::new(data::instances::Instances(agent())),
            Box::new(data::known_hosts::KnownHosts(agent())),
            Box::new(data::ssh_config::SshConfig(agent())),
            Box::new(data::instance_timeline::InstanceTimeline(agent())),
            Box::new(data::instance_types::InstanceTypes(agent())),
            Box::new(Found::<Volume>::new(agent())),
            Box::new(FoundAll::<Volume>::new(agent())),
            Box::new(Found::<ElasticIp>::new(agent())),
            Box::new(FoundAll::<ElasticIp>::new(agent())),
            Box::new(Found::<PortForward>::new(agent())),
            Box::new(FoundAll::<PortForward>::new(agent())),
            Box::new(data::host::Host(agent())),
            Box::new(data::hosts::Hosts(agent())),
            Box::new(data::availability_zones::AvailabilityZones(agent())),
            Box::new(data::capacity::Capacity(agent())),
            Box::new(data::caller_identity::CallerIdentity(agent())),
            Box::new(data::security_group_hits::SecurityGroupHits(agent())),
            Box::new(data::reachability::Reachability(agent())),
            Box::new(data::usage::Usage(agent())),
            Box::new(data::instance_metrics::InstanceMetrics(agent())),
            Box::new(data::console_output::ConsoleOutput(agent())),
        ]
    }

    fn ephemeral_resources(&self) -> Vec<Box<dyn EphemeralResource>> {
        vec![Box::new(ConsoleToken(self.agent.clone()))]
    }

    fn actions(&self) -> Vec<Box<dyn Action>> {
        action::all(&self.agent)
    }

    fn functions(&self) -> Vec<Box<dyn Function>> {
        function::all()
    }

    fn list_resources(&self) -> Vec<Box<dyn ListResource>> {
        list::all(&self.agent).into_iter().map(|list| list as Box<dyn ListResource>).collect()
    }

    fn on_apply(&self) {
        self.agent.applies();
    }

    /// Everything that was created is in the state by now, so the session ends in good order.
    async fn on_shutdown(&self) {
        self.agent.end().await;
    }
}
