//! What the listener shows and asks for, read again when the files change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};
use weft_proto::certificate::{Certificate, ENDS_SOON, show_time};

use super::Files;
use super::listen::Admits;

/// The certificates of a running agent.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: Files,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    /// Of the files that were looked at last, usable or not.
    stamp: Vec<Option<(u64, i64, i64)>>,
    config: Arc<ServerConfig>,
    /// The same, which asks nobody for a certificate.
    open: Arc<ServerConfig>,
}

impl Certificates {
    /// The ones in `files`.
    ///
    /// # Errors
    /// There are none, or they do not fit each other. Ones that have ended are no error: the agent
    /// has guests to run, and says so in its log.
    pub(crate) fn open(files: Files) -> anyhow::Result<Self> {
        ensure!(
            files.folder().exists(),
            "there are no certificates in {}, and TCP is not served without\n  help: \
             fabric-agent init {}makes them",
            files.folder().display(),
            files.flag()
        );
        let stamp = stamp(&files);
        let (config, open) = load(&files)?;
        Ok(Self { files, loaded: Mutex::new(Loaded { stamp, config, open }) })
    }

    /// What a connection that comes now is served with.
    pub(crate) fn current(&self, admits: Admits) -> Arc<ServerConfig> {
        let stamp = stamp(&self.files);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp != loaded.stamp {
            loaded.stamp = stamp;
            match load(&self.files) {
                Ok((config, open)) => {
                    (loaded.config, loaded.open) = (config, open);
                    tracing::info!("the certificates have changed and are in use");
                }
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the certificates have changed but cannot be used: the former ones stay"
                ),
            }
        }
        Arc::clone(match admits {
            Admits::Clients => &loaded.config,
            Admits::Anyone => &loaded.open,
        })
    }

    /// Says in the log what ends soon.
    pub(crate) fn warn(&self) {
        for (what, verdict) in ending(&self.files, SystemTime::now()) {
            match verdict {
                Ok(Ends::Later(_)) => {}
                Ok(Ends::Soon(ends)) => {
                    tracing::warn!(
                        ends = show_time(ends),
                        "{what} ends soon: {}",
                        remedy(&self.files, what)
                    );
                }
                Ok(Ends::Past(ends)) => {
                    tracing::error!(
                        ended = show_time(ends),
                        "{what} has ended, clients refuse it: {}",
                        remedy(&self.files, what)
                    );
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "{what} cannot be read"),
            }
        }
    }
}

/// When a certificate ends, seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Later(SystemTime),
    Soon(SystemTime),
    Past(SystemTime),
}

pub(crate) const AGENT_CERT: &str = "the agent's certificate";
pub(crate) const CA_CERT: &str = "the CA's certificate";

/// When the certificates end that clients see.
pub(crate) fn ending(files: &Files, now: SystemTime) -> [(&'static str, anyhow::Result<Ends>); 2] {
    let judge = |path: &Path| {
        let certificate = facts(path)?;
        Ok(match certificate.remaining(now) {
            None => Ends::Past(certificate.ends),
            Some(left) if left < ENDS_SOON => Ends::Soon(certificate.ends),
            Some(_) => Ends::Later(certificate.ends),
        })
    };
    [(AGENT_CERT, judge(&files.agent_cert())), (CA_CERT, judge(&files.ca_cert()))]
}

/// What to do about one that ends.
pub(crate) fn remedy(files: &Files, what: &str) -> String {
    match what == CA_CERT {
        false => format!("fabric-agent init {}--renew", files.flag()),
        true => format!(
            "rm -r {} && fabric-agent init {}(every client needs its new folder then)",
            files.folder().display(),
            files.flag()
        ),
    }
}

fn facts(path: &Path) -> anyhow::Result<Certificate> {
    let der = CertificateDer::from_pem_file(path)
        .with_context(|| format!("{} holds no certificate", path.display()))?;
    Certificate::from_der(&der).with_context(|| format!("{} cannot be read", path.display()))
}

/// What tells that a file was replaced: its inode, length and time of change.
fn stamp(files: &Files) -> Vec<Option<(u64, i64, i64)>> {
    [files.ca_cert(), files.agent_cert(), files.agent_key()]
        .iter()
        .map(|path| {
            let data = fs::metadata(path).ok()?;
            Some((data.ino(), data.mtime(), data.mtime_nsec()))
        })
        .collect()
}

/// For clients with a certificate, and for anyone.
fn load(files: &Files) -> anyhow::Result<(Arc<ServerConfig>, Arc<ServerConfig>)> {
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(&files.ca_cert())? {
        roots.add(root).with_context(|| format!("{} is no CA", files.ca_cert().display()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto.clone())
        .build()
        .context("cannot verify clients")?;
    let key_path = files.agent_key();
    let key = PrivateKeyDer::from_pem_file(&key_path)
        .with_context(|| format!("{} holds no private key", key_path.display()))?;
    let builder = || {
        ServerConfig::builder_with_provider(Arc::clone(&crypto))
            .with_protocol_versions(&[&version::TLS13])
            .context("cannot speak TLS 1.3")
    };
    let chain = certificates(&files.agent_cert())?;
    let finish = |config: Result<ServerConfig, rustls::Error>| {
        let mut config = config.with_context(|| {
            format!("{} is not the key of {}", key_path.display(), files.agent_cert().display())
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show its certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        anyhow::Ok(Arc::new(config))
    };
    let clients = builder()?.with_client_cert_verifier(verifier);
    let clients = finish(clients.with_single_cert(chain.clone(), key.clone_key()))?;
    let anyone = finish(builder()?.with_no_client_auth().with_single_cert(chain, key))?;
    Ok((clients, anyone))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!found.is_empty(), "{} holds no certificate", path.display());
    Ok(found)
}
