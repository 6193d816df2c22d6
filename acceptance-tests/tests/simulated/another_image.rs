//! Another image for an instance that exists: it replaces the instance, or is recorded only.

use anyhow::{Result, ensure};
use weft_acceptance::{Change, Lab};

const INSTANCE: &str = "weft_instance.it";

fn image(name: &str, file: &str, more: &str) -> String {
    format!(
        "resource \"weft_image\" \"{name}\" {{\n  name         = \"{name}\"\n  source_path  = \
         \"../{file}\"\n  default_user = \"weft\"\n{more}}}\n"
    )
}

fn instance(image: &str, replaces: bool) -> String {
    format!(
        "resource \"weft_instance\" \"it\" {{\n  image_id      = weft_image.{image}.id\n  \
         instance_type = \"w1.nano\"\n  replace_on_image_change = {replaces}\n}}\n"
    )
}

/// A raw disk of 1 MiB, all of one byte.
fn write(lab: &Lab, file: &str, byte: u8) -> Result<()> {
    Ok(std::fs::write(lab.directory().join(file), vec![byte; 1 << 20])?)
}

#[test]
fn new_content_in_an_images_file_replaces_image_and_instance_in_one_apply() -> Result<()> {
    for lifecycle in ["", "  lifecycle {\n    create_before_destroy = true\n  }\n"] {
        let lab = Lab::simulated()?;
        let terraform = lab.terraform()?;
        write(&lab, "one.raw", 1)?;
        terraform.main(&format!(
            "{}{}",
            image("one", "one.raw", lifecycle),
            instance("one", true)
        ))?;
        terraform.apply()?;
        terraform.assert_plan_is_empty()?;
        let id = terraform.state()?.text(INSTANCE, "id")?;

        write(&lab, "one.raw", 2)?;
        let plan = terraform.plan()?;
        ensure!(plan.change("weft_image.one") == Change::Replace, "{}", plan.text());
        ensure!(plan.change(INSTANCE) == Change::Replace, "{}", plan.text());
        terraform.apply_plan()?;
        let state = terraform.state()?;
        ensure!(state.text(INSTANCE, "id")? != id, "the instance was not replaced");
        ensure!(state.text(INSTANCE, "image_id")? == state.text("weft_image.one", "id")?);
        ensure!(state.attribute(INSTANCE, "image_outdated")? == false);
        terraform.assert_plan_is_empty()?;
        terraform.destroy()?;
        lab.close()?;
    }
    Ok(())
}

#[test]
fn another_image_is_recorded_only_until_it_may_replace() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    write(&lab, "one.raw", 1)?;
    write(&lab, "two.raw", 2)?;
    let images = image("one", "one.raw", "") + &image("two", "two.raw", "");
    terraform.main(&format!("{images}{}", instance("one", false)))?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let id = terraform.state()?.text(INSTANCE, "id")?;

    terraform.main(&format!("{images}{}", instance("two", false)))?;
    let plan = terraform.plan()?;
    ensure!(plan.change(INSTANCE) == Change::Update, "{}", plan.text());
    ensure!(plan.text().contains("The instance keeps its old image"), "{}", plan.text());
    terraform.apply_plan()?;
    let state = terraform.state()?;
    ensure!(state.text(INSTANCE, "id")? == id, "the instance was replaced");
    ensure!(state.attribute(INSTANCE, "image_outdated")? == true);
    terraform.assert_plan_is_empty()?;
    terraform.forget_and_import(INSTANCE)?;
    terraform.assert_plan_is_empty()?;

    terraform.main(&format!("{images}{}", instance("two", true)))?;
    let plan = terraform.plan()?;
    ensure!(plan.change(INSTANCE) == Change::Replace, "{}", plan.text());
    terraform.apply_plan()?;
    let state = terraform.state()?;
    ensure!(state.text(INSTANCE, "id")? != id, "the instance was not replaced");
    ensure!(state.attribute(INSTANCE, "image_outdated")? == false);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn new_content_in_an_images_file_is_recorded_only() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    write(&lab, "one.raw", 1)?;
    terraform.main(&format!("{}{}", image("one", "one.raw", ""), instance("one", false)))?;
    terraform.apply()?;
    let id = terraform.state()?.text(INSTANCE, "id")?;

    write(&lab, "one.raw", 2)?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_image.one") == Change::Replace, "{}", plan.text());
    ensure!(plan.change(INSTANCE) == Change::Update, "{}", plan.text());
    ensure!(plan.is_unknown(INSTANCE, "image_outdated"), "{}", plan.text());
    // The image goes, what the instance's disk lies over stays.
    terraform.apply_plan()?;
    let state = terraform.state()?;
    ensure!(state.text(INSTANCE, "id")? == id, "the instance was replaced");
    ensure!(state.text(INSTANCE, "image_id")? == state.text("weft_image.one", "id")?);
    ensure!(state.attribute(INSTANCE, "image_outdated")? == true);
    terraform.assert_plan_is_empty()?;
    terraform.destroy()?;
    lab.close()
}

#[test]
fn content_that_changes_after_the_plan_is_not_applied_and_the_next_apply_is_good() -> Result<()> {
    let lab = Lab::simulated()?;
    let terraform = lab.terraform()?;
    write(&lab, "one.raw", 1)?;
    terraform.main(&format!("{}{}", image("one", "one.raw", ""), instance("one", true)))?;
    terraform.plan()?;
    write(&lab, "one.raw", 2)?;
    // Terraform's own words: a provider cannot know which of its plans is being applied.
    let refuses = || {
        let finished = terraform.run(&["apply", "-input=false", "-no-color", "plan.bin"])?;
        let said = finished.failure()?.text();
        ensure!(said.contains("inconsistent final plan"), "{said}");
        Ok(())
    };
    refuses()?;
    ensure!(lab.count("images")? == 0);
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;

    write(&lab, "one.raw", 3)?;
    terraform.plan()?;
    write(&lab, "one.raw", 4)?;
    refuses()?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    ensure!((lab.count("images")?, lab.count("instances")?) == (1, 1));
    terraform.destroy()?;
    lab.close()
}
