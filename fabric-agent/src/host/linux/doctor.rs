//! `weft doctor`: what was looked at, what was seen, why it matters, how to mend it.

use std::path::PathBuf;

use nix::sys::statvfs::statvfs;
use tokio::process::Command;
use weft_hypervisor::{Cgroups, KvmProbe};
use weft_model::HostFacts;

use crate::config::Directories;
use crate::host::{Check, CheckResult};

/// Less free disk than this is worth a warning, in GiB.
const LOW_DISK_GIB: u64 = 5;

#[derive(Debug)]
pub(super) struct Doctor {
    state_dir: PathBuf,
    probe: KvmProbe,
    hypervisor: String,
}

fn ok(name: &'static str, finding: impl Into<String>) -> Check {
    Check { name, result: CheckResult::Ok, finding: finding.into(), remedy: String::new() }
}

fn bad(
    name: &'static str,
    result: CheckResult,
    finding: impl Into<String>,
    remedy: impl Into<String>,
) -> Check {
    Check { name, result, finding: finding.into(), remedy: remedy.into() }
}

impl Doctor {
    pub(super) fn new(directories: &Directories, facts: &HostFacts, probe: KvmProbe) -> Self {
        Self {
            state_dir: directories.state_dir.clone(),
            probe,
            hypervisor: facts.hypervisor_version.clone(),
        }
    }

    pub(super) async fn checks(&self, cgroups: &Cgroups) -> Vec<Check> {
        vec![
            self.kvm(),
            ok("hypervisor", self.hypervisor.clone()),
            program("qemu-img", &["--version"], "qemu-utils", "root disks cannot be made").await,
            program("nft", &["--version"], "nftables", "security groups cannot be enforced").await,
            tun(),
            forwarding(),
            limits(cgroups),
            self.disk(),
        ]
    }

    fn kvm(&self) -> Check {
        match self.probe.is_usable() {
            true => ok("kvm", self.probe.explain()),
            false => bad(
                "kvm",
                CheckResult::Warning,
                format!(
                    "{}; guests run under software emulation (TCG), many times slower",
                    self.probe.explain()
                ),
                "switch virtualisation on in the firmware, load kvm_intel or kvm_amd, or use a \
                 host that allows nested virtualisation; then restart the agent",
            ),
        }
    }

    fn disk(&self) -> Check {
        let (dir, name) = (&self.state_dir, "disk");
        match statvfs(dir) {
            Ok(stat) => {
                let free_gib = (stat.blocks_available() * stat.fragment_size()) >> 30;
                let finding = format!("{free_gib} GiB free in {}", dir.display());
                match free_gib < LOW_DISK_GIB {
                    false => ok(name, finding),
                    true => bad(
                        name,
                        CheckResult::Warning,
                        format!("{finding}: guests that write stop when it is full"),
                        "remove images or instances, or move --state-dir to a larger disk",
                    ),
                }
            }
            Err(error) => bad(
                name,
                CheckResult::Failed,
                format!("cannot look at {}: {error}", dir.display()),
                "see whether the file system is mounted",
            ),
        }
    }
}

async fn program(program: &'static str, arguments: &[&str], package: &str, without: &str) -> Check {
    match Command::new(program).args(arguments).output().await {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            ok(program, version.lines().next().unwrap_or_default().trim())
        }
        Ok(output) => bad(
            program,
            CheckResult::Failed,
            format!("{program} ends with {}: {without}", output.status),
            format!("reinstall the package {package}"),
        ),
        Err(error) => bad(
            program,
            CheckResult::Failed,
            format!("cannot run {program} ({error}): {without}"),
            format!("apt install {package}"),
        ),
    }
}

fn tun() -> Check {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    match opened {
        Ok(_) => ok("tun", "/dev/net/tun can be opened"),
        Err(error) => bad(
            "tun",
            CheckResult::Failed,
            format!("cannot open /dev/net/tun ({error}): instances get no network"),
            "modprobe tun; in a container, pass the device in",
        ),
    }
}

fn limits(cgroups: &Cgroups) -> Check {
    match cgroups.explain() {
        Ok(finding) => ok("cgroups", finding),
        Err(finding) => bad(
            "cgroups",
            CheckResult::Warning,
            format!("{finding}: one that goes wrong can take what others need"),
            "run the agent on the host and as root, or give its container cgroup v2 and the right \
             to mount; then restart the agent",
        ),
    }
}

fn forwarding() -> Check {
    let path = "/proc/sys/net/ipv4/ip_forward";
    match std::fs::read_to_string(path) {
        Ok(value) if value.trim() == "1" => ok(
            "forwarding",
            "IP forwarding is on in the agent's namespace (the agent switches it on)",
        ),
        Ok(_) => bad(
            "forwarding",
            CheckResult::Failed,
            "IP forwarding is off in the agent's namespace: instances reach nothing outside",
            "something switched it off again: sysctl net.ipv4.ip_forward=1",
        ),
        Err(error) => bad(
            "forwarding",
            CheckResult::Failed,
            format!("cannot read {path}: {error}"),
            "mount /proc",
        ),
    }
}
