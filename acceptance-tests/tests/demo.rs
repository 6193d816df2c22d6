//! `make demo` and `make demo-down`, as a new user meets them. Under a name of its own, so that a
//! demonstration that runs on this machine is not touched.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use weft_acceptance::{Background, Finished, eventually, repository, run, skipped, spawn, within};

const LIMIT: Duration = Duration::from_secs(600);

/// One demonstration; removed with this value.
struct Demo {
    name: String,
}

impl Demo {
    /// None, said in the output, where it cannot be, or is `slow` and not asked for.
    fn new(slow: bool) -> Option<Self> {
        let reason = if !geteuid().is_root() {
            "the demonstration needs root"
        } else if slow && std::env::var_os("WEFT_THOROUGH").is_none() {
            "this takes minutes and is left to make accept"
        } else {
            return Some(Self { name: format!("weft-demo-test{}", std::process::id()) });
        };
        skipped(reason);
        None
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(repository().join("scripts").join(script));
        command.env("WEFT_DEMO_NAME", &self.name);
        command
    }

    fn up(&self) -> Result<Finished> {
        run(self.command("demo.sh"), LIMIT)
    }

    fn start(&self) -> Result<Background> {
        spawn(self.command("demo.sh"))
    }

    fn down(&self) -> Result<Finished> {
        run(self.command("demo-down.sh"), LIMIT)
    }

    fn directory(&self) -> Result<PathBuf> {
        let exe = std::env::current_exe()?;
        let target = exe.ancestors().nth(3).context("the test lies nowhere")?;
        Ok(target.join(self.name.replacen("weft-demo", "demo", 1)))
    }

    fn agent(&self) -> Result<i32> {
        let path = self.directory()?.join("agent.pid");
        std::fs::read_to_string(path)?.trim().parse().context("no process id")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.down();
    }
}

/// What `uname -a` says in the guest.
fn assert_logged_in(said: &Finished) -> Result<()> {
    let line = said.stdout.lines().find(|line| line.starts_with("Linux one "));
    ensure!(line.is_some(), "no uname -a of the guest:\n{}", said.text());
    Ok(())
}

#[test]
fn the_demonstration_works_twice_and_after_a_killed_agent_and_leaves_nothing() -> Result<()> {
    let Some(demo) = Demo::new(false) else { return Ok(()) };
    assert_logged_in(&demo.up()?.success()?)?;
    let again = demo.up()?.success()?;
    assert_logged_in(&again)?;
    ensure!(again.stdout.contains("No changes"), "the second apply changed something");

    // The agent dies while everything is up; the guest does not notice.
    kill(Pid::from_raw(demo.agent()?), Signal::SIGKILL)?;
    let third = demo.up()?.success()?;
    ensure!(third.stdout.contains("No changes"), "the guest was touched:\n{}", third.stdout);

    let down = demo.down()?.success()?;
    ensure!(down.stdout.contains("nothing is left"), "{}", down.text());
    ensure!(!demo.directory()?.exists());
    demo.down()?.success()?;
    Ok(())
}

#[test]
fn the_demonstration_gets_over_an_agent_killed_in_the_apply_and_over_ctrl_c() -> Result<()> {
    let Some(demo) = Demo::new(true) else { return Ok(()) };

    let mut broken = demo.start()?;
    wait_for_apply(&mut broken)?;
    kill(Pid::from_raw(demo.agent()?), Signal::SIGKILL)?;
    // Terraform waits a minute for the agent to come back.
    broken.finish(LIMIT)?;
    assert_logged_in(&demo.up()?.success()?)?;
    demo.down()?.success()?;

    let mut interrupted = demo.start()?;
    wait_for_apply(&mut interrupted)?;
    interrupted.signal_group(Signal::SIGINT)?;
    interrupted.finish(LIMIT)?;
    assert_logged_in(&demo.up()?.success()?)?;
    demo.down()?.success()?;
    Ok(())
}

fn wait_for_apply(demo: &mut Background) -> Result<()> {
    eventually("the instance is being created", within() * 3, || {
        ensure!(demo.is_running()?, "the demonstration ended early:\n{}", demo.output()?);
        Ok(demo.output()?.contains("weft_instance.one: Creating...").then_some(()))
    })
}
