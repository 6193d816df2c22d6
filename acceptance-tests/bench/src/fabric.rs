//! A lab with real guests, and in it an image and a group that lets SSH in, made by Terraform.

use anyhow::Result;
use weft_acceptance::{Lab, weft_tiny};

use crate::api::{Api, Wish};

#[derive(Debug)]
pub(crate) struct Fabric {
    pub(crate) lab: Lab,
    pub(crate) api: Api,
    pub(crate) wish: Wish,
}

impl Fabric {
    /// `None`, said, where this machine cannot have guests.
    pub(crate) fn new(power_state: &'static str) -> Result<Option<Self>> {
        let Some(mut lab) = Lab::linux()? else { return Ok(None) };
        let terraform = lab.terraform()?;
        let image = weft_tiny()?;
        terraform.main(&format!(
            r#"
resource "weft_image" "tiny" {{
  name           = "weft-tiny"
  source_path    = "{}"
  kernel         = "{}"
  initrd         = "{}"
  kernel_cmdline = "{}"
  default_user   = "{}"
}}

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
"#,
            image.disk.display(),
            image.kernel.display(),
            image.initrd.display(),
            image.cmdline,
            image.user
        ))?;
        terraform.apply()?;
        let state = terraform.state()?;
        let wish = Wish {
            image_id: state.text("weft_image.tiny", "id")?,
            group_id: state.text("weft_security_group.ssh", "id")?,
            power_state,
        };
        let api = Api::connect(&lab.agent().endpoint())?;
        Ok(Some(Self { lab, api, wish }))
    }
}
