use rustls::{ClientConfig, RootCertStore, client::ResolvesClientCert, sign::CertifiedKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A certificate of the kind that Terraform makes: P-521, CA.
fn terraform() -> Identity {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// Trusts exactly the server's certificate, as Go does with it as a root.
#[derive(Debug)]
struct PinnedServer(Vec<u8>, Arc<CryptoProvider>);
impl rustls::client::danger::ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        assert_eq!(shown.as_ref(), self.0);
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(m, c, s, &self.1.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(m, c, s, &self.1.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}

/// A client that shows one certificate, whatever it is asked for.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);
impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// Connects with `identity` to a server that expects `expected`; what the server saw.
async fn connect(expected: &Identity, identity: Option<Identity>) -> Result<Vec<u8>, String> {
    let server = mutual(&pem(&expected.0)).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty());
    let mut config = match identity {
        Some((certificate, key)) => {
            // By a resolver, since rustls itself refuses a key that is not the certificate's.
            let key = provider.key_provider.load_private_key(key).unwrap();
            let shown = CertifiedKey::new(vec![certificate], key);
            builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(shown))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let verifier = PinnedServer(server.certificate.clone(), provider);
    config.dangerous().set_certificate_verifier(Arc::new(verifier));

    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = async move {
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        // Refusals show at the server; with TLS 1.3 the client may finish before it knows.
        if let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, theirs).await {
            drop(stream.write_all(b"hello").await);
            // Stays until the server has seen it.
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
    };
    let server = async move {
        let mut stream = server.acceptor.accept(ours).await.map_err(|error| error.to_string())?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let mut seen = vec![0; 5];
        stream.read_exact(&mut seen).await.map_err(|error| error.to_string())?;
        Ok(seen)
    };
    tokio::join!(client, server).1
}

#[tokio::test]
async fn the_terraform_that_started_us_is_accepted() {
    let us = terraform();
    let same = (us.0.clone(), us.1.clone_key());
    assert_eq!(connect(&us, Some(same)).await, Ok(b"hello".to_vec()));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let error = connect(&terraform(), None).await.unwrap_err();
    assert!(error.contains("no certificates"), "{error}");
}

#[tokio::test]
async fn a_client_with_another_certificate_is_refused() {
    let error = connect(&terraform(), Some(terraform())).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn the_right_certificate_without_its_key_is_refused() {
    let us = terraform();
    let stolen = (us.0.clone(), terraform().1);
    let error = connect(&us, Some(stolen)).await.unwrap_err();
    assert!(error.contains("BadSignature"), "{error}");
}

#[test]
fn a_broken_certificate_from_the_host_is_an_error() {
    assert!(matches!(mutual("not a certificate"), Err(TlsError::ClientCertificate(_))));
}
