use super::*;
use crate::nouns::samples::instance_view;

fn arguments(exe: &str, command: &[&str]) -> Vec<String> {
    let command: Vec<OsString> = command.iter().map(OsString::from).collect();
    let call = Call {
        exe: Path::new(exe),
        known_hosts: Path::new("/tmp/a b/100%/known_hosts"),
        id: &InstanceId::from_random([0xaa; 9]),
        user: "weft",
        identity: Some(Path::new("/home/me/.ssh/id")),
        prompts: Prompts::Any,
        command: &command,
    };
    call.arguments().unwrap().into_iter().map(|word| word.into_string().unwrap()).collect()
}

#[test]
fn host_keys_come_from_the_agent_alone() {
    let words = arguments("/usr/bin/weft", &[]);
    for option in [
        "ProxyCommand=/usr/bin/weft proxy i-aaaaaaaaaaaaaaaaa",
        "HostKeyAlias=i-aaaaaaaaaaaaaaaaa",
        "UserKnownHostsFile=\"/tmp/a b/100%%/known_hosts\"",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
    ] {
        let at = words.iter().position(|word| word == option);
        assert_eq!(at.map(|at| words[at - 1].as_str()), Some("-o"), "{option} in {words:?}");
    }
}

#[test]
fn a_shell_is_interactive_and_a_command_has_no_terminal() {
    let shell = arguments("/usr/bin/weft", &[]);
    assert!(!shell.contains(&"-T".to_owned()));
    assert_eq!(shell[shell.len() - 3..], ["-l", "weft", "i-aaaaaaaaaaaaaaaaa"]);
    let command = arguments("/usr/bin/weft", &["-x", "a b"]);
    assert_eq!(
        command[command.len() - 7..],
        ["-T", "-l", "weft", "i-aaaaaaaaaaaaaaaaa", "--", "-x", "a b"]
    );
}

#[test]
fn the_path_of_this_program_is_one_word_for_shell_and_ssh() {
    let words = arguments("/opt/it's 5% $HOME/weft", &[]);
    let want = r"ProxyCommand='/opt/it'\''s 5%% $HOME/weft' proxy i-aaaaaaaaaaaaaaaaa";
    assert!(words.contains(&want.to_owned()), "{words:?}");
}

#[test]
fn a_shell_reads_back_the_word_that_was_quoted() {
    for text in ["plain", "", "a b", "it's", "$HOME `id` \"x\" \\ ! *", "-n", "ä\nö"] {
        let script = format!("printf %s {}", shell_word(text));
        let out = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), text);
    }
}

#[test]
fn a_guests_shell_reads_back_the_words_that_were_given() {
    let words: [&OsStr; 6] = ["printf", "%s|", "a b", "it's", "&&", "$HOME"].map(OsStr::new);
    let script = shell_words(&words);
    let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "a b|it's|&&|$HOME|");
    // Not even UTF-8 is asked for.
    assert_eq!(shell_words(&[OsStr::from_bytes(b"\xff")]).as_bytes(), b"'\xff'");
}

#[test]
fn logins_of_many_ask_nobody_and_wait_for_no_guest_for_ever() {
    let call = |prompts| {
        let id = InstanceId::from_random([0xaa; 9]);
        let call = Call {
            exe: Path::new("/weft"),
            known_hosts: Path::new("/known"),
            id: &id,
            user: "weft",
            identity: None,
            prompts,
            command: &[],
        };
        call.arguments().unwrap()
    };
    let (timeout, batch) = (OsString::from("ConnectTimeout=30"), OsString::from("BatchMode=yes"));
    for (prompts, want) in [
        (Prompts::Any, [false, false]),
        (Prompts::Bounded, [true, false]),
        (Prompts::None, [true; 2]),
    ] {
        let words = call(prompts);
        assert_eq!([words.contains(&timeout), words.contains(&batch)], want, "{prompts:?}");
    }
}

#[test]
fn paths_that_ssh_would_change_are_refused() {
    for path in ["/tmp/${HOME}/x", "/tmp/a\"b", "/tmp/a\\b"] {
        assert!(config_word(Path::new(path)).is_err(), "{path}");
    }
}

#[test]
fn known_hosts_has_a_line_for_each_key() {
    let mut view = instance_view();
    view.assigned.ssh_host_public_keys = vec!["ssh-ed25519 AAAA".into(), "ssh-rsa BBBB".into()];
    assert_eq!(
        known_hosts(&view).unwrap(),
        "i-aaaaaaaaaaaaaaaaa ssh-ed25519 AAAA\ni-aaaaaaaaaaaaaaaaa ssh-rsa BBBB\n"
    );
}

#[test]
fn a_key_cannot_smuggle_a_second_line_in() {
    for keys in [vec![], vec!["ssh-ed25519 AAAA\n* ssh-rsa B"], vec!["ssh-ed25519"], vec![""]] {
        let mut view = instance_view();
        view.assigned.ssh_host_public_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        assert!(known_hosts(&view).is_err(), "{keys:?}");
    }
}
