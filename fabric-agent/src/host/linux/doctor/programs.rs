//! The programs that the agent runs: there, and new enough.

use tokio::process::Command;
use weft_hypervisor::{Firmware, QemuBinary, QemuError};

use super::{failed, ok, warning};
use crate::host::Check;

/// The oldest nft that Weft is tested with (Ubuntu 22.04's).
const OLDEST_NFT: (u32, u32, u32) = (1, 0, 2);

pub(super) async fn qemu() -> Check {
    let name = "qemu";
    let install = "apt install qemu-system-x86";
    match tokio::task::spawn_blocking(QemuBinary::detect).await {
        Ok(Ok(found)) => ok(name, format!("QEMU {} at {}", found.version, found.path.display())),
        Ok(Err(error @ QemuError::TooOld { .. })) => failed(
            name,
            format!("{error}: no guest can be started"),
            "install a newer distribution's QEMU (Debian 12, Ubuntu 24.04 and later have one)",
        ),
        Ok(Err(error)) => {
            let finding =
                format!("{}: no guest can be started", crate::error_chain::ErrorChain(&error));
            failed(name, finding, install)
        }
        Err(error) => failed(name, format!("looking for QEMU failed: {error}"), install),
    }
}

pub(super) async fn qemu_img() -> Check {
    version("qemu-img", "qemu-utils", "root disks cannot be made").await
}

pub(super) fn uefi() -> Check {
    let name = "uefi";
    match Firmware::find() {
        Some(found) => ok(name, format!("OVMF at {}", found.code.display())),
        None => warning(
            name,
            "no OVMF: instances of images with boot_mode = \"uefi\" are refused",
            Firmware::REMEDY,
        ),
    }
}

pub(super) async fn nft() -> Check {
    let check = version("nft", "nftables", "security groups cannot be enforced").await;
    match parse_version(&check.finding) {
        Some(found) if check.remedy.is_empty() && found < OLDEST_NFT => warning(
            "nft",
            format!(
                "{}; the oldest that is tested is {}.{}.{}",
                check.finding, OLDEST_NFT.0, OLDEST_NFT.1, OLDEST_NFT.2
            ),
            "apt install --only-upgrade nftables",
        ),
        _ => check,
    }
}

async fn version(program: &'static str, package: &str, without: &str) -> Check {
    match Command::new(program).arg("--version").output().await {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            ok(program, version.lines().next().unwrap_or_default().trim())
        }
        Ok(output) => failed(
            program,
            format!("{program} ends with {}: {without}", output.status),
            format!("apt install --reinstall {package}"),
        ),
        Err(error) => failed(
            program,
            format!("cannot run {program} ({error}): {without}"),
            format!("apt install {package}"),
        ),
    }
}

/// Reads "nftables v1.0.6 (Lester Gooch #5)".
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let number = text.split_once(" v")?.1.split_whitespace().next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_nft_are_compared_by_number() {
        assert_eq!(parse_version("nftables v1.0.6 (Lester Gooch #5)"), Some((1, 0, 6)));
        assert_eq!(parse_version("nftables v1.1"), Some((1, 1, 0)));
        assert_eq!(parse_version("nft: command not found"), None);
        assert!(parse_version("nftables v0.9.8 (E.D.S.)").unwrap() < OLDEST_NFT);
        assert!(parse_version("nftables v1.0.10 (X)").unwrap() > OLDEST_NFT);
    }
}
