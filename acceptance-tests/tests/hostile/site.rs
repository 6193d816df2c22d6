//! What is attacked: two VPCs with the same range, the attacker and its victim in one, a stranger
//! with the victim's own address in the other, and a machine beyond the host.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use weft_acceptance::packet::Mac;
use weft_acceptance::{KeyFile, Lab, NetNs, State, Terraform, weft_tiny};

/// The office's end, and the host's towards it: addresses for documentation (RFC 5737).
pub(crate) const OFFICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The router of either VPC's subnet.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// An address of the attacker's subnet that nobody has.
pub(crate) const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 99);
/// The office's link.
pub(crate) const OFFICE_LINK: &str = "lan";

/// A guest as the attacker may know it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: Mac,
    pub(crate) ipv6: Ipv6Addr,
}

pub(crate) struct Site {
    /// The id of the VPC of attacker and victim.
    pub(crate) vpc: String,
    /// And of the stranger's.
    pub(crate) other_vpc: String,
    pub(crate) attacker: Machine,
    pub(crate) victim: Machine,
    pub(crate) office: NetNs,
    pub(crate) key: KeyFile,
    terraform: Terraform,
}

/// Two guests are members of one group, which lets its members do what they like with each other:
/// no group is in an attack's way.
fn configuration(key: &KeyFile) -> Result<String> {
    let image = weft_tiny()?;
    let common = format!(
        r#"
resource "weft_image" "tiny" {{
  name           = "tiny"
  source_path    = "{}"
  kernel         = "{}"
  initrd         = "{}"
  kernel_cmdline = "{}"
  default_user   = "{}"
}}

resource "weft_key_pair" "me" {{
  key_name   = "me"
  public_key = "{}"
}}
"#,
        image.disk.display(),
        image.kernel.display(),
        image.initrd.display(),
        image.cmdline,
        image.user,
        key.public
    );
    let vpc = |name: &str| {
        format!(
            r#"
resource "weft_vpc" "{name}" {{
  name       = "{name}"
  cidr_block = "10.0.0.0/16"

  ipv6_cidr_block = "fd12:3456:789a::/56"
}}

resource "weft_subnet" "{name}" {{
  name       = "{name}"
  vpc_id     = weft_vpc.{name}.id
  cidr_block = "10.0.1.0/24"

  ipv6_cidr_block = "fd12:3456:789a::/64"
}}
"#
        )
    };
    let guest = |name: &str, vpc: &str, address: &str| {
        format!(
            r#"
resource "weft_instance" "{name}" {{
  name          = "{name}"
  image_id      = weft_image.tiny.id
  instance_type = "w1.nano"
  subnet_id     = weft_subnet.{vpc}.id
  private_ip    = "{address}"
  key_names     = [weft_key_pair.me.key_name]
}}
"#
        )
    };
    Ok([
        common,
        vpc("a"),
        vpc("b"),
        guest("attacker", "a", "10.0.1.66"),
        guest("victim", "a", "10.0.1.10"),
        guest("stranger", "b", "10.0.1.10"),
    ]
    .concat())
}

impl Site {
    pub(crate) fn build(lab: &Lab) -> Result<Self> {
        let office = office(lab)?;
        let key = lab.key("id")?;
        let terraform = lab.terraform()?;
        terraform.main(&configuration(&key)?)?;
        terraform.apply()?;
        let state = terraform.state()?;
        let (attacker, victim) = (machine(&state, "attacker")?, machine(&state, "victim")?);
        let vpc = state.text("weft_vpc.a", "id")?;
        let other_vpc = state.text("weft_vpc.b", "id")?;
        Ok(Self { vpc, other_vpc, attacker, victim, office, key, terraform })
    }

    pub(crate) fn clear(self, lab: &Lab) -> Result<()> {
        self.terraform.destroy()?;
        lab.outside()?.output(&["ip", "link", "delete", "office"]).map(drop)
    }

    /// The MAC of the attacker's router.
    pub(crate) fn router_mac(&self) -> Mac {
        self.attacker.router_mac()
    }
}

impl Machine {
    /// The MAC of its router: the other end of its link.
    pub(crate) fn router_mac(&self) -> Mac {
        let [_, b, c, d, e, f] = self.mac;
        [0xfe, b, c, d, e, f]
    }
}

fn machine(state: &State, name: &str) -> Result<Machine> {
    let text = |attribute| state.text(&format!("weft_instance.{name}"), attribute);
    let mac = text("mac_address")?;
    let bytes: Result<Vec<_>, _> =
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let mac = bytes?.try_into().ok().with_context(|| format!("{mac} is no MAC"))?;
    let ipv6 = state.attribute(&format!("weft_instance.{name}"), "ipv6_addresses")?;
    let ipv6 = ipv6[0].as_str().context("no IPv6 address")?.parse()?;
    Ok(Machine { ipv6, address: text("private_ip")?.parse()?, mac })
}

/// A machine that the host reaches, with a way back for answers to wherever they came from: nothing
/// is kept from the attacker for want of a route.
fn office(lab: &Lab) -> Result<NetNs> {
    let (host, office) = (lab.outside()?, NetNs::new()?);
    let path = office.path();
    let name = path.file_name().and_then(|name| name.to_str()).context("a namespace's name")?;
    host.output(&[
        "ip",
        "link",
        "add",
        "office",
        "type",
        "veth",
        "peer",
        "name",
        OFFICE_LINK,
        "netns",
        name,
    ])?;
    for (netns, link, address) in [(host, "office", HOST), (&office, OFFICE_LINK, OFFICE)] {
        netns.output(&["ip", "address", "add", &format!("{address}/24"), "dev", link])?;
        netns.output(&["ip", "link", "set", link, "up"])?;
    }
    office.output(&["ip", "route", "add", "default", "via", &HOST.to_string()])?;
    Ok(office)
}
