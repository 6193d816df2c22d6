//! The machine that the agent runs on, as a trait: what it has, and one function that changes it.
//!
//! Everything that changes a host is an [`Action`] and goes through [`Host::apply`]. Observing and
//! connecting change nothing. No decision is taken behind this trait.

pub(crate) mod blobs;
mod captures;
pub(crate) mod linux;
pub(crate) mod pools;
pub(crate) mod sim;
mod ssh_probe;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast;
use weft_crash_points as crash_points;
use weft_images::{DiskError, UnpackProgress};
use weft_metering::Run;
use weft_model::{
    BootMode, Counted, Counts, Digest, DiskFormat, GuestFigures, HostFacts, InstanceId, Lan,
    LayerId, LinkCounters, LinkName, PoolName, Problem, Reason, Sha512, SnapshotId, Throttles,
    Timestamp, TrackedFlow, TransportProtocol, VolumeId, VpcId, VpcNetwork,
};
use weft_planner::{
    Action, GuestState, HostEdge, HostRoute, SeenNetwork, SeenNics, SeenSize, SeenVolume,
    SeenVolumes,
};
use weft_services::Sockets;

use crate::error_chain::causes;
use crate::reconcile::Saying;
use crate::volume_keys::VolumeKeys;
use pools::Pools;
pub(crate) use ssh_probe::{SshProbe, SshSeen};

/// A byte stream to a guest.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What a host has of one instance, without its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenGuest {
    /// Whether there is a place for its files, be it empty: what an interrupted step left is in it.
    pub(crate) folder: bool,
    pub(crate) root_disk: bool,
    /// Whether its file systems may be frozen, and nobody is about to thaw them.
    pub(crate) left_frozen: bool,
    /// What disks were sealed into while it was frozen, as far as that is still written down.
    pub(crate) layers_of_freezes: BTreeSet<LayerId>,
    /// Whether the guest's memory was saved.
    pub(crate) memory: bool,
    /// Whether the guest's memory was read back at its start.
    pub(crate) resumed: bool,
    pub(crate) seed: bool,
    pub(crate) guest: GuestState,
    /// The network interfaces that the guest has.
    pub(crate) nics: SeenNics,
    /// The volumes that the guest has.
    pub(crate) volumes: SeenVolumes,
    /// What its disks are kept to.
    pub(crate) throttles: Throttles,
    /// How big the guest is.
    pub(crate) size: SeenSize,
    /// What ails a guest whose hypervisor runs.
    pub(crate) trouble: Option<String>,
    /// Whether a full disk has halted it.
    pub(crate) starved: Starved,
    /// When the serial console's first byte came.
    pub(crate) first_console_byte: Option<Timestamp>,
    /// What the guest of this launch said, where the host plays its network's services.
    pub(crate) said: Vec<Saying>,
    /// From when to when its guest ran, as who holds it knows.
    pub(crate) run: Run,
}

/// Whether a guest was halted because it wrote more than its host has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Starved {
    #[default]
    No,
    /// There still is no room.
    Yes,
    /// It may go on.
    RoomAgain,
}

/// What tells a VPC's namespace from every other one: who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceIdentity(pub(crate) String);

/// A verified blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobFacts {
    pub(crate) size_bytes: u64,
}

/// How much of a blob is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadState {
    Complete,
    Partial { offset_bytes: u64 },
}

/// A disk image as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskFacts {
    pub(crate) format: DiskFormat,
    pub(crate) virtual_size_bytes: u64,
}

/// One line of `weft doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) result: CheckResult,
    pub(crate) finding: String,
    pub(crate) remedy: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    Ok,
    Warning,
    Failed,
}

impl CheckResult {
    /// As the API says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// How a step was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    AsAsked,
    /// A disk was sealed, and what is in the layer may not be what was asked for; why, in plain words.
    InVain(String),
}

/// What a step could not be carried out for want of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lack {
    /// Room in this directory.
    Room(PathBuf),
    /// A file, or the storage pool that it is in: somebody has to bring it back.
    File,
}

/// Why a step failed, or something could not be observed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct HostError {
    /// What was attempted, on what.
    what: String,
    /// Whether the same step may succeed later with no change of what is wanted.
    retryable: bool,
    /// What was lacking, where that is known.
    lack: Option<Lack>,
    /// The reason that a client is told.
    reason: Reason,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl HostError {
    pub(crate) fn new(what: impl Into<String>, retryable: bool) -> Self {
        Self { what: what.into(), retryable, lack: None, reason: Reason::Internal, source: None }
    }

    pub(crate) fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        if is_full(&*source) {
            self.what = format!("the host's disk is full, make room: {}", self.what);
            self.reason = Reason::ResourceExhausted;
        }
        self.source = Some(source);
        self
    }

    pub(crate) fn reason(mut self, reason: Reason) -> Self {
        self.reason = reason;
        self
    }

    pub(crate) fn lacks(mut self, lack: impl Into<Option<Lack>>) -> Self {
        self.lack = lack.into();
        self
    }

    pub(crate) fn lack(&self) -> Option<&Lack> {
        self.lack.as_ref()
    }

    /// The same step will not succeed later.
    pub(crate) fn for_good(mut self) -> Self {
        self.retryable = false;
        self
    }

    pub(crate) fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The cause, where it is a `T`.
    pub(crate) fn cause<T: std::error::Error + 'static>(&self) -> Option<&T> {
        self.source.as_ref()?.downcast_ref()
    }

    /// The error as a client sees it, with its causes.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(self.reason, crate::error_chain::ErrorChain(self).to_string())
    }
}

/// Whether a full file system is the cause, however deep.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    causes(error).any(|error| {
        let by_disk = error.downcast_ref().is_some_and(DiskError::is_out_of_space);
        let by_io = error.downcast_ref().is_some_and(|error: &std::io::Error| {
            matches!(error.kind(), StorageFull | QuotaExceeded)
        });
        let by_database = error.downcast_ref().is_some_and(|error: &rusqlite::Error| {
            error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
        });
        by_disk || by_io || by_database
    })
}

/// A machine that runs guests.
#[async_trait]
pub(crate) trait Host: std::fmt::Debug + Send + Sync + 'static {
    /// What does not change while the agent runs.
    fn facts(&self) -> &HostFacts;

    /// MiB that a guest of `memory_mib` takes from the host: its memory, what runs it, and its display
    /// if it has one.
    fn memory_cost_mib(&self, memory_mib: u32, display: bool) -> u64;

    /// Where an instance's root disk is, or should be.
    fn root_disk_file(&self, id: &InstanceId) -> PathBuf;

    /// Whether guests can start in this way here.
    ///
    /// # Errors
    /// A [`Problem`] that says what is missing on the host, and what to do.
    fn check_boot(&self, _mode: BootMode) -> Result<(), Problem> {
        Ok(())
    }

    /// Carries out one step, between two crash points. Idempotent: after a crash the same step may
    /// run again.
    async fn apply(&self, action: &Action) -> Result<Done, HostError> {
        crash_points::point_with(|| format!("host.{}.before", action.name()));
        let begun = Instant::now();
        let done = self.carry_out(action).await;
        let (took_ms, failed) = (begun.elapsed().as_millis(), done.is_err());
        tracing::debug!(step = action.name(), about = ?action.subjects(), took_ms, failed, "step");
        crash_points::point_with(|| format!("host.{}.after", action.name()));
        done
    }

    /// What [`Host::apply`] does on this kind of host; called by nobody else.
    async fn carry_out(&self, action: &Action) -> Result<Done, HostError>;

    /// What the host has of one instance.
    async fn observe_guest(&self, id: &InstanceId) -> Result<SeenGuest, HostError>;

    /// Whether the guest's file systems could be frozen now.
    ///
    /// # Errors
    /// Not to be retried: nobody in the guest can do it.
    async fn can_freeze(&self, id: &InstanceId) -> Result<(), HostError>;

    /// The agent is about to end: from now on no guest is frozen, for it might not be thawed.
    fn freeze_no_more(&self) {}

    /// What a guest sees of the instance's root disk, in bytes; nothing where there is none, or none that
    /// can be read, which the guest's next start tells of. It reads the disk's header.
    async fn root_disk_bytes(&self, id: &InstanceId) -> Option<u64>;

    /// Whether the instance has a root disk: the file alone is looked for, no guest is asked.
    async fn has_root_disk(&self, id: &InstanceId) -> Result<bool, HostError>;

    /// Every instance that the host has anything of.
    async fn observe_guests(&self) -> Result<BTreeSet<InstanceId>, HostError>;

    /// Where volumes can be.
    fn pools(&self) -> &Pools;

    /// What opens the secrets of encrypted volumes.
    fn volume_keys(&self) -> &VolumeKeys;

    /// What the host has of one volume that belongs into `pool`.
    async fn observe_volume(&self, id: &VolumeId, pool: &PoolName)
    -> Result<SeenVolume, HostError>;

    /// Every volume that the host has anything of.
    async fn observe_volumes(&self) -> Result<BTreeSet<VolumeId>, HostError>;

    /// What the host has of the network that `desired` describes.
    async fn observe_network(&self, desired: &VpcNetwork) -> Result<SeenNetwork, HostError>;

    /// How the host's own forwarding differs from what these have made of it: a sentence without a
    /// capital and a full stop for each thing.
    async fn host_drift(
        &self,
        routes: &BTreeMap<LinkName, HostRoute>,
        edge: &HostEdge,
    ) -> Result<Vec<String>, HostError>;

    /// What the named counters of the VPC's packet filter say; nothing where it has none yet.
    async fn counters(&self, vpc_id: &VpcId) -> Result<BTreeMap<Counted, Counts>, HostError>;

    /// What a guest uses, without its links; nothing where none runs.
    async fn figures(&self, id: &InstanceId) -> Result<Option<GuestFigures>, HostError>;

    /// What the VPC's taps have carried, by name; nothing where it has no network yet.
    async fn link_counters(
        &self,
        vpc_id: &VpcId,
    ) -> Result<BTreeMap<LinkName, LinkCounters>, HostError>;

    /// The connections that the VPC keeps track of.
    async fn connections(&self, vpc_id: &VpcId) -> Result<Vec<TrackedFlow>, HostError>;

    /// Every VPC that the host has a namespace of.
    async fn observe_vpcs(&self) -> Result<BTreeSet<VpcId>, HostError>;

    /// Which namespace the VPC has now; another one once it was made anew. `None` where there is
    /// none that services could be served in.
    fn namespace_of(&self, vpc_id: &VpcId) -> Result<Option<NamespaceIdentity>, HostError>;

    /// What keeps guests from being joined to this LAN of the operator's, if anything does.
    async fn lan_fault(&self, lan: &Lan) -> Result<Option<Problem>, HostError>;

    /// Opens the sockets of the VPC's services inside its namespace.
    async fn open_services(
        &self,
        vpc_id: &VpcId,
        gateways: &BTreeSet<Ipv4Addr>,
    ) -> Result<Sockets, HostError>;

    /// Instances whose guest may have changed: hints to look again.
    fn hints(&self) -> broadcast::Receiver<InstanceId>;

    /// Connects to a guest from inside its VPC, beside its security groups.
    async fn connect(
        &self,
        vpc_id: &VpcId,
        address: SocketAddrV4,
        deadline: Duration,
    ) -> Result<Box<dyn ByteStream>, HostError>;

    /// Whether an SSH server with `host_key` answers there.
    async fn probe_ssh(
        &self,
        instance_id: &InstanceId,
        vpc_id: &VpcId,
        address: SocketAddrV4,
        host_key: &str,
    ) -> Result<SshProbe, HostError>;

    /// The newest bytes of the serial console, also after the guest has ended.
    async fn console_tail(&self, id: &InstanceId, max_bytes: usize) -> Result<Vec<u8>, HostError>;

    /// The serial console, both ways.
    async fn attach_console(&self, id: &InstanceId) -> Result<Box<dyn ByteStream>, HostError>;

    /// What the guest's display shows now, as a PNG.
    async fn screenshot(&self, id: &InstanceId) -> Result<Vec<u8>, HostError>;

    /// The guest's display, both ways, in the protocol of VNC.
    async fn open_display(&self, id: &InstanceId) -> Result<Box<dyn ByteStream>, HostError>;

    /// How much of a blob is there.
    async fn upload_state(&self, digest: &Digest) -> Result<UploadState, HostError>;

    /// Uploads to which nothing was added for so long.
    async fn stale_uploads(&self, unchanged_for: Duration) -> Result<Vec<Digest>, HostError>;

    /// Reads the header of a disk image.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] where it is refused.
    async fn inspect_disk(&self, digest: &Digest) -> Result<DiskFacts, HostError>;

    /// The blob that was fetched by this SHA-512, if that was since the start.
    async fn blob_by_sha512(&self, sha512: &Sha512) -> Result<Option<Digest>, HostError>;

    /// What came out of a blob that was unpacked, if it was compressed. It may be gone again.
    fn unpacked(&self, digest: &Digest) -> Option<Digest>;

    /// How far a blob's unpacking is, while there is one.
    fn unpack_progress(&self, digest: &Digest) -> Option<UnpackProgress>;

    /// Reads the header of a kernel.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] where it is refused.
    async fn inspect_kernel(&self, digest: &Digest) -> Result<(), HostError>;

    /// What the piece that was made of a snapshot's disk will be called as a blob.
    async fn captured(&self, snapshot_id: &SnapshotId) -> Result<Digest, HostError>;

    /// The names of such pieces, whole or not, that are no blobs yet.
    async fn captures(&self) -> Result<BTreeSet<String>, HostError>;

    /// Every layer that disks were sealed into.
    async fn layers(&self) -> Result<BTreeSet<LayerId>, HostError>;

    /// Every verified blob.
    async fn blobs(&self) -> Result<BTreeMap<Digest, BlobFacts>, HostError>;

    /// The first of `candidates` that overlaps no route of the agent's namespace.
    async fn free_range(
        &self,
        candidates: &[ipnetwork::Ipv4Network],
    ) -> Result<Option<ipnetwork::Ipv4Network>, HostError>;

    /// The IPv4 addresses of this machine itself, in the agent's namespace; those of ours, which lead
    /// to VPCs, do not count.
    async fn own_addresses(&self) -> Result<BTreeSet<Ipv4Addr>, HostError>;

    /// Where a service of the agent's namespace listens on this port, at this address or at each.
    async fn listener(
        &self,
        protocol: TransportProtocol,
        port: u16,
        address: Option<Ipv4Addr>,
    ) -> Result<Option<SocketAddr>, HostError>;

    /// Everything that keeps the host from working well.
    async fn doctor(&self) -> Vec<Check>;
}
