//! What may listen on a port of loopback: agents of several kinds, and other programs.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use weft_proto::v1;
use weft_proto::version::{API_VERSION, Handshake, OLDEST_API_VERSION};

use crate::pki::{Days, Pki};

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) fn endpoint(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    pub(crate) async fn agent(pki: &Pki, days: Days) -> Self {
        let service = Handshake::of("0.1.0", OLDEST_API_VERSION, API_VERSION);
        Self::serve(acceptor(pki, pki, days, &[b"h2"]), Routes::new(service)).await
    }

    /// With a certificate of one CA, for clients of another.
    pub(crate) async fn agent_of_two(own: &Pki, clients: &Pki) -> Self {
        let service = Handshake::of("0.1.0", OLDEST_API_VERSION, API_VERSION);
        Self::serve(acceptor(own, clients, Days::VALID, &[b"h2"]), Routes::new(service)).await
    }

    pub(crate) async fn agent_of_version(pki: &Pki, oldest: u32, newest: u32) -> Self {
        let service = Handshake::of("9.8.7", oldest, newest);
        Self::serve(acceptor(pki, pki, Days::VALID, &[b"h2"]), Routes::new(service)).await
    }

    /// As agents were before there was a handshake.
    pub(crate) async fn agent_without_handshake(pki: &Pki) -> Self {
        let service = v1::sessions_server::SessionsServer::new(Nothing);
        Self::serve(acceptor(pki, pki, Days::VALID, &[b"h2"]), Routes::new(service)).await
    }

    /// An HTTP/1.1 server with a certificate of the same CA.
    pub(crate) async fn https(pki: &Pki) -> Self {
        let acceptor = acceptor(pki, pki, Days::VALID, &[]);
        Self::accept(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut request = [0; 16];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                stream.shutdown().await.unwrap();
            }
        })
        .await
    }

    /// Says `words` once it was spoken to, and hangs up.
    pub(crate) async fn plain(words: &'static [u8]) -> Self {
        Self::accept(move |mut stream: TcpStream| async move {
            let mut hello = [0; 1024];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(words).await;
        })
        .await
    }

    async fn accept<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = listen().await;
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream).await;
            }
        });
        Self { port, task }
    }

    async fn serve(acceptor: TlsAcceptor, routes: Routes) -> Self {
        let listener = listen().await;
        let port = listener.local_addr().unwrap().port();
        let streams = TcpListenerStream::new(listener).then(move |stream| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(stream?).await.map(Tls) }
        });
        let task = tokio::spawn(async move {
            let mut server = tonic::transport::Server::builder();
            server.add_routes(routes).serve_with_incoming(streams).await.unwrap();
        });
        Self { port, task }
    }
}

async fn listen() -> TcpListener {
    // Every address of loopback, so that a name which the certificate lacks can be tried.
    TcpListener::bind("0.0.0.0:0").await.unwrap()
}

fn acceptor(own: &Pki, clients: &Pki, days: Days, protocols: &[&[u8]]) -> TlsAcceptor {
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.ca().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto.clone());
    let (certificate, key) = own.server(days);
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A service that an agent without handshake has.
struct Nothing;

#[tonic::async_trait]
impl v1::sessions_server::Sessions for Nothing {
    type OpenStream = tokio_stream::Empty<Result<v1::SessionEvent, tonic::Status>>;
    async fn open(
        &self,
        _: tonic::Request<tonic::Streaming<v1::SessionRequest>>,
    ) -> Result<tonic::Response<Self::OpenStream>, tonic::Status> {
        Err(tonic::Status::unavailable("not here"))
    }
}

/// A stream that tonic takes.
struct Tls(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Tls {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

mod io {
    use std::io::Result;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    impl AsyncRead for super::Tls {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for super::Tls {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }
}
