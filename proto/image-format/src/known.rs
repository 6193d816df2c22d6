//! Files that people give by mistake, by the magic numbers that `file` knows them by.

use crate::{InvalidImage, has};

const UNPACK: &str = "unpack it first and use the disk image inside";
const ELSEWHERE: &str = "check that the path or URL is that of the image itself";

/// At, magic, what it is, what to do.
#[rustfmt::skip]
const NOT_DISKS: &[(usize, &[u8], &str, &str)] = &[
    (0,     b"\x7fELF",             "a program (ELF)",               ELSEWHERE),
    (0x202, b"HdrS",                "a Linux kernel (bzImage)",      "set it as `kernel`, beside a disk image"),
    (0,     b"070701",              "an initial RAM filesystem (cpio)", "set it as `initrd`, beside a disk image"),
    (0,     b"\x1f\x8b",            "compressed with gzip",          "unpack it with `gunzip`"),
    (0,     b"\xfd7zXZ\0",          "compressed with xz",            "unpack it with `unxz`"),
    (0,     b"\x28\xb5\x2f\xfd",    "compressed with zstd",          "unpack it with `unzstd`"),
    (0,     b"BZh",                 "compressed with bzip2",         "unpack it with `bunzip2`"),
    (0,     b"\x04\x22\x4d\x18",    "compressed with lz4",           "unpack it with `unlz4`"),
    (0,     b"PK\x03\x04",          "a zip archive",                 UNPACK),
    (0,     b"7z\xbc\xaf\x27\x1c",  "a 7z archive",                  UNPACK),
    (0,     b"Rar!\x1a\x07",        "a rar archive",                 UNPACK),
    (257,   b"ustar",               "a tar archive (or an OVA, which is one)", UNPACK),
    (0,     b"!<arch>\n",           "a Debian package or ar archive", ELSEWHERE),
    (0,     b"%PDF-",               "a PDF document",                ELSEWHERE),
    (0,     b"version https://git-lfs", "a Git LFS pointer",         "fetch the file itself with `git lfs pull`"),
];

#[rustfmt::skip]
const OTHER_FORMATS: &[(usize, &[u8], &str)] = &[
    (0,    b"KDMV",                  "VMDK"),
    (0,    b"COWD",                  "VMDK"),
    (0,    b"# Disk DescriptorFile", "VMDK"),
    // docs: VirtualBox, VDICore.h: VDI_IMAGE_SIGNATURE 0xbeda107f, little-endian, after 64 bytes of text.
    (0x40, b"\x7f\x10\xda\xbe",      "VDI"),
    (0,    b"vhdxfile",              "VHDX"),
    (0,    b"conectix",              "VHD"),
    (0,    b"QED\0",                 "QED"),
    (0,    b"WithoutFreeSpace",      "Parallels"),
    (0,    b"WithouFreSpacExt",      "Parallels"),
];

/// What a page begins with that a server sends in place of an image.
const PAGES: &[&[u8]] = &[b"<!doctype html", b"<html", b"<head", b"<?xml"];

/// Whether `head` is the beginning of a web page (HTML or XML), which no file of an image is.
pub fn is_page(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let is_start =
        |page: &&[u8]| text.get(..page.len()).is_some_and(|start| start.eq_ignore_ascii_case(page));
    PAGES.iter().any(is_start)
}

pub(crate) fn refuse_known(head: &[u8]) -> Result<(), InvalidImage> {
    for &(at, magic, what, remedy) in NOT_DISKS {
        let boot_flag = at != 0x202 || has(head, 0x1fe, b"\x55\xaa");
        if has(head, at, magic) && boot_flag {
            return Err(InvalidImage::NotADisk { what, remedy });
        }
    }
    for &(at, magic, name) in OTHER_FORMATS {
        if has(head, at, magic) {
            return Err(InvalidImage::OtherFormat { name });
        }
    }
    if is_page(head) {
        return Err(InvalidImage::NotADisk {
            what: "a web page (HTML or XML)",
            remedy: "check the URL, the server sent a page (an error or a login?) and no image",
        });
    }
    Ok(())
}
