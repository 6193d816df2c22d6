//! Virtual machines: what should be, and what is.
//!
//! ```text
//! pending -> starting -> running -> stopping -> stopped -> starting ...
//!                  \         \                     |
//!                   failed    (guest powers off) --+      terminating -> gone
//! ```

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::image::words;
use crate::{
    CloudInitReport, DiskLimits, GroupId, GuestSize, ImageContent, ImageId, InterfaceId, LayerId,
    Lifecycle, LinkName, MacAddr, Maxima, MetadataOptions, Name, PublicKey, Restarts, Signal,
    SubnetId, Timestamp, VpcId,
};

/// The largest user data, in bytes before base64.
pub const MAX_USER_DATA_BYTES: usize = 64 * 1024;

words! {
    /// What the guest's power should be.
    PowerState {
        /// On.
        Running = "running",
        /// Off; keeps its disk and address.
        Stopped = "stopped",
    }
}

words! {
    /// What Create waits for.
    WaitFor {
        /// Nothing.
        None = "none",
        /// The guest's processor runs.
        Running = "running",
        /// An SSH server answers with the injected host key.
        Ssh = "ssh",
        /// cloud-init has ended well, as the guest reports it.
        CloudInit = "cloud_init",
        /// The guest has signalled success.
        Signal = "signal",
    }
}

words! {
    /// Where an instance is in its life.
    InstanceState {
        /// Accepted; nothing of it runs.
        Pending = "pending",
        /// Being started.
        Starting = "starting",
        /// The guest runs.
        Running = "running",
        /// Being shut down.
        Stopping = "stopping",
        /// Off.
        Stopped = "stopped",
        /// Being removed.
        Terminating = "terminating",
        /// Could not be started, or died; kept for inspection.
        Failed = "failed",
    }
}

impl InstanceState {
    /// Whether no guest of it runs, and none is on its way.
    pub fn is_off(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

words! {
    /// A step of a launch, in the order it is usually reached.
    Phase {
        /// The request is durable.
        Accepted = "accepted",
        /// A host was chosen.
        Placed = "placed",
        /// The image's blobs are on the host.
        ImageReady = "image_ready",
        /// The root disk and the seed exist.
        DiskReady = "disk_ready",
        /// The interface exists and its groups are enforced.
        NetworkReady = "network_ready",
        /// The guest's processor runs.
        HypervisorStarted = "hypervisor_started",
        /// The first byte on the serial console.
        Kernel = "kernel",
        /// The guest asked for its address by DHCP, or read its metadata.
        DhcpOrImds = "dhcp_or_imds",
        /// An SSH server answered and its host key is the injected one.
        SshBanner = "ssh_banner",
        /// The guest reported cloud-init's end, good or bad.
        CloudInit = "cloud_init",
        /// The guest signalled, success or failure.
        Signalled = "signalled",
    }
}

/// A network interface: the one that an instance owns, or one of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its identity.
    pub id: InterfaceId,
    /// The VPC it is in.
    pub vpc_id: VpcId,
    /// The subnet its address is of.
    pub subnet_id: SubnetId,
    /// Its address, for its whole life.
    pub private_ip: Ipv4Addr,
    /// Its IPv6 address where its subnet has an IPv6 range, for its whole life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Its MAC, for its whole life.
    pub mac: MacAddr,
    /// The tap's name on the host.
    pub link: LinkName,
    /// Groups, or `None` for the VPC's default group.
    pub security_group_ids: Option<BTreeSet<GroupId>>,
    /// Whether it may send only from its own address, and is sent only what is for it.
    #[serde(default = "checked")]
    pub source_dest_check: bool,
    /// Mbit/s in each direction that it is limited to by itself; `None` leaves that to the
    /// instance's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mbps: Option<u32>,
}

/// What interfaces of stores are that do not say it.
fn checked() -> bool {
    true
}

/// A key pair as it was when the instance was made; deleting the key pair does not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMaterial {
    /// The key pair's name.
    pub key_name: Name,
    /// Its public key.
    pub public_key: PublicKey,
}

/// The SSH host key that the agent generates and the seed injects.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshHostKey {
    /// OpenSSH's PEM form. Secret: never logged, never sent over the API.
    pub private_pem: String,
    /// One line: type and base64.
    pub public_line: String,
}

impl std::fmt::Debug for SshHostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshHostKey({})", self.public_line)
    }
}

/// A virtual machine as it should be. Everything the server chooses is chosen at Create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Shown to people; the guest's host name where it is a DNS label.
    pub name: Option<Name>,
    /// The image it was made from.
    pub image_id: ImageId,
    /// The image's content at that time.
    pub image: ImageContent,
    /// Who logs in over SSH, from the image.
    pub default_user: String,
    /// The type's name, or `None` where vCPUs and memory were given.
    pub instance_type: Option<String>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How far it may grow while its guest runs.
    #[serde(default)]
    pub maxima: Maxima,
    /// Mbit/s in each direction that its interfaces are limited to, each on its own, from its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mbps: Option<u32>,
    /// How it is connected.
    pub interface: Interface,
    /// Who may log in.
    pub keys: Vec<KeyMaterial>,
    /// Given to the guest verbatim.
    pub user_data: Option<UserData>,
    /// The root disk's size as asked for; `None` is the image's.
    pub root_size_gib: Option<u32>,
    /// What the root disk may do each second.
    #[serde(default)]
    pub root_limits: DiskLimits,
    /// On or off.
    pub power: PowerState,
    /// Counts launches that were asked for: a guest of an older epoch is stopped and started.
    pub run_epoch: u64,
    /// The guest's SSH identity.
    pub host_key: SshHostKey,
    /// Whether it has a display: a graphics card, and a pointer.
    #[serde(default)]
    pub display: bool,
    /// How its metadata are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_options: Option<MetadataOptions>,
    /// How it is kept alive, brought down, and protected.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Seconds that the guest has to shut down in the stop that is asked for now; `None` is what
    /// [`Lifecycle`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_seconds: Option<u32>,
    /// Whether its guest's memory is to be kept while it is off.
    #[serde(default)]
    pub hibernate: bool,
    /// The uid (and gid) that its hypervisor runs under.
    pub uid: u32,
    /// An address of the public pool, for its whole life.
    #[serde(default)]
    pub public_ip: Option<Ipv4Addr>,
    /// The sealed layers between the image's blob and the root disk's file, bottom to top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub root_layers: Vec<LayerId>,
}

impl InstanceSpec {
    /// How big its guest is to be.
    pub fn size(&self) -> GuestSize {
        GuestSize { vcpus: self.vcpus, memory_mib: self.memory_mib }
    }

    /// Whether its guest's memory is kept, or to be, while it is off.
    pub fn is_hibernated(&self) -> bool {
        self.hibernate && self.power == PowerState::Stopped
    }

    /// The root disk's size in bytes: what was asked for, never less than the image.
    pub fn root_size_bytes(&self) -> u64 {
        let asked = self.root_size_gib.map_or(0, |gib| u64::from(gib) << 30);
        asked.max(self.image.virtual_size_bytes)
    }
}

/// User data: any bytes; base64 in text forms. `Debug` shows only the length, as it may be secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserData(pub Vec<u8>);

impl std::fmt::Debug for UserData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserData({} bytes)", self.0.len())
    }
}

impl Serialize for UserData {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        s.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for UserData {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(d)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

/// A phase and when it was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Which.
    pub phase: Phase,
    /// When.
    pub at: Timestamp,
}

/// Why an instance is stopped whose guest's memory is kept.
pub const HIBERNATED: &str = "hibernated: weft start goes on from there";

/// A virtual machine as it is, as far as the agent knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Where it is in its life.
    pub state: InstanceState,
    /// Why, where the state needs one; for people.
    pub reason: Option<String>,
    /// The launch that `phases` and `launched_at` are of.
    pub epoch: u64,
    /// The newest launch that has ended: it is not started again before a newer one is asked for.
    pub ended_epoch: u64,
    /// The steps of the launch so far, in order of time.
    pub phases: Vec<PhaseRecord>,
    /// When the guest of this epoch was started.
    pub launched_at: Option<Timestamp>,
    /// How cloud-init ended in this launch, as the guest reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInitReport>,
    /// Whether the guest of this launch has asked who may log in now: it follows changes of its
    /// `key_names`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live_keys: bool,
    /// What the guest of this launch signalled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// The launches that `auto_restart` has asked for.
    #[serde(default)]
    pub restarts: Restarts,
}

impl InstanceStatus {
    /// Whether its guest goes on from where it was when it is started.
    pub fn is_hibernated(&self) -> bool {
        self.state == InstanceState::Stopped && self.reason.as_deref() == Some(HIBERNATED)
    }

    /// The status of an instance that was accepted just now.
    pub fn accepted(at: Timestamp) -> Self {
        Self {
            state: InstanceState::Pending,
            reason: None,
            epoch: 0,
            ended_epoch: 0,
            phases: vec![PhaseRecord { phase: Phase::Accepted, at }],
            launched_at: None,
            cloud_init: None,
            live_keys: false,
            signal: None,
            restarts: Restarts::default(),
        }
    }

    /// When `phase` of this launch was reached.
    pub fn reached(&self, phase: Phase) -> Option<Timestamp> {
        self.phases.iter().find(|record| record.phase == phase).map(|record| record.at)
    }
}
