//! Where the things under test are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("/"))
}

/// The directory of cargo's output for this profile, such as `target/debug`: programs lie in it,
/// tests in its `deps`.
///
/// # Errors
/// This program's own path cannot be found out.
pub fn binaries() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("find the path of this program")?;
    let directory = exe.parent().context("this program lies nowhere")?;
    let above = directory.parent().filter(|_| directory.ends_with("deps"));
    Ok(above.unwrap_or(directory).to_owned())
}

/// One of the programs under test.
pub(crate) fn binary(name: &str) -> Result<PathBuf> {
    let path = binaries()?.join(name);
    ensure!(
        path.is_file(),
        "{} is not built: cargo build -p fabric-agent -p weft -p terraform-provider-weft",
        path.display()
    );
    Ok(path)
}

/// `target`, whatever it is called.
pub(crate) fn target() -> Result<PathBuf> {
    let binaries = binaries()?;
    Ok(binaries.parent().context("no directory above the binaries")?.to_owned())
}

/// The program on PATH, if there is one.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let beside = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(beside).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Terraform: the one that `WEFT_TERRAFORM` names, with which `make accept` runs all stories again under
/// other versions; else on PATH, else where `scripts/setup.sh` puts it.
pub(crate) fn terraform() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEFT_TERRAFORM").map(PathBuf::from) {
        ensure!(path.is_file(), "WEFT_TERRAFORM names no file: {}", path.display());
        return Ok(path);
    }
    if let Some(path) = on_path("terraform") {
        return Ok(path);
    }
    let path = target()?.join("tools/bin/terraform");
    ensure!(path.is_file(), "there is no terraform: run scripts/setup.sh");
    Ok(path)
}

/// The version of the Terraform that stories run with: what it cannot do yet is skipped.
///
/// # Errors
/// It does not run.
pub fn terraform_version() -> Result<(u32, u32)> {
    let mut command = Command::new(terraform()?);
    command.args(["version", "-json"]).env("CHECKPOINT_DISABLE", "1");
    command.env_remove("TF_CLI_CONFIG_FILE");
    let said = crate::process::run(command, crate::wait::within())?.success()?.stdout;
    let said: Value = serde_json::from_str(&said).context("parse terraform's version")?;
    let version = text(&said, "terraform_version")?;
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| format!("{version} is no version"))
}

/// Terraform of exactly this version. Where it is not there, this says that the story is skipped.
///
/// # Errors
/// The tests lie in no directory of cargo's.
pub fn terraform_of_version(version: &str) -> Result<Option<PathBuf>> {
    let path = target()?.join(format!("tools/terraform-{version}/terraform"));
    if !path.is_file() {
        let set_up = "scripts/setup.sh --tests --accept gets it where it can";
        crate::process::skipped(&format!("Terraform {version} is not there: {set_up}"));
        return Ok(None);
    }
    Ok(Some(path))
}

/// A guest image on this machine, as its manifest tells.
#[derive(Clone, Debug)]
pub struct Image {
    /// The root disk.
    pub disk: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
    /// Who logs in.
    pub user: String,
}

/// A guest image that UEFI starts.
#[derive(Clone, Debug)]
pub struct UefiImage {
    /// The root disk.
    pub disk: PathBuf,
    /// Who logs in.
    pub user: String,
}

/// The small guest that `scripts/build-weft-tiny.sh` makes.
///
/// # Errors
/// It was not made.
pub fn weft_tiny() -> Result<Image> {
    built("weft-tiny", "scripts/build-weft-tiny.sh")
}

/// The full Debian with cloud-init that `scripts/build-debian.sh` makes.
///
/// # Errors
/// It was not made.
pub fn debian() -> Result<Image> {
    built("debian", "scripts/build-debian.sh")
}

/// The same with only cloud-init's Ec2 source enabled.
///
/// # Errors
/// It was not made.
pub fn debian_ec2() -> Result<Image> {
    built("debian-ec2", "scripts/build-debian.sh")
}

/// The same on a disk that UEFI starts.
///
/// # Errors
/// It was not made.
pub fn debian_uefi() -> Result<UefiImage> {
    built_for_uefi("debian-uefi", "scripts/build-debian.sh")
}

/// A Debian with a small desktop, which `scripts/build-debian-desktop.sh` makes.
///
/// # Errors
/// It was not made.
pub fn debian_desktop() -> Result<UefiImage> {
    built_for_uefi("debian-desktop", "scripts/build-debian-desktop.sh")
}

fn built_for_uefi(name: &str, script: &str) -> Result<UefiImage> {
    let (directory, manifest) = manifest(name, script)?;
    let text = |key: &str| text(&manifest, key);
    ensure!(text("boot_mode")? == "uefi", "{name} is not made for UEFI: run {script}");
    Ok(UefiImage { disk: directory.join(text("disk")?), user: text("user")? })
}

fn manifest(name: &str, script: &str) -> Result<(PathBuf, Value)> {
    let directory = target()?.join("images").join(name);
    let manifest = std::fs::read(directory.join("manifest.json"))
        .with_context(|| format!("the image {name} is not built: run {script}"))?;
    Ok((directory, serde_json::from_slice(&manifest).context("parse manifest.json")?))
}

fn text(manifest: &Value, key: &str) -> Result<String> {
    let value = manifest[key].as_str().map(str::to_owned);
    value.with_context(|| format!("manifest.json has no {key}"))
}

fn built(name: &str, script: &str) -> Result<Image> {
    let (directory, manifest) = manifest(name, script)?;
    let text = |key: &str| text(&manifest, key);
    Ok(Image {
        disk: directory.join(text("disk")?),
        kernel: directory.join(text("kernel")?),
        initrd: directory.join(text("initrd")?),
        cmdline: text("cmdline")?,
        user: text("user")?,
    })
}

/// Runs a helper program of the machine and gives its standard output.
pub(crate) fn output_of(program: &str, args: &[&str]) -> Result<String> {
    let path = on_path(program).with_context(|| format!("{program} is not installed"))?;
    let mut command = Command::new(path);
    command.args(args);
    Ok(crate::process::run(command, crate::wait::within())?.success()?.stdout)
}
