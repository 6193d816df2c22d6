//! UEFI firmware for guests: OVMF, where distributions install it.

use std::path::{Path, PathBuf};

/// The two flash chips of OVMF: its code, which all guests share, and the template of a guest's own
/// variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Read-only.
    pub code: PathBuf,
    /// To be copied for each guest.
    pub variables: PathBuf,
}

/// Raw images without Secure Boot, the roomier build (4 MiB of flash) first; code and variables
/// must be of one build.
#[rustfmt::skip]
const PLACES: &[(&str, &str, &str)] = &[
    // Debian, Ubuntu: package ovmf.
    ("/usr/share/OVMF",            "OVMF_CODE_4M.fd",        "OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF",            "OVMF_CODE.fd",           "OVMF_VARS.fd"),
    // Fedora and its like: package edk2-ovmf.
    ("/usr/share/edk2/ovmf",       "OVMF_CODE.fd",           "OVMF_VARS.fd"),
    // Arch: package edk2-ovmf.
    ("/usr/share/edk2/x64",        "OVMF_CODE.4m.fd",        "OVMF_VARS.4m.fd"),
    // openSUSE: package qemu-ovmf-x86_64.
    ("/usr/share/qemu",            "ovmf-x86_64-4m-code.bin", "ovmf-x86_64-4m-vars.bin"),
    // QEMU's own build (`pc-bios/`): the variables are the same for both word sizes.
    ("/usr/share/qemu",            "edk2-x86_64-code.fd",    "edk2-i386-vars.fd"),
];

impl Firmware {
    /// What to do where [`Self::find`] finds nothing.
    pub const REMEDY: &'static str = "install OVMF on the host (Debian and Ubuntu: apt install ovmf; Fedora: dnf install edk2-ovmf)";

    /// The firmware of this machine, if it is installed.
    pub fn find() -> Option<Self> {
        Self::find_under(Path::new("/"))
    }

    fn find_under(root: &Path) -> Option<Self> {
        PLACES.iter().find_map(|(directory, code, variables)| {
            let directory = root.join(directory.trim_start_matches('/'));
            let (code, variables) = (directory.join(code), directory.join(variables));
            (code.is_file() && variables.is_file()).then_some(Self { code, variables })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_variables_are_of_one_build_and_the_roomier_one_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        let found = || Firmware::find_under(root.path()).map(|firmware| firmware.code);
        put("usr/share/OVMF/OVMF_CODE_4M.fd");
        assert_eq!(found(), None, "it has no variables");
        put("usr/share/edk2/ovmf/OVMF_CODE.fd");
        put("usr/share/edk2/ovmf/OVMF_VARS.fd");
        assert_eq!(found(), Some(root.path().join("usr/share/edk2/ovmf/OVMF_CODE.fd")));
        put("usr/share/OVMF/OVMF_VARS_4M.fd");
        assert_eq!(found(), Some(root.path().join("usr/share/OVMF/OVMF_CODE_4M.fd")));
    }
}
