//! A storage pool of its own for a volume: a guest writes to it, a snapshot of it is restored into
//! another pool, what nobody knows in it goes, and what it lacks room for waits.

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Guest, Lab, eventually, within};

use crate::module::{access, image, instance};
use crate::volumes::{device_of, serial_of};

/// MiB of the pool: the agent wants 16 free for a new volume.
const POOL_MIB: u32 = 96;

fn volume(name: &str, more: &str) -> String {
    format!(
        r#"
resource "weft_volume" "{name}" {{
  size_gib = 1
  {more}
}}

resource "weft_volume_attachment" "{name}" {{
  instance_id = weft_instance.it.id
  volume_id   = weft_volume.{name}.id
}}
"#
    )
}

const SNAPSHOT: &str = r#"
resource "weft_snapshot" "fast" {
  volume_id = weft_volume.fast.id
}
"#;

/// What the guest reads at the start of a volume.
fn marker(lab: &Lab, guest: &Guest<'_>, path: &str) -> Result<String> {
    let serial = serial_of(path)?;
    let see = || device_of(guest, serial);
    let device = eventually("the guest to see the disk", within(), see)?;
    ensure!(lab.hypervisors().len() == 1);
    let read = guest.ssh(&format!("sudo dd if=/dev/{device} bs=512 count=1 2>/dev/null"))?;
    Ok(read.trim_matches(['\0', '\n']).to_owned())
}

#[test]
fn a_volume_lives_in_a_pool_of_its_own_through_a_kill_and_a_full_disk() -> Result<()> {
    let flags = ["--sweep-grace", "2", "--resync", "5"];
    let Some((mut lab, disk)) = Lab::linux_with_small_pool("fast", POOL_MIB, &flags)? else {
        return Ok(());
    };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let base = image("")? + &access(&key) + &instance("it", "");
    let fast = base + &volume("fast", "type = \"fast\"");
    terraform.main(&fast)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let (id, on) = (state.text("weft_volume.fast", "id")?, "weft_volume_attachment.fast");
    ensure!(lab.pool("fast").join("volumes").join(&id).join("disk.qcow2").exists());
    let path = state.text(on, "device_path")?;
    {
        let guest = lab.guest(&key, &state, "weft_instance.it")?;
        ensure!(marker(&lab, &guest, &path)?.is_empty());
        let serial = serial_of(&path)?;
        let device = device_of(&guest, serial)?.context("no disk")?;
        guest.ssh(&format!(
            "echo in-the-pool | sudo dd of=/dev/{device} bs=512 conv=notrunc,sync 2>/dev/null && sync"
        ))?;
    }

    // What a crash left in the pool goes; what is needed stays.
    let with_snapshot = fast.clone() + SNAPSHOT;
    terraform.main(&with_snapshot)?;
    terraform.apply()?;
    lab.agent().kill_9()?;
    let stray_volume = lab.pool("fast").join("volumes/vol-0123456789abcdef0");
    let stray_layer = lab.pool("fast").join("layers/layer-0123456789abcdef0.qcow2");
    std::fs::create_dir(&stray_volume)?;
    std::fs::write(stray_volume.join("disk.qcow2"), "left by a crash")?;
    std::fs::write(&stray_layer, "left by a crash")?;
    lab.start_agent()?;
    eventually("the leftovers go", within(), || {
        Ok((!stray_volume.exists() && !stray_layer.exists()).then_some(()))
    })?;
    ensure!(std::fs::read_dir(lab.pool("fast").join("layers"))?.count() == 1);

    // In the other pool, over a layer of this one: plugged in, and at a start.
    let both = with_snapshot + &volume("restored", "snapshot_id = weft_snapshot.fast.id");
    terraform.main(&both)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let restored = state.text("weft_volume_attachment.restored", "device_path")?;
    let machine = state.text("weft_instance.it", "id")?;
    for again in [false, true] {
        if again {
            lab.weft(&["stop", &machine])?.success()?;
            lab.weft(&["start", &machine])?.success()?;
        }
        let guest = lab.guest(&key, &state, "weft_instance.it")?;
        eventually("the guest answers", within(), || {
            Ok((guest.try_ssh("true")?.code() == Some(0)).then_some(()))
        })?;
        for path in [&path, &restored] {
            ensure!(marker(&lab, &guest, path)? == "in-the-pool", "{path}, again: {again}");
        }
    }

    // The pool is full, the state directory is not: the guest waits for room in the pool.
    disk.fill_but(1 << 20)?;
    let guest = lab.guest(&key, &state, "weft_instance.it")?;
    let serial = serial_of(&path)?;
    let device = device_of(&guest, serial)?.context("no disk")?;
    guest.ssh(&format!(
        "(sudo dd if=/dev/urandom of=/dev/{device} bs=64k seek=16 count=80; sync; sync) >/dev/null 2>&1 &"
    ))?;
    eventually("the guest is paused, and why is told", within(), || {
        let told = lab.weft_json(&["get", &machine])?["reason"].clone();
        Ok(told.as_str().is_some_and(|told| told.contains("full")).then_some(()))
    })?;
    let more = volume("more", "type = \"fast\"");
    terraform.main(&(both + &more))?;
    let refused = terraform.try_apply()?;
    let text = refused.text().split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(text.contains("storage pool \"fast\" is full"), "{}", refused.text());
    let told = lab.weft_json(&["get", &machine])?["reason"].clone();
    ensure!(told.as_str().is_some_and(|told| told.contains("full")), "{told}");
    disk.free()?;
    eventually("the guest goes on", within(), || {
        let login = guest.try_ssh("sync; hostname")?;
        Ok((login.code() == Some(0)).then_some(()))
    })?;

    terraform.destroy()?;
    eventually("nothing is left in the pool", within(), || {
        let mut left = 0;
        for folder in ["volumes", "layers"] {
            left += std::fs::read_dir(lab.pool("fast").join(folder))?.count();
        }
        Ok((left == 0).then_some(()))
    })?;
    lab.close()
}
