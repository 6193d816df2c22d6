use std::net::Ipv4Addr;

use weft_model::{
    BootMode, Claim, Digest, DiskFormat, GroupId, ImageContent, ImageId, InstanceId, InstanceState,
    Interface, InterfaceId, MacAddr, SshHostKey, SubnetId, Tags, Timestamp, VpcId,
};

use super::*;
use crate::{Observation, derive_status};

pub(crate) fn record(power: PowerState, run_epoch: u64) -> Record<InstanceId, InstanceSpec> {
    let vpc_id = VpcId::from_random([1; 9]);
    Record {
        id: InstanceId::from_random([1; 9]),
        generation: 1,
        spec: InstanceSpec {
            name: None,
            image_id: ImageId::from_random([1; 9]),
            image: ImageContent {
                disk: Digest::from_bytes([1; 32]),
                format: DiskFormat::Raw,
                virtual_size_bytes: 1 << 20,
                boot_mode: BootMode::Bios,
                kernel: None,
            },
            default_user: "weft".to_owned(),
            instance_type: None,
            vcpus: 1,
            memory_mib: 128,
            maxima: Default::default(),
            network_mbps: None,
            interface: Interface {
                id: InterfaceId::from_random([1; 9]),
                vpc_id,
                subnet_id: SubnetId::from_random([1; 9]),
                private_ip: Ipv4Addr::new(10, 0, 0, 4),
                ipv6: None,
                mac: MacAddr::from_random([1; 5]),
                link: "weft0".parse().unwrap(),
                security_group_ids: Some([GroupId::from_random([1; 9])].into()),
                source_dest_check: true,
                network_mbps: None,
            },
            keys: Vec::new(),
            user_data: None,
            root_size_gib: None,
            root_limits: Default::default(),
            display: false,
            metadata_options: None,
            lifecycle: Default::default(),
            stop_seconds: None,
            hibernate: false,
            power,
            run_epoch,
            host_key: SshHostKey {
                private_pem: "secret".into(),
                public_line: "ssh-ed25519 A".into(),
            },
            uid: 1_900_000_000,
            public_ip: None,
            root_layers: Vec::new(),
        },
        tags: Tags::default(),
        client_data: String::new(),
        created_at: Timestamp::UNIX_EPOCH,
        deleting_since: None,
        claim: Claim::Claimed,
    }
}

pub(crate) fn guest_network() -> GuestNetwork {
    let gateway = Ipv4Addr::new(10, 0, 0, 1);
    GuestNetwork { prefix_len: 24, gateway, dns_servers: Vec::new(), on_lan: false }
}

fn show(step: &InstanceStep) -> String {
    let name = |action: &Action| match action {
        Action::MakeRootDisk { .. } => "disk",
        Action::WriteSeed { .. } => "seed",
        Action::StartGuest(_) => "start",
        Action::EndGuest { .. } => "end",
        Action::HibernateGuest { .. } => "save",
        Action::KeepMemory { .. } => "keep",
        Action::ResumeGuest { .. } => "resume",
        Action::ForgetMemory { .. } => "forget-memory",
        Action::ForgetGuest { .. } => "forget-guest",
        Action::RemoveDisks { .. } => "remove-disks",
        _ => "?",
    };
    match step {
        InstanceStep::Do(actions) => actions.iter().map(name).collect::<Vec<_>>().join(" "),
        InstanceStep::Prepare(actions) => {
            format!("prepare {}", actions.iter().map(name).collect::<Vec<_>>().join("+"))
        }
        other => format!("{other:?}"),
    }
}

fn running(epoch: u64) -> GuestState {
    GuestState::Running { epoch }
}

fn exited(epoch: u64) -> GuestState {
    GuestState::Exited { epoch, how: "killed by signal 9".to_owned() }
}

#[test]
fn each_situation_has_one_next_step() {
    let run = Wanted::Run { epoch: 2 };
    let off = GuestState::PoweredOff { epoch: 2 };
    #[rustfmt::skip]
    let cases = [
        // wanted,      guest,               disk,  seed,  network, grace over, step
        (run,           GuestState::Absent,  false, false, false, false, "prepare disk+seed"),
        (run,           GuestState::Absent,  false, true,  false, false, "prepare disk"),
        (run,           GuestState::Absent,  true,  false, true,  false, "prepare seed"),
        (run,           GuestState::Absent,  true,  true,  false, false, "AwaitNetwork"),
        (run,           GuestState::Absent,  true,  true,  true,  false, "start"),
        (run,           running(2),          true,  true,  true,  false, "Rest"),
        (run,           running(2),          true,  true,  false, false, "AwaitNetwork"),
        (run,           running(1),          true,  true,  true,  false, "AwaitShutdown"),
        (run,           running(1),          true,  true,  true,  true,  "end"),
        (run,           exited(1),           true,  true,  true,  false, "start"),
        (run,           exited(2),           true,  true,  true,  false, "Rest"),
        (run,           off.clone(),         true,  true,  true,  false, "Rest"),
        (Wanted::Off,   running(2),          true,  true,  true,  false, "AwaitShutdown"),
        (Wanted::Off,   running(2),          true,  true,  true,  true,  "end"),
        (Wanted::Off,   off.clone(),         true,  true,  true,  false, "end"),
        (Wanted::Off,   exited(2),           true,  true,  true,  false, "Rest"),
        (Wanted::Gone,  running(2),          true,  true,  true,  false, "AwaitShutdown"),
        (Wanted::Gone,  off,                 true,  true,  true,  false, "end"),
        (Wanted::Gone,  exited(2),           true,  true,  true,  false, "forget-guest"),
        (Wanted::Gone,  GuestState::Absent,  true,  true,  true,  false, "AwaitNetwork"),
        (Wanted::Gone,  GuestState::Absent,  true,  true,  false, false, "remove-disks"),
        (Wanted::Gone,  GuestState::Absent,  false, true,  false, false, "Forget"),
    ];
    let record = record(PowerState::Running, 2);
    for (wanted, guest, disk, seed, network, grace_over, want) in cases {
        let seen = SeenInstance {
            folder: disk,
            root_disk: disk,
            has_run: false,
            seed: disk,
            seed_is_current: seed,
            guest,
            network_ready: network,
            tap: network,
            ..SeenInstance::default()
        };
        let step = plan_instance(
            &record,
            Some(&guest_network()),
            &Attached::default(),
            wanted,
            &seen,
            grace_over,
        );
        assert_eq!(show(&step), want, "{wanted:?} {seen:?} grace over: {grace_over}");
    }
}

#[test]
fn what_an_interrupted_step_left_goes_with_the_instance() {
    let gone = |seen: SeenInstance| {
        let network = guest_network();
        let record = record(PowerState::Running, 1);
        let attached = Attached::default();
        let step = plan_instance(&record, Some(&network), &attached, Wanted::Gone, &seen, false);
        show(&step)
    };
    // The host key is written before the seed: neither disk nor seed is there yet.
    let half = SeenInstance { folder: true, ..SeenInstance::default() };
    assert_eq!(gone(half), "remove-disks");
    assert_eq!(gone(SeenInstance::default()), "Forget");
}

#[test]
fn an_instance_whose_guest_died_rests_until_it_is_asked_for_again() {
    let mut asked = record(PowerState::Running, 1);
    let fresh = InstanceStatus::accepted(Timestamp::UNIX_EPOCH);
    let seen = Observation { guest: running(1), ..Observation::default() };
    let up = derive_status(&asked, &fresh, &seen, Timestamp::UNIX_EPOCH);
    assert_eq!(up.state, InstanceState::Running);

    let died = Observation { guest: exited(1), ..Observation::default() };
    let down = derive_status(&asked, &up, &died, Timestamp::UNIX_EPOCH);
    assert_eq!(down.state, InstanceState::Failed);
    assert_eq!(down.reason.as_deref(), Some("killed by signal 9"));
    assert_eq!(wanted(&asked, &down), Wanted::Off);

    asked.spec.run_epoch = 2;
    assert_eq!(wanted(&asked, &down), Wanted::Run { epoch: 2 });
    let again = derive_status(&asked, &down, &died, Timestamp::UNIX_EPOCH);
    assert_eq!(
        again.state,
        InstanceState::Starting,
        "the old launch's end says nothing of the new"
    );
}

#[test]
fn a_guest_that_powers_itself_off_ends_up_stopped() {
    let asked = record(PowerState::Running, 1);
    let mut status = InstanceStatus::accepted(Timestamp::UNIX_EPOCH);
    for (guest, want) in [
        (running(1), InstanceState::Running),
        (GuestState::PoweredOff { epoch: 1 }, InstanceState::Stopping),
        (exited(1), InstanceState::Stopped),
        (exited(1), InstanceState::Stopped),
    ] {
        let seen = Observation { guest, ..Observation::default() };
        status = derive_status(&asked, &status, &seen, Timestamp::UNIX_EPOCH);
        assert_eq!(status.state, want);
    }
    assert_eq!(status.reason.as_deref(), Some("the guest powered off"));
}

#[test]
fn stop_and_start_give_a_new_launch_with_its_own_phases() {
    let at = |ms| Timestamp::from_millisecond(ms).unwrap();
    let mut asked = record(PowerState::Running, 1);
    let mut status = InstanceStatus::accepted(at(0));
    let mut look = |asked: &Record<_, _>, guest, shutting_down, now| {
        let seen = Observation { guest, shutting_down, ..Observation::default() };
        status = derive_status(asked, &status, &seen, at(now));
        status.clone()
    };
    assert_eq!(look(&asked, running(1), false, 10).launched_at, Some(at(10)));
    asked.spec.power = PowerState::Stopped;
    assert_eq!(look(&asked, running(1), true, 20).state, InstanceState::Stopping);
    let stopped = look(&asked, exited(1), false, 30);
    assert_eq!((stopped.state, stopped.reason), (InstanceState::Stopped, None));
    asked.spec.power = PowerState::Running;
    asked.spec.run_epoch = 2;
    let again = look(&asked, running(2), false, 40);
    assert_eq!(again.launched_at, Some(at(40)));
    assert_eq!(again.epoch, 2);
}

#[test]
fn a_launch_that_is_repeated_after_a_restart_of_the_machine_has_phases_of_its_own() {
    let at = |ms| Timestamp::from_millisecond(ms).unwrap();
    let asked = record(PowerState::Running, 1);
    let seen = |started| Observation { guest: running(1), started, ..Observation::default() };
    let accepted = InstanceStatus::accepted(at(0));
    let mut up = derive_status(&asked, &accepted, &seen(true), at(10));
    crate::record_phase(&mut up, weft_model::Phase::SshBanner, at(20));
    let adopted = derive_status(&asked, &up, &seen(false), at(30));
    assert_eq!(adopted, up, "a guest that was adopted is the one that was launched");
    let again = derive_status(&asked, &up, &seen(true), at(40));
    assert_eq!(again.launched_at, Some(at(40)));
    assert_eq!(again.reached(weft_model::Phase::SshBanner), None);
}

#[test]
fn what_ails_a_guest_is_told_and_forgotten_with_it() {
    let mut asked = record(PowerState::Running, 1);
    let accepted = InstanceStatus::accepted(Timestamp::UNIX_EPOCH);
    let ill = Observation {
        guest: running(1),
        trouble: Some("it was halted: io-error".to_owned()),
        ..Observation::default()
    };
    let up = derive_status(&asked, &accepted, &ill, Timestamp::UNIX_EPOCH);
    assert_eq!((up.state, up.reason.is_some()), (InstanceState::Running, true));
    asked.spec.power = PowerState::Stopped;
    let gone = Observation { guest: exited(1), ..Observation::default() };
    let off = derive_status(&asked, &up, &gone, Timestamp::UNIX_EPOCH);
    assert_eq!((off.state, off.reason), (InstanceState::Stopped, None));
}

#[test]
fn a_root_disk_that_was_lost_is_never_replaced_by_an_empty_one() {
    let seen = SeenInstance { has_run: true, network_ready: true, ..SeenInstance::default() };
    let record = record(PowerState::Running, 2);
    let step = plan_instance(
        &record,
        Some(&guest_network()),
        &Attached::default(),
        Wanted::Run { epoch: 2 },
        &seen,
        false,
    );
    assert_eq!(step, InstanceStep::DiskLost);
}

#[test]
fn what_is_kept_of_a_guest_is_never_lost_unless_by_force() {
    let run = Wanted::Run { epoch: 2 };
    let saving = |saving| GuestState::Saving { epoch: 1, saving };
    let loading = |epoch| GuestState::Loading { epoch };
    let loaded = |epoch| GuestState::Loaded { epoch };
    use Saving::{Begun, Over, UnderWay};
    use Wanted::{Gone, Hibernated, Off};
    #[rustfmt::skip]
    let cases = [
        // wanted,   guest,              memory, by force, step
        (Hibernated, running(1),         false,  false,    "save"),
        (Hibernated, saving(Begun),      false,  false,    "save"),
        (Hibernated, saving(UnderWay),   false,  false,    "AwaitMemory"),
        (Hibernated, saving(Over),       false,  false,    "keep"),
        (Hibernated, saving(Over),       true,   false,    "keep"),
        (Hibernated, exited(1),          true,   false,    "Rest"),
        (Hibernated, exited(1),          false,  false,    "Rest"),
        // Another agent, another boot of the machine: there is no record of the guest any more.
        (Hibernated, GuestState::Absent, true,   false,    "Rest"),
        // It is carried to its end first, whatever is wanted now.
        (run,        saving(Begun),      false,  false,    "save"),
        (run,        saving(UnderWay),   false,  false,    "AwaitMemory"),
        (run,        saving(Over),       false,  false,    "keep"),
        (Off,        saving(Begun),      false,  false,    "save"),
        (Off,        saving(UnderWay),   false,  false,    "AwaitMemory"),
        (Off,        saving(Over),       false,  false,    "keep"),
        (Off,        saving(UnderWay),   false,  true,     "end"),
        (Off,        saving(Over),       true,   true,     "end"),
        (Gone,       saving(UnderWay),   false,  false,    "end"),
        // Read back.
        (run,        loading(2),         true,   false,    "AwaitMemory"),
        (run,        loading(1),         true,   false,    "end"),
        (Off,        loading(2),         true,   false,    "end"),
        (Off,        loading(2),         false,  true,     "end"),
        (Off,        loading(2),         false,  false,    "AwaitMemory"),
        (Gone,       loading(2),         false,  false,    "end"),
        (run,        exited(1),          true,   false,    "start"),
        (run,        loaded(2),          true,   false,    "resume"),
        // The agent died after the file was removed, before the guest went on.
        (run,        loaded(2),          false,  false,    "resume"),
        (Hibernated, loaded(2),          false,  false,    "resume"),
        (Off,        loaded(2),          false,  false,    "resume"),
        (Hibernated, loaded(2),          true,   false,    "end"),
        (Off,        loaded(2),          true,   false,    "end"),
        (run,        loaded(1),          true,   false,    "end"),
        (Gone,       loaded(2),          true,   false,    "end"),
        (Off,        exited(2),          true,   false,    "Rest"),
        (Off,        exited(2),          true,   true,     "forget-memory"),
        (Off,        exited(2),          false,  true,     "Rest"),
    ];
    for (wanted, guest, memory, forced, want) in cases {
        let mut record = record(PowerState::Running, 2);
        record.spec.stop_seconds = forced.then_some(0);
        // The seed is one of an older start: a guest that goes on keeps it.
        let (root_disk, seed) = (true, true);
        let seen = SeenInstance {
            root_disk,
            seed,
            has_run: true,
            memory,
            guest,
            network_ready: true,
            tap: true,
            ..SeenInstance::default()
        };
        let step = plan_instance(
            &record,
            Some(&guest_network()),
            &Attached::default(),
            wanted,
            &seen,
            false,
        );
        assert_eq!(show(&step), want, "{wanted:?} {seen:?} by force: {forced}");
        if want == "start" {
            let InstanceStep::Do(actions) = &step else { panic!("{step:?}") };
            assert!(matches!(&actions[..], [Action::StartGuest(launch)] if launch.resume));
        }
    }
}

#[test]
fn a_hibernated_instance_is_stopped_and_says_so_and_one_whose_memory_was_lost_says_that() {
    let mut asked = record(PowerState::Stopped, 1);
    asked.spec.hibernate = true;
    assert_eq!(
        wanted(&asked, &InstanceStatus::accepted(Timestamp::UNIX_EPOCH)),
        Wanted::Hibernated
    );
    let mut up = InstanceStatus::accepted(Timestamp::UNIX_EPOCH);
    (up.state, up.epoch, up.launched_at) = (InstanceState::Running, 1, Some(Timestamp::UNIX_EPOCH));
    let look = |asked: &Record<_, _>, before: &InstanceStatus, guest, memory| {
        let seen = Observation { guest, memory, ..Observation::default() };
        derive_status(asked, before, &seen, Timestamp::UNIX_EPOCH)
    };
    let saving = GuestState::Saving { epoch: 1, saving: Saving::UnderWay };
    let saving = look(&asked, &up, saving, false);
    assert_eq!(saving.state, InstanceState::Stopping);
    let down = look(&asked, &saving, exited(1), true);
    assert_eq!(down.state, InstanceState::Stopped);
    assert_eq!(down.reason.as_deref(), Some(weft_model::HIBERNATED));
    assert_eq!(look(&asked, &down, exited(1), true), down);

    let lost = look(&asked, &saving, exited(1), false);
    assert_eq!(lost.state, InstanceState::Stopped);
    assert_eq!(lost.reason.as_deref(), Some("its memory was not saved: killed by signal 9"));
    assert_eq!(look(&asked, &lost, exited(1), false), lost);

    // Thrown away: it is as any other that is off.
    asked.spec.hibernate = false;
    let off = look(&asked, &down, exited(1), false);
    assert_eq!((off.state, off.reason), (InstanceState::Stopped, None));
}

#[test]
fn a_guest_that_goes_on_has_said_what_it_has_said() {
    let report = |outcome| weft_model::CloudInitReport::new(outcome, [], "", Timestamp::UNIX_EPOCH);
    let mut before = InstanceStatus::accepted(Timestamp::UNIX_EPOCH);
    (before.state, before.epoch, before.launched_at) =
        (InstanceState::Stopped, 1, Some(Timestamp::UNIX_EPOCH));
    before.cloud_init = Some(report(weft_model::CloudInitOutcome::Done));
    let asked = record(PowerState::Running, 2);
    for resumed in [true, false] {
        let seen = Observation { guest: running(2), resumed, ..Observation::default() };
        let up = derive_status(&asked, &before, &seen, Timestamp::UNIX_EPOCH);
        assert_eq!((up.epoch, up.cloud_init.is_some()), (2, resumed));
    }
}
