//! `Host` blocks of ssh's configuration.
//!
//! Every value is checked for what could end its line or its word (`ssh_config(5)`): a name that
//! somebody else chose must not add an option.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use weft_model::InstanceId;

/// Whether ssh takes it for one name of a host.
pub(crate) fn is_alias(text: &str) -> bool {
    is_word(text, "._-")
}

/// A block for the host called `alias`, with these options.
///
/// # Errors
/// What is wrong with an option, in words.
pub(crate) fn entry(
    alias: &str,
    options: &BTreeMap<String, Option<String>>,
) -> Result<String, String> {
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
