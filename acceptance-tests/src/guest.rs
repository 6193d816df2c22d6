//! A guest as a person meets it: plain ssh from a machine with a route to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::netns::NetNs;
use crate::paths::output_of;
use crate::plan::State;
use crate::process::{Finished, run};
use crate::wait::{eventually, within};

/// How long a firewall's silence is listened to.
const SILENCE: Duration = Duration::from_secs(2);

/// A key pair in two files.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// The private half.
    pub private: PathBuf,
    /// The public half, one line.
    pub public: String,
}

impl KeyFile {
    /// Makes a new one in `directory`.
    ///
    /// # Errors
    /// There is no ssh-keygen.
    pub fn generate(directory: &Path, name: &str) -> Result<Self> {
        let private = directory.join(name);
        let path = private.to_string_lossy();
        output_of("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path])?;
        let public = std::fs::read_to_string(private.with_extension("pub"))?.trim().to_owned();
        Ok(Self { private, public })
    }
}

/// A running guest, reached from the agent's network namespace.
#[derive(Debug)]
pub struct Guest<'a> {
    netns: &'a NetNs,
    key: KeyFile,
    known_hosts: PathBuf,
    /// Its address.
    pub address: Ipv4Addr,
    user: String,
}

impl<'a> Guest<'a> {
    /// The guest that the state knows at `resource`, trusting only the host key it exports.
    ///
    /// # Errors
    /// The state lacks what is needed.
    pub fn from_state(
        netns: &'a NetNs,
        key: &KeyFile,
        directory: &Path,
        state: &State,
        resource: &str,
    ) -> Result<Self> {
        let address: Ipv4Addr = state.text(resource, "private_ip")?.parse()?;
        let line = state.text(resource, "known_hosts_line")?;
        let known_hosts = directory.join(format!("known_hosts-{address}"));
        std::fs::write(&known_hosts, format!("{line}\n"))?;
        let command = state.text(resource, "ssh_command")?;
        let login = command.strip_prefix("ssh ").context("ssh_command is not ssh")?;
        let (user, host) = login.split_once('@').context("ssh_command names no user")?;
        ensure!(host == address.to_string(), "ssh_command leads to {host}, not to {address}");
        Ok(Self { netns, key: key.clone(), known_hosts, address, user: user.to_owned() })
    }

    fn ssh_command(&self, command: &str) -> Command {
        let mut ssh = self.netns.command("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"])
            // A guest that is gone answers nothing, and one at its address only what is asked.
            .args(["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"])
            .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "LogLevel=INFO"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.known_hosts.display()))
            .arg("-i")
            .arg(&self.key.private)
            .arg(format!("{}@{}", self.user, self.address))
            .arg(command);
        ssh
    }

    /// Runs a command by ssh; any exit status is an answer.
    ///
    /// # Errors
    /// ssh cannot be started or does not end.
    pub fn try_ssh(&self, command: &str) -> Result<Finished> {
        run(self.ssh_command(command), within())
    }

    /// Runs a command by ssh and gives its standard output.
    ///
    /// # Errors
    /// The login or the command failed.
    pub fn ssh(&self, command: &str) -> Result<String> {
        Ok(self.try_ssh(command)?.success()?.stdout)
    }

    /// Starts a web server on `port` that answers with `text`.
    ///
    /// # Errors
    /// It does not answer inside the guest.
    pub fn serve(&self, port: u16, text: &str) -> Result<()> {
        self.ssh(&format!(
            "mkdir -p /tmp/www && echo {text} >/tmp/www/index.html && httpd -p {port} -h /tmp/www"
        ))?;
        let here = self.ssh(&format!("wget -q -O - http://{}:{port}/", self.address))?;
        ensure!(here.trim() == text, "the web server answered {here:?} to its own guest");
        Ok(())
    }

    /// Whether `port` of `other` takes connections from this guest.
    ///
    /// # Errors
    /// The login failed.
    pub fn reaches(&self, other: Ipv4Addr, port: u16) -> Result<bool> {
        // Said, not returned: "timeout" ends wget by a signal. (The -T of a static busybox
        // crashes.)
        let get = format!("timeout 3 wget -q -O /dev/null http://{other}:{port}/");
        match self.ssh(&format!("if {get}; then echo open; else echo closed; fi"))?.trim() {
            "open" => Ok(true),
            "closed" => Ok(false),
            other => bail!("the guest said {other:?}"),
        }
    }

    /// Whether `port` takes connections from outside the VPC.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn is_open_from_outside(&self, port: u16) -> Result<bool> {
        let address = SocketAddr::from((self.address, port));
        Ok(self.netns.connect(address, SILENCE)?.is_ok())
    }

    /// Waits until `port` is open, or closed, from outside.
    ///
    /// # Errors
    /// It stays as it was.
    pub fn wait_from_outside(&self, port: u16, open: bool) -> Result<()> {
        let what = format!("port {port} {} from outside", if open { "open" } else { "closed" });
        eventually(&what, within(), || Ok((self.is_open_from_outside(port)? == open).then_some(())))
    }

    /// Opens a login that stays.
    ///
    /// # Errors
    /// It does not answer.
    pub fn open_session(&self) -> Result<Session> {
        let mut child =
            self.ssh_command("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
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
        let mut session = Session { child, input, lines };
        session.echo("is anybody there")?;
        Ok(session)
    }
}

/// An ssh session with `cat` at its far end.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Session {
    /// Sends a line through the guest and back.
    ///
    /// # Errors
    /// It does not come back.
    pub fn echo(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("write into the session")?;
        let answer = self.lines.recv_timeout(within()).context("read from the session")?;
        ensure!(answer == line, "the session answered {answer:?}");
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
