//! The domain's words as types: ids, sizes, addresses, specifications, statuses.
//!
//! Wire, file and HCL values are parsed into these once, at the edge; past it a value is known to
//! be well formed. Nothing here does I/O, reads a clock or is async.

mod below;
mod checksum;
mod checksums;
mod disk_limits;
mod dns;
mod event;
mod figures;
mod group;
mod host;
mod id;
mod image;
mod image_url;
mod instance;
mod instance_type;
mod key_pair;
mod lifecycle;
mod maxima;
mod merge;
mod metadata_options;
mod net;
mod network;
mod network_interface;
mod prefix_list;
mod problem;
mod public;
mod record;
mod report;
mod route;
mod snapshot;
mod tags;
mod text;
mod view;
mod volume;
mod volume_attachment;
mod volume_secret;
mod vpc;
mod zone;

pub use below::{Below, ImageBase};
pub use checksum::{Checksum, InvalidChecksum, InvalidSha512, Sha512};
pub use checksums::{ChecksumsError, MAX_CHECKSUMS_BYTES, find_checksum};
pub use disk_limits::{DISK_IOPS, DISK_MIBPS, DiskLimits, Throttle, Throttles};
pub use dns::{DNS_PROJECT, DNS_ZONE, address_label, dns_label, labelled_address, search_domain};
pub use event::{Event, EventKind};
pub use figures::{DiskCounters, GuestFigures, GuestMemory};
pub use group::{
    Direction, GroupSpec, IpProtocol, MAX_GROUPS_PER_INTERFACE, MAX_RULES_PER_GROUP, RulePeer,
    RulePorts, RuleSpec,
};
pub use host::{Accelerator, HostFacts, LinkCounters};
pub use id::{
    Attachment, AttachmentId, ElasticIpId, GroupId, HostId, IdKind, ImageId, InstanceId,
    InstanceTypeId, InterfaceId, InvalidId, Joins, KeyPairId, LayerId, PairId, PortForwardId,
    PrefixListId, RouteTableId, RuleId, SessionId, SnapshotId, SubnetId, VolumeAttachment,
    VolumeAttachmentId, VolumeId, VpcId, listed, malformed_id,
};
pub use image::{
    Architecture, BlobRole, BootMode, Digest, DiskFormat, ImageContent, ImageSpec, InvalidDigest,
    KernelContent,
};
pub use image_url::{ImageUrl, InvalidImageUrl};
pub use instance::{
    HIBERNATED, InstanceSpec, InstanceState, InstanceStatus, Interface, KeyMaterial,
    MAX_USER_DATA_BYTES, Phase, PhaseRecord, PowerState, SshHostKey, UserData, WaitFor,
};
pub use instance_type::{
    BUILT_IN_TYPES, InstanceType, InstanceTypeSpec, InvalidTypeName, MEMORY_MIB, TypeName, VCPUS,
    built_in_types, check_size, find_type, no_such_type,
};
pub use key_pair::{InvalidPublicKey, KeyPairSpec, PublicKey};
pub use lifecycle::{AutoRestart, Lifecycle, Restarts, SHUTDOWN_SECONDS};
pub use maxima::{GuestSize, MEMORY_SLOTS, MEMORY_STEP_MIB, Maxima};
pub use merge::Merge;
pub use metadata_options::{
    HOP_LIMITS, HttpEndpoint, HttpTokens, MetadataOptions, check_hop_limit,
};
pub use net::{InvalidLinkName, InvalidMacAddr, LinkName, MacAddr};
pub use network::{
    Admission, Bridge, BridgeJoin, Counted, Counts, DNS_ADDRESS, DNS_ADDRESS_V6, Firewall,
    FirewallBridge, FirewallForward, FirewallGroup, FirewallInterface, FirewallNat,
    FirewallPrefixList, FirewallUplink, JoinPath, METADATA_ADDRESS, METADATA_ADDRESS_V6,
    NETWORK_MBPS, NextHop, ObservedBridge, ObservedJoin, ObservedNetwork, ObservedNetworkV6,
    ObservedPort, ObservedShaper, ObservedTap, ObservedTapV6, ObservedUplink, ObservedUplinkV6,
    Opening, ROUTER_V6, Routes, SERVICE_ADDRESSES, SERVICE_ADDRESSES_V6, Service, TapInterface,
    TrackedFlow, Trunk, Uplink, UplinkV6, VpcNetwork, check_network_mbps,
};
pub use network_interface::{
    AttachmentOrder, AttachmentSpec, MAX_INTERFACES_PER_INSTANCE, NetworkInterfaceOrder,
    NetworkInterfaceSpec, NetworkInterfaceView, PRIMARY_DEVICE_INDEX, check_device_index,
    place_for,
};
pub use prefix_list::{AddressFamily, MAX_PREFIX_LIST_ENTRIES, PrefixListSpec, PrefixRange};
pub use problem::{Problem, Reason};
pub use public::{
    AddressRange, Association, AssociationId, AssociationSpec, ElasticIpOrder, ElasticIpSpec,
    GuestAccess, HostForward, PortForwardSpec, PublicPool, Target, TransportProtocol,
};
pub use record::{Claim, ContentHash, Record};
pub use report::{CloudInitOutcome, CloudInitReport, Signal, SignalOutcome, shows_itself};
pub use route::{
    MAX_ROUTES_PER_TABLE, ResolvedRoute, RouteSpec, RouteTableAssociation, RouteTableAssociationId,
    RouteTableAssociationSpec, RouteTableOrder, RouteTableSpec, check_no_loop, check_routes,
};
pub use snapshot::{
    Boots, Consistency, MAX_LAYERS, SnapshotOrder, SnapshotProgress, SnapshotSource, SnapshotSpec,
    SnapshotState, SnapshotView, Taking, check_depth,
};
pub use tags::Tags;
pub use text::{InvalidName, Name};
pub use view::{
    Assigned, GroupOrder, HostView, ImageOrder, InstanceOrder, InstanceView, Object, Size,
};
pub use volume::{
    DISK_GIB, InvalidPoolName, PoolName, VolumeOrder, VolumeSource, VolumeSpec, VolumeState,
    VolumeView, check_disk_gib, check_encryption, check_holds, check_no_shrink, no_root_key,
    no_such_pool,
};
pub use volume_attachment::{
    MAX_VOLUMES_PER_INSTANCE, VolumeAttachmentOrder, VolumeAttachmentSpec, place_for_volume,
};
pub use volume_secret::{
    DataSecret, HexBytes, InvalidHexBytes, KEY_BYTES, RootKeyId, SealedText, SecretId, WrapNonce,
    WrappedSecret,
};
pub use vpc::{
    AddressPool, AddressPoolV6, AddressProblem, GuestNetwork, Lan, LanLink, SUBNET_PREFIX_V6,
    SubnetOrder, SubnetSpec, UPLINKS_V6, VLAN_IDS, VpcMode, VpcOrder, VpcSpec, check_map_public_ip,
    check_network_range, check_no_special_range, check_source_dest, check_vpc_range_v6, overlap_v6,
    parse_cidr, parse_cidr_v6,
};
pub use zone::{InvalidZoneName, ZoneName};

/// A moment in UTC. Stored and sent as RFC 3339 text or milliseconds since the Unix epoch.
pub type Timestamp = jiff::Timestamp;
