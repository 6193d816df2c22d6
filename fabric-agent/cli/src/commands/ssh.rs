//! `weft ssh`: a shell in an instance, or one command.

use std::ffi::OsString;
use std::process::ExitCode;

use super::login::{self, Access, Logins, Prompts, Signals};
use crate::agent::Agent;
use crate::failure::Failure;
use crate::target;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    access: Access,
    /// An id or a unique name
    instance: String,
    /// A command to run instead of a shell; its exit status is returned
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let view = target::instance(agent, &args.instance).await?;
    login::reachable(&view)?;
    let logins = Logins::at(agent, &args.access, std::slice::from_ref(&view))?;
    let mut signals = Signals::catch()?;
    let mut ssh = login::spawn(&mut logins.ssh(&view, Prompts::Any, &args.command)?)?;
    let status = signals.outlive(&mut ssh).await;
    let status = status.map_err(|error| Failure::internal("wait for ssh", &error))?;
    Ok(ExitCode::from(login::exit_code(status)))
}
