//! A display that an instance gets, and what is seen and done on it.

use anyhow::{Result, ensure};
use weft_acceptance::{Change, Lab};

use crate::module::{access, image, instance};
use crate::picture::Picture;
use crate::viewer::Viewer;

#[test]
fn a_display_comes_with_a_restart_and_is_seen_through_the_agent() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    let module =
        |more: &str| Ok::<_, anyhow::Error>(image("")? + &access(&key) + &instance("it", more));
    terraform.main(&module("")?)?;
    terraform.apply()?;
    let refused = lab.weft(&["screenshot", "it", "-o", "/nonexistent/it.png"])?.failure()?.text();
    ensure!(refused.contains("has no display") && refused.contains("display = true"), "{refused}");

    terraform.main(&module("display = true")?)?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_instance.it") == Change::Update, "{}", plan.text());
    ensure!(plan.text().contains("This change restarts the instance"), "{}", plan.text());
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    // The kernel writes to the serial port alone: the card still has the firmware's words.
    let picture = Picture::take(&lab, "it", "tiny.png")?;
    ensure!(picture.size == (720, 400), "{:?}", picture.size);
    ensure!(picture.colours() >= 2, "it is empty");

    let viewer = Viewer::connect(&lab, "it")?;
    ensure!(viewer.size == (720, 400), "{:?}", viewer.size);
    viewer.close()?;

    lab.weft(&["stop", "it"])?.success()?;
    let refused = lab.weft(&["vnc", "it"])?.failure()?.text();
    ensure!(refused.contains("is stopped"), "{refused}");
    terraform.destroy()?;
    lab.close()
}
