//! Root modules that the stories share.

use std::path::PathBuf;

use anyhow::Result;
use weft_acceptance::Lab;

/// Any bytes are a raw disk.
pub(crate) fn disk(lab: &Lab, name: &str, fill: u8) -> Result<PathBuf> {
    let path = lab.directory().join(name);
    std::fs::write(&path, vec![fill; 64 * 1024])?;
    Ok(path)
}

pub(crate) const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl one";
pub(crate) const OTHER_PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEChAtVIqoUFvd4lVnLqCsvg5R5tK+0AH2xXwXQ4Mt two";

/// An image called `weft_image.it`.
pub(crate) fn image(lab: &Lab) -> Result<String> {
    let disk = disk(lab, "disk.raw", 7)?;
    Ok(format!(
        r#"
resource "weft_image" "it" {{
  name         = "it"
  source_path  = "{}"
  default_user = "weft"
}}
"#,
        disk.display()
    ))
}

/// One of each resource, all called `it`.
pub(crate) fn one_of_each(lab: &Lab) -> Result<String> {
    Ok(image(lab)?
        + &format!(
            r##"
resource "weft_key_pair" "it" {{
  key_name   = "it"
  public_key = "{PUBLIC_KEY}"
}}

resource "weft_instance_type" "it" {{
  name       = "story.odd"
  vcpus      = 3
  memory_mib = 200
}}

resource "weft_vpc" "it" {{
  name       = "it"
  cidr_block = "10.77.0.0/16"
  tags       = {{ layer = "network" }}
}}

resource "weft_subnet" "it" {{
  name        = "it"
  vpc_id      = weft_vpc.it.id
  cidr_block  = cidrsubnet(weft_vpc.it.cidr_block, 8, 1)
  dns_servers = ["10.77.1.53"]
}}

resource "weft_security_group" "it" {{
  name             = "it"
  vpc_id           = weft_vpc.it.id
  description      = "of the story"
  allow_all_egress = false
  tags             = {{ layer = "front" }}
}}

resource "weft_security_group_ingress_rule" "it" {{
  security_group_id = weft_security_group.it.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = "0.0.0.0/0"
}}

resource "weft_prefix_list" "it" {{
  name           = "it"
  address_family = "IPv6"
  entries = [
    {{ cidr = "2001:db8::/32", description = "offices" }},
    {{ cidr = "2001:db8:7::/48" }},
  ]
}}

resource "weft_security_group_ingress_rule" "of_list" {{
  security_group_id = weft_security_group.it.id
  ip_protocol       = "icmpv6"
  prefix_list_id    = weft_prefix_list.it.id
}}

resource "weft_security_group_egress_rule" "it" {{
  security_group_id            = weft_security_group.it.id
  ip_protocol                  = "-1"
  referenced_security_group_id = weft_security_group.it.id
}}

resource "weft_instance" "it" {{
  name               = "it"
  image_id           = weft_image.it.id
  instance_type      = weft_instance_type.it.name
  subnet_id          = weft_subnet.it.id
  key_names          = [weft_key_pair.it.key_name]
  security_group_ids = [weft_security_group.it.id]
  source_dest_check  = false
  user_data          = "#!/bin/sh\necho hello\n"
  tags               = {{ role = "story" }}
  timeouts           = {{ create = "2m" }}
}}

resource "weft_network_interface" "it" {{
  name               = "it"
  subnet_id          = weft_subnet.it.id
  private_ip         = cidrhost(weft_subnet.it.cidr_block, 20)
  security_group_ids = [weft_security_group.it.id]
  source_dest_check  = false
  tags               = {{ layer = "back" }}
}}

resource "weft_network_interface_attachment" "it" {{
  instance_id          = weft_instance.it.id
  network_interface_id = weft_network_interface.it.id
}}

resource "weft_volume" "it" {{
  name     = "it"
  size_gib = 3
  tags     = {{ layer = "data" }}
}}

resource "weft_volume_attachment" "it" {{
  instance_id = weft_instance.it.id
  volume_id   = weft_volume.it.id
}}

resource "weft_elastic_ip" "it" {{
  name = "it"
}}

resource "weft_elastic_ip_association" "it" {{
  elastic_ip_id = weft_elastic_ip.it.id
  instance_id   = weft_instance.it.id
}}

resource "weft_port_forward" "it" {{
  name        = "it"
  protocol    = "tcp"
  host_port   = 8080
  target_port = 80
  instance_id = weft_instance.it.id
}}

resource "weft_route_table" "it" {{
  name   = "it"
  vpc_id = weft_vpc.it.id
  routes = [
    {{ cidr_block = "198.51.100.0/24", blackhole = true }},
    {{ cidr_block = "0.0.0.0/0", instance_id = weft_instance.it.id }},
  ]
  tags = {{ layer = "network" }}
}}

resource "weft_route_table_association" "it" {{
  route_table_id = weft_route_table.it.id
  subnet_id      = weft_subnet.it.id
}}
"##
        ))
}

pub(crate) const ONE_OF_EACH: [&str; 20] = [
    "weft_image.it",
    "weft_key_pair.it",
    "weft_instance_type.it",
    "weft_vpc.it",
    "weft_subnet.it",
    "weft_security_group.it",
    "weft_prefix_list.it",
    "weft_security_group_ingress_rule.it",
    "weft_security_group_ingress_rule.of_list",
    "weft_security_group_egress_rule.it",
    "weft_instance.it",
    "weft_network_interface.it",
    "weft_network_interface_attachment.it",
    "weft_volume.it",
    "weft_volume_attachment.it",
    "weft_elastic_ip.it",
    "weft_elastic_ip_association.it",
    "weft_port_forward.it",
    "weft_route_table.it",
    "weft_route_table_association.it",
];

/// A snapshot of the instance of [`one_of_each`], called `weft_snapshot.it`.
pub(crate) fn snapshot() -> &'static str {
    r#"
resource "weft_snapshot" "it" {
  instance_id = weft_instance.it.id
}
"#
}

/// An image and `count` instances, `weft_instance.it[0]` and so on.
pub(crate) fn many(lab: &Lab, count: usize) -> Result<String> {
    Ok(image(lab)?
        + &format!(
            r#"
resource "weft_instance" "it" {{
  count         = {count}
  name          = "it-${{count.index}}"
  image_id      = weft_image.it.id
  instance_type = "w1.nano"
}}
"#
        ))
}
