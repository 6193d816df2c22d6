//! `ssh_config_entry(alias, options)`: a block for `~/.ssh/config`.
//!
//! Every value is checked for what could end its line or its word (`ssh_config(5)`): a name that
//! somebody else chose must not add an option.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use tfplugin::{Arguments, Function, FunctionError, Parameter, Signature, Type, Value};
use weft_model::InstanceId;

use super::{at, check_keys};

#[derive(Debug)]
pub(super) struct SshConfigEntry;

const KEYS: [&str; 7] =
    ["host_name", "instance_id", "user", "port", "identity_file", "known_hosts_file", "endpoint"];

impl Function for SshConfigEntry {
    fn name(&self) -> &str {
        "ssh_config_entry"
    }

    fn signature(&self) -> Signature {
        Signature::new(
            "A `Host` block of ssh's configuration for an instance.",
            "Makes a `Host` block for `~/.ssh/config`, or for a file that it includes, so that \
             `ssh ALIAS`, `scp`, rsync and Ansible reach an instance. Several are joined with \
             `join(\"\\n\", [...])`.\n\n\
             The options are a map with these keys, of which `host_name` or `instance_id` is needed:\n\n\
             - `host_name`: the instance's address, or a name of it.\n\
             - `instance_id`: goes through the agent (`ProxyCommand weft proxy ID`), for a machine \
             that has no route to the guest.\n\
             - `endpoint`: where the agent listens, for `weft proxy`; left out, it is the \
             environment's `WEFT_ENDPOINT`.\n\
             - `user`: who logs in.\n\
             - `port`: the TCP port, unless it is 22.\n\
             - `identity_file`: the private key, such as `~/.ssh/id_ed25519`; no other is tried then.\n\
             - `known_hosts_file`: a file with `weft_instance.known_hosts_line` in it, for which \
             `host_name` has to be the instance's `private_ip`. The host key has to be in it then: \
             nobody trusts on first use.\n\n\
             Values with line breaks, quotes or what else ssh reads as more than a value are refused.",
            Type::String,
        )
        .parameter(Parameter::new("alias", Type::String, "What is typed: `ssh ALIAS`."))
        .parameter(Parameter::new("options", Type::map(Type::String), "Where and how, as above."))
    }

    fn call(&self, arguments: &Arguments) -> Result<Value, FunctionError> {
        let alias: String = arguments.read(0)?;
        if !is_word(&alias, "._-") {
            let problem = format!(
                "the alias {alias:?} cannot be: letters, digits and ._- can, no dash first"
            );
            return Err(at(0)(problem));
        }
        let options: BTreeMap<String, Option<String>> = arguments.read(1)?;
        check_keys(&options, &KEYS).map_err(at(1))?;
        let entry = entry(&alias, &options).map_err(at(1))?;
        Ok(Value::from(entry))
    }
}

fn entry(alias: &str, options: &BTreeMap<String, Option<String>>) -> Result<String, String> {
    let text = |key: &str| options.get(key).and_then(Option::as_deref);
    let word = |key: &str, more: &str| match text(key) {
        Some(text) if !is_word(text, more) => Err(refused(key, text)),
        text => Ok(text),
    };
    let instance = text("instance_id").map(|id| id.parse::<InstanceId>()).transpose();
    let instance = instance.map_err(|error| error.to_string())?;
    let address = match text("host_name") {
        Some(text) if text.parse::<IpAddr>().is_ok() || is_word(text, ".-") => text.to_owned(),
        Some(text) => return Err(refused("host_name", text)),
        None => match &instance {
            Some(id) => id.to_string(),
            None => return Err("host_name or instance_id is needed".to_owned()),
        },
    };
    // Writing to a String cannot fail.
    let mut out = format!("Host {alias}\n  HostName {address}\n");
    if let Some(user) = word("user", "._-")? {
        let _ = writeln!(out, "  User {user}");
    }
    if let Some(port) = text("port") {
        match port.parse::<u16>() {
            Ok(number) if number > 0 => {
                let _ = writeln!(out, "  Port {number}");
            }
            _ => return Err(format!("the port {port:?} is none: 1 to 65535 are")),
        }
    }
    if let Some(id) = &instance {
        let endpoint = word("endpoint", ":/._-[]")?;
        let endpoint = endpoint.map_or_else(String::new, |text| format!("--endpoint '{text}' "));
        let _ = writeln!(out, "  ProxyCommand weft {endpoint}proxy --port %p {id}");
    } else if text("endpoint").is_some() {
        return Err("endpoint is of use with instance_id only".to_owned());
    }
    if let Some(file) = file("identity_file", text("identity_file"))? {
        let _ = writeln!(out, "  IdentityFile {file}\n  IdentitiesOnly yes");
    }
    if let Some(file) = file("known_hosts_file", text("known_hosts_file"))? {
        let _ = writeln!(out, "  UserKnownHostsFile {file}\n  StrictHostKeyChecking yes");
    }
    Ok(out)
}

/// A path as one word, in quotes. `%` is doubled, as ssh expands it; `${` would be a variable and
/// cannot be escaped.
fn file(key: &str, path: Option<&str>) -> Result<Option<String>, String> {
    let Some(path) = path else { return Ok(None) };
    let bad = |c: char| c.is_control() || matches!(c, '"' | '\'' | '\\');
    if path.is_empty() || path.contains(bad) || path.contains("${") {
        return Err(refused(key, path));
    }
    Ok(Some(format!("\"{}\"", path.replace('%', "%%"))))
}

fn refused(key: &str, text: &str) -> String {
    format!("{key} {text:?} has characters that ssh would read as more than a value, or is empty")
}

/// Letters, digits and `more`; no dash at the beginning, which would be an option.
fn is_word(text: &str, more: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}
