//! Every change of a host, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};
use weft_model::{
    Below, Bridge, Digest, DiskFormat, DiskLimits, Firewall, GuestAccess, GuestSize, HostForward,
    ImageContent, InstanceId, InterfaceId, LayerId, LinkName, MacAddr, Maxima, Merge, PoolName,
    Routes, Sha512, SnapshotId, SshHostKey, TapInterface, TrackedFlow, UserData, VolumeId, VpcId,
    VpcNetwork, WrappedSecret,
};

/// One step. Everything it needs is in it; carrying it out takes no decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Makes the root disk: a copy-on-write overlay over the image's blob.
    MakeRootDisk {
        /// Whose.
        instance_id: InstanceId,
        /// What its owner calls the instance.
        name: Option<String>,
        /// The image's blob.
        disk: Digest,
        /// How the blob is laid out.
        format: DiskFormat,
        /// What the guest sees.
        size_bytes: u64,
        /// Who may write it.
        uid: u32,
    },
    /// Makes a root disk larger.
    GrowRootDisk {
        /// Whose.
        instance_id: InstanceId,
        /// What the guest is to see.
        size_bytes: u64,
        /// Whether a guest runs: its hypervisor does it, and the guest sees it at once.
        running: bool,
    },
    /// Writes the NoCloud volume.
    WriteSeed {
        /// Whose.
        instance_id: InstanceId,
        /// What the guest is told.
        seed: SeedContent,
        /// Who may read it.
        uid: u32,
    },
    /// Starts the guest's hypervisor; its disks and its tap exist.
    StartGuest(GuestLaunch),
    /// Gives a guest that runs one more network interface; its tap is open.
    PlugNic {
        /// Whose guest.
        instance_id: InstanceId,
        /// The VPC whose namespace the tap is in.
        vpc_id: VpcId,
        /// The interface.
        nic: GuestNic,
    },
    /// Takes a network interface from a guest that runs, if the guest lets go of it.
    UnplugNic {
        /// Whose guest.
        instance_id: InstanceId,
        /// The interface.
        interface_id: InterfaceId,
    },
    /// Gives a guest that runs one more volume; its disk is there.
    PlugVolume {
        /// Whose guest.
        instance_id: InstanceId,
        /// The volume.
        volume: GuestVolume,
    },
    /// Takes a volume from a guest that runs, if the guest lets go of it.
    UnplugVolume {
        /// Whose guest.
        instance_id: InstanceId,
        /// The volume.
        volume_id: VolumeId,
    },
    /// Has the hypervisor of a guest that runs keep a disk to its limits, and to no others.
    LimitDisk {
        /// Whose guest.
        instance_id: InstanceId,
        /// The volume; unset, the root disk.
        volume_id: Option<VolumeId>,
        /// The limits.
        limits: DiskLimits,
    },
    /// Lets a guest that runs take more of its host, before it is given more.
    RaiseLimits {
        /// Whose guest.
        instance_id: InstanceId,
        /// How big it is to be.
        size: GuestSize,
        /// Whether it has a display.
        display: bool,
    },
    /// Gives a guest that runs processors, until it has so many.
    AddVcpus {
        /// Whose guest.
        instance_id: InstanceId,
        /// How many it is to have.
        vcpus: u32,
    },
    /// Gives a guest that runs more memory.
    AddMemory {
        /// Whose guest.
        instance_id: InstanceId,
        /// The slot of its machine that the memory goes into; what is in it is there already.
        slot: u8,
        /// How much, in MiB.
        mib: u32,
    },
    /// Presses the power button: the guest shuts down if it wants to.
    PressPowerButton {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Has the hypervisor write the guest's memory, for which the guest stands still. Done when that
    /// has begun.
    HibernateGuest {
        /// Whose.
        instance_id: InstanceId,
        /// The largest size of what is saved, in MiB.
        memory_mib: u32,
    },
    /// Keeps the guest's memory that was written, then ends the hypervisor.
    KeepMemory {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Lets a guest go on whose memory was read back, which is no longer kept then.
    ResumeGuest {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Throws a guest's saved memory away.
    ForgetMemory {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Resets the guest's machine, as the button does: nothing is asked of the guest.
    ResetGuest {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Has a guest go on that was halted because its host's disk was full.
    ContinueGuest {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Ends the hypervisor at once.
    EndGuest {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Removes what the hypervisor left: sockets, records, the console log.
    ForgetGuest {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Makes what a root disk has so far a layer, and gives the disk a new file above it; a guest
    /// that runs goes on.
    SealRootDisk {
        /// Whose.
        instance_id: InstanceId,
        /// What the disk's file becomes.
        layer: LayerId,
        /// What the guest sees, in bytes.
        size_bytes: u64,
        /// Who may write the new file.
        uid: u32,
        /// Whether the guest's file systems are frozen when it goes over; where no guest runs, it is
        /// refused then.
        #[serde(default)]
        freeze: bool,
    },
    /// The same of a volume's disk.
    SealVolume {
        /// Whose.
        volume_id: VolumeId,
        /// Where.
        pool: PoolName,
        /// What the disk's file becomes.
        layer: LayerId,
        /// What a guest sees, in bytes.
        size_bytes: u64,
        /// The instance that it is attached to: if its guest has it, that goes on above the layer.
        instance_id: Option<InstanceId>,
        /// What encrypts it.
        #[serde(default)]
        secret: Option<WrappedSecret>,
        /// Whether that guest's file systems are frozen then; where none runs, it is refused.
        #[serde(default)]
        freeze: bool,
    },
    /// Thaws the file systems of a guest that was left frozen.
    ThawGuest {
        /// Whose.
        instance_id: InstanceId,
    },
    /// Forgets that disks were sealed into these layers while the guest was frozen: no snapshot is to be
    /// made of them any more.
    ForgetFreezes {
        /// Whose.
        instance_id: InstanceId,
        /// Which.
        layers: BTreeSet<LayerId>,
    },
    /// Writes one layer that shows what several show. Nobody is waiting for it.
    MergeLayers {
        /// What becomes what.
        merge: Merge,
        /// What lies below them.
        below: Below,
    },
    /// Has the guest of an instance, if it runs, read the merged layer of its root disk instead of
    /// those that became it.
    UseMergedRoot {
        /// Whose.
        instance_id: InstanceId,
        /// What the disk has lain over so far, bottom to top.
        layers: Vec<LayerId>,
        /// What became what.
        merge: Merge,
    },
    /// The same of a volume.
    UseMergedVolume {
        /// Whose.
        volume_id: VolumeId,
        /// Whether an image is below all layers.
        base: bool,
        /// What the disk has lain over so far, bottom to top.
        layers: Vec<LayerId>,
        /// What became what.
        merge: Merge,
        /// The instance that it is attached to.
        instance_id: Option<InstanceId>,
    },
    /// Removes a layer that nothing lies over any more.
    RemoveLayer {
        /// Which.
        layer: LayerId,
    },
    /// Removes root disk and seed.
    RemoveDisks {
        /// Whose.
        instance_id: InstanceId,
    },

    /// Makes a volume's disk; it is empty, or shows what lies below it.
    MakeVolume {
        /// Whose.
        volume_id: VolumeId,
        /// Where.
        pool: PoolName,
        /// What a guest sees.
        size_bytes: u64,
        /// What it lies over.
        below: Below,
        /// What encrypts it.
        #[serde(default)]
        secret: Option<WrappedSecret>,
    },
    /// Makes a volume's disk larger.
    GrowVolume {
        /// Whose.
        volume_id: VolumeId,
        /// Where.
        pool: PoolName,
        /// What a guest is to see.
        size_bytes: u64,
        /// The instance whose guest runs and has it: that one's hypervisor does it.
        instance_id: Option<InstanceId>,
        /// What encrypts it.
        #[serde(default)]
        secret: Option<WrappedSecret>,
    },
    /// Removes what a pool has of a volume that no guest has.
    RemoveVolume {
        /// Whose.
        volume_id: VolumeId,
        /// Where.
        pool: PoolName,
    },

    /// Makes the VPC's namespace and the process that holds it.
    MakeNamespace {
        /// Whose.
        vpc_id: VpcId,
    },
    /// Sets the namespace's switches, the routers' addresses and the unreachable range.
    SetBase {
        /// The whole network; only its base is looked at.
        network: VpcNetwork,
    },
    /// Makes or changes the way out, both ends and their routes.
    SetUplink {
        /// The whole network; only its uplink is looked at.
        network: VpcNetwork,
    },
    /// Removes the way out, also where it is the pair to a bridge of the operator's.
    RemoveUplink {
        /// Whose.
        vpc_id: VpcId,
    },
    /// Makes or changes the VPC's bridge and its addresses, or removes one that is not wanted; it
    /// joins nothing yet.
    SetBridge {
        /// The whole network; only its bridge is looked at.
        network: VpcNetwork,
    },
    /// Joins the VPC's bridge to the operator's; the packet filter knows the way.
    JoinBridge {
        /// The whole network; only its bridge is looked at.
        network: VpcNetwork,
    },
    /// Makes a tap, down.
    AddTap {
        /// Where.
        vpc_id: VpcId,
        /// Its name.
        link: LinkName,
        /// What is behind it.
        tap: TapInterface,
    },
    /// Sets a tap up and routes to it, or makes it a port; the packet filter knows it.
    OpenTap {
        /// Where.
        vpc_id: VpcId,
        /// Its name.
        link: LinkName,
        /// What is behind it.
        tap: TapInterface,
        /// The bridge whose port it becomes; `None` is a routed tap.
        #[serde(default)]
        bridge: Option<Bridge>,
    },
    /// Makes the route tables beside the main one equal to `routes`; the taps that they lead to are
    /// up.
    SetRoutes {
        /// Where.
        vpc_id: VpcId,
        /// All of them.
        routes: Routes,
    },
    /// Removes a tap and its routes.
    RemoveTap {
        /// Where.
        vpc_id: VpcId,
        /// Its name.
        link: LinkName,
    },
    /// Makes the packet filter equal to `firewall`, in one transaction.
    SetFirewall {
        /// Where.
        vpc_id: VpcId,
        /// What it should let through.
        firewall: Firewall,
    },
    /// Forgets connections: their next packets are judged as new ones, and denied.
    CutConnections {
        /// Where.
        vpc_id: VpcId,
        /// Which.
        flows: Vec<TrackedFlow>,
    },
    /// Removes a VPC's namespace with all that is in it.
    RemoveNamespace {
        /// Whose.
        vpc_id: VpcId,
    },
    /// Makes the agent's own namespace forward, hide the VPCs that want it behind its address,
    /// answer for public addresses, and keep guests from the host itself.
    SetHostRouting {
        /// By the name of the uplink's end.
        routes: BTreeMap<LinkName, HostRoute>,
        /// What passes between VPCs, the host and the outside.
        edge: HostEdge,
    },

    /// Makes room for a blob that is about to come.
    BeginUpload {
        /// The blob.
        digest: Digest,
        /// Its size; unset where its sender does not know.
        size_bytes: Option<u64>,
    },
    /// Appends to a blob that is coming.
    AppendUpload {
        /// The blob.
        digest: Digest,
        /// Where: the bytes that are there already.
        offset_bytes: u64,
        /// What.
        data: Vec<u8>,
    },
    /// Makes the disk that is packed in a blob, where it is compressed, a blob of its own.
    UnpackBlob {
        /// The compressed blob.
        digest: Digest,
        /// What may come out.
        max_bytes: u64,
    },
    /// Verifies a blob that has come, and keeps it.
    FinishUpload {
        /// The blob, or what stands in for it.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// Where this is all that is known of it: its digest is seen when it is there.
        sha512: Option<Sha512>,
    },
    /// Removes what has come of a blob whose client has given up.
    AbandonUpload {
        /// The blob.
        digest: Digest,
    },
    /// Makes one piece of a disk that lies over layers; whatever an earlier attempt left of it is
    /// replaced.
    FlattenDisk {
        /// What the piece is called until it is a blob.
        snapshot_id: SnapshotId,
        /// What the disk consisted of.
        below: Below,
        /// What a guest sees, in bytes.
        size_bytes: u64,
    },
    /// Makes such a piece a blob.
    KeepCapture {
        /// Of which snapshot.
        snapshot_id: SnapshotId,
        /// What is in it.
        digest: Digest,
    },
    /// Removes such a piece, or a part of one.
    AbandonCapture {
        /// What it is called.
        name: String,
    },
    /// Removes a blob that nothing uses.
    RemoveBlob {
        /// The blob.
        digest: Digest,
    },
}

/// What leaves the host on behalf of a VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRoute {
    /// Source addresses that come out of the uplink.
    pub sources: Ipv4Network,
    /// The same of IPv6; where the host does not forward that, nothing comes of it.
    #[serde(default)]
    pub sources_v6: Option<Ipv6Network>,
    /// Whether they hide behind the host's address.
    pub masquerade: bool,
}

/// What passes the edge of the host: to guests from outside and beside them, and from guests to
/// the host itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEdge {
    /// Public addresses that guests have.
    pub public: BTreeSet<Ipv4Addr>,
    /// Ports of the host that lead to guests.
    pub forwards: BTreeSet<HostForward>,
    /// Ports of the host that guests may use.
    pub guest_access: BTreeSet<GuestAccess>,
}

/// What a guest is told about itself at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedContent {
    /// Also the cloud-init instance id.
    pub instance_id: InstanceId,
    /// The instance's name, if it has one.
    pub name: Option<String>,
    /// Lines for `authorized_keys`.
    pub public_keys: Vec<String>,
    /// The SSH host key.
    pub host_key: SshHostKey,
    /// The interface's MAC.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if it has one.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Bits of the network that it reaches without a router.
    pub prefix_len: u8,
    /// Its router.
    pub gateway: Ipv4Addr,
    /// Whom it asks for names.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Whether its interfaces are on a LAN, whose IPv6 router advertises itself.
    #[serde(default)]
    pub on_lan: bool,
    /// Its other interfaces: they have no router.
    #[serde(default)]
    pub others: Vec<SeedInterface>,
    /// Given verbatim.
    pub user_data: Option<UserData>,
}

/// An interface besides the first one, as the guest is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedInterface {
    /// Its MAC.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if it has one.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Bits of the network that it reaches without a router.
    pub prefix_len: u8,
}

/// A network interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNic {
    /// Which; the hypervisor's device is called so, and is found again by it.
    pub interface_id: InterfaceId,
    /// Its place among the guest's interfaces.
    pub device_index: u8,
    /// The tap.
    pub link: LinkName,
    /// The guest's MAC.
    pub mac: MacAddr,
}

/// A volume of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestVolume {
    /// Which; the hypervisor's device is called so, and is found again by it.
    pub volume_id: VolumeId,
    /// Its place among the guest's volumes, from 1.
    pub place: u8,
    /// Where its disk is.
    pub pool: PoolName,
    /// What its disk lies over.
    pub below: Below,
    /// What encrypts all of it.
    #[serde(default)]
    pub secret: Option<WrappedSecret>,
}

/// What a hypervisor is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLaunch {
    /// Whose guest.
    pub instance_id: InstanceId,
    /// Which launch; recorded with the process and read back when it is adopted.
    pub epoch: u64,
    /// Shown in the process list.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How far it may grow while it runs.
    #[serde(default)]
    pub maxima: Maxima,
    /// The image's blobs and how to boot them.
    pub image: ImageContent,
    /// The layers between the image's blob and the root disk's file, bottom to top.
    #[serde(default)]
    pub root_layers: Vec<LayerId>,
    /// Whether the memory that was saved is read back, instead of booting.
    #[serde(default)]
    pub resume: bool,
    /// Whether it has a display.
    #[serde(default)]
    pub display: bool,
    /// The VPC whose namespace the taps are in.
    pub vpc_id: VpcId,
    /// Its volumes, by their places.
    #[serde(default)]
    pub volumes: Vec<GuestVolume>,
    /// Its network interfaces, by their device index; the one that it was made with comes first.
    pub nics: Vec<GuestNic>,
    /// The hypervisor's uid and gid.
    pub uid: u32,
}
