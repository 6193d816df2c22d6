//! A display that an instance gets, and what is seen and done on it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use weft_acceptance::{Change, Lab, eventually, spawn, within};

use crate::module::{access, image, instance};
use crate::picture::Picture;

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

    let socket = lab.directory().join("vnc.sock");
    let vnc = spawn(lab.weft_command(&["vnc", "it", "--socket", &socket.to_string_lossy()])?)?;
    let mut viewer =
        eventually("a place for viewers", within(), || Ok(UnixStream::connect(&socket).ok()))?;
    viewer.set_read_timeout(Some(within()))?;
    // RFC 6143, section 7.1: version, security "none", shared, and the size of the screen.
    let mut version = [0; 12];
    viewer.read_exact(&mut version)?;
    ensure!(&version == b"RFB 003.008\n", "{version:?}");
    viewer.write_all(&version)?;
    let mut security = [0; 2];
    viewer.read_exact(&mut security)?;
    ensure!(security == [1, 1], "{security:?}");
    viewer.write_all(&[1])?;
    let mut init = [0; 8];
    viewer.read_exact(&mut init[..4])?;
    viewer.write_all(&[1])?;
    viewer.read_exact(&mut init[4..])?;
    ensure!(
        init == [0, 0, 0, 0, 720_u16.to_be_bytes()[0], 720_u16.to_be_bytes()[1], 1, 144],
        "{init:?}"
    );
    vnc.signal(Signal::SIGINT)?;
    vnc.finish(within())?.success()?;
    ensure!(!socket.exists(), "the socket is left");

    lab.weft(&["stop", "it"])?.success()?;
    let refused = lab.weft(&["vnc", "it"])?.failure()?.text();
    ensure!(refused.contains("is stopped"), "{refused}");
    terraform.destroy()?;
    lab.close()
}
