//! A guest's memory and the state of its devices in a file: saved when the guest is hibernated, read
//! back when it is started again.
//!
//! ```text
//! memory.part ──(QEMU has written all of it)──▶ memory.saved ──(a new QEMU has read it)──▶ nothing
//! ```
//!
//! What is there says how far an interrupted attempt came, so each call may be repeated. The file is
//! gone before the guest goes on: memory that the guest's disk has left behind is never read again.
//! Commands: QEMU `qapi/migration.json`; a file of its own is "file migration" in
//! `docs/devel/migration/main.rst`. QEMU has no right to open it: it is given a descriptor.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};
use weft_model::InstanceId;

use super::devices::Devices;
use super::{ANSWER_DEADLINE, GuestError, Guests};
use crate::qemu::QemuVersion;

const PART: &str = "memory.part";
const SAVED: &str = "memory.saved";
const MACHINE: &str = "memory.json";

/// The first QEMU with `file:`; `fd:` of a plain file is deprecated from 9.1 on.
const HAS_FILE_URI: QemuVersion = QemuVersion { major: 8, minor: 2, micro: 0 };
/// What QEMU calls the descriptor that it was given by `getfd`.
const FD_NAME: &str = "memory";
/// Whose QEMU says the descriptor is that it writes memory to, or was started with to read it back.
pub(crate) const MEMORY: &str = "memory";
/// Bytes per second: as good as none. QEMU's own limit is meant for networks.
const NO_LIMIT: u64 = 1 << 40;
/// A slow disk writes 64 GiB in half an hour.
const SAVE_DEADLINE: Duration = Duration::from_secs(3600);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What a saved guest can be read back by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMachine {
    /// The version of the machine that QEMU played, such as `pc-q35-10.0`: a newer QEMU plays
    /// another one unless told.
    pub machine: String,
}

/// The files of one guest's memory.
#[derive(Clone, Debug)]
pub struct MemoryFiles(PathBuf);

impl MemoryFiles {
    /// In the directory of the instance's disks, which only root may enter.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The whole memory, where it was saved.
    pub fn saved(&self) -> PathBuf {
        self.0.join(SAVED)
    }

    fn part(&self) -> PathBuf {
        self.0.join(PART)
    }

    /// Whether the whole memory was saved.
    pub fn is_saved(&self) -> bool {
        self.saved().exists()
    }

    /// Whether it is being saved, or was when something broke.
    pub fn is_begun(&self) -> bool {
        self.part().exists()
    }

    /// What it was saved on.
    pub fn machine(&self) -> io::Result<SavedMachine> {
        Ok(serde_json::from_slice(&std::fs::read(self.0.join(MACHINE))?)?)
    }

    /// Removes all of it.
    pub async fn remove(&self) -> io::Result<()> {
        self.blocking(|files| {
            // What says that there is memory goes first.
            for name in [SAVED, PART, MACHINE] {
                remove(&files.0.join(name))?;
            }
            files.sync_dir()
        })
        .await
    }

    /// Removes what an attempt left that did not come to its end.
    pub async fn remove_part(&self) -> io::Result<()> {
        self.blocking(|files| remove(&files.part())).await
    }

    async fn begin(&self, machine: SavedMachine) -> io::Result<File> {
        self.blocking(move |files| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).write(true).mode(0o600);
            let file = options.open(files.part())?;
            std::fs::write(files.0.join(MACHINE), serde_json::to_vec(&machine)?)?;
            File::open(files.0.join(MACHINE))?.sync_all()?;
            Ok(file)
        })
        .await
    }

    async fn keep(&self) -> io::Result<()> {
        self.blocking(|files| {
            File::open(files.part())?.sync_all()?;
            std::fs::rename(files.part(), files.saved())?;
            files.sync_dir()
        })
        .await
    }

    /// The files are as large as the guest's memory: to make them durable, or to remove them, takes a
    /// disk seconds.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let files = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&files)).await;
        done.map_err(io::Error::other)?
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Guests {
    /// Saves a guest's memory, then ends its QEMU. An attempt that was interrupted is carried on.
    ///
    /// # Errors
    /// [`GuestError::NotSaved`]: the guest runs on and nothing was kept. Others: try again.
    pub async fn save_memory(
        &self,
        id: &InstanceId,
        files: &MemoryFiles,
    ) -> Result<(), GuestError> {
        if !files.is_saved() {
            let devices = Devices::of(self, id).await?;
            if let Err(why) = write_memory(&devices, files, self.qemu_version(id)?).await? {
                devices.execute("cont", json!({})).await?;
                // Else its room would be taken until the guest ends.
                devices.take_back_all(MEMORY).await?;
                files
                    .remove_part()
                    .await
                    .map_err(failed(id, "remove what was saved of the memory"))?;
                return Err(GuestError::NotSaved { id: id.clone(), why });
            }
            weft_crash_points::point("guest.hibernate.written");
            files.keep().await.map_err(failed(id, "keep the memory"))?;
            weft_crash_points::point("guest.hibernate.kept");
        }
        self.quit(id).await
    }

    /// Lets a guest go on whose memory was read back, and removes the file. Done already is success.
    ///
    /// # Errors
    /// QEMU does not answer, or the file cannot be removed: the guest waits.
    pub async fn resume(&self, id: &InstanceId, files: &MemoryFiles) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        let asked = Instant::now();
        while status(&devices).await? == "inmigrate" {
            if asked.elapsed() > SAVE_DEADLINE {
                let seconds = SAVE_DEADLINE.as_secs();
                return Err(GuestError::StartTimeout { id: id.clone(), seconds });
            }
            sleep(POLL_INTERVAL).await;
        }
        // Else its room would be taken until the guest ends.
        devices.take_back_all(MEMORY).await?;
        files.remove().await.map_err(failed(id, "remove the memory that was read back"))?;
        weft_crash_points::point("guest.resume.removed");
        devices.execute("cont", json!({})).await.map(|_| ())
    }

    /// Whether this start of the guest reads its memory back, instead of booting.
    ///
    /// # Errors
    /// The record of the start cannot be read.
    pub fn is_resumed(&self, id: &InstanceId) -> Result<bool, GuestError> {
        let key = self.read::<crate::record::SpecKey>(id, crate::layout::SPEC)?;
        Ok(key.is_some_and(|key| key.resume.is_some()))
    }

    fn qemu_version(&self, id: &InstanceId) -> Result<QemuVersion, GuestError> {
        let guest = self.live_guest(id)?;
        guest
            .map(|guest| guest.qemu_version)
            .ok_or_else(|| GuestError::NotRunning { id: id.clone() })
    }
}

async fn status(devices: &Devices<'_>) -> Result<String, GuestError> {
    let answer = devices.execute("query-status", json!({})).await?;
    Ok(answer["status"].as_str().unwrap_or_default().to_owned())
}

/// Returns when QEMU has written everything, or why it cannot.
async fn write_memory(
    devices: &Devices<'_>,
    files: &MemoryFiles,
    version: QemuVersion,
) -> Result<Result<(), String>, GuestError> {
    let (begun, mut asked) = (Instant::now(), false);
    loop {
        // That of the other end, where the memory was read back, says "completed" as well.
        if status(devices).await? == "postmigrate" {
            return Ok(Ok(()));
        }
        let answer = devices.execute("query-migrate", json!({})).await?;
        match answer["status"].as_str().unwrap_or("none") {
            "setup" | "active" | "device" | "pre-switchover" | "cancelling" => asked = true,
            "completed" if asked => {}
            _ if !asked => {
                match ask(devices, files, version).await {
                    Err(error) if error.refused() => return Ok(Err(refusal(error))),
                    other => other?,
                }
                asked = true;
            }
            how => {
                let why = answer["error-desc"].as_str().unwrap_or(how);
                return Ok(Err(why.to_owned()));
            }
        }
        if begun.elapsed() > SAVE_DEADLINE {
            devices.execute("migrate_cancel", json!({})).await?;
            return Ok(Err(format!("it was not written within {} s", SAVE_DEADLINE.as_secs())));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// QEMU's own words.
fn refusal(error: GuestError) -> String {
    match error {
        GuestError::Qmp { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

async fn ask(
    devices: &Devices<'_>,
    files: &MemoryFiles,
    version: QemuVersion,
) -> Result<(), GuestError> {
    let arguments = json!({ "path": "/machine", "property": "type" });
    let machine = devices.execute("qom-get", arguments).await?;
    // Types of QOM end so: `TYPE_MACHINE_SUFFIX` in QEMU's `include/hw/boards.h`.
    let machine = machine.as_str().unwrap_or_default().trim_end_matches("-machine").to_owned();
    let file = files.begin(SavedMachine { machine }).await;
    let file = file.map_err(failed(devices.id, "make a file for the memory"))?;
    weft_crash_points::point("guest.hibernate.begun");
    let arguments = json!({ "max-bandwidth": NO_LIMIT });
    devices.execute("migrate-set-parameters", arguments).await?;
    let uri = match version >= HAS_FILE_URI {
        true => {
            let given = devices.client.add_fd(file.as_fd(), MEMORY, ANSWER_DEADLINE).await;
            format!("file:{}", given.map_err(devices.failed("add-fd"))?)
        }
        false => {
            let given = devices.client.give(FD_NAME, file.as_fd(), ANSWER_DEADLINE).await;
            given.map_err(devices.failed("getfd"))?;
            format!("fd:{FD_NAME}")
        }
    };
    // Nothing changes any more: one pass over the memory is enough.
    devices.execute("stop", json!({})).await?;
    weft_crash_points::point("guest.hibernate.stopped");
    devices.execute("migrate", json!({ "uri": uri })).await?;
    weft_crash_points::point("guest.hibernate.asked");
    Ok(())
}

fn failed(id: &InstanceId, step: &'static str) -> impl FnOnce(io::Error) -> GuestError {
    let id = id.clone();
    move |source| GuestError::Prepare { id, step, source }
}

/// How QEMU is told to read what the descriptor `fd` of its own leads to.
pub(crate) fn incoming_uri(version: QemuVersion, fd: i32) -> String {
    match version >= HAS_FILE_URI {
        true => format!("file:/dev/fdset/{fd}"),
        false => format!("fd:{fd}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_says_how_far_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let files = MemoryFiles::in_dir(dir.path());
        let seen = |files: &MemoryFiles| (files.is_begun(), files.is_saved());
        assert_eq!(seen(&files), (false, false));
        let machine = SavedMachine { machine: "pc-q35-10.0".to_owned() };
        drop(files.begin(machine.clone()).await.unwrap());
        assert_eq!(seen(&files), (true, false));
        files.keep().await.unwrap();
        assert_eq!(seen(&files), (false, true));
        assert_eq!(files.machine().unwrap(), machine);
        files.remove().await.unwrap();
        files.remove().await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
