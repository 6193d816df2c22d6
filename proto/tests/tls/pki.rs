//! A CA for a test, and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose as Extended, IsCa, KeyPair, date_time_ymd,
};
use weft_proto::client::{Credentials, Pem};

/// From the first day of one year to that of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Days(i32, i32);

impl Days {
    pub(crate) const VALID: Self = Self(2001, 2100);
    pub(crate) const ENDED: Self = Self(2000, 2001);
    pub(crate) const FUTURE: Self = Self(2100, 2101);
}

pub(crate) struct Pki(CertifiedIssuer<'static, KeyPair>);

impl Pki {
    pub(crate) fn new() -> Self {
        let key = key();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, key.serialize_pem());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn ca(&self) -> String {
        self.0.pem()
    }

    /// The certificate and the key of an agent.
    pub(crate) fn server(&self, days: Days) -> (String, String) {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        self.sign(CertificateParams::new(names).unwrap(), Extended::ServerAuth, days)
    }

    /// All that the client alice needs.
    pub(crate) fn client(&self, days: Days) -> Credentials {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "alice");
        let (certificate, key) = self.sign(params, Extended::ClientAuth, days);
        Credentials {
            ca_cert: Some(Pem::Text(self.ca())),
            client_cert: Some(Pem::Text(certificate)),
            client_key: Some(Pem::Text(key)),
        }
    }

    fn sign(&self, mut params: CertificateParams, usage: Extended, days: Days) -> (String, String) {
        let key = key();
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(days.0, 1, 1);
        params.not_after = date_time_ymd(days.1, 1, 1);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}
