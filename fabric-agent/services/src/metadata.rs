//! The metadata service: EC2's paths under EC2's rules, and a few of our own.
//!
//! A guest is known by its source address. Everything but the token itself needs a token
//! (IMDSv2), our own paths too, unless the instance's `metadata_options` say otherwise.

mod keys;
mod reach;
pub(crate) mod reports;
pub(crate) mod service;
mod token;
mod tree;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::guests::{HostLimit, Limits, Place};
use crate::refusals::Refused;
use crate::sockets::accept;
pub(crate) use reach::Reach;
pub(crate) use service::Metadata;
pub use token::TokenKey;

/// Connections that one guest may have at once, and all guests of a VPC.
const PER_GUEST: usize = 32;
const IN_VPC: usize = 1024;
/// How long a request's head may take to come.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection may live at all, whatever goes over it.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Answers until it is dropped; connections end with it. `host` is shared by all VPCs.
pub(crate) async fn serve(listener: TcpListener, metadata: Metadata, host: HostLimit) {
    let metadata = Arc::new(metadata);
    let limits = Limits::new(PER_GUEST, IN_VPC, &host);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer) = accept(&listener, "metadata").await;
        // Over its limit, or not even an IPv4 address: hung up on.
        let SocketAddr::V4(peer) = peer else { continue };
        match limits.take(*peer.ip()) {
            Some(place) => {
                connections.spawn(connection(stream, Arc::clone(&metadata), place));
            }
            None => metadata.refusals.count(Refused::MetadataTooMany, peer.ip()),
        }
    }
}

async fn connection(stream: TcpStream, metadata: Arc<Metadata>, place: Place) {
    let Ok(reach) = Reach::of(&stream) else {
        return metadata.refusals.count(Refused::MetadataTooMany, &place.guest());
    };
    let router = service::router(Arc::clone(&metadata), place.guest(), reach);
    match tokio::time::timeout(CONNECTION_DEADLINE, serve_on(stream, router)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            if error.is_parse() || error.is_timeout() {
                metadata.refusals.count(Refused::MetadataMalformed, &place.guest());
            }
            tracing::debug!(guest = %place.guest(), %error, "metadata connection broke")
        }
        Err(_) => tracing::debug!(guest = %place.guest(), "metadata connection lived too long"),
    }
}

/// Speaks HTTP on `stream` until either side has said all.
pub(crate) async fn serve_on(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: axum::Router,
) -> hyper::Result<()> {
    let service = TowerToHyperService::new(
        router.map_request(|request: hyper::Request<_>| request.map(axum::body::Body::new)),
    );
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        // A shell script with nc has said all before it is answered.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await
}
