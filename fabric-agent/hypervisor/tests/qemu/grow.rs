//! Guests that become bigger while they run, on a real QEMU.

use weft_hypervisor::{Booted, GrownSize, GuestSpec, MemoryFiles, Resume};
use weft_model::{GuestSize, Maxima};

use crate::bench::{Bench, boot_sector, holder};
use crate::cgroups::{groups, limit};
use crate::memory::{answers, counts_its_boots, is_read_back, save};

fn grown(vcpus: u32, memory_mib: u32, slots: &[u8]) -> Option<GrownSize> {
    let size = GuestSize { vcpus, memory_mib };
    Some(GrownSize { size, slots: slots.iter().copied().collect() })
}

fn with_room(bench: &Bench) -> GuestSpec {
    let maxima = Maxima { vcpus: Some(4), memory_mib: Some(512) };
    GuestSpec { memory_mib: 128, maxima, ..bench.spec(&counts_its_boots()) }
}

#[tokio::test]
async fn a_guest_grows_step_by_step_and_keeps_what_it_has_over_a_sleep() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = with_room(&bench);
    let id = spec.instance_id.clone();
    bench.guests.launch(&spec, &holder()).await.unwrap();
    bench.console_contains(&id, "B").await;
    assert_eq!(bench.guests.grown_size(&id).await.unwrap(), grown(1, 128, &[]));

    // Each step may be repeated.
    for _ in 0..2 {
        bench.guests.add_vcpus(&id, 2).await.unwrap();
        bench.guests.add_memory(&id, 0, 256).await.unwrap();
    }
    assert_eq!(bench.guests.grown_size(&id).await.unwrap(), grown(2, 384, &[0]));
    // Another agent goes on from there.
    bench.guests = bench.other_agent();
    bench.guests.add_memory(&id, 1, 128).await.unwrap();
    bench.guests.add_vcpus(&id, 3).await.unwrap();
    let all = grown(3, 512, &[0, 1]);
    assert_eq!(bench.guests.grown_size(&id).await.unwrap(), all);
    let places = bench.guests.add_vcpus(&id, 5).await.unwrap_err();
    assert!(places.to_string().contains("without places for 5 vCPUs"), "{places}");
    answers(&bench, &id, b'0').await;

    // It sleeps, wakes up with all of it, and still has room.
    let files = MemoryFiles::in_dir(bench.dir.path());
    for vcpus in [3, 4] {
        save(&bench, &id, &files).await.unwrap();
        let saved = files.machine().unwrap();
        let Booted { size, maxima, parts } = saved.booted.unwrap();
        assert_eq!(size, GuestSize { vcpus: 1, memory_mib: 128 });
        spec.epoch += 1;
        spec.resume =
            Some(Resume { path: files.saved(), machine: saved.machine, guest_agent: false });
        (spec.maxima, spec.parts) = (maxima, parts);
        assert_eq!(Some(spec.size()), grown(vcpus, 512, &[]).map(|grown| grown.size));
        bench.guests.launch(&spec, &holder()).await.unwrap();
        is_read_back(&bench, &id).await;
        bench.guests.resume(&id, &files).await.unwrap();
        assert_eq!(bench.guests.grown_size(&id).await.unwrap(), grown(vcpus, 512, &[0, 1]));
        answers(&bench, &id, b'0' + u8::try_from(vcpus).unwrap()).await;
        bench.guests.add_vcpus(&id, 4).await.unwrap();
    }
    bench.finish().await;
}

#[tokio::test]
async fn a_guest_is_given_no_more_than_it_has_room_for() {
    let Some(bench) = Bench::new() else { return };
    // Halted: where QEMU refuses a device, it waits for every processor to have come by.
    let maxima = Maxima { vcpus: None, memory_mib: Some(256) };
    let spec = GuestSpec { memory_mib: 128, maxima, ..bench.spec(boot_sector::HELLO) };
    let id = &spec.instance_id;
    bench.guests.launch(&spec, &holder()).await.unwrap();
    bench.guests.add_memory(id, 0, 128).await.unwrap();
    for (slot, mib) in [(0, 128), (1, 128)] {
        let added = bench.guests.add_memory(id, slot, mib).await;
        assert!(added.is_ok() == (slot == 0), "{added:?}");
        assert!(added.err().is_none_or(|error| error.refused()));
        assert_eq!(bench.guests.grown_size(id).await.unwrap(), grown(1, 256, &[0]));
    }

    let spec = bench.launch(boot_sector::HELLO).await;
    let id = &spec.instance_id;
    assert_eq!(bench.guests.grown_size(id).await.unwrap(), None);
    let refused = bench.guests.add_memory(id, 0, 128).await.unwrap_err();
    assert!(refused.refused(), "{refused}");
    bench.guests.add_vcpus(id, 1).await.unwrap();
    let refused = bench.guests.add_vcpus(id, 2).await.unwrap_err();
    assert!(refused.to_string().contains("a restart gives it them"), "{refused}");
    bench.finish().await;
}

#[tokio::test]
async fn the_limits_of_a_guest_that_runs_are_raised() {
    let Some(bench) = Bench::limited("hv6") else { return };
    let spec = with_room(&bench);
    let id = &spec.instance_id;
    bench.guests.launch(&spec, &holder()).await.unwrap();
    let found = groups(bench.running(id).await.qemu.pid);
    let memory = || limit(&found, ["memory.max", "memory.limit_in_bytes"]);
    // 32 MiB for TCG's cache, 64 and 256 besides.
    assert_eq!(memory(), Some((128 + 32 + 64 + 256) << 20));
    let size = GuestSize { vcpus: 3, memory_mib: 512 };
    for _ in 0..2 {
        bench.guests.raise_limits(id, size, false).await.unwrap();
        assert_eq!(memory(), Some((512 + 32 + 64 + 256) << 20));
        assert_eq!(limit(&found, ["pids.max", "pids.max"]), Some(131));
        assert!(matches!(limit(&found, ["cpu.weight", "cpu.shares"]), Some(300 | 3072)));
    }
    bench.finish().await;
}
