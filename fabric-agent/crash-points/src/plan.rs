//! What the environment wants.

use std::fs::File;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const LOG: &str = "WEFT_CRASH_LOG";
const AT: &str = "WEFT_CRASH_AT";

/// Read once, at the first point.
static PLAN: OnceLock<Plan> = OnceLock::new();

#[derive(Debug, Default)]
struct Plan {
    log: Option<File>,
    at: Vec<Target>,
}

/// The point to die at.
#[derive(Debug)]
struct Target {
    name: String,
    nth: u64,
    passed: AtomicU64,
}

impl Target {
    /// `NAME` or `NAME:NTH`.
    fn parse(text: &str) -> Self {
        let (name, nth) = match text.rsplit_once(':') {
            Some((name, nth)) => (name, nth.parse().ok()),
            None => (text, Some(1)),
        };
        // A test that means no point at all must not pass.
        let Some(nth) = nth else { last_words(&format!("{AT}={text}: NTH is not a number")) };
        Self { name: name.to_owned(), nth, passed: AtomicU64::new(0) }
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
        let at = std::env::var(AT).unwrap_or_default();
        let at = at.split(',').filter(|text| !text.is_empty()).map(Target::parse).collect();
        Self { log, at }
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
    // Each counts for itself, also those after one that says yes.
    if plan.at.iter().filter(|target| target.is_now(name)).count() > 0 {
        last_words(&format!("crash point {name}"));
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
        let target = Target::parse("store.instances.create.before:2");
        assert!(!target.is_now("store.instances.create.before"));
        assert!(!target.is_now("store.instances.create.after"));
        assert!(target.is_now("store.instances.create.before"));
        assert!(!target.is_now("store.instances.create.before"));
        assert!(Target::parse("host.write-seed.after").is_now("host.write-seed.after"));
    }
}
