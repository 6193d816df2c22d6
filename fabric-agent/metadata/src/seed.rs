//! The four files of a NoCloud seed.
//!
//! Meta-data, network-config and the vendor data's configuration are JSON, which is YAML: nothing
//! that a name contains can break out of its place. Source: cloud-init's reference, "NoCloud", "Networking config Version 2" and the
//! module `cc_ssh`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use weft_model::{Digest, MacAddr, ROUTER_V6, SUBNET_PREFIX_V6, SshHostKey};

use crate::report::{GROW_SCRIPT, REPORT_SCRIPT, multipart};

/// All that a seed is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedInput {
    /// cloud-init's idea of "the same machine": when it changes, everything runs as on a first
    /// boot. The instance's id unless that is wanted.
    pub instance_id: String,
    /// See [`hostname`](crate::hostname()).
    pub hostname: String,
    /// OpenSSH lines of those who may log in as the image's default user.
    pub public_keys: Vec<String>,
    /// The guest's identity.
    pub host_key: SshHostKey,
    /// Its first interface.
    pub network: Network,
    /// Its other interfaces.
    pub others: Vec<OtherInterface>,
    /// Given to cloud-init byte by byte.
    pub user_data: Option<Vec<u8>>,
}

/// The address of a guest's first interface and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Tells the guest which interface is meant.
    pub mac: MacAddr,
    /// Its own address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if it has one.
    pub ipv6: Option<Ipv6Addr>,
    /// Length of the subnet's prefix, in bits.
    pub prefix_len: u8,
    /// Where everything outside of the subnet goes.
    pub gateway: Ipv4Addr,
    /// Whether all interfaces are on a LAN, whose IPv6 router advertises itself; else that is
    /// [`ROUTER_V6`], and nobody else is on the link.
    pub on_lan: bool,
    /// Name servers, the first one asked first.
    pub dns: Vec<Ipv4Addr>,
    /// Where it looks for names without a dot.
    pub search: Option<&'static str>,
    /// Largest packet, in bytes.
    pub mtu: u16,
}

/// An interface besides the first one: the way out is not through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherInterface {
    /// Tells the guest which interface is meant.
    pub mac: MacAddr,
    /// Its own address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if it has one.
    pub ipv6: Option<Ipv6Addr>,
    /// Length of the subnet's prefix, in bits.
    pub prefix_len: u8,
}

/// The files of a seed. `Debug` shows their names and lengths: they hold a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    files: [(&'static str, Vec<u8>); 4],
}

impl Seed {
    /// Writes the files for `input`.
    pub fn new(input: &SeedInput) -> Self {
        Self {
            files: [
                ("meta-data", meta_data(input).to_string().into_bytes()),
                (
                    "network-config",
                    network_config(&input.network, &input.others).to_string().into_bytes(),
                ),
                ("user-data", input.user_data.clone().unwrap_or_default()),
                ("vendor-data", vendor_data(&input.host_key).into_bytes()),
            ],
        }
    }

    /// Names and contents, in the order of the names. An instance without user data has an empty
    /// file: without one NoCloud would not take the volume for a seed.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (*name, bytes.as_slice()))
    }

    /// Equal exactly for seeds with equal files.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash())
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for (name, bytes) in self.files() {
            hasher.update(name);
            hasher.update([0]);
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        }
        hasher.finalize().into()
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.files().map(|(name, bytes)| (name, bytes.len()))).finish()
    }
}

fn meta_data(input: &SeedInput) -> Value {
    json!({
        "instance-id": input.instance_id,
        "local-hostname": input.hostname,
        "public-keys": input.public_keys,
    })
}

fn network_config(network: &Network, others: &[OtherInterface]) -> Value {
    // `gateway4` is deprecated in netplan; `to: default` is not known to cloud-init before 23.
    let mut route = json!({ "to": "0.0.0.0/0", "via": network.gateway });
    if !same_subnet(network) {
        route["on-link"] = json!(true);
    }
    let mut addresses = vec![format!("{}/{}", network.address, network.prefix_len)];
    let mut routes = vec![route];
    if let Some(address) = network.ipv6 {
        addresses.push(on_link_v6(address, network));
        if !network.on_lan {
            routes.push(json!({ "to": "::/0", "via": ROUTER_V6, "on-link": true }));
        }
    }
    let mut nameservers = json!({ "addresses": network.dns });
    if let Some(domain) = network.search {
        nameservers["search"] = json!([domain]);
    }
    let mut first = json!({
        "match": { "macaddress": network.mac },
        "set-name": "eth0",
        "dhcp4": false,
        "addresses": addresses,
        "routes": routes,
        "nameservers": nameservers,
        "mtu": network.mtu,
    });
    if network.on_lan && network.ipv6.is_some() {
        // Some tools hear no router where an address is given.
        first["accept-ra"] = json!(true);
    }
    let mut ethernets = serde_json::Map::from_iter([("eth0".to_owned(), first)]);
    let mut reached: BTreeSet<Ipv6Addr> = network.ipv6.map(subnet_v6).into_iter().collect();
    ethernets.extend(others.iter().enumerate().map(|(n, other)| {
        let name = format!("eth{}", n + 1);
        // A guest waits for no interface that may be taken from it.
        let mut config = json!({
            "match": { "macaddress": other.mac },
            "set-name": name,
            "dhcp4": false,
            "optional": true,
            "addresses": [format!("{}/{}", other.address, other.prefix_len)],
            "mtu": network.mtu,
        });
        if let Some(address) = other.ipv6 {
            config["addresses"] = json!([config["addresses"][0], on_link_v6(address, network)]);
            // A router that advertises itself here would be a second way out.
            config["accept-ra"] = json!(false);
            // Its own subnet is reached through it, as over IPv4, unless another interface is there.
            let subnet = subnet_v6(address);
            if reached.insert(subnet) && !network.on_lan {
                let route = json!({
                    "to": format!("{subnet}/{SUBNET_PREFIX_V6}"), "via": ROUTER_V6, "on-link": true,
                });
                config["routes"] = json!([route]);
            }
        }
        (name, config)
    }));
    json!({ "version": 2, "ethernets": ethernets })
}

/// With the bits of the network that it reaches without a router: none where only that is on the
/// link.
fn on_link_v6(address: Ipv6Addr, network: &Network) -> String {
    format!("{address}/{}", if network.on_lan { SUBNET_PREFIX_V6 } else { 128 })
}

/// The subnet that an address is of.
fn subnet_v6(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - u32::from(SUBNET_PREFIX_V6))))
}

fn same_subnet(network: &Network) -> bool {
    let host_bits = 32_u32.saturating_sub(network.prefix_len.into());
    let subnet = |address: Ipv4Addr| address.to_bits().checked_shr(host_bits).unwrap_or(0);
    subnet(network.address) == subnet(network.gateway)
}

/// What is ours goes here and not into user data, which is the user's alone: the host key, and
/// the scripts that report how cloud-init ended and let the guest grow.
fn vendor_data(host_key: &SshHostKey) -> String {
    let config = format!("#cloud-config\n{}", host_key_config(host_key));
    let hook = "text/cloud-boothook";
    multipart(&[("text/cloud-config", &config), (hook, REPORT_SCRIPT), (hook, GROW_SCRIPT)])
}

/// With `ssh_keys` given, `cc_ssh` generates no others; those of the image are deleted.
pub(crate) fn host_key_config(host_key: &SshHostKey) -> Value {
    json!({
        "ssh_deletekeys": true,
        "ssh_keys": {
            "ed25519_private": host_key.private_pem,
            "ed25519_public": host_key.public_line,
        },
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn input() -> SeedInput {
        SeedInput {
            instance_id: "i-00000000000000001".to_owned(),
            hostname: "web".to_owned(),
            public_keys: vec!["ssh-ed25519 AAAA me@\"home\"".to_owned()],
            host_key: crate::generate_host_key([1; 32], "web").unwrap(),
            network: Network {
                mac: "02:00:00:00:00:01".parse().unwrap(),
                address: Ipv4Addr::new(172, 31, 0, 5),
                ipv6: None,
                prefix_len: 18,
                gateway: Ipv4Addr::new(172, 31, 0, 1),
                on_lan: false,
                dns: vec![Ipv4Addr::new(172, 31, 0, 2)],
                search: Some("default.weft.internal"),
                mtu: 1500,
            },
            others: Vec::new(),
            user_data: Some(b"#!/bin/sh\necho \xff\0 hi\n".to_vec()),
        }
    }

    fn file(seed: &Seed, name: &str) -> Vec<u8> {
        seed.files().find(|(known, _)| *known == name).unwrap().1.to_vec()
    }

    #[test]
    fn files_say_what_cloud_init_reads() {
        let seed = Seed::new(&input());
        let json = |name: &str| serde_json::from_slice::<Value>(&file(&seed, name)).unwrap();
        assert_eq!(
            json("meta-data"),
            json!({
                "instance-id": "i-00000000000000001",
                "local-hostname": "web",
                "public-keys": ["ssh-ed25519 AAAA me@\"home\""],
            })
        );
        assert_eq!(
            json("network-config"),
            json!({ "version": 2, "ethernets": { "eth0": {
                "match": { "macaddress": "02:00:00:00:00:01" },
                "set-name": "eth0",
                "dhcp4": false,
                "addresses": ["172.31.0.5/18"],
                "routes": [{ "to": "0.0.0.0/0", "via": "172.31.0.1" }],
                "nameservers": { "addresses": ["172.31.0.2"], "search": ["default.weft.internal"] },
                "mtu": 1500,
            } } })
        );
        let vendor = String::from_utf8(file(&seed, "vendor-data")).unwrap();
        assert!(vendor.contains(REPORT_SCRIPT) && vendor.contains(GROW_SCRIPT), "{vendor}");
        // weft-tiny takes the configuration by its place: one line after the header.
        let mut lines = vendor.lines().skip_while(|line| *line != "#cloud-config");
        let config: Value = serde_json::from_str(lines.nth(1).unwrap()).unwrap();
        assert_eq!(config["ssh_keys"]["ed25519_private"], input().host_key.private_pem);
        assert_eq!(config["ssh_keys"]["ed25519_public"], input().host_key.public_line);
        assert_eq!(config["ssh_deletekeys"], true);
    }

    #[test]
    fn a_guest_with_ipv6_has_one_address_and_the_link_local_router() {
        let ipv6 = Some("fd00:1:2:3::5".parse().unwrap());
        let config = network_config(&Network { ipv6, ..input().network }, &[]);
        let eth0 = &config["ethernets"]["eth0"];
        assert_eq!(eth0["addresses"], json!(["172.31.0.5/18", "fd00:1:2:3::5/128"]));
        assert_eq!(eth0["routes"][1], json!({ "to": "::/0", "via": "fe80::1", "on-link": true }));
        let seed = |network| Seed::new(&SeedInput { network, ..input() }).digest();
        assert_ne!(seed(Network { ipv6, ..input().network }), seed(input().network));
    }

    #[test]
    fn user_data_goes_verbatim_and_is_never_missing() {
        assert_eq!(file(&Seed::new(&input()), "user-data"), b"#!/bin/sh\necho \xff\0 hi\n");
        let without = Seed::new(&SeedInput { user_data: None, ..input() });
        assert_eq!(file(&without, "user-data"), b"");
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_on_link() {
        for (prefix_len, on_link) in [(18, false), (30, true), (32, true), (0, false)] {
            let network = Network { prefix_len, ..input().network };
            let config = network_config(&network, &[]);
            let route = &config["ethernets"]["eth0"]["routes"][0];
            assert_eq!(route.get("on-link").is_some(), on_link, "/{prefix_len}");
        }
    }

    #[test]
    fn only_the_first_interface_leads_out() {
        let other = OtherInterface {
            mac: "02:00:00:00:00:09".parse().unwrap(),
            address: Ipv4Addr::new(172, 31, 64, 9),
            ipv6: None,
            prefix_len: 18,
        };
        let config = network_config(&input().network, &[other]);
        assert!(config["ethernets"]["eth0"]["routes"][0]["via"].is_string());
        assert_eq!(
            config["ethernets"]["eth1"],
            json!({
                "match": { "macaddress": "02:00:00:00:00:09" },
                "set-name": "eth1",
                "dhcp4": false,
                "optional": true,
                "addresses": ["172.31.64.9/18"],
                "mtu": 1500,
            })
        );
    }

    #[test]
    fn another_interface_leads_to_its_own_ipv6_subnet_and_nowhere_else() {
        let interface = |last: u8, ipv6: &str| OtherInterface {
            mac: format!("02:00:00:00:00:{last:02x}").parse().unwrap(),
            address: Ipv4Addr::new(172, 31, 64, last),
            ipv6: Some(ipv6.parse().unwrap()),
            prefix_len: 18,
        };
        let others = [
            interface(8, "fd00:1:2:3::8"),
            interface(9, "fd00:1:2:4::9"),
            interface(10, "fd00:1:2:4::a"),
        ];
        let ipv6 = Some("fd00:1:2:3::5".parse().unwrap());
        let routes = |on_lan| {
            let config = network_config(&Network { ipv6, on_lan, ..input().network }, &others);
            let ethernets = &config["ethernets"];
            assert_ne!(ethernets["eth0"]["accept-ra"], false, "the way out is heard of there");
            (1..4)
                .map(|n| &ethernets[format!("eth{n}")])
                .for_each(|other| assert_eq!(other["accept-ra"], false));
            let last = ethernets["eth3"]["addresses"][1].clone();
            let of = |n: u8| ethernets[format!("eth{n}")]["routes"].as_array().cloned();
            (last, (1..4).map(of).collect::<Vec<_>>())
        };
        let only = json!({ "to": "fd00:1:2:4::/64", "via": "fe80::1", "on-link": true });
        assert_eq!(routes(false), (json!("fd00:1:2:4::a/128"), vec![None, Some(vec![only]), None]));
        assert_eq!(routes(true), (json!("fd00:1:2:4::a/64"), vec![None, None, None]));
    }

    #[test]
    fn a_guest_on_a_lan_hears_of_its_ipv6_router_there() {
        let ipv6 = Some("fd00:1:2:3::5".parse().unwrap());
        let config = network_config(&Network { ipv6, on_lan: true, ..input().network }, &[]);
        let eth0 = &config["ethernets"]["eth0"];
        assert_eq!(eth0["addresses"], json!(["172.31.0.5/18", "fd00:1:2:3::5/64"]));
        assert_eq!(eth0["accept-ra"], true);
        assert_eq!(eth0["routes"].as_array().map(Vec::len), Some(1), "{eth0}");
    }

    #[test]
    fn the_digest_changes_with_every_part() {
        let same = Seed::new(&input()).digest();
        assert_eq!(Seed::new(&input()).digest(), same);
        let network = input().network;
        let changes = [
            SeedInput { instance_id: "i-2".to_owned(), ..input() },
            SeedInput { hostname: "db".to_owned(), ..input() },
            SeedInput { public_keys: Vec::new(), ..input() },
            SeedInput { host_key: crate::generate_host_key([2; 32], "web").unwrap(), ..input() },
            SeedInput { network: Network { mtu: 1400, ..network.clone() }, ..input() },
            SeedInput { network: Network { dns: Vec::new(), ..network.clone() }, ..input() },
            SeedInput { network: Network { search: None, ..network }, ..input() },
            SeedInput { user_data: None, ..input() },
        ];
        for change in changes {
            assert_ne!(Seed::new(&change).digest(), same, "{change:?}");
        }
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let shown = format!("{:?}", Seed::new(&input()));
        assert!(shown.contains("vendor-data") && !shown.contains("PRIVATE"), "{shown}");
    }
}
