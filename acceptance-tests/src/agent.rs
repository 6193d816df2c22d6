//! The agent of a lab: started, killed and started again.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::leftovers::MARK;
use crate::netns::NetNs;
use crate::paths::binary;
use crate::process::{Finished, run};
use crate::wait::{eventually, within};

/// What the agent's host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Files; no root needed.
    Simulated,
    /// This machine, guests under software emulation.
    Linux,
}

/// An agent that can be started more than once over the same directories.
#[derive(Debug)]
pub struct Agent {
    host: Host,
    lab: PathBuf,
    flags: Vec<String>,
    program: &'static str,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Agent {
    pub(crate) fn new(host: Host, lab: &Path, flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (program, environment) = ("fabric-agent", Vec::new());
        Self { host, lab: lab.to_owned(), flags, program, environment, child: None }
    }

    /// From its next start on it is the one with crash points. It removes what nothing wants soon after
    /// a start: stories of crashes start it often, and look whether anything is left.
    ///
    /// # Errors
    /// That is not built.
    pub fn use_crash_points(&mut self) -> Result<()> {
        let program = "crash-points/fabric-agent";
        binary(program).context("run scripts/build-crash-points.sh")?;
        self.program = program;
        self.flags.extend(["--sweep-grace", "5"].map(str::to_owned));
        Ok(())
    }

    /// What its next starts find in their environment besides.
    pub fn set_environment(&mut self, environment: &[(&'static str, &str)]) {
        let owned = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
        self.environment = owned.collect();
    }

    /// Whether it was started and has ended by itself.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn has_ended(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(false),
        }
    }

    /// Whether it stands still, as by SIGSTOP.
    pub(crate) fn is_paused(&self) -> bool {
        let Some(pid) = self.pid() else { return false };
        // proc_pid_stat(5): the state comes after the name, which is in parentheses.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Where it keeps what must survive.
    pub fn state_dir(&self) -> PathBuf {
        self.lab.join("state")
    }

    /// Where its socket is.
    pub fn runtime_dir(&self) -> PathBuf {
        self.lab.join("run")
    }

    /// What clients set `WEFT_ENDPOINT` to.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.runtime_dir().join("agent.sock").display())
    }

    /// Where it listens on TCP, as it says in its log.
    ///
    /// # Errors
    /// It was not started with `--listen`.
    pub fn port(&self) -> Result<u16> {
        let log = self.log();
        let line = log.lines().rev().find(|line| line.contains("listening on TCP"));
        let line: serde_json::Value = serde_json::from_str(line.context("no TCP in the log")?)?;
        let address = line["address"].as_str().and_then(|text| text.rsplit_once(':'));
        Ok(address.context("no address in the log")?.1.parse()?)
    }

    /// Makes certificates in `state_dir`, as a person would.
    ///
    /// # Errors
    /// `fabric-agent init` fails.
    pub fn init(state_dir: &Path) -> Result<()> {
        let mut command = Command::new(binary("fabric-agent")?);
        command.arg("init").arg("--state-dir").arg(state_dir);
        run(command, within())?.success().map(drop)
    }

    /// Makes a certificate for another client of the agent with `state_dir`, and gives its folder.
    ///
    /// # Errors
    /// `fabric-agent init` fails.
    pub fn client(state_dir: &Path, name: &str) -> Result<PathBuf> {
        let folder = state_dir.join("tls/clients").join(name);
        if !folder.exists() {
            let mut command = Command::new(binary("fabric-agent")?);
            command.args(["init", "--client", name, "--state-dir"]).arg(state_dir);
            run(command, within())?.success()?;
        }
        Ok(folder)
    }

    /// What it has logged, all starts together.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.lab.join("agent.log")).unwrap_or_default()
    }

    pub(crate) fn start(&mut self, netns: Option<&NetNs>) -> Result<()> {
        ensure!(self.child.is_none(), "the agent runs already");
        let program = binary(self.program)?;
        let log = File::options().create(true).append(true).open(self.lab.join("agent.log"))?;
        let mut command = match netns {
            Some(netns) => netns.command(program),
            None => Command::new(program),
        };
        let word = match self.host {
            Host::Simulated => "sim",
            Host::Linux => "linux",
        };
        // What it fetches comes from this machine.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .args(["--host", word, "--accel", "tcg"])
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--runtime-dir")
            .arg(self.runtime_dir())
            .args(&self.flags)
            .env(MARK, &self.lab)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        self.child = Some(command.spawn().context("start fabric-agent")?);
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let socket = self.runtime_dir().join("agent.sock");
        eventually("the agent answers on its socket", within(), || {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("the agent ended: {status}\n{}", tail(&self.lab.join("agent.log")));
            }
            Ok(UnixStream::connect(&socket).ok().map(drop))
        })
    }

    /// The process, while it was not ended by us.
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    /// Stops it where it is, until [`Agent::resume`]: SIGSTOP.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("the agent does not run")?;
        kill(Pid::from_raw(pid), signal).context("signal the agent")
    }

    /// Ends it as a crash would: no warning, guests and everything else untouched.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent does not run")?;
        child.kill().context("kill the agent")?;
        child.wait().context("wait for the agent")?;
        Ok(())
    }

    /// Ends it as systemd would.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Ok(pid) = i32::try_from(child.id()) {
            // It may have ended by itself; the wait below sees that.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            // One that stands still hears nothing.
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
        let ended = eventually("the agent ends when told to", Duration::from_secs(30), || {
            Ok(child.try_wait()?)
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended.map(drop)
    }

    /// Removes all that the agent ever made, as `fabric-agent purge` promises.
    pub(crate) fn purge(&self, netns: Option<&NetNs>) -> Result<Finished> {
        let program = binary("fabric-agent")?;
        let mut command = match netns {
            Some(netns) => netns.command(program),
            None => Command::new(program),
        };
        command.arg("purge").arg("--state-dir").arg(self.state_dir());
        command.arg("--runtime-dir").arg(self.runtime_dir()).env(MARK, &self.lab);
        run(command, within())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last lines of a log, for messages.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
