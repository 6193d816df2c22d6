//! `weft usage`: what was used in a range of days, and what it costs.

use std::process::ExitCode;

use serde_json::{Value, json};
use weft_proto::v1::{UsageReport, UsageRequest, UsageRow};

use crate::agent::Agent;
use crate::failure::Failure;
use crate::output::{Format, NOTHING, print, print_json, size, table};
use crate::tags;
use crate::target::{self, AnyId};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this: an id, also of what is gone, or the unique name of an instance
    resource: Option<String>,
    /// The first day, in UTC [default: the first of the last day's month]
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "", hide_default_value = true)]
    from: String,
    /// The last day, in UTC [default: today]
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "", hide_default_value = true)]
    to: String,
    /// Only of what had this tag at that time; can be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// What rows are of: resource, day, item or tag:KEY
    #[arg(long, value_name = "WHAT", default_value = "resource")]
    by: String,
}

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    let tags = tags::parse(&args.tags).map_err(Failure::Usage)?.into_iter().collect();
    let resource_id = match &args.resource {
        None => String::new(),
        Some(text) if AnyId::parse(text).is_some() => text.clone(),
        Some(name) => target::instance(agent, name).await?.object.id.to_string(),
    };
    let request = UsageRequest {
        from_day: args.from.clone(),
        to_day: args.to.clone(),
        resource_id,
        tags,
        group_by: args.by.clone(),
    };
    let report = agent.usage().report(request).await.map_err(of_flags)?.into_inner();
    match format {
        Format::Json => print_json(&as_json(&report))?,
        Format::Text => print(as_text(&report, &args.by))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The flags of the request's fields.
const FLAGS: &[(&str, &str)] =
    &[("from_day", "--from"), ("to_day", "--to"), ("group_by", "--by"), ("tags", "--tag")];

/// What the agent says, at the flag that people have typed.
fn of_flags(status: tonic::Status) -> Failure {
    let mut problem = weft_proto::problem_from_status(&status);
    if let Some(field) = &mut problem.field
        && let Some((_, flag)) = FLAGS.iter().find(|(known, _)| known == field)
    {
        *field = (*flag).to_owned();
    }
    problem.into()
}

/// What is counted, in a word or two.
fn what(row: &UsageRow) -> String {
    match row.kind.as_str() {
        "instance" if row.r#type.is_empty() => {
            format!("instance {} vCPU, {} MiB", row.vcpus, row.memory_mib)
        }
        "instance" => format!("instance {}", row.r#type),
        "volume" => format!("volume {} {} GiB", row.r#type, row.size_gib),
        "public_ip" => "public address".to_owned(),
        "bytes_out" => "sent".to_owned(),
        other => other.to_owned(),
    }
}

fn amount(row: &UsageRow) -> String {
    match (row.unit.as_str(), row.amount.parse::<u64>()) {
        ("bytes", Ok(bytes)) => size(bytes),
        (unit, _) => format!("{} {unit}", row.amount),
    }
}

fn as_text(report: &UsageReport, by: &str) -> String {
    let group = match by {
        "resource" => "ID",
        "day" => "DAY",
        "item" => "",
        tag => tag.strip_prefix("tag:").unwrap_or(tag),
    };
    let priced = report.cost.is_some();
    let mut header = vec!["WHAT", "AMOUNT"];
    if priced {
        header.push("COST");
    }
    match by {
        "item" => {}
        "resource" => drop(header.splice(0..0, [group, "NAME"])),
        _ => header.insert(0, group),
    }
    let cells = |row: &UsageRow| {
        let mut cells = Vec::new();
        if by != "item" {
            cells.push(row.group.clone());
        }
        if by == "resource" {
            cells.push(row.name.clone());
        }
        cells.extend([what(row), amount(row)]);
        if priced {
            cells.push(row.cost.clone().unwrap_or_else(|| NOTHING.to_owned()));
        }
        cells
    };
    let mut text = table(&header, &report.rows.iter().map(cells).collect::<Vec<_>>());
    let (from, to) = (&report.from_day, &report.to_day);
    match &report.cost {
        Some(cost) => {
            text.push_str(&format!("{from} to {to}: {cost} {}", report.currency));
            text.push_str(if report.unpriced { ", without what has no price\n" } else { "\n" });
        }
        None => text.push_str(&format!("{from} to {to}\n")),
    }
    text
}

fn as_json(report: &UsageReport) -> Value {
    let row = |row: &UsageRow| {
        json!({
            "group": row.group, "name": row.name, "kind": row.kind, "type": row.r#type,
            "vcpus": row.vcpus, "memory_mib": row.memory_mib, "size_gib": row.size_gib,
            "amount": row.amount, "unit": row.unit, "cost": row.cost,
        })
    };
    json!({
        "from": report.from_day, "to": report.to_day, "as_of_unix_ms": report.as_of_unix_ms,
        "currency": report.currency, "cost": report.cost, "unpriced": report.unpriced,
        "rows": report.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use weft_model::Problem;

    use super::*;

    fn report(priced: bool) -> UsageReport {
        let row =
            |group: &str, kind: &str, amount: &str, unit: &str, cost: Option<&str>| UsageRow {
                group: group.to_owned(),
                name: "web".to_owned(),
                kind: kind.to_owned(),
                r#type: if kind == "instance" { "w1.nano".to_owned() } else { String::new() },
                amount: amount.to_owned(),
                unit: unit.to_owned(),
                cost: cost.filter(|_| priced).map(str::to_owned),
                ..UsageRow::default()
            };
        UsageReport {
            rows: vec![
                row("i-1", "instance", "5400", "seconds", Some("0.54")),
                row("i-1", "bytes_out", "1536", "bytes", None),
            ],
            cost: priced.then(|| "0.54".to_owned()),
            currency: "EUR".to_owned(),
            unpriced: true,
            from_day: "2026-11-01".to_owned(),
            to_day: "2026-11-22".to_owned(),
            as_of_unix_ms: 5,
        }
    }

    #[test]
    fn usage_is_a_table_with_its_sum() {
        let want = "ID   NAME  WHAT              AMOUNT        COST\n\
                    i-1  web   instance w1.nano  5400 seconds  0.54\n\
                    i-1  web   sent              1.5 KiB       -\n\
                    2026-11-01 to 2026-11-22: 0.54 EUR, without what has no price\n";
        assert_eq!(as_text(&report(true), "resource"), want);
    }

    #[test]
    fn problems_are_at_the_flag_that_was_typed() {
        let cases = [("group_by", "--by"), ("from_day", "--from"), ("resource_id", "resource_id")];
        for (field, want) in cases {
            let status = weft_proto::status_from_problem(&Problem::invalid(field, "no"));
            let Failure::Problem(problem) = of_flags(status) else { panic!("another failure") };
            assert_eq!(problem.field.as_deref(), Some(want));
        }
    }

    #[test]
    fn without_prices_there_is_no_cost() {
        let text = as_text(&report(false), "item");
        assert_eq!(text.lines().next(), Some("WHAT              AMOUNT"));
        assert!(text.ends_with("2026-11-01 to 2026-11-22\n"), "{text}");
        assert_eq!(as_json(&report(false))["cost"], Value::Null);
    }
}
