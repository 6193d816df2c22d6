//! Who the guests of a VPC are: what the services ask, and what they tell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use async_trait::async_trait;
use ipnetwork::{Ipv4Network, Ipv6Network};
use weft_model::{
    CloudInitReport, GroupId, ImageId, InstanceId, InterfaceId, LinkName, MacAddr, MetadataOptions,
    Signal, SubnetId, Timestamp, UserData, VpcId,
};

/// Everything that a guest is told about itself by its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The instance.
    pub instance_id: InstanceId,
    /// What it was made from.
    pub image_id: ImageId,
    /// Its type's name; `None` where its size was given by numbers.
    pub instance_type: Option<String>,
    /// The name that it should give itself.
    pub hostname: String,
    /// When it was started.
    pub launched_at: Option<Timestamp>,
    /// Its network interface.
    pub interface_id: InterfaceId,
    /// The interface's MAC.
    pub mac: MacAddr,
    /// The interface's address.
    pub address: Ipv4Addr,
    /// The subnet that the address is of.
    pub subnet_id: SubnetId,
    /// The subnet's range.
    pub subnet_cidr: Ipv4Network,
    /// The VPC of the subnet.
    pub vpc_id: VpcId,
    /// The VPC's range.
    pub vpc_cidr: Ipv4Network,
    /// The same for IPv6, where it has some.
    pub ipv6: Option<GuestV6>,
    /// The interface's security groups and their names.
    pub groups: Vec<(GroupId, String)>,
    /// Its other network interfaces.
    pub others: Vec<GuestInterface>,
    /// Who may log in.
    pub keys: Vec<GuestKey>,
    /// Given verbatim.
    pub user_data: Option<UserData>,
    /// How it is told all this.
    pub metadata_options: MetadataOptions,
}

/// What a guest is told of its IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestV6 {
    /// The interface's address.
    pub address: Ipv6Addr,
    /// The subnet's range.
    pub subnet_cidr: Ipv6Network,
    /// The VPC's range.
    pub vpc_cidr: Ipv6Network,
}

/// One of a guest's network interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestInterface {
    /// Its place among the guest's interfaces; 0 is the one that the guest was made with.
    pub device_index: u8,
    /// Its identity.
    pub interface_id: InterfaceId,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
    /// The subnet that the address is of.
    pub subnet_id: SubnetId,
    /// The subnet's range.
    pub subnet_cidr: Ipv4Network,
    /// The same for IPv6, where it has some.
    pub ipv6: Option<GuestV6>,
    /// Its security groups and their names.
    pub groups: Vec<(GroupId, String)>,
}

impl Guest {
    /// The interface that it was made with, and the others, by their place.
    pub fn interfaces(&self) -> impl Iterator<Item = GuestInterface> {
        let first = GuestInterface {
            device_index: 0,
            interface_id: self.interface_id.clone(),
            mac: self.mac,
            address: self.address,
            subnet_id: self.subnet_id.clone(),
            subnet_cidr: self.subnet_cidr,
            ipv6: self.ipv6,
            groups: self.groups.clone(),
        };
        std::iter::once(first).chain(self.others.iter().cloned())
    }
}

/// A public key with the name of its key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestKey {
    /// The key pair's name.
    pub name: String,
    /// The line for `authorized_keys`.
    pub line: String,
}

/// What a guest is told by DHCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The instance.
    pub instance_id: InstanceId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of its subnet's prefix.
    pub prefix_len: u8,
    /// Its router.
    pub router: Ipv4Addr,
    /// The VPC's own address in the subnet: whom the guest renews its lease with.
    pub server: Ipv4Addr,
    /// Whom it asks for names.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Where it looks for names without a dot.
    pub search: Option<&'static str>,
    /// The name that it should give itself.
    pub hostname: String,
    /// The largest packet in bytes, where it is not Ethernet's 1500.
    pub mtu: Option<u16>,
    /// What it is told by router advertisements and DHCPv6, where it has IPv6.
    pub ipv6: Option<LeaseV6>,
}

/// What a guest is told by router advertisements and DHCPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseV6 {
    /// Its address.
    pub address: Ipv6Addr,
    /// The subnet that the address is of.
    pub subnet: Ipv6Network,
    /// Who its router is.
    pub router: RouterV6,
}

/// Whose advertisements an interface hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterV6 {
    /// Ours: the guest's way out.
    First,
    /// Ours, for another interface of a guest: its first one is the better way out.
    Further,
    /// A LAN's own: we say nothing.
    OfLan,
}

/// Something that a guest asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It asked by DHCP and was answered, but was given no address by that: an offer, say.
    DhcpAsked,
    /// It was given its address by DHCP.
    Dhcp,
    /// It read this path of its metadata.
    Imds(String),
    /// It asked who may log in now, as guests do that follow changes of their keys.
    Keys,
}

/// Something that a guest says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How cloud-init ended.
    CloudInit(CloudInitReport),
    /// Whether it does what it was made for.
    Signal(Signal),
}

/// Why a report is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The guest may send it again.
    #[error("the report could not be kept just now")]
    InTime,
    /// No more of them are kept of this launch.
    #[error("the guest has reported too often")]
    TooMany,
}

/// The names of a VPC. Answers come from memory, and none of them looks at every instance.
pub trait Names: Send + Sync + 'static {
    /// The addresses of the VPC's instances whose name is this label, in lower case.
    fn addresses(&self, vpc: &VpcId, label: &str) -> Vec<IpAddr>;

    /// The label of the instance that has this address in the VPC: its name, where nobody else has
    /// it, else the address's. `None` where no instance has the address.
    fn label(&self, vpc: &VpcId, address: Ipv4Addr) -> Option<String>;

    /// The same for an IPv6 address, which no label is made of: where the name is not one instance's
    /// alone, it is that of its IPv4 address.
    fn label_v6(&self, vpc: &VpcId, address: Ipv6Addr) -> Option<String>;

    /// The range whose reverse names are the VPC's alone. `None` where others have addresses of
    /// it too, whose names the host's resolvers may know.
    fn range(&self, vpc: &VpcId) -> Option<Ipv4Network>;

    /// The VPC's IPv6 range, which nobody else has addresses of.
    fn range_v6(&self, vpc: &VpcId) -> Option<Ipv6Network>;
}

/// What is known about guests. Answers come from memory: nothing here waits, but for
/// [`report`](Directory::report).
#[async_trait]
pub trait Directory: Names {
    /// Whether some interface in the VPC has this address.
    fn knows(&self, vpc: &VpcId, source: Ipv4Addr) -> bool;

    /// The guest whose interface in the VPC has this address.
    fn guest(&self, vpc: &VpcId, source: Ipv4Addr) -> Option<Guest>;

    /// What the guest with this MAC behind this link is to be told by DHCP.
    fn lease(&self, vpc: &VpcId, link: &LinkName, mac: MacAddr) -> Option<Lease>;

    /// The links of the VPC's guests that have IPv6, with the MAC behind each.
    fn links(&self, vpc: &VpcId) -> Vec<(LinkName, MacAddr)>;

    /// Waits until what is known of the guest with this address `differs`.
    async fn until(
        &self,
        vpc: &VpcId,
        source: Ipv4Addr,
        differs: &(dyn for<'g> Fn(Option<&'g Guest>) -> bool + Sync),
    );

    /// A guest asked for something.
    fn saw(&self, instance: &InstanceId, seen: Seen);

    /// Takes a guest's report; once this has returned it survives the agent.
    ///
    /// # Errors
    /// [`NotTaken`] where it could not be made durable in time, or is one too many.
    async fn report(&self, instance: &InstanceId, report: Report) -> Result<(), NotTaken>;
}
