//! The certificates and the key of a client: where they are, and whether they fit.
//!
//! Everything that can be judged here is judged before anything is sent, so that a message can name
//! the file that is wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::pem::{Error as PemError, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};
use weft_model::Problem;

use super::{CA_CERT_VARIABLE, CLIENT_CERT_VARIABLE, CLIENT_KEY_VARIABLE};
use crate::certificate::{Certificate, show_time};

/// The largest file that is read, in bytes; certificates have a few thousand.
const MAX_BYTES: u64 = 1 << 20;

/// What HTTP/2 is called in TLS (RFC 9113, section 3.2).
const ALPN_H2: &[u8] = b"h2";

/// PEM text, or the path of a file with some.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// The text itself.
    Text(String),
    /// A file.
    File(PathBuf),
}

impl Pem {
    /// Text that begins as PEM does is text; everything else is a path.
    pub fn new(value: &str) -> Self {
        match value.trim_start().starts_with("-----BEGIN") {
            true => Self::Text(value.to_owned()),
            false => Self::File(value.into()),
        }
    }

    /// As it was given.
    pub fn as_given(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::File(path) => path.to_string_lossy(),
        }
    }
}

impl std::fmt::Debug for Pem {
    /// Without the text: it may be a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// What a client needs for TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The CA that signed the agent's certificate, and the client's.
    pub ca_cert: Option<Pem>,
    /// The client's certificate.
    pub client_cert: Option<Pem>,
    /// Its private key.
    pub client_key: Option<Pem>,
}

/// One of the three settings, read.
struct Loaded {
    field: &'static str,
    /// The field and its file, for messages.
    shown: String,
    text: Vec<u8>,
}

impl Credentials {
    /// What the environment names.
    pub fn from_environment() -> Self {
        let read = |name| std::env::var(name).ok().filter(|v| !v.is_empty()).map(|v| Pem::new(&v));
        Self {
            ca_cert: read(CA_CERT_VARIABLE),
            client_cert: read(CLIENT_CERT_VARIABLE),
            client_key: read(CLIENT_KEY_VARIABLE),
        }
    }

    /// The variables of the environment that say the same.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        self.parts()
            .into_iter()
            .filter_map(|(_, variable, pem)| Some((variable, pem?.as_given().into_owned())))
            .collect()
    }

    fn parts(&self) -> [(&'static str, &'static str, Option<&Pem>); 3] {
        [
            ("ca_cert", CA_CERT_VARIABLE, self.ca_cert.as_ref()),
            ("client_cert", CLIENT_CERT_VARIABLE, self.client_cert.as_ref()),
            ("client_key", CLIENT_KEY_VARIABLE, self.client_key.as_ref()),
        ]
    }

    /// The client's certificate, as far as it can be read.
    ///
    /// # Errors
    /// As [`super::connect`]: the file that is wrong, and how.
    pub async fn client_certificate(&self) -> Result<Certificate, Problem> {
        let [_, client, _] = self.load().await?;
        facts(&client, &certificates(&client)?[0])
    }

    /// How to speak TLS with an agent.
    pub(super) async fn tls(&self) -> Result<ClientConfig, Problem> {
        let [ca, client, key] = self.load().await?;
        let crypto = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(&ca)? {
            roots.add(root).map_err(|error| not_usable(&ca, &error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&client)?;
        judge(&client, &chain, &ca, &roots, &crypto)?;
        let private = private_key(&key)?;
        let mut config = ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| not_usable(&ca, &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    let message = format!("{} is not the key of {}", key.shown, client.shown);
                    Problem::invalid("client_key", message)
                        .remedy("use the client.crt and client.key of one folder")
                }
                error => not_usable(&key, &error),
            })?;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(config)
    }

    /// How to speak TLS where a token is shown and no certificate.
    pub(super) async fn tls_by_token(&self) -> Result<ClientConfig, Problem> {
        let ca = match &self.ca_cert {
            Some(pem) => read("ca_cert", Some(pem)).await?,
            None => {
                let message = "an agent on TCP is known by its CA: ca_cert is not set";
                return Err(Problem::invalid("ca_cert", message)
                    .remedy(format!("set ca_cert ({CA_CERT_VARIABLE}) to the agent's ca.crt")));
            }
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(&ca)? {
            roots.add(root).map_err(|error| not_usable(&ca, &error))?;
        }
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(|error| not_usable(&ca, &error))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(config)
    }

    async fn load(&self) -> Result<[Loaded; 3], Problem> {
        let parts = self.parts();
        let missing: Vec<&str> =
            parts.iter().filter(|(.., pem)| pem.is_none()).map(|(field, ..)| *field).collect();
        if !missing.is_empty() {
            let message =
                format!("an agent on TCP asks for certificates: {} not set", list(&missing));
            return Err(Problem::invalid(missing[0], message).remedy(format!(
                "on the agent's machine, run fabric-agent init --client NAME, copy the folder that \
                 it names, and set ca_cert, client_cert and client_key ({CA_CERT_VARIABLE}, \
                 {CLIENT_CERT_VARIABLE}, {CLIENT_KEY_VARIABLE}) to its files"
            )));
        }
        let [ca, client, key] = parts;
        Ok([read(ca.0, ca.2).await?, read(client.0, client.2).await?, read(key.0, key.2).await?])
    }
}

fn list(words: &[&str]) -> String {
    match words {
        [one] => format!("{one} is"),
        [first @ .., last] => format!("{} and {last} are", first.join(", ")),
        [] => String::new(),
    }
}

async fn read(field: &'static str, pem: Option<&Pem>) -> Result<Loaded, Problem> {
    let path = match pem {
        Some(Pem::Text(text)) => {
            return Ok(Loaded { field, shown: field.to_owned(), text: text.clone().into_bytes() });
        }
        Some(Pem::File(path)) => path,
        None => return Err(Problem::invalid(field, format!("{field} is not set"))),
    };
    let shown = shown(field, path);
    let text = read_file(path, &shown).await.map_err(|problem| problem.at(field))?;
    Ok(Loaded { field, shown, text })
}

/// The argument and its file. A value that looks like no path is not shown: it may be a private key
/// whose first line was lost. Base64 has no dots, and a key's never begins with a slash.
fn shown(field: &str, path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_path = text.starts_with(['/', '~']) || text.contains('.');
    match is_path && !text.contains(char::is_control) {
        true => format!("{field} {text}"),
        false => format!("{field} ({} characters that look like no path)", text.chars().count()),
    }
}

/// Regular files only: a FIFO might never end.
async fn read_file(path: &Path, shown: &str) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| {
        let problem = Problem::invalid("", format!("cannot read {shown}: {error}"));
        match path.starts_with("~") {
            true => problem.remedy("write the whole path (in Terraform: pathexpand(\"~/...\"))"),
            false => problem.remedy("give the path of a PEM file, or its text"),
        }
    };
    let metadata = tokio::fs::metadata(path).await.map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Problem::invalid("", format!("{shown} is a directory"))
            .remedy("give the path of the file in it"));
    }
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(Problem::invalid("", format!("{shown} is not a PEM file"))
            .remedy("give the path of a PEM file, or its text"));
    }
    tokio::fs::read(path).await.map_err(unreadable)
}

/// The certificates of a text, at least one.
fn certificates(loaded: &Loaded) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let Loaded { field, shown, text } = loaded;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if has_key(text) => {
            Err(Problem::invalid(*field, format!("{shown} holds a private key, no certificate"))
                .remedy("were client_cert and client_key swapped?"))
        }
        other => Err(no_pem(loaded, "certificate", other.err())),
    }
}

fn private_key(loaded: &Loaded) -> Result<PrivateKeyDer<'static>, Problem> {
    let Loaded { field, shown, text } = loaded;
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(_) if has_words(text, "ENCRYPTED PRIVATE KEY") => {
            Err(Problem::invalid(*field, format!("{shown} is encrypted with a passphrase")).remedy(
                "store it in the clear, readable by you alone: openssl pkey -in FILE -out FILE",
            ))
        }
        Err(_) if CertificateDer::pem_slice_iter(text).any(|item| item.is_ok()) => {
            Err(Problem::invalid(*field, format!("{shown} holds a certificate, no private key"))
                .remedy("were client_cert and client_key swapped?"))
        }
        Err(error) => Err(no_pem(loaded, "private key", Some(error))),
    }
}

fn has_words(text: &[u8], words: &str) -> bool {
    String::from_utf8_lossy(text).contains(words)
}

fn has_key(text: &[u8]) -> bool {
    has_words(text, "PRIVATE KEY-----")
}

fn no_pem(loaded: &Loaded, wanted: &str, error: Option<PemError>) -> Problem {
    let problem = Problem::invalid(loaded.field, format!("{} holds no {wanted}", loaded.shown))
        .remedy(format!(
            "give a PEM file with -----BEGIN {}-----, as fabric-agent init makes them",
            wanted.to_uppercase()
        ));
    match error {
        Some(error) => problem.evidence(reason(&error)),
        None => problem,
    }
}

/// The library shows lines as lists of bytes, and they may be of a key.
fn reason(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { .. } => {
            "its END line is missing or is not that of its BEGIN line".into()
        }
        PemError::IllegalSectionStart { .. } => "its BEGIN line is malformed".into(),
        PemError::Base64Decode(_) => {
            "what stands between its BEGIN and END lines is no base64".into()
        }
        PemError::SectionTooLarge => "it is too large".into(),
        PemError::Io(error) => error.to_string(),
        _ => "it has no BEGIN line of that kind".into(),
    }
}

fn not_usable(loaded: &Loaded, error: &rustls::Error) -> Problem {
    Problem::invalid(loaded.field, format!("{} cannot be used", loaded.shown))
        .remedy("use the files that fabric-agent init made")
        .evidence(error.to_string())
}

fn facts(loaded: &Loaded, der: &CertificateDer<'_>) -> Result<Certificate, Problem> {
    Certificate::from_der(der).map_err(|error| {
        Problem::invalid(loaded.field, format!("{} holds no valid certificate", loaded.shown))
            .remedy("use the files that fabric-agent init made")
            .evidence(error.to_string())
    })
}

/// Judges the client's certificate as the agent will.
fn judge(
    client: &Loaded,
    chain: &[CertificateDer<'static>],
    ca: &Loaded,
    roots: &Arc<RootCertStore>,
    crypto: &Arc<CryptoProvider>,
) -> Result<(), Problem> {
    let certificate = facts(client, &chain[0])?;
    let name = &certificate.name;
    let renew = format!(
        "on the agent's machine, run fabric-agent init --renew --client {name}, and copy the folder again"
    );
    if certificate.remaining(SystemTime::now()).is_none() {
        let message =
            format!("{} (of {name}) ended at {}", client.shown, show_time(certificate.ends));
        return Err(Problem::invalid("client_cert", message).remedy(renew));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), crypto.clone())
        .build()
        .map_err(|error| {
            Problem::invalid("ca_cert", format!("{} cannot be used", ca.shown))
                .remedy("use the ca.crt that fabric-agent init made")
                .evidence(error.to_string())
        })?;
    let verdict = verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now());
    let Err(error) = verdict else { return Ok(()) };
    let (message, remedy) = match &error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => (
            format!("{} (of {name}) is not signed by {}", client.shown, ca.shown),
            "use the ca.crt, client.crt and client.key of one folder, as fabric-agent init made it"
                .to_owned(),
        ),
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before,
            ..
        }) => (
            format!("{} (of {name}) is not valid yet", client.shown),
            format!(
                "set this machine's clock: the certificate begins at {}",
                show_time(
                    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(not_before.as_secs())
                )
            ),
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => (
            format!("{} (of {name}) is not a client's certificate", client.shown),
            "use the client.crt that fabric-agent init --client NAME made, not the agent's own"
                .to_owned(),
        ),
        _ => (format!("{} (of {name}) cannot be used", client.shown), renew),
    };
    Err(Problem::invalid("client_cert", message).remedy(remedy).evidence(error.to_string()))
}
