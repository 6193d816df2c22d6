//! What a start finds of the guests before it: those of another boot of the machine, and control
//! groups that are left over.

use std::fs;
use std::io;
use std::path::Path;

use weft_hypervisor::{Cgroups, boot_id};

use crate::config::Directories;
use crate::error_chain::ErrorChain;
use crate::files;
use crate::host::HostError;

/// Records of guests that ran before the machine was restarted say nothing of this boot: without
/// them, what should run is started again. Where the runtime directory is in memory, as it should
/// be, there are none.
///
/// # Errors
/// The kernel does not say which boot this is, or a file cannot be read, removed or written.
pub(super) fn forget_other_boots(directories: &Directories) -> Result<(), HostError> {
    let boot = boot_id().map_err(failed("read which boot of the machine this is".to_owned()))?;
    begin(&boot, &directories.boot_record(), &directories.guests())
}

/// `boot` is the present one, `guests` where records of guests are.
fn begin(boot: &str, record: &Path, guests: &Path) -> Result<(), HostError> {
    let recorded = recorded(record)?;
    if recorded.as_deref() == Some(boot) {
        return Ok(());
    }
    if recorded.is_some() {
        tracing::info!("the machine was restarted; what should run is started again");
        match fs::remove_dir_all(guests) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(format!("remove {}", guests.display()))(error));
            }
            _ => {}
        }
        // Last: who dies before this finds the other boot's record again.
        weft_crash_points::point("boot.forget.removed");
    }
    files::replace(record, boot.as_bytes(), 0o600).map_err(|error| {
        HostError::new("write down which boot of the machine this is", true).caused_by(error)
    })
}

/// The boot that was written down. What is no boot's id says nothing: an agent of an older version
/// left an empty file where it was killed while it wrote.
fn recorded(record: &Path) -> Result<Option<String>, HostError> {
    match fs::read(record) {
        Ok(content) => {
            let text = String::from_utf8(content).unwrap_or_default();
            let id = text.trim();
            Ok(is_boot_id(id).then(|| id.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(format!("read {}", record.display()))(error)),
    }
}

/// A UUID as the kernel writes it, random(4): 8-4-4-4-12 hexadecimal digits.
fn is_boot_id(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn failed(what: String) -> impl FnOnce(io::Error) -> HostError {
    move |error| HostError::new(what, true).caused_by(error)
}

/// The groups that guests are limited by, without those that guests left behind.
pub(super) async fn cgroups(prefix: &str) -> Result<Cgroups, HostError> {
    let prefix = prefix.to_owned();
    let prepare = move || {
        let cgroups = Cgroups::prepare(&prefix);
        let swept = cgroups.sweep();
        (cgroups, swept)
    };
    let (cgroups, swept) = tokio::task::spawn_blocking(prepare)
        .await
        .map_err(|error| HostError::new("prepare control groups", true).caused_by(error))?;
    // What is left over limits nobody.
    if let Err(error) = swept {
        tracing::warn!(error = %ErrorChain(&error), "control groups of former guests stay behind");
    }
    match cgroups.explain() {
        Ok(how) => tracing::info!("{how}"),
        Err(why) => tracing::warn!("{why}"),
    }
    Ok(cgroups)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    use super::*;

    const THIS: &str = "6f1d2c1e-0f5e-4f0c-9a55-4f4e8a1c7b21";
    const OTHER: &str = "b0a7c9d4-5d0f-4b53-8c5f-8d4a4b7b2f10";

    /// A runtime directory with a guest's record, and what it says of the boot.
    struct Scene {
        dir: tempfile::TempDir,
    }

    impl Scene {
        fn new(recorded: Option<&[u8]>) -> Self {
            let scene = Self { dir: tempfile::tempdir().unwrap() };
            fs::create_dir_all(scene.guests().join("i-1")).unwrap();
            if let Some(recorded) = recorded {
                fs::write(scene.record(), recorded).unwrap();
            }
            scene
        }

        fn record(&self) -> PathBuf {
            self.dir.path().join("boot-id")
        }

        fn guests(&self) -> PathBuf {
            self.dir.path().join("guests")
        }

        /// Whether the guest's record survives a start in boot [`THIS`].
        fn guest_is_kept(&self) -> bool {
            begin(THIS, &self.record(), &self.guests()).unwrap();
            assert_eq!(recorded(&self.record()).unwrap().as_deref(), Some(THIS));
            self.guests().join("i-1").exists()
        }
    }

    #[test]
    fn only_a_whole_record_of_another_boot_forgets_guests() {
        assert!(!Scene::new(Some(OTHER.as_bytes())).guest_is_kept());
        // As older agents wrote it: the kernel's line.
        assert!(!Scene::new(Some(format!("{OTHER}\n").as_bytes())).guest_is_kept());
        assert!(Scene::new(Some(format!("{THIS}\n").as_bytes())).guest_is_kept());
        assert!(Scene::new(None).guest_is_kept());
        assert!(Scene::new(Some(b"")).guest_is_kept());
        assert!(Scene::new(Some(&OTHER.as_bytes()[..20])).guest_is_kept());
        assert!(Scene::new(Some(&[0xff; 36])).guest_is_kept());
        assert!(Scene::new(Some(&[0; 36])).guest_is_kept());
    }

    #[test]
    fn the_record_is_left_alone_in_the_same_boot_and_replaced_whole_in_another() {
        let inode = |scene: &Scene| fs::metadata(scene.record()).unwrap().ino();
        let scene = Scene::new(Some(THIS.as_bytes()));
        let before = inode(&scene);
        assert!(scene.guest_is_kept());
        assert_eq!(inode(&scene), before);

        // Who reads the old file meanwhile has all of it: it is not written to.
        let scene = Scene::new(Some(OTHER.as_bytes()));
        let old = scene.dir.path().join("old");
        fs::hard_link(scene.record(), &old).unwrap();
        assert!(!scene.guest_is_kept());
        assert_eq!(fs::read_to_string(old).unwrap(), OTHER);
    }
}
