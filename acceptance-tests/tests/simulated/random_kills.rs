//! Terraform or the agent killed with -9 at random moments, 20 each, under apply and destroy of fifty
//! instances at once (of twenty, where the agent dies): what comes next always gets there, with nothing doubled and nothing left.
//!
//! Terraform empties its local state file before it has rendered what it writes there
//! (`statemgr.Filesystem.writeState`), so that a kill can leave an empty one, and an apply without a
//! state makes everything again, whatever the provider does. The story then does what a person has to
//! do: it puts back the state from before the run, and the agent knows whatever came later. All but
//! one case: terraform writes its state once more when the provider has ended in good order, and with
//! that the agent takes all that was made for known. What is missing then has to be imported.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use weft_acceptance::{Background, Lab, Terraform, eventually, within};

use crate::dice::Dice;
use crate::module::many;

/// In each of the two tests.
const KILLS: u32 = 20;

const APPLY: [&str; 5] = ["apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=50"];
const DESTROY: [&str; 5] =
    ["destroy", "-auto-approve", "-input=false", "-no-color", "-parallelism=50"];

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Terraform,
    Agent,
}

impl Victim {
    /// An agent that was killed has to come up again each time, with all that it had.
    fn instances(self) -> usize {
        match self {
            Self::Terraform => 50,
            Self::Agent => 20,
        }
    }
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
        terraform.main(&many(&lab, victim.instances())?)?;
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
                kill_terraform(&self.lab, run)?;
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

    fn state_file(&self) -> PathBuf {
        self.terraform.directory().join("terraform.tfstate")
    }

    /// Puts back the state from before the run where terraform left none that can be read, and
    /// imports what the agent takes to be in it.
    fn mend_state(&mut self, before: Option<Vec<u8>>) -> Result<()> {
        let file = self.state_file();
        let Ok(left) = std::fs::read(&file) else { return Ok(()) };
        if serde_json::from_slice::<serde_json::Value>(&left).is_ok() {
            return Ok(());
        }
        self.torn += 1;
        match before {
            Some(before) => std::fs::write(&file, before)?,
            None => std::fs::remove_file(&file)?,
        }
        self.import_what_misses()
    }

    /// Imports what the agent has, that no later run would adopt, and that is not in the state.
    fn import_what_misses(&self) -> Result<()> {
        let state = match std::fs::read(self.state_file()) {
            Ok(state) => serde_json::from_slice(&state)?,
            Err(_none) => serde_json::Value::Null,
        };
        let resources = state["resources"].as_array().into_iter().flatten();
        let known: Vec<_> = resources
            .flat_map(|resource| resource["instances"].as_array().into_iter().flatten())
            .map(|instance| instance["attributes"]["id"].clone())
            .collect();
        for (kind, address) in [("images", "weft_image.it"), ("instances", "weft_instance.it")] {
            let unclaimed = self.lab.weft_json(&["ls", "--unclaimed", kind])?.to_string();
            let all = self.lab.weft_json(&["ls", kind])?;
            for object in all.as_array().context("a list")? {
                let id = object["id"].as_str().context("an id")?;
                if unclaimed.contains(id) || known.contains(&object["id"]) {
                    continue;
                }
                let name = object["name"].as_str().context("a name")?;
                let address = match name.strip_prefix("it-") {
                    Some(index) => format!("{address}[{index}]"),
                    None => address.to_owned(),
                };
                let import = ["import", "-input=false", "-no-color", &address, id];
                self.terraform.run(&import)?.success()?;
            }
        }
        Ok(())
    }

    /// The rare case, made: terraform dies in its last write, when the provider has ended already.
    fn assert_the_last_write_can_be_mended(&mut self) -> Result<()> {
        self.terraform.run(&["state", "rm", "weft_instance.it[3]", "weft_image.it"])?.success()?;
        let before = std::fs::read(self.state_file())?;
        std::fs::write(self.state_file(), "")?;
        self.mend_state(Some(before))?;
        self.assert_all_is_there()
    }

    fn assert_all_is_there(&self) -> Result<()> {
        self.terraform.assert_plan_is_empty()?;
        let (instances, images) = (self.lab.count("instances")?, self.lab.count("images")?);
        ensure!(
            (instances, images) == (self.victim.instances(), 1),
            "{instances} instances, {images} images"
        );
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

/// Kills terraform, and waits for the provider's end: it sees that its parent is gone, and its session is
/// dead then.
pub(crate) fn kill_terraform(lab: &Lab, run: Background) -> Result<()> {
    run.signal(Signal::SIGKILL)?;
    run.finish(within())?;
    eventually("the orphaned provider ends", within(), || {
        let mut processes = lab.processes().into_iter();
        let orphan = processes.any(|p| p.command.contains("terraform-provider-weft"));
        Ok((!orphan).then_some(()))
    })
}

fn story(victim: Victim) -> Result<()> {
    let mut story = Story::new(victim)?;
    // How long it takes when nobody dies.
    let start = Instant::now();
    story.terraform.run(&APPLY)?.success()?;
    let mut longest = [start.elapsed(); 2];
    story.assert_the_last_write_can_be_mended()?;
    let start = Instant::now();
    story.terraform.run(&DESTROY)?.success()?;
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
    story.terraform.run(&APPLY)?.success()?;
    story.assert_all_is_there()?;
    story.terraform.run(&DESTROY)?.success()?;
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
