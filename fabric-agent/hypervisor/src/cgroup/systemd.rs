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
        args.push(format!("--property=MemoryMax={}", limits.memory_bytes));
        args.push(format!("--property=TasksMax={}", limits.pids));
        args.push(format!("--property=CPUWeight={}", Limits::weight(limits.vcpus)));
        args.push("--".to_owned());
        Entrance::Scope { program: PROGRAM.to_owned(), args }
    }
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
}
