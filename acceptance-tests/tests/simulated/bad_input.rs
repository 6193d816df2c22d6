//! Bad input, and what a user reads: kept in `tests/golden/bad-*.txt`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p weft-acceptance bad_` writes the files anew; read them as a user
//! would.

#[path = "bad_input/actions.rs"]
mod actions;
#[path = "bad_input/cases.rs"]
mod cases;
#[path = "bad_input/certificates.rs"]
mod certificates;
#[path = "bad_input/images.rs"]
mod images;
#[path = "bad_input/rendered.rs"]
mod rendered;
#[path = "bad_input/wrong_use.rs"]
mod wrong_use;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Lab, on_path, repository, skipped, terraform_of_version, terraform_version};

use cases::{Case, Fails};

#[test]
fn bad_input_is_refused_in_the_words_of_the_golden_file() -> Result<()> {
    let lab = Lab::simulated()?;
    as_in_the_golden_file(lab, cases::all(), "bad-input.txt")
}

#[test]
fn bad_instances_are_refused_in_the_words_of_the_golden_file() -> Result<()> {
    let lab = Lab::simulated()?;
    let cases = cases::instances(&lab)?;
    as_in_the_golden_file(lab, cases, "bad-instances.txt")
}

#[test]
fn agents_out_of_reach_are_told_in_the_words_of_the_golden_file() -> Result<()> {
    let mut lab = Lab::simulated_on_tcp()?;
    let mut cases = cases::agents();
    cases.extend(certificates::all(&mut lab)?);
    as_in_the_golden_file(lab, cases, "bad-connections.txt")
}

#[test]
fn bad_images_are_refused_in_the_words_of_the_golden_file() -> Result<()> {
    if on_path("qemu-img").is_none() {
        skipped("there is no qemu-img, which checks the tables of qcow2 images");
        return Ok(());
    }
    let lab = Lab::simulated()?;
    let cases = images::all(lab.directory())?;
    as_in_the_golden_file(lab, cases, "bad-images.txt")
}

#[test]
fn functions_used_wrongly_are_refused_in_the_words_of_the_golden_file() -> Result<()> {
    if terraform_version()? != (1, 11) {
        skipped("the words around a function's own are Terraform's, here of 1.11");
        return Ok(());
    }
    let lab = Lab::simulated()?;
    let cases = wrong_use::all(&lab)?;
    as_in_the_golden_file(lab, cases, "bad-functions.txt")
}

#[test]
fn actions_used_wrongly_are_refused_in_the_words_of_the_golden_file() -> Result<()> {
    let version = "1.15.5";
    let Some(program) = terraform_of_version(version)? else { return Ok(()) };
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?.with_program(program);
    let text = HEADING.to_owned() + &actions::told(&lab, &terraform)?;
    compare(&text, &golden("bad-actions.txt"))?;
    lab.close()
}

/// How each golden file begins.
const HEADING: &str = "# Bad input, and what a user reads\n\n\
    Written by `tests/simulated/bad_input.rs`; paths and ids are put into words.\n";

fn golden(file: &str) -> PathBuf {
    repository().join("acceptance-tests/tests/golden").join(file)
}

fn as_in_the_golden_file(lab: Lab, cases: Vec<Case>, file: &str) -> Result<()> {
    let mut text = HEADING.to_owned();
    let things = || anyhow::Ok((lab.count("instances")?, lab.count("images")?, lab.count("keys")?));
    let before = things()?;
    for case in cases {
        let said = refuse(&lab, &case).with_context(|| format!("case \"{}\"", case.name))?;
        text.push_str(&format!(
            "\n## {}\n\n```hcl\n{}\n```\n{said}",
            case.name,
            rendered::normalise(case.shown.trim(), lab.directory())
        ));
    }
    let after = things()?;
    ensure!(before == after, "something was made: {before:?} became {after:?}");
    compare(&text, &golden(file))?;
    lab.close()
}

/// What plan and apply say, each with its heading.
fn refuse(lab: &Lab, case: &Case) -> Result<String> {
    let terraform = lab.terraform()?;
    if !case.before.is_empty() {
        terraform.main(&case.before)?;
        terraform.apply()?;
    }
    terraform.main(&format!("{}{}", case.before, case.hcl))?;
    let section = |heading: &str, text: &str| {
        let text = rendered::normalise(text, lab.directory());
        format!("\n{heading}:\n\n```\n{text}\n```\n")
    };
    // With colours, for only then Terraform draws its boxes, which tell where a message ends.
    let plan = terraform.run(&["plan", "-input=false"])?;
    let in_plan = rendered::diagnostics(&plan.text());
    let mut said = String::new();
    if !in_plan.is_empty() {
        said.push_str(&section("terraform plan", &in_plan));
    }
    match case.fails {
        Fails::InPlan => drop(plan.failure()?),
        Fails::InApply => {
            plan.success().context("the plan should not fail")?;
            let apply = terraform.run(&["apply", "-auto-approve", "-input=false"])?.failure()?;
            said.push_str(&section("terraform apply", &rendered::diagnostics(&apply.stderr)));
        }
    }
    // Other resources of the case may have been made, but not by a plan.
    if case.fails == Fails::InApply || !case.before.is_empty() {
        terraform.main("")?;
        terraform.apply()?;
    }
    Ok(said)
}

fn compare(text: &str, golden: &Path) -> Result<()> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(golden, text).context("write the golden file");
    }
    let expected = std::fs::read_to_string(golden).context("read the golden file")?;
    let different = text.lines().zip(expected.lines()).position(|(a, b)| a != b);
    ensure!(
        text == expected,
        "not as in {} (UPDATE_GOLDEN=1 writes it anew), first at line {}:\n  is:  {}\n  was: {}",
        golden.display(),
        different.map_or(0, |line| line + 1),
        different.and_then(|line| text.lines().nth(line)).unwrap_or_default(),
        different.and_then(|line| expected.lines().nth(line)).unwrap_or_default(),
    );
    Ok(())
}
