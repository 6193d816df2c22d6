//! `data.weft_usage`: what was used in a range of days, and what it costs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Type, Value,
    async_trait,
};
use weft_model::Timestamp;
use weft_proto::v1;
use weft_proto::v1::usage_client::UsageClient;

use crate::agent::Agent;
use crate::checks;

#[derive(Debug)]
pub(crate) struct Usage(pub(crate) Arc<Agent>);

const NOUN: &str = "usage";

fn row_attributes() -> [Attribute; 10] {
    [
        Attribute::string("group", "The object's id, the day or the tag's value, as `group_by` says; empty for `item`, and for what has no such tag.").computed(),
        Attribute::string("name", "With `group_by = \"resource\"`: the newest name; unset where there is none.").computed(),
        Attribute::string("kind", "`instance`, `volume`, `public_ip` or `bytes_out`.").computed(),
        Attribute::string("type", "The instance type or the volume's; unset where vCPUs and memory were given.").computed(),
        Attribute::number("vcpus", "Of instances.").computed(),
        Attribute::number("memory_mib", "Of instances.").computed(),
        Attribute::number("size_gib", "Of volumes.").computed(),
        Attribute::string("amount", "How much, in `unit`: a decimal number as text, so that nothing is rounded; `tonumber` reads it.").computed(),
        Attribute::string("unit", "`seconds` that instances ran, `GiB-hours` of volumes, `hours` of public addresses, `bytes` that instances sent.").computed(),
        Attribute::string("cost", "What it costs in `currency`, as decimal text; unset where it has no price.").computed(),
    ]
}

fn day(name: &'static str, text: &'static str) -> Attribute {
    Attribute::string(name, text).optional_computed()
}

fn text(value: String) -> Value {
    Some(value).filter(|text| !text.is_empty()).into()
}

fn number(value: u32) -> Value {
    Some(i64::from(value)).filter(|number| *number > 0).into()
}

fn row(row: v1::UsageRow) -> Value {
    Value::object([
        ("group", Value::from(row.group)),
        ("name", text(row.name)),
        ("kind", row.kind.into()),
        ("type", text(row.r#type)),
        ("vcpus", number(row.vcpus)),
        ("memory_mib", number(row.memory_mib)),
        ("size_gib", number(row.size_gib)),
        ("amount", row.amount.into()),
        ("unit", row.unit.into()),
        ("cost", row.cost.into()),
    ])
}

#[async_trait]
impl DataSource for Usage {
    fn type_name(&self) -> &str {
        "weft_usage"
    }

    fn schema(&self) -> Schema {
        Schema::new(
            "What was used in a range of days, up to this moment, and what it costs by the agent's \
             price file. Seconds of a guest that ran are counted exactly, also while the agent was \
             away; see the guide on metering. It changes by itself, so an output that shows it makes \
             plans non-empty.",
        )
        .subcategory("Compute")
        .attribute(day("from_day", "The first day (`YYYY-MM-DD`, UTC). Unset: the first of the month of `to_day`."))
        .attribute(day("to_day", "The last day, included. Unset: today."))
        .attribute(Attribute::string("resource_id", "Only of the object with this id, which may be gone.").optional())
        .attribute(
            Attribute::map("tags", Type::String, "Only of what had all of these tags at that time.")
                .optional()
                .validate(checks::tags()),
        )
        .attribute(
            Attribute::string("group_by", "What rows are of: `resource` (unless set), `day`, `item` or `tag:KEY`.").optional(),
        )
        .attribute(Attribute::nested("rows", Nesting::List, "By group.", row_attributes()).computed())
        .attribute(Attribute::string("cost", "What all that has a price costs, as decimal text; unset where the agent has no price file.").computed())
        .attribute(Attribute::string("currency", "Of costs; unset where the agent has no price file.").computed())
        .attribute(Attribute::bool("unpriced", "Whether something has no price.").computed())
        .attribute(Attribute::string("as_of", "Up to when usage is counted (RFC 3339).").computed())
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let asked = |name| ctx.config.read::<Option<String>>(name).map(Option::unwrap_or_default);
        let tags: Option<BTreeMap<String, String>> = ctx.config.read("tags")?;
        let request = v1::UsageRequest {
            from_day: asked("from_day")?,
            to_day: asked("to_day")?,
            resource_id: asked("resource_id")?,
            tags: tags.unwrap_or_default().into_iter().collect(),
            group_by: asked("group_by")?,
        };
        let report = connection
            .call(|channel| {
                let request = request.clone();
                async move { UsageClient::new(channel).report(request).await }
            })
            .await
            .map_err(|problem| super::fail(NOUN, &problem))?;
        let as_of = Timestamp::from_millisecond(report.as_of_unix_ms).ok();
        let rows: Vec<Value> = report.rows.into_iter().map(row).collect();
        let mut answer = ctx.config.clone();
        answer.set("from_day", report.from_day);
        answer.set("to_day", report.to_day);
        answer.set("rows", rows);
        answer.set("cost", report.cost);
        answer.set("currency", text(report.currency));
        answer.set("unpriced", report.unpriced);
        answer.set("as_of", as_of.map(|at| at.to_string()));
        Ok(answer)
    }
}
