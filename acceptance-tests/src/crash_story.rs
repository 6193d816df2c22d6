//! The agent aborted at crash points under real terraform, a step at a time.
//!
//! In one step it dies several times, each time at a point that comes later: so a real guest has to
//! be made for a few points together, not for each.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::lab::Lab;
use crate::process::skipped;
use crate::terraform::Terraform;
use crate::wait::{eventually, within};

const STEPS: [&str; 3] = ["create", "update", "destroy"];
/// How often the agent dies in one step, at most.
const CRASHES: usize = 5;
/// How often a point is tried: which points come after a crash depends on what was done before it.
const TRIES: usize = 5;

/// What lies before the agent in one step.
#[derive(Debug, Default)]
struct Fate {
    /// Where it writes down the points that it passes.
    log: Option<String>,
    /// Where it dies, one after the other.
    points: VecDeque<String>,
    /// Where it died.
    reached: Vec<String>,
}

impl Fate {
    fn environment(&self) -> Vec<(&'static str, &str)> {
        let log = self.log.iter().map(|path| ("WEFT_CRASH_LOG", path.as_str()));
        let at = self.points.front().map(|point| ("WEFT_CRASH_AT", point.as_str()));
        log.chain(at).collect()
    }

    fn died(&mut self) -> Result<()> {
        let point = self.points.pop_front().context("the agent died where it should not")?;
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
        let mut left = points.map(|of_step| of_step.into_iter().step_by(each).collect::<Vec<_>>());
        let all: usize = left.iter().map(Vec::len).sum();
        let mut died = 0;
        for _ in 0..TRIES {
            let turn = std::mem::take(&mut left);
            let cycles = turn.iter().map(|of_step| of_step.len().div_ceil(CRASHES)).max();
            for cycle in 0..cycles.unwrap_or_default() {
                let missed = self.cycle(&[0, 1, 2].map(|step| spread(&turn[step], cycle)))?;
                for (left, missed) in left.iter_mut().zip(missed) {
                    left.extend(missed);
                }
            }
            died = all - left.iter().map(Vec::len).sum::<usize>();
        }
        eprintln!("{died} crashes at {all} points; not reached: {left:?}");
        ensure!(died * 10 >= all * 9, "only {died} of {all} points were reached");
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
            self.lab.agent().set_environment(&fate.environment());
            let Err(error) = self.lab.start_agent() else { return Ok(()) };
            fate.died().with_context(|| format!("{error:#}"))?;
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
                fate.died()?;
                self.lab.agent().stop()?;
                self.start_agent(fate)?;
            }
            Ok((!run.is_running()?).then_some(()))
        })?;
        // What an answer sets going may come to the point later; what looks now must not.
        if self.lab.agent().has_ended()? {
            fate.died()?;
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

    /// Create, update, destroy, each with its own crashes. Returns the points of each that the agent
    /// did not come to.
    fn cycle(&mut self, points: &[VecDeque<String>; 3]) -> Result<[VecDeque<String>; 3]> {
        let mut missed: [VecDeque<String>; 3] = Default::default();
        let mut made = (String::new(), String::new());
        for (missed, (step, points)) in missed.iter_mut().zip(STEPS.into_iter().zip(points)) {
            let mut fate = Fate { points: points.clone(), ..Fate::default() };
            let told = || format!("{step} with crashes at {points:?}");
            self.step(step, &mut fate).with_context(told)?;
            match step {
                "destroy" => self.assert_gone(&made.0, &made.1),
                _ => self.assert_runs().map(|it| made = it),
            }
            .with_context(told)?;
            // The one that did not come was in the way of the others.
            fate.points.rotate_left(fate.points.len().min(1));
            *missed = fate.points;
        }
        Ok(missed)
    }
}

/// The points of one cycle: a few that lie apart, so that the agent comes to one after the other.
fn spread(points: &[String], cycle: usize) -> VecDeque<String> {
    let cycles = points.len().div_ceil(CRASHES).max(1);
    match cycle < cycles {
        true => points.iter().skip(cycle).step_by(cycles).cloned().collect(),
        false => VecDeque::new(),
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
