//! `weft ssh`: the system's ssh through `weft proxy`, with the host key that the agent made.
//!
//! Nothing is trusted on first use: the known keys are exactly those that the agent injected.

mod arguments;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use nix::sys::signal::{Signal as KernelSignal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use weft_model::{InstanceState, InstanceView, Problem, Reason};
use weft_proto::client::ENDPOINT_VARIABLE;

use self::arguments::{Call, known_hosts};
use crate::agent::Agent;
use crate::failure::Failure;
use crate::target;

/// ssh's exit status for its own errors (`man 1 ssh`, EXIT STATUS).
pub(crate) const CONNECTION_FAILED: u8 = 255;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The private key to log in with
    #[arg(short = 'i', value_name = "KEY")]
    identity: Option<PathBuf>,
    /// Who to log in as, instead of the image's default user
    #[arg(short = 'l', value_name = "USER")]
    user: Option<String>,
    /// An id or a unique name
    instance: String,
    /// A command to run instead of a shell; its exit status is returned
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let view = target::instance(agent, &args.instance).await?;
    reachable(&view)?;
    if let Some(key) = args.identity.as_ref().filter(|key| !key.exists()) {
        let message = format!("the private key \"{}\" does not exist", key.display());
        return Err(Problem::invalid("-i", message).into());
    }
    let exe = std::env::current_exe()
        .map_err(|error| Failure::internal("find the path of this program", &error))?;
    // The directory is only ours and goes away with this value.
    let directory = tempfile::Builder::new()
        .prefix("weft-ssh-")
        .tempdir()
        .map_err(|error| Failure::internal("make a temporary directory", &error))?;
    let known_hosts_file = directory.path().join("known_hosts");
    std::fs::write(&known_hosts_file, known_hosts(&view)?)
        .map_err(|error| Failure::internal("write the host's keys", &error))?;
    let call = Call {
        exe: &exe,
        known_hosts: &known_hosts_file,
        id: &view.object.id,
        user: args.user.as_deref().unwrap_or(&view.assigned.default_user),
        identity: args.identity.as_deref(),
        command: &args.command,
    };
    let signals = Signals::catch().map_err(|error| Failure::internal("catch signals", &error))?;
    let child = Command::new("ssh")
        .args(call.arguments()?)
        .env(ENDPOINT_VARIABLE, agent.endpoint().to_string())
        .envs(agent.endpoint().credentials().variables())
        .spawn()
        .map_err(|error| {
            Problem::new(Reason::FailedPrecondition, "cannot start ssh")
                .evidence(error.to_string())
                .remedy("install the OpenSSH client")
        })?;
    let status = signals.outlive(child).await;
    let status = status.map_err(|error| Failure::internal("wait for ssh", &error))?;
    Ok(ExitCode::from(exit_code(status)))
}

/// Says early, and with the state's reason, why nobody would answer.
fn reachable(view: &InstanceView) -> Result<(), Problem> {
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

/// What would end this process before the temporary directory is removed.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for ssh. What the terminal sends reaches ssh by itself (one process group); what is
    /// sent to this process is passed on.
    async fn outlive(mut self, mut ssh: Child) -> std::io::Result<ExitStatus> {
        loop {
            // Every arm is cancel safe: signals and the child's end are kept until they are read.
            tokio::select! {
                status = ssh.wait() => return status,
                _ = self.interrupt.recv() => {}
                _ = self.quit.recv() => {}
                _ = self.terminate.recv() => pass_on(&ssh, KernelSignal::SIGTERM),
                _ = self.hang_up.recv() => pass_on(&ssh, KernelSignal::SIGHUP),
            }
        }
    }
}

fn pass_on(ssh: &Child, signal: KernelSignal) {
    // There is no id once the child was reaped, so nobody else can be hit.
    if let Some(id) = ssh.id().and_then(|id| i32::try_from(id).ok()) {
        // It may have ended in between.
        let _ = kill(Pid::from_raw(id), signal);
    }
}

/// As a shell would say it: 128 and the signal's number where a signal ended ssh.
fn exit_code(status: ExitStatus) -> u8 {
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
