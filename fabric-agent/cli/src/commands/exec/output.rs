//! What commands say, told apart: line by line, or in one piece.

use std::io::{IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::output::clean;

/// Bytes of a line that are waited for; a longer one is told in pieces.
const LINE_BYTES: usize = 64 * 1024;
/// Bytes of each stream that are kept of each instance.
pub(super) const KEPT_BYTES: usize = 8 << 20;

/// One of a command's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// Where a stream goes.
#[derive(Clone, Debug)]
pub(super) enum Sink {
    /// To the same stream of this process, each line behind this label.
    Lines(Stream, String),
    /// Kept.
    Kept(Arc<Mutex<Kept>>),
}

/// What was kept of a stream.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Its beginning, up to [`KEPT_BYTES`].
    pub(super) bytes: Vec<u8>,
    /// Whether there was more.
    pub(super) truncated: bool,
}

/// Reads `input` to its end.
///
/// # Errors
/// It cannot be read, or this process's own stream takes no more.
pub(super) async fn carry(mut input: impl AsyncRead + Unpin, sink: Sink) -> std::io::Result<()> {
    let mut chunk = vec![0; LINE_BYTES];
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let length = input.read(&mut chunk).await?;
        match &sink {
            Sink::Kept(kept) => keep(kept, &chunk[..length]),
            Sink::Lines(stream, label) => {
                pending.extend_from_slice(&chunk[..length]);
                while let Some(line) = next_line(&mut pending, length == 0) {
                    tell(*stream, label, &line)?;
                }
            }
        }
        if length == 0 {
            return Ok(());
        }
    }
}

fn keep(kept: &Mutex<Kept>, bytes: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let room = KEPT_BYTES - kept.bytes.len();
    kept.truncated |= bytes.len() > room;
    kept.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Takes a whole line, without its end, out of `pending`; at the end of the input, also the rest.
fn next_line(pending: &mut Vec<u8>, is_end: bool) -> Option<Vec<u8>> {
    if let Some(at) = pending.iter().position(|byte| *byte == b'\n') {
        let line = pending.drain(..=at).collect::<Vec<_>>();
        return Some(line[..at].to_vec());
    }
    let is_due = pending.len() >= LINE_BYTES || (is_end && !pending.is_empty());
    is_due.then(|| std::mem::take(pending))
}

fn tell(stream: Stream, label: &str, line: &[u8]) -> std::io::Result<()> {
    match stream {
        Stream::Out => {
            let mut out = std::io::stdout().lock();
            let is_terminal = out.is_terminal();
            write_line(&mut out, is_terminal, label, line)
        }
        Stream::Err => {
            let mut out = std::io::stderr().lock();
            let is_terminal = out.is_terminal();
            write_line(&mut out, is_terminal, label, line)
        }
    }
}

/// On a terminal, no guest can make its line look like another's.
fn write_line(
    out: &mut impl Write,
    is_terminal: bool,
    label: &str,
    line: &[u8],
) -> std::io::Result<()> {
    let mut whole = format!("{label} | ").into_bytes();
    if is_terminal {
        let line = String::from_utf8_lossy(line);
        whole.extend_from_slice(clean(line.trim_end_matches('\r')).as_bytes());
    } else {
        whole.extend_from_slice(line);
    }
    whole.push(b'\n');
    out.write_all(&whole)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Vec<u8>> {
        let mut pending = input.to_vec();
        std::iter::from_fn(|| next_line(&mut pending, true)).collect()
    }

    #[test]
    fn every_byte_is_in_a_line() {
        assert_eq!(lines(b"a\n\nb"), [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
        assert_eq!(lines(b"a\n"), [b"a".to_vec()]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn an_endless_line_is_told_in_pieces() {
        let mut pending = vec![b'x'; LINE_BYTES - 1];
        assert_eq!(next_line(&mut pending, false), None);
        pending.push(b'x');
        assert_eq!(next_line(&mut pending, false).map(|line| line.len()), Some(LINE_BYTES));
        assert!(pending.is_empty());
    }

    #[test]
    fn a_terminal_is_not_steered_by_a_guest_and_a_file_gets_its_bytes() {
        let told = |is_terminal| {
            let mut out = Vec::new();
            write_line(&mut out, is_terminal, "web", b"a\x1b[2K\xff\r").unwrap();
            out
        };
        assert_eq!(told(true), "web | a\\u{1b}[2K\u{fffd}\n".as_bytes());
        assert_eq!(told(false), b"web | a\x1b[2K\xff\r\n");
    }

    #[tokio::test]
    async fn no_more_is_kept_than_there_is_room_for() {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let input = tokio::io::repeat(b'x').take(KEPT_BYTES as u64 + 1);
        carry(input, Sink::Kept(Arc::clone(&kept))).await.unwrap();
        let kept = kept.lock().unwrap();
        assert_eq!((kept.bytes.len(), kept.truncated), (KEPT_BYTES, true));
    }
}
