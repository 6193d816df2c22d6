//! A guest that runs, and all that is done to its disks: snapshots of its root disk and of a volume,
//! capture, plug, growth of both, unplug, hibernation; and images that are imported beside it. What it
//! has written is there after each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{
    Act, Guest, KeyFile, Lab, Page, Scene, Site, Terraform, eventually, kill_hypervisors, run,
    within,
};

use crate::module::{BOOT_ID, access, boot_id, image, instance};
use crate::own_image::assert_nothing_is_left;
use crate::storage_files::{assert_descriptors, chain, contains, files, files_of, inode};
use crate::volumes::{device_of, gib, serial_of};

const SNAPSHOT: &str = r#"
resource "weft_snapshot" "now" {
  instance_id = weft_instance.it.id
  consistency = "CONSISTENCY"
}
"#;
const SNAPSHOT_OF_VOLUME: &str = r#"
resource "weft_snapshot" "data" {
  volume_id   = weft_volume.data.id
  consistency = "CONSISTENCY"
}
"#;
const CAPTURE: &str = r#"
resource "weft_image" "own" {
  name               = "own"
  source_instance_id = weft_instance.it.id
}
"#;
const ATTACHMENT: &str = r#"
resource "weft_volume_attachment" "data" {
  instance_id = weft_instance.it.id
  volume_id   = weft_volume.data.id
}
"#;
/// Bytes of an image that is imported.
const IMPORTED: usize = 4 << 20;
/// What the guest has written to its disk, and to its memory.
const WRITTEN: &str = "/srv/written";
/// Writes and reads one sector of a disk.
const DD: &str = "sudo dd bs=512 count=1 2>/dev/null conv=notrunc,sync";
/// Sectors of 512 bytes.
const GIB: u64 = 1 << 21;
/// Lines of a console that are shown where its guest does not let in.
const CONSOLE_LINES: usize = 40;
/// What the volume is limited to when it grows.
const IOPS: u32 = 2000;

/// The scene. Its steps lead from the guest alone to the guest alone.
#[derive(Debug)]
pub(crate) struct Storage {
    steps: &'static [&'static str],
    /// In which something dies.
    deadly: &'static [&'static str],
    key: KeyFile,
    base: String,
    import: String,
    /// What is imported, by the name of the image.
    imported: BTreeMap<&'static str, Vec<u8>>,
    _site: Site,
    /// Lines that the guest has written and synced.
    lines: Vec<String>,
    /// What is on the volume, at its start and at the end of its first GiB.
    on_volume: String,
    /// How many texts there have been.
    lines_on_volume: usize,
    /// Whether the volume is encrypted.
    encrypted: bool,
    /// GiB of the root disk, which never shrinks: one more in each round.
    root_gib: u64,
    /// The boot that must not end; `None` where guests die.
    boot: Option<String>,
    /// How often the guest has died.
    deaths: usize,
    /// Files of the host, before the first step.
    files: BTreeSet<PathBuf>,
    /// Layers before the step.
    layers: BTreeSet<PathBuf>,
    /// The inode of the disk that is snapshotted in the step, before it.
    disk: u64,
}

impl Storage {
    /// What happens while the agent dies: the guest must not notice.
    pub(crate) fn of_an_agent_that_dies(lab: &Lab) -> Result<Self> {
        let steps = &[
            "snapshot",
            "capture",
            "plug",
            "seal",
            "grow",
            "unplug",
            "import",
            "root",
            "hibernate",
            "resume",
            "clear",
        ];
        Self::new(lab, steps, steps)
    }

    /// What happens while the guest loses power.
    pub(crate) fn of_a_guest_that_dies(lab: &Lab) -> Result<Self> {
        let steps = &["snapshot", "plug", "seal", "grow", "root", "clear"];
        Self::new(lab, steps, &["snapshot", "seal", "grow", "root"])
    }

    /// What happens to an encrypted volume while the agent dies, which has a root key: the guest must not
    /// notice, and nothing of what it writes is in the clear.
    pub(crate) fn of_an_encrypted_volume(lab: &Lab) -> Result<Self> {
        let steps = &["plug", "seal", "grow", "hibernate", "resume", "unplug", "clear"];
        Ok(Self { encrypted: true, ..Self::new(lab, steps, steps)? })
    }

    fn new(
        lab: &Lab,
        steps: &'static [&'static str],
        deadly: &'static [&'static str],
    ) -> Result<Self> {
        let key = lab.key("id")?;
        let base = image("")? + &access(&key);
        let bytes = |salt: u32| -> Vec<u8> {
            let words = (0..IMPORTED / 4).map(|n| u32::try_from(n).unwrap_or(0).wrapping_mul(salt));
            words.flat_map(u32::to_le_bytes).collect()
        };
        let imported = BTreeMap::from([("uploaded", bytes(40503)), ("fetched", bytes(30011))]);
        let path = |name: &str| lab.directory().join(format!("{name}.raw"));
        for (name, body) in &imported {
            std::fs::write(path(name), body)?;
        }
        let mut sum = Command::new("sha256sum");
        sum.arg(path("fetched"));
        let sum = run(sum, within())?.success()?.stdout;
        let site = lab.outside()?.inside(Site::start)?;
        let url = site.put("/disk.raw", Page::new(imported["fetched"].clone()));
        let import = format!(
            r#"
resource "weft_image" "uploaded" {{
  name         = "uploaded"
  source_path  = "{}"
  default_user = "nobody"
}}

resource "weft_image" "fetched" {{
  name         = "fetched"
  source_url   = "{url}"
  sha256       = "{}"
  default_user = "nobody"
}}
"#,
            path("uploaded").display(),
            sum.split(' ').next().context("sha256sum said nothing")?
        );
        Ok(Self {
            steps,
            deadly,
            key,
            base,
            import,
            imported,
            _site: site,
            lines: Vec::new(),
            on_volume: String::new(),
            lines_on_volume: 0,
            encrypted: false,
            root_gib: 1,
            boot: None,
            deaths: 0,
            files: BTreeSet::new(),
            layers: BTreeSet::new(),
            disk: 0,
        })
    }

    fn position(&self, step: &str) -> usize {
        self.steps.iter().position(|one| *one == step).unwrap_or(usize::MAX)
    }

    /// Whether the guest has the volume after the step.
    fn has_volume(&self, step: &str) -> bool {
        let now = self.position(step);
        step != "clear" && self.position("plug") <= now && now < self.position("unplug")
    }

    fn module(&self, step: &str) -> String {
        let now = self.position(step);
        let has = |part: &str| step != "clear" && self.position(part) <= now;
        let root = format!("root_volume = {{ size_gib = {} }}", self.root_gib);
        let mut module = self.base.clone();
        module.push_str(&instance("it", &format!("wait_for = \"running\"\n  {root}")));
        if has("snapshot") {
            module.push_str(SNAPSHOT);
        }
        if has("capture") {
            module.push_str(CAPTURE);
        }
        if has("import") {
            module.push_str(&self.import);
        }
        if self.has_volume(step) {
            let (gib, iops) =
                if has("grow") { (2, IOPS.to_string()) } else { (1, "null".to_owned()) };
            module.push_str(&format!(
                "resource \"weft_volume\" \"data\" {{\n  name     = \"data\"\n  size_gib = {gib}\n  \
                 iops     = {iops}\n  encrypted = {}\n}}\n",
                self.encrypted
            ));
            module.push_str(ATTACHMENT);
            if has("seal") {
                module.push_str(SNAPSHOT_OF_VOLUME);
            }
        }
        // One that dies cannot be frozen, and is not taken as it is then.
        let freezes = self.deadly.contains(&"hibernate");
        module.replace("CONSISTENCY", if freezes { "frozen" } else { "crash" })
    }

    fn guest<'a>(&self, lab: &'a Lab, terraform: &Terraform) -> Result<Guest<'a>> {
        let guest = lab.guest(&self.key, &terraform.state()?, "weft_instance.it")?;
        let lets_in = eventually("the guest lets in", within(), || {
            Ok(guest.try_ssh("true")?.status.success().then_some(()))
        });
        if let Err(error) = lets_in {
            let said = lab.weft(&["logs", "it"])?.stdout;
            let end: String = said.lines().rev().take(CONSOLE_LINES).collect::<Vec<_>>().join("\n");
            return Err(error.context(format!("its console, the last line first:\n{end}")));
        }
        Ok(guest)
    }

    /// Has the guest write another line, and sync.
    fn write(&mut self, guest: &Guest<'_>) -> Result<String> {
        let line = format!("line-{:04}-of-the-guest", self.lines.len());
        guest.ssh(&format!("sudo sh -c 'mkdir -p /srv; echo {line} >>{WRITTEN}; sync'"))?;
        self.lines.push(line.clone());
        Ok(line)
    }

    /// Nothing that was acknowledged is lost.
    fn assert_written(&mut self, guest: &Guest<'_>) -> Result<()> {
        let said = guest.ssh(&format!("{BOOT_ID}; cat {WRITTEN}"))?;
        let (boot, lines) = said.split_once('\n').context("no lines")?;
        ensure!(lines.lines().eq(&self.lines), "lost: of {:?} there is\n{lines}", self.lines);
        if self.boot.as_deref().is_some_and(|before| before != boot) {
            anyhow::bail!("the guest was booted again");
        }
        Ok(())
    }

    /// What the disk was before the step: a layer now, or merged into the one that is new.
    fn new_layer(&self, lab: &Lab) -> Result<PathBuf> {
        let mut now = files(&lab.directory().join("state/layers"));
        // One that is being written is none yet.
        now.retain(|path| path.extension().is_some_and(|it| it == "qcow2"));
        if let Some(sealed) = now.iter().find(|path| inode(path).is_some_and(|it| it == self.disk))
        {
            return Ok(sealed.clone());
        }
        let new: Vec<_> = now.difference(&self.layers).collect();
        ensure!(new.len() == 1, "not one new layer: {new:?}");
        Ok(new[0].clone())
    }

    /// What the guest calls the volume.
    fn device(guest: &Guest<'_>, terraform: &Terraform, size_gib: u64) -> Result<String> {
        let path = terraform.state()?.text("weft_volume_attachment.data", "device_path")?;
        let serial = serial_of(&path)?;
        eventually("the guest sees the volume", within(), || {
            let Some(device) = device_of(guest, serial)? else { return Ok(None) };
            Ok((gib(guest, &device)? == size_gib).then_some(device))
        })
    }

    /// Has the guest write another text to its volume, and sync.
    fn write_volume(&mut self, guest: &Guest<'_>, device: &str) -> Result<()> {
        self.lines_on_volume += 1;
        self.on_volume = format!("volume-{:04}-of-the-guest", self.lines_on_volume);
        for at in [0, GIB - 1] {
            write_sector(guest, device, at, &self.on_volume)?;
        }
        Ok(())
    }

    fn check_volume(&mut self, guest: &Guest<'_>, terraform: &Terraform, step: &str) -> Result<()> {
        let device = Self::device(guest, terraform, if step == "grow" { 2 } else { 1 })?;
        if step == "plug" {
            self.write_volume(guest, &device)?;
        }
        for at in [0, GIB - 1] {
            assert_sector(guest, &device, at, &self.on_volume)?;
        }
        if step == "grow" {
            write_sector(guest, &device, 2 * GIB - 1, "grown")?;
            assert_sector(guest, &device, 2 * GIB - 1, "grown")?;
        }
        Ok(())
    }

    /// The volume's snapshot has what was written before it, and nothing later.
    fn check_seal(&mut self, lab: &Lab, guest: &Guest<'_>, terraform: &Terraform) -> Result<()> {
        let layer = self.new_layer(lab)?;
        let last = self.on_volume.clone();
        let is_seen = contains(&layer, &last)?;
        ensure!(is_seen != self.encrypted, "{last} in the volume's snapshot: {is_seen}");
        let device = Self::device(guest, terraform, 1)?;
        self.write_volume(guest, &device)?;
        let later = &self.on_volume;
        ensure!(!contains(&layer, later)?, "the snapshot was written after it was taken");
        self.check_volume(guest, terraform, "seal")
    }

    /// The guest sees the whole of its root disk, and can write to what is new of it.
    fn check_root(&self, guest: &Guest<'_>) -> Result<()> {
        eventually("the guest sees a larger root disk", within(), || {
            Ok((gib(guest, "vda")? == self.root_gib).then_some(()))
        })?;
        let text = format!("root-{:04}", self.root_gib);
        write_sector(guest, "vda", self.root_gib * GIB - 1, &text)?;
        assert_sector(guest, "vda", self.root_gib * GIB - 1, &text)
    }

    /// No blob, layer, volume, part or descriptor of what has gone.
    fn assert_only_the_guest(&self, lab: &Lab) -> Result<()> {
        let state = lab.directory().join("state");
        eventually("only the guest's own files", within(), || {
            let is_layer = |path: &&PathBuf| path.starts_with(state.join("layers"));
            let now = files_of(&state);
            let chain = chain(lab)?;
            let stray = now.iter().filter(is_layer).any(|path| !chain.contains(path));
            let rest: BTreeSet<_> = now.iter().filter(|path| !is_layer(path)).cloned().collect();
            Ok((!stray && rest == self.files).then_some(()))
        })
        .with_context(|| {
            let now = files_of(&state);
            let more: Vec<_> = now.difference(&self.files).collect();
            let less: Vec<_> = self.files.difference(&now).collect();
            format!("more: {more:?}; less: {less:?}; chain: {:?}", chain(lab))
        })
    }
}

impl Scene for Storage {
    fn begin(&mut self, lab: &Lab, terraform: &Terraform) -> Result<()> {
        terraform.main(&self.module("clear"))?;
        terraform.apply()?;
        let guest = self.guest(lab, terraform)?;
        self.write(&guest)?;
        if self.deadly.contains(&"hibernate") {
            self.boot = Some(boot_id(&guest)?);
        }
        self.files = files_of(&lab.directory().join("state"));
        Ok(())
    }

    fn steps(&self) -> &'static [&'static str] {
        self.steps
    }

    fn has_deaths(&self, step: &str) -> bool {
        self.deadly.contains(&step)
    }

    fn before(&mut self, lab: &Lab, terraform: &Terraform, step: &str) -> Result<()> {
        self.layers = files(&lab.directory().join("state/layers"));
        let (dir, name) = match step {
            "seal" => ("state/volumes", "disk.qcow2"),
            _ => ("state/instances", "root.qcow2"),
        };
        let disks = files(&lab.directory().join(dir));
        let disk = disks.iter().find(|path| path.ends_with(name));
        self.disk = disk.and_then(|path| inode(path)).context("no disk")?;
        if step != "resume" {
            let guest = self.guest(lab, terraform)?;
            self.write(&guest)?;
            if step == "seal" {
                let device = Self::device(&guest, terraform, 1)?;
                self.write_volume(&guest, &device)?;
            }
        }
        if step == "root" {
            self.root_gib += 1;
        }
        Ok(())
    }

    /// In turn: power loss, and a guest that switches itself off.
    fn end_guests(&mut self, lab: &Lab, terraform: &Terraform) -> Result<()> {
        self.deaths += 1;
        if self.deaths % 2 == 1 {
            return kill_hypervisors(lab);
        }
        let guest = self.guest(lab, terraform)?;
        guest.ssh("sudo sh -c 'poweroff -f >/dev/null 2>&1 &'")?;
        guest.wait_from_outside(22, false)
    }

    fn act(&self, step: &str) -> Act {
        match step {
            "hibernate" => Act::Weft(vec!["hibernate".to_owned(), "it".to_owned()]),
            _ => Act::Apply(self.module(step)),
        }
    }

    fn check(&mut self, lab: &Lab, terraform: &Terraform, step: &str) -> Result<()> {
        let state = lab.directory().join("state");
        if step == "hibernate" {
            let asleep = lab.wait_for_state("it", "stopped")?;
            let reason = asleep["reason"].as_str().unwrap_or_default();
            ensure!(reason.starts_with("hibernated"), "lost: {asleep}");
            ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
            return Ok(());
        }
        terraform.assert_plan_is_empty()?;
        let guest = self.guest(lab, terraform)?;
        self.assert_written(&guest)?;
        let last = self.lines.last().context("nothing was written")?.clone();
        match step {
            "snapshot" => {
                let layer = self.new_layer(lab)?;
                ensure!(contains(&layer, &last)?, "lost: {last} is not in the snapshot");
                let later = self.write(&guest)?;
                ensure!(!contains(&layer, &later)?, "the snapshot was written after it was taken");
            }
            "capture" => {
                let digest = terraform.state()?.text("weft_image.own", "digest")?;
                let blob = state.join("images/blobs/sha256").join(digest);
                ensure!(contains(&blob, &last)?, "lost: {last} is not in the image");
            }
            "plug" | "grow" => self.check_volume(&guest, terraform, step)?,
            "seal" => self.check_seal(lab, &guest, terraform)?,
            "root" => self.check_root(&guest)?,
            "unplug" => ensure!(lab.count("volumes")? == 0, "volumes are left"),
            "import" => {
                for (name, body) in &self.imported {
                    let of = format!("weft_image.{name}");
                    let digest = terraform.state()?.text(&of, "digest")?;
                    let blob = state.join("images/blobs/sha256").join(digest);
                    ensure!(std::fs::read(blob)? == *body, "{name} is not what was imported");
                }
            }
            "clear" => self.assert_only_the_guest(lab)?,
            _ => {}
        }
        let hypervisors = lab.hypervisors();
        ensure!(hypervisors.len() == 1, "{hypervisors:?}");
        assert_descriptors(hypervisors[0].pid, &state, self.has_volume(step))
    }

    fn end(&mut self, lab: &Lab, terraform: &Terraform) -> Result<()> {
        terraform.destroy()?;
        ensure!(files(&lab.directory().join("state/volumes")).is_empty(), "volumes are left");
        assert_nothing_is_left(lab)
    }
}

fn write_sector(guest: &Guest<'_>, device: &str, at: u64, text: &str) -> Result<()> {
    // A disk's own flush: sync(2) writes out what is below no file system and does not flush the disk, so
    // nothing would be acknowledged.
    guest.ssh(&format!("echo {text} | {DD},fsync of=/dev/{device} seek={at}")).map(drop)
}

fn assert_sector(guest: &Guest<'_>, device: &str, at: u64, text: &str) -> Result<()> {
    let said = guest.ssh(&format!("{DD} if=/dev/{device} skip={at}"))?;
    ensure!(said.trim_matches(['\0', '\n']) == text, "lost: {text} at {at}: {said:?}");
    Ok(())
}
