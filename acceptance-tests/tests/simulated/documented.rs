//! The examples of the documentation work as they are written: each is applied on a simulated host, with
//! what it takes for granted beside it.
//!
//! An example names things that it does not declare, because its page is about something else: they are
//! added (`documented/missing.rs`). What it looks up, by name or by a made-up id, is there
//! (`documented/fabric.rs`).

#[path = "documented/fabric.rs"]
mod fabric;
#[path = "documented/missing.rs"]
mod missing;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{repository, terraform_of_version};

use fabric::Fabric;

/// The newest Terraform: it knows all that the examples use.
const NEWEST: &str = "1.15.5";

/// What cannot be applied here, and why it is planned only.
const ONLY_PLANNED: [(&str, &str); 3] = [
    ("weft_image_alias", "the image would be fetched from its publisher"),
    ("parse_id", "it asks for a variable"),
    ("weft_console_token", "its program would call an agent on another machine"),
];

#[test]
fn examples_of_resources_are_applied() -> Result<()> {
    apply_all(&["resources"])
}

#[test]
fn examples_of_data_sources_are_applied() -> Result<()> {
    apply_all(&["data-sources"])
}

#[test]
fn examples_of_functions_and_actions_are_applied() -> Result<()> {
    apply_all(&["functions", "actions", "ephemeral-resources"])
}

#[test]
fn guides_are_applied() -> Result<()> {
    let Some(fabric) = fabric()? else { return Ok(()) };
    for guide in ["first-instance", "security-groups", "from-aws", "from-libvirt"] {
        let path = repository().join("docs/guides").join(guide).with_extension("md");
        let text = std::fs::read_to_string(&path)?;
        apply(&fabric, guide, &blocks(&text)).with_context(|| format!("guide {guide}"))?;
    }
    fabric.close()
}

fn fabric() -> Result<Option<Fabric>> {
    let Some(program) = terraform_of_version(NEWEST)? else { return Ok(None) };
    Fabric::new(program)
}

/// Every example in these folders of `examples/`.
fn apply_all(folders: &[&str]) -> Result<()> {
    let Some(fabric) = fabric()? else { return Ok(()) };
    let mut count = 0;
    for folder in folders {
        for directory in entries(&repository().join("examples").join(folder))? {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // How to import has stories of its own (imports.rs).
            let is_example = |file: &PathBuf| {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.ends_with(".tf") && !name.starts_with("import")
            };
            for file in entries(&directory)?.into_iter().filter(is_example) {
                let hcl = std::fs::read_to_string(&file)?;
                apply(&fabric, &name, &hcl).with_context(|| file.display().to_string())?;
                count += 1;
            }
        }
    }
    println!("{count} examples");
    ensure!(count > 0, "there are no examples in {folders:?}");
    fabric.close()
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut entries = read.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn apply(fabric: &Fabric, name: &str, hcl: &str) -> Result<()> {
    let terraform = fabric.module(hcl)?;
    if let Some((_, why)) = ONLY_PLANNED.iter().find(|(only, _)| *only == name) {
        println!("{name}: planned only, {why}");
        let planned = terraform.run(&[
            "plan",
            "-input=false",
            "-no-color",
            "-var=target=i-11111111111111111",
        ])?;
        // A variable that the example does not have is an error of another kind.
        let planned = match planned.text().contains("undeclared variable") {
            true => terraform.run(&["plan", "-input=false", "-no-color"])?,
            false => planned,
        };
        planned.success()?;
        return Ok(());
    }
    terraform.apply()?;
    terraform.destroy()?;
    Ok(())
}

/// The blocks of a page that are marked as Terraform's, as one module.
fn blocks(page: &str) -> String {
    let mut module = String::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line.trim_end()) {
            (false, "```terraform") => inside = true,
            (true, "```") => inside = false,
            (true, line) => {
                module.push_str(line);
                module.push('\n');
            }
            (false, _) => {}
        }
    }
    module
}

#[test]
fn only_terraforms_blocks_of_a_page_count() {
    let page = "a\n```terraform\nx = 1\n```\n```hcl\ny = 2\n```\n\n```terraform\nz = 3\n```\n";
    assert_eq!(blocks(page), "x = 1\nz = 3\n");
}
