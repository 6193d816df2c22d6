//! How every command logs in: the system's ssh through `weft proxy`, with the host keys that the
//! agent made.
//!
//! Nothing is trusted on first use: the known keys are exactly those that the agent injected.

mod arguments;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;

use nix::sys::signal::{Signal as KernelSignal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use weft_model::{InstanceState, InstanceView, Problem, Reason};
use weft_proto::client::ENDPOINT_VARIABLE;

use self::arguments::{Call, known_hosts};
pub(crate) use self::arguments::{Prompts, shell_words};
use crate::agent::Agent;
use crate::failure::Failure;

/// ssh's exit status for its own errors (`man 1 ssh`, EXIT STATUS).
pub(crate) const CONNECTION_FAILED: u8 = 255;

/// Who logs in, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Access {
    /// The private key to log in with
    #[arg(short = 'i', value_name = "KEY")]
    identity: Option<PathBuf>,
    /// Who to log in as, instead of the image's default user
    #[arg(short = 'l', value_name = "USER")]
    user: Option<String>,
}

/// What logins need for as long as they last.
#[derive(Debug)]
pub(crate) struct Logins<'a> {
    agent: &'a Agent,
    access: &'a Access,
    exe: PathBuf,
    /// Only ours; goes away with this value.
    directory: TempDir,
}

impl<'a> Logins<'a> {
    /// Logins at `views`, whose host keys are the only ones that will do.
    ///
    /// # Errors
    /// The private key is not there, the agent knows no host key, or the faults of this machine.
    pub(crate) fn at(
        agent: &'a Agent,
        access: &'a Access,
        views: &[InstanceView],
    ) -> Result<Self, Failure> {
        if let Some(key) = access.identity.as_ref().filter(|key| !key.exists()) {
            let message = format!("the private key \"{}\" does not exist", key.display());
            return Err(Problem::invalid("-i", message).into());
        }
        let exe = std::env::current_exe()
            .map_err(|error| Failure::internal("find the path of this program", &error))?;
        let directory = tempfile::Builder::new()
            .prefix("weft-ssh-")
            .tempdir()
            .map_err(|error| Failure::internal("make a temporary directory", &error))?;
        let logins = Self { agent, access, exe, directory };
        let lines = views.iter().map(known_hosts).collect::<Result<String, _>>()?;
        std::fs::write(logins.known_hosts(), lines)
            .map_err(|error| Failure::internal("write the host's keys", &error))?;
        Ok(logins)
    }

    fn known_hosts(&self) -> PathBuf {
        self.directory.path().join("known_hosts")
    }

    /// ssh to one of the instances, not yet started; without `command`, for a shell.
    ///
    /// # Errors
    /// A [`Problem`] where a path cannot be said in ssh's configuration.
    pub(crate) fn ssh(
        &self,
        view: &InstanceView,
        prompts: Prompts,
        command: &[OsString],
    ) -> Result<Command, Problem> {
        let call = Call {
            exe: &self.exe,
            known_hosts: &self.known_hosts(),
            id: &view.object.id,
            user: self.access.user.as_deref().unwrap_or(&view.assigned.default_user),
            identity: self.access.identity.as_deref(),
            prompts,
            command,
        };
        let mut ssh = Command::new("ssh");
        ssh.args(call.arguments()?)
            .env(ENDPOINT_VARIABLE, self.agent.endpoint().to_string())
            .envs(self.agent.endpoint().credentials().variables());
        Ok(ssh)
    }
}

/// Starts what [`Logins::ssh`] has made.
///
/// # Errors
/// There is no ssh.
pub(crate) fn spawn(ssh: &mut Command) -> Result<Child, Problem> {
    ssh.spawn().map_err(|error| {
        Problem::new(Reason::FailedPrecondition, "cannot start ssh")
            .evidence(error.to_string())
            .remedy("install the OpenSSH client")
    })
}

/// Says early, and with the state's reason, why nobody would answer.
///
/// # Errors
/// The instance does not run.
pub(crate) fn reachable(view: &InstanceView) -> Result<(), Problem> {
    let id = &view.object.id;
    let remedy = match view.status.state {
        InstanceState::Running => return Ok(()),
        InstanceState::Pending | InstanceState::Starting => "wait for it: see weft get".to_owned(),
        InstanceState::Stopping | InstanceState::Stopped => format!("weft start {id}"),
        InstanceState::Failed => format!("see weft get {id} and weft logs {id}"),
        InstanceState::Terminating => "it is being removed".to_owned(),
    };
    let message = format!("instance {id} is {}, not running", view.status.state);
    let mut problem = Problem::new(Reason::FailedPrecondition, message).remedy(remedy);
    problem.evidence = view.status.reason.clone();
    Err(problem)
}

/// What would end this process before its temporary files are removed.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let caught = || -> std::io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
            })
        };
        caught().map_err(|error| Failure::internal("catch signals", &error))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> KernelSignal {
        // Every arm is cancel safe: a signal is kept until it is read.
        tokio::select! {
            _ = self.interrupt.recv() => KernelSignal::SIGINT,
            _ = self.quit.recv() => KernelSignal::SIGQUIT,
            _ = self.terminate.recv() => KernelSignal::SIGTERM,
            _ = self.hang_up.recv() => KernelSignal::SIGHUP,
        }
    }

    /// Waits for ssh. What the terminal sends reaches ssh by itself (one process group); what is
    /// sent to this process is passed on.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn outlive(&mut self, ssh: &mut Child) -> std::io::Result<ExitStatus> {
        loop {
            // The child's end is kept until it is read.
            tokio::select! {
                status = ssh.wait() => return status,
                caught = self.next() => match caught {
                    KernelSignal::SIGINT | KernelSignal::SIGQUIT => {}
                    other => pass_on(ssh, other),
                },
            }
        }
    }
}

/// Sends `signal` to an ssh that has not been waited for.
pub(crate) fn pass_on(ssh: &Child, signal: KernelSignal) {
    // There is no id once the child was reaped, so nobody else can be hit.
    if let Some(id) = ssh.id().and_then(|id| i32::try_from(id).ok()) {
        // It may have ended in between.
        let _ = kill(Pid::from_raw(id), signal);
    }
}

/// As a shell would say it: 128 and the signal's number where a signal ended ssh.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(CONNECTION_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nouns::samples::instance_view;

    #[test]
    fn exit_statuses_are_passed_on() {
        // wait(2): the code is in the second byte, a signal in the first.
        for (raw, want) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (15, 143)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), want);
        }
    }

    #[test]
    fn an_instance_that_does_not_run_says_why() {
        let mut view = instance_view();
        assert_eq!(reachable(&view), Ok(()));
        view.status.state = InstanceState::Stopped;
        view.status.reason = Some("the guest powered off".to_owned());
        let problem = reachable(&view).unwrap_err();
        assert_eq!(problem.remedy.unwrap(), "weft start i-aaaaaaaaaaaaaaaaa");
        assert_eq!(problem.evidence.unwrap(), "the guest powered off");
    }
}
