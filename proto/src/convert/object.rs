//! Metadata, and what goes along with every Create and Update.

use std::fmt::Display;
use std::str::FromStr;

use weft_model::{Object, Problem, SessionId, Tags};

use super::{parse, required, time_from_wire};
use crate::v1;

/// What goes along with a Create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// The same token and content give the same object.
    pub client_token: String,
    /// `None`: claimed at once.
    pub session: Option<SessionId>,
    /// Labels.
    pub tags: Tags,
    /// Kept as it is.
    pub client_data: String,
}

/// What goes along with an Update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision<I> {
    /// The object.
    pub id: I,
    /// The generation that the update was made for; `None` accepts any.
    pub expected_generation: Option<u64>,
    /// Labels.
    pub tags: Tags,
    /// Kept as it is.
    pub client_data: String,
}

/// The longest `client_data` and `client_token`, in bytes.
const MAX_CLIENT_DATA_BYTES: usize = 64 * 1024;
const MAX_TOKEN_BYTES: usize = 128;

fn client_data_from_wire(text: String) -> Result<String, Problem> {
    if text.len() > MAX_CLIENT_DATA_BYTES {
        let message = format!("client_data has {} bytes", text.len());
        return Err(Problem::invalid("client_data", message)
            .remedy(format!("at most {MAX_CLIENT_DATA_BYTES} are kept")));
    }
    Ok(text)
}

/// # Errors
/// A [`Problem`] at `context` or one of its fields.
pub fn creation_from_wire(context: Option<v1::CreateContext>) -> Result<Creation, Problem> {
    let v1::CreateContext { client_token, session_id, tags, client_data } =
        required("context", context)?;
    if client_token.is_empty() || client_token.len() > MAX_TOKEN_BYTES {
        return Err(Problem::invalid(
            "context.client_token",
            format!("a client token has 1 to {MAX_TOKEN_BYTES} bytes"),
        )
        .remedy("send a random one for each Create and the same one for its retries"));
    }
    let session = match session_id.as_str() {
        "" => None,
        text => Some(parse("context.session_id", text)?),
    };
    let client_data = client_data_from_wire(client_data)?;
    Ok(Creation { client_token, session, tags: Tags::parse(tags)?, client_data })
}

/// The wire's form of `creation`.
pub fn creation_to_wire(creation: Creation) -> v1::CreateContext {
    v1::CreateContext {
        client_token: creation.client_token,
        session_id: creation.session.map(|id| id.to_string()).unwrap_or_default(),
        tags: creation.tags.into_map().into_iter().collect(),
        client_data: creation.client_data,
    }
}

/// # Errors
/// A [`Problem`] at `context` or one of its fields.
pub fn revision_from_wire<I: FromStr<Err: Display>>(
    context: Option<v1::UpdateContext>,
) -> Result<Revision<I>, Problem> {
    let v1::UpdateContext { id, expected_generation, tags, client_data } =
        required("context", context)?;
    Ok(Revision {
        id: parse("id", &id)?,
        expected_generation: (expected_generation != 0).then_some(expected_generation),
        tags: Tags::parse(tags)?,
        client_data: client_data_from_wire(client_data)?,
    })
}

/// The wire's form of `revision`.
pub fn revision_to_wire<I: Display>(revision: Revision<I>) -> v1::UpdateContext {
    v1::UpdateContext {
        id: revision.id.to_string(),
        expected_generation: revision.expected_generation.unwrap_or_default(),
        tags: revision.tags.into_map().into_iter().collect(),
        client_data: revision.client_data,
    }
}

pub(super) fn object_from_wire<I: FromStr<Err: Display>, S>(
    metadata: Option<v1::Metadata>,
    spec: S,
) -> Result<Object<I, S>, Problem> {
    let v1::Metadata {
        id,
        generation,
        tags,
        client_data,
        created_at_unix_ms,
        deleting_since_unix_ms,
        claimed,
    } = required("metadata", metadata)?;
    let deleting_since = deleting_since_unix_ms
        .map(|ms| time_from_wire("metadata.deleting_since_unix_ms", ms))
        .transpose()?;
    Ok(Object {
        id: parse("metadata.id", &id)?,
        generation,
        spec,
        tags: Tags::parse(tags)?,
        client_data,
        created_at: time_from_wire("metadata.created_at_unix_ms", created_at_unix_ms)?,
        deleting_since,
        claimed,
    })
}

pub(super) fn object_to_wire<I: Display, S>(object: Object<I, S>) -> (v1::Metadata, S) {
    let metadata = v1::Metadata {
        id: object.id.to_string(),
        generation: object.generation,
        tags: object.tags.into_map().into_iter().collect(),
        client_data: object.client_data,
        created_at_unix_ms: object.created_at.as_millisecond(),
        deleting_since_unix_ms: object.deleting_since.map(|at| at.as_millisecond()),
        claimed: object.claimed,
    };
    (metadata, object.spec)
}
