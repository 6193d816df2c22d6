//! What a guest sends us, as JSON.

use serde::Deserialize;
use weft_model::{CloudInitOutcome, CloudInitReport, Signal, SignalOutcome, Timestamp};

use crate::directory::Report;

/// The body of `PUT /weft/v1/cloud-init`. `status` is what `cloud-init status --format json` says
/// as `extended_status` or, before 23.4, as `status`.
#[derive(Debug, Deserialize)]
struct CloudInitBody {
    status: String,
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    detail: String,
}

/// The body of `PUT /weft/v1/signal`.
#[derive(Debug, Deserialize)]
struct SignalBody {
    status: String,
    #[serde(default)]
    reason: String,
}

/// # Errors
/// What is wrong with the body, for whoever wrote it.
pub(crate) fn cloud_init(body: &[u8], now: Timestamp) -> Result<Report, String> {
    let body: CloudInitBody = parse(body)?;
    let outcome = match body.status.as_str() {
        "done" => CloudInitOutcome::Done,
        status if status.starts_with("degraded") => CloudInitOutcome::Degraded,
        status if status.starts_with("error") => CloudInitOutcome::Error,
        // It will never end: nobody who waits for it should go on waiting.
        "disabled" => CloudInitOutcome::Error,
        other => {
            return Err(format!(
                "status \"{other}\" is not an end of cloud-init: use done, degraded, error or \
                 disabled"
            ));
        }
    };
    let disabled = (body.status == "disabled").then(|| "cloud-init is disabled".to_owned());
    let errors = disabled.into_iter().chain(body.errors);
    Ok(Report::CloudInit(CloudInitReport::new(outcome, errors, &body.detail, now)))
}

/// # Errors
/// What is wrong with the body, for whoever wrote it.
pub(crate) fn signal(body: &[u8], now: Timestamp) -> Result<Report, String> {
    let body: SignalBody = parse(body)?;
    let outcome: SignalOutcome = body.status.parse().map_err(|_| {
        format!("status \"{}\" is not a signal: use success or failure", body.status)
    })?;
    Ok(Report::Signal(Signal::new(outcome, &body.reason, now)))
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("the body is not the JSON wanted: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_cloud_init_has_an_outcome() {
        use CloudInitOutcome::{Degraded, Done, Error};
        let cases = [
            ("done", Some(Done)),
            ("degraded", Some(Degraded)),
            ("degraded done", Some(Degraded)),
            ("error", Some(Error)),
            ("error - done", Some(Error)),
            ("disabled", Some(Error)),
            ("running", None),
            ("", None),
        ];
        for (status, want) in cases {
            let body = serde_json::json!({ "status": status, "errors": ["e"], "more": 1 });
            let got = cloud_init(body.to_string().as_bytes(), Timestamp::UNIX_EPOCH);
            let got = got.ok().map(|report| match report {
                Report::CloudInit(report) => report.outcome,
                Report::Signal(_) => unreachable!("not asked for"),
            });
            assert_eq!(got, want, "{status}");
        }
        assert!(cloud_init(b"{}", Timestamp::UNIX_EPOCH).is_err());
        assert!(cloud_init(b"\xff", Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn a_signal_is_success_or_failure() {
        let failure = signal(br#"{"status":"failure","reason":"no disk"}"#, Timestamp::UNIX_EPOCH);
        let want = Signal::new(SignalOutcome::Failure, "no disk", Timestamp::UNIX_EPOCH);
        assert_eq!(failure.unwrap(), Report::Signal(want));
        let error = signal(br#"{"status":"ok"}"#, Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(error.contains("use success or failure"), "{error}");
    }
}
