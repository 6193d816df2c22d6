//! What simulated guests show: one black dot, and a VNC server that says its first word.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::host::ByteStream;

/// The smallest PNG: eight bits of red, green and blue for one dot.
const DOT: &[u8] = b"\x89PNG\r\n\x1a\n\
      \0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\
      \0\x90wS\xde\
      \0\0\0\x0cIDATx\xdac```\0\0\0\x04\0\x01\
      \xc8\xea\xeb\xf9\
      \0\0\0\0IEND\xaeB`\x82";

/// What a VNC server says first (RFC 6143, section 7.1.1).
const VERSION: &[u8] = b"RFB 003.008\n";

pub(super) fn picture() -> Vec<u8> {
    DOT.to_vec()
}

/// Sends back what it gets after its first word.
pub(super) fn stream() -> Box<dyn ByteStream> {
    let (ours, theirs) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let mut buffer = [0; 1024];
        // A viewer that goes away ends it.
        writer.write_all(VERSION).await?;
        loop {
            match reader.read(&mut buffer).await? {
                0 => return writer.shutdown().await,
                length => writer.write_all(&buffer[..length]).await?,
            }
        }
    });
    Box::new(ours)
}
