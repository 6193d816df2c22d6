//! What the root modules of the stories with real guests share.

use anyhow::{Context as _, Result};
use weft_acceptance::{
    Guest, Image, KeyFile, Terraform, eventually, repository, weft_tiny, within,
};

/// Has a guest say another one at each boot of its kernel.
pub(crate) const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// An example as it is in the repository, with weft-tiny, the smallest machines and this key.
pub(crate) fn example(terraform: &Terraform, name: &str, key: &KeyFile) -> Result<()> {
    // It has its own block of required providers.
    terraform.write("versions.tf", "")?;
    let path = repository().join("examples").join(name).join("main.tf");
    let text = std::fs::read_to_string(&path);
    terraform.main(&text.with_context(|| format!("read {}", path.display()))?)?;
    let image = weft_tiny()?;
    let directory = image.disk.parent().context("the image lies nowhere")?;
    let variables = format!(
        "image_dir = \"{}\"\npublic_key = \"{}\"\ninstance_type = \"w1.nano\"\n",
        directory.display(),
        key.private.with_extension("pub").display(),
    );
    terraform.write("terraform.tfvars", &variables)
}

/// weft-tiny as `weft_image.tiny`, with more of the kernel's command line.
pub(crate) fn image(more_cmdline: &str) -> Result<String> {
    Ok(image_of("tiny", &weft_tiny()?, more_cmdline))
}

/// A guest image as `weft_image.NAME`, with more of the kernel's command line.
pub(crate) fn image_of(name: &str, image: &Image, more_cmdline: &str) -> String {
    format!(
        r#"
resource "weft_image" "{name}" {{
  name           = "{name}"
  source_path    = "{}"
  kernel         = "{}"
  initrd         = "{}"
  kernel_cmdline = "{}{more_cmdline}"
  default_user   = "{}"
}}
"#,
        image.disk.display(),
        image.kernel.display(),
        image.initrd.display(),
        image.cmdline,
        image.user
    )
}

/// A key pair, and a group that lets ssh in: `weft_key_pair.me`, `weft_security_group.ssh`.
pub(crate) fn access(key: &KeyFile) -> String {
    format!(
        r#"
resource "weft_key_pair" "me" {{
  key_name   = "me"
  public_key = "{}"
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
        key.public
    )
}

/// `weft_instance.NAME` with key and group, and more attributes.
pub(crate) fn instance(name: &str, more: &str) -> String {
    format!(
        r#"
resource "weft_instance" "{name}" {{
  name               = "{name}"
  image_id           = weft_image.tiny.id
  instance_type      = "w1.nano"
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
  {more}
}}
"#
    )
}

/// Which boot of the guest's kernel this is.
pub(crate) fn boot_id(guest: &Guest<'_>) -> Result<String> {
    Ok(guest.ssh(BOOT_ID)?.trim().to_owned())
}

/// When the guest answers again, having booted since.
pub(crate) fn another_boot(guest: &Guest<'_>, before: &str) -> Result<String> {
    eventually("another boot of the guest", within(), || {
        let answer = guest.try_ssh(BOOT_ID)?;
        let now = answer.stdout.trim().to_owned();
        Ok((answer.code() == Some(0) && now != before).then_some(now))
    })
}
