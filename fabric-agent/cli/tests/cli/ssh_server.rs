//! A guest's SSH server: it lets the default user in and answers every command with itself; for
//! [`RUNNER`] it runs the command on this machine, as a guest would.

use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::sync::Arc;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{Auth, ChannelOpenHandle, Handle, Handler, Msg, Session};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::process::ChildStdin;

/// What the server answers to every command, and how it ends.
pub(crate) const EXIT_STATUS: u32 = 7;

/// Who logs in to have commands run.
pub(crate) const RUNNER: &str = "runner";

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
    if let Ok(session) = russh::server::run_stream(Arc::new(config), stream, Guest::default()).await
    {
        let _ = session.await;
    }
}

#[derive(Default)]
struct Guest {
    user: String,
    /// Of the command that runs.
    input: Option<ChildStdin>,
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, russh::Error> {
        self.user = user.to_owned();
        Ok(if ["weft", RUNNER].contains(&user) { Auth::Accept } else { Auth::reject() })
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
        if self.user == RUNNER {
            self.input = Some(start(channel, command, session.handle()));
            return Ok(());
        }
        session.data(channel, [b"ran: ", command].concat())?;
        session.extended_data(channel, 1, &b"to stderr\n"[..])?;
        session.exit_status_request(channel, EXIT_STATUS)?;
        session.eof(channel)?;
        session.close(channel)
    }

    async fn data(
        &mut self,
        _channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if let Some(input) = &mut self.input
            && input.write_all(data).await.is_err()
        {
            self.input = None;
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        _channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.input = None;
        Ok(())
    }
}

/// Runs `command` by a shell; what it says goes to the channel while it says it.
fn start(channel: ChannelId, command: &[u8], handle: Handle) -> ChildStdin {
    let mut child = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(std::ffi::OsStr::from_bytes(command))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    tokio::spawn(async move {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = out.read(&mut chunk).await {
            let _ = handle.data(channel, chunk[..length].to_vec()).await;
        }
        let mut said = Vec::new();
        let _ = err.read_to_end(&mut said).await;
        let _ = handle.extended_data(channel, 1, said).await;
        let status = child.wait().await.unwrap().code().unwrap_or(1);
        let _ = handle.exit_status_request(channel, u32::try_from(status).unwrap()).await;
        let _ = handle.eof(channel).await;
        let _ = handle.close(channel).await;
    });
    input
}
