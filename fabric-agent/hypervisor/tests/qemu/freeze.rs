//! Guests that are frozen, and those that cannot be, on a real QEMU: a boot sector runs no agent, so where
//! one is to answer, the test does, on a socket that it puts in the place of QEMU's.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use weft_hypervisor::{FreezeNote, GuestError, GuestSpec, ROOT_DEVICE, WentOver};
use weft_model::LayerId;

use crate::bench::{Bench, boot_sector, holder};
use crate::throttle::next_disk;

#[tokio::test]
async fn a_guest_without_an_agent_keeps_its_disk_and_is_not_noted_as_frozen() {
    let Some(bench) = Bench::new() else { return };
    let guests = &bench.guests;
    let (layer, next) = (LayerId::from_random([3; 9]), next_disk(&bench));
    let note = FreezeNote::in_dir(bench.dir.path());
    for has_port in [false, true] {
        let mut spec = bench.spec(boot_sector::HELLO);
        spec.guest_agent = has_port;
        guests.launch(&spec, &holder()).await.unwrap();
        let id = &spec.instance_id;
        let error = guests.agent_answers(id).await.unwrap_err();
        let why = std::error::Error::source(&error).map(ToString::to_string);
        match (&error, has_port) {
            (GuestError::NoAgentPort { .. }, false) => {}
            (GuestError::NoAgent { .. }, true) => {
                assert!(why.is_some_and(|why| why.contains("not answered")), "{error}");
            }
            _ => panic!("{has_port}: {error}"),
        }
        // It is refused as QEMU would: nothing has changed, and it can be taken otherwise.
        let frozen = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, false, Some(&note)).await;
        assert!(frozen.unwrap_err().refused());
        assert!(!guests.freezes(id, &note).unwrap().left_frozen);
        assert!(!Path::exists(&bench.dir.path().join("freeze.json")));
        guests.forget_switch(id, &layer).await.unwrap();
        let plain = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, false, None).await;
        assert_eq!(plain.unwrap(), WentOver::AsAsked);
        // Done already, and nobody knows from what.
        let again = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, false, Some(&note)).await;
        assert_eq!(again.unwrap(), WentOver::PerhapsThawed);
        guests.quit(id).await.unwrap();
    }
    bench.finish().await;
}

const YES: &str = r#"{"return": 1}"#;
const NO: &str = r#"{"error": {"class": "CommandNotFound", "desc": "it is disabled"}}"#;

/// A guest in which the test says what an agent says: to a freeze, and to a thaw.
async fn guest_that_says(bench: &Bench, freeze: &'static str, thaw: &'static str) -> GuestSpec {
    let mut spec = bench.spec(boot_sector::HELLO);
    spec.guest_agent = true;
    bench.guests.launch(&spec, &holder()).await.unwrap();
    let socket = bench.guests.dir(&spec.instance_id).join("agent.sock");
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, freeze, thaw));
        }
    });
    spec
}

async fn answer(stream: UnixStream, freeze: &str, thaw: &str) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let told = line.strip_prefix(&[0xff]).unwrap_or(&line);
        let told: Value = serde_json::from_slice(told).unwrap();
        let said = match told["execute"].as_str().unwrap() {
            "guest-fsfreeze-freeze" => freeze.as_bytes().to_vec(),
            "guest-fsfreeze-thaw" => thaw.as_bytes().to_vec(),
            _ => {
                let synced = json!({ "return": told["arguments"]["id"] });
                [&[0xff_u8][..], synced.to_string().as_bytes()].concat()
            }
        };
        if stream.get_mut().write_all(&[&said[..], &b"\n"[..]].concat()).await.is_err() {
            return;
        }
        line.clear();
    }
}

/// The note as an agent left it that died, or could not thaw.
fn left_frozen(bench: &Bench, layer: &LayerId, accepted: bool) {
    let disk = json!({ "device": ROOT_DEVICE, "layer": layer });
    let now = json!({ "state": "frozen", "disk": disk, "accepted": accepted });
    let note = json!({ "now": now, "kept": {} });
    fs::write(bench.dir.path().join("freeze.json"), note.to_string()).unwrap();
}

#[tokio::test]
async fn a_guest_that_freezes_and_thaws_has_its_disk_taken_in_between() {
    let Some(bench) = Bench::new() else { return };
    let guests = &bench.guests;
    let (layer, next) = (LayerId::from_random([3; 9]), next_disk(&bench));
    let note = FreezeNote::in_dir(bench.dir.path());
    let again = bench.dir.path().join("again.qcow2");
    fs::copy(&next, &again).unwrap();
    let spec = guest_that_says(&bench, YES, YES).await;
    let id = &spec.instance_id;
    for _ in 0..2 {
        let frozen = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, false, Some(&note)).await;
        assert_eq!(frozen.unwrap(), WentOver::AsAsked);
        assert!(!guests.freezes(id, &note).unwrap().left_frozen);
    }
    // An agent that ends leaves what is not begun to the next one.
    let later = LayerId::from_random([5; 9]);
    guests.freeze_no_more();
    let frozen = guests.switch_disk(id, ROOT_DEVICE, &later, &again, false, Some(&note)).await;
    let error = frozen.unwrap_err();
    assert!(matches!(error, GuestError::AgentEnds { .. }) && error.is_retryable(), "{error}");
    assert!(!guests.freezes(id, &note).unwrap().left_frozen && !error.refused());
    guests.quit(id).await.unwrap();
    bench.finish().await;
}

#[tokio::test]
async fn a_guest_whose_agent_knows_neither_command_is_not_noted_as_frozen() {
    let Some(bench) = Bench::new() else { return };
    let guests = &bench.guests;
    let (layer, next) = (LayerId::from_random([3; 9]), next_disk(&bench));
    let note = FreezeNote::in_dir(bench.dir.path());
    let spec = guest_that_says(&bench, NO, NO).await;
    let id = &spec.instance_id;
    let frozen = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, false, Some(&note)).await;
    assert!(matches!(frozen.unwrap_err(), GuestError::NotFrozen { said_so: true, .. }));
    assert!(!guests.freezes(id, &note).unwrap().left_frozen);
    // Nor where an agent died before it had an answer.
    left_frozen(&bench, &layer, false);
    assert!(guests.freezes(id, &note).unwrap().left_frozen);
    guests.thaw(id, &note).await.unwrap();
    assert!(!Path::exists(&bench.dir.path().join("freeze.json")));
    guests.quit(id).await.unwrap();
    bench.finish().await;
}

#[tokio::test]
async fn a_guest_that_stays_frozen_keeps_no_snapshot_waiting_and_stays_noted() {
    let Some(bench) = Bench::new() else { return };
    let guests = &bench.guests;
    let (layer, next) = (LayerId::from_random([3; 9]), next_disk(&bench));
    let note = FreezeNote::in_dir(bench.dir.path());
    let spec = guest_that_says(&bench, YES, NO).await;
    let id = &spec.instance_id;
    left_frozen(&bench, &LayerId::from_random([4; 9]), true);
    let frozen = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, false, Some(&note)).await;
    let error = frozen.unwrap_err();
    assert!(matches!(error, GuestError::FrozenBefore { .. }), "{error}");
    assert!(error.refused() && !error.is_retryable());
    assert!(guests.freezes(id, &note).unwrap().left_frozen);
    assert!(guests.thaw(id, &note).await.is_err_and(|error| error.is_retryable()));
    // It can be taken as it is.
    guests.switch_disk(id, ROOT_DEVICE, &layer, &next, false, None).await.unwrap();
    // What was taken of it while it was frozen does not wait for a thaw that tells what it is worth.
    let frozen = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, false, Some(&note)).await;
    assert_eq!(frozen.unwrap(), WentOver::PerhapsFrozenStill);
    assert!(guests.freezes(id, &note).unwrap().left_frozen);
    guests.quit(id).await.unwrap();
    bench.finish().await;
}
