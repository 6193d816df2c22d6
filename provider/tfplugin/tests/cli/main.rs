//! The library under a real `terraform`. Without one on PATH every test fails, and says so.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up should fail")]

mod support;

use std::{fs, time::Duration};

use support::{Run, Workspace};

const THING: &str = r#"
resource "noop_thing" "a" {
  name   = "a"
  secret = "hidden"
  tags   = ["y", "x"]
  nics   = [{ network = "n1" }, { network = "n2", mtu = 1400 }]
}
data "noop_echo" "e" { say = noop_thing.a.id }
output "said" { value = data.noop_echo.e.said }
output "ratio_is_exact" { value = noop_thing.a.ratio == 0.1 }
"#;

#[test]
fn a_whole_life_plan_apply_nothing_change_destroy() {
    let workspace = Workspace::new(THING);
    workspace.run(&["plan"]).succeeds().says("will be created");
    workspace
        .run(&["apply", "-auto-approve"])
        .succeeds()
        .says("said           = \"thing-a\"")
        .says("ratio_is_exact = true");
    workspace.run(&["plan", "-detailed-exitcode"]).succeeds().says("No changes");
    assert!(!workspace.state().contains("hidden"), "a write-only value is in the state");

    workspace.configure(&THING.replace("name   = \"a\"", "name   = \"b\""));
    let plan = workspace.run(&["plan", "-detailed-exitcode"]);
    plan.exits(2)
        .says("1 to change")
        .says("id = \"thing-a\"")
        .says("(4 unchanged attributes hidden)");
    workspace.run(&["apply", "-auto-approve"]).succeeds();

    workspace.configure(&THING.replace("name   = \"a\"", "name   = \"b\"\n  zone = \"z\""));
    workspace.run(&["apply", "-auto-approve"]).succeeds().says("forces replacement");
    workspace.run(&["plan", "-detailed-exitcode"]).succeeds();
    workspace.run(&["destroy", "-auto-approve"]).succeeds().says("1 destroyed");
}

#[test]
fn a_wrong_value_is_shown_at_its_place_with_its_remedy() {
    let workspace = Workspace::new(&THING.replace("1400", "7"));
    let run = workspace.run(&["validate"]);
    run.exits(1)
        .says("Invalid value for nics[1].mtu")
        .says("must be a whole number from 68 to 9000")
        .says("Attribute: nics[1].mtu")
        .says("nics   = [");
}

#[test]
fn a_deprecated_attribute_is_warned_of_once() {
    let workspace = Workspace::new(&THING.replace("tags   =", "label  = \"old\"\n  tags   ="));
    let run = workspace.run(&["validate"]);
    run.succeeds().says("label is deprecated").says_once("Set tags instead.");
}

#[test]
fn user_data_larger_than_the_usual_grpc_limit_goes_through() {
    let workspace = Workspace::new(
        "resource \"noop_plain\" \"a\" {\n  input = join(\"\", [for i in range(1024) : format(\"%6144d\", i)])\n}\n",
    );
    workspace.run(&["apply", "-auto-approve"]).succeeds();
    assert!(workspace.state().len() > 6 << 20);
    workspace.run(&["plan", "-detailed-exitcode"]).succeeds();
}

#[test]
fn an_imported_thing_plans_nothing() {
    let workspace = Workspace::new("resource \"noop_thing\" \"a\" {\n  name = \"a\"\n}\n");
    workspace.run(&["import", "noop_thing.a", "thing-a"]).succeeds();
    workspace.run(&["plan", "-detailed-exitcode"]).succeeds().says("No changes");
}

#[test]
fn a_panic_is_a_message_and_the_object_is_kept_as_tainted() {
    let config = "resource \"noop_thing\" \"a\" {\n  name = \"a\"\n  behaviour = \"panics\"\n}\n";
    let workspace = Workspace::new(config);
    workspace
        .run(&["apply", "-auto-approve"])
        .exits(1)
        .says("The provider failed while creating noop_thing")
        .says("the thing broke")
        .says_not("stack backtrace")
        .says_not("plugin crashed");
    assert!(workspace.state().contains("\"status\": \"tainted\""), "{}", workspace.state());
    assert!(workspace.state().contains("thing-a"));
}

#[test]
fn ctrl_c_while_creating_leaves_a_tainted_object_in_the_state() {
    let config = "resource \"noop_thing\" \"a\" {\n  name = \"a\"\n  behaviour = \"waits\"\n}\n";
    let workspace = Workspace::new(config);
    let running = workspace.start(&["apply", "-auto-approve"], &[("TF_LOG_PROVIDER", "INFO")]);
    running.wait_until("\"waiting\"", "waiting");
    running.interrupt_group();
    running
        .end()
        .exits(1)
        .says("Cancelled while waiting for the thing")
        .says_not("plugin did not respond");
    assert!(workspace.state().contains("\"status\": \"tainted\""), "{}", workspace.state());
}

#[test]
fn the_log_level_filters_the_providers_lines() {
    let workspace = Workspace::new("resource \"noop_plain\" \"a\" {\n  input = \"a\"\n}\n");
    let log = |level| workspace.start(&["plan"], &[("TF_LOG_PROVIDER", level)]).end();
    log("INFO").succeeds().says("[INFO]  provider").says("configured").says_not("a detail");
    log("DEBUG").succeeds().says("a detail");
    log("ERROR").succeeds().says_not("configured");
}

#[test]
fn only_a_graceful_end_reaches_the_hook() {
    let note = tempfile::NamedTempFile::new().unwrap();
    let provider = format!("provider \"noop\" {{\n  end_note = {:?}\n}}\n", note.path());
    let thing = "resource \"noop_thing\" \"a\" {\n  name = \"a\"\n  behaviour = \"waits\"\n}\n";
    let workspace = Workspace::new(&format!("{provider}{thing}"));
    let running = workspace.start(&["apply", "-auto-approve"], &[("TF_LOG_PROVIDER", "INFO")]);
    running.wait_until("\"waiting\"", "waiting");
    let plugin = running.plugin();
    // The plan's own provider processes ended gracefully before; only this one counts.
    fs::write(note.path(), "").unwrap();
    running.kill();
    support::wait_for(Duration::from_secs(20), "the orphaned provider ends", || {
        !support::is_alive(plugin)
    });
    assert_eq!(fs::read_to_string(note.path()).unwrap(), "");

    workspace
        .configure(&format!("{provider}resource \"noop_plain\" \"a\" {{\n  input = \"a\"\n}}\n"));
    workspace.run(&["apply", "-auto-approve", "-lock=false"]).succeeds();
    assert_eq!(fs::read_to_string(note.path()).unwrap(), "graceful");
}

#[test]
fn a_debugged_provider_serves_run_after_run() {
    let workspace = Workspace::new("resource \"noop_plain\" \"a\" {\n  input = \"a\"\n}\n");
    let debugged = support::Debugged::start();
    let reattach = debugged.reattach();
    for arguments in [&["apply", "-auto-approve"][..], &["destroy", "-auto-approve"]] {
        let run = workspace.start(arguments, &[("TF_REATTACH_PROVIDERS", &reattach)]).end();
        run.succeeds();
    }
}

#[test]
fn started_by_hand_it_explains_itself() {
    let run = Run::of(
        std::process::Command::new(support::provider()).env_remove("TF_PLUGIN_MAGIC_COOKIE"),
    );
    run.exits(1).says("it is not meant to be started by hand");
}
