//! `weft doctor`: what was looked at, what was seen, why it matters, how to mend it.
//!
//! The one implementation: a running agent answers with it, and `fabric-agent doctor` runs it where
//! none does. It changes nothing.

mod firewalls;
mod machine;
pub(crate) mod pools;
mod programs;

use std::time::SystemTime;

use weft_hypervisor::{Cgroups, KvmProbe, QemuBinary};
use weft_model::Accelerator;

use super::facts;
use crate::config::Directories;
use crate::error_chain::ErrorChain;
use crate::host::pools::Pools;
use crate::host::{Check, CheckResult, HostError};
use crate::tls::Files;
use crate::tls::certificates::{self, Ends};
use weft_proto::certificate::show_time;

/// Less free disk than this is worth a warning, in GiB.
const LOW_DISK_GIB: u64 = 5;

#[derive(Debug)]
pub(crate) struct Doctor {
    directories: Directories,
    /// `None` where what the agent had cannot be read.
    pools: Option<Pools>,
    /// What the guests of the agent that runs use; `None` where none runs.
    in_use: Option<Accelerator>,
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

fn warning(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Check {
    bad(name, CheckResult::Warning, finding, remedy)
}

fn failed(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Check {
    bad(name, CheckResult::Failed, finding, remedy)
}

impl Doctor {
    /// Of an agent whose guests use `accelerator`.
    pub(crate) fn of_agent(
        directories: &Directories,
        pools: Pools,
        accelerator: Accelerator,
    ) -> Self {
        let (directories, pools) = (directories.clone(), Some(pools));
        Self { directories, pools, in_use: Some(accelerator) }
    }

    /// Without an agent.
    pub(crate) async fn alone(directories: &Directories) -> Vec<Check> {
        // Where it cannot be read, the agent does not start, and says so.
        let pools = Pools::last_of(directories).ok();
        let doctor = Self { directories: directories.clone(), pools, in_use: None };
        doctor.checks(&Cgroups::find(&directories.prefix)).await
    }

    pub(crate) async fn checks(&self, cgroups: &Cgroups) -> Vec<Check> {
        let prefix = &self.directories.prefix;
        let mut checks = vec![
            machine::privilege(),
            kvm(facts::probe(QemuBinary::detect().ok()).await, self.in_use),
            programs::qemu().await,
            programs::qemu_img().await,
            programs::uefi(),
            programs::nft().await,
            machine::tun(),
            machine::forwarding(self.in_use.is_some()),
            machine::forwarding_v6(),
        ];
        let firewalls = firewalls::checks(prefix).await;
        let drops = firewalls.iter().any(|check| check.result != CheckResult::Ok);
        checks.extend(firewalls);
        checks.extend([
            machine::bridge_filter(drops),
            machine::vlans().await,
            limits(cgroups),
            machine::uids(),
        ]);
        checks.extend(self.pools.iter().flat_map(pools::checks));
        checks.extend([
            machine::clock(),
            machine::resolvers(),
            self.certificates(SystemTime::now()),
        ]);
        checks
    }

    fn certificates(&self, now: SystemTime) -> Check {
        let name = "certificates";
        let files = Files::of(&self.directories.state_dir);
        if !files.folder().exists() {
            return ok(name, "none: the API is on the unix socket only, not on TCP");
        }
        let mut fine = Vec::new();
        for (what, verdict) in certificates::ending(&files, now) {
            let remedy = certificates::remedy(&files, what);
            match verdict {
                Ok(Ends::Later(ends)) => {
                    fine.push(format!("{what} is valid until {}", show_time(ends)));
                }
                Ok(Ends::Soon(ends)) => {
                    return warning(name, format!("{what} ends at {}", show_time(ends)), remedy);
                }
                Ok(Ends::Past(ends)) => {
                    let finding =
                        format!("{what} ended at {}: no client on TCP gets in", show_time(ends));
                    return failed(name, finding, remedy);
                }
                Err(error) => return failed(name, format!("{error:#}"), remedy),
            }
        }
        ok(name, fine.join("; "))
    }
}

fn kvm(probe: Result<KvmProbe, HostError>, in_use: Option<Accelerator>) -> Check {
    let name = "kvm";
    let slow = "many times slower than with KVM";
    match probe {
        Ok(probe) if probe.is_usable() && in_use == Some(Accelerator::Tcg) => warning(
            name,
            format!("{}; but the agent's guests run under TCG, {slow}", probe.explain()),
            "restart the agent with --accel auto; guests change with their next start",
        ),
        Ok(probe) if probe.is_usable() => ok(name, probe.explain()),
        Ok(probe) => warning(
            name,
            format!("{}: {slow}", probe.explain()),
            "modprobe kvm_intel || modprobe kvm_amd; if the processor shows no virtualisation, \
             switch it on in the firmware, or nested virtualisation on the host; then restart the \
             agent",
        ),
        Err(error) => failed(name, ErrorChain(&error).to_string(), "run weft doctor again"),
    }
}

fn limits(cgroups: &Cgroups) -> Check {
    match cgroups.explain() {
        Ok(finding) => ok("cgroups", finding),
        Err(finding) => warning(
            "cgroups",
            format!("{finding}: one that goes wrong can take what others need"),
            "run the agent on the host and as root, or give its container cgroup v2 and the right \
             to mount; then restart the agent",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_that_works_and_is_not_used_is_worth_a_warning() {
        let works = KvmProbe::Usable { loop_ns: 400_000 };
        let check = |probe: &KvmProbe, in_use| kvm(Ok(probe.clone()), in_use).result;
        assert_eq!(check(&works, None), CheckResult::Ok);
        assert_eq!(check(&works, Some(Accelerator::Kvm)), CheckResult::Ok);
        assert_eq!(check(&works, Some(Accelerator::Tcg)), CheckResult::Warning);
        assert_eq!(check(&KvmProbe::Absent, Some(Accelerator::Tcg)), CheckResult::Warning);
    }
}
