//! What lies before the agent and its guests in one step.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

/// How often the agent dies in one step, at most: terraform waits for it, but not for ever.
const CRASHES: usize = 6;

/// What dies at a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Victim {
    /// The agent, as by SIGKILL.
    #[default]
    Agent,
    /// The guests, while the agent stands still at the point: see [`super::Scene::end_guests`]. Once
    /// a step.
    Guests,
}

#[derive(Debug, Default)]
pub(super) struct Fate {
    victim: Victim,
    /// Where the agent writes down the points that it passes.
    log: Option<String>,
    /// Where something may die.
    pub(super) points: BTreeSet<String>,
    /// Where it died.
    pub(super) reached: Vec<String>,
}

impl Fate {
    pub(super) fn new(victim: Victim, points: BTreeSet<String>) -> Self {
        Self { victim, points, ..Self::default() }
    }

    /// Nothing dies; the points are written down.
    pub(super) fn only_seen(log: &str) -> Self {
        Self { log: Some(log.to_owned()), ..Self::default() }
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let log = self.log.iter().map(|path| ("WEFT_CRASH_LOG", path.clone()));
        let (variable, most) = match self.victim {
            Victim::Agent => ("WEFT_CRASH_AT", CRASHES),
            Victim::Guests => ("WEFT_PAUSE_AT", 1),
        };
        let dies = self.reached.len() < most && !self.points.is_empty();
        let all = || self.points.iter().cloned().collect::<Vec<_>>().join(",");
        log.chain(dies.then(|| (variable, all()))).collect()
    }

    /// `log` is the agent's, with its last words.
    pub(super) fn agent_died(&mut self, log: &str) -> Result<()> {
        self.has_come("aborting: crash point ", log).context("the agent just ended")
    }

    /// The agent stands still; `log` is its, with what it said before.
    pub(super) fn agent_paused(&mut self, log: &str) -> Result<()> {
        self.has_come("pausing: crash point ", log)
    }

    /// Whether guests have to be started again.
    pub(super) fn has_ended_guests(&self) -> bool {
        self.victim == Victim::Guests && !self.reached.is_empty()
    }

    fn has_come(&mut self, words: &str, log: &str) -> Result<()> {
        let said = log.rsplit_once(words).with_context(|| format!("it never said {words:?}"))?.1;
        let point = said.lines().next().unwrap_or_default();
        let point = self.points.take(point).with_context(|| format!("unasked at {point}"))?;
        self.reached.push(point);
        Ok(())
    }
}
