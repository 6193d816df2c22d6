//! What the machine is: processors, memory, accelerator, hypervisor.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use weft_hypervisor::{KvmProbe, QemuBinary};
use weft_model::{Accelerator, Architecture, HostFacts};

use crate::config::AccelChoice;
use crate::host::HostError;

/// How long the KVM probe may take; the agent answers within 5 s of its start, probe included.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// Memory that guests do not get, in MiB: for the machine and the agent.
const RESERVED_MIB: u64 = 512;

/// Tries KVM, for `qemu` where there is one.
///
/// # Errors
/// The thread that tries it ended.
pub(super) async fn probe(qemu: Option<QemuBinary>) -> Result<KvmProbe, HostError> {
    let run = move || match qemu {
        Some(qemu) => KvmProbe::run_for(&qemu, PROBE_DEADLINE),
        None => KvmProbe::run(PROBE_DEADLINE),
    };
    tokio::task::spawn_blocking(run)
        .await
        .map_err(|error| HostError::new("probe KVM", true).caused_by(error))
}

/// The accelerator to use, and why.
///
/// # Errors
/// KVM was demanded and is not usable.
pub(super) async fn accelerator(
    choice: AccelChoice,
    qemu: &QemuBinary,
) -> Result<(Accelerator, String), HostError> {
    if choice == AccelChoice::Tcg {
        let note = "--accel tcg was asked for: KVM was not tried".to_owned();
        return Ok((Accelerator::Tcg, note));
    }
    let probe = probe(Some(qemu.clone())).await?;
    match (choice, probe.is_usable()) {
        (_, true) => Ok((Accelerator::Kvm, probe.explain())),
        (AccelChoice::Kvm, false) => {
            let what = format!(
                "--accel kvm was demanded and KVM is not usable: {}; use --accel auto or tcg",
                probe.explain()
            );
            Err(HostError::new(what, false))
        }
        (AccelChoice::Auto | AccelChoice::Tcg, false) => Ok((Accelerator::Tcg, probe.explain())),
    }
}

/// The QEMU that guests run in.
///
/// # Errors
/// None is installed, or it is too old.
pub(super) fn qemu() -> Result<QemuBinary, HostError> {
    QemuBinary::detect().map_err(|error| {
        HostError::new("find QEMU (Debian and Ubuntu: apt install qemu-system-x86)", false)
            .caused_by(error)
    })
}

pub(super) fn gather(
    name: String,
    accelerator: Accelerator,
    accelerator_note: String,
    qemu: &QemuBinary,
) -> HostFacts {
    let number = |variable| sysconf(variable).ok().flatten().and_then(|n| u64::try_from(n).ok());
    let vcpus = number(SysconfVar::_NPROCESSORS_ONLN).and_then(|n| u32::try_from(n).ok());
    let pages = number(SysconfVar::_PHYS_PAGES).unwrap_or(0);
    let page_bytes = number(SysconfVar::PAGE_SIZE).unwrap_or(4096);
    HostFacts {
        name,
        accelerator,
        accelerator_note,
        vcpus: vcpus.unwrap_or(1),
        memory_mib: ((pages * page_bytes) >> 20).saturating_sub(RESERVED_MIB),
        hypervisor_version: format!("QEMU {}", qemu.version),
        // What `qemu-system-x86_64` plays, whatever the machine is.
        architecture: Architecture::X86_64,
    }
}
