//! How Terraform and the provider recognise each other: cookie, versions, one line on stdout.

use std::{
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

/// Source: `internal/plugin/serve.go` in hashicorp/terraform.
const COOKIE_NAME: &str = "TF_PLUGIN_MAGIC_COOKIE";
const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

pub(super) const NOT_STARTED_BY_TERRAFORM: &str = "\
This program is a Terraform provider; it is not meant to be started by hand.
Name it in required_providers of a Terraform configuration and run terraform there,
or start it with --debug to attach a debugger.";

/// The major version of the plugin protocol that this library speaks.
const PROTOCOL: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Started by Terraform, for one run.
    Normal,
    /// Started by a person, with `--debug`, for any number of runs.
    Debug,
}

/// `None` when neither Terraform nor a debugging person started the program.
pub(super) fn mode(
    mut arguments: impl Iterator<Item = String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<Mode> {
    if arguments.any(|argument| argument == "--debug" || argument == "-debug") {
        return Some(Mode::Debug);
    }
    (variable(COOKIE_NAME)? == COOKIE).then_some(Mode::Normal)
}

/// `1|6|unix|PATH|grpc|CERTIFICATE`. With no common protocol version the line says 6 all the
/// same, and Terraform reports the mismatch. The seventh field is only for hosts that asked about
/// multiplexing, since older ones split at six.
pub(super) fn line(socket: &Path, certificate: Option<&[u8]>, multiplex_asked: bool) -> String {
    let certificate = certificate.map(|der| STANDARD_NO_PAD.encode(der)).unwrap_or_default();
    let multiplex = if multiplex_asked { "|false" } else { "" };
    format!("1|{PROTOCOL}|unix|{}|grpc|{certificate}{multiplex}", socket.display())
}

/// What a person sets so that Terraform uses this process. `ProtocolVersion` is needed: without
/// it Terraform assumes 5.
pub(super) fn reattach(address: &str, socket: &Path) -> String {
    let json = serde_json::json!({ address: {
        "Protocol": "grpc",
        "ProtocolVersion": PROTOCOL,
        "Pid": std::process::id(),
        "Test": true,
        "Addr": { "Network": "unix", "String": socket },
    }});
    format!("TF_REATTACH_PROVIDERS='{json}'")
}

/// The only writing to stdout there is: anything else breaks the handshake.
pub(super) fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terraform_and_debug_start_a_provider() {
        let none = || std::iter::empty();
        assert_eq!(mode(none(), |_| None), None);
        assert_eq!(mode(none(), |_| Some("wrong".into())), None);
        assert_eq!(
            mode(none(), |name| (name == COOKIE_NAME).then(|| COOKIE.into())),
            Some(Mode::Normal)
        );
        assert_eq!(
            mode(["x".to_owned(), "--debug".to_owned()].into_iter(), |_| None),
            Some(Mode::Debug)
        );
    }

    #[test]
    fn the_line_has_a_seventh_field_only_when_asked() {
        let socket = Path::new("/tmp/s");
        assert_eq!(line(socket, None, false), "1|6|unix|/tmp/s|grpc|");
        assert_eq!(line(socket, Some(&[0xff]), true), "1|6|unix|/tmp/s|grpc|/w|false");
    }

    #[test]
    fn reattach_names_the_protocol_version() {
        let text = reattach("example.com/a/b", Path::new("/tmp/s"));
        let json =
            text.strip_prefix("TF_REATTACH_PROVIDERS='").unwrap().strip_suffix('\'').unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["example.com/a/b"]["ProtocolVersion"], 6);
        assert_eq!(json["example.com/a/b"]["Addr"]["String"], "/tmp/s");
    }
}
