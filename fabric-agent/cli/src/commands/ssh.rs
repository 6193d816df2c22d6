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
    ///
    /// It begins with the first word behind the instance and goes to the end of the line; one whose first
    /// word begins with a dash stands behind --
    #[arg(trailing_var_arg = true)]
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_command_follows_the_instance_as_with_ssh() {
        #[rustfmt::skip]
        let cases: [(&[&str], &[&str]); 6] = [
            (&["one"],                              &[]),
            (&["one", "uptime"],                    &["uptime"]),
            (&["one", "--", "uptime", "-p"],        &["uptime", "-p"]),
            (&["one", "ls", "-l", "--", "-i"],      &["ls", "-l", "--", "-i"]),
            (&["-i", "key", "one", "ls", "-i"],     &["ls", "-i"]),
            (&["one", "-i", "key", "uname", "-a"],  &["uname", "-a"]),
        ];
        for (words, want) in cases {
            let words = std::iter::once("ssh").chain(words.iter().copied());
            let args = Line::try_parse_from(words).unwrap().args;
            assert_eq!(args.instance, "one");
            assert_eq!(args.command, want);
        }
        assert!(Line::try_parse_from(["ssh", "one", "--no-such-option"]).is_err());
    }
}
