//! `data.weft_host`: a machine that runs guests, and what room is left on it.

use std::sync::Arc;

use tfplugin::{Attribute, DataSource, DataSourceContext, Diagnostics, Schema, Value, async_trait};
use weft_model::{HostId, Problem};
use weft_proto::convert::host_from_wire;
use weft_proto::v1::{self, hosts_client::HostsClient};

use crate::agent::{Agent, Connection};
use crate::checks;

#[derive(Debug)]
pub(crate) struct Host(pub(crate) Arc<Agent>);

const NOUN: &str = "host";

#[async_trait]
impl DataSource for Host {
    fn type_name(&self) -> &str {
        "weft_host"
    }

    fn schema(&self) -> Schema {
        Schema::new("A machine that runs guests, and what room is left on it.")
            .subcategory("Compute")
            .attribute(
                Attribute::string("id", "Which; unset, the only one.")
                    .optional_computed()
                    .validate(checks::id::<HostId>(HostId::PREFIX, "a host")),
            )
            .attributes(facts())
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem| super::fail(NOUN, &problem);
        let id: Option<String> = ctx.config.read("id")?;
        let wire = match id {
            Some(id) => connection
                .call(|channel| {
                    let request = v1::GetRequest { id: id.clone(), claim: false };
                    async move { HostsClient::new(channel).get(request).await }
                })
                .await
                .map_err(failed)?,
            None => {
                let hosts = all(&connection).await.map_err(failed)?;
                let ids: Vec<String> = hosts.iter().map(|host| host.id.clone()).collect();
                match <[v1::Host; 1]>::try_from(hosts) {
                    Ok([host]) => host,
                    Err(_) => {
                        let cause = format!("there are {} hosts: {}", ids.len(), ids.join(", "));
                        return Err(super::not_one(NOUN, cause, "Set id to one of them"));
                    }
                }
            }
        };
        values(wire).map_err(failed)
    }
}

/// What is told of a host besides its id.
pub(super) fn facts() -> [Attribute; 8] {
    let text = |name: &str, text: &str| Attribute::string(name, text).computed();
    let number = |name: &str, text: &str| Attribute::number(name, text).computed();
    [
        text("name", "The host's name."),
        text("availability_zone", "The zone that it is in: `fabric-agent serve --zone`."),
        text(
            "accelerator",
            "How guests run: `kvm`, `tcg` (without hardware's help: slow) or `sim` (not at all).",
        ),
        number("vcpus", "Processors of the machine."),
        number("memory_mib", "Memory that guests may have, in MiB."),
        number("free_vcpus", "Processors that no instance has."),
        number("free_memory_mib", "Memory that no instance has, in MiB."),
        text("hypervisor_version", "Such as `QEMU 10.0.2`."),
    ]
}

/// A host with its id and [`facts`].
///
/// # Errors
/// At the field that is wrong.
pub(super) fn values(wire: v1::Host) -> Result<Value, Problem> {
    let host = host_from_wire(wire)?;
    Ok(Value::object([
        ("id", Value::from(host.id.to_string())),
        ("name", host.facts.name.into()),
        ("availability_zone", host.availability_zone.as_str().into()),
        ("accelerator", host.facts.accelerator.as_str().into()),
        ("vcpus", host.facts.vcpus.into()),
        ("memory_mib", host.facts.memory_mib.into()),
        ("free_vcpus", host.free_vcpus.into()),
        ("free_memory_mib", host.free_memory_mib.into()),
        ("hypervisor_version", host.facts.hypervisor_version.into()),
    ]))
}

/// All hosts, in the agent's order.
///
/// # Errors
/// As the agent says.
pub(super) async fn all(connection: &Connection) -> Result<Vec<v1::Host>, Problem> {
    let list =
        connection
            .call(|channel| async move {
                HostsClient::new(channel).list(v1::ListRequest::default()).await
            })
            .await?;
    Ok(list.items)
}
