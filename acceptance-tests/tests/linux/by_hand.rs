//! What an operator does with `weft`, from where there is no route to any guest.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Result, ensure};
use weft_acceptance::{Lab, run, within};

use crate::module::{access, image, instance};

#[test]
fn weft_reaches_into_a_guest_without_a_route_to_it() -> Result<()> {
    let Some(lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let key_path = key.private.to_string_lossy().into_owned();
    let terraform = lab.terraform()?;
    // No group lets ssh in: the agent's byte stream passes beside them on purpose.
    let closed = "resource \"weft_security_group\" \"none\" {\n  name = \"none\"\n}\n";
    let module = image("")? + &access(&key) + closed + &instance("it", "tags = { role = \"web\" }");
    terraform.main(&module.replace(
        "security_group_ids = [weft_security_group.ssh.id]",
        "security_group_ids = [weft_security_group.none.id]",
    ))?;
    terraform.apply()?;
    let id = terraform.state()?.text("weft_instance.it", "id")?;
    let guest = lab.guest(&key, &terraform.state()?, "weft_instance.it")?;
    ensure!(!guest.is_open_from_outside(22)?, "no rule lets ssh in");

    // ssh: by name, clean output, the command's exit status.
    let said = lab.weft(&["ssh", "-i", &key_path, "it", "--", "hostname"])?.success()?;
    ensure!(said.stdout == "it\n", "standard output is not clean: {:?}", said.stdout);
    let status = lab.weft(&["ssh", "-i", &key_path, &id, "--", "exit", "7"])?.code();
    ensure!(status == Some(7), "exit status {status:?}");
    let stranger = lab.key("stranger")?.private.to_string_lossy().into_owned();
    let status = lab.weft(&["ssh", "-i", &stranger, "it", "--", "true"])?.code();
    ensure!(status == Some(255), "a stranger's exit status is {status:?}");

    copy_through_the_proxy(&lab, &key_path, &id)?;
    run_commands(&lab, &key_path)?;
    copy_files(&lab, &key_path)?;

    // The console: its history, and live input.
    let logs = lab.weft(&["logs", "it"])?.success()?.stdout;
    ensure!(logs.contains("weft-tiny: ready"), "the console's log:\n{logs}");
    type_on_the_console(&lab)?;

    // Lifecycle by hand, and Terraform sees it.
    let first = lab.weft_json(&["get", "it"])?["run_epoch"].as_u64();
    lab.weft(&["reboot", "it"])?.success()?;
    let rebooted = lab.wait_for_state(&id, "running")?["run_epoch"].as_u64();
    ensure!(rebooted > first, "a reboot is a new launch: {first:?}, {rebooted:?}");
    lab.weft(&["stop", "it"])?.success()?;
    lab.wait_for_state(&id, "stopped")?;
    let plan = terraform.plan()?;
    ensure!(plan.change("weft_instance.it") == weft_acceptance::Change::Update);
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;

    lab.weft(&["doctor"])?;
    lab.weft(&["rm", "it"])?.success()?;
    ensure!(lab.count("instances")? == 0);
    lab.assert_instance_is_gone(&id, &guest.address.to_string())?;
    terraform.destroy()?;
    lab.close()
}

/// As scp, rsync and Ansible do, through ssh's ProxyCommand.
fn copy_through_the_proxy(lab: &Lab, key: &str, id: &str) -> Result<()> {
    let weft = lab.weft_command(&[])?;
    let proxy = format!("{} proxy {id}", weft.get_program().to_string_lossy());
    let mut ssh = Command::new("ssh");
    for (name, value) in weft.get_envs() {
        if let Some(value) = value {
            ssh.env(name, value);
        }
    }
    let known_hosts = lab.directory().join("by-id");
    let keys = lab.weft_json(&["get", id])?["ssh_host_public_keys"][0].clone();
    std::fs::write(&known_hosts, format!("{id} {}\n", keys.as_str().unwrap_or_default()))?;
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
        .arg("-o")
        .arg(format!("ProxyCommand={proxy}"))
        .args(["-i", key, &format!("weft@{id}")])
        // A megabyte back, so that more than one message passes.
        .arg("head -c 1048576 /dev/zero | tee copy | wc -c; wc -c <copy");
    let said = run(ssh, within())?.success()?;
    ensure!(said.stdout.split_whitespace().eq(["1048576", "1048576"]), "{}", said.stdout);
    Ok(())
}

fn run_commands(lab: &Lab, key: &str) -> Result<()> {
    let exec = |arguments: &[&str]| lab.weft(&[&["exec", "-i", key], arguments].concat());
    let said = exec(&["it", "--", "echo $((40+2)); echo err >&2; exit 5"])?;
    ensure!(said.code() == Some(5) && said.stdout == "42\n", "{}", said.text());
    let said = exec(&["it", "--", "printf", "%s|", "a  b", "$HOME"])?.success()?;
    ensure!(said.stdout == "a  b|$HOME|", "{:?}", said.stdout);
    let said = exec(&["--tag", "role=web", "--", "sudo id -u; hostname"])?.success()?;
    ensure!(said.stdout == "it | 0\nit | it\n", "{:?}", said.stdout);
    let said = exec(&["--timeout", "2", "it", "--", "sleep", "100"])?;
    ensure!(said.code() == Some(124), "{}", said.text());
    Ok(())
}

/// A guest that has dropbear and busybox, and nothing of OpenSSH.
fn copy_files(lab: &Lab, key: &str) -> Result<()> {
    let copy = |arguments: &[&str]| lab.weft(&[&["cp", "-i", key], arguments].concat());
    let site = lab.directory().join("site");
    std::fs::create_dir_all(site.join("bin"))?;
    std::fs::write(site.join("index.html"), "hello")?;
    std::fs::write(site.join("bin/run"), "#!/bin/sh\necho it runs\n")?;
    std::fs::set_permissions(site.join("bin/run"), Permissions::from_mode(0o750))?;
    std::os::unix::fs::symlink("index.html", site.join("link"))?;
    let site = site.to_string_lossy().into_owned();
    copy(&[&site, "it:"])?.success()?;
    let said = lab.weft(&["exec", "-i", key, "it", "--", "site/bin/run && cat site/link"])?;
    ensure!(said.success()?.stdout == "it runs\nhello", "the tree is not what it was");
    copy(&["--sudo", &format!("{site}/index.html"), "it:/etc/motd"])?.success()?;
    let back = lab.directory().join("back");
    let target = back.to_string_lossy().into_owned();
    copy(&["it:site", &target])?.success()?;
    ensure!(std::fs::read(back.join("bin/run"))?.starts_with(b"#!/bin/sh"));
    ensure!(std::fs::metadata(back.join("bin/run"))?.permissions().mode() & 0o777 == 0o750);
    ensure!(std::fs::read_link(back.join("link"))?.as_os_str() == "index.html");
    copy(&["it:/etc/motd", &target])?.success()?;
    ensure!(std::fs::read(back.join("motd"))? == b"hello");
    let refused = copy(&["it:/etc/shadow", &target])?.failure()?.text();
    ensure!(refused.contains("ermission denied") && refused.contains("--sudo"), "{refused}");
    Ok(())
}

/// `weft console` with a pipe for a terminal: types a command and reads its output.
fn type_on_the_console(lab: &Lab) -> Result<()> {
    let mut shell = Command::new("sh");
    let weft = lab.weft_command(&[])?;
    let program = weft.get_program().to_string_lossy().into_owned();
    for (name, value) in weft.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    // The answer is not in the question, which the console echoes.
    let typed = r"sleep 1; printf '\necho con$((40+2))sole\n'; sleep 5";
    shell.args(["-c", &format!("({typed}) | timeout 30 {program} console it")]);
    let said = run(shell, within())?;
    ensure!(said.stdout.contains("con42sole"), "the console said {:?}", said.text());
    Ok(())
}
