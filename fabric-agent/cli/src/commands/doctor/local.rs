//! What can be judged on this machine without an agent.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use weft_proto::v1::DoctorCheck;

use super::check;

/// A machine as far as it is looked at; tests give it another root.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
    search_path: OsString,
    is_root: bool,
}

impl Machine {
    /// The one that this program runs on.
    pub(super) fn this() -> Self {
        Self {
            root: PathBuf::from("/"),
            search_path: std::env::var_os("PATH").unwrap_or_default(),
            is_root: nix::unistd::geteuid().is_root(),
        }
    }

    /// Everything that an agent needs, except for itself.
    pub(super) fn host_checks(&self) -> Vec<DoctorCheck> {
        vec![self.kvm(), self.hypervisor(), self.tun(), self.control_groups(), self.privilege()]
    }

    /// What `weft ssh` runs.
    pub(super) fn ssh_client(&self) -> DoctorCheck {
        match self.program("ssh") {
            Some(path) => check("ssh client", "ok", path.display().to_string(), ""),
            None => check(
                "ssh client",
                "warning",
                "ssh is not on PATH, so weft ssh cannot work here",
                "install the OpenSSH client",
            ),
        }
    }

    fn kvm(&self) -> DoctorCheck {
        let slow = "guests would run under QEMU's translator (tcg), many times slower";
        let device = self.at("dev/kvm");
        match std::fs::File::options().read(true).write(true).open(device) {
            Ok(_) => check("kvm", "ok", "/dev/kvm can be opened", ""),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => check(
                "kvm",
                "warning",
                format!("/dev/kvm cannot be opened by this user: {slow}"),
                "run the agent as root or as a member of the group kvm",
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => check(
                "kvm",
                "warning",
                format!("/dev/kvm does not exist ({}): {slow}", self.virtualisation()),
                "turn on virtualisation (VT-x or AMD-V) in the firmware, or nested \
                 virtualisation of the machine this one runs in, and load kvm_intel or kvm_amd",
            ),
            Err(error) => check(
                "kvm",
                "warning",
                format!("/dev/kvm cannot be opened ({error}): {slow}"),
                "see the kernel's log for kvm",
            ),
        }
    }

    /// Whether the processor says it can: the flags vmx (Intel) or svm (AMD).
    fn virtualisation(&self) -> &'static str {
        let Ok(text) = std::fs::read_to_string(self.at("proc/cpuinfo")) else {
            return "the processor's flags cannot be read";
        };
        if text.split_whitespace().any(|word| matches!(word, "vmx" | "svm")) {
            "the processor has virtualisation, its kernel module is missing"
        } else {
            "the processor shows no virtualisation"
        }
    }

    fn hypervisor(&self) -> DoctorCheck {
        match self.program("qemu-system-x86_64") {
            Some(path) => check("hypervisor", "ok", path.display().to_string(), ""),
            None => check(
                "hypervisor",
                "failed",
                "qemu-system-x86_64 is not on PATH: no guest can be started",
                "install QEMU for x86-64 (Debian and Ubuntu: qemu-system-x86)",
            ),
        }
    }

    fn tun(&self) -> DoctorCheck {
        match std::fs::symlink_metadata(self.at("dev/net/tun")) {
            Ok(_) => check("tun", "ok", "/dev/net/tun exists", ""),
            Err(error) => check(
                "tun",
                "failed",
                format!("/dev/net/tun is missing ({error}): guests cannot have interfaces"),
                "load the module: modprobe tun",
            ),
        }
    }

    fn control_groups(&self) -> DoctorCheck {
        match std::fs::symlink_metadata(self.at("sys/fs/cgroup/cgroup.controllers")) {
            Ok(_) => check("control groups", "ok", "version 2 is mounted", ""),
            Err(_) => check(
                "control groups",
                "warning",
                "control groups version 2 are not mounted at /sys/fs/cgroup: guests are not \
                 kept from each other's memory and processor time",
                "boot with the unified hierarchy (systemd.unified_cgroup_hierarchy=1)",
            ),
        }
    }

    fn privilege(&self) -> DoctorCheck {
        if self.is_root {
            check("privilege", "ok", "this is root, as the agent has to be", "")
        } else {
            check(
                "privilege",
                "warning",
                "this is not root; the agent has to be, to make links and namespaces",
                "start the agent as root (sudo fabric-agent serve)",
            )
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let executable = |path: &Path| {
            std::fs::metadata(path)
                .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        std::env::split_paths(&self.search_path)
            .map(|directory| directory.join(name))
            .find(|path| executable(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(machine: &Machine) -> Vec<(String, String)> {
        machine.host_checks().into_iter().map(|check| (check.name, check.result)).collect()
    }

    fn put(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_bare_machine_fails_with_a_remedy_for_each_check() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine {
            root: root.path().to_owned(),
            search_path: root.path().into(),
            is_root: false,
        };
        for check in machine.host_checks().iter().chain([&machine.ssh_client()]) {
            assert_ne!(check.result, "ok", "{check:?}");
            assert!(!check.remedy.is_empty(), "{check:?}");
        }
        assert!(results(&machine).contains(&("hypervisor".into(), "failed".into())));
    }

    #[test]
    fn a_good_machine_passes() {
        let root = tempfile::tempdir().unwrap();
        for path in ["dev/kvm", "dev/net/tun", "sys/fs/cgroup/cgroup.controllers"] {
            put(&root.path().join(path), 0o600);
        }
        put(&root.path().join("bin/qemu-system-x86_64"), 0o755);
        let machine = Machine {
            root: root.path().to_owned(),
            search_path: root.path().join("bin").into(),
            is_root: true,
        };
        for (name, result) in results(&machine) {
            assert_eq!(result, "ok", "{name}");
        }
        assert_eq!(machine.ssh_client().result, "warning");
    }

    #[test]
    fn a_program_has_to_be_executable() {
        let root = tempfile::tempdir().unwrap();
        put(&root.path().join("ssh"), 0o644);
        let machine = Machine {
            root: root.path().to_owned(),
            search_path: root.path().into(),
            is_root: true,
        };
        assert_eq!(machine.program("ssh"), None);
    }
}
