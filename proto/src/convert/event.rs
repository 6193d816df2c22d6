//! Events.

use weft_model::{Event, Problem};

use super::{parse_word, time_from_wire};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn event_from_wire(wire: v1::Event) -> Result<Event, Problem> {
    let v1::Event { number, at_unix_ms, kind, subject, message } = wire;
    let at = time_from_wire("at_unix_ms", at_unix_ms)?;
    Ok(Event { number, at, kind: parse_word("kind", &kind)?, subject, message })
}

/// The wire's form of `event`.
pub fn event_to_wire(event: Event) -> v1::Event {
    let Event { number, at, kind, subject, message } = event;
    let at_unix_ms = at.as_millisecond();
    v1::Event { number, at_unix_ms, kind: kind.to_string(), subject, message }
}
