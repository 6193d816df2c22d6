//! `data.weft_known_hosts`: the SSH host keys of many instances.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Schema, Type, Value, async_trait,
};
use weft_model::Problem;

use super::filter::Filter;
use super::instances::fitting;
use crate::agent::Agent;
use crate::instance::order;

#[derive(Debug)]
pub(crate) struct KnownHosts(pub(crate) Arc<Agent>);

const NOUN: &str = "known hosts";

#[async_trait]
impl DataSource for KnownHosts {
    fn type_name(&self) -> &str {
        "weft_known_hosts"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "The SSH host keys of the instances that fit, as `~/.ssh/known_hosts` has them: the agent makes each \
             key, so nobody has to trust on first use.",
        )
        .subcategory("Compute")
        .attributes(Filter::attributes())
        .attribute(
            Attribute::list(
                "lines",
                Type::String,
                "One for each key of each instance, by its `private_ip`; the oldest instance first.",
            )
            .computed(),
        )
        .attribute(
            Attribute::string("content", "The lines as one text, for a file; empty without any.")
                .computed(),
        )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem: Problem| super::fail(NOUN, &problem);
        let filter = Filter::read(&ctx.config)?;
        let views = fitting(&connection, &filter, None).await.map_err(failed)?;
        let mut lines = Vec::new();
        for view in views {
            let state = order::state(view).map_err(failed)?;
            let known = state.get("known_hosts_line").as_str().unwrap_or_default();
            lines.extend(known.lines().map(str::to_owned));
        }
        let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut answer = ctx.config.clone();
        answer.set("lines", lines);
        answer.set("content", content);
        Ok(answer)
    }
}
