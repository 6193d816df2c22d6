//! `weft events`: what happened on the host that nobody asked for, a line each.

use std::process::ExitCode;

use serde_json::json;
use weft_model::Event;
use weft_proto::convert::event_from_wire;
use weft_proto::v1::{FollowEventsRequest, ListEventsRequest};

use crate::agent::Agent;
use crate::failure::Failure;
use crate::output::{Format, clean, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only events about the object with this id
    id: Option<String>,
    /// Go on with those that happen from now on
    #[arg(long, short)]
    follow: bool,
}

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    let subject = args.id.clone().unwrap_or_default();
    if !args.follow {
        let events = agent.events().list(ListEventsRequest { subject }).await?.into_inner();
        for event in events.items {
            print(line(&event_from_wire(event)?, format))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let request = FollowEventsRequest { subject, after_number: Some(0) };
    let mut events = agent.events().follow(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        print(line(&event_from_wire(event)?, format))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(event: &Event, format: Format) -> String {
    let Event { number, at, kind, subject, message } = event;
    match format {
        Format::Json => {
            let (at, kind) = (at.to_string(), kind.as_str());
            let value = json!({
                "number": number, "at": at, "kind": kind, "subject": subject, "message": message,
            });
            format!("{value}\n")
        }
        Format::Text => {
            let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
            format!("{at}  {kind}  {}  {}\n", clean(subject), clean(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{EventKind, Timestamp};

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            number: 7,
            at: Timestamp::from_second(1_700_000_000).unwrap(),
            kind: EventKind::Drift,
            subject: "vpc-1".to_owned(),
            message: "the tap t0 was gone;\nit is back".to_owned(),
        };
        let want = "2023-11-14T22:13:20Z  drift  vpc-1  the tap t0 was gone;\\nit is back\n";
        assert_eq!(line(&event, Format::Text), want);
        let json = line(&event, Format::Json);
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json.lines().count(), back["number"].as_u64()), (1, Some(7)));
    }
}
