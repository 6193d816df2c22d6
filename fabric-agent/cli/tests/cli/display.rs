//! `weft screenshot` and `weft vnc`.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Child;

use des::cipher::{BlockCipherEncrypt as _, KeyInit as _};
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

/// Where viewers connect to, and what they have to know.
fn listening(agent: &FakeAgent, arguments: &[&str]) -> (Child, String, Option<String>) {
    let mut child = weft(agent, &[&["vnc"], arguments].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    let address = lines.next().unwrap();
    let password = address.starts_with("vnc://").then(|| {
        let line = lines.next().unwrap();
        line.strip_prefix("password: ").unwrap().to_owned()
    });
    drop(lines);
    (child, address, password)
}

fn interrupt(mut child: Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A viewer of one of the protocol's versions. With a password it is authenticated, else not asked.
struct Viewer<S> {
    stream: S,
    version: u8,
}

impl<S: Read + Write> Viewer<S> {
    fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Up to the result of the authentication: nothing, or why not.
    fn enters(&mut self, password: Option<&str>) -> Result<(), String> {
        assert_eq!(&self.read(), b"RFB 003.008\n");
        self.write(format!("RFB 003.00{}\n", self.version).as_bytes());
        let security = if password.is_some() { 2 } else { 1 };
        if self.version == 3 {
            assert_eq!(self.read(), [0, 0, 0, security]);
        } else {
            let [count] = self.read();
            let types: Vec<u8> = (0..count).map(|_| self.read::<1>()[0]).collect();
            assert!(types.contains(&security), "{types:?}");
            assert!(password.is_none() || types == [2], "there is a way around: {types:?}");
            self.write(&[security]);
        }
        if let Some(password) = password {
            let challenge: [u8; 16] = self.read();
            let key: [u8; 8] = password.as_bytes().try_into().unwrap();
            let cipher = des::Des::new(&key.map(u8::reverse_bits).into());
            for half in challenge.as_chunks::<8>().0 {
                let mut block = (*half).into();
                cipher.encrypt_block(&mut block);
                self.write(&block);
            }
        }
        match self.read() {
            [0, 0, 0, 0] => Ok(()),
            _ => {
                let mut why = String::new();
                self.stream.read_to_string(&mut why).unwrap();
                Err(why)
            }
        }
    }

    /// Sees the display and types; until the guest hangs up.
    fn looks(mut self, password: Option<&str>, typed: &[u8]) {
        self.enters(password).unwrap();
        self.write(typed);
        let mut echo = vec![0; typed.len()];
        self.stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, typed.to_ascii_uppercase());
        self.write(b"bye");
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}

#[test]
fn viewers_one_after_the_other_and_at_once_see_the_display() {
    let agent = agent();
    let (child, address, password) = listening(&agent, &["web"]);
    let (address, password) = (address.strip_prefix("vnc://").unwrap(), password.as_deref());
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let viewer = |version| Viewer { stream: TcpStream::connect(address).unwrap(), version };
    let waits = viewer(8);
    viewer(8).looks(password, b"one");
    viewer(7).looks(password, b"seven");
    viewer(3).looks(password, b"three");
    waits.looks(password, b"two");
    interrupt(child);
    // The first was asked for before anybody was told to connect.
    let calls = agent.seen.calls.lock().unwrap().clone();
    assert_eq!(calls, [(); 5].map(|()| format!("display {WEB}")));
}

#[test]
fn who_does_not_know_the_password_sees_nothing() {
    let agent = agent();
    let (child, address, password) = listening(&agent, &["web"]);
    let (address, password) = (address.strip_prefix("vnc://").unwrap(), password.unwrap());
    let connect = || TcpStream::connect(address).unwrap();
    for (version, why) in [(8, "the password is wrong"), (7, ""), (3, "")] {
        let told = Viewer { stream: connect(), version }.enters(Some("aaaaaaaa")).unwrap_err();
        assert!(told.ends_with(why), "{told:?}");
    }
    // Who chooses a way that was not offered, and who speaks something else.
    let mut around = Viewer { stream: connect(), version: 8 };
    around.read::<12>();
    around.write(b"RFB 003.008\n");
    assert_eq!(around.read(), [1, 2]);
    around.write(&[1]);
    let mut other = Viewer { stream: connect(), version: 8 };
    other.write(b"GET / HTTP/1.1\r\n\r\n");
    for mut viewer in [around, other] {
        let mut rest = Vec::new();
        // What was sent and never read breaks the connection.
        let _ = viewer.stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest == b"RFB 003.008\n", "{rest:?}");
    }
    // Each run has another.
    let (second, _, other) = listening(&agent, &["web"]);
    assert_ne!(other.unwrap(), password);
    interrupt(child);
    interrupt(second);
    // Nobody came to the agent but both runs themselves.
    assert_eq!(agent.seen.calls.lock().unwrap().len(), 2);
}

#[test]
fn a_socket_is_its_owners_alone_and_goes_with_the_program() {
    let agent = agent();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let text = path.to_str().unwrap();
    let (child, address, password) = listening(&agent, &[STOPPED, "--socket", text]);
    assert_eq!((address.as_str(), password), (text, None));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Viewer { stream: UnixStream::connect(&path).unwrap(), version: 8 }.looks(None, b"hello");
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
