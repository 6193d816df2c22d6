//! What is beyond the host: a machine on a network of its own with it, and a web server there.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result};
use weft_acceptance::{Lab, NetNs};

/// The office's end, and the host's towards it: addresses for documentation (RFC 5737).
pub(crate) const OFFICE: &str = "192.0.2.2";
pub(crate) const HOST: &str = "192.0.2.1";

/// A machine that the host reaches by its link `office`, and that has a route to nothing else.
pub(crate) fn office(lab: &Lab) -> Result<NetNs> {
    let (host, office) = (lab.outside()?, NetNs::new()?);
    let name = office.path();
    let name = name.file_name().and_then(|name| name.to_str()).context("a namespace's name")?;
    host.output(&[
        "ip", "link", "add", "office", "type", "veth", "peer", "name", "lan", "netns", name,
    ])?;
    for (netns, link, address) in [(host, "office", HOST), (&office, "lan", OFFICE)] {
        netns.output(&["ip", "address", "add", &format!("{address}/24"), "dev", link])?;
        netns.output(&["ip", "link", "set", link, "up"])?;
    }
    Ok(office)
}

/// Answers every request to `address` in `netns` with "hello", and tells who asked.
pub(crate) fn serve(netns: &NetNs, address: SocketAddr) -> Result<Receiver<SocketAddr>> {
    let listener = netns.listen(address)?;
    let (asked, who) = channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n");
            if asked.send(peer).is_err() {
                return;
            }
        }
    });
    Ok(who)
}

/// Gives each caller of `address` back what it has sent, once it has sent everything.
pub(crate) fn give_back(netns: &NetNs, address: SocketAddr) -> Result<()> {
    let listener = netns.listen(address)?;
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            let _ = stream.write_all(&all);
        }
    });
    Ok(())
}
