//! A release as the registries want it: packed the same each time, and installed by `terraform init`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Lab, binaries, on_path, repository, run, within};

use crate::module::image;

/// The provider under test as small as a release has it.
fn stripped(lab: &Lab) -> Result<PathBuf> {
    let stripped = lab.directory().join("terraform-provider-weft");
    let mut strip = Command::new(on_path("strip").context("strip, of binutils")?);
    strip.arg("-o").arg(&stripped).arg(binaries()?.join("terraform-provider-weft"));
    run(strip, within())?.success()?;
    Ok(stripped)
}

/// What `scripts/release.sh` packs, by name.
fn packed(binary: &Path, out: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut command = Command::new(repository().join("scripts/release.sh"));
    command.arg("--binary").arg(binary).arg("--out").arg(out);
    run(command, within())?.success()?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(out)? {
        let entry = entry?;
        files
            .push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

#[test]
fn a_release_is_packed_alike_each_time_and_installed_from_a_mirror() -> Result<()> {
    let lab = Lab::simulated()?;
    let (first, second) = (lab.directory().join("first"), lab.directory().join("second"));
    let binary = stripped(&lab)?;
    let files = packed(&binary, &first)?;
    ensure!(files == packed(&binary, &second)?, "the second time other bytes were packed");
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let version = env!("CARGO_PKG_VERSION");
    let zip = format!("terraform-provider-weft_{version}_linux_amd64.zip");
    let manifest = format!("terraform-provider-weft_{version}_manifest.json");
    let sums = format!("terraform-provider-weft_{version}_SHA256SUMS");
    ensure!(names == [sums.as_str(), zip.as_str(), manifest.as_str()], "{names:?}");
    let mut check = Command::new(on_path("sha256sum").context("sha256sum")?);
    check.current_dir(&first).args(["--check", "--strict", &sums]);
    run(check, within())?.success()?;

    // Where Terraform looks for packed providers: HOST/NAMESPACE/TYPE/ZIP.
    let mirror = lab.directory().join("mirror/registry.terraform.io/weft-cloud/weft");
    std::fs::create_dir_all(&mirror)?;
    std::fs::copy(first.join(&zip), mirror.join(&zip))?;
    let terraform = lab.terraform()?;
    let rc = format!(
        "provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n",
        lab.directory().join("mirror").display()
    );
    terraform.write("terraform.rc", &rc)?;
    terraform.main(&image(&lab)?)?;
    let said = terraform.run(&["init", "-input=false", "-no-color"])?.success()?;
    ensure!(
        said.text().contains(&format!("Installed weft-cloud/weft v{version}")),
        "{}",
        said.text()
    );
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}
