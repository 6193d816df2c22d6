//! The devices of one QEMU, and the commands that all who change them need.
//!
//! QEMU is asked what there is: devices are called after what they stand for (`-device id=`), so
//! nothing has to be remembered. Commands: QEMU `qapi/misc.json`, `qapi/qdev.json`, `qapi/qom.json`.
//! A guest takes part in giving a device back, and may never do so.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weft_model::{DataSecret, InstanceId};

use super::{ANSWER_DEADLINE, GuestError, Guests};
use crate::qemu::VolumeDisk;
use crate::qmp::{QmpClient, QmpError};
use crate::record::GuestIdentity;

/// Where QEMU has the devices that have names.
pub(super) const NAMED_DEVICES: &str = "/machine/peripheral";
/// Where it has the secrets of encrypted volumes.
const OBJECTS: &str = "/objects";
/// How long a guest may take to let go of a device. An idle one takes some milliseconds.
pub(super) const LET_GO_DEADLINE: Duration = Duration::from_secs(10);
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The device that an entry of `query-block` or `query-blockstats` is of, where that has a name.
pub(super) fn device_of(entry: &Value) -> Option<&str> {
    let path = entry["qdev"].as_str().filter(|path| !path.is_empty())?;
    let within = path.strip_prefix(NAMED_DEVICES).and_then(|rest| rest.strip_prefix('/'));
    let name = within.unwrap_or(path);
    if name.starts_with('/') { None } else { name.split('/').next() }
}

/// One QEMU, to be asked and told.
pub(super) struct Devices<'a> {
    pub(super) id: &'a InstanceId,
    pub(super) client: QmpClient,
    /// Of its process.
    pub(super) pid: i32,
}

impl<'a> Devices<'a> {
    pub(super) async fn of(guests: &Guests, id: &'a InstanceId) -> Result<Self, GuestError> {
        let guest: GuestIdentity =
            guests.live_guest(id)?.ok_or_else(|| GuestError::NotRunning { id: id.clone() })?;
        let client = guests.client(id, &guest).await;
        let command = "qmp_capabilities";
        let client =
            client.map_err(|source| GuestError::Qmp { id: id.clone(), command, source })?;
        Ok(Self { id, client, pid: guest.qemu.pid })
    }

    pub(super) fn failed(&self, command: &'static str) -> impl FnOnce(QmpError) -> GuestError {
        let id = self.id.clone();
        move |source| GuestError::Qmp { id, command, source }
    }

    pub(super) async fn execute(
        &self,
        command: &'static str,
        arguments: Value,
    ) -> Result<Value, GuestError> {
        let answer = self.client.execute(command, Some(arguments), ANSWER_DEADLINE).await;
        answer.map_err(self.failed(command))
    }

    /// Tells QEMU something that it refuses where it is done already.
    pub(super) async fn execute_or_not(
        &self,
        command: &'static str,
        arguments: Value,
    ) -> Result<(), GuestError> {
        match self.execute(command, arguments).await {
            Err(error) if !error.refused() => Err(error),
            Err(_) | Ok(_) => Ok(()),
        }
    }

    /// The names of all devices that have some.
    pub(super) async fn names(&self) -> Result<Vec<String>, GuestError> {
        let answer = self.execute("qom-list", json!({ "path": NAMED_DEVICES })).await?;
        let entries = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let name = |entry: &Value| entry["name"].as_str().map(str::to_owned);
        Ok(entries.iter().filter_map(name).collect())
    }

    /// Asks the guest to let go of a device and waits for it; whether it did in time. Gone already is
    /// let go of.
    pub(super) async fn let_go(&self, device: &impl Display) -> Result<bool, GuestError> {
        let device = device.to_string();
        let started = Instant::now();
        let mut asked = false;
        while self.names().await?.contains(&device) {
            if !asked {
                // Refused where it was asked before and is about to, or went just now.
                self.execute_or_not("device_del", json!({ "id": device })).await?;
                asked = true;
            }
            if started.elapsed() > LET_GO_DEADLINE {
                return Ok(false);
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(true)
    }

    /// Opens a file and hands it to QEMU for `whose`; gives the name under which QEMU opens it.
    pub(super) async fn give_file(
        &self,
        path: &Path,
        write: bool,
        whose: &str,
    ) -> Result<String, GuestError> {
        let owned = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
            OpenOptions::new().read(true).write(write).open(owned)
        });
        let file = opened.await.map_err(std::io::Error::other).and_then(|it| it);
        let (id, path): (_, PathBuf) = (self.id.clone(), path.to_owned());
        let file = file.map_err(|source| GuestError::Disk { id, path, source })?;
        let given = self.client.add_fd(file.as_fd(), whose, ANSWER_DEADLINE).await;
        given.map_err(self.failed("add-fd"))
    }

    /// Tells QEMU what encrypts a volume, unless it knows.
    pub(super) async fn give_secret(
        &self,
        volume_id: &str,
        secret: Option<&DataSecret>,
    ) -> Result<(), GuestError> {
        let Some(secret) = secret else { return Ok(()) };
        let name = VolumeDisk::key_name(volume_id);
        let known = self.execute("qom-list", json!({ "path": OBJECTS })).await?;
        if known.as_array().into_iter().flatten().any(|it| it["name"] == name.as_str()) {
            return Ok(());
        }
        let object = json!({ "qom-type": "secret", "id": name, "data": secret.reveal() });
        self.execute("object-add", object).await.map(|_| ())
    }

    /// Has QEMU forget it; one that it does not know is refused, which is what is wanted.
    pub(super) async fn take_secret(&self, volume_id: &str) -> Result<(), GuestError> {
        let name = VolumeDisk::key_name(volume_id);
        self.execute_or_not("object-del", json!({ "id": name })).await
    }

    /// Closes the descriptors that QEMU was started with, or given, for `whose`: a volume's id, or the
    /// memory's.
    pub(super) async fn take_back_all(&self, whose: &str) -> Result<(), GuestError> {
        let sets = self.execute("query-fdsets", json!({})).await?;
        for set in sets.as_array().map(Vec::as_slice).unwrap_or_default() {
            let mut fds = set["fds"].as_array().into_iter().flatten();
            if fds.any(|fd| fd["opaque"].as_str() == Some(whose)) {
                self.execute_or_not("remove-fd", json!({ "fdset-id": set["fdset-id"] })).await?;
            }
        }
        Ok(())
    }

    /// Closes descriptors that QEMU was given: its nodes have duplicates of their own, and whatever
    /// stayed open would keep the room of a file that is removed.
    pub(super) async fn take_back(&self, given: &[String]) -> Result<(), GuestError> {
        for path in given {
            let set: Option<u64> = path.rsplit('/').next().and_then(|set| set.parse().ok());
            self.execute_or_not("remove-fd", json!({ "fdset-id": set })).await?;
        }
        Ok(())
    }
}
