//! The CA: makes itself, and signs certificates for the agent and for clients.
//!
//! P-256 keys, which every TLS library has. A certificate that is renewed keeps its key, so that
//! one file is replaced in one step.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Extended, IsCa, Issuer, KeyPair, KeyUsagePurpose as Usage,
    PublicKeyData as _,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use weft_proto::certificate::Certificate;

use super::Files;

/// How long a CA is valid: it cannot be renewed without touching every client.
const CA_DAYS: u64 = 3650;
/// Clocks of other machines may be behind by so much.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A CA that can sign.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) facts: Certificate,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose<'a> {
    /// A server with these names and addresses.
    Agent(&'a [String]),
    /// A client with this name.
    Client(&'a str),
}

/// A certificate and what it says.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) pem: String,
    pub(super) facts: Certificate,
}

impl Authority {
    /// A new one, and its private key as PEM.
    pub(super) fn generate(host: &str, now: SystemTime) -> anyhow::Result<(Self, String)> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(Vec::new())?;
        // A name of its own, so that certificates of an earlier CA are told apart from these.
        let mark = hex::encode(crate::random::bytes::<4>());
        params.distinguished_name = name(&format!("Weft CA of {} {mark}", shorten(host)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![Usage::KeyCertSign, Usage::CrlSign];
        valid(&mut params, now, now + days(CA_DAYS));
        let pem = params.self_signed(&key).context("cannot sign the CA")?.pem();
        let key_pem = key.serialize_pem();
        Ok((Self::new(pem, key)?, key_pem))
    }

    /// The one in `files`.
    pub(super) fn open(files: &Files) -> anyhow::Result<Self> {
        let read = |path: std::path::PathBuf| {
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let key = KeyPair::from_pem(&read(files.ca_key())?)
            .with_context(|| format!("{} holds no private key", files.ca_key().display()))?;
        let pem = read(files.ca_cert())?;
        // What it signed would be nobody's.
        anyhow::ensure!(
            facts(&pem).is_ok_and(|facts| facts.public_key == key.subject_public_key_info()),
            "{} is not the key of {}: put the file back that belongs to the other",
            files.ca_key().display(),
            files.ca_cert().display()
        );
        Self::new(pem, key).with_context(|| format!("{} cannot be used", files.ca_cert().display()))
    }

    fn new(pem: String, key: KeyPair) -> anyhow::Result<Self> {
        let facts = facts(&pem)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        Ok(Self { issuer, pem, facts })
    }

    /// Signs a certificate for the holder of `key`, valid for `valid_days` but no longer than the
    /// CA is.
    pub(super) fn sign(
        &self,
        purpose: Purpose<'_>,
        key: &KeyPair,
        now: SystemTime,
        valid_days: u64,
    ) -> anyhow::Result<Signed> {
        let (names, subject, usage) = match purpose {
            Purpose::Agent(names) => {
                let first = names.first().map_or("agent", String::as_str);
                (names.to_vec(), first, Extended::ServerAuth)
            }
            Purpose::Client(client) => (Vec::new(), client, Extended::ClientAuth),
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name(shorten(subject));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![Usage::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, (now + days(valid_days)).min(self.facts.ends));
        let pem = params.signed_by(key, &self.issuer).context("cannot sign a certificate")?.pem();
        let facts = facts(&pem)?;
        Ok(Signed { pem, facts })
    }
}

/// The facts of the first certificate of a PEM text.
pub(super) fn facts(pem: &str) -> anyhow::Result<Certificate> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())?;
    Ok(Certificate::from_der(&der)?)
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

/// A common name has 64 characters at most (RFC 5280, ub-common-name).
fn shorten(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(end, _)| end);
    &text[..end]
}

fn name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn valid(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + since(from - CLOCK_SKEW);
    params.not_after = epoch + since(to);
}
