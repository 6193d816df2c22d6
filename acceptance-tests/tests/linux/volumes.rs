//! The example 05-volumes: a disk is written on one machine, read on another, grows there, and is
//! restored from a snapshot into a second volume.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_acceptance::{Change, Guest, Lab, Terraform, eventually, within};

use crate::module::{boot_id, example};

/// The serial number of a disk, of the path that an attachment tells.
pub(crate) fn serial_of(device_path: &str) -> Result<&str> {
    device_path.strip_prefix("/dev/disk/by-id/virtio-").context("another path")
}

/// What the guest calls the disk with this serial number, once it has it.
pub(crate) fn device_of(guest: &Guest<'_>, serial: &str) -> Result<Option<String>> {
    let found = guest.ssh(&format!("grep -lx {serial} /sys/block/*/serial || true"))?;
    Ok(found.trim().split('/').nth(3).map(str::to_owned))
}

pub(crate) fn gib(guest: &Guest<'_>, device: &str) -> Result<u64> {
    // Linux counts sectors of 512 bytes, whatever the disk's are.
    let sectors: u64 = guest.ssh(&format!("cat /sys/block/{device}/size"))?.trim().parse()?;
    Ok(sectors >> 21)
}

#[test]
fn a_volume_moves_between_running_guests_with_what_is_on_it_and_grows_live() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    example(&terraform, "05-volumes", &key)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let first = lab.guest(&key, &state, "weft_instance.machine[\"first\"]")?;
    let second = lab.guest(&key, &state, "weft_instance.machine[\"second\"]")?;
    let volume = state.text("weft_volume.data", "id")?;
    let path = state.text("weft_volume_attachment.data", "device_path")?;
    let serial = serial_of(&path)?;

    let see = |guest: &Guest<'_>| device_of(guest, serial);
    let device = eventually("the first guest to see the disk", within(), || see(&first))?;
    ensure!(gib(&first, &device)? == 1);
    ensure!(device_of(&second, serial)?.is_none());
    // At its start and at its end; what the kernel still holds is written out.
    let write = |guest: &Guest<'_>, device: &str, text: &str, at: u64| {
        guest.ssh(&format!(
            "echo {text} | sudo dd of=/dev/{device} bs=512 seek={at} conv=notrunc,sync 2>/dev/null && sync"
        ))
    };
    let read = |guest: &Guest<'_>, device: &str, at: u64| -> Result<String> {
        let read = format!("sudo dd if=/dev/{device} bs=512 skip={at} count=1 2>/dev/null");
        Ok(guest.ssh(&read)?.trim_matches(['\0', '\n']).to_owned())
    };
    let last = (1 << 21) - 1;
    write(&first, &device, "begun-on-the-first", 0)?;
    write(&first, &device, "end", last)?;

    // Elsewhere, while both guests run.
    terraform.write("more.auto.tfvars", "attached_to = \"second\"\n")?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_volume_attachment.data") == Change::Replace, "{}", plan.text());
    ensure!(plan.change("weft_volume.data") == Change::Nothing, "{}", plan.text());
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    let device = eventually("the second guest to see the disk", within(), || see(&second))?;
    ensure!(device_of(&first, serial)?.is_none(), "the first guest still has it");
    ensure!(read(&second, &device, 0)? == "begun-on-the-first");
    ensure!(read(&second, &device, last)? == "end");

    // Larger, under the same boot.
    let boot = boot_id(&second)?;
    terraform
        .write("more.auto.tfvars", "attached_to = \"second\"\nsize_gib = 2\nroot_size_gib = 1\n")?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_volume.data") == Change::Update, "{}", plan.text());
    let machine = plan.change("weft_instance.machine[\"second\"]");
    ensure!(machine == Change::Update, "{}", plan.text());
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    eventually("the guest to see a larger disk", within(), || {
        Ok((gib(&second, &device)? == 2).then_some(()))
    })?;
    eventually("the guest to see a larger root disk", within(), || {
        Ok((gib(&second, "vda")? == 1).then_some(()))
    })?;
    write(&second, &device, "grown", 2 * (last + 1) - 1)?;
    ensure!(read(&second, &device, 0)? == "begun-on-the-first");
    limits_change_live(&lab, &terraform, &second, &device, &volume)?;
    // A file system, in use when the snapshot is taken.
    second.ssh(&format!("sudo mke2fs -F /dev/{device} 65536 && sudo mount /dev/{device} /mnt"))?;
    // Not flushed: its own agent freezes it for the snapshot.
    second.ssh("echo before | sudo tee /mnt/marker")?;
    let common = "attached_to = \"second\"\nsize_gib = 2\nroot_size_gib = 1\nsnapshot = true\n";
    terraform.write("more.auto.tfvars", common)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    second.ssh("echo after | sudo tee /mnt/marker && sync")?;
    restores(&lab, &terraform, &first, common, 2 * (last + 1) - 1)?;
    ensure!(second.ssh("cat /mnt/marker")?.trim() == "after");
    ensure!(read(&second, &device, 2 * (last + 1) - 1)? == "grown");
    ensure!(boot_id(&second)? == boot, "it was booted again");

    merges(&lab, &terraform, &second)?;
    ensure!(boot_id(&second)? == boot, "it was booted again");

    // What has been detached is free: its file goes, and its room with it.
    let shown = lab.weft_json(&["get", &volume])?;
    ensure!(shown["state"] == "in_use", "{shown}");
    second.ssh("sudo umount /mnt")?;
    terraform.destroy()?;
    eventually("the layers to go", within(), || Ok((lab.layers()? == 0).then_some(())))?;
    lab.close()
}

/// The volume is slowed down while its guest runs, and let go again.
fn limits_change_live(
    lab: &Lab,
    terraform: &Terraform,
    guest: &Guest<'_>,
    device: &str,
    volume: &str,
) -> Result<()> {
    let set = |limits: &str| -> Result<(Value, Value)> {
        let common = "attached_to = \"second\"\nsize_gib = 2\nroot_size_gib = 1\n";
        terraform.write("more.auto.tfvars", &format!("{common}{limits}"))?;
        let plan = terraform.plan()?;
        ensure!(plan.change("weft_volume.data") == Change::Update, "{}", plan.text());
        terraform.apply_plan()?;
        terraform.assert_plan_is_empty()?;
        let shown = lab.weft_json(&["get", volume])?;
        Ok((shown["iops"].clone(), shown["throughput_mibps"].clone()))
    };
    let shown = set("iops = 100\nthroughput_mibps = 1\n")?;
    ensure!(shown == (100.into(), 1.into()), "{shown:?}");
    let begun = Instant::now();
    // Where nothing was read or written before.
    guest.ssh(&format!("sudo dd if=/dev/{device} of=/dev/null bs=64k skip=256 count=48"))?;
    let took = begun.elapsed();
    // Of 3 MiB one passes in each second, and a tenth at once: a slow machine only takes longer.
    ensure!(took > Duration::from_millis(2500), "the limit is not kept: {took:?}");
    let shown = set("")?;
    ensure!(shown == (Value::Null, Value::Null), "{shown:?}");
    Ok(())
}

/// What daily snapshots of a disk in use leave when they are deleted becomes one layer, under a guest that
/// runs and reads on.
fn merges(lab: &Lab, terraform: &Terraform, guest: &Guest<'_>) -> Result<()> {
    let before = lab.layers()?;
    let daily = |count: usize| {
        let module = format!(
            r#"
resource "weft_snapshot" "of_volume" {{
  count     = {count}
  volume_id = weft_volume.data.id
}}

resource "weft_snapshot" "of_root" {{
  count       = {count}
  instance_id = weft_instance.machine["second"].id
}}
"#
        );
        terraform.write("daily.tf", &module)?;
        terraform.apply()
    };
    // Each layer has something of its own, and something that a later one has in its place.
    for count in [2, 5, 8] {
        guest.ssh(&format!(
            "sudo sh -c 'for at in /mnt /srv; do mkdir -p $at && \
             dd if=/dev/urandom of=$at/only-{count} bs=1k count=300 2>/dev/null && \
             dd if=/dev/urandom of=$at/often bs=1k count=200 conv=notrunc 2>/dev/null; done; sync'"
        ))?;
        daily(count)?;
    }
    ensure!(lab.layers()? == before + 16);
    let sums = |guest: &Guest<'_>| {
        guest.ssh(
            "sudo sh -c 'sync; echo 3 >/proc/sys/vm/drop_caches; \
             md5sum /mnt/only-* /mnt/often /srv/only-* /srv/often'",
        )
    };
    let written = sums(guest)?;
    ensure!(written.lines().count() == 8, "{written}");
    daily(0)?;
    eventually("the layers become one of each disk", within(), || {
        Ok((lab.layers()? == before + 2).then_some(()))
    })?;
    ensure!(sums(guest)? == written, "the guest reads something else");
    for hypervisor in lab.hypervisors() {
        eventually("nothing that has gone is open", within(), || {
            Ok(gone_and_open(hypervisor.pid)?.is_empty().then_some(()))
        })?;
    }
    // It goes on: writes, is snapshotted and grows as before.
    guest.ssh("sudo sh -c 'date >/mnt/later; date >/srv/later; sync'")?;
    daily(1)?;
    daily(0)?;
    ensure!(sums(guest)? == written, "the guest reads something else");
    Ok(())
}

/// The files that a hypervisor keeps the room of though they have gone.
fn gone_and_open(pid: i32) -> Result<Vec<PathBuf>> {
    let mut gone = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let is_disk = target.to_string_lossy().contains(".qcow2");
        if is_disk && std::fs::metadata(entry.path()).is_ok_and(|file| file.nlink() == 0) {
            gone.push(target);
        }
    }
    Ok(gone)
}

/// A second volume has what the first one had when its snapshot was taken: a file system with a file,
/// and a word in its last sector.
fn restores(
    lab: &Lab,
    terraform: &Terraform,
    first: &Guest<'_>,
    common: &str,
    last: u64,
) -> Result<()> {
    terraform.write("more.auto.tfvars", &format!("{common}restore = true\n"))?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_volume.restored[0]") == Change::Create, "{}", plan.text());
    ensure!(plan.change("weft_snapshot.data[0]") == Change::Nothing, "{}", plan.text());
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let path = state.text("weft_volume_attachment.restored[0]", "device_path")?;
    let serial = serial_of(&path)?;
    let device =
        eventually("the guest to see what was restored", within(), || device_of(first, serial))?;
    ensure!(gib(first, &device)? == 2);
    first.ssh(&format!("sudo mount /dev/{device} /mnt"))?;
    ensure!(first.ssh("cat /mnt/marker")?.trim() == "before");
    // What is written to one is not on the other.
    first.ssh("echo elsewhere | sudo tee /mnt/marker && sync && sudo umount /mnt")?;
    let read = format!("sudo dd if=/dev/{device} bs=512 skip={last} count=1 2>/dev/null");
    ensure!(first.ssh(&read)?.trim_matches(['\0', '\n']) == "grown");
    let layers = lab.layers()?;
    ensure!(layers == 1, "{layers} layers");
    Ok(())
}
