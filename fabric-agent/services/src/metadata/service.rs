//! Requests to the metadata service and their answers.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, put};
use tokio::sync::Semaphore;
use weft_model::{Timestamp, VpcId};

use super::reach::Reach;
use super::token::{MAX_SECONDS, TokenKey};
use super::{keys, reports, tree};
use crate::directory::{Directory, Guest, NotTaken, Report, Seen};
use crate::refusals::{Refusals, Refused};

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN: &str = "x-aws-ec2-metadata-token";
const TOKEN_SECONDS: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const FORWARDED: &str = "x-forwarded-for";
/// Bytes of a report.
const MAX_REPORT_BYTES: usize = 64 * 1024;
/// Of a path, in what is told about a guest.
const MAX_PATH_SHOWN: usize = 100;
/// What our own paths offer.
const OWN_LIST: &str = "authorized-keys\ncloud-init\nsignal";

/// The metadata of one VPC's guests.
pub(crate) struct Metadata {
    pub(super) vpc: VpcId,
    pub(super) directory: Arc<dyn Directory>,
    key: TokenKey,
    pub(super) refusals: Arc<Refusals>,
    /// Places for requests that wait for other keys.
    pub(super) waiting: Semaphore,
}

impl Metadata {
    pub(crate) fn new(
        vpc: VpcId,
        directory: Arc<dyn Directory>,
        key: TokenKey,
        refusals: Arc<Refusals>,
    ) -> Self {
        let waiting = Semaphore::new(keys::MAX_WAITING);
        Self { vpc, directory, key, refusals, waiting }
    }
}

/// Whoever is at the other end of a connection.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) metadata: Arc<Metadata>,
    pub(super) source: Ipv4Addr,
    reach: Reach,
}

impl Caller {
    /// The guest, if its metadata are served at all.
    pub(super) fn guest(&self) -> Result<Guest, Refusal> {
        let Metadata { vpc, directory, .. } = &*self.metadata;
        let guest = directory.guest(vpc, self.source).ok_or(Refusal::Unknown)?;
        match guest.metadata_options.is_enabled() {
            true => Ok(guest),
            false => Err(Refusal::Disabled),
        }
    }

    /// The guest, if it shows a token of its own; without any, where its options let it read so.
    pub(super) fn guest_that_reads(&self, headers: &HeaderMap) -> Result<Guest, Refusal> {
        self.guest_with_token(headers, |guest| !guest.metadata_options.needs_token())
    }

    /// The guest, if it shows a token of its own; without any, if it `may` do without.
    fn guest_with_token(
        &self,
        headers: &HeaderMap,
        may: fn(&Guest) -> bool,
    ) -> Result<Guest, Refusal> {
        let guest = self.guest()?;
        let Some(token) = headers.get(TOKEN) else {
            return if may(&guest) { Ok(guest) } else { Err(Refusal::NoToken) };
        };
        let now = Timestamp::now().as_second();
        match self.metadata.key.admits(&guest.instance_id, token.as_bytes(), now) {
            true => Ok(guest),
            false => Err(Refusal::NoToken),
        }
    }
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No guest of the VPC has the source address.
    Unknown,
    /// The instance's metadata are switched off.
    Disabled,
    /// It came through a proxy.
    Forwarded,
    /// No token, an ended one, or another guest's.
    NoToken,
    /// The request itself is wrong.
    Bad(String),
    TooLarge,
    NotFound,
    Method,
    OnlyPut,
    /// What it brought could not be kept just now.
    Later,
    TooMany,
}

impl Refusal {
    /// What it counts as, where it is an attempt at something.
    fn counted(&self) -> Option<Refused> {
        match self {
            Self::Unknown => Some(Refused::MetadataStranger),
            Self::Disabled => Some(Refused::MetadataDisabled),
            Self::Forwarded => Some(Refused::MetadataForwarded),
            Self::NoToken => Some(Refused::MetadataNoToken),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let counted = self.counted();
        let (status, text) = match self {
            Self::Unknown => (StatusCode::FORBIDDEN, "no guest has this address".to_owned()),
            Self::Disabled => (
                StatusCode::FORBIDDEN,
                "metadata are disabled for this instance (metadata_options)".to_owned(),
            ),
            Self::Forwarded => (StatusCode::FORBIDDEN, "requests of others are refused".to_owned()),
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                format!("a token is needed: PUT {TOKEN_PATH} with {TOKEN_SECONDS}"),
            ),
            Self::Bad(text) => (StatusCode::BAD_REQUEST, text),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a report has at most {MAX_REPORT_BYTES} bytes"),
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found".to_owned()),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD".to_owned()),
            Self::OnlyPut => (StatusCode::METHOD_NOT_ALLOWED, "only PUT".to_owned()),
            Self::Later => (StatusCode::SERVICE_UNAVAILABLE, "try again".to_owned()),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "no more reports are kept of this launch".to_owned(),
            ),
        };
        let mut response =
            (status, [(header::CONTENT_TYPE, "text/plain")], format!("{text}\n")).into_response();
        if let Some(counted) = counted {
            response.extensions_mut().insert(counted);
        }
        response
    }
}

/// What is served to the guest at `source`, whose connection has this reach.
pub(crate) fn router(metadata: Arc<Metadata>, source: Ipv4Addr, reach: Reach) -> Router {
    let caller = Caller { metadata, source, reach };
    Router::new()
        .route(TOKEN_PATH, put(issue_token))
        .route("/weft/v1/cloud-init", put(take_cloud_init))
        .route("/weft/v1/signal", put(take_signal))
        .route(keys::PATH, any(keys::read))
        .fallback(read)
        .method_not_allowed_fallback(async || Refusal::OnlyPut)
        .layer(middleware::from_fn_with_state(caller.clone(), judge))
        .with_state(caller)
}

/// Refuses what a proxy passed on, as it would hand out the guest's secrets, and counts refusals.
async fn judge(State(caller): State<Caller>, request: Request, next: Next) -> Response {
    let response = match request.headers().contains_key(FORWARDED) {
        true => Refusal::Forwarded.into_response(),
        false => next.run(request).await,
    };
    if let Some(why) = response.extensions().get::<Refused>() {
        caller.metadata.refusals.count(*why, &caller.source);
    }
    response
}

async fn issue_token(
    State(caller): State<Caller>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let guest = caller.guest()?;
    let seconds = headers.get(TOKEN_SECONDS).and_then(|value| value.to_str().ok()?.parse().ok());
    let seconds: u32 = seconds
        .filter(|seconds| (1..=MAX_SECONDS).contains(seconds))
        .ok_or_else(|| Refusal::Bad(format!("set {TOKEN_SECONDS} to 1 to {MAX_SECONDS}")))?;
    let end = Timestamp::now().as_second() + i64::from(seconds);
    caller.reach.limit(guest.metadata_options.hop_limit()).map_err(|error| {
        tracing::warn!(instance.id = %guest.instance_id, %error, "a token's hop limit cannot be set");
        Refusal::Later
    })?;
    let token = caller.metadata.key.issue(&guest.instance_id, end);
    let seen = Seen::Imds(TOKEN_PATH.to_owned());
    caller.metadata.directory.saw(&guest.instance_id, seen);
    let headers =
        [(header::CONTENT_TYPE.as_str(), "text/plain"), (TOKEN_SECONDS, &seconds.to_string())];
    Ok((headers, token).into_response())
}

async fn read(State(caller): State<Caller>, request: Request) -> Result<Response, Refusal> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::Method);
    }
    let guest = caller.guest_that_reads(request.headers())?;
    let path = request.uri().path();
    let content = match path.trim_end_matches('/') {
        "/weft" => b"v1/".to_vec(),
        "/weft/v1" => OWN_LIST.into(),
        _ => tree::find(&guest, path).ok_or(Refusal::NotFound)?.into_owned(),
    };
    let shown = path.chars().filter(|c| !c.is_control()).take(MAX_PATH_SHOWN).collect();
    caller.metadata.directory.saw(&guest.instance_id, Seen::Imds(shown));
    let kind = match path.ends_with("/user-data") {
        true => "application/octet-stream",
        false => "text/plain",
    };
    Ok(([(header::CONTENT_TYPE, kind)], content).into_response())
}

async fn take_cloud_init(
    State(caller): State<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<(), Refusal> {
    take(&caller, &headers, body, reports::cloud_init).await
}

async fn take_signal(
    State(caller): State<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<(), Refusal> {
    take(&caller, &headers, body, reports::signal).await
}

async fn take(
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    parse: fn(&[u8], Timestamp) -> Result<Report, String>,
) -> Result<(), Refusal> {
    // Whom a guest can be made to send a GET for cannot report in its name.
    let guest = caller.guest_with_token(headers, |_| false)?;
    let body = to_bytes(body, MAX_REPORT_BYTES).await.map_err(|_| Refusal::TooLarge)?;
    let report = parse(&body, Timestamp::now()).map_err(Refusal::Bad)?;
    let taken = caller.metadata.directory.report(&guest.instance_id, report).await;
    taken.map_err(|why| match why {
        NotTaken::InTime => Refusal::Later,
        NotTaken::TooMany => Refusal::TooMany,
    })
}

#[cfg(test)]
#[path = "service/tests.rs"]
mod tests;
