//! `weft watch`: one line for each change, until the agent or the reader goes away.

use std::process::ExitCode;

use serde_json::json;
use weft_proto::v1::{WatchChange, WatchRequest};

use crate::agent::Agent;
use crate::failure::Failure;
use crate::output::{Format, clean, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these kinds, such as instances or images
    kinds: Vec<String>,
    /// Begin with this revision instead of now
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    from: i64,
}

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    let request = WatchRequest { from_revision: args.from, kinds: args.kinds.clone() };
    let mut changes = agent.watch().watch(request).await?.into_inner();
    while let Some(change) = changes.message().await? {
        print(line(&change, format))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(change: &WatchChange, format: Format) -> String {
    let WatchChange { revision, kind, id, deleted } = change;
    match format {
        Format::Json => {
            let value = json!({ "revision": revision, "kind": kind, "id": id, "deleted": deleted });
            format!("{value}\n")
        }
        Format::Text => {
            let what = if *deleted { "deleted" } else { "changed" };
            format!("{revision} {what} {} {}\n", clean(kind), clean(id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let change =
            WatchChange { revision: 7, kind: "images".into(), id: "img-1".into(), deleted: true };
        assert_eq!(line(&change, Format::Text), "7 deleted images img-1\n");
        let json = line(&change, Format::Json);
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json.lines().count(), back["deleted"].as_bool()), (1, Some(true)));
    }
}
