//! `/metrics` over HTTP, on an address of the host's own.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weft_model::PoolName;

use super::metrics::{OfAgent, render};
use super::{AgentFigures, PATIENCE, exposition};
use crate::context::Context;
use crate::host::pools::{Pool, Pools, Room};

/// Where it is served unless told otherwise.
const DEFAULT: &str = "127.0.0.1:9743";

/// What an operator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsListen {
    /// Nowhere.
    Off,
    /// There, or the agent does not start.
    At(SocketAddr),
}

impl FromStr for MetricsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:9743, or off".to_owned()),
        }
    }
}

/// Listens as asked. Where nothing was asked, several agents of a machine share the usual port: who
/// comes second does without, and says so.
pub(crate) async fn listen(asked: Option<MetricsListen>) -> anyhow::Result<Option<TcpListener>> {
    let listener = match asked {
        Some(MetricsListen::Off) => return Ok(None),
        Some(MetricsListen::At(address)) => {
            let listening = TcpListener::bind(address).await;
            listening.with_context(|| format!("cannot serve metrics on {address}"))?
        }
        None => match TcpListener::bind(DEFAULT).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(
                    %error,
                    "metrics are not served: {DEFAULT} cannot be had; set --metrics-listen"
                );
                return Ok(None);
            }
        },
    };
    tracing::info!(address = %listener.local_addr()?, "metrics are served");
    Ok(Some(listener))
}

/// Serves until `shutdown`; without a listener there is only that to wait for.
pub(crate) async fn serve(
    context: Arc<Context>,
    listener: Option<TcpListener>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(listener) = listener else {
        shutdown.cancelled().await;
        return Ok(());
    };
    let routes = Router::new().route("/metrics", get(metrics)).with_state(context);
    let end = shutdown.clone();
    tokio::select! {
        served = axum::serve(listener, routes).into_future() => Ok(served?),
        () = end.cancelled() => Ok(()),
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> Response {
    let reconciler = &context.reconciler;
    let samples = context.monitor.samples(reconciler).await;
    let host = context.host.facts();
    let rooms = tokio::time::timeout(PATIENCE, rooms(context.host.pools().clone())).await;
    let agent = OfAgent {
        pools: rooms.unwrap_or_else(|_| {
            tracing::debug!("a storage pool does not tell how much room it has");
            Vec::new()
        }),
        figures: &reconciler.figures,
        store: context.repo.figures(),
        host,
        free_memory_mib: context.ledger.free_memory_mib(),
        free_vcpus: host.vcpus.saturating_sub(context.ledger.used_vcpus()),
    };
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], render(&samples, &agent)).into_response()
}

/// The pools that are there. A network's file system may take its time.
async fn rooms(pools: Pools) -> Vec<(PoolName, Room)> {
    let look = move || {
        let there = pools.all().filter(|(name, pool)| pool.is_there(name));
        let room =
            |(name, pool): (&PoolName, &Pool)| Some((name.clone(), Room::of(&pool.dir).ok()?));
        there.filter_map(room).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Counts a request of the API when it is answered: a failed one says its code in its headers.
pub(crate) async fn count(
    State(figures): State<Arc<AgentFigures>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok());
    figures.request(&path, code.and_then(|code| code.parse().ok()).unwrap_or(0));
    response
}
