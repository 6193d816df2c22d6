//! Network interfaces that come and go while a guest runs.
//!
//! Their devices are called after them, see [`super::devices`]. Commands: QEMU `qapi/misc.json`,
//! `qapi/net.json`.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use serde_json::json;
use weft_model::{InstanceId, InterfaceId, LinkName, MacAddr};

use super::devices::{Devices, LET_GO_DEADLINE};
use super::{ANSWER_DEADLINE, GuestError, GuestVolumes, Guests};
use crate::qemu::NicSpec;
use crate::tap;

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
        if GuestNics::of(&devices.names().await?).named.contains(interface_id) {
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
        if !devices.let_go(interface_id).await? {
            return Err(GuestError::KeepsNic {
                id: id.clone(),
                interface_id: interface_id.clone(),
                seconds: LET_GO_DEADLINE.as_secs(),
            });
        }
        weft_crash_points::point("guest.unplug.device_gone");
        devices.remove_netdev(interface_id).await
    }
}

impl Devices<'_> {
    /// Closes the tap. QEMU refuses where there is no such netdev, which is what is wanted.
    async fn remove_netdev(&self, interface_id: &InterfaceId) -> Result<(), GuestError> {
        self.execute_or_not("netdev_del", json!({ "id": NicSpec::netdev(interface_id) })).await
    }
}
