//! Something dies at crash points of the agent under real terraform, a step at a time: the agent
//! itself, or the guests while it stands still.
//!
//! In one step the agent dies several times, each time at the first point that it comes to and where
//! it has not died yet: so a real guest has to be made for a few points together, not for each.

mod fate;
mod machine;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;
use crate::process::{Background, Finished, skipped, spawn};
use crate::terraform::Terraform;
use crate::wait::{eventually, within};

use fate::Fate;
pub use fate::Victim;
pub use machine::Machine;

/// How long after its connections a process may be there.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// What a step is done by.
#[derive(Clone, Debug)]
pub enum Act {
    /// `terraform apply` of this module.
    Apply(String),
    /// `terraform destroy`.
    Destroy,
    /// `weft` with these arguments.
    Weft(Vec<String>),
}

/// What a story is about: steps that lead back to where the first begins, and what must be true
/// after each of them, whatever has died meanwhile.
pub trait Scene {
    /// Made once, before the first step.
    ///
    /// # Errors
    /// It cannot be made.
    fn begin(&mut self, _lab: &Lab, _terraform: &Terraform) -> Result<()> {
        Ok(())
    }

    /// Names of the steps, in their order.
    fn steps(&self) -> &'static [&'static str];

    /// Whether anything dies in the step.
    fn has_deaths(&self, _step: &str) -> bool {
        true
    }

    /// Before the step, while everything lives.
    ///
    /// # Errors
    /// The story's own.
    fn before(&mut self, _lab: &Lab, _terraform: &Terraform, _step: &str) -> Result<()> {
        Ok(())
    }

    /// Ends the guests, where they are what dies: unless the story knows another way, by SIGKILL to
    /// their hypervisors, which is power loss to them.
    ///
    /// # Errors
    /// They live on.
    fn end_guests(&mut self, lab: &Lab, _terraform: &Terraform) -> Result<()> {
        kill_hypervisors(lab)
    }

    /// What is done.
    fn act(&self, step: &str) -> Act;

    /// After the step, while everything lives.
    ///
    /// # Errors
    /// Something was lost, doubled, or is left.
    fn check(&mut self, lab: &Lab, terraform: &Terraform, step: &str) -> Result<()>;

    /// After the last step.
    ///
    /// # Errors
    /// Something is left.
    fn end(&mut self, _lab: &Lab, _terraform: &Terraform) -> Result<()> {
        Ok(())
    }
}

/// A scene, and what dies in it.
#[derive(Debug)]
pub struct CrashStory<S> {
    lab: Lab,
    terraform: Terraform,
    scene: S,
    victim: Victim,
    /// How the names of the points begin that are meant.
    prefixes: &'static [&'static str],
}

impl<S: Scene> CrashStory<S> {
    /// The agent dies in it, at all points. `None`, said on standard output, where there is no agent
    /// with crash points.
    ///
    /// # Errors
    /// The provider is not built, or there is no terraform.
    pub fn new(mut lab: Lab, scene: S) -> Result<Option<Self>> {
        if let Err(error) = lab.agent().use_crash_points() {
            skipped(&format!("{error:#}"));
            lab.close()?;
            return Ok(None);
        }
        let terraform = lab.terraform()?;
        Ok(Some(Self { lab, terraform, scene, victim: Victim::Agent, prefixes: &[""] }))
    }

    /// Only points whose names begin with one of these are meant.
    #[must_use]
    pub fn only(self, prefixes: &'static [&'static str]) -> Self {
        Self { prefixes, ..self }
    }

    /// Something else dies.
    #[must_use]
    pub fn dies(self, victim: Victim) -> Self {
        Self { victim, ..self }
    }

    /// Finds out which points each step passes, then lets die at every `each`th of them, and looks
    /// after each step whether all is as it should be. Gives the lab back, to be closed.
    ///
    /// # Errors
    /// Something did not converge, was lost, doubled or left; or points were not reached.
    pub fn tell(mut self, each: usize) -> Result<Lab> {
        self.scene.begin(&self.lab, &self.terraform)?;
        let points = self.points()?;
        let counts: Vec<usize> = points.iter().map(Vec::len).collect();
        eprintln!("points of {:?}: {counts:?}", self.scene.steps());
        ensure!(counts.iter().any(|count| *count > 0), "an agent without crash points");
        let mut left: Vec<BTreeSet<String>> =
            points.into_iter().map(|of_step| of_step.into_iter().step_by(each).collect()).collect();
        let count = |left: &[BTreeSet<String>]| left.iter().map(BTreeSet::len).sum::<usize>();
        let all = count(&left);
        loop {
            let before = count(&left);
            self.cycle(&mut left)?;
            // Which points come after a crash depends on what was done before it: some that a whole
            // run passes are passed in no other.
            if count(&left) == 0 || count(&left) == before {
                break;
            }
        }
        self.scene.end(&self.lab, &self.terraform)?;
        let died = all - count(&left);
        eprintln!(
            "{:?}: {died} deaths at {all} points; losses 0, leftovers 0; not reached: {left:?}",
            self.victim
        );
        ensure!(died * 10 >= all * 9, "only {died} of {all} points were reached: {left:?}");
        Ok(self.lab)
    }

    /// The points of each step, in the order in which they were first passed.
    fn points(&mut self) -> Result<Vec<Vec<String>>> {
        let log = self.lab.directory().join("points");
        let path = log.to_str().context("the path is no text")?.to_owned();
        let mut points = Vec::new();
        for step in self.scene.steps() {
            self.whole_step(step, &mut Fate::only_seen(&path)).with_context(|| step.to_string())?;
            let mut of_step = passed(&log);
            of_step.retain(|point| self.prefixes.iter().any(|prefix| point.starts_with(prefix)));
            points.push(if self.scene.has_deaths(step) { of_step } else { Vec::new() });
        }
        Ok(points)
    }

    /// All steps, each with its own deaths. The points that were reached are taken out of `left`.
    fn cycle(&mut self, left: &mut [BTreeSet<String>]) -> Result<()> {
        for (points, step) in left.iter_mut().zip(self.scene.steps()) {
            let mut fate = Fate::new(self.victim, std::mem::take(points));
            let done = self.whole_step(step, &mut fate);
            done.with_context(|| format!("{step} with deaths at {:?}", fate.reached))?;
            *points = fate.points;
        }
        Ok(())
    }

    fn whole_step(&mut self, step: &str, fate: &mut Fate) -> Result<()> {
        self.scene.before(&self.lab, &self.terraform, step)?;
        self.step(step, fate)?;
        self.scene.check(&self.lab, &self.terraform, step)
    }

    /// Starts the agent with what lies before it, again if it dies before it answers: what a start
    /// finds to do has points too.
    fn start_agent(&mut self, fate: &mut Fate) -> Result<()> {
        loop {
            let environment = fate.environment();
            let environment: Vec<_> =
                environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            self.lab.agent().set_environment(&environment);
            let Err(error) = self.lab.start_agent() else { return Ok(()) };
            fate.agent_died(&self.lab.agent().log()).with_context(|| format!("{error:#}"))?;
            self.lab.agent().stop()?;
        }
    }

    /// One step. Each time the agent dies in it, it is started again; the client runs until it
    /// succeeds.
    fn step(&mut self, step: &str, fate: &mut Fate) -> Result<()> {
        self.lab.agent().stop()?;
        self.start_agent(fate)?;
        let act = self.scene.act(step);
        let mut client = self.start(&act)?;
        eventually("the client ends, however often something dies", within() * 4, || {
            if self.lab.agent().has_ended()? {
                fate.agent_died(&self.lab.agent().log())?;
                self.lab.agent().stop()?;
                self.start_agent(fate)?;
            }
            if self.lab.agent().is_paused() {
                let log = self.lab.agent().log();
                fate.agent_paused(&log)?;
                self.scene.end_guests(&self.lab, &self.terraform)?;
                self.lab.agent().resume()?;
            }
            Ok((!client.is_running()?).then_some(()))
        })?;
        let finished = client.finish(within())?;
        // What an answer sets going may come to the point later; what looks now must not.
        if self.has_died(finished.status.success())? {
            fate.agent_died(&self.lab.agent().log())?;
        }
        self.lab.agent().stop()?;
        self.start_agent(&mut Fate::default())?;
        if !finished.status.success() {
            ensure!(!fate.reached.is_empty(), "{}\nand nobody had died", finished.text());
            self.again(&act)?.success()?;
        } else if fate.has_ended_guests() {
            self.again(&act)?.success()?;
        }
        Ok(())
    }

    /// Whether the agent is gone, now that the client has ended.
    fn has_died(&mut self, client_succeeded: bool) -> Result<bool> {
        if client_succeeded {
            return self.lab.agent().has_ended();
        }
        // Connections of a process close a moment before it is gone: the client may know first.
        let gone = eventually("the agent is gone", GONE_WITHIN, || {
            Ok(self.lab.agent().has_ended()?.then_some(()))
        });
        Ok(gone.is_ok())
    }

    fn start(&self, act: &Act) -> Result<Background> {
        match act {
            Act::Apply(module) => {
                self.terraform.main(module)?;
                self.terraform.start_apply()
            }
            Act::Destroy => {
                self.terraform.start(&["destroy", "-auto-approve", "-input=false", "-no-color"])
            }
            Act::Weft(arguments) => {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                spawn(self.lab.weft_command(&arguments)?)
            }
        }
    }

    /// As somebody would who has seen it fail.
    fn again(&self, act: &Act) -> Result<Finished> {
        self.start(act)?.finish(within() * 4)
    }
}

/// Ends every hypervisor by SIGKILL, and returns when they are gone.
///
/// # Errors
/// One stays.
pub fn kill_hypervisors(lab: &Lab) -> Result<()> {
    for hypervisor in lab.hypervisors() {
        kill(Pid::from_raw(hypervisor.pid), Signal::SIGKILL).context("kill a hypervisor")?;
    }
    eventually("the hypervisors end", within(), || Ok(lab.hypervisors().is_empty().then_some(())))
}

/// The points that a step passed, each once.
fn passed(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let _ = std::fs::remove_file(log);
    let mut points: Vec<String> = Vec::new();
    for name in text.lines() {
        if !points.iter().any(|point| point == name) {
            points.push(name.to_owned());
        }
    }
    points
}
