//! The agent aborted at a sample of the crash points under real terraform: `fabric-agent`'s own tests
//! go to all of them with a client of their own.

use anyhow::Result;
use weft_acceptance::{CrashStory, Lab, Machine};

use crate::module::one_of_each;

/// Every so manyth point.
const EACH: usize = 7;

#[test]
fn an_agent_that_dies_at_a_point_converges_under_terraform() -> Result<()> {
    let lab = Lab::simulated()?;
    let created = one_of_each(&lab)?;
    let updated = created.replace("weft_instance_type.it.name", "\"w1.micro\"");
    let scene = Machine::new(created, updated);
    let Some(story) = CrashStory::new(lab, scene)? else { return Ok(()) };
    story.tell(EACH)?.close()
}
