//! `weft_instance_type`: a named size of one's own.

use serde::{Deserialize, Serialize};
use tfplugin::{
    Attribute, ConvertError, Diagnostic, Diagnostics, ImportContext, PlanContext, Schema, Value,
    async_trait,
};
use weft_model::{
    InstanceTypeId, InstanceTypeSpec, MEMORY_MIB, NETWORK_MBPS, Problem, Reason, TypeName, VCPUS,
    find_type,
};
use weft_proto::convert::instance_type_from_wire;
use weft_proto::v1;

use crate::agent::Agent;
use crate::kind::plain::Plain;
use crate::kind::wire::Wire as _;
use crate::kind::{self, Kind};
use crate::tags::TagMap;
use crate::{checks, kept, tags};

#[derive(Debug)]
pub(crate) enum InstanceType {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for InstanceType {
    type Wire = v1::InstanceType;
    type Kept = Kept;
    const TYPE: &'static str = "weft_instance_type";
    const NOUN: &'static str = "instance type";

    fn schema() -> Schema {
        Schema::new(
            "A named size of your own. Instances look it up when they are made and when their \
             `instance_type` changes: they keep their sizes when it is replaced or deleted.",
        )
        .subcategory("Compute")
        .attribute(
            Attribute::string("name", "What instances call it in `instance_type`; unique.")
                .required()
                .replace_on_change()
                .validate(checks::type_name()),
        )
        .attribute(
            Attribute::number("vcpus", "Virtual processors.")
                .required()
                .replace_on_change()
                .validate(checks::number("vCPUs", checks::wide(VCPUS))),
        )
        .attribute(
            Attribute::number("memory_mib", "Memory in MiB.")
                .required()
                .replace_on_change()
                .validate(checks::number("MiB of memory", checks::wide(MEMORY_MIB))),
        )
        .attribute(
            Attribute::number("network_mbps", "What each network interface of an instance is limited to in each direction, in Mbit/s; left out, there is no limit.")
                .replace_on_change()
                .validate(checks::number("Mbit/s", checks::wide(NETWORK_MBPS))),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`type-` and 17 hexadecimal digits.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    /// Of one that is built in there is no resource, but a data source shows it: without an id.
    fn state(wire: v1::InstanceType) -> Result<Value, Problem> {
        let kind = instance_type_from_wire(wire)?;
        let InstanceTypeSpec { name, vcpus, memory_mib, network_mbps } = kind.spec().clone();
        let mut values = Value::object([
            ("id", Value::Null),
            ("name", name.to_string().into()),
            ("vcpus", vcpus.into()),
            ("memory_mib", memory_mib.into()),
            ("network_mbps", network_mbps.into()),
            ("tags", Value::Null),
            ("tags_all", TagMap::new().into()),
        ]);
        if let weft_model::InstanceType::Own(object) = kind {
            let kept: Kept = kept::decode(&object.client_data);
            values.set("id", object.id.to_string());
            values.set("tags", kept.tags);
            values.set("tags_all", object.tags.into_map());
        }
        Ok(values)
    }
}

#[async_trait]
impl Plain for InstanceType {
    fn spec(plan: &Value) -> Result<v1::InstanceTypeSpec, Diagnostics> {
        Ok(v1::InstanceTypeSpec {
            name: plan.read("name")?,
            vcpus: plan.read("vcpus")?,
            memory_mib: plan.read("memory_mib")?,
            network_mbps: plan.read("network_mbps")?,
        })
    }

    async fn plan(agent: &Agent, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        if let (Ok(connection), Some(name)) = (agent.connection(), ctx.plan.get("name").as_str()) {
            connection.planned_types.add(name);
        }
        Ok(())
    }

    /// By id, or by name: no id has a dot, every name has one.
    async fn import(agent: &Agent, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        if ctx.id.parse::<TypeName>().is_err() {
            return match ctx.id.parse::<InstanceTypeId>() {
                Ok(_) => kind::import::<Self>(ctx),
                Err(error) => Err(Diagnostic::error("Cannot import the instance type")
                    .cause(error.to_string())
                    .remedy("Give its id, or its name such as \"build.large\"")
                    .into()),
            };
        }
        let failed = |problem: Problem| kind::fail::<Self>("import", &problem, &Value::Null);
        let name = ctx.id.clone();
        if find_type(&name).is_some() {
            let message = format!("\"{name}\" is built in");
            return Err(failed(
                Problem::new(Reason::FailedPrecondition, message)
                    .remedy("instances can name it as it is; import a type of your own"),
            ));
        }
        let connection = kind::connection::<Self>(agent, "import")?;
        let list = connection
            .call(|channel| {
                let request = v1::ListRequest { name: name.clone(), ..Default::default() };
                async move { v1::InstanceType::client(channel).list(request).await }
            })
            .await
            .map_err(failed)?;
        let Some(metadata) = list.items.into_iter().find_map(|kind| kind.metadata) else {
            let problem = Problem::not_found(format!("there is no instance type \"{name}\""));
            return Err(failed(problem.remedy("weft ls types shows those that there are")));
        };
        ctx.set_state(Value::object([("id", metadata.id)]));
        Ok(())
    }
}
