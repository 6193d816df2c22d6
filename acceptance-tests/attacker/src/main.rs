//! Any frame at all, out of a link of a guest or a namespace, and what comes in there.
//!
//! The hostile guest suite (`acceptance-tests/tests/hostile.rs`) decides what is sent: it makes the
//! frames, hands them over line by line and asks what was heard. So this program knows no protocol,
//! and an attack is written in one place. `scripts/build-attacker.sh` builds it static, for guests
//! that have no libraries.
//!
//! ```text
//! send TIMES HEX       -> sent N           the frame, that many times
//! heard HEX            -> heard N          frames that came in since "forget" and hold these bytes
//! frames HEX           -> frames HEX...    those frames themselves
//! forget               -> forgotten
//! tcp ADDRESS PORT HEX -> got HEX          what a TCP connection answers to these bytes
//! ```
//! A line that cannot be carried out is answered with `error` and why.

mod heard;
mod hex;
mod link;
mod tcp;

use std::io::{self, BufRead as _, Write as _};
use std::net::IpAddr;

use heard::Heard;
use link::Link;

fn main() -> io::Result<()> {
    let name = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: attacker LINK"))?;
    let (sender, heard) = (Link::to_send(&name)?, Heard::listen(Link::to_listen(&name)?));
    let mut output = io::stdout().lock();
    writeln!(output, "ready")?;
    for line in io::stdin().lock().lines() {
        let answer = carry_out(&line?, &sender, &heard);
        writeln!(output, "{}", answer.unwrap_or_else(|why| format!("error {why}")))?;
        output.flush()?;
    }
    Ok(())
}

fn carry_out(line: &str, sender: &Link, heard: &Heard) -> io::Result<String> {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["send", times, frame] => {
            let times: u32 = times.parse().map_err(io::Error::other)?;
            let frame = hex::decode(frame)?;
            for _ in 0..times {
                sender.send(&frame)?;
            }
            Ok(format!("sent {times}"))
        }
        ["heard", needle] => Ok(format!("heard {}", heard.with(&hex::decode(needle)?)?.len())),
        ["frames", needle] => {
            let frames = heard.with(&hex::decode(needle)?)?;
            let frames: Vec<_> = frames.iter().map(|frame| hex::encode(frame)).collect();
            Ok(format!("frames {}", frames.join(" ")))
        }
        ["forget"] => heard.forget().map(|()| "forgotten".to_owned()),
        ["tcp", address, port, request] => {
            let address: IpAddr = address.parse().map_err(io::Error::other)?;
            let port: u16 = port.parse().map_err(io::Error::other)?;
            let answer = tcp::ask((address, port).into(), &hex::decode(request)?)?;
            Ok(format!("got {}", hex::encode(&answer)))
        }
        _ => Err(io::Error::other(format!("unknown line {line:?}"))),
    }
}
