//! A guest is frozen by its own agent for a snapshot and for an image: what its programs had written is
//! in them, flushed or not, and it writes on. A guest without an agent is told so.

use std::time::Duration;

use anyhow::{Result, ensure};
use weft_acceptance::{Guest, Lab, Terraform, eventually, within};

use crate::module::{access, image, instance};
use crate::volumes::{device_of, serial_of};

const VOLUME: &str = r#"
resource "weft_volume" "data" {
  name     = "data"
  size_gib = 1
}

resource "weft_volume_attachment" "data" {
  instance_id = weft_instance.it.id
  volume_id   = weft_volume.data.id
}
"#;
const SNAPSHOT: &str = r#"
resource "weft_snapshot" "now" {
  volume_id   = weft_volume.data.id
  consistency = "frozen"
}
"#;
const OWN: &str = r#"
resource "weft_image" "own" {
  name               = "own"
  source_instance_id = weft_instance.it.id
  consistency        = "frozen"
}
"#;
const RESTORED: &str = r#"
resource "weft_volume" "restored" {
  name        = "restored"
  size_gib    = 1
  snapshot_id = weft_snapshot.now.id
}

resource "weft_volume_attachment" "restored" {
  instance_id = weft_instance.copy.id
  volume_id   = weft_volume.restored.id
}
"#;
/// Lines that a program of the guest writes without end, and flushes none.
const TICKS: &str = "sudo sh -c 'while echo tick >>/mnt/ticks; do usleep 50000; done' \
                     </dev/null >/dev/null 2>&1 &";

/// What the guest calls the volume of this attachment.
fn device(guest: &Guest<'_>, terraform: &Terraform, attachment: &str) -> Result<String> {
    let path = terraform.state()?.text(attachment, "device_path")?;
    let serial = serial_of(&path)?;
    eventually("the guest sees the volume", within(), || device_of(guest, serial))
}

#[test]
fn what_a_guest_has_not_flushed_is_in_what_it_was_frozen_for_and_it_writes_on() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let base = image("")? + &access(&key) + &instance("it", "wait_for = \"ssh\"") + VOLUME;
    terraform.main(&base)?;
    terraform.apply()?;
    let guest = lab.guest(&key, &terraform.state()?, "weft_instance.it")?;
    let disk = device(&guest, &terraform, "weft_volume_attachment.data")?;
    // From here on the kernel writes nothing out by itself.
    guest.ssh(&format!(
        "sudo mke2fs -F /dev/{disk} 65536 && sudo mount -t ext4 /dev/{disk} /mnt && sync && \
         echo 0 | sudo tee /proc/sys/vm/dirty_writeback_centisecs"
    ))?;
    let sum = guest.ssh(
        "sudo sh -c 'dd if=/dev/urandom of=/mnt/data bs=64k count=32 2>/dev/null; \
         echo unflushed >/srv-marker; echo unflushed >/mnt/marker' && md5sum </mnt/data",
    )?;
    let dirty = guest.ssh("sed -n 's/^Dirty: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")?;
    ensure!(dirty.trim().parse::<u32>()? > 1000, "it has written it out already: {dirty}");
    guest.ssh(TICKS)?;

    terraform.main(&(base.clone() + SNAPSHOT + OWN))?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    ensure!(terraform.state()?.text("weft_snapshot.now", "consistency")? == "frozen");
    // It was thawed: what goes on writing goes on, and reaches its disk.
    let ticks = || -> Result<u32> { Ok(guest.ssh("wc -l </mnt/ticks")?.trim().parse()?) };
    let then = ticks()?;
    eventually("the guest writes on", Duration::from_secs(60), || {
        Ok((ticks()? > then + 10).then_some(()))
    })?;
    guest.ssh("sudo sh -c 'echo later >/mnt/marker; echo later >/srv-marker; sync'")?;
    ensure!(lab.hypervisors().len() == 1);

    // Another guest of that image, with a volume of that snapshot.
    let copy =
        instance("copy", "wait_for = \"ssh\"").replace("weft_image.tiny.id", "weft_image.own.id");
    terraform.main(&(base.clone() + SNAPSHOT + OWN + &copy + RESTORED))?;
    terraform.apply()?;
    let other = lab.guest(&key, &terraform.state()?, "weft_instance.copy")?;
    ensure!(other.ssh("cat /srv-marker")?.trim() == "unflushed");
    let restored = device(&other, &terraform, "weft_volume_attachment.restored")?;
    other.ssh(&format!("sudo mount -t ext4 -o ro /dev/{restored} /mnt"))?;
    ensure!(other.ssh("cat /mnt/marker")?.trim() == "unflushed");
    ensure!(other.ssh("md5sum </mnt/data")? == sum, "what was written before is not what was kept");
    ensure!(other.ssh("wc -l </mnt/ticks")?.trim().parse::<u32>()? > 0);

    // Without its agent the guest cannot be frozen; it is not taken as it is instead.
    guest.ssh("sudo killall qemu-ga")?;
    let more = "resource \"weft_snapshot\" \"more\" {\n  instance_id = weft_instance.it.id\n  \
                consistency = \"frozen\"\n}\n";
    terraform.main(&(base.clone() + SNAPSHOT + OWN + &copy + RESTORED + more))?;
    let refused = terraform.try_apply()?;
    ensure!(!refused.status.success(), "{}", refused.text());
    for word in ["qemu-guest-agent", "consistency"] {
        ensure!(refused.text().contains(word), "{}", refused.text());
    }
    ensure!(lab.count("snapshots")? == 1);
    let as_it_is = more.replace("\"frozen\"", "\"crash\"");
    terraform.main(&(base + SNAPSHOT + OWN + &copy + RESTORED + &as_it_is))?;
    terraform.apply()?;
    guest.ssh("sudo sh -c 'echo last >/mnt/marker; sync'")?;
    terraform.destroy()?;
    lab.close()
}
