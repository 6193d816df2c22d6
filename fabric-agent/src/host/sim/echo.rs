//! The far end of a simulated guest's display or console.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::host::ByteStream;

/// Sends back what it gets, after its first word.
pub(super) fn after(first: Vec<u8>) -> Box<dyn ByteStream> {
    let (ours, theirs) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let mut buffer = [0; 1024];
        // Whoever looks on and goes away ends it.
        writer.write_all(&first).await?;
        loop {
            match reader.read(&mut buffer).await? {
                0 => return writer.shutdown().await,
                length => writer.write_all(&buffer[..length]).await?,
            }
        }
    });
    Box::new(ours)
}
