//! What an example names and does not declare.

use std::collections::BTreeSet;

/// Declarations of everything that `hcl` refers to and that it does not declare itself, and of all that
/// these refer to.
pub(super) fn declarations(hcl: &str) -> String {
    let mut declared = String::new();
    loop {
        let all = format!("{hcl}{declared}");
        let missing = references(&all)
            .into_iter()
            .find(|(kind, name)| !all.contains(&format!("resource \"{kind}\" \"{name}\"")));
        let Some((kind, name)) = missing else { return declared };
        declared.push_str(&declaration(&kind, &name));
    }
}

/// The resources of ours that are referred to: `weft_vpc.lab.id` is `("weft_vpc", "lab")`.
fn references(hcl: &str) -> BTreeSet<(String, String)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    for (at, _) in hcl.match_indices("weft_") {
        let (before, rest) = hcl.split_at(at);
        // A data source, an action, a part of another word.
        if before.ends_with(|c: char| is_word(c) || c == '.' || c == '"') {
            continue;
        }
        let kind: String = rest.chars().take_while(|c| is_word(*c)).collect();
        let Some(rest) = rest[kind.len()..].strip_prefix('.') else { continue };
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        // An address such as weft_vpc.NAME in a comment is none.
        if rest[name.len()..].starts_with(['.', '[']) {
            found.insert((kind, name));
        }
    }
    found
}

/// Something of that kind that fits every example.
fn declaration(kind: &str, name: &str) -> String {
    let attributes = match (kind, name) {
        ("weft_image", _) => {
            "source_path = \"images/debian-13.qcow2\"\n  name = \"missing\"\n  default_user = \"debian\""
        }
        ("weft_key_pair", _) => "key_name = \"missing\"\n  public_key = file(\"id_ed25519.pub\")",
        ("weft_vpc", "office") => {
            "name = \"missing-office\"\n  cidr_block = \"192.168.1.0/24\"\n  mode = \"bridge\""
        }
        ("weft_vpc", _) => "name = \"missing\"\n  cidr_block = \"10.0.0.0/16\"",
        ("weft_subnet", "database") => {
            "name = \"missing\"\n  vpc_id = data.weft_vpc.app.id\n  cidr_block = \"10.200.9.0/24\""
        }
        ("weft_subnet", _) => {
            "name = \"missing\"\n  vpc_id = weft_vpc.lab.id\n  cidr_block = \"10.0.1.0/24\""
        }
        ("weft_security_group", _) => "name = \"missing\"",
        ("weft_instance", "nat") => {
            "image_id = weft_image.missing.id\n  instance_type = \"w1.nano\"\n  wait_for = \"running\"\n  \
             subnet_id = weft_subnet.missing.id\n  source_dest_check = false"
        }
        ("weft_instance", _) => {
            "image_id = weft_image.missing.id\n  instance_type = \"w1.nano\"\n  wait_for = \"running\""
        }
        ("weft_network_interface", _) => {
            "name = \"missing\"\n  subnet_id = data.weft_subnet.missing.id"
        }
        ("weft_volume", _) => "name = \"missing\"\n  size_gib = 1",
        ("weft_snapshot", _) => "volume_id = weft_volume.missing.id",
        ("weft_elastic_ip", _) => "name = \"missing\"",
        ("weft_route_table", _) => "name = \"missing\"\n  vpc_id = weft_vpc.lab.id\n  routes = []",
        _ => panic!("teach missing.rs what a {kind} is"),
    };
    let default = match kind {
        "weft_network_interface" => "\ndata \"weft_subnet\" \"missing\" {\n  default = true\n}\n",
        _ => "",
    };
    format!("{default}\nresource \"{kind}\" \"{name}\" {{\n  {attributes}\n}}\n")
}

#[test]
fn references_are_found_where_they_are_values() {
    let hcl = "a = weft_vpc.lab.id # weft_vpc.NAME\nb = data.weft_vpc.x.id\nc = [weft_key_pair.me[0]]\n\
               to = weft_subnet.web\nd = \"${weft_volume.v.id}\"";
    let found: Vec<String> =
        references(hcl).into_iter().map(|(kind, name)| format!("{kind}.{name}")).collect();
    assert_eq!(found, ["weft_key_pair.me", "weft_volume.v", "weft_vpc.lab"]);
}
