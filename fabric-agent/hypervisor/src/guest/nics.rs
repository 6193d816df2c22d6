//! Network interfaces that come and go while a guest runs.
//!
//! QEMU is asked what there is: its devices are called after the interfaces (`-device id=`), so
//! nothing has to be remembered. Commands: QEMU `qapi/misc.json`, `qapi/net.json`, `qapi/qdev.json`,
//! `qapi/qom.json`. A guest takes part in giving a device back, and may never do so.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weft_model::{InstanceId, InterfaceId, LinkName, MacAddr};

use super::{ANSWER_DEADLINE, GuestError, GuestVolumes, Guests};
use crate::qemu::NicSpec;
use crate::qmp::{QmpClient, QmpError};
use crate::record::GuestIdentity;
use crate::tap;

/// Where QEMU has the devices that have names.
pub(super) const NAMED_DEVICES: &str = "/machine/peripheral";
/// How long a guest may take to let go of a device. An idle one takes some milliseconds.
pub(super) const LET_GO_DEADLINE: Duration = Duration::from_secs(10);
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The interfaces of a guest that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestNics {
    /// Those that have names; the first one has none in guests of older agents.
    pub named: BTreeSet<InterfaceId>,
    /// Whether others can be plugged in: it has root ports in reserve.
    pub can_be_given: bool,
}

impl GuestNics {
    /// From the names of QEMU's devices.
    fn of(names: &[String]) -> Self {
        let first_port = NicSpec::port_name(1);
        Self {
            named: names.iter().filter_map(|name| name.parse().ok()).collect(),
            can_be_given: names.contains(&first_port),
        }
    }
}

impl Guests {
    /// What a guest has now that comes and goes.
    ///
    /// # Errors
    /// It does not run, or QEMU does not answer.
    pub async fn devices(&self, id: &InstanceId) -> Result<(GuestNics, GuestVolumes), GuestError> {
        let names = Devices::of(self, id).await?.names().await?;
        Ok((GuestNics::of(&names), GuestVolumes::of(&names)))
    }

    /// Plugs an interface into root port `port`; its tap is in the namespace at `netns`. Done
    /// already is success; what an earlier attempt left half way is made anew.
    ///
    /// # Errors
    /// The tap cannot be opened, or QEMU refused: the port is another one's, say.
    pub async fn plug(
        &self,
        id: &InstanceId,
        interface_id: &InterfaceId,
        nic: (&LinkName, MacAddr),
        port: u8,
        netns: &Path,
    ) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        if devices.nics().await?.named.contains(interface_id) {
            return Ok(());
        }
        devices.remove_netdev(interface_id).await?;
        let ((link, mac), path) = (nic, netns.to_owned());
        let failed = |source| GuestError::Tap { id: id.clone(), link: link.clone(), source };
        let name = link.clone();
        let opened =
            tokio::task::spawn_blocking(move || tap::open(&name, Some(&File::open(path)?)));
        let tap = opened.await.map_err(std::io::Error::other).and_then(|it| it).map_err(failed)?;
        let netdev = NicSpec::netdev(interface_id);
        let given = devices.client.give(&netdev, tap.as_fd(), ANSWER_DEADLINE).await;
        given.map_err(devices.failed("getfd"))?;
        weft_crash_points::point("guest.plug.given");
        let arguments = json!({ "type": "tap", "id": netdev, "fd": netdev });
        devices.execute("netdev_add", arguments).await?;
        weft_crash_points::point("guest.plug.netdev_added");
        let arguments = json!({
            "driver": "virtio-net-pci",
            "id": interface_id,
            "netdev": netdev,
            "mac": mac,
            "romfile": "",
            "bus": NicSpec::port_name(port),
        });
        devices.execute("device_add", arguments).await.map(|_| ())
    }

    /// Has a guest let go of an interface, and closes its tap. Gone already is success.
    ///
    /// # Errors
    /// [`GuestError::KeepsNic`]; QEMU does not answer.
    pub async fn unplug(
        &self,
        id: &InstanceId,
        interface_id: &InterfaceId,
    ) -> Result<(), GuestError> {
        let devices = Devices::of(self, id).await?;
        let started = Instant::now();
        let mut asked = false;
        while devices.nics().await?.named.contains(interface_id) {
            if !asked {
                match devices.execute("device_del", json!({ "id": interface_id })).await {
                    // It was asked before, and is about to: or it went just now.
                    Err(GuestError::Qmp { source: QmpError::Refused { .. }, .. }) | Ok(_) => {}
                    Err(error) => return Err(error),
                }
                asked = true;
            }
            if started.elapsed() > LET_GO_DEADLINE {
                return Err(GuestError::KeepsNic {
                    id: id.clone(),
                    interface_id: interface_id.clone(),
                    seconds: LET_GO_DEADLINE.as_secs(),
                });
            }
            sleep(POLL_INTERVAL).await;
        }
        weft_crash_points::point("guest.unplug.device_gone");
        devices.remove_netdev(interface_id).await
    }
}

/// The devices of one QEMU.
pub(super) struct Devices<'a> {
    pub(super) id: &'a InstanceId,
    pub(super) client: QmpClient,
}

impl<'a> Devices<'a> {
    pub(super) async fn of(guests: &Guests, id: &'a InstanceId) -> Result<Self, GuestError> {
        let guest: GuestIdentity =
            guests.live_guest(id)?.ok_or_else(|| GuestError::NotRunning { id: id.clone() })?;
        let client = guests.client(id, &guest).await;
        let command = "qmp_capabilities";
        let client =
            client.map_err(|source| GuestError::Qmp { id: id.clone(), command, source })?;
        Ok(Self { id, client })
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

    async fn nics(&self) -> Result<GuestNics, GuestError> {
        Ok(GuestNics::of(&self.names().await?))
    }

    /// The names of all devices that have some.
    pub(super) async fn names(&self) -> Result<Vec<String>, GuestError> {
        let answer = self.execute("qom-list", json!({ "path": NAMED_DEVICES })).await?;
        let entries = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let name = |entry: &Value| entry["name"].as_str().map(str::to_owned);
        Ok(entries.iter().filter_map(name).collect())
    }

    /// Closes the tap. QEMU refuses where there is no such netdev, which is what is wanted.
    async fn remove_netdev(&self, interface_id: &InterfaceId) -> Result<(), GuestError> {
        let arguments = json!({ "id": NicSpec::netdev(interface_id) });
        match self.execute("netdev_del", arguments).await {
            Err(GuestError::Qmp { source: QmpError::Refused { .. }, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
