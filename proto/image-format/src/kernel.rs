//! Linux kernels for direct boot on x86.
//!
//! Source: Linux `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header".

use crate::has;

/// `boot_flag`.
const BOOT_FLAG_AT: usize = 0x1fe;
/// `header`, "HdrS".
const MAGIC_AT: usize = 0x202;
/// `version`, little-endian.
const VERSION_AT: usize = 0x206;
/// `loadflags`; bit 0 is LOADED_HIGH: a bzImage and no zImage.
const LOADFLAGS_AT: usize = 0x211;
/// 2.02, since Linux 2.4.0-test3: `cmd_line_ptr`, without which there is no useful command line.
const MIN_VERSION: u16 = 0x0202;

/// What a usable kernel says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHeader {
    /// The boot protocol: 0x020f is 2.15.
    pub boot_protocol: u16,
}

/// Why a file is no kernel that an instance can start from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKernel {
    /// Nothing in it.
    #[error("the kernel file is empty")]
    Empty,
    /// Certainly something else.
    #[error("the kernel file is {what}: {remedy}")]
    NotAKernel {
        /// With its article.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Neither a bzImage nor anything that is known.
    #[error(
        "the kernel file is no x86 Linux kernel: a bzImage (a distribution's vmlinuz) was expected"
    )]
    Unknown,
    /// From before 2000.
    #[error("the kernel speaks boot protocol {}.{:02}: at least 2.02 is needed", version >> 8, version & 0xff)]
    TooOld {
        /// As in [`KernelHeader::boot_protocol`].
        version: u16,
    },
}

/// Judges the kernel whose first bytes are `head` (see [`HEAD_BYTES`](crate::HEAD_BYTES)).
///
/// # Errors
/// [`InvalidKernel`] says what the file is and what to do.
pub fn detect_kernel(head: &[u8]) -> Result<KernelHeader, InvalidKernel> {
    if head.is_empty() {
        return Err(InvalidKernel::Empty);
    }
    if !has(head, MAGIC_AT, b"HdrS") || !has(head, BOOT_FLAG_AT, b"\x55\xaa") {
        return Err(known(head));
    }
    let (Some(&[low, high]), Some(loadflags)) =
        (head.get(VERSION_AT..VERSION_AT + 2), head.get(LOADFLAGS_AT))
    else {
        return Err(InvalidKernel::Unknown);
    };
    let version = u16::from_le_bytes([low, high]);
    if version < MIN_VERSION {
        return Err(InvalidKernel::TooOld { version });
    }
    if loadflags & 1 == 0 {
        return Err(InvalidKernel::NotAKernel {
            what: "a zImage",
            remedy: "build a bzImage (`make bzImage`)",
        });
    }
    Ok(KernelHeader { boot_protocol: version })
}

fn known(head: &[u8]) -> InvalidKernel {
    #[rustfmt::skip]
    let kinds: [(usize, &[u8], &str, &str); 6] = [
        (0,    b"\x7fELF",  "an uncompressed kernel or a program (ELF)", "use the bzImage (a distribution's vmlinuz)"),
        (0x38, b"ARM\x64",  "a kernel for ARM",                          "use one for x86_64"),
        (0,    b"QFI\xfb",  "a qcow2 disk image",                        "set it as the image's disk"),
        (0,    b"070701",   "an initial RAM filesystem (cpio)",          "set it as `initrd`"),
        (0,    b"\x1f\x8b", "compressed with gzip",                      "unpack it with `gunzip` (an initial RAM filesystem goes to `initrd`)"),
        (0,    b"\x28\xb5\x2f\xfd", "compressed with zstd",              "unpack it with `unzstd` (an initial RAM filesystem goes to `initrd`)"),
    ];
    kinds.into_iter().find(|(at, magic, _, _)| has(head, *at, magic)).map_or(
        InvalidKernel::Unknown,
        |(_, _, what, remedy)| InvalidKernel::NotAKernel { what, remedy },
    )
}
