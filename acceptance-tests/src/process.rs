//! Programs that the stories run: always with a deadline, always ended with what they started.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait::eventually;

/// A program that has ended, and what it said.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit status; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output and standard error.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Itself, if the exit status is 0.
    ///
    /// # Errors
    /// It is not; the message holds all that was said.
    pub fn success(self) -> Result<Self> {
        ensure!(self.status.success(), "{}", self.report());
        Ok(self)
    }

    /// Itself, if the program ended by itself and with another exit status than 0.
    ///
    /// # Errors
    /// It succeeded, or a signal ended it.
    pub fn failure(self) -> Result<Self> {
        ensure!(self.code().is_some_and(|code| code != 0), "expected to fail: {}", self.report());
        Ok(self)
    }

    fn report(&self) -> String {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        format!("{}: {how}\n{}{}", self.command, self.stdout, self.stderr)
    }
}

/// A running program in a process group of its own, which ends with this value.
#[derive(Debug)]
pub struct Background {
    command: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Background {
    /// Its process id, which is its group's too.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// Sends a signal to the whole group, as a terminal does on Ctrl-C.
    ///
    /// # Errors
    /// There is no such group any more.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        killpg(Pid::from_raw(self.pid()), signal)
            .with_context(|| format!("send {signal} to {}", self.command))
    }

    /// Sends a signal to the program alone.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal)
            .with_context(|| format!("send {signal} to {}", self.command))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// wait(2) failed.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it has said on standard output so far.
    ///
    /// # Errors
    /// The file that collects it cannot be read.
    pub fn output(&mut self) -> Result<String> {
        read_all(&mut self.stdout)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end in time; it is killed then.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let what = format!("the end of {}", self.command);
        let status = match eventually(&what, limit, || Ok(self.child.try_wait()?)) {
            Ok(status) => status,
            Err(error) => {
                let said = (read_all(&mut self.stdout)?, read_all(&mut self.stderr)?);
                bail!("{error}\n{}{}", said.0, said.1);
            }
        };
        Ok(Finished {
            command: self.command.clone(),
            status,
            stdout: read_all(&mut self.stdout)?,
            stderr: read_all(&mut self.stderr)?,
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal_group(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn read_all(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Starts a program with no standard input unless the command has one.
///
/// # Errors
/// It cannot be started.
pub fn spawn(mut command: Command) -> Result<Background> {
    let line = describe(&command);
    // Files, not pipes: nobody has to read while the program runs.
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {line}"))?;
    Ok(Background { command: line, child, stdout, stderr })
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started or does not end in `limit`. Any exit status is an answer.
pub fn run(command: Command, limit: Duration) -> Result<Finished> {
    spawn(command)?.finish(limit)
}

pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Says that a story cannot be told on this machine. `scripts/test.sh` counts these.
pub fn skipped(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}
