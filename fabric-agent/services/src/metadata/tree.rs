//! The documents of EC2's instance metadata. Pure.
//!
//! Source: "Instance metadata categories" of EC2's user guide, and what cloud-init's
//! `DataSourceEc2.py` and `ec2.py` read.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::directory::{Guest, GuestInterface};

/// The versions that clients ask for; all have the newest content. The last is an alias.
const VERSIONS: [&str; 14] = [
    "1.0",
    "2007-01-19",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2012-01-12",
    "2014-02-25",
    "2016-09-02",
    "2018-09-24",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "latest",
];
/// There are no regions or zones yet, and clients expect some. Not of the form of one of EC2's:
/// cloud-init would look for Amazon's package mirrors of that region.
const REGION: &str = "weft-1";
const ZONE: &str = "weft-1a";
/// Who owns everything while there are no projects, in the form of an account's id.
const OWNER: &str = "000000000000";
const DOMAIN: &str = "weft.internal";

/// A document, or a folder of them in the order that they are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node<'a> {
    Document(Cow<'a, [u8]>),
    Folder(Vec<(String, Node<'a>)>),
    /// A folder that is listed in words of its own: EC2 lists keys as `0=NAME`.
    Listed(String, Vec<(String, Node<'a>)>),
}

/// What `path` holds for `guest`, or `None`. A path of a folder, with or without a slash at its
/// end, holds the folder's list.
pub(super) fn find<'a>(guest: &'a Guest, path: &str) -> Option<Cow<'a, [u8]>> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let Some(version) = parts.next() else {
        return Some(Cow::Owned(VERSIONS.join("\n").into_bytes()));
    };
    if !VERSIONS.contains(&version) {
        return None;
    }
    let mut node = root(guest);
    for part in parts {
        let (Node::Folder(entries) | Node::Listed(_, entries)) = node else { return None };
        node = entries.into_iter().find(|(name, _)| name == part)?.1;
    }
    Some(match node {
        Node::Document(_) if path.ends_with('/') => return None,
        Node::Document(content) => content,
        Node::Listed(list, _) => Cow::Owned(list.into_bytes()),
        Node::Folder(entries) => Cow::Owned(list(&entries).into_bytes()),
    })
}

/// Folders end in a slash; there is no line break at the end.
fn list(entries: &[(String, Node<'_>)]) -> String {
    let line = |(name, node): &(String, Node<'_>)| match node {
        Node::Document(_) => name.clone(),
        Node::Folder(_) | Node::Listed(..) => format!("{name}/"),
    };
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn text<'a>(text: impl ToString) -> Node<'a> {
    Node::Document(Cow::Owned(text.to_string().into_bytes()))
}

fn folder<'a, const N: usize>(entries: [(&str, Node<'a>); N]) -> Node<'a> {
    Node::Folder(entries.map(|(name, node)| (name.to_owned(), node)).into())
}

fn root(guest: &Guest) -> Node<'_> {
    let document = identity(guest).to_string();
    let identity = folder([("document", text(document))]);
    let mut entries = vec![
        ("dynamic".to_owned(), folder([("instance-identity", identity)])),
        ("meta-data".to_owned(), meta_data(guest)),
    ];
    if let Some(user_data) = &guest.user_data {
        entries.push(("user-data".to_owned(), Node::Document(Cow::Borrowed(&user_data.0))));
    }
    Node::Folder(entries)
}

fn meta_data(guest: &Guest) -> Node<'_> {
    let groups = lines(guest.groups.iter().map(|(_, name)| name));
    let macs = guest.interfaces().map(|one| (one.mac.to_string(), interface(guest, &one)));
    let interfaces = folder([("macs", Node::Folder(macs.collect()))]);
    let mut node = folder([
        ("ami-id", text(&guest.image_id)),
        ("ami-launch-index", text(0)),
        ("ami-manifest-path", text("(unknown)")),
        ("block-device-mapping", folder([("ami", text("vda")), ("root", text("/dev/vda"))])),
        ("hostname", text(&guest.hostname)),
        ("instance-action", text("none")),
        ("instance-id", text(&guest.instance_id)),
        ("instance-life-cycle", text("on-demand")),
        ("instance-type", text(instance_type(guest))),
        ("local-hostname", text(&guest.hostname)),
        ("local-ipv4", text(guest.address)),
        ("mac", text(guest.mac)),
        ("network", folder([("interfaces", interfaces)])),
        ("placement", folder([("availability-zone", text(ZONE)), ("region", text(REGION))])),
        ("profile", text("default-hvm")),
        ("reservation-id", text(reservation(guest))),
        ("security-groups", text(groups)),
        ("services", folder([("domain", text(DOMAIN)), ("partition", text("weft"))])),
    ]);
    if let (Node::Folder(entries), Some(ipv6)) = (&mut node, &guest.ipv6) {
        insert(entries, "ipv6", text(ipv6.address));
    }
    if let Node::Folder(entries) = &mut node
        && !guest.keys.is_empty()
    {
        insert(entries, "public-keys", public_keys(guest));
    }
    node
}

/// Keeps the order of the names.
fn insert<'a>(entries: &mut Vec<(String, Node<'a>)>, name: &str, node: Node<'a>) {
    let place = entries.partition_point(|(other, _)| other.as_str() < name);
    entries.insert(place, (name.to_owned(), node));
}

fn interface<'a>(guest: &Guest, interface: &GuestInterface) -> Node<'a> {
    let mut node = folder([
        ("device-number", text(interface.device_index)),
        ("interface-id", text(&interface.interface_id)),
        ("local-hostname", text(&guest.hostname)),
        ("local-ipv4s", text(interface.address)),
        ("mac", text(interface.mac)),
        ("network-card", text(0)),
        ("owner-id", text(OWNER)),
        ("security-group-ids", text(lines(interface.groups.iter().map(|(id, _)| id)))),
        ("security-groups", text(lines(interface.groups.iter().map(|(_, name)| name)))),
        ("subnet-id", text(&interface.subnet_id)),
        ("subnet-ipv4-cidr-block", text(interface.subnet_cidr)),
        ("vpc-id", text(&guest.vpc_id)),
        ("vpc-ipv4-cidr-block", text(guest.vpc_cidr)),
        ("vpc-ipv4-cidr-blocks", text(guest.vpc_cidr)),
    ]);
    if let (Node::Folder(entries), Some(ipv6)) = (&mut node, &interface.ipv6) {
        insert(entries, "ipv6s", text(ipv6.address));
        insert(entries, "subnet-ipv6-cidr-blocks", text(ipv6.subnet_cidr));
        insert(entries, "vpc-ipv6-cidr-blocks", text(ipv6.vpc_cidr));
    }
    node
}

fn public_keys(guest: &Guest) -> Node<'_> {
    let keys = guest.keys.iter().enumerate();
    let listed = lines(keys.clone().map(|(n, key)| format!("{n}={}", key.name)));
    let entries = keys.map(|(n, key)| (n.to_string(), folder([("openssh-key", text(&key.line))])));
    Node::Listed(listed, entries.collect())
}

fn identity(guest: &Guest) -> Value {
    json!({
        "accountId": OWNER,
        "architecture": "x86_64",
        "availabilityZone": ZONE,
        "billingProducts": null,
        "devpayProductCodes": null,
        "imageId": guest.image_id,
        "instanceId": guest.instance_id,
        "instanceType": instance_type(guest),
        "kernelId": null,
        "marketplaceProductCodes": null,
        "pendingTime": guest.launched_at,
        "privateIp": guest.address,
        "ramdiskId": null,
        "region": REGION,
        "version": "2017-09-30",
    })
}

fn instance_type(guest: &Guest) -> &str {
    guest.instance_type.as_deref().unwrap_or("custom")
}

/// One for each instance: instances are not made in lots.
fn reservation(guest: &Guest) -> String {
    guest.instance_id.as_str().replacen("i-", "r-", 1)
}

fn lines(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use weft_model::UserData;

    use super::*;
    use crate::testing::guest;

    fn read(guest: &Guest, path: &str) -> Option<String> {
        find(guest, path).map(|bytes| String::from_utf8(bytes.into_owned()).unwrap())
    }

    #[test]
    fn documents_are_where_ec2_has_them() {
        let guest = guest();
        let mac = "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01";
        #[rustfmt::skip]
        let cases = [
            ("/2009-04-04/meta-data/instance-id", guest.instance_id.as_str()),
            ("/latest/meta-data/instance-type",   "w1.small"),
            ("/latest/meta-data/local-ipv4",      "172.31.0.5"),
            ("/latest/meta-data/local-hostname",  "web"),
            ("/2021-03-23/meta-data/public-keys/","0=alice\n1=bob"),
            ("/latest/meta-data/public-keys/1",   "openssh-key"),
            ("/latest/meta-data/public-keys/1/openssh-key", "ssh-ed25519 BBBB bob"),
            ("/latest/meta-data/security-groups", "default\nweb"),
            ("/latest/meta-data/placement/region","weft-1"),
            ("/latest/meta-data/network/interfaces/macs/", "02:00:00:00:00:01/"),
            (&format!("{mac}/subnet-ipv4-cidr-block"), "172.31.0.0/18"),
            (&format!("{mac}/vpc-ipv4-cidr-block"), "172.31.0.0/16"),
            (&format!("{mac}/local-ipv4s"),       "172.31.0.5"),
            (&format!("{mac}/device-number"),     "0"),
            ("/latest/meta-data/ipv6",            "fd00:1:2:3::5"),
            (&format!("{mac}/ipv6s"),             "fd00:1:2:3::5"),
            (&format!("{mac}/subnet-ipv6-cidr-blocks"), "fd00:1:2:3::/64"),
            (&format!("{mac}/vpc-ipv6-cidr-blocks"), "fd00:1:2::/56"),
            ("/latest/",                          "dynamic\nmeta-data\nuser-data"),
            ("//latest//meta-data//ami-launch-index", "0"),
        ];
        for (path, want) in cases {
            let want = want.replace("dynamic\nmeta-data\n", "dynamic/\nmeta-data/\n");
            assert_eq!(read(&guest, path).as_deref(), Some(want.as_str()), "{path}");
        }
        for path in ["/", ""] {
            assert!(read(&guest, path).unwrap().ends_with("2021-03-23\nlatest"), "{path}");
        }
        let top = read(&guest, "/latest/meta-data").unwrap();
        assert!(top.starts_with("ami-id\nami-launch-index\n"), "{top}");
        assert!(top.contains("profile\npublic-keys/\nreservation-id"), "{top}");
    }

    #[test]
    fn each_interface_has_a_folder_of_its_own() {
        let mut guest = guest();
        let first = guest.interfaces().next().unwrap();
        guest.others.push(GuestInterface {
            device_index: 3,
            mac: "02:00:00:00:00:09".parse().unwrap(),
            address: "172.31.64.9".parse().unwrap(),
            subnet_cidr: "172.31.64.0/18".parse().unwrap(),
            ..first
        });
        let macs = "/latest/meta-data/network/interfaces/macs/";
        assert_eq!(read(&guest, macs).unwrap(), "02:00:00:00:00:01/\n02:00:00:00:00:09/");
        for (name, want) in [
            ("device-number", "3"),
            ("local-ipv4s", "172.31.64.9"),
            ("subnet-ipv4-cidr-block", "172.31.64.0/18"),
            ("vpc-ipv4-cidr-block", "172.31.0.0/16"),
        ] {
            let path = format!("{macs}02:00:00:00:00:09/{name}");
            assert_eq!(read(&guest, &path).as_deref(), Some(want), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let mut guest = guest();
        guest.user_data = None;
        guest.keys.clear();
        for path in [
            "/latest/user-data",
            "/latest/meta-data/public-keys/",
            "/latest/meta-data/instance-id/",
            "/latest/meta-data/instance-id/x",
            "/latest/meta-data/../meta-data",
            "/1999-01-01/meta-data/",
            "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:02/mac",
        ] {
            assert_eq!(read(&guest, path), None, "{path}");
        }
        assert!(!read(&guest, "/latest/meta-data/").unwrap().contains("public-keys"));
    }

    #[test]
    fn user_data_is_verbatim() {
        let mut guest = guest();
        let bytes = b"#!/bin/sh\n\xff\0\r\n".to_vec();
        guest.user_data = Some(UserData(bytes.clone()));
        assert_eq!(find(&guest, "/latest/user-data").unwrap(), bytes);
    }

    #[test]
    fn the_identity_document_says_who_it_is() {
        let guest = guest();
        let document = read(&guest, "/latest/dynamic/instance-identity/document").unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["instanceId"], guest.instance_id.as_str());
        assert_eq!(document["privateIp"], "172.31.0.5");
        assert_eq!(document["region"], "weft-1");
    }
}
