//! The laboratory: a directory, an agent and, where guests are real, a network namespace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{Agent, Host};
use crate::guest::{Guest, KeyFile};
use crate::leftovers::{self, MARK, RunningProcess, marked_processes};
use crate::netns::NetNs;
use crate::paths::{binary, on_path};
use crate::plan::State;
use crate::process::{Finished, run, skipped};
use crate::small_disk::SmallDisk;
use crate::terraform::Terraform;
use crate::wait::{eventually, within};

/// Where pools are in a lab's directory.
const POOLS: &str = "pools";

/// Everything one story needs. What it made is removed with it, also when the story fails.
#[derive(Debug)]
pub struct Lab {
    // In this order: the agent ends before its namespace and its directory go.
    agent: Agent,
    netns: Option<NetNs>,
    links_before: Vec<String>,
    directory: TempDir,
    closed: bool,
}

impl Lab {
    /// A lab whose host is simulated: needs no root.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn simulated() -> Result<Self> {
        Self::start(Host::Simulated, &[])
    }

    /// As [`Lab::simulated`], with more flags for the agent.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn simulated_with(flags: &[&str]) -> Result<Self> {
        Self::start(Host::Simulated, flags)
    }

    /// As [`Lab::simulated`], with an agent that listens on a port of loopback too.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn simulated_on_tcp() -> Result<Self> {
        Self::start(Host::Simulated, &["--listen", "127.0.0.1:0"])
    }

    /// As [`Lab::simulated_on_tcp`], on a port that stays the same when the agent is started again.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn simulated_on_one_port() -> Result<Self> {
        let flags = on_one_port()?;
        Self::start(Host::Simulated, &["--listen", &flags])
    }

    /// The same, with a state directory on a disk of `mib` MiB: what this thread and what it starts see
    /// of it. `None`, said on standard output, without root.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn simulated_on_a_small_disk(mib: u32) -> Result<Option<(Self, SmallDisk)>> {
        if !geteuid().is_root() {
            skipped("a small disk is mounted by root alone");
            return Ok(None);
        }
        let directory = tempfile::Builder::new().prefix("weft-lab-").tempdir()?;
        let flags = on_one_port()?;
        let flags = ["--listen", flags.as_str()];
        let agent = Agent::new(Host::Simulated, directory.path(), &flags);
        let disk = SmallDisk::at(&agent.state_dir(), mib)?;
        Ok(Some((Self::start_in(directory, Host::Simulated, &flags)?, disk)))
    }

    /// A lab with real guests; `None`, said on standard output, where this machine cannot.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn linux() -> Result<Option<Self>> {
        Self::linux_with(&[])
    }

    /// As [`Lab::linux`], with more flags for the agent.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn linux_with(flags: &[&str]) -> Result<Option<Self>> {
        if let Some(reason) = why_no_guests() {
            skipped(&reason);
            return Ok(None);
        }
        Self::start(Host::Linux, flags).map(Some)
    }

    /// As [`Lab::linux`], for a story that takes minutes: `None`, said on standard output, unless
    /// those are asked for by `WEFT_THOROUGH`.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn thorough() -> Result<Option<Self>> {
        Self::thorough_with(&[])
    }

    /// The same, with more flags for the agent.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn thorough_with(flags: &[&str]) -> Result<Option<Self>> {
        if std::env::var_os("WEFT_THOROUGH").is_none() {
            skipped("this takes minutes and is left to make accept");
            return Ok(None);
        }
        Self::linux_with(flags)
    }

    /// As [`Lab::linux`], with a state directory on a disk of `mib` MiB: what this thread and what it
    /// starts see of it.
    ///
    /// # Errors
    /// The agent does not start.
    pub fn linux_on_a_small_disk(mib: u32) -> Result<Option<(Self, SmallDisk)>> {
        if let Some(reason) = why_no_guests() {
            skipped(&reason);
            return Ok(None);
        }
        let directory = tempfile::Builder::new().prefix("weft-lab-").tempdir()?;
        let agent = Agent::new(Host::Linux, directory.path(), &[]);
        let disk = SmallDisk::at(&agent.state_dir(), mib)?;
        Ok(Some((Self::start_in(directory, Host::Linux, &[])?, disk)))
    }

    /// As [`Lab::linux_with`], with the storage pool `name` on a disk of `mib` MiB, in
    /// [`Lab::pool`].
    ///
    /// # Errors
    /// The agent does not start.
    pub fn linux_with_small_pool(
        name: &str,
        mib: u32,
        flags: &[&str],
    ) -> Result<Option<(Self, SmallDisk)>> {
        if let Some(reason) = why_no_guests() {
            skipped(&reason);
            return Ok(None);
        }
        let directory = tempfile::Builder::new().prefix("weft-lab-").tempdir()?;
        let pool = directory.path().join(POOLS).join(name);
        let disk = SmallDisk::at(&pool, mib)?;
        let flag = format!("--pool={name}={}", pool.display());
        let flags: Vec<&str> =
            std::iter::once(flag.as_str()).chain(flags.iter().copied()).collect();
        Ok(Some((Self::start_in(directory, Host::Linux, &flags)?, disk)))
    }

    /// Where a storage pool is.
    pub fn pool(&self, name: &str) -> PathBuf {
        self.directory().join(POOLS).join(name)
    }

    fn start(host: Host, flags: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("weft-lab-").tempdir()?;
        Self::start_in(directory, host, flags)
    }

    fn start_in(directory: TempDir, host: Host, flags: &[&str]) -> Result<Self> {
        let links_before = leftovers::links();
        let netns = match host {
            Host::Simulated => None,
            Host::Linux => Some(NetNs::new()?),
        };
        let mut agent = Agent::new(host, directory.path(), flags);
        if flags.contains(&"--listen") {
            Agent::init(&agent.state_dir())?;
        }
        agent.start(netns.as_ref())?;
        Ok(Self { agent, netns, links_before, directory, closed: false })
    }

    /// The lab's directory, for files of the story.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The agent.
    pub fn agent(&mut self) -> &mut Agent {
        &mut self.agent
    }

    /// Where the agent listens.
    pub fn endpoint(&self) -> String {
        self.agent.endpoint()
    }

    /// The namespace that the agent runs in: what is outside of every VPC.
    ///
    /// # Errors
    /// The host is simulated.
    pub fn outside(&self) -> Result<&NetNs> {
        self.netns.as_ref().context("a simulated host has no network")
    }

    /// Starts the agent again after it was stopped or killed.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_agent(&mut self) -> Result<()> {
        self.agent.start(self.netns.as_ref())
    }

    /// A new, empty root module.
    ///
    /// # Errors
    /// The provider is not built, or there is no terraform.
    pub fn terraform(&self) -> Result<Terraform> {
        Terraform::new(self.directory(), self.agent.endpoint())
    }

    /// As [`Lab::terraform`], with another provider under the name of ours: the one that lies in
    /// `provider`, and is told `environment`.
    ///
    /// # Errors
    /// There is no terraform.
    pub fn terraform_with(
        &self,
        provider: &Path,
        environment: &[(String, String)],
    ) -> Result<Terraform> {
        let endpoint = self.agent.endpoint();
        Terraform::with_provider(self.directory(), endpoint, provider, environment)
    }

    /// A new key pair in the lab's directory.
    ///
    /// # Errors
    /// There is no ssh-keygen.
    pub fn key(&self, name: &str) -> Result<KeyFile> {
        KeyFile::generate(self.directory(), name)
    }

    /// The guest that `state` knows at `resource`.
    ///
    /// # Errors
    /// The state lacks what is needed.
    pub fn guest(&self, key: &KeyFile, state: &State, resource: &str) -> Result<Guest<'_>> {
        Guest::from_state(self.outside()?, key, self.directory(), state, resource)
    }

    /// The command line `weft ARGS`, not yet run. It runs in the machine's own network
    /// namespace, which has no route to any guest.
    ///
    /// # Errors
    /// It is not built.
    pub fn weft_command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("weft")?);
        command.args(args).env("WEFT_ENDPOINT", self.agent.endpoint());
        command.env(MARK, self.directory()).env_remove("RUST_BACKTRACE");
        Ok(command)
    }

    /// Runs `weft ARGS`; any exit status is an answer.
    ///
    /// # Errors
    /// It cannot be started or does not end.
    pub fn weft(&self, args: &[&str]) -> Result<Finished> {
        run(self.weft_command(args)?, within())
    }

    /// What `weft --json ARGS` tells.
    ///
    /// # Errors
    /// It fails.
    pub fn weft_json(&self, args: &[&str]) -> Result<Value> {
        let args: Vec<_> = std::iter::once("--json").chain(args.iter().copied()).collect();
        let finished = self.weft(&args)?.success()?;
        serde_json::from_str(&finished.stdout).context("parse weft's JSON")
    }

    /// How many objects of a kind, as `weft ls KIND` names it, there are.
    ///
    /// # Errors
    /// `weft ls` fails.
    pub fn count(&self, kind: &str) -> Result<usize> {
        let list = self.weft_json(&["ls", kind])?;
        list.as_array().map(Vec::len).with_context(|| format!("weft ls {kind} gave no list"))
    }

    /// Waits until an instance is in a state.
    ///
    /// # Errors
    /// It stays in another.
    pub fn wait_for_state(&self, id: &str, state: &str) -> Result<Value> {
        eventually(&format!("{id} is {state}"), within(), || {
            let instance = self.weft_json(&["get", id])?;
            Ok((instance["state"] == state).then_some(instance))
        })
    }

    /// Living processes of this lab.
    pub fn processes(&self) -> Vec<RunningProcess> {
        marked_processes(self.directory())
    }

    /// The hypervisors among them.
    pub fn hypervisors(&self) -> Vec<RunningProcess> {
        let is_qemu = |process: &RunningProcess| {
            let program = process.command.split(' ').next().unwrap_or_default();
            program.contains("qemu-system")
        };
        self.processes().into_iter().filter(is_qemu).collect()
    }

    /// Fails if anything on the host still belongs to an instance: a hypervisor, a tap, a rule
    /// with its address, a file with its id. The agent runs on.
    ///
    /// How many sealed layers of disks the agent keeps.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn layers(&self) -> Result<usize> {
        let dir = self.agent.state_dir().join("layers");
        Ok(std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?.count())
    }

    /// # Errors
    /// Something is left; the message says what.
    pub fn assert_instance_is_gone(&self, id: &str, address: &str) -> Result<()> {
        let processes = self.processes();
        let with_id: Vec<_> = processes.iter().filter(|p| p.command.contains(id)).collect();
        ensure!(with_id.is_empty(), "processes of {id} are left: {with_id:?}");
        let state_dir = self.agent.state_dir();
        let files = leftovers::files(&[&state_dir, &self.agent.runtime_dir()], |path| {
            !path.file_name().is_some_and(|name| name.to_string_lossy().contains(id))
        });
        ensure!(files.is_empty(), "files of {id} are left: {files:?}");
        let groups = leftovers::control_groups(id);
        ensure!(groups.is_empty(), "control groups of {id} are left: {groups:?}");
        for pid in self.other_namespaces()? {
            let inside = |words: &[&str]| self.inside_of(pid, words);
            let links = inside(&["ip", "-o", "link", "show", "type", "tun"])?;
            ensure!(links.trim().is_empty(), "taps are left: {links}");
            let rules = inside(&["nft", "list", "ruleset"])?;
            let mentions = rules.lines().any(|line| words_of(line).any(|word| word == address));
            ensure!(!mentions, "the packet filter still knows {address}:\n{rules}");
        }
        Ok(())
    }

    /// One process for each network namespace, besides the agent's, that the lab's processes
    /// are in.
    fn other_namespaces(&self) -> Result<Vec<i32>> {
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let agent = self.agent.pid().and_then(namespace);
        let own = namespace(i32::try_from(std::process::id())?);
        let mut seen: Vec<PathBuf> = [agent, own].into_iter().flatten().collect();
        let mut found = Vec::new();
        for process in self.processes() {
            if let Some(namespace) = namespace(process.pid)
                && !seen.contains(&namespace)
            {
                seen.push(namespace);
                found.push(process.pid);
            }
        }
        Ok(found)
    }

    /// A path to the network namespace of the VPC that a running guest is in.
    ///
    /// # Errors
    /// Nothing of the lab is in another namespace than the agent.
    pub fn namespace_of_guests(&self) -> Result<PathBuf> {
        let pid = *self.other_namespaces()?.first().context("there is no VPC's namespace")?;
        Ok(format!("/proc/{pid}/ns/net").into())
    }

    /// Runs a command in the network namespace of the VPC that a running guest is in.
    ///
    /// # Errors
    /// As [`Lab::namespace_of_guests`]; or it fails.
    pub fn in_network_of_guests(&self, words: &[&str]) -> Result<String> {
        let pid = *self.other_namespaces()?.first().context("there is no VPC's namespace")?;
        self.inside_of(pid, words)
    }

    /// Runs a command in the network namespace of the VPC with this id.
    ///
    /// # Errors
    /// It has none; or the command fails.
    pub fn in_network_of(&self, vpc: &str, words: &[&str]) -> Result<String> {
        let processes = self.processes();
        let argument = format!("hold-netns --vpc {vpc} ");
        let holder = processes.iter().find(|process| process.command.contains(&argument));
        self.inside_of(holder.with_context(|| format!("{vpc} has no namespace"))?.pid, words)
    }

    fn inside_of(&self, pid: i32, words: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").args(words);
        Ok(run(command, within())?.success()?.stdout)
    }

    /// Ends the agent, purges, and fails if anything at all is left on this machine.
    ///
    /// # Errors
    /// Something is left, or the purge failed; the message says what.
    pub fn close(mut self) -> Result<()> {
        self.agent.stop()?;
        self.agent.purge(self.netns.as_ref())?.success()?;
        let mut left = Vec::new();
        // The kernel takes a killed process away in its own time.
        let gone = eventually("the lab's processes end", Duration::from_secs(10), || {
            Ok(self.processes().is_empty().then_some(()))
        });
        if gone.is_err() {
            left.extend(self.processes().iter().map(|p| format!("process {p:?}")));
        }
        if let Some(netns) = &self.netns {
            let links = netns.output(&["ip", "-o", "link", "show"])?;
            let foreign = links.lines().filter(|line| !line.contains(": lo:"));
            left.extend(foreign.map(|line| format!("link {line}")));
            let tables = netns.output(&["nft", "list", "tables"])?;
            left.extend(tables.lines().map(|table| format!("packet filter {table}")));
            let routes = netns.output(&["ip", "route", "show"])?;
            left.extend(routes.lines().map(|route| format!("route {route}")));
            netns.remove()?;
            if netns.exists() {
                left.push("the network namespace".to_owned());
            }
        }
        if leftovers::links() != self.links_before {
            left.push(format!(
                "links of the machine changed from {:?} to {:?}",
                self.links_before,
                leftovers::links()
            ));
        }
        // A small disk of the story's own is in its directory as well, and ends with the story.
        let mounts = leftovers::mounts(self.directory()).into_iter();
        let of_a_pool = format!("{POOLS}/");
        let mounts = mounts.filter(|mount| !mount.contains(&of_a_pool));
        left.extend(mounts.map(|m| format!("mount {m}")));
        let pools = self.directory().join(POOLS);
        // The directories of pools are their operator's.
        let is_pool = |path: &Path| path.parent() == Some(pools.as_path());
        let roots = [self.agent.state_dir(), self.agent.runtime_dir(), pools.clone()];
        let files = leftovers::files(&[&roots[0], &roots[1], &roots[2]], is_pool);
        left.extend(files.iter().map(|path| format!("file {}", path.display())));
        self.closed = true;
        if !left.is_empty() {
            bail!("left behind after purge:\n  {}", left.join("\n  "));
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.closed {
            show_log(&self.agent);
        }
        let _ = self.agent.stop();
        let _ = self.agent.purge(self.netns.as_ref());
        // Whatever the purge missed: a failed story leaves nothing either.
        for process in self.processes() {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
}

fn show_log(agent: &Agent) {
    let log = agent.log();
    let lines: Vec<_> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(60)..].join("\n");
    eprintln!("--- the agent's log, its end\n{tail}\n---");
}

fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).filter(|word| !word.is_empty())
}

/// Why real guests are not possible here.
fn why_no_guests() -> Option<String> {
    if !geteuid().is_root() {
        return Some("real guests need root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    ["qemu-system-x86_64", "nft", "ip", "nsenter", "ssh"]
        .iter()
        .find(|program| on_path(program).is_none())
        .map(|program| format!("{program} is not installed"))
}

/// An address of loopback that nobody has.
fn on_one_port() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
