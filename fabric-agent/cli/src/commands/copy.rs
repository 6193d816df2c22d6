//! `weft cp`: files and directories into a guest and out of it, as an archive through ssh.
//!
//! Every guest with a shell and tar(1) will do, busybox's too; no sftp server is asked for. What a
//! guest sends is not trusted: nothing is written outside of the place that was named.

mod archive;
mod place;

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use weft_model::{InstanceView, Problem, Reason};

use super::login::{self, Access, Logins, Prompts, Signals, shell_words};
use crate::agent::Agent;
use crate::failure::Failure;
use crate::target;

/// Bytes of what a guest says that are shown where it fails.
const SHOWN_BYTES: usize = 4096;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
One side is INSTANCE:PATH, where a relative path begins in the home directory of who logs in:
  weft cp notes.txt web:              into the home directory
  weft cp -r site web:/srv/site       /srv/site is made, or site is put into it where it is there
  weft cp web:/etc/hosts .            out of the guest
  weft cp --sudo nginx.conf web:/etc/nginx/nginx.conf
Directories are copied with all that is in them; modes, times and symbolic links are kept. A file
is there whole or not at all. A local path with a colon is written ./a:b.")]
pub(crate) struct Args {
    #[command(flatten)]
    access: Access,
    /// Read or write in the guest as root, through sudo without a password
    #[arg(long)]
    sudo: bool,
    /// Directories are always copied whole: for those who are used to scp -r
    #[arg(short, long)]
    recursive: bool,
    /// What to copy
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<OsString>,
    /// Where to: a new name, or a directory that is there
    #[arg(value_name = "TARGET")]
    target: OsString,
}

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let _ = args.recursive;
    match place::route(&args.sources, &args.target).map_err(Failure::Usage)? {
        place::Route::Into { instance, sources, path } => {
            let copy = Copy::with(agent, args, &instance).await?;
            for source in &sources {
                copy.put(source, &path, sources.len() > 1).await?;
            }
        }
        place::Route::OutOf { instance, paths, target } => {
            let copy = Copy::with(agent, args, &instance).await?;
            if paths.len() > 1 && !target.is_dir() {
                let message = format!("\"{}\" is not a directory", target.display());
                return Err(Problem::new(Reason::InvalidArgument, message)
                    .remedy("several sources need a directory to be put into")
                    .into());
            }
            for path in &paths {
                copy.get(path, &target).await?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies with one instance.
#[derive(Debug)]
struct Copy<'a> {
    args: &'a Args,
    view: InstanceView,
    logins: Logins<'a>,
}

impl<'a> Copy<'a> {
    async fn with(agent: &'a Agent, args: &'a Args, instance: &str) -> Result<Self, Failure> {
        let view = target::instance(agent, instance).await?;
        login::reachable(&view)?;
        let logins = Logins::at(agent, &args.access, std::slice::from_ref(&view))?;
        Ok(Self { args, view, logins })
    }

    /// ssh with `script`, which any POSIX shell reads, and its arguments.
    fn ssh(
        &self,
        script: &str,
        arguments: &[OsString],
    ) -> Result<tokio::process::Command, Problem> {
        let mut words: Vec<OsString> = Vec::new();
        if self.args.sudo {
            words.extend(["sudo".into(), "-n".into()]);
        }
        words.extend(["sh".into(), "-c".into(), script.into(), "weft-cp".into()]);
        words.extend(arguments.iter().cloned());
        let mut ssh = self.logins.ssh(&self.view, Prompts::Bounded, &[shell_words(&words)])?;
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(ssh)
    }

    async fn put(
        &self,
        source: &Path,
        target: &Path,
        must_be_directory: bool,
    ) -> Result<(), Failure> {
        let what = format!("copy {} to {}", source.display(), self.at(target));
        let source = place::Source::of(source).map_err(|problem| self.told(&what, problem))?;
        let (input, pipe) = std::io::pipe().map_err(|e| Failure::internal("make a pipe", &e))?;
        let arguments = [
            target.as_os_str().to_owned(),
            source.name.clone(),
            if source.is_directory { "directory" } else { "file" }.into(),
            if must_be_directory { "yes" } else { "no" }.into(),
        ];
        let mut ssh = self.ssh(archive::UNPACK, &arguments)?;
        ssh.stdin(input);
        let work = move || archive::pack(&source, pipe);
        self.carry(&what, ssh, work).await
    }

    async fn get(&self, path: &Path, target: &Path) -> Result<(), Failure> {
        let what = format!("copy {} to {}", self.at(path), target.display());
        let to = place::local_target(path, target);
        let (pipe, output) = std::io::pipe().map_err(|e| Failure::internal("make a pipe", &e))?;
        let mut ssh = self.ssh(archive::PACK, &[path.as_os_str().to_owned()])?;
        ssh.stdout(output);
        let work = move || archive::unpack(pipe, &to);
        self.carry(&what, ssh, work).await
    }

    /// Runs `ssh` and `work` beside each other: each ends when the other's end of the pipe does.
    async fn carry(
        &self,
        what: &str,
        mut ssh: tokio::process::Command,
        work: impl FnOnce() -> Result<(), Problem> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut signals = Signals::catch()?;
        let mut child = login::spawn(&mut ssh)?;
        // With it goes this process's copy of ssh's end of the pipe.
        drop(ssh);
        let stderr = child.stderr.take();
        let said = async {
            match stderr {
                Some(stderr) => first_of(stderr).await,
                None => String::new(),
            }
        };
        let work = tokio::task::spawn_blocking(work);
        let (status, said, done) = tokio::join!(signals.outlive(&mut child), said, work);
        let status = status.map_err(|error| Failure::internal("wait for ssh", &error))?;
        let done = done.map_err(|error| Failure::internal("copy", &error))?;
        match (guests_answer(status, &said), done) {
            (None, Ok(())) => Ok(()),
            // A pipe that broke is the consequence of what the guest has said.
            (Some(problem), Ok(())) => Err(self.told(what, problem)),
            (Some(problem), Err(ours)) if ours.reason == Reason::Unavailable => {
                Err(self.told(what, problem))
            }
            (_, Err(ours)) => Err(self.told(what, ours)),
        }
    }

    fn at(&self, path: &Path) -> String {
        let name = self.view.object.spec.name.as_ref().map(ToString::to_string);
        let name = name.unwrap_or_else(|| self.view.object.id.to_string());
        format!("{name}:{}", path.display())
    }

    fn told(&self, what: &str, mut problem: Problem) -> Failure {
        problem.message = format!("cannot {what}: {}", problem.message);
        problem.into()
    }
}

/// The beginning of what ssh and the guest say; the rest is read and dropped.
async fn first_of(mut stream: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut chunk) = (Vec::new(), vec![0; SHOWN_BYTES]);
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        let room = SHOWN_BYTES - kept.len();
        kept.extend_from_slice(&chunk[..length.min(room)]);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// Why the guest's part went wrong, or `None`.
fn guests_answer(status: ExitStatus, said: &str) -> Option<Problem> {
    let message = match login::exit_code(status) {
        0 => return None,
        login::CONNECTION_FAILED => "no login".to_owned(),
        archive::NO_TAR => "the guest has no tar".to_owned(),
        _ if !said.is_empty() => "the guest refuses".to_owned(),
        other => format!("the guest ended with status {other}"),
    };
    let mut problem = Problem::new(Reason::FailedPrecondition, message);
    problem.evidence = (!said.is_empty()).then(|| said.to_owned());
    if said.contains("ermission denied") && login::exit_code(status) != login::CONNECTION_FAILED {
        problem.remedy = Some("name a place that this user may use, or use --sudo".to_owned());
    }
    Some(problem)
}
