//! Whether KVM runs code fast enough to be used, found by running some.
//!
//! A `/dev/kvm` that exists proves nothing: there are hosts on which it only emulates, at about
//! two million instructions a second, where software emulation is hundreds of times faster.

mod trial;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::qemu::QemuBinary;
use trial::Trial;

/// Below this, software emulation is the better choice. Hardware runs the loop at more than
/// 1,000 million instructions a second; QEMU's TCG reaches some hundreds.
const SLOWEST_USABLE: u64 = 100_000_000;

/// Iterations of the loop, two instructions each.
const ITERATIONS: u32 = 400_000;

/// A first run may be slow for many reasons; a later one shows what the processor can do.
const RUNS: u32 = 3;

const DEVICE: &str = "/dev/kvm";

/// What was found out about `/dev/kvm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmProbe {
    /// Guests run on the processor.
    Usable {
        /// How long the best run of the loop took, in nanoseconds.
        loop_ns: u64,
    },
    /// It works, but only by emulation.
    TooSlow {
        /// What was measured.
        instructions_per_second: u64,
    },
    /// It exists and does not work.
    Unusable {
        /// What failed.
        reason: String,
    },
    /// There is no `/dev/kvm`.
    Absent,
}

impl KvmProbe {
    /// Runs a short 64-bit loop in a virtual machine. Returns within the deadline, whatever the
    /// virtual machine does.
    pub fn run(deadline: Duration) -> Self {
        if !Path::new(DEVICE).exists() {
            return Self::Absent;
        }
        match trial::run(ITERATIONS, RUNS, deadline) {
            Ok(trial) => Self::judge(&trial),
            Err(error) => Self::Unusable { reason: explain(&error) },
        }
    }

    /// The same, and whether `qemu` could use what was found.
    pub fn run_for(qemu: &QemuBinary, deadline: Duration) -> Self {
        let found = Self::run(deadline);
        if !found.is_usable() || qemu.kvm_device_option {
            return found;
        }
        match groups_for(Path::new(DEVICE)) {
            Ok(Some(_)) => found,
            Ok(None) => Self::Unusable {
                reason: format!(
                    "qemu {} opens it as a user of its own, and its group may not: run chmod 0660 \
                     {DEVICE}, or install a newer qemu, and restart the agent",
                    qemu.version
                ),
            },
            Err(error) => Self::Unusable { reason: format!("its mode cannot be read: {error}") },
        }
    }

    fn judge(trial: &Trial) -> Self {
        match trial {
            Trial::Finished { best, instructions } => {
                let per_second = rate(*instructions, *best);
                if per_second >= SLOWEST_USABLE {
                    let loop_ns = u64::try_from(best.as_nanos()).unwrap_or(u64::MAX);
                    Self::Usable { loop_ns }
                } else {
                    Self::TooSlow { instructions_per_second: per_second }
                }
            }
            Trial::Interrupted { after, instructions } => {
                Self::TooSlow { instructions_per_second: rate(*instructions, *after) }
            }
            Trial::Hung { after } => Self::Unusable {
                reason: format!(
                    "a loop of {ITERATIONS} iterations had not ended after {} ms and could not be \
                     interrupted",
                    after.as_millis()
                ),
            },
        }
    }

    /// Whether guests should use KVM.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Usable { .. })
    }

    /// One sentence for people: what was found and what it means.
    pub fn explain(&self) -> String {
        match self {
            Self::Usable { loop_ns } => {
                format!("KVM works: {ITERATIONS} iterations of a loop took {loop_ns} ns")
            }
            Self::TooSlow { instructions_per_second } => format!(
                "/dev/kvm exists but only emulates, at {}.{} million instructions per second; \
                 guests run on software emulation (TCG) instead",
                instructions_per_second / 1_000_000,
                instructions_per_second / 100_000 % 10
            ),
            Self::Unusable { reason } => format!(
                "/dev/kvm exists but does not work ({reason}); guests run on software emulation \
                 (TCG)"
            ),
            Self::Absent => "there is no /dev/kvm; guests run on software emulation (TCG), which \
                             is many times slower; switch on virtualisation in the firmware and \
                             load kvm_intel or kvm_amd"
                .to_owned(),
        }
    }
}

/// The groups that a user needs to open `device` for reading and writing: none if everybody may,
/// `None` if no group but root's would do, which no guest gets.
pub(crate) fn groups_for(device: &Path) -> io::Result<Option<Vec<u32>>> {
    let metadata = std::fs::metadata(device)?;
    Ok(match (metadata.mode(), metadata.gid()) {
        (mode, _) if mode & 0o006 == 0o006 => Some(Vec::new()),
        (mode, group) if mode & 0o060 == 0o060 && group != 0 => Some(vec![group]),
        _ => None,
    })
}

fn rate(instructions: u64, took: Duration) -> u64 {
    let nanoseconds = took.as_nanos().max(1);
    u64::try_from(u128::from(instructions) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

fn explain(error: &trial::TrialError) -> String {
    let reason = std::error::Error::source(error).map(|source| format!(": {source}"));
    let hint = match error.io_kind() {
        Some(io::ErrorKind::PermissionDenied) => "; run the agent as root",
        _ => "",
    };
    format!("{error}{}{hint}", reason.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_measurement() {
        let finished =
            |millis| Trial::Finished { best: Duration::from_millis(millis), instructions: 800_000 };
        assert_eq!(KvmProbe::judge(&finished(1)), KvmProbe::Usable { loop_ns: 1_000_000 });
        let slow = KvmProbe::TooSlow { instructions_per_second: 2_000_000 };
        assert_eq!(KvmProbe::judge(&finished(400)), slow);
        let interrupted =
            Trial::Interrupted { after: Duration::from_millis(250), instructions: 500_000 };
        assert_eq!(KvmProbe::judge(&interrupted), slow);
        assert!(slow.explain().contains("2.0 million instructions per second"));
        let hung = KvmProbe::judge(&Trial::Hung { after: Duration::from_secs(1) });
        assert!(hung.explain().contains("could not be interrupted"));
    }

    #[test]
    fn a_device_is_opened_through_its_group_but_never_through_roots() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: files of other groups need root");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        #[rustfmt::skip]
        let cases = [
            (0o600, 7, None), (0o640, 7, None), (0o660, 7, Some(vec![7])),
            (0o660, 0, None), (0o666, 0, Some(vec![])),
        ];
        for (mode, group, want) in cases {
            std::os::unix::fs::chown(file.path(), None, Some(group)).unwrap();
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            assert_eq!(groups_for(file.path()).unwrap(), want, "{mode:o} {group}");
        }
    }

    #[test]
    fn this_machine_gets_a_verdict_that_fits_its_device() {
        let probe = KvmProbe::run(Duration::from_secs(2));
        println!("{}", probe.explain());
        assert_eq!(probe == KvmProbe::Absent, !Path::new("/dev/kvm").exists());
    }

    #[test]
    fn a_loop_that_outlasts_the_deadline_is_interrupted() {
        if !Path::new("/dev/kvm").exists() {
            println!("SKIPPED: there is no /dev/kvm");
            return;
        }
        let trial = trial::run(u32::MAX, 1, Duration::from_millis(100)).unwrap();
        assert!(!matches!(trial, Trial::Finished { .. }), "{trial:?}");
    }
}
