//! States as Terraform's backend `http` asks for them, on the TCP listener: who comes here has shown
//! a certificate.
//!
//! ```text
//! GET    /state/NAME           the latest version; 404: there is none, which Terraform takes for empty
//! POST   /state/NAME[?ID=LOCK] the next version
//! LOCK   /state/NAME           423 with who holds it, where it is taken
//! UNLOCK /state/NAME           without a body: by force, as `terraform force-unlock` sends it
//! ```
//!
//! Of what goes wrong Terraform shows the status alone, the text is for who asks by hand. What is
//! answered with 5xx it asks again, twice, after 1 s and more, and then shows not even that.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};
use weft_model::{Problem, Reason};

use super::files::Staged;
use super::sending::{TRANSFER, send};
use super::{LockInfo, Refusal, Right, StateName, States, Version, Who, whole};
use crate::tls::listen::Peer;

/// How long a state that comes may take from one piece to the next.
const PIECE: Duration = Duration::from_secs(20);
/// Terraform's description of a lock has 200 bytes; how much of it is kept says [`LockInfo`].
const MAX_LOCK_BYTES: usize = 16 * 1024;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// What the handlers work with.
#[derive(Clone, Debug)]
struct Backend {
    states: Arc<States>,
}

/// The paths of states.
pub(crate) fn routes(states: Arc<States>) -> Router {
    Router::new().route("/state/{name}", any(state)).with_state(Backend { states })
}

async fn state(
    State(backend): State<Backend>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let who = Who { client: peer.client, from: peer.address.to_string() };
    let outcome = match name.parse::<StateName>() {
        Ok(name) => backend.answer(&name, who, request).await,
        Err(problem) => Err(problem.into()),
    };
    outcome.unwrap_or_else(Failure::into_response)
}

/// Why a request was refused.
enum Failure {
    Refusal(Refusal, Option<LockInfo>),
    /// Where the status says more than the reason.
    Status(StatusCode, Problem),
}

impl<R: Into<Refusal>> From<R> for Failure {
    fn from(refusal: R) -> Self {
        Self::Refusal(refusal.into(), None)
    }
}

impl Failure {
    fn into_response(self) -> Response {
        let (status, problem) = match self {
            Self::Refusal(Refusal::Locked(lock), asker) => {
                tracing::info!(held = lock.holder(), "refused: the Terraform state is locked");
                // Terraform reads the holder's lock out of this, and nothing else.
                let text = serde_json::to_vec(&lock.shown_to(asker.as_ref())).unwrap_or_default();
                let reply = (StatusCode::LOCKED, [(CONTENT_TYPE, "application/json")], text);
                return reply.into_response();
            }
            Self::Refusal(Refusal::Problem(problem), _) => (status_of(problem.reason), problem),
            Self::Status(status, problem) => (status, problem),
        };
        // Without the evidence, which may be words of the state.
        tracing::info!(%status, error = %problem, "a request for a Terraform state was refused");
        answer(status, &problem)
    }
}

fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::InvalidArgument | Reason::OutOfRange => StatusCode::BAD_REQUEST,
        Reason::NotFound => StatusCode::NOT_FOUND,
        Reason::AlreadyExists
        | Reason::InUse
        | Reason::StaleGeneration
        | Reason::FailedPrecondition => StatusCode::CONFLICT,
        Reason::ResourceExhausted => StatusCode::INSUFFICIENT_STORAGE,
        Reason::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
        Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is wrong, what was seen and what to do, a line each.
fn answer(status: StatusCode, problem: &Problem) -> Response {
    let mut text = format!("error: {}\n", problem.message);
    for (name, part) in [("evidence", &problem.evidence), ("help", &problem.remedy)] {
        if let Some(part) = part {
            text.push_str(&format!("{name}: {part}\n"));
        }
    }
    (status, text).into_response()
}

impl Backend {
    async fn answer(
        &self,
        name: &StateName,
        who: Who,
        request: Request,
    ) -> Result<Response, Failure> {
        let (head, body) = request.into_parts();
        match head.method.as_str() {
            "GET" => self.get(name).await,
            "POST" => self.post(name, who, &head.uri, &head.headers, body).await,
            "LOCK" => {
                let info = LockInfo::parse(&small(body).await?)?;
                let (states, of, asker) = (Arc::clone(&self.states), name.clone(), info.clone());
                let locked = whole(async move { states.lock(&of, info, who).await }).await;
                locked.map_err(|refusal| Failure::Refusal(refusal, Some(asker)))?;
                Ok(StatusCode::OK.into_response())
            }
            "UNLOCK" => {
                let body = small(body).await?;
                let id = match body.is_empty() {
                    true => None,
                    false => Some(LockInfo::parse(&body)?.id),
                };
                let (states, of) = (Arc::clone(&self.states), name.clone());
                whole(async move { states.unlock(&of, id.as_deref()).await }).await?;
                Ok(StatusCode::OK.into_response())
            }
            _ => Ok(other_method(&head.method)),
        }
    }

    async fn get(&self, name: &StateName) -> Result<Response, Failure> {
        let place = self.states.place().await?;
        let found = self.states.open_version(name, None).await?;
        let Some((version, file)) = found else {
            // Every configuration begins with it.
            return Ok(answer(StatusCode::NOT_FOUND, &super::no_such(name)));
        };
        let Version { bytes, md5, .. } = version;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        if let Ok(md5) = HeaderValue::from_str(&md5) {
            headers.insert(CONTENT_MD5, md5);
        }
        Ok((headers, Body::from_stream(send(file, place))).into_response())
    }

    async fn post(
        &self,
        name: &StateName,
        who: Who,
        uri: &Uri,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Failure> {
        let lock = lock_id(uri);
        let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if declared.and_then(|length| length.parse().ok()) > Some(self.states.limits().max_bytes) {
            return Err(self.too_large());
        }
        self.states.check(name, right(lock.as_deref())).await?;
        let _place = self.states.place().await?;
        let staged = self.receive(body).await?;
        if let Some(md5) = headers.get(CONTENT_MD5)
            && md5.as_bytes() != staged.md5.as_bytes()
        {
            let problem = Problem::invalid("state", "what came is not what was sent");
            return Err(problem.evidence("Content-MD5 does not fit it").into());
        }
        let (states, name) = (Arc::clone(&self.states), name.clone());
        let written = async move { states.write(&name, staged, right(lock.as_deref()), who).await };
        whole(written).await?;
        Ok(StatusCode::OK.into_response())
    }

    async fn receive(&self, body: Body) -> Result<Staged, Failure> {
        let deadline = Instant::now() + TRANSFER;
        let mut incoming = self.states.receive()?;
        let mut body = body.into_data_stream();
        while let Some(chunk) = next(&mut body, deadline).await? {
            if incoming.bytes() + chunk.len() as u64 > self.states.limits().max_bytes {
                return Err(self.too_large());
            }
            incoming.write(&chunk).await?;
        }
        Ok(incoming.finish().await?)
    }

    fn too_large(&self) -> Failure {
        let mib = self.states.limits().max_bytes >> 20;
        let problem = Problem::invalid("state", format!("the state has more than {mib} MiB"))
            .remedy("divide it, or start the agent with a larger --tfstate-max-mib");
        Failure::Status(StatusCode::PAYLOAD_TOO_LARGE, problem)
    }
}

/// The next piece of a body, unless it takes too long.
async fn next(
    body: &mut axum::body::BodyDataStream,
    deadline: Instant,
) -> Result<Option<Bytes>, Problem> {
    let until = deadline.min(Instant::now() + PIECE);
    match timeout_at(until, body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(error))) => {
            let problem = Problem::invalid("state", "the request ended in its middle");
            Err(problem.evidence(error.to_string()))
        }
        Err(_elapsed) => Err(Problem::new(
            Reason::DeadlineExceeded,
            "the request came too slowly: 20 s without a byte, or 120 s in all",
        )),
    }
}

/// The whole of a body that is small.
async fn small(body: Body) -> Result<Vec<u8>, Problem> {
    let deadline = Instant::now() + PIECE;
    let mut body = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(chunk) = next(&mut body, deadline).await? {
        if whole.len() + chunk.len() > MAX_LOCK_BYTES {
            return Err(Problem::invalid("lock", "the lock's description is too long"));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}

/// `?ID=`, with which Terraform says that it holds the lock.
fn lock_id(uri: &Uri) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == "ID").map(|(_, id)| id.into_owned())
}

fn right(lock: Option<&str>) -> Right<'_> {
    lock.map_or(Right::Unlocked, Right::Lock)
}

/// DELETE is none of them on purpose: with `unlock_method = "DELETE"` and one address for all, as
/// other backends have it, an unlock would remove the state.
fn other_method(method: &Method) -> Response {
    let problem = Problem::invalid("method", format!("a state has no {method}")).remedy(
        "leave update_method, lock_method and unlock_method of the backend as they are by default; \
         weft state rm removes a state",
    );
    let mut reply = answer(StatusCode::METHOD_NOT_ALLOWED, &problem);
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, LOCK, UNLOCK"));
    reply
}

#[cfg(test)]
mod tests;
