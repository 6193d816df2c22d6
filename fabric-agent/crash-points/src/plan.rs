//! What the environment wants.

use std::fs::File;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::{Signal, raise};

const LOG: &str = "WEFT_CRASH_LOG";
const AT: &str = "WEFT_CRASH_AT";
const PAUSE_AT: &str = "WEFT_PAUSE_AT";

/// Read once, at the first point.
static PLAN: OnceLock<Plan> = OnceLock::new();

#[derive(Debug, Default)]
struct Plan {
    log: Option<File>,
    at: Vec<Target>,
    pause_at: Vec<Target>,
    paused: AtomicBool,
}

/// A point that is meant.
#[derive(Debug)]
struct Target {
    name: String,
    nth: u64,
    passed: AtomicU64,
}

impl Target {
    /// `NAME` or `NAME:NTH`.
    fn parse(variable: &str, text: &str) -> Self {
        let (name, nth) = match text.rsplit_once(':') {
            Some((name, nth)) => (name, nth.parse().ok()),
            None => (text, Some(1)),
        };
        // A test that means no point at all must not pass.
        let Some(nth) = nth else { last_words(&format!("{variable}={text}: NTH is not a number")) };
        Self { name: name.to_owned(), nth, passed: AtomicU64::new(0) }
    }

    /// All that a variable names.
    fn all(variable: &str) -> Vec<Self> {
        let text = std::env::var(variable).unwrap_or_default();
        let names = text.split(',').filter(|text| !text.is_empty());
        names.map(|name| Self::parse(variable, name)).collect()
    }

    /// Whether this time is the time.
    fn is_now(&self, name: &str) -> bool {
        self.name == name && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
    }
}

impl Plan {
    fn read() -> Self {
        let log = std::env::var_os(LOG).map(|path| {
            let opened = File::options().create(true).append(true).open(&path);
            opened.unwrap_or_else(|error| last_words(&format!("{LOG}={}: {error}", path.display())))
        });
        let (at, pause_at) = (Target::all(AT), Target::all(PAUSE_AT));
        Self { log, at, pause_at, paused: AtomicBool::new(false) }
    }
}

pub(crate) fn pass(name: &str) {
    let plan = PLAN.get_or_init(Plan::read);
    if let Some(mut log) = plan.log.as_ref() {
        // One write of an append-only file: lines of several threads do not mix.
        if let Err(error) = log.write_all(format!("{name}\n").as_bytes()) {
            last_words(&format!("{LOG}: {error}"));
        }
    }
    if any_is_now(&plan.at, name) {
        last_words(&format!("crash point {name}"));
    }
    if any_is_now(&plan.pause_at, name) && !plan.paused.swap(true, Ordering::Relaxed) {
        pause(name);
    }
}

/// Each counts for itself, also those after one that says yes.
fn any_is_now(targets: &[Target], name: &str) -> bool {
    targets.iter().filter(|target| target.is_now(name)).count() > 0
}

/// Returns when somebody has sent SIGCONT.
fn pause(name: &str) {
    let _ = std::io::stderr().write_all(format!("pausing: crash point {name}\n").as_bytes());
    if let Err(error) = raise(Signal::SIGSTOP) {
        last_words(&format!("{PAUSE_AT}={name}: {error}"));
    }
}

/// Says why and dies, as if killed.
fn last_words(why: &str) -> ! {
    // Nobody may be listening any more; it dies all the same.
    let _ = std::io::stderr().write_all(format!("aborting: {why}\n").as_bytes());
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_pass_of_the_named_point_is_meant() {
        let target = Target::parse(AT, "store.instances.create.before:2");
        assert!(!target.is_now("store.instances.create.before"));
        assert!(!target.is_now("store.instances.create.after"));
        assert!(target.is_now("store.instances.create.before"));
        assert!(!target.is_now("store.instances.create.before"));
        assert!(Target::parse(AT, "host.write-seed.after").is_now("host.write-seed.after"));
    }
}
