//! `data.weft_ssh_config`: ssh's configuration for many instances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostic, Diagnostics, Schema, Validator, Value,
    async_trait,
};
use weft_model::{InstanceView, Problem};

use super::filter::Filter;
use super::instances::fitting;
use crate::agent::Agent;
use crate::ssh_config::{entry, is_alias};

#[derive(Debug)]
pub(crate) struct SshConfig(pub(crate) Arc<Agent>);

const NOUN: &str = "ssh configuration";
/// How instances are reached; the first unless said.
const VIA: [&str; 3] = ["agent", "private_ip", "public_ip"];

#[async_trait]
impl DataSource for SshConfig {
    fn type_name(&self) -> &str {
        "weft_ssh_config"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "A `Host` block of ssh's configuration for each instance that fits: in a file, `ssh -F FILE web`, \
             scp, rsync and Ansible reach them by name. The function `ssh_config_entry` makes a single one.",
        )
        .subcategory("Compute")
        .attributes(Filter::attributes())
        .attribute(
            Attribute::string(
                "via",
                "How they are reached: `agent` (unless set) needs no route to them but `weft` on this machine, \
                 `private_ip` and `public_ip` go straight there. Without a public address an instance is \
                 left out by `public_ip`.",
            )
            .validate(Validator::one_of(VIA)),
        )
        .attribute(Attribute::string("user", "Who logs in; unset, the `default_user` of each image."))
        .attribute(Attribute::string(
            "identity_file",
            "The private key, such as `~/.ssh/id_ed25519`; no other is tried then.",
        ))
        .attribute(Attribute::string(
            "known_hosts_file",
            "A file with the `content` of `data.weft_known_hosts` in it; host keys have to be in it then. \
             Not with `via = \"public_ip\"`: keys are known by private addresses.",
        ))
        .attribute(
            Attribute::string(
                "content",
                "The blocks as one text, the oldest instance first. An instance goes by its name where that is \
                 a word and no other has it, and by its id in any case.",
            )
            .computed(),
        )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem: Problem| super::fail(NOUN, &problem);
        let filter = Filter::read(&ctx.config)?;
        let views = fitting(&connection, &filter, None).await.map_err(failed)?;
        let shared = shared_names(&views);
        let mut blocks = Vec::new();
        for view in &views {
            let Some(options) = options(view, &ctx.config) else { continue };
            let id = view.object.id.to_string();
            let name = view.object.spec.name.as_ref().map(|name| name.as_str());
            let name = name.filter(|name| is_alias(name) && !shared.contains(*name));
            let alias = name.map_or_else(|| id.clone(), |name| format!("{name} {id}"));
            blocks.push(entry(&alias, &options).map_err(|why| {
                Diagnostic::error("The ssh configuration cannot be made")
                    .cause(why)
                    .remedy("Write user and files as ssh would read them as one word")
            })?);
        }
        let mut answer = ctx.config.clone();
        answer.set("content", blocks.join("\n"));
        Ok(answer)
    }
}

/// The names that several have.
fn shared_names(views: &[InstanceView]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let names = views.iter().filter_map(|view| view.object.spec.name.as_ref());
    names.map(ToString::to_string).filter(|name| !seen.insert(name.clone())).collect()
}

/// What the block of an instance says; `None` where there is no such way to it.
fn options(view: &InstanceView, config: &Value) -> Option<BTreeMap<String, Option<String>>> {
    let asked = |name: &str| config.get(name).as_str().map(str::to_owned);
    let via = asked("via");
    let via = via.as_deref().unwrap_or(VIA[0]);
    let address = match via {
        "public_ip" => view.assigned.public_ip?.to_string(),
        _ => view.object.spec.private_ip?.to_string(),
    };
    let id = (via == VIA[0]).then(|| view.object.id.to_string());
    let user = asked("user").or_else(|| Some(view.assigned.default_user.clone()));
    Some(BTreeMap::from([
        ("host_name".to_owned(), Some(address)),
        ("instance_id".to_owned(), id),
        ("user".to_owned(), user),
        ("identity_file".to_owned(), asked("identity_file")),
        ("known_hosts_file".to_owned(), asked("known_hosts_file")),
    ]))
}
