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
use weft_model::{GuestSize, InstanceId, Maxima};

use super::devices::Devices;
use super::{ANSWER_DEADLINE, GuestError, Guests};
use crate::qemu::{AGENT_DEVICE, GuestParts, QemuVersion};

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

/// What a saved guest can be read back by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMachine {
    /// The version of the machine that QEMU played, such as `pc-q35-10.0`: a newer QEMU plays
    /// another one unless told.
    pub machine: String,
    /// What a guest with room to grow has; others are as big as their instance says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted: Option<Booted>,
    /// Whether it had a port to the guest's agent, as those that older agents started have not.
    #[serde(default)]
    pub guest_agent: bool,
}

/// A guest that may have grown since it was booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Booted {
    /// How big it was booted.
    pub size: GuestSize,
    /// How far it may grow.
    pub maxima: Maxima,
    /// What came later.
    pub parts: GuestParts,
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

/// How far QEMU is with writing a guest's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saving {
    /// It was not asked to, or not yet.
    NotAsked,
    /// It writes; the guest stands still.
    UnderWay,
    /// It has written all of it.
    Written,
    /// It cannot, and why.
    Failed(String),
}

impl Guests {
    /// Has QEMU write a guest's memory, for which the guest stands still from now on. Returns when
    /// QEMU has begun; [`Guests::saving`] tells how far it is. Begun already is success.
    ///
    /// # Errors
    /// [`GuestError::NotSaved`]: the guest runs on and nothing was kept. Others: try again.
    pub async fn begin_saving(
        &self,
        id: &InstanceId,
        files: &MemoryFiles,
    ) -> Result<(), GuestError> {
        if files.is_saved() {
            return Ok(());
        }
        let devices = Devices::of(self, id).await?;
        if matches!(saving(&devices).await?, Saving::UnderWay | Saving::Written) {
            return Ok(());
        }
        let key = self.size_key(id)?.filter(|key| key.maxima.is_set());
        let booted = match key {
            None => None,
            Some(key) => Some(Booted {
                size: GuestSize { vcpus: key.vcpus, memory_mib: key.memory_mib },
                maxima: key.maxima,
                parts: self.parts(&devices).await?,
            }),
        };
        match ask(&devices, files, booted, self.qemu_version(id)?).await {
            Err(error) if error.refused() => give_up(&devices, files, refusal(error)).await,
            other => other,
        }
    }

    /// How far QEMU is with what it was asked by [`Guests::begin_saving`].
    ///
    /// # Errors
    /// QEMU does not answer.
    pub async fn saving(&self, id: &InstanceId) -> Result<Saving, GuestError> {
        saving(&Devices::of(self, id).await?).await
    }

    /// Keeps a guest's memory that QEMU has written, then ends QEMU. Where it still writes, nothing is
    /// done.
    ///
    /// # Errors
    /// [`GuestError::NotSaved`]: the guest runs on and nothing was kept. Others: try again.
    pub async fn keep_memory(
        &self,
        id: &InstanceId,
        files: &MemoryFiles,
    ) -> Result<(), GuestError> {
        if !files.is_saved() {
            let devices = Devices::of(self, id).await?;
            match saving(&devices).await? {
                Saving::NotAsked | Saving::UnderWay => return Ok(()),
                Saving::Failed(why) => {
                    // Does nothing where QEMU has given up by itself.
                    devices.execute("migrate_cancel", json!({})).await?;
                    return give_up(&devices, files, why).await;
                }
                Saving::Written => {}
            }
            weft_crash_points::point("guest.hibernate.written");
            files.keep().await.map_err(failed(id, "keep the memory"))?;
            weft_crash_points::point("guest.hibernate.kept");
        }
        self.quit(id).await
    }

    /// Lets a guest go on whose memory was read back, and removes the file. Done already is success;
    /// where it is still being read, nothing is done.
    ///
    /// # Errors
    /// QEMU does not answer, or the file cannot be removed: the guest waits.
    pub async fn resume(&self, id: &InstanceId, files: &MemoryFiles) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        if status(&devices).await? == "inmigrate" {
            return Ok(());
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

async fn saving(devices: &Devices<'_>) -> Result<Saving, GuestError> {
    match status(devices).await?.as_str() {
        // That of the other end, where the memory was read back, says "completed" as well.
        "postmigrate" => return Ok(Saving::Written),
        // It stands still before QEMU is asked: what is told is of an earlier attempt.
        "running" => return Ok(Saving::NotAsked),
        _ => {}
    }
    let answer = devices.execute("query-migrate", json!({})).await?;
    Ok(match answer["status"].as_str().unwrap_or("none") {
        "setup" | "active" | "device" | "pre-switchover" | "cancelling" => {
            let spent = Duration::from_millis(answer["total-time"].as_u64().unwrap_or_default());
            match spent > SAVE_DEADLINE {
                true => {
                    let seconds = SAVE_DEADLINE.as_secs();
                    Saving::Failed(format!("it was not written within {seconds} s"))
                }
                false => Saving::UnderWay,
            }
        }
        how @ ("failed" | "cancelled") => {
            Saving::Failed(answer["error-desc"].as_str().unwrap_or(how).to_owned())
        }
        _ => Saving::NotAsked,
    })
}

/// The guest runs on, and nothing is left of the attempt.
async fn give_up(
    devices: &Devices<'_>,
    files: &MemoryFiles,
    why: String,
) -> Result<(), GuestError> {
    devices.execute("cont", json!({})).await?;
    // Else its room would be taken until the guest ends.
    devices.take_back_all(MEMORY).await?;
    let removed = files.remove_part().await;
    removed.map_err(failed(devices.id, "remove what was saved of the memory"))?;
    Err(GuestError::NotSaved { id: devices.id.clone(), why })
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
    booted: Option<Booted>,
    version: QemuVersion,
) -> Result<(), GuestError> {
    let arguments = json!({ "path": "/machine", "property": "type" });
    let machine = devices.execute("qom-get", arguments).await?;
    // Types of QOM end so: `TYPE_MACHINE_SUFFIX` in QEMU's `include/hw/boards.h`.
    let machine = machine.as_str().unwrap_or_default().trim_end_matches("-machine").to_owned();
    let guest_agent = devices.names().await?.iter().any(|name| name == AGENT_DEVICE);
    let file = files.begin(SavedMachine { machine, booted, guest_agent }).await;
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
        let machine = "pc-q35-10.0".to_owned();
        let machine = SavedMachine { machine, booted: None, guest_agent: true };
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
