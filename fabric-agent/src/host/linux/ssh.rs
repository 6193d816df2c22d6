//! Whether an SSH server with the expected host key answers: key exchange, and no login.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client;
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};
use tokio::net::TcpStream;

use crate::host::{SshProbe, SshSeen};

/// How long one attempt may take to connect, and then to exchange keys. Under software emulation
/// a key exchange takes seconds.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_millis(1500);
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(15);

/// Looks at the server's host key, which it proves to have by signing the exchange.
struct KeyReader {
    expected: Option<PublicKey>,
    seen: Arc<Mutex<Option<SshProbe>>>,
}

impl client::Handler for KeyReader {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let fits = self.expected.as_ref().is_some_and(|wanted| wanted.key_data() == key.key_data());
        let verdict = match fits {
            true => SshProbe::Ready,
            false => {
                let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
                SshProbe::NotYet(SshSeen::WrongKey(fingerprint))
            }
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        Ok(fits)
    }
}

/// Exchanges keys over `stream` and hangs up.
pub(super) async fn probe(stream: TcpStream, host_key: &str) -> SshProbe {
    let seen = Arc::new(Mutex::new(None));
    let reader =
        KeyReader { expected: PublicKey::from_openssh(host_key).ok(), seen: Arc::clone(&seen) };
    // Only the kind of key that was injected is asked for.
    let preferred = russh::Preferred {
        key: std::borrow::Cow::Borrowed(&[russh::keys::Algorithm::Ed25519]),
        ..russh::Preferred::DEFAULT
    };
    let config = client::Config {
        preferred,
        inactivity_timeout: Some(EXCHANGE_DEADLINE),
        ..client::Config::default()
    };
    let exchange = client::connect_stream(Arc::new(config), stream, reader);
    let outcome = tokio::time::timeout(EXCHANGE_DEADLINE, exchange).await;
    let verdict = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (verdict, outcome) {
        (Some(SshProbe::Ready), Ok(Ok(session))) => {
            // The guest should not have to wait for a timeout to be rid of us.
            let goodbye = session.disconnect(russh::Disconnect::ByApplication, "", "en").await;
            if let Err(error) = goodbye {
                tracing::trace!(%error, "the server hung up first");
            }
            SshProbe::Ready
        }
        (Some(verdict @ SshProbe::NotYet(_)), _) => verdict,
        (_, Ok(Err(error))) => SshProbe::NotYet(SshSeen::NoExchange(error.to_string())),
        (_, Err(_)) => {
            let seconds = EXCHANGE_DEADLINE.as_secs();
            SshProbe::NotYet(SshSeen::NoExchange(format!("none within {seconds} s")))
        }
        (_, Ok(Ok(_))) => {
            SshProbe::NotYet(SshSeen::NoExchange("the server showed no host key".to_owned()))
        }
    }
}
