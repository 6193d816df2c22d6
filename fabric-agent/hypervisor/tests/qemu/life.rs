//! Guests outlive agents, and every end is seen.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use weft_hypervisor::{ExitCause, GuestError, GuestObservation};

use crate::bench::{Bench, PATIENCE, boot_sector, example, holder, kill, wait_for};

#[tokio::test]
async fn a_guest_survives_the_kill_of_its_agent_and_is_adopted() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.spec(boot_sector::HELLO);
    let spec_file = bench.dir.path().join("wanted.json");
    std::fs::write(&spec_file, serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut agent = Command::new(example())
        .arg("launch")
        .arg(bench.dir.path().join("guests"))
        .arg(&spec_file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(agent.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "launched\n");
    agent.kill().unwrap();
    agent.wait().unwrap();

    let id = &spec.instance_id;
    assert_eq!(&bench.guests.list().unwrap(), std::slice::from_ref(id));
    let guest = bench.running(id).await;
    assert_eq!((guest.epoch, guest.uuid), (spec.epoch, spec.uuid));
    assert!(guest.holder.is_alive());
    bench.console_contains(id, "hello").await;
    let first = bench.guests.events(id).unwrap().first_console_byte_at_unix_ms.unwrap();
    assert!(first >= guest.started_at_unix_ms);

    let again = bench.guests.launch(&spec, &holder()).await.unwrap_err();
    assert!(matches!(again, GuestError::AlreadyRunning { .. }), "{again}");
    bench.finish().await;
}

#[tokio::test]
async fn a_power_off_by_the_guest_is_hinted_at_and_seen_by_a_later_agent_too() {
    let Some(mut bench) = Bench::new() else { return };
    let mut hints = bench.guests.hints();
    let spec = bench.launch(boot_sector::POWER_OFF).await;
    let id = &spec.instance_id;
    wait_for("the power-off", async || match bench.guests.observe(id).await.unwrap() {
        GuestObservation::PoweredOff { guest } => Some(guest),
        _ => None,
    })
    .await;
    let hint = tokio::time::timeout(PATIENCE, hints.recv()).await.unwrap().unwrap();
    assert_eq!(&hint, id);

    let later = bench.other_agent();
    // QEMU serves one client: the first one must be gone before another is heard.
    let unheard = later.observe(id).await.unwrap();
    assert!(matches!(unheard, GuestObservation::Unresponsive { .. }), "{unheard:?}");
    bench.guests = later;
    let seen = bench.guests.observe(id).await.unwrap();
    assert!(matches!(seen, GuestObservation::PoweredOff { .. }), "{seen:?}");

    bench.guests.quit(id).await.unwrap();
    let GuestObservation::Exited { exit } = bench.guests.observe(id).await.unwrap() else {
        panic!("it was told to quit");
    };
    assert_eq!((exit.cause, exit.epoch), (ExitCause::Code(0), spec.epoch));
    bench.finish().await;
}

#[tokio::test]
async fn a_qemu_killed_from_outside_is_hinted_at_and_seen_with_its_signal() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let id = &spec.instance_id;
    let guest = bench.running(id).await;
    let mut hints = bench.guests.hints();
    kill(guest.qemu.pid);
    let hint = tokio::time::timeout(PATIENCE, hints.recv()).await.unwrap().unwrap();
    assert_eq!(&hint, id);
    let GuestObservation::Exited { exit } = bench.guests.observe(id).await.unwrap() else {
        panic!("it was killed");
    };
    assert_eq!(exit.cause, ExitCause::Signal(9));
    assert!(exit.at_unix_ms >= guest.started_at_unix_ms);

    let error = bench.guests.power_button(id).await.unwrap_err();
    assert!(matches!(error, GuestError::NotRunning { .. }), "{error}");
    // The same guest may be started again.
    bench.guests.launch(&spec, &holder()).await.unwrap();
    assert_ne!(bench.running(id).await.qemu, guest.qemu);
    bench.finish().await;
}

#[tokio::test]
async fn a_guest_lives_on_without_its_holder() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.launch(boot_sector::FLOOD).await;
    let id = &spec.instance_id;
    let guest = bench.running(id).await;
    kill(guest.holder.pid);
    wait_for("the end of the holder", async || (!guest.holder.is_alive()).then_some(())).await;
    bench.guests.power_button(id).await.unwrap();
    assert_eq!(bench.running(id).await, guest);
    let again = bench.guests.launch(&spec, &holder()).await.unwrap_err();
    assert!(matches!(again, GuestError::AlreadyRunning { .. }), "{again}");

    kill(guest.qemu.pid);
    wait_for("the end of qemu", async || (!guest.qemu.is_alive()).then_some(())).await;
    let GuestObservation::Exited { exit } = bench.guests.observe(id).await.unwrap() else {
        panic!("it was killed");
    };
    assert_eq!(exit.cause, ExitCause::Unknown);
    bench.finish().await;
}

#[tokio::test]
async fn records_of_another_boot_or_another_process_are_not_a_running_guest() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.launch(boot_sector::HELLO).await;
    let id = &spec.instance_id;
    let record = bench.guests.dir(id).join("guest.json");
    let guest = bench.running(id).await;
    kill(guest.holder.pid);
    wait_for("the end of the holder", async || (!guest.holder.is_alive()).then_some(())).await;

    let mut of_other_boot = guest.clone();
    of_other_boot.boot_id = "00000000-0000-0000-0000-000000000000".to_owned();
    let mut of_reused_pid = guest.clone();
    of_reused_pid.qemu.start_ticks += 1;
    let mut of_other_guest = guest.clone();
    of_other_guest.uuid = "00112233-4455-4677-8899-aabbccddeeff".parse().unwrap();
    for wrong in [of_other_boot, of_reused_pid, of_other_guest] {
        std::fs::write(&record, serde_json::to_vec(&wrong).unwrap()).unwrap();
        let seen = bench.guests.observe(id).await.unwrap();
        assert!(matches!(seen, GuestObservation::Exited { .. }), "{wrong:?}: {seen:?}");
    }
    // What no record names is found by its uuid and user, and ended; its launch does not count.
    std::fs::remove_file(&record).unwrap();
    assert!(guest.qemu.is_alive());
    let GuestObservation::Exited { exit } = bench.guests.observe(id).await.unwrap() else {
        panic!("a launch without a record of its QEMU is there");
    };
    assert_eq!(exit.epoch, spec.epoch - 1);
    bench.guests.purge(id).await.unwrap();
    assert!(!guest.qemu.is_alive());
    bench.finish().await;
}

#[tokio::test]
async fn an_agent_may_be_killed_at_any_moment_of_a_launch() {
    let Some(bench) = Bench::new() else { return };
    let spec = bench.spec(boot_sector::HELLO);
    let id = &spec.instance_id;
    let spec_file = bench.dir.path().join("wanted.json");
    std::fs::write(&spec_file, serde_json::to_vec(&spec).unwrap()).unwrap();
    for delay_ms in [0, 2, 5, 10, 20, 40, 80, 160, 320] {
        let mut agent = Command::new(example())
            .arg("launch")
            .arg(bench.dir.path().join("guests"))
            .arg(&spec_file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(delay_ms)).await;
        agent.kill().unwrap();
        agent.wait().unwrap();
        // The next agent does what its planner would: look, and start what is not there.
        wait_for("a running guest", async || {
            match bench.guests.observe(id).await.unwrap() {
                GuestObservation::Running { .. } => return Some(()),
                GuestObservation::Absent | GuestObservation::Exited { .. } => {
                    match bench.guests.launch(&spec, &holder()).await {
                        Ok(()) | Err(GuestError::AlreadyRunning { .. }) => {}
                        Err(error) => panic!("after {delay_ms} ms: {error}"),
                    }
                }
                _ => {}
            }
            None
        })
        .await;
        assert_eq!(processes_with(&spec.uuid.to_string()), 1, "after {delay_ms} ms");
        bench.guests.purge(id).await.unwrap();
        assert_eq!(processes_with(&spec.uuid.to_string()), 0, "after {delay_ms} ms");
    }
    bench.finish().await;
}

fn processes_with(argument: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let has = |path: std::path::PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    };
    processes.filter(|process| has(process.path())).count()
}
