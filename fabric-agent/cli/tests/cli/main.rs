//! The program as people run it, against an agent in this process.

#![expect(clippy::unwrap_used, reason = "a test's helper fails with the test")]

mod copy;
mod display;
mod exec;
mod fake_agent;
mod ssh_server;

use std::io::{BufRead as _, Read as _, Write as _};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use fake_agent::{COUNT, ECHO, FakeAgent, HANG_UP, SAY_BYE_FIRST, STOPPED, TWIN, WEB};

fn agent() -> FakeAgent {
    FakeAgent::start(&ssh_server::public_host_key())
}

fn weft(agent: &FakeAgent, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command
        .args(arguments)
        .env("WEFT_ENDPOINT", format!("unix://{}", agent.socket().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(agent: &FakeAgent, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = weft(agent, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

/// Runs `weft proxy` with `input`; the answer is what came back.
fn proxy(agent: &FakeAgent, port: u16, input: Vec<u8>) -> (i32, Vec<u8>, String) {
    let mut child = weft(agent, &["proxy", WEB, "--port", &port.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A guest that hung up takes no more: the write may fail then.
    let _ = writer.join().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, stderr)
}

/// Bytes without a short period, so that a lost or doubled chunk shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

const FIVE_MIB: usize = 5 << 20;

#[test]
fn the_proxy_copies_both_ways() {
    let agent = agent();
    let sent = pattern(FIVE_MIB);
    let (code, received, stderr) = proxy(&agent, ECHO, sent.clone());
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(received == sent, "{} of {} bytes, or other ones", received.len(), sent.len());
}

#[test]
fn the_end_of_input_reaches_the_guest_while_its_answer_is_awaited() {
    let agent = agent();
    let (code, received, _) = proxy(&agent, COUNT, pattern(FIVE_MIB));
    assert_eq!((code, String::from_utf8(received).unwrap()), (0, FIVE_MIB.to_string()));
}

#[test]
fn the_guests_end_reaches_the_reader_while_input_goes_on() {
    let agent = agent();
    let mut child = weft(&agent, &["proxy", WEB, "--port", &SAY_BYE_FIRST.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Standard output ends although standard input is open.
    let mut received = String::new();
    child.stdout.take().unwrap().read_to_string(&mut received).unwrap();
    assert_eq!(received, "bye");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&pattern(FIVE_MIB)).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    // The guest reads on its own: it is done when the agent's stream is.
    while agent.seen.after_bye.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(agent.seen.after_bye.load(Ordering::SeqCst), FIVE_MIB);
}

#[test]
fn a_guest_that_hangs_up_ends_the_proxy() {
    let agent = agent();
    let (code, received, stderr) = proxy(&agent, HANG_UP, pattern(FIVE_MIB));
    assert_eq!((code, received.len(), stderr.as_str()), (0, 0, ""));
}

#[test]
fn a_port_that_nobody_listens_on_is_an_error() {
    let (code, received, stderr) = proxy(&agent(), 81, Vec::new());
    assert_eq!((code, received.len()), (1, 0));
    assert_eq!(stderr, "error: nobody listens on port 81 of the guest\n");
}

#[test]
fn ssh_runs_a_command_and_returns_its_output_and_exit_status() {
    let (code, stdout, stderr) = run(&agent(), &["ssh", "web", "--", "echo", "a  b", "-n"]);
    assert_eq!(stdout, "ran: echo a  b -n", "{stderr}");
    assert!(stderr.contains("to stderr\n"), "{stderr}");
    assert_eq!(code, i32::try_from(ssh_server::EXIT_STATUS).unwrap());
}

#[test]
fn ssh_finds_its_files_whatever_their_names_are_and_leaves_none() {
    let agent = agent();
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("it's 100% odd");
    std::fs::create_dir(&odd).unwrap();
    // The program itself lies there, too: ssh runs it as its ProxyCommand.
    let program = odd.join("my weft");
    std::fs::copy(env!("CARGO_BIN_EXE_weft"), &program).unwrap();
    let temporary = odd.join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let output = Command::new(program)
        .args(["ssh", WEB, "--", "true"])
        .env("WEFT_ENDPOINT", format!("unix://{}", agent.socket().display()))
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), i32::try_from(ssh_server::EXIT_STATUS).ok(), "{stderr}");
    assert_eq!(output.stdout, b"ran: true");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn ssh_refuses_another_host_key() {
    let agent = FakeAgent::start(&ssh_server::foreign_host_key());
    let (code, stdout, stderr) = run(&agent, &["ssh", WEB, "--", "true"]);
    assert_eq!((code, stdout.as_str()), (255, ""));
    assert!(stderr.contains("Host key verification failed"), "{stderr}");
}

#[test]
fn ssh_fails_with_255_before_a_connection_is_made() {
    let (code, stdout, stderr) = run(&agent(), &["ssh", STOPPED, "--", "true"]);
    assert_eq!((code, stdout.as_str()), (255, ""));
    let want = format!("error: instance {STOPPED} is stopped, not running\n");
    assert!(stderr.starts_with(&want), "{stderr}");
}

#[test]
fn ls_prints_a_table_and_json() {
    let agent = agent();
    let (code, stdout, _) = run(&agent, &["ls"]);
    assert_eq!(code, 0);
    let lines: Vec<Vec<&str>> =
        stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "NAME", "STATE", "TYPE", "PRIVATE-IP", "AGE"]);
    assert_eq!(lines[1][..5], [WEB, "web", "running", "w1.small", "10.0.0.4"]);
    let (_, stdout, _) = run(&agent, &["ls", "instances", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json[1]["id"], TWIN);
    assert_eq!(json[2]["state"], "stopped");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let agent = agent();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = weft(&agent, &["ls"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn an_error_is_rendered_with_all_that_the_agent_says() {
    let (code, stdout, stderr) = run(&agent(), &["get", "i-00000000000000000"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    let want = "error: instance i-00000000000000000 does not exist\n  at: id\n  \
                evidence: deleted an hour ago\n  evidence: by nobody\n  help: see weft ls\n";
    assert_eq!(stderr, want);
}

#[test]
fn names_have_to_be_unique() {
    let agent = agent();
    let (code, stdout, _) = run(&agent, &["get", "web", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, json["id"].as_str()), (0, Some(WEB)));
    let (code, _, stderr) = run(&agent, &["stop", "twin"]);
    assert_eq!(code, 1);
    assert!(stderr.contains(TWIN) && stderr.contains(STOPPED), "{stderr}");
    assert!(agent.seen.calls.lock().unwrap().is_empty());
}

#[test]
fn an_id_of_another_kind_says_so() {
    let (code, _, stderr) = run(&agent(), &["logs", "img-00000000000000000"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("this is the id of an image"), "{stderr}");
}

#[test]
fn wrong_usage_ends_with_2() {
    let agent = agent();
    #[rustfmt::skip]
    let cases: [&[&str]; 5] = [
        &["--endpoint", "tcp://x", "ls"], &["ls", "nonsense"], &["stop"], &[],
        &["proxy", WEB, "--port", "0"],
    ];
    for arguments in cases {
        let (code, stdout, stderr) = run(&agent, arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn stop_asks_for_all_before_it_waits_and_one_failure_spares_the_others() {
    let agent = agent();
    let (code, stdout, stderr) = run(&agent, &["stop", "web", "i-00000000000000000", TWIN]);
    assert_eq!(code, 1);
    assert_eq!(stdout, format!("{WEB} stopped\n{TWIN} stopped\n"));
    assert!(stderr.contains("i-00000000000000000 does not exist"), "{stderr}");
    let want = [("stop", WEB), ("stop", TWIN), ("wait stopped", WEB), ("wait stopped", TWIN)];
    assert_eq!(*agent.seen.calls.lock().unwrap(), want.map(|(verb, id)| format!("{verb} {id}")));
}

#[test]
fn stop_gives_the_guest_the_time_that_is_said_and_by_force_none() {
    let agent = agent();
    assert_eq!(run(&agent, &["stop", "--timeout", "5", "--no-wait", "web"]).0, 0);
    assert_eq!(run(&agent, &["stop", "--force", "--no-wait", "web"]).0, 0);
    assert_eq!(run(&agent, &["reset", "--no-wait", "web"]).0, 0);
    assert_eq!(run(&agent, &["hibernate", "--no-wait", "web"]).0, 0);
    assert_eq!(run(&agent, &["stop", "--force", "--timeout", "5", "web"]).0, 2, "either or");
    let want =
        ["stop in time", "stop at once", "reset", "hibernate"].map(|verb| format!("{verb} {WEB}"));
    assert_eq!(*agent.seen.calls.lock().unwrap(), want);
}

#[test]
fn rm_waits_until_the_instance_is_gone_unless_told_not_to() {
    let agent = agent();
    assert_eq!(run(&agent, &["rm", "web"]).1, "web gone\n");
    assert_eq!(run(&agent, &["rm", "--no-wait", WEB]).1, format!("{WEB} accepted\n"));
    let want = ["delete", "wait gone", "delete"].map(|verb| format!("{verb} {WEB}"));
    assert_eq!(*agent.seen.calls.lock().unwrap(), want);
}

#[test]
fn logs_are_the_guests_bytes() {
    let output = weft(&agent(), &["logs", WEB, "-n", "8"]).output().unwrap();
    assert_eq!(output.stdout, b"login: \xff");
}

#[test]
fn a_console_without_a_terminal_passes_bytes_and_ends_with_the_agent() {
    let agent = agent();
    let mut child = weft(&agent, &["console", WEB]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\x1d there").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"HELLO\x1d THERE".to_vec()));
}

#[test]
fn a_console_on_a_terminal_is_raw_until_it_is_detached() {
    use nix::sys::termios::{LocalFlags, tcgetattr};
    let agent = agent();
    let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(None, None).unwrap();
    let before = tcgetattr(&slave).unwrap();
    assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    let mut child =
        weft(&agent, &["console", WEB]).stdin(slave.try_clone().unwrap()).spawn().unwrap();
    // The notice comes when the terminal is raw.
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut notice = String::new();
    stderr.read_line(&mut notice).unwrap();
    assert!(notice.contains("Ctrl-] detaches"), "{notice}");
    let raw = tcgetattr(&slave).unwrap();
    assert!(!raw.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
    // Ctrl-C is the guest's; what is typed is answered before Ctrl-] detaches.
    let mut terminal = std::fs::File::from(master);
    terminal.write_all(b"\x03ls\r").unwrap();
    let mut answer = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x03LS\r");
    terminal.write_all(b"\x1d").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(tcgetattr(&slave).unwrap(), before);
}

#[test]
fn doctor_shows_what_the_agent_found_and_fails_with_it() {
    let (code, stdout, _) = run(&agent(), &["doctor"]);
    assert_eq!(code, 1);
    let want = "failed   disk: the state directory is full\n         help: remove images\n";
    assert!(stdout.contains(want), "{stdout}");
}

#[test]
fn doctor_looks_at_the_machine_where_no_agent_answers() {
    let agent = agent();
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("fabric-agent");
    // What it is asked, and what it answers.
    let script = "#!/bin/sh\n[ \"$*\" = 'doctor --runtime-dir /nonexistent' ] || exit 3\n\
        echo '[{\"name\":\"tun\",\"result\":\"ok\",\"finding\":\"x\",\"remedy\":\"\"}]'\n";
    std::fs::write(&program, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let mut command = weft(&agent, &["doctor", "--json"]);
    command.env("PATH", path).env("WEFT_ENDPOINT", "unix:///nonexistent/agent.sock");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["result"]), (&"agent".into(), &"failed".into()));
    let names: Vec<_> = json.as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names[..2], ["agent", "tun"]);
}

#[test]
fn what_nobody_claims_is_listed_with_its_kind() {
    let agent = agent();
    let (code, stdout, stderr) = run(&agent, &["ls", "--unclaimed", "instances"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let mut lines = stdout.lines();
    assert!(lines.next().unwrap().starts_with("KIND"), "{stdout}");
    let only = lines.next().unwrap();
    assert!(only.contains("instance") && only.contains(STOPPED) && only.contains("twin"), "{only}");
    assert_eq!(lines.next(), None, "{stdout}");
}

#[test]
fn an_empty_variable_is_unset_and_an_empty_argument_a_mistake() {
    let agent = agent();
    let said = |mut command: Command| {
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for arguments in [&["ls", "--endpoint", ""][..], &["--endpoint", "", "ls"]] {
        let told = said(weft(&agent, arguments));
        assert!(told.contains("\"\" is not an endpoint"), "{told}");
    }
    let mut unset = weft(&agent, &["doctor"]);
    unset.env("WEFT_ENDPOINT", "");
    // Whether an agent is there or not: it is that of this machine.
    assert!(!said(unset).contains("is not an endpoint"));
}

#[test]
fn a_lock_is_released_by_its_id_or_by_force_and_never_by_an_empty_variable() {
    let agent = agent();
    for (arguments, told) in [
        (&["state", "unlock", "web"][..], "--id <ID>"),
        (&["state", "unlock", "web", "--id", ""], "--id <ID>"),
        (&["state", "unlock", "web", "--id", "a", "--force"], "cannot be used with"),
    ] {
        let (code, _, said) = run(&agent, arguments);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn kinds_go_by_several_words() {
    let agent = agent();
    let listed = run(&agent, &["ls", "instances"]);
    assert_eq!(listed.0, 0, "{}", listed.2);
    assert_eq!(run(&agent, &["ls", "instance"]), listed);
    for word in ["key-pairs", "security-group", "instance-type"] {
        let (code, _, said) = run(&agent, &["ls", word]);
        assert_ne!(code, 2, "{word}: {said}");
    }
}
