//! Who may log in now: every key's line, and the wait for others.
//!
//! The query is that of Google's metadata server ("Querying metadata", waiting for changes):
//! `wait_for_change=true&last_etag=TAG&timeout_sec=SECONDS`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::service::{Caller, Refusal};
use crate::directory::{Guest, Seen};

pub(super) const PATH: &str = "/weft/v1/authorized-keys";
/// Requests of one VPC that wait at a time: each holds one of its connections. One more is
/// answered at once, as if its time were up.
pub(super) const MAX_WAITING: usize = 512;
/// The longest wait; a connection lives no longer than a minute.
const MAX_WAIT: Duration = Duration::from_secs(50);

/// What a request waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Query {
    wait_for_change: bool,
    last_etag: String,
    timeout: Option<Duration>,
}

impl Query {
    /// What is not known is left out, as Google's server does.
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "wait_for_change" => parsed.wait_for_change = value == "true",
                "last_etag" => value.trim_matches('"').clone_into(&mut parsed.last_etag),
                "timeout_sec" => {
                    let seconds = value.parse().map_err(|_| {
                        Refusal::Bad("timeout_sec is a number of seconds".to_owned())
                    })?;
                    parsed.timeout = Some(Duration::from_secs(seconds));
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// How long it waits while the keys have this tag.
    fn wait(&self, tag: &str) -> Option<Duration> {
        let waits = self.wait_for_change && self.last_etag == tag;
        waits.then(|| self.timeout.unwrap_or(MAX_WAIT).min(MAX_WAIT))
    }
}

pub(super) async fn read(
    State(caller): State<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::Method);
    }
    let guest = caller.guest_that_reads(request.headers())?;
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let directory = Arc::clone(&caller.metadata.directory);
    directory.saw(&guest.instance_id, Seen::Imds(PATH.to_owned()));
    directory.saw(&guest.instance_id, Seen::Keys);
    let tag = tag(&lines(&guest));
    if let Some(time) = query.wait(&tag)
        && let Ok(_place) = caller.metadata.waiting.try_acquire()
    {
        let id = &guest.instance_id;
        let differs = |now: Option<&Guest>| {
            now.is_none_or(|now| now.instance_id != *id || lines(now) != lines(&guest))
        };
        let until = directory.until(&caller.metadata.vpc, caller.source, &differs);
        // When the time is up, the answer is the same as before.
        let _ = tokio::time::timeout(time, until).await;
    }
    // Judged anew: it may have lost its metadata, or another guest may have its address.
    let now = caller.guest()?;
    if now.instance_id != guest.instance_id {
        return Err(Refusal::NoToken);
    }
    let lines = lines(&now);
    let tag = format!("\"{}\"", self::tag(&lines));
    Ok(([(header::CONTENT_TYPE, "text/plain"), (header::ETAG, tag.as_str())], lines)
        .into_response())
}

fn lines(guest: &Guest) -> String {
    guest.keys.iter().map(|key| format!("{}\n", key.line)).collect()
}

fn tag(lines: &str) -> String {
    let digest = Sha256::digest(lines.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_for_others_than_those_it_knows_and_not_for_ever() {
        let query = |text: &str| Query::parse(text).unwrap();
        assert_eq!(query("").wait("a"), None);
        assert_eq!(query("wait_for_change=true").wait("a"), None, "it knows none yet");
        assert_eq!(query("wait_for_change=true&last_etag=b").wait("a"), None);
        let known = "wait_for_change=true&last_etag=a&else=1";
        assert_eq!(query(known).wait("a"), Some(MAX_WAIT));
        let seconds = |n| query(&format!("{known}&timeout_sec={n}")).wait("a");
        assert_eq!(seconds(3), Some(Duration::from_secs(3)));
        assert_eq!(seconds(u64::MAX), Some(MAX_WAIT));
        assert!(Query::parse("timeout_sec=soon").is_err());
    }
}
