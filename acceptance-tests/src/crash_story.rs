//! The agent aborted at crash points under real terraform, a step at a time.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::lab::Lab;
use crate::process::skipped;
use crate::terraform::Terraform;
use crate::wait::{eventually, within};

const STEPS: [&str; 3] = ["create", "update", "destroy"];

/// A module of which one part changes, and the agent that dies under it.
#[derive(Debug)]
pub struct CrashStory {
    lab: Lab,
    terraform: Terraform,
    created: String,
    updated: String,
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
        Ok(Some(Self { lab, terraform, created, updated }))
    }

    /// Finds out which points each step passes, then has the agent die at every `each`th of them,
    /// and looks after each step whether all is as it should be.
    ///
    /// # Errors
    /// Something did not converge, was doubled or was left; or points were not reached.
    pub fn tell(mut self, each: usize) -> Result<()> {
        let points = self.points()?;
        let counts: Vec<usize> = points.iter().map(Vec::len).collect();
        eprintln!("points of {STEPS:?}: {counts:?}");
        ensure!(counts.iter().all(|count| *count > 0), "an agent without crash points");
        let points = points.map(|of_step| of_step.into_iter().step_by(each).collect::<Vec<_>>());
        let all: usize = points.iter().map(Vec::len).sum();
        let mut died = 0;
        for cycle in 0..points.iter().map(Vec::len).max().unwrap_or_default() {
            died += self.cycle([0, 1, 2].map(|step| points[step].get(cycle)))?;
        }
        eprintln!("{died} crashes at {all} points");
        ensure!(died * 10 >= all * 9, "only {died} of {all} points were reached");
        drop(self.terraform);
        self.lab.close()
    }

    /// The points of each step, in the order of their names.
    fn points(&mut self) -> Result<[Vec<String>; 3]> {
        let log = self.lab.directory().join("points");
        let mut points: [Vec<String>; 3] = Default::default();
        for (of_step, step) in points.iter_mut().zip(STEPS) {
            let path = log.to_str().context("the path is no text")?;
            self.step(step, &[("WEFT_CRASH_LOG", path)])?;
            *of_step = passed(&log).into_iter().collect();
            if step != "destroy" {
                self.assert_runs()?;
            }
        }
        Ok(points)
    }

    /// One step with this environment of the agent; if the agent dies in it, it is started again
    /// and terraform runs until it succeeds. Returns whether it died.
    fn step(&mut self, step: &str, environment: &[(&'static str, &str)]) -> Result<bool> {
        self.lab.agent().stop()?;
        self.lab.agent().set_environment(environment);
        // It may die before it answers: what a start finds to do has points too.
        let mut died = self.lab.start_agent().is_err();
        self.lab.agent().set_environment(&[]);
        if died {
            self.lab.agent().stop()?;
            self.lab.start_agent()?;
        }
        let args = match step {
            "destroy" => ["destroy", "-auto-approve", "-input=false", "-no-color"],
            _ => ["apply", "-auto-approve", "-input=false", "-no-color"],
        };
        self.terraform.main(if step == "create" { &self.created } else { &self.updated })?;
        let mut run = self.terraform.start(&args)?;
        eventually("terraform ends, or the agent does", within() * 2, || {
            if self.lab.agent().has_ended()? {
                died = true;
                self.lab.agent().stop()?;
                self.lab.start_agent()?;
            }
            Ok((!run.is_running()?).then_some(()))
        })?;
        if !run.finish(within())?.status.success() {
            ensure!(died, "terraform failed, and nobody had died");
            self.terraform.run(&args)?.success()?;
        }
        // What an answer sets going may come to the point later; what looks now must not.
        died |= self.lab.agent().has_ended()?;
        self.lab.agent().stop()?;
        self.lab.start_agent()?;
        Ok(died)
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
        match self.lab.outside() {
            Ok(_) => self.lab.assert_instance_is_gone(id, address),
            Err(_) => Ok(()),
        }
    }

    /// Create, update, destroy, each with its own crash. Returns in which it came.
    fn cycle(&mut self, points: [Option<&String>; 3]) -> Result<usize> {
        let mut died = 0;
        let mut made = (String::new(), String::new());
        for (step, point) in STEPS.into_iter().zip(points) {
            let told = || format!("{step} with a crash at {point:?}");
            let environment: Vec<_> =
                point.iter().map(|point| ("WEFT_CRASH_AT", point.as_str())).collect();
            died += usize::from(self.step(step, &environment).with_context(told)?);
            match step {
                "destroy" => self.assert_gone(&made.0, &made.1),
                _ => self.assert_runs().map(|it| made = it),
            }
            .with_context(told)?;
        }
        Ok(died)
    }
}

/// The points that a step passed, and which were passed before it too.
fn passed(log: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let _ = std::fs::remove_file(log);
    text.lines().map(str::to_owned).collect()
}
