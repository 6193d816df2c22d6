//! The usual `timeouts = { create = "10m" }` attribute, and waiting that honours it.

use std::{future::Future, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    cty::{Type, Value},
    diag::{Diagnostic, Diagnostics},
    schema::{Attribute, Validator},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Read,
    Update,
    Delete,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// The `timeouts` attribute for these operations.
pub fn attribute(operations: impl IntoIterator<Item = Operation>) -> Attribute {
    let inner = operations.into_iter().map(|operation| {
        let text =
            format!("How long to wait for {}, such as `90s`, `10m` or `1h30m`.", operation.name());
        Attribute::new(operation.name(), Type::String, text).validate(Validator::pattern(
            "must be a duration above zero, such as \"90s\", \"10m\" or \"1h30m\"",
            |text| parse(text).is_some(),
        ))
    });
    Attribute::object("timeouts", "How long operations may take.", inner)
}

/// The timeout that `values` (a plan or a state) sets for `operation`, else `default`.
///
/// # Errors
/// Where the text is no duration, with the path of the attribute.
pub fn get(
    values: &Value,
    operation: Operation,
    default: Duration,
) -> Result<Duration, Diagnostics> {
    let path = format!("timeouts.{}", operation.name());
    let Some(text) = values.get(path.as_str()).as_str() else {
        return Ok(default);
    };
    parse(text).ok_or_else(|| {
        Diagnostic::error("Invalid timeout")
            .cause(format!("{text:?} is not a duration"))
            .remedy("Write it as \"90s\", \"10m\" or \"1h30m\"")
            .at(path)
            .into()
    })
}

/// Longest timeout, in seconds: a hundred days.
const LONGEST: f64 = 8_640_000.0;

/// A duration as Go writes it: numbers with the units h, m, s, ms, us, ns. `None` for anything
/// else, for nothing at all and for more than a hundred days.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = after;
    }
    (seconds > 0.0 && seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

/// Why waiting ended before what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    #[error("it took longer than {}", human(*.0))]
    TimedOut(Duration),
    #[error("the operation was cancelled")]
    Cancelled,
}

impl Interrupted {
    /// `what` completes "while ...", such as "waiting for guest i-1 to run".
    pub fn diagnostic(self, what: &str, operation: Operation) -> Diagnostic {
        match self {
            Self::TimedOut(_) => {
                Diagnostic::error(format!("Timed out while {what}")).cause(self.to_string()).remedy(
                    format!("Look into what it waits for, or raise timeouts.{}", operation.name()),
                )
            }
            Self::Cancelled => Diagnostic::error(format!("Cancelled while {what}"))
                .cause(self.to_string())
                .remedy("What was done so far is in the state; run terraform apply to go on"),
        }
    }
}

/// Waits for `future`, but not beyond `limit` and not beyond `cancel`. `future` must be one that
/// may be dropped: waiting and reading, not an effect that would be left half done.
pub async fn bounded<F: Future>(
    cancel: &CancellationToken,
    limit: Duration,
    future: F,
) -> Result<F::Output, Interrupted> {
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = cancel.cancelled() => Err(Interrupted::Cancelled),
        () = tokio::time::sleep(limit) => Err(Interrupted::TimedOut(limit)),
    }
}

/// As Go prints it, to whole seconds: `1h30m`.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{}ms", duration.as_millis());
    }
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases = [
            ("90s", Some(90.0)),
            ("10m", Some(600.0)),
            ("1h30m", Some(5400.0)),
            ("1.5h", Some(5400.0)),
            ("250ms", Some(0.25)),
            ("", None),
            ("10", None),
            ("0s", None),
            ("-5m", None),
            ("5 m", None),
            ("ten minutes", None),
            ("99999999h", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse(text), seconds.map(Duration::from_secs_f64), "{text:?}");
        }
    }

    #[test]
    fn an_unset_timeout_is_the_default_and_a_wrong_one_has_its_path() {
        let default = Duration::from_secs(7);
        let values =
            Value::object([("timeouts", Value::object([("create", "1m"), ("delete", "x")]))]);
        assert_eq!(get(&values, Operation::Create, default), Ok(Duration::from_secs(60)));
        assert_eq!(get(&values, Operation::Update, default), Ok(default));
        let error = get(&values, Operation::Delete, default).unwrap_err();
        assert_eq!(error.iter().next().unwrap().path, Some("timeouts.delete".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_the_limit_or_when_cancelled() {
        let cancel = CancellationToken::new();
        let limit = Duration::from_secs(5400);
        let forever = std::future::pending::<()>;
        let timed_out = bounded(&cancel, limit, forever()).await.unwrap_err();
        assert_eq!(timed_out.to_string(), "it took longer than 1h30m");
        assert_eq!(bounded(&cancel, limit, async { 3 }).await, Ok(3));
        cancel.cancel();
        assert_eq!(bounded(&cancel, limit, forever()).await, Err(Interrupted::Cancelled));
    }
}
