//! What comes to the agent just now, for people who look: downloads and uploads, whoever began them.
//!
//! Who transfers notes here how far it is, which takes no longer than a look at the clock; whoever looks is
//! woken, and sees the newest. What has ended is remembered for those who were looking.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use weft_model::Problem;

/// Transfers that have ended and are remembered: more than end between two looks.
const REMEMBERED: usize = 64;
/// Why one ended that nobody carried to its end.
const BROKEN_OFF: &str = "it broke off; what has come is kept and gone on with";

/// Which way a file comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The agent fetches it.
    Download,
    /// A client sends it.
    Upload,
}

/// How a transfer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Running,
    Done,
    /// Why it ended too early.
    Failed(String),
}

/// One file that comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) way: Way,
    /// A URL, or what a client calls its file.
    pub(crate) name: String,
    pub(crate) received_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
    /// Why nothing comes just now.
    pub(crate) trouble: Option<String>,
    pub(crate) stage: Stage,
    /// Rises with each change of any transfer.
    pub(crate) changed: u64,
}

/// All of them, by their numbers, which rise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) transfers: BTreeMap<u64, Transfer>,
    /// How many changes there were.
    pub(crate) changes: u64,
    begun: u64,
}

impl Seen {
    fn change(&mut self, id: u64, act: impl FnOnce(&mut Transfer)) {
        self.changes += 1;
        if let Some(transfer) = self.transfers.get_mut(&id) {
            act(transfer);
            transfer.changed = self.changes;
        }
    }

    fn forget_old(&mut self) {
        let ended = |(id, transfer): (&u64, &Transfer)| {
            (transfer.stage != Stage::Running).then_some((transfer.changed, *id))
        };
        let mut ended: Vec<(u64, u64)> = self.transfers.iter().filter_map(ended).collect();
        ended.sort_unstable();
        for (_, id) in ended.iter().rev().skip(REMEMBERED) {
            self.transfers.remove(id);
        }
    }
}

/// The transfers of this agent.
#[derive(Debug)]
pub(crate) struct Transfers(watch::Sender<Seen>);

impl Transfers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Seen::default())))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Seen> {
        self.0.subscribe()
    }

    /// A file begins to come; `received_bytes` of it came before.
    pub(crate) fn begin(
        self: &Arc<Self>,
        way: Way,
        name: String,
        received_bytes: u64,
        total_bytes: Option<u64>,
    ) -> Underway {
        let mut id = 0;
        self.0.send_modify(|seen| {
            (seen.begun, seen.changes) = (seen.begun + 1, seen.changes + 1);
            id = seen.begun;
            let (trouble, stage, changed) = (None, Stage::Running, seen.changes);
            let transfer =
                Transfer { way, name, received_bytes, total_bytes, trouble, stage, changed };
            seen.transfers.insert(id, transfer);
        });
        Underway { transfers: Arc::clone(self), id, ended: false }
    }

    fn change(&self, id: u64, act: impl FnOnce(&mut Transfer)) {
        self.0.send_modify(|seen| seen.change(id, act));
    }
}

/// A file that comes. Dropped before its end, it has broken off.
#[derive(Debug)]
pub(crate) struct Underway {
    transfers: Arc<Transfers>,
    id: u64,
    ended: bool,
}

impl Underway {
    /// So much has come.
    pub(crate) fn reached(&self, received_bytes: u64, total_bytes: Option<u64>) {
        self.transfers.change(self.id, |transfer| {
            if received_bytes > transfer.received_bytes {
                transfer.trouble = None;
            }
            (transfer.received_bytes, transfer.total_bytes) = (received_bytes, total_bytes);
        });
    }

    /// Nothing comes just now, and why.
    pub(crate) fn troubled(&self, trouble: &str) {
        self.transfers.change(self.id, |transfer| transfer.trouble = Some(trouble.to_owned()));
    }

    pub(crate) fn end<T>(mut self, outcome: &Result<T, Problem>) {
        self.ended = true;
        self.enter(match outcome {
            Ok(_) => Stage::Done,
            Err(problem) => Stage::Failed(problem.message.clone()),
        });
    }

    fn enter(&self, stage: Stage) {
        self.transfers.0.send_modify(|seen| {
            seen.change(self.id, |transfer| {
                (transfer.stage, transfer.trouble) = (stage, None);
            });
            seen.forget_old();
        });
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if !self.ended {
            self.enter(Stage::Failed(BROKEN_OFF.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::Reason;

    use super::*;

    fn stages(transfers: &Transfers) -> Vec<(u64, Stage)> {
        let seen = transfers.subscribe().borrow().clone();
        seen.transfers.iter().map(|(id, transfer)| (*id, transfer.stage.clone())).collect()
    }

    #[test]
    fn each_transfer_ends_in_its_own_way() {
        let transfers = Transfers::new();
        let begin = |name: &str| transfers.begin(Way::Download, name.to_owned(), 0, Some(10));
        let (done, failed, dropped, runs) = (begin("a"), begin("b"), begin("c"), begin("d"));
        done.end(&Ok::<(), Problem>(()));
        let refused = Problem::new(Reason::NotFound, "there is no such file");
        failed.end(&Err::<(), _>(refused));
        drop(dropped);
        runs.reached(4, Some(10));
        let failed = |why: &str| Stage::Failed(why.to_owned());
        let want = [
            (1, Stage::Done),
            (2, failed("there is no such file")),
            (3, failed(BROKEN_OFF)),
            (4, Stage::Running),
        ];
        assert_eq!(stages(&transfers), want);
        drop(runs);
        assert!(stages(&transfers).iter().all(|(_, stage)| *stage != Stage::Running));
    }

    #[test]
    fn trouble_is_told_until_more_comes() {
        let transfers = Transfers::new();
        let one = transfers.begin(Way::Upload, "a".to_owned(), 3, None);
        let trouble = || transfers.subscribe().borrow().transfers[&1].trouble.clone();
        one.troubled("the connection broke");
        one.reached(3, None);
        assert_eq!(trouble().as_deref(), Some("the connection broke"));
        one.reached(4, None);
        assert_eq!(trouble(), None);
    }

    #[test]
    fn what_has_ended_long_ago_is_forgotten_and_what_runs_is_not() {
        let transfers = Transfers::new();
        let runs = transfers.begin(Way::Download, "long".to_owned(), 0, None);
        for n in 0..2 * REMEMBERED {
            drop(transfers.begin(Way::Upload, format!("{n}"), 0, None));
        }
        let known = stages(&transfers);
        assert_eq!(known.len(), REMEMBERED + 1);
        assert_eq!((known[0].0, known[1].0), (1, REMEMBERED as u64 + 2));
        drop(runs);
    }
}
