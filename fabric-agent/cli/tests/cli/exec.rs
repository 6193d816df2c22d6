//! `weft exec`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use super::fake_agent::{FakeAgent, STOPPED, TWIN, WEB};
use super::{agent, run, weft};
use crate::ssh_server::{self, RUNNER};

/// As somebody whose commands are run.
fn exec(agent: &FakeAgent, arguments: &[&str]) -> (i32, String, String) {
    run(agent, &[&["exec", "-l", RUNNER], arguments].concat())
}

#[test]
fn one_instance_is_as_ssh_input_output_and_exit_status() {
    let agent = agent();
    let mut child = weft(&agent, &["exec", "-l", RUNNER, "web", "--", "cat; echo err >&2; exit 9"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a line\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"a line\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err\n"));
    assert_eq!(output.status.code(), Some(9));
}

#[test]
fn one_word_is_a_line_for_the_shell_and_several_are_words() {
    let agent = agent();
    assert_eq!(exec(&agent, &["web", "--", "echo a  b && echo c"]).1, "a b\nc\n");
    let words = ["web", "--", "printf", "%s|", "a  b", "&&", "it's", "-n"];
    assert_eq!(exec(&agent, &words).1, "a  b|&&|it's|-n|");
}

#[test]
fn many_are_told_apart_line_by_line_and_have_no_input() {
    let agent = agent();
    let mut child =
        weft(&agent, &["exec", "-l", RUNNER, "web", TWIN, "--", "cat; echo said; echo bad >&2"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
    let input = child.stdin.take().unwrap();
    let output = child.wait_with_output().unwrap();
    drop(input);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["twin | said", "web  | said"], "{stderr}");
    assert!(stderr.contains("twin | bad\n") && stderr.contains("web  | bad\n"), "{stderr}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_tag_chooses_and_one_that_does_not_run_is_a_failure_that_spares_the_others() {
    let agent = agent();
    let (code, stdout, stderr) = exec(&agent, &["--tag", "role=web", "--", "echo hi"]);
    assert_eq!((code, stdout.as_str()), (0, "web | hi\n"), "{stderr}");
    let (code, stdout, stderr) =
        exec(&agent, &["--tag", "role=twin", "--tag", "fleet=a", "--", "echo hi"]);
    let label = format!("twin ({TWIN})");
    assert_eq!((code, stdout), (1, format!("{label} | hi\n")), "{stderr}");
    let want = format!(
        "error: the command failed in 1 of 2 instances\n  evidence: twin ({STOPPED}): \
         instance {STOPPED} is stopped, not running\n"
    );
    assert!(stderr.ends_with(&want), "{stderr}");
    let (code, _, stderr) = exec(&agent, &["--tag", "role=none", "--", "true"]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: no instance has the tag role=none\n"), "{stderr}");
    assert_eq!(exec(&agent, &["--tag", "role", "--", "true"]).0, 2);
    assert_eq!(exec(&agent, &["--", "true"]).0, 2, "nobody is meant");
    assert_eq!(exec(&agent, &["web"]).0, 2, "nothing is to be run");
}

#[test]
fn the_exit_statuses_of_many_are_told() {
    let agent = agent();
    let (code, _, stderr) = exec(&agent, &["web", TWIN, "--", "exit 3"]);
    assert_eq!(code, 1);
    for want in ["failed in 2 of 2 instances", "web: exit status 3", "twin: exit status 3"] {
        assert!(stderr.contains(want), "{want}: {stderr}");
    }
}

#[test]
fn collected_output_comes_in_one_piece_and_json_has_everything() {
    let agent = agent();
    let (_, stdout, stderr) =
        exec(&agent, &["--collect", "--parallel", "1", "web", TWIN, "--", "echo 1; echo 2"]);
    assert_eq!(stdout, "==> web <==\n1\n2\n==> twin <==\n1\n2\n", "{stderr}");
    let (code, stdout, _) =
        exec(&agent, &["--json", "web", "--", "echo out; echo err >&2; exit 4"]);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 1);
    let (id, status) = (&json[0]["id"], &json[0]["exit_status"]);
    assert_eq!((id, status), (&json!(WEB), &json!(4)));
    assert_eq!((&json[0]["stdout"], &json[0]["error"]), (&json!("out\n"), &json!("exit status 4")));
    assert!(json[0]["stderr"].as_str().unwrap().contains("err\n"));
}

#[test]
fn a_command_has_the_time_that_it_is_given() {
    let agent = agent();
    let (code, stdout, stderr) =
        exec(&agent, &["--timeout", "1", "web", "--", "echo begun; exec sleep 600"]);
    assert_eq!((code, stdout.as_str()), (124, "begun\n"));
    let want = format!("error: the command in {WEB} did not end within 1 s\n");
    assert!(stderr.contains(&want), "{stderr}");
    let (code, stdout, stderr) =
        exec(&agent, &["--timeout", "1", "web", TWIN, "--", "echo begun; exec sleep 600"]);
    assert_eq!((code, stdout.lines().count()), (1, 2), "{stderr}");
    assert!(stderr.contains("web: not ended within 1 s"), "{stderr}");
}

#[test]
fn who_cannot_log_in_is_told_and_another_host_key_is_none() {
    let (code, stdout, stderr) = exec(&agent(), &[STOPPED, "--", "true"]);
    assert_eq!((code, stdout.as_str()), (255, ""));
    assert!(stderr.contains("is stopped, not running"), "{stderr}");
    let foreign = FakeAgent::start(&ssh_server::foreign_host_key());
    let (code, stdout, stderr) = exec(&foreign, &["web", TWIN, "--", "echo in"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("Host key verification failed"), "{stderr}");
    assert!(stderr.contains("web: exit status 255: no login"), "{stderr}");
}
