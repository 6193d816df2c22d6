//! A lab with real guests, and in it an image and a group that lets SSH in, made by Terraform.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use weft_acceptance::{Lab, weft_tiny};

use crate::api::{Api, Wish};

#[derive(Debug)]
pub(crate) struct Fabric {
    pub(crate) lab: Lab,
    pub(crate) api: Api,
    /// Of the first image.
    pub(crate) wish: Wish,
    /// One for each disk, in their order.
    pub(crate) image_ids: Vec<String>,
}

impl Fabric {
    /// `None`, said, where this machine cannot have guests.
    pub(crate) fn new(power_state: &'static str) -> Result<Option<Self>> {
        Self::with_disks(power_state, |disk, _| Ok(vec![disk.to_owned()]))
    }

    /// The same with an image of each disk that `make` makes in the lab's directory, of weft-tiny's.
    pub(crate) fn with_disks(
        power_state: &'static str,
        make: impl FnOnce(&Path, &Path) -> Result<Vec<PathBuf>>,
    ) -> Result<Option<Self>> {
        let Some(mut lab) = Lab::linux()? else { return Ok(None) };
        let terraform = lab.terraform()?;
        let image = weft_tiny()?;
        let disks = make(&image.disk, lab.directory())?;
        let of_disk = |(index, disk): (usize, &PathBuf)| {
            format!(
                r#"
resource "weft_image" "disk_{index}" {{
  name           = "weft-tiny-{index}"
  source_path    = "{}"
  kernel         = "{}"
  initrd         = "{}"
  kernel_cmdline = "{}"
  default_user   = "{}"
}}
"#,
                disk.display(),
                image.kernel.display(),
                image.initrd.display(),
                image.cmdline,
                image.user
            )
        };
        let images: String = disks.iter().enumerate().map(of_disk).collect();
        terraform.main(&format!(
            r#"{images}
resource "weft_security_group" "ssh" {{
  name = "ssh"
}}

resource "weft_security_group_ingress_rule" "ssh" {{
  security_group_id = weft_security_group.ssh.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = "0.0.0.0/0"
}}
"#
        ))?;
        terraform.apply()?;
        let state = terraform.state()?;
        let image_id = |index| state.text(&format!("weft_image.disk_{index}"), "id");
        let image_ids = (0..disks.len()).map(image_id).collect::<Result<Vec<_>>>()?;
        let wish = Wish {
            image_id: image_ids.first().context("no disk was made")?.clone(),
            group_id: state.text("weft_security_group.ssh", "id")?,
            power_state,
        };
        let api = Api::connect(&lab.agent().endpoint())?;
        Ok(Some(Self { lab, api, wish, image_ids }))
    }
}
