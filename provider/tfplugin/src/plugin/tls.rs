//! AutoMTLS: Terraform and the provider show each other one-time certificates.
//!
//! Terraform passes its certificate in the environment; ours goes into the handshake line. Both
//! sides accept exactly that one certificate. tonic's own TLS settings cannot pin a client.

use std::sync::Arc;

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime, pem::PemObject,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig,
        SignatureScheme,
        client::danger::HandshakeSignatureValid,
        crypto::{self, CryptoProvider, aws_lc_rs},
        server::danger::{ClientCertVerified, ClientCertVerifier},
    },
};

#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("read terraform's certificate from PLUGIN_CLIENT_CERT")]
    ClientCertificate(#[source] rustls_pki_types::pem::Error),
    #[error("make a certificate")]
    OwnCertificate(#[source] rcgen::Error),
    #[error("configure TLS")]
    Configure(#[source] rustls::Error),
}

/// What is needed to accept Terraform's connections.
pub(super) struct MutualTls {
    pub(super) acceptor: TlsAcceptor,
    /// Our certificate, DER.
    pub(super) certificate: Vec<u8>,
}

/// TLS that accepts only the client with the certificate `client_pem`.
pub(super) fn mutual(client_pem: &str) -> Result<MutualTls, TlsError> {
    let client = CertificateDer::from_pem_slice(client_pem.as_bytes())
        .map_err(TlsError::ClientCertificate)?;
    let (certificate, key) = own_certificate().map_err(TlsError::OwnCertificate)?;
    // aws-lc-rs, since Terraform's key is on P-521, which ring does not have.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Pinned { client, provider: provider.clone() };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Configure)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![certificate.clone()], key)
        .map_err(TlsError::Configure)?;
    // grpc-go 1.67 and later refuses a server that does not choose h2.
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(MutualTls {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        certificate: certificate.as_ref().to_vec(),
    })
}

/// A self-signed certificate as go-plugin makes it (`mtls.go`): Terraform uses it as its root.
fn own_certificate() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    use rcgen::{ExtendedKeyUsagePurpose as Extended, KeyUsagePurpose as Usage};
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![
        Usage::DigitalSignature,
        Usage::KeyEncipherment,
        Usage::KeyAgreement,
        Usage::KeyCertSign,
    ];
    params.extended_key_usages = vec![Extended::ClientAuth, Extended::ServerAuth];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((certificate.der().clone(), key))
}

/// Accepts one certificate only. It is a CA certificate, which path building would refuse as an
/// end entity, so the bytes are compared, and the signature proves that the client has its key.
#[derive(Debug)]
struct Pinned {
    client: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if shown.as_ref() == self.client.as_ref() {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
