//! Processor time: what a difference in seconds is made of.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

use crate::samples::Samples;

/// Of all processes that were started here and have ended, with theirs: terraform and its provider.
fn of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let seconds = |time: nix::sys::time::TimeVal| -> Result<Duration> {
        let (whole, micros) = (u64::try_from(time.tv_sec())?, u64::try_from(time.tv_usec())?);
        Ok(Duration::from_secs(whole) + Duration::from_micros(micros))
    };
    Ok(seconds(usage.user_time())? + seconds(usage.system_time())?)
}

/// Of one process that runs: fields 14 and 15 of its `stat` (proc_pid_stat(5)), in clock ticks.
fn of(pid: i32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything; what follows its last parenthesis is field 3 and on.
    let (_, rest) = stat.rsplit_once(')').context("stat has no name")?;
    let ticks = |field: usize| -> Result<f64> {
        let text = rest.split_whitespace().nth(field - 3).context("stat is too short")?;
        Ok(text.parse()?)
    };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(Duration::from_secs_f64((ticks(14)? + ticks(15)?) / per_second as f64))
}

/// What runs of terraform take.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// By the clock.
    pub(crate) seconds: Samples,
    /// Of terraform and its provider, in seconds of a processor.
    pub(crate) processor: Samples,
    /// Of the agent, in seconds of a processor.
    pub(crate) agent: Samples,
}

impl Cost {
    /// Measures one run; `agent` is the agent's process.
    pub(crate) fn time(&mut self, agent: i32, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = (of_children()?, of(agent)?);
        self.seconds.time(run)?;
        self.processor.push((of_children()? - before.0).as_secs_f64());
        self.agent.push((of(agent)? - before.1).as_secs_f64());
        Ok(())
    }

    /// Of terraform, the provider and the agent, in seconds: the sum of the medians.
    pub(crate) fn processor_seconds(&self) -> f64 {
        self.processor.median() + self.agent.median()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = of(own).unwrap();
        let mut sum = 0_u64;
        while of(own).unwrap() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(of(own).unwrap() > before);
    }
}
