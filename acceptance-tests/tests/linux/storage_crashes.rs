//! The agent dies at each crash point of what is done to the disks of a real guest; and the guest
//! does. Only in `make accept`: many minutes. The simulated host has the first in `make test`, but
//! for the points within steps.

use anyhow::Result;
use weft_acceptance::{CrashStory, Lab, Victim, root_key};

use crate::storage_scene::Storage;

#[test]
fn an_agent_that_dies_at_each_point_of_storage_loses_and_leaves_nothing() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let scene = Storage::of_an_agent_that_dies(&lab)?;
    let Some(story) = CrashStory::new(lab, scene)? else { return Ok(()) };
    story.tell(1)?.close()
}

#[test]
fn an_agent_that_dies_at_each_point_of_an_encrypted_volume_loses_and_leaves_nothing() -> Result<()>
{
    let (_dir, key) = root_key()?;
    let flag = format!("--volume-key-file={}", key.display());
    let Some(lab) = Lab::thorough_with(&[&flag])? else { return Ok(()) };
    let scene = Storage::of_an_encrypted_volume(&lab)?;
    let Some(story) = CrashStory::new(lab, scene)? else { return Ok(()) };
    story.tell(1)?.close()
}

#[test]
fn a_guest_that_loses_power_at_each_point_of_storage_loses_and_leaves_nothing() -> Result<()> {
    let Some(lab) = Lab::thorough()? else { return Ok(()) };
    let scene = Storage::of_a_guest_that_dies(&lab)?;
    let Some(story) = CrashStory::new(lab, scene)? else { return Ok(()) };
    // What is done to files and to the guest; the store is the agent's alone.
    let meant = &["host.seal", "host.grow", "disk.", "guest.", "file.", "layer."];
    story.dies(Victim::Guests).only(meant).tell(1)?.close()
}
