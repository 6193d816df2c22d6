//! What the agent itself does, counted since its start.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a pass over an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// There is nothing to do now.
    Done,
    /// Something takes its time.
    Waiting,
    /// A step failed, and is tried again.
    Failed,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

/// Counters; each is cheap, and none is held over an await.
#[derive(Debug, Default)]
pub(crate) struct AgentFigures {
    passes: Mutex<BTreeMap<Outcome, u64>>,
    /// By method and gRPC status code.
    requests: Mutex<BTreeMap<(String, u32), u64>>,
}

/// The code of a method that does not exist: its name is the client's, and can be anything.
const UNIMPLEMENTED: u32 = 12;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AgentFigures {
    pub(crate) fn pass(&self, outcome: Outcome) {
        *lock(&self.passes).entry(outcome).or_default() += 1;
    }

    /// Counts a request that was answered.
    pub(crate) fn request(&self, path: &str, code: u32) {
        let method = if code == UNIMPLEMENTED { "unknown" } else { path.trim_start_matches('/') };
        *lock(&self.requests).entry((method.to_owned(), code)).or_default() += 1;
    }

    pub(crate) fn passes(&self) -> BTreeMap<Outcome, u64> {
        lock(&self.passes).clone()
    }

    pub(crate) fn requests(&self) -> BTreeMap<(String, u32), u64> {
        lock(&self.requests).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_make_up_are_one() {
        let figures = AgentFigures::default();
        figures.request("/weft.v1.Instances/Get", 0);
        figures.request("/weft.v1.Instances/Get", 0);
        figures.request("/weft.v1.Instances/Get", 5);
        (0..100).for_each(|n| figures.request(&format!("/made/Up{n}"), UNIMPLEMENTED));
        let get = |code| ("weft.v1.Instances/Get".to_owned(), code);
        let unknown = ("unknown".to_owned(), UNIMPLEMENTED);
        assert_eq!(figures.requests(), [(get(0), 2), (get(5), 1), (unknown, 100)].into());
    }
}
