//! A request over TCP by the guest's own kernel, with everything that it takes from its sender.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take: a firewall's silence looks like this.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of an answer.
const LONGEST: u64 = 64 << 10;

/// All that is answered until the end of the connection or of patience.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    // A server that hangs up in the middle has answered too.
    if stream.write_all(request).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        let _ = stream.take(LONGEST).read_to_end(&mut answer);
    }
    Ok(answer)
}
