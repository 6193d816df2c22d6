//! The example 05-volumes with an encrypted volume: whatever is done to it, its guest reads what was
//! written, and nobody else does.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use weft_acceptance::{Change, Guest, Lab, RunningProcess, eventually, root_key, within};

use crate::module::example;
use crate::storage_files::{contains, files};
use crate::volumes::{device_of, gib, serial_of};

/// What the guest writes, so often that some of it is in one piece whatever the file is like.
const TEXT: &str = "what-nobody-else-may-read";

/// Writes the text over one MiB, at a MiB of the disk; it is on the host's disk then.
fn write(guest: &Guest<'_>, device: &str, text: &str, at_mib: u64) -> Result<()> {
    let write = format!(
        "yes {text} | head -c 1048576 | sudo dd of=/dev/{device} bs=64k seek={} conv=notrunc \
         2>/dev/null && sync",
        at_mib * 16
    );
    guest.ssh(&write).map(drop)
}

/// Whether the disk itself, and not what the guest remembers of it, has the text there.
fn reads(guest: &Guest<'_>, device: &str, text: &str, at_mib: u64) -> Result<bool> {
    let read = format!(
        "echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null; \
         sudo dd if=/dev/{device} bs=64k skip={} count=16 2>/dev/null | grep -c -x {text} || true",
        at_mib * 16
    );
    let lines: usize = guest.ssh(&read)?.trim().parse()?;
    Ok(lines >= (1 << 20) / (text.len() + 1))
}

/// The secrets that a hypervisor was started with, in memory that it inherited.
fn secrets_of(hypervisor: &RunningProcess) -> Result<Vec<String>> {
    let mut secrets = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", hypervisor.pid))?.flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().contains("memfd:weft-volume-secret") {
            secrets.push(std::fs::read_to_string(entry.path())?);
        }
    }
    Ok(secrets)
}

/// No file of the lab and no process has any of the texts.
fn assert_nowhere(lab: &Lab, texts: &[&str]) -> Result<()> {
    let directory = lab.directory();
    let files = files(directory);
    ensure!(files.iter().any(|file| file.ends_with("spec.json")), "no launch to look at");
    ensure!(files.iter().any(|file| file.ends_with("weft.db")), "no store to look at");
    for text in texts {
        for file in files.iter().filter(|file| file.is_file()) {
            ensure!(!contains(file, text)?, "{} has a secret", file.display());
        }
        for process in lab.processes() {
            let of = |what: &str| std::fs::read(format!("/proc/{}/{what}", process.pid));
            for what in ["cmdline", "environ"] {
                let said = of(what).unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                ensure!(!said.contains(text), "{what} of {} has a secret", process.pid);
            }
        }
    }
    Ok(())
}

/// The files of volumes and layers.
fn disks(state: &Path) -> Vec<PathBuf> {
    ["volumes", "layers"].iter().flat_map(|dir| files(&state.join(dir))).collect()
}

#[test]
fn an_encrypted_volume_is_read_by_its_guest_and_by_nobody_else() -> Result<()> {
    let (_dir, key_file) = root_key()?;
    let flag = format!("--volume-key-file={}", key_file.display());
    let Some(mut lab) = Lab::linux_with(&[&flag])? else { return Ok(()) };
    let root_key = std::fs::read_to_string(&key_file)?.trim().to_owned();
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    example(&terraform, "05-volumes", &key)?;
    terraform.write("more.auto.tfvars", "encrypted = true\n")?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let guest = lab.guest(&key, &state, "weft_instance.machine[\"first\"]")?;
    let id = state.text("weft_instance.machine[\"first\"]", "id")?;
    let serial = |resource: &str| -> Result<String> {
        let path = terraform.state()?.text(resource, "device_path")?;
        serial_of(&path).map(str::to_owned)
    };
    let own = serial("weft_volume_attachment.data")?;
    let device = eventually("the guest to see the disk", within(), || device_of(&guest, &own))?;
    write(&guest, &device, TEXT, 0)?;
    ensure!(reads(&guest, &device, TEXT, 0)?);

    // Plugged in while the guest ran: grown live, by an agent that knows nothing of it but its records.
    lab.agent().kill_9()?;
    lab.start_agent()?;
    let guest = lab.guest(&key, &state, "weft_instance.machine[\"first\"]")?;
    terraform.write("more.auto.tfvars", "encrypted = true\nsize_gib = 2\n")?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_volume.data") == Change::Update, "{}", plan.text());
    terraform.apply_plan()?;
    eventually("the guest to see a larger disk", within(), || {
        Ok((gib(&guest, &device)? == 2).then_some(()))
    })?;
    write(&guest, &device, TEXT, 2047)?;

    // Snapshotted while it is in use, and restored.
    let common = "encrypted = true\nsize_gib = 2\nsnapshot = true\n";
    terraform.write("more.auto.tfvars", common)?;
    terraform.apply()?;
    ensure!(*terraform.state()?.attribute("weft_snapshot.data[0]", "encrypted")? == true);
    write(&guest, &device, "written-after-the-snapshot", 0)?;
    terraform.write("more.auto.tfvars", &format!("{common}restore = true\n"))?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    ensure!(*terraform.state()?.attribute("weft_volume.restored[0]", "encrypted")? == true);
    let restored = serial("weft_volume_attachment.restored[0]")?;
    let copy = eventually("what was restored", within(), || device_of(&guest, &restored))?;
    ensure!(reads(&guest, &copy, TEXT, 0)? && reads(&guest, &copy, TEXT, 2047)?);

    // Started with both, from nothing and from its memory.
    lab.weft(&["stop", &id])?.success()?;
    lab.wait_for_state(&id, "stopped")?;
    lab.weft(&["start", &id])?.success()?;
    for hibernates in [true, false] {
        eventually("the guest lets in", within(), || {
            Ok(guest.try_ssh("true")?.status.success().then_some(()))
        })?;
        let device = eventually("its disk", within(), || device_of(&guest, &own))?;
        let copy = eventually("the other disk", within(), || device_of(&guest, &restored))?;
        ensure!(reads(&guest, &device, "written-after-the-snapshot", 0)?);
        ensure!(reads(&guest, &device, TEXT, 2047)? && reads(&guest, &copy, TEXT, 0)?);
        write(&guest, &copy, "written-to-the-copy", 4)?;
        if hibernates {
            lab.weft(&["hibernate", &id])?.success()?;
            lab.wait_for_state(&id, "stopped")?;
            lab.weft(&["start", &id])?.success()?;
        }
    }

    // What is on the host's disk.
    let mut secrets = Vec::new();
    for hypervisor in lab.hypervisors() {
        secrets.extend(secrets_of(&hypervisor)?);
    }
    ensure!(secrets.len() == 2 && secrets[0] == secrets[1], "{} secrets", secrets.len());
    ensure!(secrets[0].len() == 64 && secrets[0] != root_key);
    assert_nowhere(&lab, &[&secrets[0], &root_key])?;
    let state_dir = lab.directory().join("state");
    let disks = disks(&state_dir);
    ensure!(disks.len() == 3, "two volumes and a layer: {disks:?}");
    for file in &disks {
        for text in [TEXT, "written-after-the-snapshot", "written-to-the-copy"] {
            ensure!(!contains(file, text)?, "{} has {text} in the clear", file.display());
        }
    }
    // Where nothing is encrypted it is found.
    guest.ssh("echo on-the-root-disk | sudo tee /srv-note >/dev/null && sync")?;
    let roots = files(&state_dir.join("instances"));
    let mut found = false;
    for file in roots.iter().filter(|file| file.ends_with("root.qcow2")) {
        found |= contains(file, "on-the-root-disk")?;
    }
    ensure!(found, "the look finds nothing at all");

    terraform.destroy()?;
    eventually("the layers to go", within(), || Ok((lab.layers()? == 0).then_some(())))?;
    lab.close()
}
