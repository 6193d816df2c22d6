//! What an instance's creation costs by the size of its image: a root disk is a new file above the
//! image, so it must not matter.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::fabric::Fabric;
use crate::guest::{await_banner, id_and_address};
use crate::report::{Line, Report, Verdict};
use crate::samples::{Samples, milliseconds};

const GIB: u64 = 1 << 30;
/// The large disk, as its guest sees it.
const LARGE_GIB: u64 = 20;
/// How much of it is data: a piece at the beginning of each GiB but the first, where the guest is.
const PIECE_MIB: u64 = 32;
const DATA_MIB: u64 = (LARGE_GIB - 1) * PIECE_MIB;

pub(crate) fn measure(report: &mut Report, runs: usize) -> Result<()> {
    let Some(mut fabric) = Fabric::with_disks("running", disks)? else { return Ok(()) };
    let images = fabric.image_ids.clone();
    let mut taken = [Samples::default(), Samples::default()];
    // The first of each warms the caches. The two take turns in being first, often: the ratio of two
    // things that should be alike is wanted to a tenth.
    for run in 0..=4 * runs {
        for turn in 0..images.len() {
            let which = (run + turn) % images.len();
            fabric.wish.image_id.clone_from(&images[which]);
            let start = Instant::now();
            let made = fabric.api.create(&fabric.wish)?;
            let (id, address) = id_and_address(&made)?;
            fabric.api.wait_running(&id)?;
            if run > 0 {
                taken[which].push(milliseconds(start.elapsed()));
            }
            // The disk is the one that was meant; and a guest that is up ends when it is told to.
            await_banner(fabric.lab.outside()?, address)?;
            fabric.lab.weft(&["rm", &id])?.success()?;
        }
    }
    let [small, large] = &taken;
    let ratio = large.ratio_to(small);
    report.add(Line {
        what: format!("from Create received to guest running, image of {LARGE_GIB} GiB"),
        budget: "at most 1.2 x the same with an image of 20 MiB".to_owned(),
        figure: format!("{ratio:.2} x"),
        beside: format!(
            "{LARGE_GIB} GiB (qcow2, {DATA_MIB} MiB of them data) {}; 20 MiB (qcow2) {}",
            large.show("ms", 0),
            small.show("ms", 0)
        ),
        verdict: Verdict::of(ratio <= 1.2),
        why: "",
    });
    fabric.lab.close()
}

/// The small disk and the large one: the same guest in the same format.
fn disks(of: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
    let (small, large) = (directory.join("small.qcow2"), directory.join("large.qcow2"));
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(of).arg(&small))?;
    std::fs::copy(&small, &large).context("copy the small disk")?;
    run(Command::new("qemu-img")
        .args(["resize", "-q", "-f", "qcow2"])
        .arg(&large)
        .arg(format!("{LARGE_GIB}G")))?;
    let mut fill = Command::new("qemu-io");
    fill.args(["-f", "qcow2"]);
    for gib in 1..LARGE_GIB {
        // Each piece differs, so that none can be stored twice by reference.
        fill.args(["-c", &format!("write -q -P {gib} {} {PIECE_MIB}M", gib * GIB)]);
    }
    run(fill.arg(&large))?;
    let length = std::fs::metadata(&large).context("look at the large disk")?.len();
    ensure!(length >= DATA_MIB << 20, "the large disk has only {length} bytes");
    Ok(vec![small, large])
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(())
}
