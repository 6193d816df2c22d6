use std::fmt::Write as _;

use weft_model::{CloudInitOutcome, PhaseRecord, Timestamp};

use super::*;

/// What users read; `UPDATE_GOLDEN=1 cargo test -p fabric-agent failed_waits` writes it anew.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wait/evidence/golden.txt");

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn status(state: InstanceState, phases: &[(Phase, i64)]) -> InstanceStatus {
    let phases =
        phases.iter().map(|(phase, second)| PhaseRecord { phase: *phase, at: at(*second) });
    InstanceStatus { state, epoch: 1, phases: phases.collect(), ..InstanceStatus::accepted(at(0)) }
}

fn booted() -> InstanceStatus {
    status(InstanceState::Running, &[(Phase::Accepted, 0), (Phase::HypervisorStarted, 1)])
}

fn asked(dhcp_asked: Option<i64>, dhcp: Option<i64>, read: Option<&str>) -> Asked {
    let last_read = read.map(|path| (path.to_owned(), at(9)));
    Asked { dhcp_asked: dhcp_asked.map(at), dhcp: dhcp.map(at), last_read }
}

/// A case: what it is, what is waited for, and what was seen.
struct Case {
    name: &'static str,
    wait_for: WaitFor,
    status: InstanceStatus,
    asked: Asked,
    ssh: Option<SshSeen>,
    groups: &'static str,
    console: Result<&'static str, &'static str>,
}

fn case(name: &'static str) -> Case {
    Case {
        name,
        wait_for: WaitFor::Ssh,
        status: booted(),
        asked: Asked::default(),
        ssh: Some(SshSeen::Silent),
        groups: "port 22 is admitted from 10.0.0.0/8",
        console: Ok("[    1.2] Freeing unused kernel image memory\nlogin: "),
    }
}

fn cases() -> Vec<Case> {
    let panicked = status(InstanceState::Failed, &[(Phase::Accepted, 0), (Phase::Kernel, 2)]);
    let panic = |name, console| Case {
        status: panicked.clone(),
        ssh: None,
        console: Ok(console),
        ..case(name)
    };
    let given = || asked(None, Some(5), Some("/latest/user-data"));
    let seen_before = status(
        InstanceState::Running,
        &[(Phase::Accepted, 0), (Phase::Kernel, 2), (Phase::DhcpOrImds, 5)],
    );
    let cloud_init = CloudInitReport::new(
        CloudInitOutcome::Error,
        ["scripts_user: exit 3".to_owned()],
        "DataSourceNoCloud",
        at(20),
    );
    vec![
        panic(
            "a kernel without a root file system",
            "[    0.9] VFS: Cannot open root device \"vda9\" or unknown-block(0,0): error -6\n\
             [    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n\
             [    0.9] CPU: 0 PID: 1 Comm: swapper/0 Not tainted\n[    0.9] Call Trace:\n",
        ),
        panic(
            "another panic",
            "[    1.4] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n",
        ),
        Case { console: Ok(""), ..case("a guest that never boots") },
        case("a guest that does not bring its network up"),
        Case {
            asked: asked(Some(4), None, None),
            ..case("an address that is offered and not taken")
        },
        Case { asked: given(), ..case("an address, and silence on port 22") },
        Case {
            asked: given(),
            ssh: Some(SshSeen::Refused),
            groups: "no rule admits port 22 from anywhere (this wait passes beside the groups)",
            ..case("no SSH server, and closed groups")
        },
        Case {
            asked: given(),
            ssh: Some(SshSeen::NoExchange("none within 15 s".to_owned())),
            ..case("an SSH server that does not get ready")
        },
        Case {
            asked: given(),
            ssh: Some(SshSeen::WrongKey("SHA256:abc".to_owned())),
            ..case("an SSH server with a host key of its own")
        },
        Case {
            asked: given(),
            console: Ok("[   31.2] Out of memory: Killed process 411 (sshd) total-vm:1786012kB\n"),
            ..case("a guest without memory")
        },
        Case {
            asked: given(),
            console: Ok("cloud-init[301]: OSError: [Errno 28] No space left on device\n"),
            ..case("a guest without room on its disk")
        },
        Case {
            console: Ok("You are in emergency mode. After logging in, type \"journalctl -xb\"\n"),
            ..case("a guest that waits at its console")
        },
        Case { status: seen_before, ..case("an agent that was started after the guest") },
        Case {
            wait_for: WaitFor::CloudInit,
            status: InstanceStatus { cloud_init: Some(cloud_init), ..booted() },
            asked: given(),
            ssh: Some(SshSeen::Refused),
            ..case("cloud-init that failed")
        },
        Case { wait_for: WaitFor::Signal, asked: given(), ..case("a guest that does not signal") },
        Case {
            wait_for: WaitFor::Running,
            status: status(InstanceState::Starting, &[(Phase::Accepted, 0)]),
            ssh: None,
            console: Err("read the console of i-1: permission denied"),
            ..case("a guest that is not started")
        },
    ]
}

#[test]
fn failed_waits_are_told_in_the_words_of_the_golden_file() {
    let id = "i-0123456789abcdef0".parse().unwrap();
    let mut text = String::new();
    for case in cases() {
        let Case { name, wait_for, status, asked, ssh, groups, console } = case;
        let console = console.map(|text| console::lines(text.as_bytes())).map_err(str::to_owned);
        let until = Until::Ready(wait_for);
        let seen = Seen { id: &id, until, status: &status, asked, ssh, groups, console };
        let _ = writeln!(text, "## {name}\n\n{}\n\n{}.\n", seen.evidence(), seen.remedy());
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(GOLDEN, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(GOLDEN).unwrap());
}

#[test]
fn what_a_guest_wrote_does_not_steer_a_terminal() {
    let id = "i-0123456789abcdef0".parse().unwrap();
    let seen = Seen {
        id: &id,
        until: Until::Ready(WaitFor::Ssh),
        status: &booted(),
        asked: asked(None, None, Some("/\u{1b}[2J\u{202e}")),
        ssh: Some(SshSeen::NoExchange("\u{9b}2J\u{7}".to_owned())),
        groups: "",
        console: Ok(console::lines(
            b"\x1b]0;evil\x07\x1b[2J\x1bcKernel panic - not syncing: \xc2\x9b31m\n",
        )),
    };
    let told = seen.evidence() + &seen.remedy();
    assert!(told.chars().all(|c| c == '\n' || shows_itself(c)), "{told:?}");
    assert!(told.contains("Kernel panic - not syncing: 31m"), "{told}");
}
