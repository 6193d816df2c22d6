//! File systems that a guest's own agent freezes for a moment: what is taken of its disks then is what
//! its programs had written, and no journal has to be played back.
//!
//! ```text
//!   freeze.json: frozen ─▶ freeze ─▶ (the disk goes over to its next file) ─▶ went_over ─▶ thaw ─▶ kept
//!                                                  └─ no ─▶ thaw ─▶ nothing
//! ```
//!
//! What is kept is so for each disk by itself: one may be sealed while what another was sealed into is not
//! written down yet. It stays until nobody asks about that layer any more, or the same disk's next one,
//! before which it is written down.
//!
//! A guest's agent thaws nothing by itself. So what may be frozen is written down before it is: whoever
//! finds that note thaws, the next agent too. How many file systems a thaw has thawed tells that they
//! were frozen until then; only a layer that the disk went over from before that is `kept`. (Where
//! an agent dies between the thaw and its note, its word that the disk had gone over has to do.) A guest's
//! agent that refuses to thaw what it has refused to freeze has nothing to thaw: it knows neither
//! command, or may obey neither; `qemu-ga` thaws what it had frozen before it says no. Commands:
//! `guest-fsfreeze-freeze` and `-thaw` in QEMU's `qga/qapi-schema.json`; while frozen, `qemu-ga` obeys
//! these and `guest-sync-delimited` only.

mod note;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::OwnedMutexGuard;
use weft_model::{InstanceId, LayerId};

use super::devices::Devices;
use super::seal::node_above;
use super::{ANSWER_DEADLINE, GuestError, Guests, connection};
use crate::layout::AGENT_SOCKET;
use crate::qemu::AGENT_DEVICE;
use crate::qga::{QgaClient, QgaError};
use crate::record::monotonic_ms;
use note::Now;
pub(super) use note::Sealed;
pub use note::{FreezeNote, Freezes};

/// In what state a guest was when its disk went over to the next file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WentOver {
    /// In the one that was asked for.
    AsAsked,
    /// Nobody knows whether its file systems were frozen until then, as they should have been: what is in
    /// the layer may be from the middle of a program's writing.
    PerhapsThawed,
    /// Its file systems were frozen before, and its agent has not said since that they are thawed: whether
    /// they were frozen all the time nobody knows, and whoever waits for it may wait for ever.
    PerhapsFrozenStill,
}

/// What a guest and its QEMU answered before it is thawed.
struct Asked<'a> {
    frozen: &'a Result<(), GuestError>,
    /// `None`: it was not told to write to the next file.
    went_over: Option<&'a Result<Value, GuestError>>,
}

/// How long a guest's agent may take to say that it is there: where nobody is connected, it looks
/// ten times a second.
const SYNC_DEADLINE: Duration = Duration::from_secs(5);
/// How long a guest may write out what it holds, and freeze; its programs wait for some of that time.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);
/// How long it is waited for a thaw, before it is tried again.
const THAW_DEADLINE: Duration = Duration::from_secs(5);

/// What QEMU answers meanwhile: that it is there, what it can do, and its devices; that the disk has gone
/// over; where it has not said that, the first two once more, and its disks.
const QEMU_ANSWERS: u32 = 3 + 1 + 3;
/// How long a freeze may take from its beginning to its end, where every wait lasts as long as it may: the guest
/// is told to thaw in the same conversation, and in another one where that is closed. Who freezes a guest
/// has to be there for so long.
pub const FREEZE_ENDS_WITHIN: Duration = SYNC_DEADLINE
    .saturating_add(FREEZE_DEADLINE)
    .saturating_add(THAW_DEADLINE.saturating_mul(2))
    .saturating_add(ANSWER_DEADLINE.saturating_mul(QEMU_ANSWERS));

/// How many conversations there were.
static NEXT_ID: AtomicU32 = AtomicU32::new(0);

impl Guests {
    /// What is written down of the guest's freezes; nothing while somebody freezes it, who also thaws.
    ///
    /// # Errors
    /// The note cannot be read.
    pub fn freezes(&self, id: &InstanceId, note: &FreezeNote) -> Result<Freezes, GuestError> {
        let Ok(_turn) = self.freezing(id).try_lock_owned() else { return Ok(Freezes::default()) };
        note.freezes().map_err(failed(id, "read what it was frozen for"))
    }

    /// Forgets that disks left these layers behind while the guest was frozen; not while somebody freezes
    /// it, or asks its agent.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn forget_freezes(
        &self,
        id: &InstanceId,
        note: &FreezeNote,
        layers: &BTreeSet<LayerId>,
    ) -> Result<(), GuestError> {
        // It would be waited for by all that is to be done about the guest: the next look comes.
        let Ok(_turn) = self.freezing(id).try_lock_owned() else { return Ok(()) };
        note.forget(layers).map_err(failed(id, "forget what it was frozen for"))
    }

    /// Thaws a guest that was left frozen.
    ///
    /// # Errors
    /// [`GuestError::StaysFrozen`], to be tried again.
    pub async fn thaw(&self, id: &InstanceId, note: &FreezeNote) -> Result<(), GuestError> {
        let _turn = self.turn_to_freeze(id).await;
        self.thaw_in_turn(id, note).await
    }

    /// The same for who has the turn.
    pub(super) async fn thaw_in_turn(
        &self,
        id: &InstanceId,
        note: &FreezeNote,
    ) -> Result<(), GuestError> {
        match note.read().map_err(failed(id, "read whether it is frozen"))?.now {
            Now::Frozen { disk, accepted } => {
                // QEMU does one thing after the other: what it was told before is done when it answers.
                let went_over = self.is_left_behind(id, &disk.layer).await.ok();
                let mut thawed = self.thaw_with(id, None).await;
                if !accepted && went_over == Some(false) {
                    thawed = thawed.or_else(unless_refused);
                }
                let thawed = thawed?;
                let kept = (went_over == Some(true) && thawed).then_some(&disk);
                note_thawed(id, note, kept)
            }
            Now::WentOver { disk } => {
                self.thaw_with(id, None).await?;
                note_thawed(id, note, Some(&disk))
            }
            Now::Unreadable => {
                self.thaw_with(id, None).await?;
                note_thawed(id, note, None)
            }
            Now::Thawed => Ok(()),
        }
    }

    /// Whether the guest could be frozen now.
    ///
    /// # Errors
    /// [`GuestError::NoAgentPort`], [`GuestError::NoAgent`]; QEMU does not answer.
    pub async fn agent_answers(&self, id: &InstanceId) -> Result<(), GuestError> {
        let _turn = self.turn_to_freeze(id).await;
        self.talk(id).await.map(drop)
    }

    /// From now on no guest is frozen. What was begun is over after [`FREEZE_ENDS_WITHIN`].
    pub fn freeze_no_more(&self) {
        self.inner.freezes_no_more.store(true, Ordering::Relaxed);
    }

    /// Who freezes a guest, or thaws it, does so alone: one's thaw would end the other's freeze.
    pub(super) async fn turn_to_freeze(&self, id: &InstanceId) -> OwnedMutexGuard<()> {
        self.freezing(id).lock_owned().await
    }

    fn freezing(&self, id: &InstanceId) -> std::sync::Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.inner.freezing.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(id.clone()).or_default().clone()
    }

    /// Has a disk go over from its layer while the guest's file systems are frozen; `go_over` does that.
    /// The caller has the turn. Says whether they were.
    ///
    /// # Errors
    /// [`GuestError::NoAgentPort`], [`GuestError::NoAgent`], [`GuestError::NotFrozen`],
    /// [`GuestError::FreezesSlowly`], and what `go_over` was refused: the disk is as it was. Others: try
    /// again.
    pub(super) async fn while_frozen(
        &self,
        id: &InstanceId,
        disk: &Sealed,
        note: &FreezeNote,
        go_over: impl Future<Output = Result<Value, GuestError>>,
    ) -> Result<WentOver, GuestError> {
        if self.inner.freezes_no_more.load(Ordering::Relaxed) {
            return Err(GuestError::AgentEnds { id: id.clone() });
        }
        let mut agent = self.talk(id).await?;
        let now = Now::Frozen { disk: disk.clone(), accepted: false };
        note.write(now).map_err(failed(id, "write down that it is about to be frozen"))?;
        weft_crash_points::point("guest.freeze.noted");
        let frozen = freeze(id, &mut agent).await;
        weft_crash_points::point("guest.freeze.frozen");
        let went_over = match &frozen {
            Ok(()) => Some(go_over.await),
            Err(_) => None,
        };
        weft_crash_points::point("guest.freeze.went_over");
        let thawed = self
            .thaw_after(
                id,
                disk,
                note,
                agent,
                Asked { frozen: &frozen, went_over: went_over.as_ref() },
            )
            .await;
        weft_crash_points::point("guest.freeze.thawed");
        if let Err(error) = &thawed {
            tracing::error!(vm.id = %id, %error, "the guest may be frozen");
            connection::hint(&self.inner.hints, id);
        }
        frozen?;
        match went_over {
            Some(Err(error)) if error.refused() => return Err(error),
            _ => thawed?,
        }
        self.judge_frozen(id, &disk.layer, note)
    }

    /// Whether the disk went over from `layer` while the guest was frozen, as far as it is known. The
    /// disk has gone over.
    ///
    /// # Errors
    /// The note cannot be read.
    pub fn judge_frozen(
        &self,
        id: &InstanceId,
        layer: &LayerId,
        note: &FreezeNote,
    ) -> Result<WentOver, GuestError> {
        match note.keeps(layer).map_err(failed(id, "read whether it was frozen"))? {
            true => Ok(WentOver::AsAsked),
            false => Ok(WentOver::PerhapsThawed),
        }
    }

    /// Thaws what was frozen just now, and writes down what the layer is worth.
    async fn thaw_after(
        &self,
        id: &InstanceId,
        disk: &Sealed,
        note: &FreezeNote,
        agent: QgaClient<UnixStream>,
        asked: Asked<'_>,
    ) -> Result<(), GuestError> {
        let went_over = match asked.went_over {
            None => false,
            Some(Ok(_)) => {
                let now = Now::WentOver { disk: disk.clone() };
                if let Err(error) = note.write_for_this_boot(now) {
                    tracing::warn!(vm.id = %id, %error, "cannot write down how far a snapshot is");
                }
                weft_crash_points::point("guest.freeze.noted_over");
                true
            }
            Some(Err(error)) if error.refused() => false,
            // QEMU does one thing after the other: what it was told before is done when it answers.
            Some(Err(_)) => self.is_left_behind(id, &disk.layer).await.unwrap_or(false),
        };
        let mut thawed = self.thaw_with(id, Some(agent)).await;
        match asked.frozen {
            Err(GuestError::NotFrozen { said_so: true, .. }) => {
                thawed = thawed.or_else(unless_refused);
            }
            Ok(()) | Err(_) if !went_over && thawed.is_err() => {
                let now = Now::Frozen { disk: disk.clone(), accepted: true };
                if let Err(error) = note.write(now) {
                    tracing::warn!(vm.id = %id, %error, "cannot write down that a guest is frozen");
                }
            }
            Ok(()) | Err(_) => {}
        }
        let thawed = thawed?;
        weft_crash_points::point("guest.thaw.thawed");
        note_thawed(id, note, (went_over && thawed).then_some(disk))
    }

    /// Has the guest thaw; says whether it was frozen. `agent` is a conversation that goes on.
    async fn thaw_with(
        &self,
        id: &InstanceId,
        agent: Option<QgaClient<UnixStream>>,
    ) -> Result<bool, GuestError> {
        let told = match agent {
            Some(mut agent) => Some(tell_to_thaw(&mut agent).await),
            None => None,
        };
        let told = match told {
            None | Some(Err(QgaError::Closed | QgaError::Io(_))) => {
                match self.connect_to_agent(id).await {
                    Ok(mut agent) => tell_to_thaw(&mut agent).await,
                    Err(error) => Err(error),
                }
            }
            Some(told) => told,
        };
        let thawed = told.map_err(|source| GuestError::StaysFrozen { id: id.clone(), source })?;
        Ok(thawed.as_u64().is_some_and(|count| count > 0))
    }

    /// Whether a disk of the guest lies over the layer.
    async fn is_left_behind(&self, id: &InstanceId, layer: &LayerId) -> Result<bool, GuestError> {
        let devices = Devices::of(self, id).await?;
        let node = node_above(layer);
        let blocks = devices.execute("query-block", json!({})).await?;
        let mut tops = blocks.as_array().into_iter().flatten();
        Ok(tops.any(|block| block["inserted"]["node-name"].as_str() == Some(&node)))
    }

    /// Begins a conversation with the guest's agent, which has answered then.
    async fn talk(&self, id: &InstanceId) -> Result<QgaClient<UnixStream>, GuestError> {
        let devices = Devices::of(self, id).await?;
        if !devices.names().await?.iter().any(|name| name == AGENT_DEVICE) {
            return Err(GuestError::NoAgentPort { id: id.clone() });
        }
        let no_agent = |source| GuestError::NoAgent { id: id.clone(), source };
        let mut agent = self.connect_to_agent(id).await.map_err(no_agent)?;
        agent.sync(next_id(), SYNC_DEADLINE).await.map_err(no_agent)?;
        Ok(agent)
    }

    async fn connect_to_agent(&self, id: &InstanceId) -> Result<QgaClient<UnixStream>, QgaError> {
        let connected = self.guest_dir(id).connect_now(AGENT_SOCKET).await;
        connected.map(QgaClient::new).map_err(QgaError::Io)
    }
}

/// Writes down that the guest was thawed, and that `kept` left its layer behind before that.
fn note_thawed(
    id: &InstanceId,
    note: &FreezeNote,
    kept: Option<&Sealed>,
) -> Result<(), GuestError> {
    note.write_thawed(kept).map_err(failed(id, "write down that it was thawed"))
}

/// That nothing was frozen, where who was told to thaw has refused to.
fn unless_refused(error: GuestError) -> Result<bool, GuestError> {
    match error {
        GuestError::StaysFrozen { source: QgaError::Refused { .. }, .. } => Ok(false),
        error => Err(error),
    }
}

async fn freeze(id: &InstanceId, agent: &mut QgaClient<UnixStream>) -> Result<(), GuestError> {
    let not_frozen =
        |why: String, said_so: bool| GuestError::NotFrozen { id: id.clone(), why, said_so };
    let frozen = match agent.execute("guest-fsfreeze-freeze", FREEZE_DEADLINE).await {
        Ok(frozen) => frozen,
        Err(QgaError::NoAnswer { deadline, .. }) => {
            return Err(GuestError::FreezesSlowly { id: id.clone(), seconds: deadline.as_secs() });
        }
        Err(error) => {
            let said_so = matches!(error, QgaError::Refused { .. });
            return Err(not_frozen(error.to_string(), said_so));
        }
    };
    match frozen.as_u64() {
        Some(1..) => Ok(()),
        Some(0) => Err(not_frozen("it has none that can be frozen".to_owned(), true)),
        None => {
            let why = "its guest agent does not say how many it froze";
            Err(not_frozen(why.to_owned(), false))
        }
    }
}

/// It obeys once it has done what it was told before, also where nobody waits for it any more.
async fn tell_to_thaw(agent: &mut QgaClient<UnixStream>) -> Result<Value, QgaError> {
    agent.execute_anew(next_id(), "guest-fsfreeze-thaw", THAW_DEADLINE).await
}

/// Used once: of this process by the count, of an earlier one by the clock.
fn next_id() -> u32 {
    let milliseconds = monotonic_ms().unwrap_or_default() & u64::from(u32::MAX);
    let begun = u32::try_from(milliseconds).unwrap_or_default();
    begun.wrapping_add(NEXT_ID.fetch_add(1, Ordering::Relaxed))
}

fn failed(id: &InstanceId, step: &'static str) -> impl FnOnce(io::Error) -> GuestError {
    let id = id.clone();
    move |source| GuestError::Prepare { id, step, source }
}

#[cfg(test)]
mod tests {
    use super::note::Noted;
    use super::note::tests::sealed;
    use super::*;

    /// A guest that answers each line that it is told with the next of these.
    async fn answers(guest: UnixStream, lines: &[&str]) {
        use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
        let mut guest = BufReader::new(guest);
        for line in lines {
            let mut told = Vec::new();
            guest.read_until(b'\n', &mut told).await.unwrap();
            guest.get_mut().write_all(line.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn only_who_says_how_many_it_froze_has_frozen() {
        let id = InstanceId::from_random([1; 9]);
        let no = r#"{"error": {"class": "GenericError", "desc": "fsfreeze hook has failed"}}"#;
        let cases = [
            (r#"{"return": 2}"#, None),
            (r#"{"return": 0}"#, Some("none that can be frozen")),
            (r#"{"return": {}}"#, Some("does not say how many")),
            (no, Some("fsfreeze hook has failed")),
            ("nonsense", Some("nonsense")),
        ];
        for (said, want) in cases {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut agent = QgaClient::new(ours);
            let said = format!("{said}\n");
            let lines = [said.as_str()];
            let (frozen, ()) = tokio::join!(freeze(&id, &mut agent), answers(theirs, &lines));
            match (frozen, want) {
                (Ok(()), None) => {}
                (Err(error), Some(want)) => {
                    let told = error.to_string();
                    assert!(error.refused() && told.contains(want), "{told}");
                    // That it writes much is not what keeps it.
                    assert!(told.contains("log") && !told.contains("writes less"), "{told}");
                }
                (frozen, _) => panic!("{said}: {frozen:?}"),
            }
        }
    }

    /// A guest's agent that knows neither how to freeze nor how to thaw.
    async fn knows_neither(guest: UnixStream) {
        use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
        let mut guest = BufReader::new(guest);
        let mut line = Vec::new();
        while guest.read_until(b'\n', &mut line).await.unwrap() > 0 {
            let told = line.strip_prefix(&[0xff]).unwrap_or(&line);
            let told: Value = serde_json::from_slice(told).unwrap();
            let said = match told["execute"].as_str() {
                Some("guest-sync-delimited") => {
                    guest.get_mut().write_all(&[0xff]).await.unwrap();
                    json!({ "return": told["arguments"]["id"] })
                }
                _ => json!({ "error": { "class": "CommandNotFound", "desc": "it is disabled" } }),
            };
            guest.get_mut().write_all(format!("{said}\n").as_bytes()).await.unwrap();
            line.clear();
        }
    }

    #[tokio::test]
    async fn who_refuses_to_thaw_what_it_refused_to_freeze_has_nothing_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let guests = Guests::new(dir.path().join("guests"));
        let note = FreezeNote::in_dir(dir.path());
        let (id, disk) = (InstanceId::from_random([1; 9]), sealed("root", 1));
        let begin = || {
            note.write(Now::Frozen { disk: disk.clone(), accepted: false }).unwrap();
            let (ours, theirs) = UnixStream::pair().unwrap();
            tokio::spawn(knows_neither(theirs));
            QgaClient::new(ours)
        };
        let mut agent = begin();
        let frozen = freeze(&id, &mut agent).await;
        assert!(matches!(frozen, Err(GuestError::NotFrozen { said_so: true, .. })), "{frozen:?}");
        let asked = Asked { frozen: &frozen, went_over: None };
        guests.thaw_after(&id, &disk, &note, agent, asked).await.unwrap();
        assert_eq!(note.read().unwrap(), Noted::default());
        assert!(!guests.freezes(&id, &note).unwrap().left_frozen);

        // One that has frozen its file systems has something to thaw, whatever it says.
        let no = Err(GuestError::NobodyToFreeze { id: id.clone() });
        let asked = Asked { frozen: &Ok(()), went_over: Some(&no) };
        let thawed = guests.thaw_after(&id, &disk, &note, begin(), asked).await;
        assert!(matches!(thawed, Err(GuestError::StaysFrozen { .. })), "{thawed:?}");
        assert_eq!(note.read().unwrap().now, Now::Frozen { disk, accepted: true });
        assert!(guests.freezes(&id, &note).unwrap().left_frozen);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_freezes_too_slowly_is_given_up_and_thawed_when_it_has() {
        let id = InstanceId::from_random([1; 9]);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut agent = QgaClient::new(ours);
        let error = freeze(&id, &mut agent).await.unwrap_err();
        assert!(matches!(error, GuestError::FreezesSlowly { .. }) && error.refused(), "{error}");
        assert!(error.to_string().contains("writes less"), "{error}");
        // Its answer to the freeze comes when it is told to thaw.
        let told = tell_to_thaw(&mut agent);
        let says = async {
            use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
            let mut guest = BufReader::new(theirs);
            let mut lines = Vec::new();
            for _ in 0..3 {
                let mut line = Vec::new();
                guest.read_until(b'\n', &mut line).await.unwrap();
                lines.push(line);
            }
            let synced: Value =
                serde_json::from_slice(lines[1].strip_prefix(&[0xff]).unwrap()).unwrap();
            let sync = synced["arguments"]["id"].as_u64().unwrap();
            let said = format!("{{\"return\": 1}}\n\0{{\"return\": {sync}}}\n{{\"return\": 1}}\n");
            let said: Vec<u8> = said
                .into_bytes()
                .into_iter()
                .map(|byte| if byte == 0 { 0xff } else { byte })
                .collect();
            guest.get_mut().write_all(&said).await.unwrap();
        };
        let (thawed, ()) = tokio::join!(told, says);
        assert_eq!(thawed.unwrap(), 1);
    }
}
