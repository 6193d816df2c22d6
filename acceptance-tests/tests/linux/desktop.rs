//! Debian by UEFI, and Debian with a small desktop that is looked at.

use anyhow::{Result, ensure};
use weft_acceptance::{KeyFile, Lab, UefiImage, debian_desktop, debian_uefi, eventually, within};

use crate::module::access;
use crate::picture::Picture;
use crate::viewer::Viewer;

/// The frame buffer that the firmware sets up for the display.
const SCREEN: (u32, u32) = (1280, 800);
/// The picture behind the windows alone has a hundred times as many; text has two.
const COLOURS_OF_A_DESKTOP: usize = 1000;
const BLACK: [u8; 3] = [0; 3];
const WHITE: [u8; 3] = [255; 3];

/// One instance, `weft_instance.it`, started by UEFI.
fn module(image: &UefiImage, key: &KeyFile, more: &str) -> String {
    let own = format!(
        r#"
resource "weft_image" "it" {{
  name         = "it"
  source_path  = "{}"
  boot_mode    = "uefi"
  default_user = "{}"
}}

resource "weft_instance" "it" {{
  name               = "it"
  image_id           = weft_image.it.id
  instance_type      = "w1.medium"
  key_names          = [weft_key_pair.me.key_name]
  security_group_ids = [weft_security_group.ssh.id]
  timeouts           = {{ create = "9m", update = "9m" }}
  {more}
}}
"#,
        image.disk.display(),
        image.user
    );
    access(key) + &own
}

#[test]
fn a_stock_debian_is_started_by_uefi() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&module(&debian_uefi()?, &key, "wait_for = \"cloud_init\""))?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let guest = lab.guest(&key, &terraform.state()?, "weft_instance.it")?;
    guest.ssh("test -d /sys/firmware/efi")?;
    ensure!(guest.ssh("hostname")?.trim() == "it");
    // The disk is Debian's: a table of partitions, and a root that came from behind the boot loader.
    let root = guest.ssh("findmnt -n -o SOURCE /")?;
    ensure!(root.trim() == "/dev/vda2", "the root is {root}");
    // Its own EFI variables outlive a restart.
    let variable = "/sys/firmware/efi/efivars/Weft-12345678-1234-1234-1234-123456789abc";
    guest.ssh(&format!("printf '\\7\\0\\0\\0hello' | sudo tee {variable} >/dev/null"))?;
    lab.weft(&["reboot", "it"])?.success()?;
    let kept = eventually("the guest is back", within() * 5, || {
        let said = guest.try_ssh(&format!("tail -c 5 {variable}"))?;
        Ok((said.code() == Some(0)).then_some(said.stdout))
    })?;
    ensure!(kept == "hello", "the variable is {kept:?}");
    terraform.destroy()?;
    lab.close()
}

#[test]
fn a_debian_with_a_small_desktop_is_looked_at_and_used() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&module(&debian_desktop()?, &key, "display = true"))?;
    terraform.apply()?;
    let guest = lab.guest(&key, &terraform.state()?, "weft_instance.it")?;
    // The window manager says which windows it manages: the terminal's is one.
    let look = "sudo -u desktop env DISPLAY=:0 sh -c \
                'xprop -root _NET_CLIENT_LIST; xwininfo -root -tree'";
    eventually("the desktop is up", within() * 5, || {
        let said = guest.try_ssh(look)?.stdout;
        Ok((said.contains("window id # 0x") && said.contains("\"XTerm\"")).then_some(()))
    })?;
    // Drawing takes longer: a terminal's 80 columns and 24 lines of white.
    let desktop = eventually("a desktop is seen", within(), || {
        let picture = Picture::take(&lab, "it", "desktop.png")?;
        let drawn = picture.percent_of(WHITE) > 10 && picture.colours() > COLOURS_OF_A_DESKTOP;
        Ok(drawn.then_some(picture))
    })?;
    ensure!(desktop.size == SCREEN, "{:?}", desktop.size);
    let black = desktop.percent_of(BLACK);
    ensure!(black < 50, "{black} % of it are black");

    // The second workspace's button in the bar, then the first one's; then the terminal and its shell.
    let mut viewer = Viewer::connect(&lab, "it")?;
    for (x, workspace) in [(192, "= 1"), (150, "= 0")] {
        let ask = "sudo -u desktop env DISPLAY=:0 xprop -root _NET_CURRENT_DESKTOP";
        eventually("a click is heard", within(), || {
            viewer.click(x, 787)?;
            Ok(guest.ssh(ask)?.contains(workspace).then_some(()))
        })?;
    }
    eventually("what was typed is done", within(), || {
        viewer.click(300, 300)?;
        viewer.type_line("touch /tmp/typed")?;
        Ok((guest.try_ssh("test -e /tmp/typed")?.code() == Some(0)).then_some(()))
    })?;
    viewer.close()?;

    // VT_ACTIVATE of Linux's include/uapi/linux/vt.h, for the first console; the image has no chvt.
    guest.ssh("sudo python3 -c \"import fcntl; fcntl.ioctl(open('/dev/tty0'), 0x5606, 1)\"")?;
    let text = eventually("the text console is seen", within(), || {
        let picture = Picture::take(&lab, "it", "text.png")?;
        Ok((picture.percent_of(BLACK) > 50).then_some(picture))
    })?;
    ensure!(text.size == SCREEN, "{:?}", text.size);
    ensure!(text.colours() <= COLOURS_OF_A_DESKTOP, "{} colours of text", text.colours());
    let changed = desktop.percent_changed(&text)?;
    ensure!(changed > 50, "{changed} % differ between desktop and text");
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}
