use std::os::unix::fs::PermissionsExt as _;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: InitArgs,
}

struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn files(&self) -> Files {
        Files::of(&self.0.path().join("state"))
    }

    fn init(&self, arguments: &[&str]) -> Result<String, String> {
        let state_dir = self.files().state_dir().display().to_string();
        let line = ["init", "--state-dir", &state_dir].into_iter().chain(arguments.iter().copied());
        let args = Line::try_parse_from(line).map_err(|error| error.to_string())?.args;
        init(&args, "fabric-1", SystemTime::now()).map_err(|error| format!("{error:#}"))
    }
}

#[test]
fn the_first_run_makes_everything_and_says_what_to_do_with_it() {
    let machine = Machine::new();
    let said = machine.init(&["--server-name", "weft.lan", "--server-name", "192.0.2.7"]).unwrap();
    for part in [
        "scp -r root@weft.lan:",
        "export WEFT_ENDPOINT=https://weft.lan:7443",
        "export WEFT_CLIENT_KEY=~/weft-admin/client.key",
        "client_cert = pathexpand(\"~/weft-admin/client.crt\")",
        "--listen 0.0.0.0:7443",
        "valid until 20",
    ] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
    let files = machine.files();
    let names = read_facts(&files.agent_cert()).unwrap().alternative_names;
    assert_eq!(names, ["weft.lan", "192.0.2.7", "fabric-1", "localhost", "127.0.0.1", "::1"]);
    assert_eq!(read_facts(&files.client("admin").join("client.crt")).unwrap().name, "admin");
    let keys = [files.ca_key(), files.agent_key(), files.client("admin").join("client.key")];
    for key in keys {
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{key:?}");
    }
    let left: Vec<_> =
        fs::read_dir(files.state_dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["tls"]);
}

#[test]
fn a_second_run_overwrites_nothing() {
    let machine = Machine::new();
    machine.init(&[]).unwrap();
    let ca = fs::read(machine.files().ca_cert()).unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&[], "exists already"),
        (&["--client", "admin"], "clients/admin exists already"),
        (&["--client", "x", "--server-name", "weft.lan"], "--renew"),
        (&["--renew", "--client", "nobody"], "there is no client \"nobody\""),
    ];
    for (arguments, want) in cases {
        let said = machine.init(arguments).unwrap_err();
        assert!(said.contains(want), "{arguments:?}: {said}");
    }
    assert!(!machine.files().client("x").exists());
    machine.init(&["--client", "alice"]).unwrap();
    assert_eq!(fs::read(machine.files().ca_cert()).unwrap(), ca);
    assert_eq!(fs::read(machine.files().client("alice").join("ca.crt")).unwrap(), ca);
}

#[test]
fn renewing_keeps_ca_keys_and_names_and_may_add_more() {
    let machine = Machine::new();
    assert!(machine.init(&["--renew"]).unwrap_err().contains("nothing to renew"));
    machine.init(&["--server-name", "weft.lan", "--valid-days", "1"]).unwrap();
    let files = machine.files();
    let before = read_facts(&files.agent_cert()).unwrap();
    let kept = |files: &Files| {
        [files.ca_cert(), files.ca_key(), files.agent_key()].map(|path| fs::read(path).unwrap())
    };
    let all = kept(&files);
    machine.init(&["--renew"]).unwrap();
    let after = read_facts(&files.agent_cert()).unwrap();
    assert_eq!(after.alternative_names, before.alternative_names);
    assert!(after.ends > before.ends);
    machine.init(&["--renew", "--server-name", "other.lan"]).unwrap();
    let names = read_facts(&files.agent_cert()).unwrap().alternative_names;
    assert_eq!(names, ["other.lan", "weft.lan", "fabric-1", "localhost", "127.0.0.1", "::1"]);
    let client = files.client("admin").join("client.crt");
    let before = read_facts(&client).unwrap();
    machine.init(&["--renew", "--client", "admin"]).unwrap();
    assert!(read_facts(&client).unwrap().ends > before.ends);
    assert_eq!(kept(&files), all);
}

#[test]
fn a_ca_whose_key_is_anothers_signs_nothing() {
    let (machine, other) = (Machine::new(), Machine::new());
    machine.init(&[]).unwrap();
    other.init(&[]).unwrap();
    fs::copy(other.files().ca_cert(), machine.files().ca_cert()).unwrap();
    for arguments in [["--client", "alice"].as_slice(), &["--renew"]] {
        let said = machine.init(arguments).unwrap_err();
        assert!(said.contains("ca.key is not the key of"), "{arguments:?}: {said}");
    }
    assert!(!machine.files().client("alice").exists());
}

#[test]
fn nothing_outlives_its_ca() {
    let machine = Machine::new();
    machine.init(&["--valid-days", "3650"]).unwrap();
    let files = machine.files();
    let ca = read_facts(&files.ca_cert()).unwrap();
    assert_eq!(read_facts(&files.agent_cert()).unwrap().ends, ca.ends);
}

#[test]
fn names_that_cannot_be_are_refused() {
    let machine = Machine::new();
    for arguments in [
        ["--client", "../evil"],
        ["--client", ""],
        ["--client", "a b"],
        ["--client", ".x"],
        ["--server-name", "no name"],
        ["--server-name", ""],
        ["--valid-days", "0"],
    ] {
        assert!(machine.init(&arguments).is_err(), "{arguments:?}");
    }
    assert!(!machine.files().folder().exists());
}
