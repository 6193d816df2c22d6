use proptest::prelude::*;

use super::*;

/// What `qemu-img create -f qcow2 x 1G` writes: 64 KiB clusters, four clusters of file.
fn qcow2(version: u32) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    head[..4].copy_from_slice(b"QFI\xfb");
    put32(&mut head, 4, version);
    put32(&mut head, 20, 16);
    put64(&mut head, 24, GIB);
    put32(&mut head, 36, 2);
    put64(&mut head, 40, 3 << 16);
    put64(&mut head, 48, 1 << 16);
    put32(&mut head, 56, 1);
    if version >= 3 {
        put32(&mut head, 96, 4);
        put32(&mut head, 100, 112);
    }
    head
}

const GIB: u64 = 1 << 30;
const LEN: u64 = (3 << 16) + 16;

fn put32(head: &mut [u8], at: usize, value: u32) {
    head[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn put64(head: &mut [u8], at: usize, value: u64) {
    head[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

fn verdict(head: &[u8], len: u64) -> String {
    match detect(head, len) {
        Ok(header) => format!("{} {}", header.format.as_str(), header.virtual_size_bytes),
        Err(error) => error.to_string(),
    }
}

#[test]
fn whole_qcow2_images_are_accepted() {
    let want = ImageHeader { format: Format::Qcow2, virtual_size_bytes: GIB };
    for version in [2, 3] {
        assert_eq!(detect(&qcow2(version), LEN), Ok(want));
        assert_eq!(detect(&qcow2(version)[..112], LEN), Ok(want), "the header is enough");
    }
    // Version 2 has no features: what stands there belongs to no header.
    let mut old = qcow2(2);
    put64(&mut old, 72, u64::MAX);
    assert_eq!(detect(&old, LEN), Ok(want));
}

#[test]
fn headers_of_qcow2_are_judged_field_by_field() {
    enum Set {
        Half(usize, u32),
        Full(usize, u64),
        Byte(usize, u8),
    }
    use Set::{Byte, Full, Half};
    #[rustfmt::skip]
    let cases: &[(&[Set], &str)] = &[
        (&[],                                    "qcow2 1073741824"),
        (&[Half(4, 1)],                          "the image is qcow version 1"),
        (&[Half(4, 4)],                          "the image is qcow version 4"),
        (&[Full(8, 112), Half(16, 9)],           "the qcow2 image needs a backing file"),
        (&[Half(16, 9)],                         "the qcow2 image needs a backing file"),
        (&[Half(20, 8)],                         "the qcow2 image is damaged: its header has cluster_bits = 8"),
        (&[Half(20, 22)],                        "the qcow2 image is damaged: its header has cluster_bits = 22"),
        (&[Half(20, u32::MAX)],                  "the qcow2 image is damaged: its header has cluster_bits"),
        (&[Full(24, 0)],                         "the qcow2 image claims a disk of 0 bytes"),
        (&[Full(24, 513)],                       "the qcow2 image claims a disk of 513 bytes"),
        (&[Full(24, (64 << 40) + 512)],          "the qcow2 image claims a disk of 70368744178176 bytes"),
        (&[Full(24, u64::MAX)],                  "the qcow2 image claims"),
        (&[Half(32, 1)],                         "the qcow2 image is encrypted"),
        (&[Half(32, 2)],                         "the qcow2 image is encrypted"),
        (&[Half(36, 1)],                         "the qcow2 image is damaged: its header has l1_size = 1"),
        (&[Half(36, u32::MAX)],                  "the qcow2 image is damaged: its header has l1_size = 4294967295"),
        (&[Half(36, 3)],                         "the qcow2 image is truncated: its L1 table ends at byte 196632, the file has 196624"),
        (&[Full(40, 0)],                         "the qcow2 image is damaged: its header has l1_table_offset = 0"),
        (&[Full(40, 512)],                       "the qcow2 image is damaged: its header has l1_table_offset = 512"),
        (&[Full(40, 1 << 40)],                   "the qcow2 image is truncated: its L1 table"),
        (&[Full(40, u64::MAX << 16)],            "the qcow2 image is truncated: its L1 table"),
        (&[Full(48, 4 << 16)],                   "the qcow2 image is truncated: its refcount table"),
        (&[Full(48, 7)],                         "the qcow2 image is damaged: its header has refcount_table_offset = 7"),
        (&[Half(56, 0)],                         "the qcow2 image is damaged: its header has refcount_table_clusters = 0"),
        (&[Half(56, 129)],                       "the qcow2 image is damaged: its header has refcount_table_clusters = 129"),
        (&[Half(60, 65_537)],                    "the qcow2 image is damaged: its header has nb_snapshots"),
        (&[Half(60, 1), Full(64, 2 << 16)],      "qcow2 1073741824"),
        (&[Half(60, 1), Full(64, 3 << 16)],      "the qcow2 image is truncated: its snapshot table"),
        (&[Full(72, 1)],                         "the qcow2 image was not closed cleanly"),
        (&[Full(72, 2)],                         "the qcow2 image is marked as corrupt"),
        (&[Full(72, 4)],                         "the qcow2 image keeps its data in another file"),
        (&[Full(72, 8), Byte(104, 1)],           "qcow2 1073741824"),
        (&[Full(72, 8)],                         "the qcow2 image is damaged: its header has compression_type = 0"),
        (&[Byte(104, 1)],                        "the qcow2 image is damaged: its header has compression_type = 1"),
        (&[Full(72, 8), Byte(104, 2)],           "the qcow2 image is damaged: its header has compression_type = 2"),
        (&[Full(72, 16)],                        "the qcow2 image is damaged: its header has l1_size = 2"),
        (&[Full(72, 16), Full(24, GIB / 2)],     "qcow2 536870912"),
        (&[Full(72, 1 << 63)],                   "the qcow2 image uses incompatible features 0x8000000000000000"),
        (&[Full(80, u64::MAX), Full(88, 3)],     "qcow2 1073741824"),
        (&[Half(96, 7)],                         "the qcow2 image is damaged: its header has refcount_order = 7"),
        (&[Half(100, 96)],                       "the qcow2 image is damaged: its header has header_length = 96"),
        (&[Half(100, 1 << 17)],                  "the qcow2 image is damaged: its header has header_length"),
    ];
    for (number, (changes, want)) in cases.iter().enumerate() {
        let mut head = qcow2(3);
        for change in *changes {
            match *change {
                Half(at, value) => put32(&mut head, at, value),
                Full(at, value) => put64(&mut head, at, value),
                Byte(at, value) => head[at] = value,
            }
        }
        let got = verdict(&head, LEN);
        assert!(got.starts_with(want), "case {number}: want {want}, got {got}");
    }
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    for version in [2, 3] {
        let head = qcow2(version);
        for len in (4..200).chain([1 << 16, 2 << 16, 3 << 16, LEN - 1]) {
            let got = verdict(&head[..head.len().min(len as usize)], len);
            assert!(got.contains("truncated"), "version {version}, {len} bytes: {got}");
        }
    }
}

#[test]
fn what_is_not_a_disk_is_refused_with_advice() {
    let at = |offset: usize, magic: &[u8]| {
        let mut head = vec![0; 4096];
        head[offset..offset + magic.len()].copy_from_slice(magic);
        head
    };
    let mut kernel = at(0x202, b"HdrS");
    kernel[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
    #[rustfmt::skip]
    let cases = [
        (at(0, b"<!DOCTYPE html><title>404"), "a web page"),
        (at(0, b"\xef\xbb\xbf \r\n<HtMl lang=en>"), "a web page"),
        (at(0, b"<?xml version=\"1.0\"?><Error>"), "a web page"),
        (at(0, b"\x7fELF\x02"),             "a program (ELF)"),
        (kernel,                            "set it as `kernel`"),
        (at(0, b"\x1f\x8b\x08"),            "`gunzip`"),
        (at(0, b"\xfd7zXZ\0"),              "`unxz`"),
        (at(0, b"\x28\xb5\x2f\xfd"),        "`unzstd`"),
        (at(0, b"BZh91AY"),                 "`bunzip2`"),
        (at(0, b"PK\x03\x04"),              "a zip archive"),
        (at(0, b"7z\xbc\xaf\x27\x1c"),      "a 7z archive"),
        (at(257, b"ustar\0"),               "a tar archive"),
        (at(0, b"070701"),                  "`initrd`"),
        (at(0, b"KDMV"),                    "VMDK disk image, only qcow2 and raw are supported: convert it with `qemu-img convert -O qcow2"),
        (at(0, b"# Disk DescriptorFile\n"), "VMDK"),
        (at(0x40, b"\x7f\x10\xda\xbe"),     "VDI"),
        (at(0, b"vhdxfile"),                "VHDX"),
        (at(0, b"conectix"),                "VHD"),
    ];
    for (head, want) in cases {
        let got = verdict(&head, 1 << 20);
        assert!(got.contains(want), "want {want}, got {got}");
    }
    assert!(verdict(&[], 0).contains("empty"));
    assert!(verdict(b"\0", u64::MAX).contains("64 TiB"));
}

#[test]
fn anything_else_is_a_raw_disk() {
    let mut boot_sector = vec![0; 512];
    boot_sector[510..].copy_from_slice(b"\x55\xaa");
    let mut iso = vec![0; HEAD_BYTES];
    iso[0x8001..0x8006].copy_from_slice(b"CD001");
    assert_eq!(verdict(&boot_sector, 512), "raw 512");
    assert_eq!(verdict(&iso, 1 << 30), "raw 1073741824");
    assert_eq!(verdict(&[0; 1], 1), "raw 512", "rounded up to a sector");
    assert_eq!(verdict(&[0xff; 600], 1025), "raw 1536");
    assert_eq!(verdict(b"QFI", 3), "raw 512");
    assert_eq!(verdict(b"some text", 64 << 40), "raw 70368744177664");
}

#[test]
fn kernels_are_told_from_other_files() {
    let mut bz_image = vec![0; 1024];
    bz_image[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
    bz_image[0x202..0x206].copy_from_slice(b"HdrS");
    bz_image[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    bz_image[0x211] = 1;
    assert_eq!(detect_kernel(&bz_image), Ok(KernelHeader { boot_protocol: 0x020f }));
    for len in 0..0x212 {
        assert!(detect_kernel(&bz_image[..len]).is_err(), "{len} bytes");
    }
    let changed = |at: usize, value: u8| {
        let mut head = bz_image.clone();
        head[at] = value;
        detect_kernel(&head).unwrap_err().to_string()
    };
    assert!(changed(0x1fe, 0).contains("bzImage"));
    assert!(changed(0x202, b'h').contains("bzImage"));
    assert!(changed(0x211, 0).contains("zImage"));
    assert!(changed(0x207, 1).contains("boot protocol 1.15"));
    let told = |head: &[u8]| detect_kernel(head).unwrap_err().to_string();
    assert!(told(b"\x7fELF\x02\x01").contains("uncompressed"));
    assert!(told(b"QFI\xfb\0\0\0\x03").contains("disk"));
    assert!(told(b"\x1f\x8b\x08").contains("gzip"));
    assert!(told(b"").contains("empty"));
}

mod fuzz {
    use super::*;

    #[test]
    fn no_bytes_make_it_panic() {
        let head = prop::collection::vec(any::<u8>(), 0..700);
        weft_fuzz::fuzz(2000, (head, any::<u64>()), |(head, len)| {
            let _ = (detect(&head, len), detect_kernel(&head));
            Ok(())
        });
    }

    #[test]
    fn no_damaged_header_makes_it_panic_or_promises_an_impossible_disk() {
        let changes = prop::collection::vec((4_usize..112, any::<u8>()), 0..6);
        let input = (2_u32..=3, changes, 0_usize..=112, any::<u64>());
        weft_fuzz::fuzz(2000, input, |(version, changes, keep, len)| {
            let mut head = qcow2(version);
            for (at, value) in changes {
                head[at] = value;
            }
            if let Ok(header) = detect(&head[..keep], len) {
                prop_assert!(header.virtual_size_bytes > 0);
                prop_assert!(header.virtual_size_bytes <= MAX_VIRTUAL_SIZE);
                prop_assert_eq!(header.virtual_size_bytes % SECTOR, 0);
            }
            Ok(())
        });
    }
}
