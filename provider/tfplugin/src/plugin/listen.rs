//! The socket that Terraform connects to.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// How long a client may take for its TLS handshake.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error("make a private directory for the socket in {dir}")]
    Directory {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("bind the socket {path}")]
    Bind {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("restrict the socket {path} to its owner")]
    Restrict {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A bound socket.
pub(super) struct Socket {
    path: SocketPath,
    listener: UnixListener,
}

/// Where the socket is; dropped, it removes the file and its directory.
pub(super) struct SocketPath(PathBuf);

impl SocketPath {
    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Nothing can be done, and little is lost, if that fails at the end of the process.
        drop(fs::remove_file(&self.0));
        drop(self.0.parent().map(fs::remove_dir));
    }
}

impl Socket {
    /// Binds a socket with mode 0600 in `dir`, else in the directory for temporary files.
    ///
    /// It lies in a directory of its own with mode 0700, since between bind and chmod the
    /// socket's mode depends on the umask.
    pub(super) fn bind(dir: Option<PathBuf>) -> Result<Self, ListenError> {
        let base = dir.unwrap_or_else(std::env::temp_dir);
        let dir = private_directory(&base)
            .map_err(|source| ListenError::Directory { dir: base.clone(), source })?;
        let path = SocketPath(dir.join("plugin.sock"));
        let listener = UnixListener::bind(&path.0)
            .map_err(|source| ListenError::Bind { path: path.0.clone(), source })?;
        fs::set_permissions(&path.0, fs::Permissions::from_mode(0o600))
            .map_err(|source| ListenError::Restrict { path: path.0.clone(), source })?;
        Ok(Self { path, listener })
    }

    /// Accepts connections until `done`. A client that fails its TLS handshake delays no other.
    pub(super) fn accept(
        self,
        tls: Option<TlsAcceptor>,
        done: CancellationToken,
    ) -> (SocketPath, mpsc::Receiver<io::Result<Connection>>) {
        let Self { path, listener } = self;
        let (send, receive) = mpsc::channel(8);
        tokio::spawn(async move {
            let mut handshakes = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted,
                    Some(_) = handshakes.join_next() => continue,
                    () = done.cancelled() => return,
                    () = send.closed() => return,
                };
                let (tls, send) = (tls.clone(), send.clone());
                match stream {
                    Ok((stream, _)) => {
                        handshakes.spawn(async move {
                            if let Some(connection) = secure(stream, tls).await {
                                // Fails only when the server has ended.
                                drop(send.send(Ok(connection)).await);
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
        (path, receive)
    }
}

fn private_directory(base: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let mut attempt = 0_u32;
    loop {
        let dir = base.join(format!("tfplugin-{}-{attempt}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {
                attempt += 1
            }
            Err(error) => return Err(error),
        }
    }
}

async fn secure(stream: UnixStream, tls: Option<TlsAcceptor>) -> Option<Connection> {
    let Some(tls) = tls else { return Some(Connection::Plain(stream)) };
    match tokio::time::timeout(TLS_HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Connection::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a connection was refused: it is not from our terraform");
            None
        }
        Err(_elapsed) => {
            tracing::warn!("a connection was dropped: no TLS handshake within 10 s");
            None
        }
    }
}

/// A connection from Terraform.
pub(super) enum Connection {
    Plain(UnixStream),
    Tls(Box<TlsStream<UnixStream>>),
}

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_leaves_nothing_behind() {
        let base = tempfile::tempdir().unwrap();
        let socket = Socket::bind(Some(base.path().to_owned())).unwrap();
        let mode = fs::metadata(socket.path.as_path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (path, _connections) = socket.accept(None, CancellationToken::new());
        assert!(UnixStream::connect(path.as_path()).await.is_ok());
        drop(path);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_named() {
        let error = Socket::bind(Some("/nonexistent".into())).map(drop).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
