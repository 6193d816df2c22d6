//! Terraform or the agent killed with -9 at random moments, 50 in all, under apply and destroy of
//! twenty instances: what comes next always gets there, with nothing doubled and nothing left.
//!
//! Terraform empties its local state file before it has rendered what it writes there
//! (`statemgr.Filesystem.writeState`), so that a kill can leave an empty one, and an apply without a
//! state makes everything again, whatever the provider does. The story then does what a person has to
//! do: it puts back the state from before the run, and the agent knows whatever came later.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use weft_acceptance::{Background, Lab, Terraform, eventually, within};

use crate::dice::Dice;
use crate::module::many;

const INSTANCES: usize = 20;
/// In each of the two tests.
const KILLS: u32 = 25;

const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];
const DESTROY: [&str; 4] = ["destroy", "-auto-approve", "-input=false", "-no-color"];

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Terraform,
    Agent,
}

struct Story {
    lab: Lab,
    terraform: Terraform,
    victim: Victim,
    dice: Dice,
    /// How often terraform left half a state file.
    torn: u32,
}

impl Story {
    fn new(victim: Victim) -> Result<Self> {
        let lab = Lab::simulated()?;
        let terraform = lab.terraform()?;
        terraform.main(&many(&lab, INSTANCES)?)?;
        Ok(Self { lab, terraform, victim, dice: Dice::new(), torn: 0 })
    }

    /// Runs terraform, and kills at a moment before `longest`. Returns whether somebody was killed
    /// at work, and whether terraform got to its end all the same.
    fn kill_under(&mut self, args: &[&str], longest: Duration) -> Result<(bool, bool)> {
        let before = std::fs::read(self.state_file()).ok();
        let mut run = self.terraform.start(args)?;
        let moment = longest.mul_f64(self.dice.roll(1000) as f64 / 1000.0);
        std::thread::sleep(moment);
        if !run.is_running()? {
            return Ok((false, run.finish(within())?.status.success()));
        }
        match self.victim {
            Victim::Terraform => {
                self.kill_terraform(run)?;
                self.mend_state(before)?;
                Ok((true, false))
            }
            Victim::Agent => {
                self.lab.agent().kill_9()?;
                self.lab.start_agent()?;
                // Whether it gets over it by itself is its own affair.
                Ok((true, run.finish(within())?.status.success()))
            }
        }
    }

    fn kill_terraform(&self, run: Background) -> Result<()> {
        run.signal(Signal::SIGKILL)?;
        run.finish(within())?;
        // The provider sees that its parent is gone; its session is dead then.
        eventually("the orphaned provider ends", within(), || {
            let mut processes = self.lab.processes().into_iter();
            let orphan = processes.any(|p| p.command.contains("terraform-provider-weft"));
            Ok((!orphan).then_some(()))
        })
    }

    fn state_file(&self) -> PathBuf {
        self.terraform.directory().join("terraform.tfstate")
    }

    /// Puts back the state from before the run where terraform left none that can be read.
    fn mend_state(&mut self, before: Option<Vec<u8>>) -> Result<()> {
        let file = self.state_file();
        let left = std::fs::read(&file).unwrap_or_default();
        let whole = serde_json::from_slice::<serde_json::Value>(&left).is_ok();
        let Some(before) = before.filter(|_| !whole) else { return Ok(()) };
        self.torn += 1;
        Ok(std::fs::write(file, before)?)
    }

    fn assert_all_is_there(&self) -> Result<()> {
        self.terraform.assert_plan_is_empty()?;
        let (instances, images) = (self.lab.count("instances")?, self.lab.count("images")?);
        ensure!((instances, images) == (INSTANCES, 1), "{instances} instances, {images} images");
        Ok(())
    }

    fn assert_nothing_is_left(&self) -> Result<()> {
        for kind in ["instances", "images", "keys", "rules"] {
            let of_a_new_agent = usize::from(kind == "rules");
            let count = self.lab.count(kind)?;
            ensure!(count == of_a_new_agent, "{count} {kind} are left");
        }
        Ok(())
    }
}

fn story(victim: Victim) -> Result<()> {
    let mut story = Story::new(victim)?;
    // How long it takes when nobody dies.
    let start = Instant::now();
    story.terraform.apply()?;
    let mut longest = [start.elapsed(); 2];
    let start = Instant::now();
    story.terraform.destroy()?;
    longest[1] = start.elapsed();
    story.assert_nothing_is_left()?;

    let (mut kills, mut ends, mut runs) = (0, 0, 0);
    let mut destroying = false;
    while kills < KILLS {
        runs += 1;
        ensure!(runs < 4 * KILLS, "terraform is always faster: {kills} kills in {runs} runs");
        let args = if destroying { DESTROY } else { APPLY };
        let (killed, finished) = story.kill_under(&args, longest[usize::from(destroying)])?;
        kills += u32::from(killed);
        if !finished {
            continue;
        }
        ends += 1;
        match destroying {
            true => story.assert_nothing_is_left()?,
            false => story.assert_all_is_there()?,
        }
        destroying = !destroying;
    }
    story.terraform.apply()?;
    story.assert_all_is_there()?;
    story.terraform.destroy()?;
    story.assert_nothing_is_left()?;
    let torn = story.torn;
    println!("{kills} kills in {runs} runs, {ends} got to their end, {torn} states were torn");
    drop(story.terraform);
    story.lab.close()
}

#[test]
fn terraform_killed_at_random_moments_converges() -> Result<()> {
    story(Victim::Terraform)
}

#[test]
fn an_agent_killed_at_random_moments_converges() -> Result<()> {
    story(Victim::Agent)
}
