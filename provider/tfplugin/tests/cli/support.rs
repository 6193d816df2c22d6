//! Runs `terraform` with the example provider, offline and apart from the user's settings.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tempfile::TempDir;

/// The built `examples/noop.rs`, which cargo puts beside the test's own directory.
pub(crate) fn provider() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples/noop");
    assert!(path.exists(), "{} is not built: run cargo test, not the test binary", path.display());
    path
}

/// A directory with a configuration and a CLI configuration of its own.
pub(crate) struct Workspace {
    dir: TempDir,
}

impl Workspace {
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        std::os::unix::fs::symlink(provider(), plugins.join("terraform-provider-noop")).unwrap();
        let cli = format!(
            "provider_installation {{\n  dev_overrides {{\n    \"example.com/test/noop\" = {plugins:?}\n  }}\n}}\n"
        );
        fs::write(dir.path().join("cli.tfrc"), cli).unwrap();
        let workspace = Self { dir };
        workspace.configure(config);
        workspace
    }

    pub(crate) fn configure(&self, config: &str) {
        let required = "terraform {\n  required_providers {\n    noop = { source = \"example.com/test/noop\" }\n  }\n}\n";
        fs::write(self.dir.path().join("main.tf"), format!("{required}{config}")).unwrap();
    }

    pub(crate) fn state(&self) -> String {
        fs::read_to_string(self.dir.path().join("terraform.tfstate")).unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.start(arguments, &[]).end()
    }

    /// Starts terraform in a process group of its own.
    pub(crate) fn start(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = Command::new("terraform");
        for (name, _) in std::env::vars() {
            if name.starts_with("TF_") || name == "RUST_BACKTRACE" {
                command.env_remove(name);
            }
        }
        let (out, err) = (self.dir.path().join("out.txt"), self.dir.path().join("err.txt"));
        let child = command
            .args(arguments)
            .arg("-no-color")
            .current_dir(self.dir.path())
            .env("TF_CLI_CONFIG_FILE", self.dir.path().join("cli.tfrc"))
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_IN_AUTOMATION", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .process_group(0)
            .spawn()
            .expect("terraform must be on PATH for these tests");
        Running { child, out, err }
    }
}

pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub(crate) fn wait_until(&self, what: &str, text: &str) {
        wait_for(Duration::from_secs(60), what, || self.text().contains(text));
    }

    /// Ctrl-C at a terminal: everybody in the group gets it.
    pub(crate) fn interrupt_group(&self) {
        killpg(self.pid(), Signal::SIGINT).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The provider that works: the youngest child of terraform that lives.
    pub(crate) fn plugin(&self) -> Pid {
        let parent = self.pid().to_string();
        let children = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let stat = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
            // pid (name) state parent ...; proc(5)
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let alive = fields.next()? != "Z";
            (alive && fields.next()? == parent).then(|| name.parse::<i32>().ok())?
        });
        Pid::from_raw(children.max().expect("terraform has a provider running"))
    }

    pub(crate) fn end(mut self) -> Run {
        let status = self.child.wait().unwrap();
        Run { status, text: self.text() }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn text(&self) -> String {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        // Terraform draws a frame and wraps lines; both are in the way.
        let text = format!("{}{}", read(&self.out), read(&self.err));
        text.replace("│ ", "").replace("│", "")
    }
}

/// What a finished command said.
pub(crate) struct Run {
    status: ExitStatus,
    text: String,
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Self { status: output.status, text: String::from_utf8_lossy(&text).into_owned() }
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) -> &Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(flat(&self.text).contains(&flat(text)), "{text:?} is missing in:\n{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn says_once(&self, text: &str) -> &Self {
        assert_eq!(flat(&self.text).matches(&flat(text)).count(), 1, "{text:?} in:\n{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn says_not(&self, text: &str) -> &Self {
        assert!(!flat(&self.text).contains(&flat(text)), "{text:?} is in:\n{}", self.text);
        self
    }
}

/// Without line breaks, since Terraform wraps.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The provider, started by hand with `--debug`.
pub(crate) struct Debugged {
    child: Child,
    reattach: String,
}

impl Debugged {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(provider())
            .arg("--debug")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let quoted = line.trim().strip_prefix("TF_REATTACH_PROVIDERS=").unwrap();
        Self { reattach: quoted.trim_matches('\'').to_owned(), child }
    }

    pub(crate) fn reattach(&self) -> String {
        self.reattach.clone()
    }
}

impl Drop for Debugged {
    fn drop(&mut self) {
        // Ctrl-C, as a person would end it: it removes its socket.
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
    }
}

pub(crate) fn is_alive(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

#[track_caller]
pub(crate) fn wait_for(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
