//! Every key of the store.
//!
//! ```text
//! objects/KIND/ID           what should be (Record)
//! status/instances/ID       what is
//! status/volumes/ID         whether its disk was ever made
//! addresses/SUBNET/ADDRESS  the instance, or network interface, that has it
//! macs/VPC/MAC              likewise
//! attached/INTERFACE        the instance that the network interface is attached to
//! attached/VOLUME           the instance that the volume is attached to
//! uids/UID                  the instance whose hypervisor runs under it
//! key-names/HASH            the key pair that has the name with this SHA-256
//! type-names/NAME          the instance type that has the name
//! public/ADDRESS           the elastic IP or the instance that has the public address
//! associated/EIP           the association of the elastic IP
//! public-of/INTERFACE      the association of the network interface
//! host-ports/PROTOCOL/PORT the port forward that has the host's port
//! public-pool              the pool that was chosen at the first start
//! sha512/DIGEST             the blob, which goes by its SHA-256, that has this SHA-512
//! tokens/TOKEN              what a Create with this token made, the token in hexadecimal
//! host                      this host's identity
//! merges/LAYER              what becomes this layer (weft_model::Merge)
//! events/NUMBER            what happened that nobody asked for
//! tfstates/NAME             the versions of a Terraform state
//! tfstate-locks/NAME        who holds its lock
//! usage/open/KIND/ID        what is being counted (weft_metering::Meter)
//! usage/days/DAY/ID/HASH    what was used on a day (weft_metering::DailySum)
//! usage/heartbeat           when an agent lived last
//! metadata-key              what the metadata service proves its tokens with
//! ```

use std::net::{IpAddr, Ipv4Addr};

use sha2::{Digest as _, Sha256};
use weft_model::{
    ElasticIpId, InstanceId, InterfaceId, LayerId, MacAddr, Name, Sha512, SubnetId,
    TransportProtocol, TypeName, VolumeId, VpcId,
};

use super::Kind;

/// The prefix of everything that clients ask for.
pub(crate) const OBJECTS: &str = "objects/";
/// The prefix of the instances' statuses.
pub(crate) const STATUSES: &str = "status/instances/";
/// The prefix of clients' tokens.
pub(crate) const TOKENS: &str = "tokens/";
/// This host's identity.
pub(crate) const HOST: &str = "host";
/// What the metadata service proves its tokens with.
pub(crate) const METADATA_KEY: &str = "metadata-key";

/// The prefix of meters.
pub(crate) const USAGE_OPEN: &str = "usage/open/";
/// The prefix of daily sums; a day comes next.
pub(crate) const USAGE_DAYS: &str = "usage/days/";
/// When an agent lived last.
pub(crate) const HEARTBEAT: &str = "usage/heartbeat";

/// The prefix of Terraform's states.
pub(crate) const TFSTATES: &str = "tfstates/";

pub(crate) fn tfstate_key(name: &str) -> String {
    format!("{TFSTATES}{name}")
}

/// The prefix of their locks.
pub(crate) const TFSTATE_LOCKS: &str = "tfstate-locks/";

pub(crate) fn tfstate_lock_key(name: &str) -> String {
    format!("{TFSTATE_LOCKS}{name}")
}

/// The prefix of merges of layers.
pub(crate) const MERGES: &str = "merges/";

pub(crate) fn merge_key(merged: &LayerId) -> String {
    format!("{MERGES}{merged}")
}

/// The prefix of the host's events.
pub(crate) const EVENTS: &str = "events/";

pub(crate) fn object_key<K: Kind>(id: &K::Id) -> String {
    format!("{OBJECTS}{}/{id}", K::NAME)
}

pub(crate) fn status_key(id: &InstanceId) -> String {
    format!("{STATUSES}{id}")
}

/// Where it is written down that a volume's disk was made.
pub(crate) fn volume_status_key(id: &VolumeId) -> String {
    format!("status/volumes/{id}")
}

/// Makes an address somebody's.
pub(crate) fn address_key(subnet: &SubnetId, address: impl Into<IpAddr>) -> String {
    format!("addresses/{subnet}/{}", address.into())
}

/// Makes a MAC somebody's.
pub(crate) fn mac_key(vpc: &VpcId, mac: MacAddr) -> String {
    format!("macs/{vpc}/{mac}")
}

/// Makes a network interface an instance's, for as long as it is attached.
pub(crate) fn attached_key(interface: &InterfaceId) -> String {
    format!("attached/{interface}")
}

/// Makes a volume an instance's, for as long as it is attached.
pub(crate) fn attached_volume_key(volume: &VolumeId) -> String {
    format!("attached/{volume}")
}

/// Makes a hypervisor's uid somebody's.
pub(crate) fn uid_key(uid: u32) -> String {
    format!("uids/{uid}")
}

/// Makes a key pair's name somebody's. Hashed: a name may be any text, and longer than a key.
pub(crate) fn key_pair_name_key(name: &Name) -> String {
    format!("key-names/{}", hex::encode(Sha256::digest(name.as_str())))
}

/// Makes an instance type's name somebody's.
pub(crate) fn type_name_key(name: &TypeName) -> String {
    format!("type-names/{name}")
}

/// The prefix of blobs by their SHA-512.
pub(crate) const SHA512: &str = "sha512/";

/// Which blob has this SHA-512.
pub(crate) fn sha512_key(sha512: &Sha512) -> String {
    format!("{SHA512}{sha512}")
}

/// The prefix of public addresses that are somebody's.
pub(crate) const PUBLIC: &str = "public/";
/// The pool that was chosen at the first start.
pub(crate) const PUBLIC_POOL: &str = "public-pool";

/// Makes a public address somebody's.
pub(crate) fn public_key(address: Ipv4Addr) -> String {
    format!("{PUBLIC}{address}")
}

/// Makes an elastic IP lead to one interface only.
pub(crate) fn associated_key(id: &ElasticIpId) -> String {
    format!("associated/{id}")
}

/// Gives an interface one elastic IP only.
pub(crate) fn public_of_key(id: &InterfaceId) -> String {
    format!("public-of/{id}")
}

/// Makes a port of the host somebody's.
pub(crate) fn host_port_key(protocol: TransportProtocol, port: u16) -> String {
    format!("host-ports/{protocol}/{port}")
}

/// A client's token: any bytes, so in hexadecimal.
pub(crate) fn token_key(token: &str) -> String {
    format!("{TOKENS}{}", hex::encode(token))
}

/// In the order of their numbers.
pub(crate) fn event_key(number: u64) -> String {
    format!("{EVENTS}{number:020}")
}
