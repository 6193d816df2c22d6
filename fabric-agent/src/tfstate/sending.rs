//! A state's content on its way to who asked for it.

use std::fs::File;
use std::io;
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt as _, future, stream};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;

/// How long a state may be on its way, as a whole.
pub(crate) const TRANSFER: Duration = Duration::from_secs(120);
const CHUNK_BYTES: usize = 64 * 1024;

/// A file's content, read as it is taken, by who keeps up. A reader that stands still is hung up on, so
/// that it keeps neither file nor place: what it gets ends with an error, never as if it were all.
pub(crate) fn send(
    file: File,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (pieces, receiver) = mpsc::channel(2);
    let (done, is_whole) = oneshot::channel();
    tokio::spawn(async move {
        let _place = place;
        let deadline = Instant::now() + TRANSFER;
        let mut file = tokio::fs::File::from_std(file);
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let read = file.read(&mut chunk).await.map(|length| {
                chunk.truncate(length);
                Bytes::from(chunk)
            });
            if matches!(&read, Ok(chunk) if chunk.is_empty()) {
                // Fails where nobody reads any more.
                let _ = done.send(());
                return;
            }
            let failed = read.is_err();
            let sent = timeout_at(deadline, pieces.send(read)).await;
            if failed || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    });
    let end = async move {
        let cut =
            || io::Error::new(io::ErrorKind::TimedOut, "it was read too slowly: 120 s in all");
        is_whole.await.err().map(|_dropped| Err(cut()))
    };
    ReceiverStream::new(receiver).chain(stream::once(end).filter_map(future::ready))
}
