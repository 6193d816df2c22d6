//! `data.weft_instance_metrics`: what an instance's guest uses.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Value, async_trait,
};
use weft_model::{InstanceId, Timestamp};
use weft_proto::v1;
use weft_proto::v1::monitoring_client::MonitoringClient;

use crate::agent::Agent;
use crate::checks;

#[derive(Debug)]
pub(crate) struct InstanceMetrics(pub(crate) Arc<Agent>);

const NOUN: &str = "instance's metrics";

fn number(name: &'static str, text: &'static str) -> Attribute {
    Attribute::number(name, text).computed()
}

fn shown(count: u64) -> Value {
    Value::from(i64::try_from(count).unwrap_or(i64::MAX))
}

fn maybe(count: Option<u64>) -> Value {
    count.map_or(Value::Null, shown)
}

fn disk(disk: v1::DiskMetrics) -> Value {
    Value::object([
        ("disk", Value::from(disk.disk)),
        ("read_bytes", shown(disk.read_bytes)),
        ("written_bytes", shown(disk.written_bytes)),
        ("reads", shown(disk.reads)),
        ("writes", shown(disk.writes)),
    ])
}

fn interface(interface: v1::InterfaceMetrics) -> Value {
    Value::object([
        ("network_interface_id", Value::from(interface.network_interface_id)),
        ("sent_bytes", shown(interface.sent_bytes)),
        ("received_bytes", shown(interface.received_bytes)),
        ("sent_packets", shown(interface.sent_packets)),
        ("received_packets", shown(interface.received_packets)),
    ])
}

#[async_trait]
impl DataSource for InstanceMetrics {
    fn type_name(&self) -> &str {
        "weft_instance_metrics"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "What an instance's guest uses, counted since it started. All but `state` and `at` are \
             unset where no guest runs. It changes by itself, so an output that shows it makes plans \
             non-empty.",
        )
        .subcategory("Compute")
        .attribute(Attribute::string("instance_id", "Whose.").required().validate(checks::id::<
            InstanceId,
        >(
            InstanceId::PREFIX,
            "an instance",
        )))
        .attribute(Attribute::string("at", "When it was measured (RFC 3339).").computed())
        .attribute(Attribute::string("state", "The state that the instance is in.").computed())
        .attribute(number("cpu_ms", "Processor time of the guest and what emulates its devices, in milliseconds."))
        .attribute(number("resident_bytes", "Memory of the host that its hypervisor has."))
        .attribute(number("memory_total_bytes", "Memory that the guest's kernel manages, by its own word; unset where it has no driver for its balloon."))
        .attribute(number("memory_available_bytes", "Memory that its programs could still have, likewise."))
        .attribute(
            Attribute::nested(
                "disks",
                Nesting::List,
                "By name.",
                [
                    Attribute::string("disk", "`root`, `seed` or a volume's id.").computed(),
                    number("read_bytes", "Bytes that the guest read."),
                    number("written_bytes", "Bytes that it wrote."),
                    number("reads", "Its read requests."),
                    number("writes", "Its write requests."),
                ],
            )
            .computed(),
        )
        .attribute(
            Attribute::nested(
                "interfaces",
                Nesting::List,
                "By id.",
                [
                    Attribute::string("network_interface_id", "Which.").computed(),
                    number("sent_bytes", "Bytes that the guest sent."),
                    number("received_bytes", "Bytes that it was sent."),
                    number("sent_packets", "Packets that it sent."),
                    number("received_packets", "Packets that it was sent."),
                ],
            )
            .computed(),
        )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let id: String = ctx.config.read("instance_id")?;
        let metrics = connection
            .call(|channel| {
                let request = v1::GetRequest { id: id.clone(), claim: false };
                async move { MonitoringClient::new(channel).get_instance(request).await }
            })
            .await
            .map_err(|problem| super::fail(NOUN, &problem))?;
        let at = Timestamp::from_millisecond(metrics.at_unix_ms).ok();
        let guest = metrics.guest;
        let level = |of: fn(&v1::GuestMetrics) -> Option<u64>| maybe(guest.as_ref().and_then(of));
        let mut answer = Value::object([
            ("instance_id", Value::from(id)),
            ("at", at.map(|at| at.to_string()).into()),
            ("state", metrics.state.into()),
            ("cpu_ms", level(|guest| Some(guest.cpu_ms))),
            ("resident_bytes", level(|guest| Some(guest.resident_bytes))),
            ("memory_total_bytes", level(|guest| guest.memory_total_bytes)),
            ("memory_available_bytes", level(|guest| guest.memory_available_bytes)),
            ("disks", Value::Null),
            ("interfaces", Value::Null),
        ]);
        if let Some(guest) = guest {
            answer.set("disks", guest.disks.into_iter().map(disk).collect::<Vec<_>>());
            let interfaces = guest.interfaces.into_iter().map(interface);
            answer.set("interfaces", interfaces.collect::<Vec<_>>());
        }
        Ok(answer)
    }
}
