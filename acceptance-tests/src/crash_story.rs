//! The agent aborted at crash points under real terraform, a step at a time.
//!
//! In one step it dies several times, each time at the first point that it comes to and where it has
//! not died yet: so a real guest has to be made for a few points together, not for each.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::lab::Lab;
use crate::process::skipped;
use crate::terraform::Terraform;
use crate::wait::{eventually, within};

const STEPS: [&str; 3] = ["create", "update", "destroy"];
/// How often the agent dies in one step, at most: terraform waits for it, but not for ever.
const CRASHES: usize = 6;

/// What lies before the agent in one step.
#[derive(Debug, Default)]
struct Fate {
    /// Where it writes down the points that it passes.
    log: Option<String>,
    /// Where it may die.
    points: BTreeSet<String>,
    /// Where it died.
    reached: Vec<String>,
}

impl Fate {
    fn environment(&self) -> Vec<(&'static str, String)> {
        let log = self.log.iter().map(|path| ("WEFT_CRASH_LOG", path.clone()));
        let dies = self.reached.len() < CRASHES && !self.points.is_empty();
        let all = || self.points.iter().cloned().collect::<Vec<_>>().join(",");
        log.chain(dies.then(|| ("WEFT_CRASH_AT", all()))).collect()
    }

    /// `log` is the agent's, with its last words.
    fn died(&mut self, log: &str) -> Result<()> {
        let said = log.rsplit_once("aborting: crash point ").context("the agent just ended")?.1;
        let point = said.lines().next().unwrap_or_default();
        let point = self.points.take(point).context("the agent died where it should not")?;
        self.reached.push(point);
        Ok(())
    }
}

/// A module of which one part changes, and the agent that dies under it.
#[derive(Debug)]
pub struct CrashStory {
    lab: Lab,
    terraform: Terraform,
    created: String,
    updated: String,
    /// How the names of the points begin that are meant.
    prefixes: &'static [&'static str],
}

impl CrashStory {
    /// With `weft_instance.it` in both modules; `updated` changes it in place. `None`, said on
    /// standard output, where there is no agent with crash points.
    ///
    /// # Errors
    /// The provider is not built, or there is no terraform.
    pub fn new(mut lab: Lab, created: String, updated: String) -> Result<Option<Self>> {
        if let Err(error) = lab.agent().use_crash_points() {
            skipped(&format!("{error:#}"));
            lab.close()?;
            return Ok(None);
        }
        let terraform = lab.terraform()?;
        Ok(Some(Self { lab, terraform, created, updated, prefixes: &[""] }))
    }

    /// Only points whose names begin with one of these are meant.
    #[must_use]
    pub fn only(self, prefixes: &'static [&'static str]) -> Self {
        Self { prefixes, ..self }
    }

    /// Finds out which points each step passes, then has the agent die at every `each`th of them,
    /// and looks after each step whether all is as it should be. Gives the lab back, to be closed.
    ///
    /// # Errors
    /// Something did not converge, was doubled or was left; or points were not reached.
    pub fn tell(mut self, each: usize) -> Result<Lab> {
        let points = self.points()?;
        let counts: Vec<usize> = points.iter().map(Vec::len).collect();
        eprintln!("points of {STEPS:?}: {counts:?}");
        ensure!(counts[0] > 0, "an agent without crash points");
        let mut left =
            points.map(|of_step| of_step.into_iter().step_by(each).collect::<BTreeSet<_>>());
        let count = |left: &[BTreeSet<String>; 3]| left.iter().map(BTreeSet::len).sum::<usize>();
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
        let died = all - count(&left);
        eprintln!("{died} crashes at {all} points; not reached: {left:?}");
        ensure!(died * 10 >= all * 9, "only {died} of {all} points were reached: {left:?}");
        Ok(self.lab)
    }

    /// The points of each step, in the order in which they were first passed.
    fn points(&mut self) -> Result<[Vec<String>; 3]> {
        let log = self.lab.directory().join("points");
        let mut points: [Vec<String>; 3] = Default::default();
        for (of_step, step) in points.iter_mut().zip(STEPS) {
            let path = log.to_str().context("the path is no text")?.to_owned();
            self.step(step, &mut Fate { log: Some(path), ..Fate::default() })?;
            *of_step = passed(&log);
            of_step.retain(|point| self.prefixes.iter().any(|prefix| point.starts_with(prefix)));
            if step != "destroy" {
                self.assert_runs()?;
            }
        }
        Ok(points)
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
            fate.died(&self.lab.agent().log()).with_context(|| format!("{error:#}"))?;
            self.lab.agent().stop()?;
        }
    }

    /// One step; each time the agent dies in it, it is started again, and terraform runs until it
    /// succeeds.
    fn step(&mut self, step: &str, fate: &mut Fate) -> Result<()> {
        self.lab.agent().stop()?;
        self.start_agent(fate)?;
        let args = match step {
            "destroy" => ["destroy", "-auto-approve", "-input=false", "-no-color"],
            _ => ["apply", "-auto-approve", "-input=false", "-no-color"],
        };
        self.terraform.main(if step == "create" { &self.created } else { &self.updated })?;
        let mut run = self.terraform.start(&args)?;
        eventually("terraform ends, however often the agent does", within() * 4, || {
            if self.lab.agent().has_ended()? {
                fate.died(&self.lab.agent().log())?;
                self.lab.agent().stop()?;
                self.start_agent(fate)?;
            }
            Ok((!run.is_running()?).then_some(()))
        })?;
        // What an answer sets going may come to the point later; what looks now must not.
        if self.lab.agent().has_ended()? {
            fate.died(&self.lab.agent().log())?;
        }
        self.lab.agent().stop()?;
        self.start_agent(&mut Fate::default())?;
        if !run.finish(within())?.status.success() {
            ensure!(!fate.reached.is_empty(), "terraform failed, and nobody had died");
            self.terraform.run(&args)?.success()?;
        }
        Ok(())
    }

    fn assert_runs(&self) -> Result<(String, String)> {
        self.terraform.assert_plan_is_empty()?;
        let state = self.terraform.state()?;
        let id = state.text("weft_instance.it", "id")?;
        self.lab.wait_for_state(&id, "running")?;
        ensure!(self.lab.count("instances")? == 1 && self.lab.count("images")? == 1, "doubled");
        if self.lab.outside().is_ok() {
            ensure!(self.lab.hypervisors().len() == 1, "{:?}", self.lab.hypervisors());
        }
        Ok((id, state.text("weft_instance.it", "private_ip")?))
    }

    fn assert_gone(&self, id: &str, address: &str) -> Result<()> {
        for kind in ["instances", "images", "keys"] {
            ensure!(self.lab.count(kind)? == 0, "{kind} are left");
        }
        // Also for the next cycle's sake: what is still there is not uploaded again.
        let blobs = self.lab.directory().join("state/images/blobs/sha256");
        eventually("the image's blobs are removed", within(), || {
            Ok(std::fs::read_dir(&blobs)?.next().is_none().then_some(()))
        })?;
        match self.lab.outside() {
            Ok(_) => self.lab.assert_instance_is_gone(id, address),
            Err(_) => Ok(()),
        }
    }

    /// Create, update, destroy, each with its own crashes. The points where the agent died are taken
    /// out of `left`.
    fn cycle(&mut self, left: &mut [BTreeSet<String>; 3]) -> Result<()> {
        let mut made = (String::new(), String::new());
        for (points, step) in left.iter_mut().zip(STEPS) {
            let mut fate = Fate { points: std::mem::take(points), ..Fate::default() };
            let done = self.step(step, &mut fate).and_then(|()| match step {
                "destroy" => self.assert_gone(&made.0, &made.1),
                _ => self.assert_runs().map(|it| made = it),
            });
            done.with_context(|| format!("{step} with crashes at {:?}", fate.reached))?;
            *points = fate.points;
        }
        Ok(())
    }
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
