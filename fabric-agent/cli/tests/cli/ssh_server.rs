//! A guest's SSH server that answers every command with itself and lets the default user in.

use std::sync::Arc;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session};
use russh::{Channel, ChannelId};
use tokio::io::DuplexStream;

/// What the server answers to every command, and how it ends.
pub(crate) const EXIT_STATUS: u32 = 7;

fn host_key() -> PrivateKey {
    Ed25519Keypair::from_seed(&[42; 32]).into()
}

/// Type and base64 of the server's host key.
pub(crate) fn public_host_key() -> String {
    host_key().public_key().to_openssh().unwrap()
}

/// Another host's key.
pub(crate) fn foreign_host_key() -> String {
    let other: PrivateKey = Ed25519Keypair::from_seed(&[43; 32]).into();
    other.public_key().to_openssh().unwrap()
}

pub(crate) async fn serve(stream: DuplexStream) {
    let config = russh::server::Config { keys: vec![host_key()], ..Default::default() };
    // A client that refuses the host key breaks the connection: nothing to report.
    if let Ok(session) = russh::server::run_stream(Arc::new(config), stream, Guest).await {
        let _ = session.await;
    }
}

struct Guest;

impl Handler for Guest {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, russh::Error> {
        Ok(if user == "weft" { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)?;
        session.data(channel, [b"ran: ", command].concat())?;
        session.extended_data(channel, 1, &b"to stderr\n"[..])?;
        session.exit_status_request(channel, EXIT_STATUS)?;
        session.eof(channel)?;
        session.close(channel)
    }
}
