//! `weft cp`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::fake_agent::{FakeAgent, STOPPED, WEB};
use super::{agent, pattern, run};
use crate::ssh_server::{self, RUNNER};

/// In "the guest", which is this machine.
fn copy(agent: &FakeAgent, arguments: &[&str]) -> (i32, String, String) {
    run(agent, &[&["cp", "-l", RUNNER], arguments].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn in_guest(path: &Path) -> String {
    format!("web:{}", text(path))
}

#[test]
fn a_file_goes_in_and_comes_out_with_its_bytes_and_its_mode() {
    let (agent, here) = (agent(), tempfile::tempdir().unwrap());
    let (source, there, back) =
        (here.path().join("a b"), here.path().join("there"), here.path().join("back"));
    // Larger than what the pipes and queues in between take.
    fs::write(&source, pattern(3 << 20)).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o741)).unwrap();
    let said = copy(&agent, &[text(&source), &in_guest(&there)]);
    assert_eq!(said, (0, String::new(), String::new()));
    let said = copy(&agent, &[&in_guest(&there), text(&back)]);
    assert_eq!(said, (0, String::new(), String::new()));
    for path in [&there, &back] {
        assert!(fs::read(path).unwrap() == pattern(3 << 20), "{}", path.display());
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o741);
    }
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 3);
}

#[test]
fn directories_and_several_sources_go_into_a_directory() {
    let (agent, here) = (agent(), tempfile::tempdir().unwrap());
    let at = |name: &str| here.path().join(name);
    fs::create_dir_all(at("site/css")).unwrap();
    fs::write(at("site/css/a.css"), "a").unwrap();
    fs::write(at("note"), "n").unwrap();
    fs::create_dir(at("there")).unwrap();
    fs::create_dir(at("back")).unwrap();
    let said = copy(&agent, &["-r", text(&at("site")), text(&at("note")), &in_guest(&at("there"))]);
    assert_eq!(said, (0, String::new(), String::new()));
    let (site, note) = (in_guest(&at("there/site")), in_guest(&at("there/note")));
    let said = copy(&agent, &[&site, &note, text(&at("back"))]);
    assert_eq!(said, (0, String::new(), String::new()));
    assert_eq!(fs::read(at("back/site/css/a.css")).unwrap(), b"a");
    assert_eq!(fs::read(at("back/note")).unwrap(), b"n");
    // Several things cannot have one new name, neither there nor here.
    let (code, _, stderr) =
        copy(&agent, &[text(&at("site")), text(&at("note")), &in_guest(&at("new"))]);
    assert_eq!(code, 1);
    assert!(stderr.contains("is not a directory, which several sources need"), "{stderr}");
    let (code, _, stderr) = copy(&agent, &[&site, &note, text(&at("new"))]);
    assert_eq!(code, 1);
    assert!(stderr.contains("is not a directory"), "{stderr}");
    assert!(!at("new").exists());
}

#[test]
fn what_goes_wrong_is_said_with_the_guests_own_words() {
    let (agent, here) = (agent(), tempfile::tempdir().unwrap());
    let (file, none) = (here.path().join("file"), here.path().join("none"));
    fs::write(&file, "x").unwrap();
    let (code, _, stderr) = copy(&agent, &[&in_guest(&none), text(&here.path().join("new"))]);
    let want = format!(
        "error: cannot copy {} to {}/new: the guest refuses\n  evidence: {} does not exist\n",
        in_guest(&none),
        text(here.path()),
        text(&none)
    );
    assert_eq!((code, stderr), (1, want));
    assert!(!here.path().join("new").exists());
    let (code, _, stderr) = copy(&agent, &[text(&file), &in_guest(&none.join("deep"))]);
    assert_eq!(code, 1);
    assert!(stderr.contains("the guest refuses") && stderr.contains("No such file"), "{stderr}");
    let (code, _, stderr) = copy(&agent, &[text(&none), "web:"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("No such file or directory"), "{stderr}");
    // Nowhere to write here: the guest's part went well.
    let (code, _, stderr) = copy(&agent, &[&in_guest(&file), text(&none.join("deep"))]);
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot write in") && stderr.contains("No such file"), "{stderr}");
    for arguments in [&["a", "b"][..], &["web:a", "web:b"], &["web:a"]] {
        assert_eq!(copy(&agent, arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn nobody_but_the_instance_itself_is_copied_with() {
    let here = tempfile::tempdir().unwrap();
    let file = here.path().join("file");
    fs::write(&file, "x").unwrap();
    let (code, _, stderr) = copy(&agent(), &[text(&file), &format!("{STOPPED}:")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("is stopped, not running"), "{stderr}");
    let foreign = FakeAgent::start(&ssh_server::foreign_host_key());
    let to = here.path().join("to");
    let (code, _, stderr) = copy(&foreign, &[text(&file), &format!("{WEB}:{}", text(&to))]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("no login") && stderr.contains("Host key verification failed"),
        "{stderr}"
    );
    assert!(!to.exists());
}
