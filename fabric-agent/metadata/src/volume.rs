//! The seed as a disk: a small FAT volume whose label makes cloud-init look into it.

use std::io::{self, Cursor, Write};

use fatfs::{
    Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider, format_volume,
};

use crate::Seed;

/// The volume's label. FAT labels are in upper case by convention; cloud-init takes `cidata` and
/// `CIDATA` (`DataSourceNoCloud.py`, `_get_devices`).
pub const VOLUME_LABEL: &str = "CIDATA";

/// As [`VOLUME_LABEL`], filled with spaces as on the disk.
const LABEL_ON_DISK: [u8; 11] = *b"CIDATA     ";
/// Room for boot sector, two allocation tables, root directory and the ends of clusters.
const OVERHEAD_BYTES: usize = 128 * 1024;
/// The volume's size is a multiple of this, in bytes.
const STEP_BYTES: usize = 64 * 1024;

/// The volume could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// No filesystem of `bytes` bytes can be made.
    #[error("make a seed volume of {bytes} bytes")]
    Format {
        /// The volume's size.
        bytes: usize,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// A file does not go into it.
    #[error("write {name} into the seed volume")]
    Write {
        /// The file.
        name: &'static str,
        #[source]
        /// Why.
        source: io::Error,
    },
}

/// The same time for every file: the same seed gives the same bytes. FAT knows no time before 1980.
#[derive(Debug)]
struct FixedTime;

static FIXED_TIME: FixedTime = FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date { year: 2000, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time { hour: 0, min: 0, sec: 0, millis: 0 },
        }
    }
}

impl Seed {
    /// The seed as the bytes of a disk without partitions. Equal seeds give equal bytes.
    ///
    /// # Errors
    /// [`SeedError`] for user data beyond what FAT can hold.
    pub fn to_disk_image(&self) -> Result<Vec<u8>, SeedError> {
        let content: usize = self.files().map(|(_, bytes)| bytes.len()).sum();
        let bytes = (content + content / 64 + OVERHEAD_BYTES).next_multiple_of(STEP_BYTES);
        let formatting = |source| SeedError::Format { bytes, source };
        let options =
            FormatVolumeOptions::new().volume_label(LABEL_ON_DISK).volume_id(self.volume_id());
        let mut image = vec![0; bytes];
        format_volume(Cursor::new(&mut image[..]), options).map_err(formatting)?;
        let mounting = FsOptions::new().time_provider(&FIXED_TIME);
        let volume = FileSystem::new(Cursor::new(&mut image[..]), mounting).map_err(formatting)?;
        for (name, content) in self.files() {
            let write = || {
                let mut file = volume.root_dir().create_file(name)?;
                file.write_all(content)?;
                file.flush()
            };
            write().map_err(|source| SeedError::Write { name, source })?;
        }
        volume.unmount().map_err(formatting)?;
        Ok(image)
    }

    /// Shown by `blkid` as the UUID: the start of the digest, so that it tells seeds apart.
    fn volume_id(&self) -> u32 {
        let [a, b, c, d, ..] = self.hash();
        u32::from_be_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::process::Command;

    use proptest::prelude::*;

    use crate::SeedInput;
    use crate::seed::tests::input;

    use super::*;

    fn with_user_data(user_data: Vec<u8>) -> Seed {
        Seed::new(&SeedInput { user_data: Some(user_data), ..input() })
    }

    fn read_back(image: Vec<u8>) -> (String, Vec<(String, Vec<u8>)>) {
        let volume = FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap();
        let mut files = Vec::new();
        for entry in volume.root_dir().iter() {
            let entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.to_file().read_to_end(&mut bytes).unwrap();
            assert_eq!(entry.modified().date.year, 2000);
            files.push((entry.file_name(), bytes));
        }
        files.sort();
        let label = volume.read_volume_label_from_root_dir().unwrap().unwrap();
        assert_eq!(volume.volume_label(), label, "boot sector and root directory agree");
        (label, files)
    }

    fn expected(seed: &Seed) -> Vec<(String, Vec<u8>)> {
        seed.files().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
    }

    #[test]
    fn the_volume_holds_the_files_under_the_label() {
        for len in [0, 1, 16 * 1024, 64 * 1024, 1 << 20, 5 << 20, 40 << 20] {
            let seed = with_user_data(vec![b'u'; len]);
            let image = seed.to_disk_image().unwrap();
            assert_eq!(image.len() % 512, 0);
            assert!(image.len() < len + len / 32 + 256 * 1024, "{len} needs {}", image.len());
            let (label, files) = read_back(image);
            assert_eq!(label, "CIDATA");
            assert_eq!(files, expected(&seed), "{len} bytes of user data");
        }
    }

    #[test]
    fn equal_seeds_give_equal_bytes_and_others_another_volume_id() {
        let image = with_user_data(b"a".to_vec()).to_disk_image().unwrap();
        assert_eq!(with_user_data(b"a".to_vec()).to_disk_image().unwrap(), image);
        assert_ne!(
            with_user_data(b"b".to_vec()).volume_id(),
            with_user_data(b"a".to_vec()).volume_id()
        );
    }

    #[test]
    fn the_volume_id_is_the_start_of_the_digest() {
        let seed = with_user_data(b"a".to_vec());
        assert!(seed.digest().to_string().starts_with(&format!("{:08x}", seed.volume_id())));
    }

    #[test]
    fn linux_finds_the_label() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.img");
        fs::write(&path, with_user_data(Vec::new()).to_disk_image().unwrap()).unwrap();
        let probe = Command::new("blkid").args(["-p", "-o", "export"]).arg(&path).output();
        let Ok(output) = probe else {
            eprintln!("SKIPPED: no blkid on this machine");
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        for line in ["LABEL=CIDATA", "TYPE=vfat"] {
            assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
        }
    }

    mod fuzz {
        use super::*;

        /// Whatever an API's client calls user data.
        #[test]
        fn any_user_data_comes_back() {
            let user_data = prop::collection::vec(any::<u8>(), 0..100_000);
            weft_fuzz::fuzz(32, user_data, |user_data| {
                let seed = with_user_data(user_data);
                let (_, files) = read_back(seed.to_disk_image().unwrap());
                prop_assert_eq!(files, expected(&seed));
                Ok(())
            });
        }

        /// Names, keys and users are in the seed too, in YAML and JSON.
        #[test]
        fn no_text_of_an_instance_breaks_out_of_its_place() {
            let good = br"#cloud-config\nusers: [{name: x}]\nruncmd:\n- [sh, -c, 'a']\n".to_vec();
            let texts = (".{0,60}", weft_fuzz::hostile(vec![good]));
            weft_fuzz::fuzz(64, texts, |(text, user_data)| {
                let seed = Seed::new(&SeedInput {
                    hostname: text.clone(),
                    public_keys: vec![text.clone()],
                    user_data: Some(user_data.clone()),
                    ..input()
                });
                let (_, files) = read_back(seed.to_disk_image().unwrap());
                let of = |wanted: &str| files.iter().find(|(name, _)| name == wanted);
                prop_assert_eq!(of("user-data").map(|(_, bytes)| bytes), Some(&user_data));
                let meta: serde_json::Value =
                    serde_json::from_slice(&of("meta-data").unwrap().1).unwrap();
                prop_assert_eq!(meta["local-hostname"].as_str(), Some(text.as_str()));
                prop_assert_eq!(&meta["public-keys"], &serde_json::json!([text]));
                Ok(())
            });
        }
    }
}
