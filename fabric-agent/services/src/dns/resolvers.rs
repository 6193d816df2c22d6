//! The host's resolvers, as its `resolv.conf` names them.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

const PORT: u16 = 53;
/// As many as the C library asks (`MAXNS` of `resolv.h`).
const MAX: usize = 3;

/// The resolvers of a `resolv.conf`; read again when the file has changed.
#[derive(Debug)]
pub struct Resolvers {
    path: PathBuf,
    port: u16,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The file's time of change and length; `None` is a file that is not there.
    version: Option<(SystemTime, u64)>,
    servers: Arc<[SocketAddr]>,
    read: bool,
}

impl Resolvers {
    /// Those that the file at `path` names.
    pub fn from_file(path: &Path) -> Self {
        Self { path: path.to_owned(), port: PORT, known: Mutex::default() }
    }

    /// Whom to ask now, the first one first.
    pub(super) fn current(&self) -> Arc<[SocketAddr]> {
        let version =
            std::fs::metadata(&self.path).and_then(|meta| Ok((meta.modified()?, meta.len()))).ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.read || known.version != version {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            let servers: Vec<_> =
                parse(&text).take(MAX).map(|address| SocketAddr::new(address, self.port)).collect();
            let file = self.path.display();
            match servers.is_empty() {
                true => tracing::warn!(
                    %file,
                    "the host's resolv.conf names no resolver: guests cannot resolve names"
                ),
                false => tracing::info!(%file, ?servers, "guests' questions for names go there"),
            }
            *known = Known { version, servers: servers.into(), read: true };
        }
        Arc::clone(&known.servers)
    }
}

/// Scopes of link-local IPv6 addresses are not understood: such a server is left out.
fn parse(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_the_nameserver_lines() {
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 192.0.2.1\n nameserver\t::1 \n\
                    nameserver fe80::1%eth0\nnameserver\noptions ndots:1\n";
        let got: Vec<IpAddr> = parse(text).collect();
        assert_eq!(got, ["192.0.2.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let resolvers = Resolvers::from_file(&path);
        assert!(resolvers.current().is_empty(), "no file, nobody to ask");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(*resolvers.current(), ["192.0.2.1:53".parse().unwrap()]);
        std::fs::write(&path, "nameserver 192.0.2.1\nnameserver 192.0.2.22\n").unwrap();
        assert_eq!(resolvers.current().len(), 2);
    }
}
