//! Images by name: from a catalogue of one's own, by either digest, and without any server.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Change, Lab, Page, Site, run, within};

use crate::images_by_url::disk;

fn digest(program: &str, directory: &Path, bytes: &[u8]) -> Result<String> {
    let path = directory.join("digested");
    std::fs::write(&path, bytes)?;
    let mut command = Command::new(program);
    command.arg(&path);
    let said = run(command, within())?.success()?.stdout;
    said.split(' ').next().map(str::to_owned).with_context(|| format!("{program} said nothing"))
}

/// An image with all that its alias says.
fn image(name: &str) -> String {
    format!(
        r#"
data "weft_image_alias" "it" {{
  name = "{name}"
}}

resource "weft_image" "it" {{
  name         = "it"
  source_url   = data.weft_image_alias.it.url
  mirrors      = data.weft_image_alias.it.mirrors
  sha256       = data.weft_image_alias.it.sha256
  sha512       = data.weft_image_alias.it.sha512
  sha256_url   = data.weft_image_alias.it.sha256_url
  architecture = data.weft_image_alias.it.architecture
  boot_mode    = data.weft_image_alias.it.boot_mode
  default_user = data.weft_image_alias.it.default_user
  min_disk_gib = data.weft_image_alias.it.min_disk_gib
}}
"#
    )
}

fn entry(name: &str, url: &str, digest: &str) -> String {
    format!(
        "[[image]]\nname = \"{name}\"\narchitecture = \"x86_64\"\nurl = \"{url}\"\n{digest}\n\
         default_user = \"debian\"\nmin_disk_gib = 2\n"
    )
}

fn with_catalog(path: &Path, hcl: &str) -> String {
    format!("provider \"weft\" {{\n  image_catalog = \"{}\"\n}}\n{hcl}", path.display())
}

#[test]
fn an_own_catalogue_goes_before_the_built_in_one_by_each_kind_of_digest() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    let site = Site::start()?;
    let (one, two) = (disk(1, 3 << 20), disk(2, 2 << 20));
    let sha256 = |bytes: &[u8]| digest("sha256sum", lab.directory(), bytes);
    let (first, second) = (sha256(&one)?, sha256(&two)?);
    let sha512 = digest("sha512sum", lab.directory(), &one)?;
    let list = format!("{}  two.raw\n", digest("sha512sum", lab.directory(), &two)?);
    let one = site.put("/one.raw", Page::new(one));
    let two = site.put("/two.raw", Page::new(two));
    let list = site.put("/SHA512SUMS", Page::new(list));
    let catalog = lab.directory().join("catalog.toml");
    std::fs::write(
        &catalog,
        [
            entry("debian/13", &one, &format!("sha512 = \"{sha512}\"")),
            entry("house/1", &one, &format!("sha256 = \"{first}\"")),
            entry("house/2", &two, &format!("sha256_url = \"{list}\"")),
        ]
        .concat(),
    )?;

    terraform.main(&with_catalog(&catalog, &image("debian/13")))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let id = state.text("weft_image.it", "id")?;
    ensure!(state.text("weft_image.it", "digest")? == first);
    ensure!(state.text("weft_image.it", "default_user")? == "debian");
    ensure!(state.attribute("weft_image.it", "min_disk_gib")? == 2);
    terraform.assert_plan_is_empty()?;
    terraform.forget_and_import("weft_image.it")?;
    terraform.assert_plan_is_empty()?;

    // The same file by its other digest is the same image.
    terraform.main(&with_catalog(&catalog, &image("house/1")))?;
    ensure!(terraform.plan()?.change("weft_image.it") == Change::Update);
    terraform.apply_plan()?;
    ensure!(terraform.state()?.text("weft_image.it", "id")? == id);
    terraform.assert_plan_is_empty()?;

    terraform.main(&with_catalog(&catalog, &image("house/2")))?;
    ensure!(terraform.plan()?.change("weft_image.it") == Change::Replace);
    terraform.apply_plan()?;
    ensure!(terraform.state()?.text("weft_image.it", "digest")? == second);
    terraform.assert_plan_is_empty()?;
    ensure!(site.requests("/one.raw").len() == 1, "what is there was fetched again");

    terraform.main(&with_catalog(&catalog, &image("debain/13")))?;
    let told = terraform.try_plan()?.failure()?.text();
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(told.contains("The nearest are \"debian/13\", \"debian/12\""), "{told}");
    terraform.main(&with_catalog(&catalog, &image("house/2")))?;
    terraform.destroy()?;
    lab.close()
}

/// The built-in entries name servers that this machine need not reach.
#[test]
fn a_mirror_directory_stands_in_for_every_server() -> Result<()> {
    let mirror = tempfile::tempdir()?;
    let flag = mirror.path().display().to_string();
    let lab = Lab::simulated_with(&["--image-mirror", &flag])?;
    let terraform = lab.terraform()?;
    let bytes = disk(5, 3 << 20);
    let sha512 = digest("sha512sum", lab.directory(), &bytes)?;
    let keep = |path: &str, bytes: &[u8]| -> Result<()> {
        let path = mirror.path().join(path);
        std::fs::create_dir_all(path.parent().context("it lies nowhere")?)?;
        std::fs::write(path, bytes).context("write into the mirror")
    };
    keep("images.invalid/house/1.raw", &bytes)?;
    keep("images.invalid/house/SHA512SUMS", format!("{sha512}  1.raw\n").as_bytes())?;
    let catalog = lab.directory().join("catalog.toml");
    let url = "https://images.invalid/house/1.raw";
    let pinned = format!("sha512 = \"{sha512}\"");
    let listed = "sha256_url = \"https://images.invalid/house/SHA512SUMS\"";
    std::fs::write(&catalog, [entry("a/1", url, &pinned), entry("a/2", url, listed)].concat())?;
    terraform.main(&with_catalog(&catalog, &image("a/1")))?;
    terraform.apply()?;
    let sha256 = digest("sha256sum", lab.directory(), &bytes)?;
    ensure!(terraform.state()?.text("weft_image.it", "digest")? == sha256);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    terraform.main(&with_catalog(&catalog, &image("a/2")))?;
    terraform.apply()?;
    ensure!(terraform.state()?.text("weft_image.it", "digest")? == sha256);
    terraform.destroy()?;

    // A damaged copy is no image, and is told by its path.
    let built_in = "cloud.debian.org/images/cloud/bookworm/20260923-2610/debian-12-genericcloud-amd64-20260923-2610.qcow2";
    keep(built_in, &bytes)?;
    terraform.main(&image("debian/12"))?;
    let told = terraform.try_apply()?.failure()?.text();
    let told: String = told.split(|c: char| c.is_whitespace() || c == '│').collect();
    ensure!(told.contains("itcamefromthemirror's"), "{told}");
    ensure!(told.contains(built_in), "{told}");
    ensure!(lab.count("images")? == 0);
    lab.close()
}
