//! The server side of go-plugin, by which Terraform starts and ends a provider.
//!
//! ```text
//! cookie, versions -> listen on a Unix socket -> one handshake line on stdout -> serve
//!    Controller.Shutdown -> on_shutdown (at most 1.5 s) -> end
//!    parent gone         -> end at once, without on_shutdown
//!    SIGINT              -> swallowed: Terraform calls StopProvider instead
//! ```
//!
//! Source: `server.go` and `client.go` of hashicorp/go-plugin 1.6 to 1.8.

mod handshake;
mod lifetime;
mod listen;
mod services;
mod tls;

use std::{io, process::ExitCode, time::Duration};

use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    log::{self, HclogLayer},
    proto::provider_server::ProviderServer,
    provider::Provider,
    schema::InvalidSchema,
    server::Server,
};
use handshake::Mode;
use lifetime::End;

/// The messages of `proto/plugin.proto`.
pub(crate) mod proto {
    #![expect(clippy::allow_attributes, reason = "which of these apply is up to the generator")]
    #![allow(dead_code, missing_debug_implementations, unreachable_pub, reason = "generated")]
    tonic::include_proto!("plugin");
}

/// Largest message either way, in bytes, as terraform-plugin-go has it.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// How long `Provider::on_shutdown` may take: Terraform kills 2 s after its Shutdown call.
const SHUTDOWN_HOOK: Duration = Duration::from_millis(1500);
/// How long open connections may take to end after that.
const DRAIN: Duration = Duration::from_millis(300);

/// Why serving could not begin or ended early.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("the provider describes itself wrongly")]
    Schema(#[source] InvalidSchema),
    #[error("listen for terraform")]
    Listen(#[source] listen::ListenError),
    #[error("set up TLS with terraform")]
    Tls(#[source] tls::TlsError),
    #[error("print the handshake line")]
    Handshake(#[source] io::Error),
    #[error("watch for signals")]
    Signals(#[source] io::Error),
    #[error("serve terraform")]
    Serve(#[source] tonic::transport::Error),
}

/// Serves `provider` to Terraform until that ends. `address` is the provider's source address,
/// such as `example.com/acme/shop`; it matters with `--debug`, which serves any number
/// of runs and prints the `TF_REATTACH_PROVIDERS` to set for them.
pub async fn serve(address: &str, provider: impl Provider) -> ExitCode {
    let parent = lifetime::parent();
    let Some(mode) = handshake::mode(std::env::args(), |name| std::env::var(name).ok()) else {
        explain(handshake::NOT_STARTED_BY_TERRAFORM);
        return ExitCode::FAILURE;
    };
    log_to_stderr(mode);
    match run(address, provider, mode, parent).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            explain(&text);
            ExitCode::FAILURE
        }
    }
}

async fn run(
    address: &str,
    provider: impl Provider,
    mode: Mode,
    parent: i32,
) -> Result<(), ServeError> {
    let server = Server::new(provider).map_err(ServeError::Schema)?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let socket = listen::Socket::bind(variable("PLUGIN_UNIX_SOCKET_DIR").map(Into::into))
        .map_err(ServeError::Listen)?;
    let tls = match (mode, variable("PLUGIN_CLIENT_CERT")) {
        (Mode::Normal, Some(pem)) => Some(tls::mutual(&pem).map_err(ServeError::Tls)?),
        _ => None,
    };
    // Before the handshake, so that no signal can fall between.
    let signals = lifetime::Signals::new().map_err(ServeError::Signals)?;

    let done = CancellationToken::new();
    let services = services::Services::new(done.clone());
    let certificate = tls.as_ref().map(|tls| tls.certificate.clone());
    let (path, connections) = socket.accept(tls.map(|tls| tls.acceptor), done.clone());
    let line = match mode {
        Mode::Normal => {
            let multiplex_asked = variable("PLUGIN_MULTIPLEX_GRPC").is_some();
            handshake::line(path.as_path(), certificate.as_deref(), multiplex_asked)
        }
        Mode::Debug => handshake::reattach(address, path.as_path()),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("plugin", tonic_health::ServingStatus::Serving).await;
    let serving = tonic::transport::Server::builder()
        .add_service(health_service)
        .add_service(services.controller())
        .add_service(services.stdio())
        .add_service(services.broker())
        .add_service(
            ProviderServer::new(server.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .serve_with_incoming_shutdown(
            ReceiverStream::new(connections),
            done.clone().cancelled_owned(),
        );
    handshake::print(&line).map_err(ServeError::Handshake)?;

    let watch = lifetime::end(mode, parent, signals, services.shutdown_asked());
    tokio::pin!(serving);
    let end = tokio::select! {
        end = watch => end,
        served = &mut serving => return served.map_err(ServeError::Serve),
    };
    tracing::info!(?end, "the provider ends");
    if end == End::Graceful {
        // The server goes on meanwhile: the answer to Shutdown must still get out.
        // In a task of its own, so that a panic in it ends nothing else.
        let hook = tokio::spawn(async move { server.on_shutdown().await });
        let hook = tokio::time::timeout(SHUTDOWN_HOOK, hook);
        tokio::pin!(hook);
        tokio::select! {
            finished = &mut hook => if finished.is_err() {
                tracing::warn!("the shutdown hook took longer than 1.5 s and was dropped");
            },
            served = &mut serving => {
                drop(hook.await);
                return served.map_err(ServeError::Serve);
            }
        }
        done.cancel();
        drop(tokio::time::timeout(DRAIN, &mut serving).await);
        return Ok(());
    }
    // Nobody is there to wait for; a return would wait for the runtime's blocking tasks.
    drop(path);
    std::process::exit(1)
}

/// hclog lines on stderr; panics as well, in one line and without a backtrace.
fn log_to_stderr(mode: Mode) {
    let unset = if mode == Mode::Debug { LevelFilter::INFO } else { LevelFilter::OFF };
    let level = log::level(|name| std::env::var(name).ok(), unset);
    // The transport's own noise would drown the provider's lines.
    let quiet = level.min(LevelFilter::WARN);
    let filter = ["h2", "hyper", "hyper_util", "rustls", "tonic", "tower"]
        .into_iter()
        .fold(Targets::new().with_default(level), |filter, target| {
            filter.with_target(target, quiet)
        });
    let layer = HclogLayer::stderr().with_filter(filter);
    // An error means that the program has set up its own subscriber, which is its right.
    drop(tracing_subscriber::registry().with(layer).try_init());
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(panic = %panic, "a panic in the provider");
    }));
}

#[expect(clippy::print_stderr, reason = "for a person or terraform to read before logs exist")]
fn explain(text: &str) {
    eprintln!("{text}");
}
