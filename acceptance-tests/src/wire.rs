//! A guest's or a namespace's link, byte by byte: the program of `attacker/` at its far end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::Lab;
use crate::netns::NetNs;
use crate::paths::binary;
use crate::process::describe;
use crate::wait::within;

/// Where the program lies in a guest.
const IN_GUEST: &str = "/tmp/weft-attacker";

/// A link that anything can be sent out of, and that hears all that comes in.
#[derive(Debug)]
pub struct Wire {
    name: String,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Wire {
    /// The only link of a guest, by `weft ssh` with the private key at `key`.
    ///
    /// # Errors
    /// The program is not built, cannot be copied into the guest or does not start there.
    pub fn in_guest(lab: &Lab, key: &str, name: &str) -> Result<Self> {
        let ssh = |command: &str| lab.weft_command(&["ssh", "-i", key, name, "--", command]);
        let mut copy = ssh(&format!("cat >{IN_GUEST} && chmod +x {IN_GUEST}"))?;
        copy.stdin(File::open(program()?)?).stdout(Stdio::null());
        let copied = copy.status().context("start weft ssh")?;
        ensure!(copied.success(), "copy the attacker into {name}: {copied}");
        Self::start(name, ssh(&format!("sudo {IN_GUEST} eth0"))?)
    }

    /// A link of a namespace on this machine.
    ///
    /// # Errors
    /// The program is not built, or there is no such link.
    pub fn in_namespace(name: &str, netns: &NetNs, link: &str) -> Result<Self> {
        let mut command = netns.command(program()?);
        command.arg(link);
        Self::start(name, command)
    }

    fn start(name: &str, mut command: Command) -> Result<Self> {
        let line = describe(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {line}"))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let wire = Self { name: name.to_owned(), child, input, lines };
        wire.answer("ready")?;
        Ok(wire)
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").with_context(|| format!("write to {}", self.name))
    }

    /// The rest of an answer that begins with `word`.
    fn answer(&self, word: &str) -> Result<String> {
        let answer = self.lines.recv_timeout(within());
        let answer = answer.with_context(|| format!("{} does not answer", self.name))?;
        match answer.split_once(' ').unwrap_or((&answer, "")) {
            (first, rest) if first == word => Ok(rest.to_owned()),
            _ => bail!("{} answered {answer:?}, not {word}", self.name),
        }
    }

    /// Sends each of the frames `times` times; returns how many that is.
    ///
    /// # Errors
    /// The link takes one of them not.
    pub fn send(&mut self, frames: &[Vec<u8>], times: u32) -> Result<u64> {
        // A few at a time: neither side may fill a pipe while the other does the same.
        for some in frames.chunks(64) {
            for frame in some {
                self.tell(&format!("send {times} {}", to_hex(frame)))?;
            }
            for _ in some {
                self.answer("sent")?;
            }
        }
        Ok(u64::try_from(frames.len())? * u64::from(times))
    }

    /// How many frames with these bytes have come in.
    ///
    /// # Errors
    /// Some came too fast to be heard.
    pub fn heard(&mut self, needle: &[u8]) -> Result<u64> {
        self.tell(&format!("heard {}", to_hex(needle)))?;
        Ok(self.answer("heard")?.parse()?)
    }

    /// The frames with these bytes that have come in.
    ///
    /// # Errors
    /// Some came too fast to be heard.
    pub fn frames(&mut self, needle: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.tell(&format!("frames {}", to_hex(needle)))?;
        self.answer("frames")?.split_ascii_whitespace().map(from_hex).collect()
    }

    /// Forgets what has come in.
    ///
    /// # Errors
    /// It does not answer.
    pub fn forget(&mut self) -> Result<()> {
        self.tell("forget")?;
        self.answer("forgotten").map(drop)
    }

    /// What a server answers to `request` over TCP, spoken by the guest's own kernel; `None` where
    /// there is no connection.
    ///
    /// # Errors
    /// It does not answer.
    pub fn tcp(&mut self, address: Ipv4Addr, port: u16, request: &[u8]) -> Result<Option<Vec<u8>>> {
        self.tell(&format!("tcp {address} {port} {}", to_hex(request)))?;
        let answer = self.lines.recv_timeout(within())?;
        match answer.split_once(' ') {
            Some(("got", bytes)) => from_hex(bytes).map(Some),
            Some(("error", _)) => Ok(None),
            _ => bail!("{} answered {answer:?}", self.name),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Result<std::path::PathBuf> {
    binary("attacker/weft-attacker").context("run scripts/build-attacker.sh")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = str::from_utf8(pair).context("not hexadecimal")?;
            u8::from_str_radix(pair, 16).with_context(|| format!("not hexadecimal: {pair}"))
        })
        .collect()
}
