//! A client for the agent that a guest may run, QEMU's `qemu-ga`: JSON objects, one a line, over a
//! virtio-serial port.
//!
//! The other end is the guest's: it may be absent, slow, or say anything at all. Each wait has a
//! deadline, each line a bound, and what is passed over too. Where nobody listens in the guest, what
//! is sent waits in the host's socket and is lost when that is closed; so nothing that must not come
//! late is sent before a `guest-sync-delimited` was answered. Protocol: QEMU
//! `docs/interop/qemu-ga-ref` and `qga/qapi-schema.json`.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Longer lines are not read. The answers that are asked for have less than a hundred bytes.
const MAX_LINE_BYTES: usize = 64 << 10;
/// What comes before an answer that is waited for: answers to whoever was there before.
const MAX_PASSED_OVER_BYTES: usize = 256 << 10;
/// Comes in no text in UTF-8; both ends begin anew after it.
const DELIMITER: u8 = 0xff;
/// Characters of what a guest says that are told on.
const MAX_WORDS: usize = 200;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum QgaError {
    /// The command was not answered.
    #[error("\"{command}\" was not answered within {} s", .deadline.as_secs())]
    NoAnswer {
        /// The command.
        command: &'static str,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The guest's agent said no.
    #[error("\"{command}\" was refused: {description}")]
    Refused {
        /// The command.
        command: &'static str,
        /// Its own words, cut, without control characters.
        description: String,
    },
    /// QEMU has ended, or serves somebody else.
    #[error("the connection to the guest's agent is closed")]
    Closed,
    /// The connection could not be used.
    #[error("talk to the guest's agent")]
    Io(#[source] io::Error),
    /// What came is not the protocol.
    #[error("what answers in the guest does not speak a guest agent's protocol: {0}")]
    Protocol(String),
}

/// One conversation.
#[derive(Debug)]
pub struct QgaClient<S> {
    stream: S,
    /// What was read and not looked at yet.
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> QgaClient<S> {
    /// Begins one, with a guest that may or may not answer.
    pub fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// Returns when the guest's agent is found to answer. `id` is one that was not used before.
    pub async fn sync(&mut self, id: u32, deadline: Duration) -> Result<(), QgaError> {
        let command = "guest-sync-delimited";
        let exchange = async {
            self.send(&sync_line(id)).await?;
            self.until_synced(id).await
        };
        timeout(deadline, exchange).await.map_err(|_| QgaError::NoAnswer { command, deadline })?
    }

    /// Has it carry out a command; [`Self::sync`] comes before.
    pub async fn execute(
        &mut self,
        command: &'static str,
        deadline: Duration,
    ) -> Result<Value, QgaError> {
        let exchange = async {
            self.send(&command_line(command)).await?;
            self.answer(command).await
        };
        timeout(deadline, exchange).await.map_err(|_| QgaError::NoAnswer { command, deadline })?
    }

    /// Has it carry out a command after whatever it was told before, also where an answer to that is
    /// still to come. The command is on its way before anything is waited for.
    pub async fn execute_anew(
        &mut self,
        id: u32,
        command: &'static str,
        deadline: Duration,
    ) -> Result<Value, QgaError> {
        let exchange = async {
            let mut lines = sync_line(id);
            lines.extend(command_line(command));
            self.send(&lines).await?;
            self.until_synced(id).await?;
            self.answer(command).await
        };
        timeout(deadline, exchange).await.map_err(|_| QgaError::NoAnswer { command, deadline })?
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), QgaError> {
        self.stream.write_all(bytes).await.map_err(QgaError::Io)
    }

    async fn until_synced(&mut self, id: u32) -> Result<(), QgaError> {
        let mut passed_over = 0;
        loop {
            passed_over += self.until_delimiter(passed_over).await?;
            let line = self.line().await?;
            passed_over += line.len();
            // Of an earlier conversation, perhaps.
            let answer: Option<Value> = serde_json::from_slice(&line).ok();
            if answer.is_some_and(|it| it["return"].as_u64() == Some(id.into())) {
                return Ok(());
            }
        }
    }

    /// Passes over all up to a delimiter; says how much that was.
    async fn until_delimiter(&mut self, before: usize) -> Result<usize, QgaError> {
        let mut passed_over = 0;
        loop {
            if let Some(at) = self.unread.iter().position(|byte| *byte == DELIMITER) {
                self.unread.drain(..=at);
                return Ok(passed_over + at);
            }
            passed_over += self.unread.len();
            self.unread.clear();
            if before + passed_over > MAX_PASSED_OVER_BYTES {
                let what = format!("more than {MAX_PASSED_OVER_BYTES} bytes and no answer");
                return Err(QgaError::Protocol(what));
            }
            self.read().await?;
        }
    }

    async fn answer(&mut self, command: &'static str) -> Result<Value, QgaError> {
        let line = self.line().await?;
        let not_the_protocol = || QgaError::Protocol(words(&String::from_utf8_lossy(&line)));
        let mut answer: Value = serde_json::from_slice(&line).map_err(|_| not_the_protocol())?;
        if let Some(error) = answer.get("error") {
            let description = words(error["desc"].as_str().unwrap_or("it does not say why"));
            return Err(QgaError::Refused { command, description });
        }
        answer.get_mut("return").map(Value::take).ok_or_else(not_the_protocol)
    }

    async fn line(&mut self) -> Result<Vec<u8>, QgaError> {
        let mut looked_at = 0;
        loop {
            let end = self.unread[looked_at..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                return Ok(self.unread.drain(..=looked_at + end).collect());
            }
            looked_at = self.unread.len();
            if looked_at > MAX_LINE_BYTES {
                return Err(QgaError::Protocol(format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            self.read().await?;
        }
    }

    /// Reads what there is, some bytes at least.
    async fn read(&mut self) -> Result<(), QgaError> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk).await.map_err(QgaError::Io)? {
            0 => Err(QgaError::Closed),
            read => {
                self.unread.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }
}

/// The delimiter ends what an earlier conversation may have left unfinished.
fn sync_line(id: u32) -> Vec<u8> {
    let request = json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } });
    let mut line = vec![DELIMITER];
    line.extend(format!("{request}\n").into_bytes());
    line
}

fn command_line(command: &str) -> Vec<u8> {
    format!("{}\n", json!({ "execute": command })).into_bytes()
}

/// What a guest said, fit for people and logs.
fn words(text: &str) -> String {
    let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.trim().chars().take(MAX_WORDS).map(shown).collect()
}

#[cfg(test)]
mod tests;
