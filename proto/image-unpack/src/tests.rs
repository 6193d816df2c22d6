use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// `bytes` as the system's own program packs them. `None` where it is not installed.
fn packed(kind: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut program = Command::new(kind.as_str())
        .args(["-c", "-1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .inspect_err(|_| println!("SKIPPED: {} is not installed", kind.as_str()))
        .ok()?;
    let (mut input, bytes) = (program.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = program.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    Some(output.stdout)
}

fn unpacked(kind: Compression, bytes: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut unpacker = Unpacker::new(bytes, kind);
    let (mut out, mut buffer) = (Vec::new(), vec![0; 100_000]);
    loop {
        match unpacker.read(&mut buffer)? {
            0 => return Ok(out),
            read => out.extend_from_slice(&buffer[..read]),
        }
    }
}

const KINDS: [Compression; 3] = [Compression::Gzip, Compression::Xz, Compression::Zstd];

/// Neither all alike nor all different.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| if n % 7 < 3 { 0 } else { (n * n / 31) as u8 }).collect()
}

#[test]
fn what_the_systems_programs_have_packed_comes_out_as_it_was() {
    for kind in KINDS {
        for length in [0, 1, 70_000, 3_000_000] {
            let content = content(length);
            let Some(packed) = packed(kind, &content) else { return };
            assert_eq!(Compression::detect(&packed), Some(kind));
            assert_eq!(unpacked(kind, &packed).unwrap(), content, "{kind:?} of {length}");
            // Files one after the other are one file: what pigz, pixz and pzstd write.
            let twice = [packed.clone(), packed].concat();
            assert_eq!(unpacked(kind, &twice).unwrap(), [content.clone(), content].concat());
        }
    }
}

#[test]
fn a_truncated_file_is_told_from_a_damaged_one() {
    for kind in KINDS {
        let Some(packed) = packed(kind, &content(500_000)) else { return };
        for cut in [packed.len() / 2, packed.len() - 1] {
            let error = unpacked(kind, &packed[..cut]).unwrap_err();
            assert!(matches!(error, UnpackError::Truncated { .. }), "{kind:?} {cut}: {error:?}");
        }
        let mut damaged = packed.clone();
        // In the middle, and not at once: headers are refused by themselves.
        damaged[packed.len() / 2] ^= 0x55;
        damaged[packed.len() / 2 + 1] ^= 0xff;
        assert!(unpacked(kind, &damaged).is_err(), "{kind:?}");
    }
}

#[test]
fn claims_of_much_memory_are_refused_before_it_is_taken() {
    // RFC 8878, 3.1.1.1.2: a window descriptor of exponent 31 is 2 TiB.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3, 0, 0, 0, 0];
    assert!(unpacked(Compression::Zstd, &zstd).is_err());
    let Some(mut xz) = packed(Compression::Xz, &content(1000)) else { return };
    // The .xz format, 5.3.1: the dictionary of 4 GiB - 1; its block header has a CRC32.
    let properties = 12 + 4;
    assert_eq!(xz[12 + 2..12 + 4], [0x21, 1], "a block header with LZMA2 alone");
    xz[properties] = 40;
    let end = 12 + (usize::from(xz[12]) + 1) * 4 - 4;
    let crc = crc32(&xz[12..end]);
    xz[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    let error = unpacked(Compression::Xz, &xz).unwrap_err();
    let UnpackError::Damaged { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("mem"), "{source}");
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[test]
fn a_glance_sees_a_disk_inside_and_what_is_none() {
    let mut overlay = vec![0; 200_000];
    overlay[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    overlay[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 104, 0, 0, 0, 8]);
    overlay[20..32].copy_from_slice(&[0, 0, 0, 16, 0, 0, 0, 0, 0x40, 0, 0, 0]);
    overlay[100..104].copy_from_slice(&104_u32.to_be_bytes());
    let mut tar = content(200_000);
    tar[257..262].copy_from_slice(b"ustar");
    for kind in [Compression::Gzip, Compression::Xz] {
        let Some(disk) = packed(kind, &content(200_000)) else { return };
        let head = &disk[..disk.len().min(HEAD_BYTES)];
        let seen = glance(head, None, kind).unwrap();
        assert!(matches!(seen, Glance::Disk { virtual_size_bytes: None }), "{seen:?}");
        // All of a file is there, and it ends too early.
        let short = &head[..40];
        assert!(matches!(glance(short, None, kind), Ok(Glance::Unknown)));
        let error = glance(short, Some(40), kind).unwrap_err().to_string();
        assert!(error.contains("truncated"), "{error}");
        for (inside, word) in [(&overlay, "backing file"), (&tar, "tar archive")] {
            let packed = packed(kind, inside).unwrap();
            let error = glance(&packed[..packed.len().min(HEAD_BYTES)], None, kind).unwrap_err();
            assert!(error.to_string().contains(word), "{kind:?}: {error}");
        }
        // Twice compressed.
        let twice = packed(kind, &disk).unwrap();
        let error = glance(&twice[..twice.len().min(HEAD_BYTES)], None, kind).unwrap_err();
        assert!(error.to_string().contains("compressed with"), "{error}");
    }
}

mod fuzz {
    use super::*;

    /// Spoiled files are errors or other bytes, never a panic, a loop or much memory.
    #[test]
    fn spoiled_files_end() {
        let packed = KINDS.map(|kind| packed(kind, &content(20_000)));
        let spoils = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
        let input = (0..3_usize, spoils, any::<prop::sample::Index>());
        weft_fuzz::fuzz(300, input, |(kind, spoils, cut)| {
            let (Some(mut bytes), kind) = (packed[kind].clone(), KINDS[kind]) else {
                return Ok(());
            };
            for (at, value) in spoils {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len() * 4).max(16).min(bytes.len()));
            let mut unpacker = Unpacker::new(bytes.as_slice(), kind);
            let (mut buffer, mut total) = (vec![0; 64 << 10], 0_u64);
            while let Ok(read) = unpacker.read(&mut buffer) {
                total += read as u64;
                if read == 0 || total > 64 << 20 {
                    break;
                }
            }
            drop(glance(&bytes, None, kind));
            Ok(())
        });
    }

    /// Noise behind each magic number.
    #[test]
    fn noise_ends() {
        let input = (0..3_usize, proptest::collection::vec(any::<u8>(), 0..2000));
        weft_fuzz::fuzz(300, input, |(kind, noise)| {
            let magic: [&[u8]; 3] = [b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
            let bytes = [magic[kind], &noise].concat();
            prop_assert_eq!(Compression::detect(&bytes), Some(KINDS[kind]));
            drop(glance(&bytes, None, KINDS[kind]));
            Ok(())
        });
    }
}
