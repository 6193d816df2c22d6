//! Without an agent: `fabric-agent doctor` looks at this machine as an agent would.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;
use weft_proto::client::Endpoint;
use weft_proto::v1::DoctorCheck;

use super::check;

const AGENT: &str = "fabric-agent";

/// What an agent would say of this machine; nothing for an agent elsewhere.
pub(super) async fn host_checks(endpoint: &Endpoint) -> Vec<DoctorCheck> {
    let Some(socket) = endpoint.socket() else { return Vec::new() };
    let Some(program) = on_path(AGENT).or_else(beside_us) else {
        let finding = "fabric-agent is not installed on this machine (neither on PATH nor beside \
                       weft), so nothing else can be looked at";
        return vec![check(
            "program",
            "failed",
            finding,
            "install fabric-agent, or set WEFT_ENDPOINT to where one listens",
        )];
    };
    let mut command = Command::new(&program);
    command.arg("doctor");
    if let Some(runtime_dir) = socket.parent() {
        command.arg("--runtime-dir").arg(runtime_dir);
    }
    let shown = program.display();
    let trouble = |what: String| {
        vec![check(
            "program",
            "failed",
            format!("{shown} doctor {what}"),
            "install the fabric-agent of the same release as weft",
        )]
    };
    let output = match command.output().await {
        Ok(output) => output,
        Err(error) => return trouble(format!("cannot be run: {error}")),
    };
    match serde_json::from_slice::<Vec<Value>>(&output.stdout) {
        Ok(items) => items.iter().map(parse).collect(),
        Err(_) => trouble(format!(
            "ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it said nothing")
        )),
    }
}

/// What `weft ssh` runs.
pub(super) fn ssh_client() -> DoctorCheck {
    match on_path("ssh") {
        Some(path) => check("ssh client", "ok", path.display().to_string(), ""),
        None => check(
            "ssh client",
            "warning",
            "ssh is not on PATH, so weft ssh cannot work here",
            "apt install openssh-client",
        ),
    }
}

fn parse(item: &Value) -> DoctorCheck {
    let text = |key: &str| item[key].as_str().unwrap_or_default();
    check(text("name"), text("result"), text("finding"), text("remedy"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search_path)
        .map(|directory| directory.join(name))
        .find(|path| is_program(path))
}

fn beside_us() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(AGENT);
    is_program(&path).then_some(path)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
