//! Where viewers connect to: a port of 127.0.0.1, or a unix socket.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use weft_model::{Problem, Reason};

use crate::failure::Failure;

/// A stream of a viewer.
pub(super) trait Viewer: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Viewer for T {}

/// A socket that listens; one with a path is removed with this.
#[derive(Debug)]
pub(super) enum Place {
    Tcp { listener: TcpListener, port: u16 },
    Unix { listener: UnixListener, path: PathBuf },
}

impl Place {
    /// Port 0 is one that is free.
    pub(super) async fn tcp(port: Option<u16>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            let wanted = port.map_or_else(String::new, |port| format!(":{port}"));
            cannot_listen(&format!("127.0.0.1{wanted}"), &error)
                .remedy("choose another --port, or none for one that is free")
        };
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0))).await;
        let listener = bound.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self::Tcp { listener, port })
    }

    /// For its owner alone, from the first moment on.
    pub(super) fn unix(path: &Path) -> Result<Self, Failure> {
        // This program has one thread that makes files.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(|error| {
            let remedy = "choose another path, or remove what is there if nothing uses it";
            cannot_listen(&path.display().to_string(), &error).remedy(remedy)
        })?;
        Ok(Self::Unix { listener, path: path.to_owned() })
    }

    pub(super) async fn accept(&self) -> Result<Box<dyn Viewer>, Failure> {
        let accepted: std::io::Result<Box<dyn Viewer>> = match self {
            Self::Tcp { listener, .. } => {
                listener.accept().await.map(|(stream, _)| -> Box<dyn Viewer> {
                    // Each movement of the pointer is a few bytes; one that is late is no loss.
                    let _ = stream.set_nodelay(true);
                    Box::new(stream)
                })
            }
            Self::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| -> Box<dyn Viewer> { Box::new(stream) })
            }
        };
        accepted.map_err(|error| Failure::internal("take a viewer's connection", &error))
    }

    /// As viewers take it that know addresses.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp { port, .. } => format!("vnc://127.0.0.1:{port}"),
            Self::Unix { path, .. } => path.display().to_string(),
        }
    }

    /// A command for people.
    pub(super) fn example(&self) -> String {
        match self {
            Self::Tcp { port, .. } => {
                format!("vncviewer 127.0.0.1::{port} (it asks for the password)")
            }
            Self::Unix { path, .. } => format!("vncviewer {}", path.display()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // Gone already is what is wanted.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn cannot_listen(place: &str, error: &std::io::Error) -> Problem {
    let message = format!("cannot listen on {place} for viewers");
    Problem::new(Reason::FailedPrecondition, message).evidence(error.to_string())
}
