//! `data.weft_host`: a machine that runs guests, and what room is left on it.

use std::sync::Arc;

use tfplugin::{Attribute, DataSource, DataSourceContext, Diagnostics, Schema, Value, async_trait};
use weft_model::HostId;
use weft_proto::convert::host_from_wire;
use weft_proto::v1::{self, hosts_client::HostsClient};

use crate::agent::Agent;
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
        let text = |name: &str, text: &str| Attribute::string(name, text).computed();
        let number = |name: &str, text: &str| Attribute::number(name, text).computed();
        Schema::new("A machine that runs guests, and what room is left on it.")
            .subcategory("Compute")
            .attribute(
                Attribute::string("id", "Which; unset, the only one.")
                    .optional_computed()
                    .validate(checks::id::<HostId>(HostId::PREFIX, "a host")),
            )
            .attributes([
                text("name", "The host's name."),
                text("accelerator", "How guests run: `kvm`, `tcg` (without hardware's help: slow) or `sim` (not at all)."),
                number("vcpus", "Processors of the machine."),
                number("memory_mib", "Memory that guests may have, in MiB."),
                number("free_vcpus", "Processors that no instance has."),
                number("free_memory_mib", "Memory that no instance has, in MiB."),
                text("hypervisor_version", "Such as `QEMU 10.0.2`."),
            ])
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
                let list = connection
                    .call(|channel| async move {
                        HostsClient::new(channel).list(v1::ListRequest::default()).await
                    })
                    .await
                    .map_err(failed)?;
                let ids: Vec<String> = list.items.iter().map(|host| host.id.clone()).collect();
                match <[v1::Host; 1]>::try_from(list.items) {
                    Ok([host]) => host,
                    Err(_) => {
                        let cause = format!("there are {} hosts: {}", ids.len(), ids.join(", "));
                        return Err(super::not_one(NOUN, cause, "Set id to one of them"));
                    }
                }
            }
        };
        let host = host_from_wire(wire).map_err(failed)?;
        Ok(Value::object([
            ("id", Value::from(host.id.to_string())),
            ("name", host.facts.name.into()),
            ("accelerator", host.facts.accelerator.as_str().into()),
            ("vcpus", host.facts.vcpus.into()),
            ("memory_mib", host.facts.memory_mib.into()),
            ("free_vcpus", host.free_vcpus.into()),
            ("free_memory_mib", host.free_memory_mib.into()),
            ("hypervisor_version", host.facts.hypervisor_version.into()),
        ]))
    }
}
