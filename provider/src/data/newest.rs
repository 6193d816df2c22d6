//! Which one of several that fit is meant: the only one, or the newest where that is asked for.

use std::cmp::Reverse;

use tfplugin::{Attribute, Diagnostics, Value};
use weft_proto::v1;

use crate::kind::wire::Wire;

const MOST_RECENT: &str = "most_recent";

/// What asks for the newest.
pub(super) fn attribute() -> Attribute {
    Attribute::bool(
        MOST_RECENT,
        "Whether the newest is taken where several fit; without it, that is an error.",
    )
}

/// The newest first; of two of the same moment, always the same one.
pub(super) fn sort<W: Wire>(found: &mut [W]) {
    let age = |it: &v1::Metadata| (it.created_at_unix_ms, it.id.clone());
    found.sort_by_key(|wire| Reverse(wire.metadata().map(age)));
}

/// The one of `found`, the newest first, that `config` means; `None` where there is none.
///
/// # Errors
/// Several fit, and the newest is not asked for.
pub(super) fn one_of<W: Wire>(
    found: Vec<W>,
    config: &Value,
    noun: &str,
) -> Result<Option<W>, Diagnostics> {
    if found.len() > 1 && config.get(MOST_RECENT).as_bool() != Some(true) {
        let ids: Vec<&str> =
            found.iter().filter_map(Wire::metadata).map(|it| it.id.as_str()).collect();
        let cause = format!("{} {noun}s fit: {}", ids.len(), ids.join(", "));
        return Err(super::not_one(noun, cause, "Say more about it, or set most_recent = true"));
    }
    Ok(found.into_iter().next())
}
