//! The floor of a guest's start: the very command line that the agent gave QEMU, with the same
//! kernel, seed, tap and a disk of the same form, but nobody around it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use weft_acceptance::{Lab, eventually};

/// How long QEMU may take to listen or to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked; part of what is measured.
const INTERVAL: Duration = Duration::from_millis(1);

/// A command line that can be run again and again, each time on a fresh root disk.
#[derive(Debug)]
pub(crate) struct ByHand {
    directory: PathBuf,
    /// A path to the network namespace that the tap is in.
    namespace: PathBuf,
    program: String,
    arguments: Vec<String>,
    /// The file under the root disk, and the disk's size in bytes.
    backing: (PathBuf, u64),
}

/// A guest that was started by hand.
#[derive(Debug)]
pub(crate) struct Guest(Child);

impl Guest {
    pub(crate) fn end(mut self) -> Result<()> {
        self.0.kill().context("end QEMU")?;
        self.0.wait().context("wait for QEMU")?;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ByHand {
    /// Returns when QEMU says that the guest's processors run: the same word that the agent waits
    /// for.
    pub(crate) fn await_running(&self) -> Result<()> {
        let (start, socket) = (Instant::now(), self.directory.join("qmp.sock"));
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(INTERVAL),
                Err(error) => return Err(error).context("QEMU does not listen"),
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut writer, mut answers) = (stream.try_clone()?, BufReader::new(stream).lines());
        let mut execute = |command: &str| -> Result<Value> {
            writeln!(writer, "{}", json!({ "execute": command }))?;
            loop {
                let line = answers.next().context("QEMU closed its monitor")??;
                let answer: Value = serde_json::from_str(&line)?;
                // Greeting and events stand between.
                if answer.get("return").is_some() || answer.get("error").is_some() {
                    return Ok(answer);
                }
            }
        };
        execute("qmp_capabilities")?;
        while execute("query-status")?["return"]["status"] != "running" {
            std::thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// Takes the place of the running guest of `id`: pauses the agent, ends the guest's hypervisor,
    /// and can start it again with a fresh root disk. Where the agent passes an open file, the line
    /// that is made here names it.
    pub(crate) fn instead_of(lab: &mut Lab, id: &str) -> Result<Self> {
        let hypervisors = lab.hypervisors();
        let process = hypervisors.iter().find(|process| process.command.contains(id));
        let pid = process.with_context(|| format!("{id} has no hypervisor"))?.pid;
        let directory = lab.directory().join("by-hand");
        std::fs::create_dir_all(&directory)?;

        let instance = lab.agent().state_dir().join("instances").join(id);
        let backing = describe(&instance.join("root.qcow2"))?;
        let seed = directory.join("seed.img");
        std::fs::copy(instance.join("seed.img"), &seed).context("copy the seed")?;
        let files = Files { root: directory.join("root.qcow2"), seed, backing: backing.0.clone() };

        let bytes = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        let mut words = words.map(|word| String::from_utf8_lossy(word).into_owned());
        let program = words.next().context("QEMU has no command line")?;
        let tap = tap_of(pid).with_context(|| format!("the hypervisor of {id}"))?;
        let mut arguments = Vec::new();
        while let Some(word) = words.next() {
            if word == "-add-fd" {
                words.next();
                continue;
            }
            arguments.push(on_its_own(word, pid, &tap, &files, &directory)?);
        }
        let namespace = lab.namespace_of_guests()?;
        lab.agent().pause()?;
        end(pid)?;
        let made = Self { directory, namespace, program, arguments, backing };
        made.make_root_disk()?;
        Ok(made)
    }

    fn make_root_disk(&self) -> Result<()> {
        let (base, size) = &self.backing;
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(base)
            .arg(self.directory.join("root.qcow2"))
            .arg(size.to_string())
            .status()
            .context("run qemu-img")?;
        ensure!(made.success(), "qemu-img: {made}");
        Ok(())
    }

    /// What QEMU has said on standard error.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default()
    }

    /// Starts the guest.
    pub(crate) fn start(&self) -> Result<Guest> {
        // Of the start before; QEMU makes it anew.
        let _ = std::fs::remove_file(self.directory.join("qmp.sock"));
        let child = Command::new("nsenter")
            .arg(format!("--net={}", self.namespace.display()))
            .arg("--")
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.directory.join("qemu.log"))?)
            .spawn()
            .context("start QEMU by hand")?;
        Ok(Guest(child))
    }
}

/// What the descriptors of a guest's disks stand for.
struct Files {
    root: PathBuf,
    seed: PathBuf,
    backing: PathBuf,
}

/// `word` without what only the agent's holder can give: descriptors, tap and sockets.
fn on_its_own(
    word: String,
    pid: i32,
    tap: &str,
    files: &Files,
    directory: &Path,
) -> Result<String> {
    // Its name stays: the device names it.
    if word.starts_with("tap,id=")
        && let Some((named, _)) = word.split_once(",fd=")
    {
        return Ok(format!("{named},ifname={tap},script=no,downscript=no"));
    }
    // The monitor, and what the guest agent is behind where the guest has one.
    if let Some(rest) = word.strip_prefix("socket,id=")
        && let Some((name, _)) = rest.split_once(",fd=")
    {
        let socket = directory.join(format!("{name}.sock"));
        return Ok(format!("socket,id={name},path={},server=on,wait=off", socket.display()));
    }
    // As a word of its own, or as the end of one.
    if let Some((before, fd)) = word.split_once("/proc/self/fd/") {
        let path = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"))?;
        return Ok(format!("{before}{}", path.display()));
    }
    if word.contains("/dev/fdset/") {
        let mut node: Value = serde_json::from_str(&word)?;
        let path = match node["node-name"].as_str() {
            Some("root-file") => &files.root,
            Some("seed-file") => &files.seed,
            Some("backing-file") => &files.backing,
            other => bail!("QEMU has a disk that is not known here: {other:?}"),
        };
        node["filename"] = path.display().to_string().into();
        return Ok(node.to_string());
    }
    Ok(word)
}

/// Ends a hypervisor and returns when it has ended: its tap can be opened again then.
fn end(pid: i32) -> Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGKILL).context("end the guest's hypervisor")?;
    eventually("the guest's hypervisor ends", Duration::from_secs(10), || {
        Ok((!Path::new(&format!("/proc/{pid}")).exists()).then_some(()))
    })
}

/// The tap that a hypervisor has open.
fn tap_of(pid: i32) -> Result<String> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let info = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        // `tun_chr_show_fdinfo` in Linux drivers/net/tun.c.
        if let Some(name) = info.lines().find_map(|line| line.strip_prefix("iff:")) {
            return Ok(name.trim().to_owned());
        }
    }
    bail!("it has no tap")
}

/// The backing file of a qcow2 disk and its size in bytes.
fn describe(disk: &Path) -> Result<(PathBuf, u64)> {
    let output = Command::new("qemu-img")
        .args(["info", "--force-share", "--output=json"])
        .arg(disk)
        .output()
        .context("run qemu-img info")?;
    let info: Value = serde_json::from_slice(&output.stdout)?;
    let base = info["full-backing-filename"].as_str().or_else(|| info["backing-filename"].as_str());
    let base = base.context("the root disk has no backing file")?;
    let size = info["virtual-size"].as_u64().context("the root disk has no size")?;
    Ok((base.into(), size))
}
