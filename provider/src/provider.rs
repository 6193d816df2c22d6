//! The provider itself: its settings, and what it offers.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tfplugin::{
    Action, Attribute, ConfigureContext, DataSource, Diagnostics, Function, Provider, Resource,
    Schema, Type, Validator, Value, async_trait, timeouts,
};
use weft_proto::client::{Credentials, DEFAULT_ENDPOINT, ENDPOINT_VARIABLE, Endpoint, Pem};

use crate::agent::{Agent, PlanChecks, Settings};
use crate::data::found::Found;
use crate::elastic_ip::ElasticIp;
use crate::elastic_ip_association::ElasticIpAssociation;
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
use crate::{action, catalog, checks, data, function, problem};

/// For one unary request, unless `request_timeout` says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The provider `weft`.
#[derive(Debug)]
pub struct Weft {
    agent: Arc<Agent>,
    /// What the environment says about the endpoint.
    endpoint: Option<String>,
    /// What it says about certificates.
    credentials: Credentials,
    /// Where it says that names of images are.
    image_catalog: Option<String>,
}

impl Weft {
    /// With the environment's settings, which those of the configuration override.
    pub fn from_environment() -> Self {
        let credentials = Credentials::from_environment();
        let image_catalog = std::env::var(catalog::VARIABLE).ok().filter(|path| !path.is_empty());
        Self { credentials, image_catalog, ..Self::new(std::env::var(ENDPOINT_VARIABLE).ok()) }
    }

    /// With `endpoint` where the configuration names none.
    pub fn new(endpoint: Option<String>) -> Self {
        let endpoint = endpoint.filter(|text| !text.is_empty());
        let credentials = Credentials::default();
        Self { agent: Arc::default(), endpoint, credentials, image_catalog: None }
    }

    fn settings(&self, config: &Value) -> Result<Settings, Diagnostics> {
        let endpoint = match config.get("endpoint") {
            Value::Unknown => None,
            Value::String(text) => Some(self.endpoint(text, config)?),
            _ => Some(self.endpoint(self.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT), config)?),
        };
        let endpoint = match (endpoint, self.credentials(config)) {
            (Some(endpoint), Some(credentials)) => Some(endpoint.with(credentials)),
            _ => None,
        };
        let tags = config.get("default_tags");
        let default_tags = match tags.is_wholly_known() {
            true => Some(tags.to::<Option<BTreeMap<String, String>>>()?.unwrap_or_default()),
            false => None,
        };
        let plan_checks = match config.get("plan_checks").as_str() {
            Some("off") => PlanChecks::Off,
            Some("error") => PlanChecks::Error,
            _ => PlanChecks::Warning,
        };
        let request_timeout = config
            .get("request_timeout")
            .as_str()
            .and_then(timeouts::parse)
            .unwrap_or(REQUEST_TIMEOUT);
        let image_catalog = match config.get("image_catalog") {
            Value::Unknown => catalog::Own::Unknown,
            Value::String(path) => catalog::Own::File(path.into()),
            _ => self
                .image_catalog
                .as_ref()
                .map_or_else(catalog::Own::default, |path| catalog::Own::File(path.into())),
        };
        Ok(Settings { endpoint, default_tags, plan_checks, request_timeout, image_catalog })
    }

    /// `None`: not all are known yet.
    fn credentials(&self, config: &Value) -> Option<Credentials> {
        let choose = |name: &str, other: &Option<Pem>| match config.get(name) {
            Value::Unknown => None,
            Value::String(text) => Some(Some(Pem::new(text))),
            _ => Some(other.clone()),
        };
        Some(Credentials {
            ca_cert: choose("ca_cert", &self.credentials.ca_cert)?,
            client_cert: choose("client_cert", &self.credentials.client_cert)?,
            client_key: choose("client_key", &self.credentials.client_key)?,
        })
    }

    fn endpoint(&self, text: &str, config: &Value) -> Result<Endpoint, Diagnostics> {
        text.parse().map_err(|problem| {
            problem::diagnostic("Invalid endpoint", &problem, &self.schema(), config).into()
        })
    }
}

#[async_trait]
impl Provider for Weft {
    fn schema(&self) -> Schema {
        Schema::new(
            "Virtual machines, images, keys, networks and security groups on your own Linux hosts, served by \
             a `fabric-agent`. The words are EC2's.",
        )
        .attribute(Attribute::string(
            "endpoint",
            "Where the agent listens: `unix://` and a path, or `https://` and a name for an agent on another machine. Unset, the environment variable `WEFT_ENDPOINT`, else `unix:///run/weft/agent.sock`.",
        ))
        .attribute(Attribute::string(
            "ca_cert",
            "The certificate of the CA that signed the agent's, for `https://`: a path, or PEM text. Unset, the environment variable `WEFT_CA_CERT`. `fabric-agent init` makes these files.",
        ))
        .attribute(Attribute::string(
            "client_cert",
            "This client's certificate, for `https://`: a path, or PEM text. Unset, `WEFT_CLIENT_CERT`.",
        ))
        .attribute(
            Attribute::string(
                "client_key",
                "The private key of `client_cert`: a path, or PEM text. Unset, `WEFT_CLIENT_KEY`.",
            )
            .sensitive(),
        )
        .attribute(
            Attribute::map("default_tags", Type::String, "Tags of everything that can have some.")
                .validate(checks::tags()),
        )
        .attribute(
            Attribute::string("plan_checks", "What a plan does about what it cannot know for sure, such as an instance type that does not exist yet: `off`, `warning` (unless set) or `error`. While applying it is an error in any case.")
                .validate(Validator::one_of(["off", "warning", "error"])),
        )
        .attribute(
            Attribute::string("request_timeout", "How long one request to the agent may take, its retries included; `30s` unless set. Waiting for an instance and uploading an image are no such requests.")
                .validate(Validator::pattern(
                    "must be a duration such as \"30s\" or \"2m\"",
                    |text| timeouts::parse(text).is_some(),
                )),
        )
        .attribute(Attribute::string(
            "image_catalog",
            "A TOML file with images for `data.weft_image_alias`, which go before those that are built in. Unset, the environment variable `WEFT_IMAGE_CATALOG`.",
        ))
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        self.settings(config).err().unwrap_or_default()
    }

    async fn configure(&self, ctx: &ConfigureContext) -> Diagnostics {
        match self.settings(&ctx.config) {
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
            Box::new(Found::<Subnet>::new(agent())),
            Box::new(data::subnets::Subnets(agent())),
            Box::new(Found::<NetworkInterface>::new(agent())),
            Box::new(Found::<RouteTable>::new(agent())),
            Box::new(Found::<PrefixList>::new(agent())),
            Box::new(Found::<SecurityGroup>::new(agent())),
            Box::new(Found::<KeyPair>::new(agent())),
            Box::new(data::image::Image(agent())),
            Box::new(data::image_alias::ImageAlias(agent())),
            Box::new(data::images::Images(agent())),
            Box::new(data::snapshot::Snapshot(agent())),
            Box::new(data::instance::Instance(agent())),
            Box::new(data::instances::Instances(agent())),
            Box::new(data::instance_timeline::InstanceTimeline(agent())),
            Box::new(data::instance_types::InstanceTypes(agent())),
            Box::new(Found::<Volume>::new(agent())),
            Box::new(Found::<ElasticIp>::new(agent())),
            Box::new(Found::<PortForward>::new(agent())),
            Box::new(data::host::Host(agent())),
            Box::new(data::security_group_hits::SecurityGroupHits(agent())),
            Box::new(data::reachability::Reachability(agent())),
            Box::new(data::usage::Usage(agent())),
            Box::new(data::instance_metrics::InstanceMetrics(agent())),
            Box::new(data::console_output::ConsoleOutput(agent())),
        ]
    }

    fn actions(&self) -> Vec<Box<dyn Action>> {
        action::all(&self.agent)
    }

    fn functions(&self) -> Vec<Box<dyn Function>> {
        function::all()
    }

    /// Everything that was created is in the state by now, so the session ends in good order.
    async fn on_shutdown(&self) {
        self.agent.end().await;
    }
}
