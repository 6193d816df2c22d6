//! The fabric that the documentation's examples are applied to: what they look up is there.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use weft_acceptance::{Lab, Terraform, on_path, run, skipped, weft_tiny, within};

use super::missing;
use crate::module::PUBLIC_KEY;

/// Has the addresses that the examples name.
const PUBLIC_POOL: &str = "198.18.0.0/24,192.168.1.192/26";

/// The ids that the examples make up, and what they are to be.
const MADE_UP: [(&str, &str); 8] = [
    ("i-0123456789abcdef0", "weft_instance.web"),
    ("i-0123456789abcdef1", "weft_instance.database"),
    ("sg-0123456789abcdef0", "weft_security_group.web"),
    ("vol-0123456789abcdef0", "weft_volume.data"),
    ("vpc-0123456789abcdef0", "weft_vpc.app"),
    ("subnet-0123456789abcdef0", "weft_subnet.web"),
    ("eni-0123456789abcdef0", "weft_network_interface.back"),
    ("eip-0123456789abcdef0", "weft_elastic_ip.front"),
];

/// What the examples look up.
const LOOKED_UP: &str = r#"
resource "weft_image" "debian" {
  name         = "debian-13-looked-up"
  source_path  = "images/debian-13.qcow2"
  default_user = "debian"
  tags         = { channel = "stable" }
}
resource "weft_key_pair" "team" {
  key_name   = "team"
  public_key = "PUBLIC_KEY"
  tags       = { role = "admin" }
}
resource "weft_vpc" "app" {
  name       = "app"
  cidr_block = "10.200.0.0/16"
  tags       = { project = "shop" }
}
resource "weft_vpc" "office" {
  name       = "office"
  cidr_block = "10.201.0.0/16"
}
resource "weft_subnet" "web" {
  name       = "web"
  vpc_id     = weft_vpc.app.id
  cidr_block = "10.200.1.0/24"
}
resource "weft_route_table" "private" {
  name   = "private"
  vpc_id = weft_vpc.app.id
  routes = [{ cidr_block = "198.51.100.0/24", blackhole = true }]
}
resource "weft_security_group" "web" {
  name = "looked-up"
  tags = { shared = "yes" }
}
resource "weft_security_group_ingress_rule" "database" {
  security_group_id = weft_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 5432
  to_port           = 5432
  cidr_ipv4         = "0.0.0.0/0"
}
resource "weft_prefix_list" "offices" {
  name           = "offices"
  address_family = "IPv4"
  entries        = [{ cidr = "192.0.2.0/24" }]
}
resource "weft_instance" "web" {
  name               = "web-1"
  image_id           = weft_image.debian.id
  instance_type      = "w1.small"
  security_group_ids = [weft_security_group.web.id]
  tags               = { role = "web" }
}
resource "weft_instance" "database" {
  name               = "database"
  image_id           = weft_image.debian.id
  instance_type      = "w1.small"
  security_group_ids = [weft_security_group.web.id]
}
resource "weft_volume" "data" {
  name     = "data"
  size_gib = 1
}
resource "weft_snapshot" "backup" {
  volume_id = weft_volume.data.id
  tags      = { Purpose = "backup" }
}
resource "weft_network_interface" "back" {
  name      = "back"
  subnet_id = weft_subnet.web.id
}
resource "weft_elastic_ip" "front" {
  name = "front"
  tags = { role = "edge" }
}
resource "weft_port_forward" "web" {
  name        = "web"
  protocol    = "tcp"
  host_port   = 8088
  target_port = 80
  instance_id = weft_instance.web.id
}
"#;

/// A simulated host with all of that.
pub(super) struct Fabric {
    lab: Lab,
    program: PathBuf,
    looked_up: Terraform,
    ids: Vec<(&'static str, String)>,
}

impl Fabric {
    /// `None`, said on standard output, where this machine cannot make the images.
    pub(super) fn new(program: PathBuf) -> Result<Option<Self>> {
        if on_path("qemu-img").is_none() {
            skipped("there is no qemu-img, which makes the examples' images");
            return Ok(None);
        }
        let lab = Lab::simulated_with(&["--public-pool", PUBLIC_POOL])?;
        let looked_up = lab.terraform()?.with_program(program.clone());
        put_files(&looked_up)?;
        looked_up.main(&LOOKED_UP.replace("PUBLIC_KEY", PUBLIC_KEY))?;
        looked_up.apply()?;
        let state = looked_up.state()?;
        let id = |(made_up, address)| anyhow::Ok((made_up, state.text(address, "id")?));
        let ids = MADE_UP.into_iter().map(id).collect::<Result<Vec<_>>>()?;
        Ok(Some(Self { lab, program, looked_up, ids }))
    }

    /// An example as a module of its own, with what it does not declare.
    pub(super) fn module(&self, example: &str) -> Result<Terraform> {
        let terraform = self.lab.terraform()?.with_program(self.program.clone());
        put_files(&terraform)?;
        let key = terraform.directory().join("id_ed25519.pub");
        let mut hcl = example.replace("~/.ssh/id_ed25519.pub", &key.to_string_lossy());
        for (made_up, id) in &self.ids {
            hcl = hcl.replace(made_up, id);
        }
        // The lab's own file says which provider there is.
        if hcl.contains("required_providers") {
            terraform.write("versions.tf", "")?;
        }
        terraform.main(&hcl)?;
        terraform.write("missing.tf", &missing::declarations(&hcl))?;
        Ok(terraform)
    }

    pub(super) fn close(self) -> Result<()> {
        self.looked_up.destroy()?;
        self.lab.close()
    }
}

/// The files that examples read, at the places where they look for them.
fn put_files(terraform: &Terraform) -> Result<()> {
    let directory = terraform.directory();
    std::fs::create_dir_all(directory.join("images/weft-tiny"))?;
    let disk = directory.join("images/debian-13.qcow2");
    let mut command = Command::new(on_path("qemu-img").context("qemu-img")?);
    command.args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("2G");
    run(command, within())?.success()?;
    let tiny = weft_tiny()?;
    let files = [("disk.raw", tiny.disk), ("vmlinuz", tiny.kernel), ("initrd.img", tiny.initrd)];
    for (name, file) in files {
        std::os::unix::fs::symlink(file, directory.join("images/weft-tiny").join(name))?;
    }
    terraform.write("id_ed25519.pub", PUBLIC_KEY)?;
    terraform.write("web.yaml", "#cloud-config\n")
}
