//! Groups as transient scopes of systemd.
//!
//! systemd-run(1) registers its own process as a scope and becomes the holder by exec: pid, open
//! files and environment stay, so nothing else changes. As root and with `--scope` it speaks to
//! systemd's private socket, so it needs no message bus.

use std::path::Path;
use std::process::{Command, Stdio};

use super::limits::Limits;
use super::{CgroupError, Entrance, SLICE};

const PROGRAM: &str = "systemd-run";

#[derive(Debug)]
pub(super) struct Systemd;

impl Systemd {
    /// The test of sd_booted(3).
    pub(super) fn is_process_1() -> bool {
        Path::new("/run/systemd/system").is_dir()
    }

    /// Tries whether scopes can be made.
    pub(super) fn prepare() -> Result<Self, CgroupError> {
        let tried = Command::new(PROGRAM)
            .args(["--scope", "--quiet", "--collect"])
            .arg(format!("--slice={SLICE}"))
            .args(["--", "true"])
            .stdin(Stdio::null())
            .output();
        let said = match tried {
            Ok(output) if output.status.success() => return Ok(Self),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(CgroupError::Systemd { said })
    }

    /// The program and arguments that put what follows them into a scope called `unit`.
    pub(super) fn entrance(&self, unit: &str, limits: &Limits) -> Entrance {
        let mut args: Vec<String> = ["--scope", "--quiet", "--collect"].map(str::to_owned).into();
        args.push(format!("--slice={SLICE}"));
        args.push(format!("--unit={unit}"));
        args.push("--description=a guest of weft".to_owned());
        args.extend(properties(limits).map(|property| format!("--property={property}")));
        args.push("--".to_owned());
        Entrance::Scope { program: PROGRAM.to_owned(), args }
    }

    /// Changes the limits of the scope that a process is in; systemd forgets them with the scope.
    pub(super) fn set(&self, pid: i32, limits: &Limits) -> Result<(), CgroupError> {
        let failed = |error: std::io::Error| CgroupError::Systemd { said: error.to_string() };
        let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(failed)?;
        // It was started while no scopes could be made.
        let Some(unit) = scope_of(&table) else { return Ok(()) };
        let mut command = Command::new("systemctl");
        command.args(["set-property", "--runtime", unit]).args(properties(limits));
        let output = command.stdin(Stdio::null()).output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(CgroupError::Systemd { said })
    }
}

/// What a scope is told.
fn properties(limits: &Limits) -> [String; 3] {
    [
        format!("MemoryMax={}", limits.memory_bytes),
        format!("TasksMax={}", limits.pids),
        format!("CPUWeight={}", Limits::weight(limits.vcpus)),
    ]
}

/// The scope of a process, by its `/proc/PID/cgroup` (cgroups(7)), where it is one of ours.
fn scope_of(table: &str) -> Option<&str> {
    let paths = table.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut ours = paths.filter_map(|path| path.rsplit_once('/'));
    let (_, unit) =
        ours.find(|(above, unit)| above.ends_with(SLICE) && unit.ends_with(".scope"))?;
    Some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_the_limits_and_then_the_command() {
        let limits = Limits { memory_bytes: 1 << 30, pids: 130, vcpus: 2 };
        let Entrance::Scope { program, args } = Systemd.entrance("weft-i-1.scope", &limits) else {
            panic!("systemd makes scopes");
        };
        assert_eq!(program, "systemd-run");
        for wanted in ["--property=MemoryMax=1073741824", "--property=CPUWeight=200", "--scope"] {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted} in {args:?}");
        }
        assert_eq!(args.last().unwrap(), "--");
    }

    #[test]
    fn a_process_is_in_one_scope_of_ours_or_in_none() {
        let v2 = "0::/weft.slice/weft-i-1-a.scope\n";
        let v1 = "4:memory:/weft.slice/weft-i-1-a.scope\n0::/\n";
        let nested = "0::/outer.slice/weft.slice/weft-i-1-a.scope\n";
        for table in [v2, v1, nested] {
            assert_eq!(scope_of(table), Some("weft-i-1-a.scope"), "{table}");
        }
        for table in ["0::/user.slice/other.scope\n", "0::/weft.slice\n", ""] {
            assert_eq!(scope_of(table), None, "{table}");
        }
    }
}
