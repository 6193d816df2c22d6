//! `weft screenshot` and `weft vnc`.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake_agent::{FakeAgent, PICTURE, STOPPED, TWIN, WEB};
use crate::{agent, run, weft};

#[test]
fn a_screenshot_is_written_whole_to_a_file_or_to_standard_output() {
    let agent = agent();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("web.png");
    let (code, stdout, stderr) = run(&agent, &["screenshot", "web", "-o", file.to_str().unwrap()]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
    assert_eq!(std::fs::read(file).unwrap(), PICTURE);
    assert_eq!(weft(&agent, &["screenshot", WEB]).output().unwrap().stdout, PICTURE);
}

#[test]
fn a_screenshot_that_cannot_be_had_leaves_what_was_there() {
    let agent = agent();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("twin.png");
    std::fs::write(&file, "of yesterday").unwrap();
    let (code, _, stderr) = run(&agent, &["screenshot", TWIN, "-o", file.to_str().unwrap()]);
    let want = format!("error: instance {TWIN} has no display\n  help: set display = true\n");
    assert_eq!((code, stderr), (1, want));
    assert_eq!(std::fs::read(&file).unwrap(), b"of yesterday");
    let nowhere = directory.path().join("no/such.png");
    let (code, _, stderr) = run(&agent, &["screenshot", WEB, "-o", nowhere.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with(&format!("error: cannot write {}\n", nowhere.display())),
        "{stderr}"
    );
}

#[test]
fn a_picture_is_not_for_a_terminal() {
    let agent = agent();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let output = weft(&agent, &["screenshot", WEB]).stdout(terminal.slave).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("-o FILE.png"), "{stderr}");
}

/// Where viewers connect to.
fn listening(agent: &FakeAgent, arguments: &[&str]) -> (Child, String) {
    let mut child = weft(agent, &[&["vnc"], arguments].concat()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

fn interrupt(mut child: Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Sees the display and types; until the guest hangs up.
fn look(mut viewer: impl std::io::Read + std::io::Write, typed: &[u8]) {
    let mut version = [0; 12];
    viewer.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    viewer.write_all(typed).unwrap();
    let mut echo = vec![0; typed.len()];
    viewer.read_exact(&mut echo).unwrap();
    assert_eq!(echo, typed.to_ascii_uppercase());
    viewer.write_all(b"bye").unwrap();
    let mut rest = Vec::new();
    viewer.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn viewers_one_after_the_other_and_at_once_see_the_display() {
    let agent = agent();
    let (child, address) = listening(&agent, &["web"]);
    let address = address.strip_prefix("vnc://").unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let waits = TcpStream::connect(address).unwrap();
    look(TcpStream::connect(address).unwrap(), b"one");
    look(waits, b"two");
    interrupt(child);
    // The first was asked for before anybody was told to connect.
    let calls = agent.seen.calls.lock().unwrap().clone();
    assert_eq!(calls, [(); 3].map(|()| format!("display {WEB}")));
}

#[test]
fn a_socket_is_its_owners_alone_and_goes_with_the_program() {
    let agent = agent();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let text = path.to_str().unwrap();
    let (child, address) = listening(&agent, &[STOPPED, "--socket", text]);
    assert_eq!(address, text);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    look(UnixStream::connect(&path).unwrap(), b"hello");
    let (code, stdout, stderr) = run(&agent, &["vnc", WEB, "--socket", text]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("cannot listen on") && stderr.contains("another path"), "{stderr}");
    interrupt(child);
    assert!(!path.exists());
}

#[test]
fn who_has_no_display_is_told_before_anybody_connects() {
    let agent = agent();
    let (code, stdout, stderr) = run(&agent, &["vnc", TWIN]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("has no display"), "{stderr}");
    assert_eq!(run(&agent, &["vnc", WEB, "--port", "0"]).0, 2);
}
