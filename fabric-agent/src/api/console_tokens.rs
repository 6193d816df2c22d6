//! `weft.v1.ConsoleTokens`, for those who have a certificate, and `weft.v1.ConsoleAccess`, for those who
//! have a token only.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use weft_model::{InstanceId, Problem, Reason};
use weft_proto::v1;
use weft_proto::version::Handshake;

use super::only_grpc::only_grpc;
use super::{Answers, Api, Network, parse_id, refuse, streams};
use crate::console_tokens::LIFETIME_SECONDS;
use crate::context::Context;
use crate::quiet::Quiet;
use crate::repo::Instances;
use crate::tls::listen::{self, Admits, Peer};

/// What a stranger may have sent and not yet seen answered, in bytes: of a handshake, of a message with a
/// token, of a stream, of a connection, of headers.
const MAX_HELLO_BYTES: usize = 1024;
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;
const MAX_HEADER_BYTES: u32 = 8 * 1024;
/// Streams of one connection: a client has a handshake and a console.
const MAX_STREAMS: u32 = 4;

#[tonic::async_trait]
impl v1::console_tokens_server::ConsoleTokens for Api {
    async fn create(
        &self,
        request: Request<v1::CreateConsoleTokenRequest>,
    ) -> Result<Response<v1::ConsoleToken>, Status> {
        let v1::CreateConsoleTokenRequest { instance_id, lifetime_seconds } = request.into_inner();
        let instance: InstanceId =
            instance_id.parse().map_err(|error: weft_model::InvalidId| {
                refuse(Problem::invalid("instance_id", error.to_string()))
            })?;
        let lifetime = lifetime(lifetime_seconds)?;
        self.context.repo.get::<Instances>(&instance).await.map_err(refuse)?;
        let port = self.context.console_port.ok_or_else(|| {
            refuse(
                Problem::new(
                    Reason::FailedPrecondition,
                    "the agent does not listen for holders of console tokens",
                )
                .remedy("start it with fabric-agent serve --console-listen ADDRESS:PORT"),
            )
        })?;
        let made = self.context.console_tokens.mint(instance.clone(), lifetime).map_err(refuse)?;
        tracing::info!(token.id = made.id, instance.id = %instance, lifetime_seconds, "a console token was made");
        Ok(Response::new(shown(made.id, made.token, &instance, lifetime, port)))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewConsoleTokenRequest>,
    ) -> Result<Response<v1::ConsoleToken>, Status> {
        let v1::RenewConsoleTokenRequest { id, lifetime_seconds } = request.into_inner();
        let lifetime = lifetime(lifetime_seconds)?;
        let instance = self.context.console_tokens.renew(&id, lifetime).ok_or_else(|| {
            refuse(
                Problem::not_found(format!("the console token {id} has ended"))
                    .remedy("make another one"),
            )
        })?;
        tracing::info!(token.id = id, instance.id = %instance, lifetime_seconds, "a console token was renewed");
        let port = self.context.console_port.unwrap_or_default();
        Ok(Response::new(shown(id, String::new(), &instance, lifetime, port)))
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeConsoleTokenRequest>,
    ) -> Result<Response<v1::RevokeConsoleTokenResponse>, Status> {
        let id = request.into_inner().id;
        if let Some(instance) = self.context.console_tokens.revoke(&id) {
            tracing::info!(token.id = id, instance.id = %instance, "a console token was revoked");
        }
        Ok(Response::new(v1::RevokeConsoleTokenResponse {}))
    }
}

fn lifetime(seconds: u32) -> Result<Duration, Status> {
    if LIFETIME_SECONDS.contains(&seconds) {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let (least, most) = (LIFETIME_SECONDS.start(), LIFETIME_SECONDS.end());
    let message = format!("a console token cannot live for {seconds} s");
    Err(refuse(
        Problem::invalid("lifetime_seconds", message).remedy(format!("use {least} to {most}")),
    ))
}

fn shown(
    id: String,
    token: String,
    instance: &InstanceId,
    lifetime: Duration,
    port: u16,
) -> v1::ConsoleToken {
    let ends = (SystemTime::now() + lifetime).duration_since(SystemTime::UNIX_EPOCH);
    v1::ConsoleToken {
        id,
        token,
        instance_id: instance.to_string(),
        expires_at_unix_ms: ends.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX)),
        port: port.into(),
    }
}

/// What holders of tokens are served.
#[derive(Debug)]
struct Access {
    context: Arc<Context>,
    quiet: Quiet,
}

impl Access {
    /// One text for all that can be wrong with a token: nobody learns which ones there are.
    fn refused(&self, peer: Option<&Peer>) -> Status {
        let address = peer.map(|peer| peer.address.to_string());
        self.quiet.say(|| tracing::warn!(peer = address, "a console token was refused"));
        Status::unauthenticated("the console token is wrong, has ended or was revoked")
    }
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

#[tonic::async_trait]
impl v1::console_access_server::ConsoleAccess for Access {
    type AttachStream = Answers<v1::ByteChunk>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::ConsoleInput>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        // Before anything of the body is read.
        let peer = request.extensions().get::<Peer>().cloned();
        let grant =
            bearer(request.metadata()).and_then(|token| self.context.console_tokens.check(token));
        let grant = grant.ok_or_else(|| self.refused(peer.as_ref()))?;
        let (id, instance) = (grant.id.clone(), grant.instance.clone());
        let mut input = request.into_inner();
        let hello = input.message().await?.unwrap_or_default();
        if !hello.id.is_empty() && parse_id::<InstanceId>(&hello.id)? != instance {
            self.quiet.say(|| {
                let wanted = &hello.id;
                tracing::warn!(
                    token.id = id,
                    wanted,
                    "a console token was used for another instance"
                );
            });
            return Err(Status::permission_denied("the console token is for another instance"));
        }
        let attached = self.context.console_tokens.attach(&grant).map_err(refuse)?;
        let staying = peer.as_ref().map(Peer::stay).transpose().map_err(refuse)?;
        grant.quiet.say(|| {
            tracing::info!(token.id = id, instance.id = %instance, "a holder of a console token attaches to a console");
        });
        let over = async move {
            let why = grant.ended().await;
            tracing::info!(token.id = id, "a console ends with its token");
            refuse(why)
        };
        streams::attach(&self.context, &instance, hello.data, input, over, (staying, attached))
            .await
    }
}

/// Serves holders of tokens, and nothing but their consoles, until `shutdown`.
pub(super) async fn serve(
    context: Arc<Context>,
    network: Option<Network>,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let Some(Network { listener, certificates }) = network else { return Ok(()) };
    let connections = listen::accept(listener, certificates, Admits::Anyone, shutdown.clone());
    let access = Access { context, quiet: Quiet::default() };
    let access = v1::console_access_server::ConsoleAccessServer::new(access)
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let handshake = Handshake::service(env!("CARGO_PKG_VERSION"));
    let handshake = handshake.max_decoding_message_size(MAX_HELLO_BYTES);
    let here = "this port has consoles for holders of tokens; the agent's API and Terraform's states are \
                at the port of --listen";
    let only_grpc = axum::middleware::from_fn_with_state(here, only_grpc);
    let services = Routes::new(handshake).add_service(access).into_axum_router();
    let nothing_else = move || async move { Status::unimplemented(here).into_http::<Body>() };
    let services = services.fallback(nothing_else).layer(only_grpc);
    Server::builder()
        .http2_keepalive_interval(Some(super::KEEP_ALIVE))
        .http2_max_header_list_size(Some(MAX_HEADER_BYTES))
        .max_concurrent_streams(Some(MAX_STREAMS))
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .trace_fn(|request| {
            let address = request.extensions().get::<Peer>().map(|peer| peer.address.to_string());
            tracing::info_span!("request", rpc = request.uri().path(), client.address = address)
        })
        .add_routes(Routes::from(services))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), shutdown.cancelled_owned())
        .await
}
