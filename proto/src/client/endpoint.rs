//! Where an agent listens: a unix socket, or TCP with TLS.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls_pki_types::ServerName;
use weft_model::Problem;

use super::{Credentials, DEFAULT_PORT};

/// Where an agent listens, and what is shown there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    place: Place,
    credentials: Credentials,
    /// Whether the client shows no certificate, but a token in its requests.
    by_token: bool,
}

/// The two ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Unix(PathBuf),
    Tcp(Server),
}

/// A server that its certificate has to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// A DNS name or an address, without brackets.
    pub(super) host: String,
    pub(super) name: ServerName<'static>,
    pub(super) port: u16,
}

impl Endpoint {
    /// With what TCP needs; a unix socket does not look at it.
    #[must_use]
    pub fn with(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// For the port where an agent serves holders of tokens: the client's certificate is not looked at.
    #[must_use]
    pub fn by_token(mut self) -> Self {
        self.by_token = true;
        self
    }

    pub(super) fn is_by_token(&self) -> bool {
        self.by_token
    }

    /// The socket's path; `None`: the agent is reached by TCP.
    pub fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Unix(path) => Some(path),
            Place::Tcp(_) => None,
        }
    }

    /// What TCP shows and asks for.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

const FORMS: &str = "write unix:// and an absolute path, such as unix:///run/weft/agent.sock, or \
                     https:// and a name, such as https://weft.lan:7443";

impl FromStr for Endpoint {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        let invalid = |message: String, remedy: &str| {
            Err(Problem::invalid("endpoint", message).remedy(remedy))
        };
        let place = if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return invalid(format!("endpoint \"{text}\" has no absolute path"), FORMS);
            }
            Place::Unix(path.into())
        } else if let Some(rest) = text.strip_prefix("https://") {
            match server(rest) {
                Ok(server) => Place::Tcp(server),
                Err(what) => return invalid(format!("endpoint \"{text}\": {what}"), FORMS),
            }
        } else if let Some(rest) =
            ["http://", "tcp://"].iter().find_map(|scheme| text.strip_prefix(scheme))
        {
            return invalid(
                format!("endpoint \"{text}\": an agent is reached over TLS only"),
                &format!("write https://{rest}"),
            );
        } else {
            return invalid(format!("\"{text}\" is not an endpoint"), FORMS);
        };
        Ok(Self { place, credentials: Credentials::default(), by_token: false })
    }
}

/// `host`, `host:port`, `address`, `[address]:port`, each with a slash at most behind it.
fn server(text: &str) -> Result<Server, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '?', '#', '@']) {
        return Err("it has more than a name and a port".to_owned());
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or("it has no valid port")?)),
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(format!("an IPv6 address stands in brackets: https://[{text}]"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(format!("\"{port}\" is not a port (1 to 65535)")),
        },
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("\"{host}\" is neither a DNS name nor an address"))?;
    Ok(Server { host: host.to_owned(), name, port })
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "unix://{}", path.display()),
            Place::Tcp(Server { host, port, .. }) if host.contains(':') => {
                write!(f, "https://[{host}]:{port}")
            }
            Place::Tcp(Server { host, port, .. }) => write!(f, "https://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::DEFAULT_ENDPOINT;

    #[test]
    fn sockets_and_servers_are_endpoints() {
        #[rustfmt::skip]
        let cases = [
            (DEFAULT_ENDPOINT,          DEFAULT_ENDPOINT),
            ("https://weft.lan:7444",   "https://weft.lan:7444"),
            ("https://weft.lan/",       "https://weft.lan:7443"),
            ("https://192.0.2.7",       "https://192.0.2.7:7443"),
            ("https://[2001:db8::7]",   "https://[2001:db8::7]:7443"),
            ("https://[::1]:1",         "https://[::1]:1"),
        ];
        for (text, want) in cases {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), want);
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_to_write() {
        #[rustfmt::skip]
        let cases = [
            ("", "is not an endpoint"), ("/run/weft/agent.sock", "is not an endpoint"),
            ("unix://run/x", "no absolute path"), ("weft.lan:7443", "is not an endpoint"),
            ("http://weft.lan:7443", "over TLS only"), ("tcp://weft.lan:7443", "over TLS only"),
            ("https://", "neither a DNS name"), ("https://a b", "neither a DNS name"),
            ("https://weft.lan:0", "not a port"), ("https://weft.lan:70000", "not a port"),
            ("https://weft.lan:", "not a port"), ("https://weft.lan/api", "more than a name"),
            ("https://2001:db8::7", "stands in brackets"), ("https://[::1]7443", "no valid port"),
        ];
        for (text, want) in cases {
            let problem = text.parse::<Endpoint>().unwrap_err();
            assert!(problem.message.contains(want), "{text}: {problem}");
            assert!(problem.remedy.is_some(), "{text}");
        }
    }
}
