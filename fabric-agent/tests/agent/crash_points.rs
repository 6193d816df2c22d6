//! The agent aborted at every crash point that an operation passes: it converges each time, with a
//! client that waits for it and with one that gave up and begins again.
//!
//! A first run of the operation writes down the points; then there is one run for each of them and
//! each kind of client. Needs an agent with the feature `crash-points`, which `scripts/test.sh`
//! builds beside the usual one.

mod checks;
mod client;
mod merging;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;

use futures::{StreamExt as _, stream};
use weft_fetch::testing::{Page, Site};

use crate::encryption;
use crate::support::{Agent, Files, eventually};
use client::{Client, DISK_BY_URL, Patience, Stage};

/// Runs at a time: an agent mostly waits.
const AT_A_TIME: usize = 3;

/// Of one point's passes in an operation, so many are tried, the first ones: the very first, and in
/// `make accept` those too where what came before differs.
fn passes_to_try() -> usize {
    if std::env::var_os("WEFT_THOROUGH").is_some() { 3 } else { 1 }
}

/// From one stage to another.
#[derive(Clone, Copy)]
struct Operation {
    from: Stage,
    to: Stage,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} to {:?}", self.from, self.to)
    }
}

/// The agent that has crash points.
fn program() -> Option<PathBuf> {
    let usual = PathBuf::from(env!("CARGO_BIN_EXE_fabric-agent"));
    let program = usual.parent()?.join("crash-points/fabric-agent");
    if !program.is_file() {
        eprintln!("SKIPPED: {} is not built: scripts/build-crash-points.sh", program.display());
        return None;
    }
    Some(program)
}

/// The same point may be passed more than once: its name, and which pass.
type Point = (String, usize);

/// One run of the operation without a crash: the points that it passes.
async fn points(operation: Operation, base: &Agent, known: &Client) -> Vec<Point> {
    let mut agent = base.copy();
    let log = agent.directory().join("points");
    agent.set_environment(&[("WEFT_CRASH_LOG", log.to_str().unwrap())]);
    agent.start_again().await;
    let mut client = known.again(&agent, Patience::Waits);
    client.reach(operation.to).await.unwrap();
    checks::converged(&agent.files(), &mut client, operation.to).await.unwrap();
    agent.kill();
    let log = std::fs::read_to_string(&log).unwrap();
    let mut passes: BTreeMap<&str, usize> = BTreeMap::new();
    for name in log.lines() {
        *passes.entry(name).or_default() += 1;
    }
    let nths = |(name, count): (&str, usize)| {
        let name = name.to_owned();
        (1..=count.min(passes_to_try())).map(move |nth| (name.clone(), nth))
    };
    passes.into_iter().flat_map(nths).collect()
}

/// One run in which the agent dies at the point. Returns whether it came there.
async fn crash(
    operation: Operation,
    base: &Agent,
    known: &Client,
    point: &Point,
    patience: Patience,
) -> bool {
    let mut agent = base.copy();
    let target = format!("{}:{}", point.0, point.1);
    agent.set_environment(&[("WEFT_CRASH_AT", &target)]);
    agent.spawn();
    let mut mortal = Mortal { files: agent.files(), agent, died: false };
    let mut client = known.again(&mortal.agent, patience);
    if mortal.outlived_by(client.reach(operation.to)).await.is_err() {
        assert_eq!(patience, Patience::GivesUp, "{operation:?} at {target}");
        mortal.has_died().await;
        // Somebody runs terraform again; the agent is there this time.
        client = client.again(&mortal.agent, Patience::Waits);
        mortal.outlived_by(client.reach(operation.to)).await.unwrap();
    }
    // What an operation sets going may come to the point after its answer.
    let mut client = client.again(&mortal.agent, Patience::Waits);
    let files = mortal.files.clone();
    mortal.outlived_by(checks::converged(&files, &mut client, operation.to)).await.unwrap();
    mortal.outlived_by(client.reach(Stage::Absent)).await.unwrap();
    mortal.outlived_by(checks::converged(&files, &mut client, Stage::Absent)).await.unwrap();
    // An open session holds up the end for a while.
    drop(client);
    mortal.agent.end().await;
    checks::nothing_left(&mortal.files, &target);
    mortal.died
}

/// An agent that has one crash before it; then it is started again, without a point.
struct Mortal {
    agent: Agent,
    files: Files,
    died: bool,
}

impl Mortal {
    /// Carries out `work`, and the crash if that comes meanwhile.
    async fn outlived_by<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                status = dies(&mut self.agent) => self.buried(status).await,
            }
        }
    }

    /// Returns when the crash lies behind it.
    async fn has_died(&mut self) {
        if !self.died {
            let status = dies(&mut self.agent).await;
            self.buried(status).await;
        }
    }

    async fn buried(&mut self, status: ExitStatus) {
        assert!(!self.died, "it died twice: {}", self.files.log());
        let aborted = nix::sys::signal::Signal::SIGABRT as i32;
        assert_eq!(status.signal(), Some(aborted), "{}", self.files.log());
        self.died = true;
        self.agent.set_environment(&[]);
        self.agent.start_again().await;
    }
}

/// Returns when the process has ended.
async fn dies(agent: &mut Agent) -> ExitStatus {
    loop {
        match agent.ended() {
            Some(status) => break status,
            None => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
        }
    }
}

/// An agent, not running, and what its client knows, at a stage.
async fn at(stage: Stage, program: &Path, site: &Site) -> (Agent, Client) {
    let mut agent = Agent::not_started(&[]);
    // Beside what is copied for each run, and there as long as the first agent is.
    let key = agent.directory().join("volume.key");
    encryption::make_key(&key);
    agent.set_flags(&[&encryption::flag(&key)]);
    agent.use_program(program);
    let url = site.put("/disk.raw", Page::new(DISK_BY_URL));
    let mut client = Client::new(&agent, &url);
    if stage != Stage::NotStarted {
        agent.start_again().await;
        client.reach(stage).await.unwrap();
        checks::converged(&agent.files(), &mut client, stage).await.unwrap();
        agent.end().await;
    }
    (agent, client)
}

async fn at_each_point(from: Stage, to: Stage) {
    let Some(program) = program() else { return };
    let operation = Operation { from, to };
    let site = Site::start().await.unwrap();
    let (base, known) = at(from, &program, &site).await;
    let points = points(operation, &base, &known).await;
    assert!(!points.is_empty(), "{} has no crash points", program.display());
    let clients = [Patience::Waits, Patience::GivesUp];
    let cases = points.iter().flat_map(|point| clients.map(|patience| (point.clone(), patience)));
    let (base, known) = (&base, &known);
    let runs: Vec<(Point, bool)> = stream::iter(cases)
        .map(|(point, patience)| async move {
            let died = crash(operation, base, known, &point, patience).await;
            (point, died)
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    let died = runs.iter().filter(|(_, died)| *died).count();
    println!("{operation:?}: {} points, {} runs, {died} crashes", points.len(), runs.len());
    // How often a point is passed depends on who is faster; that it is passed does not.
    for (point, _) in runs.iter().filter(|((_, nth), _)| *nth == 1) {
        let died = runs.iter().any(|(other, died)| other == point && *died);
        assert!(died, "{operation:?} never came to {}", point.0);
    }
}

#[tokio::test]
async fn at_each_point_of_the_first_start() {
    at_each_point(Stage::NotStarted, Stage::Absent).await;
}

#[tokio::test]
async fn at_each_point_of_creating_a_module() {
    at_each_point(Stage::Absent, Stage::Made).await;
}

#[tokio::test]
async fn at_each_point_of_an_update_without_a_restart() {
    at_each_point(Stage::Made, Stage::Renamed).await;
}

#[tokio::test]
async fn at_each_point_of_an_update_with_a_restart() {
    at_each_point(Stage::Made, Stage::Resized).await;
}

#[tokio::test]
async fn at_each_point_of_growing_while_it_runs() {
    at_each_point(Stage::Made, Stage::Grown).await;
}

#[tokio::test]
async fn at_each_point_of_stopping() {
    at_each_point(Stage::Made, Stage::Stopped).await;
}

#[tokio::test]
async fn at_each_point_of_starting() {
    at_each_point(Stage::Stopped, Stage::Made).await;
}

#[tokio::test]
async fn at_each_point_of_a_snapshot_and_an_image_of_an_instance() {
    at_each_point(Stage::Made, Stage::Captured).await;
}

#[tokio::test]
async fn at_each_point_of_destroying_what_was_captured() {
    at_each_point(Stage::Captured, Stage::Absent).await;
}

#[tokio::test]
async fn at_each_point_of_a_volume_with_a_snapshot_and_of_disks_that_grow() {
    at_each_point(Stage::Made, Stage::Stored).await;
}

#[tokio::test]
async fn at_each_point_of_destroying_what_was_stored() {
    at_each_point(Stage::Stored, Stage::Absent).await;
}

#[tokio::test]
async fn at_each_point_of_hibernating() {
    at_each_point(Stage::Made, Stage::Hibernated).await;
}

#[tokio::test]
async fn at_each_point_of_going_on() {
    at_each_point(Stage::Hibernated, Stage::Awake).await;
}

#[tokio::test]
async fn at_each_point_of_destroying_a_module() {
    at_each_point(Stage::Made, Stage::Absent).await;
}

#[tokio::test]
async fn an_agent_with_nothing_to_do_starts_at_each_point() {
    let Some(program) = program() else { return };
    let site = Site::start().await.unwrap();
    let (base, known) = at(Stage::Made, &program, &site).await;
    let mut agent = base.copy();
    let log = agent.directory().join("points");
    agent.set_environment(&[("WEFT_CRASH_LOG", log.to_str().unwrap())]);
    agent.start_again().await;
    let mut client = known.again(&agent, Patience::Waits);
    checks::converged(&agent.files(), &mut client, Stage::Made).await.unwrap();
    // A restart changes nothing of a host that is as it should be, but its own forwarding and
    // marks.
    let passed = eventually("the loops have looked", async || {
        let passed = std::fs::read_to_string(&log).unwrap_or_default();
        (!passed.is_empty()).then_some(passed)
    })
    .await;
    let own = |name: &str| {
        let own = ["host.set_host_routing.", "store.", "mark.", "own_file."];
        own.iter().any(|own| name.starts_with(own))
    };
    let changes: Vec<&str> = passed.lines().filter(|name| !own(name)).collect();
    assert!(changes.is_empty(), "{changes:?}");
    agent.end().await;
}
