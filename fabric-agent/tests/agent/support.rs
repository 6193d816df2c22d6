//! An agent of a test's own: its directory, its process, clients of its services.

mod objects;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Response, Status};
use weft_model::{Problem, Reason};
use weft_proto::client::{Endpoint, connect};
use weft_proto::problem_from_status;

pub(crate) use objects::{
    Api, context, delete, get, id_of, image_spec, instance_spec, rule_spec, sha256_of,
    stop_request, subnet_spec, token, type_spec, update_context, vpc_spec,
};

/// How long anything may take before the test gives up; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A public key for tests.
pub(crate) const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM89Ua0pNfvQfYx9gXsyYj3SPi2G8CW0tVlQ5J1xu73G test";

/// An agent in a directory of its own. Ends with the value.
#[derive(Debug)]
pub(crate) struct Agent {
    directory: TempDir,
    flags: Vec<String>,
    prefix: String,
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
}

/// Where an agent keeps its files; they last as long as the [`Agent`].
#[derive(Clone, Debug)]
pub(crate) struct Files {
    directory: PathBuf,
}

impl Agent {
    /// An agent that answers.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// An agent with settings of its own.
    pub(crate) async fn with(flags: &[&str]) -> Self {
        let mut agent = Self::not_started(flags);
        agent.start_again().await;
        agent
    }

    /// Settings for the next start.
    pub(crate) fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// A place for an agent.
    pub(crate) fn not_started(flags: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("weft-agent-").tempdir().unwrap();
        let flags = flags.iter().map(ToString::to_string).collect();
        let program = env!("CARGO_BIN_EXE_fabric-agent").into();
        // A purge by root looks for kernel objects with the prefix: none but ours may have it.
        let prefix = prefix(directory.path());
        Self { directory, flags, prefix, program, environment: Vec::new(), child: None }
    }

    /// From now on this program is started.
    pub(crate) fn use_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// What the next starts find in their environment.
    pub(crate) fn set_environment(&mut self, environment: &[(&'static str, &str)]) {
        let owned = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
        self.environment = owned.collect();
    }

    /// Another agent, not started, with all that this one, which does not run, had to keep.
    pub(crate) fn copy(&self) -> Self {
        assert!(self.child.is_none(), "the agent runs");
        let mut copy = Self::not_started(&[]);
        copy.flags.clone_from(&self.flags);
        copy.program.clone_from(&self.program);
        copy.prefix.clone_from(&self.prefix);
        copy_dir(&self.state_dir(), &copy.state_dir());
        copy
    }

    /// Its directory: gone with the agent.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// How the process ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    /// What it leaves on the disk, to be looked at while the process comes and goes.
    pub(crate) fn files(&self) -> Files {
        Files { directory: self.directory.path().to_owned() }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.files().state_dir()
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime_dir().join("agent.sock")
    }

    /// `fabric-agent SUBCOMMAND` with these directories.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg(subcommand).env_remove("RUST_LOG").stdin(Stdio::null());
        command.env("NO_PROXY", "*");
        command.arg("--state-dir").arg(self.state_dir());
        command.arg("--runtime-dir").arg(self.runtime_dir());
        command.arg("--prefix").arg(&self.prefix);
        command
    }

    /// `fabric-agent serve`, not yet run.
    pub(crate) fn serve_command(&self) -> Command {
        let mut command = self.command("serve");
        command.args(["--host", "sim", "--shutdown-grace", "1", "--sweep-grace", "0"]);
        command.args(&self.flags);
        command
    }

    /// Starts the process and returns when it answers.
    pub(crate) async fn start_again(&mut self) {
        self.spawn();
        self.answers().await;
    }

    /// Starts the process.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the agent runs already");
        let log = || -> File {
            let path = self.directory.path().join("agent.log");
            OpenOptions::new().create(true).append(true).open(path).unwrap()
        };
        let mut command = self.serve_command();
        self.child = Some(command.stdout(log()).stderr(log()).spawn().unwrap());
    }

    async fn answers(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::net::UnixStream::connect(self.socket()).await.is_err() {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the agent ended ({status}):\n{}", self.log());
            }
            assert!(tokio::time::Instant::now() < deadline, "no answer:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; returns when the process has ended.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let child = self.child.as_mut().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = eventually("the agent has ended", async || {
            self.child.as_mut().unwrap().try_wait().unwrap()
        })
        .await;
        self.child = None;
        status
    }

    /// Whether the process runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Everything the agent has logged.
    pub(crate) fn log(&self) -> String {
        self.files().log()
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint: Endpoint = format!("unix://{}", self.socket().display()).parse().unwrap();
        connect(&endpoint).await.unwrap()
    }

    /// Clients of every service, on one connection.
    pub(crate) async fn api(&self) -> Api {
        Api::new(self.channel().await)
    }

    /// What the simulated host plays from now on, in place of what it was told before: its orders, as JSON.
    /// They are replaced in one step, as it may read them at any time.
    pub(crate) fn order(&self, orders: &str) {
        let (path, new) =
            (self.state_dir().join("sim-orders.json"), self.directory().join("orders"));
        std::fs::write(&new, orders).unwrap();
        std::fs::rename(&new, &path).unwrap();
    }

    /// `fabric-agent purge`.
    pub(crate) fn purge(&self) -> Output {
        self.command("purge").output().unwrap()
    }

    /// What the simulated host holds of a kind: see [`Files::things`].
    pub(crate) fn things(&self, kind: &str) -> Vec<(String, serde_json::Value)> {
        self.files().things(kind)
    }
}

impl Files {
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Everything the agent has logged.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(self.directory.join("agent.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// What the simulated host holds of a kind ("guest", "tap", "firewall"): id and content, as JSON.
    pub(crate) fn things(&self, kind: &str) -> Vec<(String, serde_json::Value)> {
        let file = rusqlite::Connection::open(self.state_dir().join("sim-host.db")).unwrap();
        file.busy_timeout(PATIENCE).unwrap();
        let sql = "SELECT id, content FROM things WHERE kind = ?1 ORDER BY id";
        let mut statement = file.prepare(sql).unwrap();
        let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(|row| {
            let (id, content): (String, String) = row.unwrap();
            (id, serde_json::from_str(&content).unwrap())
        })
        .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            println!("the agent's last words:\n{}", tail.join("\n"));
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).into_iter().flatten() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Four letters or digits from a directory's name, whose last six are random.
fn prefix(directory: &Path) -> String {
    let name = directory.file_name().unwrap().to_string_lossy();
    name.chars().rev().take(4).collect()
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "it never came to be that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What an answer holds.
pub(crate) fn ok<T>(answer: Result<Response<T>, Status>) -> T {
    match answer {
        Ok(response) => response.into_inner(),
        Err(status) => panic!("refused: {:?}", problem_from_status(&status)),
    }
}

/// Why a request was refused.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Problem {
    problem_from_status(&answer.unwrap_err())
}

/// Asserts that a request was refused for `reason` at `field`, with a remedy; returns the message.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    answer: Result<Response<T>, Status>,
    reason: Reason,
    field: &str,
) -> String {
    let problem = refusal(answer);
    assert_eq!((problem.reason, problem.field.as_deref()), (reason, Some(field)), "{problem:?}");
    problem.message
}
