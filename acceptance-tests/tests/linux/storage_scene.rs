//! A guest that runs, and all that is done to its disks: snapshot, capture, plug, grow, unplug,
//! hibernation; and images that are imported beside it. What it has written is there after each.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{
    Act, Guest, KeyFile, Lab, Page, Scene, Site, Terraform, eventually, kill_hypervisors, run,
    within,
};

use crate::module::{access, image, instance};
use crate::own_image::assert_nothing_is_left;
use crate::volumes::{device_of, gib};

const SNAPSHOT: &str = r#"
resource "weft_snapshot" "now" {
  instance_id = weft_instance.it.id
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
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

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
    /// The boot that must not end; `None` where guests die.
    boot: Option<String>,
    /// How often the guest has died.
    deaths: usize,
    /// Files of the host, before the first step.
    files: BTreeSet<PathBuf>,
    /// Layers before the step.
    layers: BTreeSet<PathBuf>,
}

impl Storage {
    /// What happens while the agent dies: the guest must not notice.
    pub(crate) fn of_an_agent_that_dies(lab: &Lab) -> Result<Self> {
        let steps = &[
            "snapshot",
            "capture",
            "plug",
            "grow",
            "unplug",
            "import",
            "hibernate",
            "resume",
            "clear",
        ];
        Self::new(lab, steps, steps)
    }

    /// What happens while the guest loses power.
    pub(crate) fn of_a_guest_that_dies(lab: &Lab) -> Result<Self> {
        Self::new(lab, &["snapshot", "plug", "grow", "clear"], &["snapshot", "grow"])
    }

    fn new(
        lab: &Lab,
        steps: &'static [&'static str],
        deadly: &'static [&'static str],
    ) -> Result<Self> {
        let key = lab.key("id")?;
        let base = image("")? + &access(&key) + &instance("it", "wait_for = \"running\"");
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
            boot: None,
            deaths: 0,
            files: BTreeSet::new(),
            layers: BTreeSet::new(),
        })
    }

    fn position(&self, step: &str) -> usize {
        self.steps.iter().position(|one| *one == step).unwrap_or(usize::MAX)
    }

    fn module(&self, step: &str) -> String {
        let now = self.position(step);
        let has = |part: &str| step != "clear" && self.position(part) <= now;
        let mut module = self.base.clone();
        if has("snapshot") {
            module.push_str(SNAPSHOT);
        }
        if has("capture") {
            module.push_str(CAPTURE);
        }
        if has("import") {
            module.push_str(&self.import);
        }
        if has("plug") && !has("unplug") {
            let gib = if has("grow") { 2 } else { 1 };
            module.push_str(&format!(
                "resource \"weft_volume\" \"data\" {{\n  name = \"data\"\n  size_gib = {gib}\n}}\n"
            ));
            module.push_str(ATTACHMENT);
        }
        module
    }

    fn guest<'a>(&self, lab: &'a Lab, terraform: &Terraform) -> Result<Guest<'a>> {
        let guest = lab.guest(&self.key, &terraform.state()?, "weft_instance.it")?;
        eventually("the guest lets in", within(), || {
            Ok(guest.try_ssh("true")?.status.success().then_some(()))
        })?;
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

    /// The one layer that the step has made.
    fn new_layer(&self, lab: &Lab) -> Result<PathBuf> {
        let now = files(&lab.directory().join("state/layers"));
        let new: Vec<_> = now.difference(&self.layers).collect();
        ensure!(new.len() == 1, "not one new layer: {new:?}");
        Ok(new[0].clone())
    }

    fn check_volume(&mut self, guest: &Guest<'_>, terraform: &Terraform, step: &str) -> Result<()> {
        let path = terraform.state()?.text("weft_volume_attachment.data", "device_path")?;
        let serial = path.strip_prefix("/dev/disk/by-id/virtio-").context("another path")?;
        let size = if step == "grow" { 2 } else { 1 };
        let device = eventually("the guest sees the volume", within(), || {
            let Some(device) = device_of(guest, serial)? else { return Ok(None) };
            Ok((gib(guest, &device)? == size).then_some(device))
        })?;
        if step == "plug" {
            self.on_volume = format!("volume-{:04}", self.lines.len());
        }
        for at in [0, (1 << 21) - 1] {
            let text = &self.on_volume;
            let dd = "sudo dd bs=512 count=1 conv=notrunc,sync 2>/dev/null";
            if step == "plug" {
                guest.ssh(&format!("echo {text} | {dd} of=/dev/{device} seek={at} && sync"))?;
            }
            let read = format!("{dd} if=/dev/{device} skip={at}");
            let said = guest.ssh(&read)?;
            ensure!(said.trim_matches(['\0', '\n']) == text, "lost: {text} at {at}: {said:?}");
        }
        Ok(())
    }

    /// No blob, layer, volume, part or descriptor of what has gone.
    fn assert_only_the_guest(&self, lab: &Lab) -> Result<()> {
        let state = lab.directory().join("state");
        eventually("only the guest's own files", within(), || {
            let is_layer = |path: &&PathBuf| path.starts_with(state.join("layers"));
            let now = files_of(&state);
            let chain = chain(&state)?;
            let stray = now.iter().filter(is_layer).any(|path| !chain.contains(path));
            let rest: BTreeSet<_> = now.iter().filter(|path| !is_layer(path)).cloned().collect();
            Ok((!stray && rest == self.files).then_some(()))
        })
        .with_context(|| {
            let now = files_of(&state);
            let more: Vec<_> = now.difference(&self.files).collect();
            let less: Vec<_> = self.files.difference(&now).collect();
            format!("more: {more:?}; less: {less:?}; chain: {:?}", chain(&state))
        })
    }
}

impl Scene for Storage {
    fn begin(&mut self, lab: &Lab, terraform: &Terraform) -> Result<()> {
        terraform.main(&self.base)?;
        terraform.apply()?;
        let guest = self.guest(lab, terraform)?;
        self.write(&guest)?;
        if self.deadly.contains(&"hibernate") {
            self.boot = Some(guest.ssh(BOOT_ID)?.trim().to_owned());
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
        if step != "resume" {
            let guest = self.guest(lab, terraform)?;
            self.write(&guest)?;
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
        assert_descriptors(hypervisors[0].pid, &state, step == "plug" || step == "grow")
    }

    fn end(&mut self, lab: &Lab, terraform: &Terraform) -> Result<()> {
        terraform.destroy()?;
        ensure!(files(&lab.directory().join("state/volumes")).is_empty(), "volumes are left");
        assert_nothing_is_left(lab)
    }
}

/// A hypervisor has nothing open that is gone, nor a volume that it does not have, nor a file more
/// often than it needs: as a descriptor that it was started with, and once more to use it.
fn assert_descriptors(pid: i32, state: &Path, has_volume: bool) -> Result<()> {
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        if !target.starts_with(state) {
            continue;
        }
        // The name that it was opened by may be another file's by now.
        let file = std::fs::metadata(entry.path())?;
        let name = target.display();
        ensure!(file.nlink() > 0, "{name} is gone and kept open");
        let is_volume = target.starts_with(state.join("volumes"));
        ensure!(has_volume || !is_volume, "{name} is kept open");
        ensure!(!target.to_string_lossy().contains(".next."), "{name} is half-made");
        let times = open.entry(file.ino()).or_default();
        *times += 1;
        ensure!(*times <= 2, "{name} is open {times} times");
    }
    Ok(())
}

/// Files of guests, images, volumes and layers.
fn files_of(state: &Path) -> BTreeSet<PathBuf> {
    let of = ["instances", "images", "volumes", "layers"];
    of.iter().flat_map(|directory| files(&state.join(directory))).collect()
}

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => found.extend(files(&entry.path())),
            false => drop(found.insert(entry.path())),
        }
    }
    found
}

/// The files that the guest's disk consists of.
fn chain(state: &Path) -> Result<BTreeSet<PathBuf>> {
    let disks = files(&state.join("instances"));
    let disk = disks.iter().find(|path| path.ends_with("root.qcow2")).context("no disk")?;
    let mut command = Command::new("qemu-img");
    command.args(["info", "-U", "--backing-chain", "--output=json"]).arg(disk);
    let said = run(command, within())?.success()?.stdout;
    let all: serde_json::Value = serde_json::from_str(&said)?;
    let names = all.as_array().into_iter().flatten();
    Ok(names.filter_map(|one| one["filename"].as_str()).map(PathBuf::from).collect())
}

fn contains(path: &Path, text: &str) -> Result<bool> {
    let mut grep = Command::new("grep");
    grep.args(["-q", "-a", "-F", text]).arg(path);
    match run(grep, within())?.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => anyhow::bail!("{} cannot be read", path.display()),
    }
}
