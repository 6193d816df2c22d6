//! Guests that cannot be frozen, on a real QEMU: a boot sector runs no agent.

use std::path::Path;

use weft_hypervisor::{FreezeNote, GuestError, ROOT_DEVICE};
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
        let frozen = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, None, Some(&note)).await;
        assert!(frozen.unwrap_err().refused());
        assert!(!guests.is_left_frozen(id, &note).unwrap());
        assert!(!Path::exists(&bench.dir.path().join("freeze.json")));
        guests.forget_switch(id, &layer).await.unwrap();
        guests.switch_disk(id, ROOT_DEVICE, &layer, &next, None, None).await.unwrap();
        // Done already, and nobody knows from what.
        let again = guests.switch_disk(id, ROOT_DEVICE, &layer, &next, None, Some(&note)).await;
        assert!(matches!(again.unwrap_err(), GuestError::NotKeptFrozen { .. }));
        guests.quit(id).await.unwrap();
    }
    bench.finish().await;
}
