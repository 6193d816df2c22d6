//! Images that the agent fetches: their whole life, and a download that the agent does not survive.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Change, Lab, Page, Site, eventually, run, within};

/// An image called `weft_image.it`.
fn image(url: &str, sha256: &str) -> String {
    format!(
        r#"
resource "weft_image" "it" {{
  name         = "it"
  source_url   = "{url}"
  sha256       = "{sha256}"
  default_user = "weft"
}}
"#
    )
}

/// Bytes that do not repeat, so that a part in the wrong place is noticed.
pub(crate) fn disk(seed: u32, size: usize) -> Vec<u8> {
    let words = (0..size as u32 / 4).map(|n| (n ^ seed).wrapping_mul(2_654_435_761));
    words.flat_map(u32::to_le_bytes).collect()
}

pub(crate) fn sha256(directory: &Path, bytes: &[u8]) -> Result<String> {
    let path = directory.join("digested");
    std::fs::write(&path, bytes)?;
    let mut command = Command::new("sha256sum");
    command.arg(&path);
    let said = run(command, within())?.success()?.stdout;
    said.split(' ').next().map(str::to_owned).context("sha256sum said nothing")
}

#[test]
fn an_image_by_url_follows_its_digest_and_not_its_url() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    let site = Site::start()?;
    let (one, two) = (disk(1, 3 << 20), disk(2, 2 << 20));
    let (digest, other_digest) = (sha256(lab.directory(), &one)?, sha256(lab.directory(), &two)?);
    let url = site.put("/one.raw", Page::new(one.clone()));
    let elsewhere = site.put("/moved/one.raw", Page::new(one));
    let next = site.put("/two.raw", Page::new(two));

    terraform.main(&image(&url, &digest))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let id = state.text("weft_image.it", "id")?;
    ensure!(state.text("weft_image.it", "digest")? == digest);
    ensure!(state.attribute("weft_image.it", "virtual_size_bytes")? == 3 << 20);
    terraform.assert_plan_is_empty()?;
    terraform.forget_and_import("weft_image.it")?;
    terraform.assert_plan_is_empty()?;

    terraform.main(&image(&elsewhere, &digest))?;
    ensure!(terraform.plan()?.change("weft_image.it") == Change::Update);
    terraform.apply_plan()?;
    ensure!(terraform.state()?.text("weft_image.it", "id")? == id, "it was replaced");
    ensure!(site.requests("/moved/one.raw").is_empty(), "what is there was fetched again");
    terraform.assert_plan_is_empty()?;

    terraform.main(&image(&next, &other_digest))?;
    ensure!(terraform.plan()?.change("weft_image.it") == Change::Replace);
    terraform.apply_plan()?;
    let state = terraform.state()?;
    ensure!(state.text("weft_image.it", "id")? != id, "it was not replaced");
    ensure!(state.attribute("weft_image.it", "virtual_size_bytes")? == 2 << 20);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn an_agent_killed_in_a_download_fetches_only_the_rest() -> Result<()> {
    const SIZE: usize = 16 << 20;
    const WAITS_AT: usize = 9 << 20;
    let mut lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    let site = Site::start()?;
    let bytes = disk(3, SIZE);
    let digest = sha256(lab.directory(), &bytes)?;
    let url = site.put("/large.raw", Page { waits_at: Some(WAITS_AT), ..Page::new(bytes) });
    terraform.main(&image(&url, &digest))?;

    let mut apply = terraform.start_apply()?;
    eventually("half of the image is sent", within(), || {
        let requests = site.requests("/large.raw");
        Ok(requests.first().is_some_and(|first| first.sent == WAITS_AT).then_some(()))
    })?;
    // What the server has sent is on its way to the agent's disk; a MiB at once is appended.
    std::thread::sleep(std::time::Duration::from_secs(2));
    ensure!(apply.is_running()?, "the apply did not wait for the image");
    lab.agent().kill_9()?;
    site.release("/large.raw");
    lab.start_agent()?;
    // The provider asks again by itself; if it gave up, the next apply goes on.
    apply.finish(within() * 3)?;
    terraform.apply()?;

    let requests = site.requests("/large.raw");
    let again: Vec<_> = requests.iter().skip(1).collect();
    ensure!(
        matches!(again.as_slice(), [rest] if rest.from >= WAITS_AT - (2 << 20)
            && rest.sent == SIZE - rest.from),
        "not only the rest was fetched: {requests:?}"
    );
    ensure!(terraform.state()?.text("weft_image.it", "digest")? == digest);
    ensure!(lab.count("images")? == 1);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}
