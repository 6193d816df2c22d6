//! `weft exec`: one command in one instance or in many.
//!
//! With one instance named, it is `ssh -T`: the command's own input, output and exit status. With
//! several, or with `--tag`, the commands run beside each other without input, and what they say is
//! told apart.

mod many;
mod output;
mod targets;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal as KernelSignal;
use tokio::process::Child;
use weft_model::{Problem, Reason};

use super::login::{self, Access, Logins, Prompts, Signals, shell_words};
use crate::agent::Agent;
use crate::failure::{self, Failure};
use crate::output::Format;

/// The exit status where the time was up, as timeout(1)'s.
const TIMED_OUT: u8 = 124;
/// How long ssh has to end in order once it was told to.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A command of one word is read by the guest's shell: weft exec web -- 'df -h | tail -n 1'
A command of several words gets exactly these words: weft exec web -- grep -c 'a b' notes

With one instance, standard input is the command's, and its exit status is returned; ssh's own
failures are 255. With several, the exit status is 0 where all of them ended with 0, else 1.")]
pub(crate) struct Args {
    #[command(flatten)]
    access: Access,
    /// Ids or unique names
    #[arg(value_name = "INSTANCE", required_unless_present = "tags")]
    instances: Vec<String>,
    /// All instances with this tag; with several, those that have them all
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// How many run at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// How long the command may take in each instance, in seconds; for ever unless said
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// With several instances: print what each has said in one piece, once it has ended
    #[arg(long)]
    collect: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Args {
    /// Whether this is about the one instance that it names.
    pub(crate) fn is_for_one(&self) -> bool {
        self.instances.len() == 1 && self.tags.is_empty()
    }

    /// As the guest's shell is told it.
    fn line(&self) -> OsString {
        match self.command.as_slice() {
            [line] => line.clone(),
            words => shell_words(words),
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    let views = targets::find(agent, &args.instances, &args.tags).await?;
    match views.as_slice() {
        [view] if args.is_for_one() && format == Format::Text => {
            login::reachable(view)?;
            let logins = Logins::at(agent, &args.access, &views)?;
            let mut signals = Signals::catch()?;
            let mut ssh = login::spawn(&mut logins.ssh(view, Prompts::Bounded, &[args.line()])?)?;
            let ended = tokio::select! {
                status = signals.outlive(&mut ssh) => {
                    Some(status.map_err(|error| Failure::internal("wait for ssh", &error))?)
                }
                () = pass(args.deadline()) => None,
            };
            match ended {
                Some(status) => Ok(ExitCode::from(login::exit_code(status))),
                None => {
                    give_up(&mut ssh).await;
                    failure::report_problem(&timed_out(&view.object.id.to_string(), args));
                    Ok(ExitCode::from(TIMED_OUT))
                }
            }
        }
        _ => many::run(agent, args, views, format).await,
    }
}

/// Waits as long as a command may take.
async fn pass(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline).await,
        None => std::future::pending().await,
    }
}

/// Has ssh end in order, with its ProxyCommand; in vain, it is killed.
pub(super) async fn give_up(ssh: &mut Child) {
    login::pass_on(ssh, KernelSignal::SIGTERM);
    if tokio::time::timeout(GRACE, ssh.wait()).await.is_err() {
        // It may have ended just now.
        let _ = ssh.kill().await;
    }
}

fn timed_out(who: &str, args: &Args) -> Problem {
    let seconds = args.timeout.unwrap_or_default();
    let message = format!("the command in {who} did not end within {seconds} s");
    Problem::new(Reason::DeadlineExceeded, message)
        .remedy("ssh was ended, but the command may go on in the guest: look with weft ssh")
}
