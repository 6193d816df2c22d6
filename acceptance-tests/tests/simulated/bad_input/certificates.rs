//! Mistakes with an agent on TCP and its certificates.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};
use weft_acceptance::{Agent, Lab};

use super::cases::{Case, Fails};

/// Files of a client, beside the module's directory.
#[derive(Clone, Copy)]
struct Files<'a> {
    ca: &'a str,
    cert: &'a str,
    key: &'a str,
}

pub(crate) fn all(lab: &mut Lab) -> Result<Vec<Case>> {
    let other = lab.directory().join("other");
    Agent::init(&other)?;
    let (agent, web) = (lab.agent().port()?, web_server()?);
    let ours = |file: &str| format!("../state/tls/clients/admin/{file}");
    let theirs = |file: &str| format!("../other/tls/clients/admin/{file}");
    let (ca, cert, key) = (ours("ca.crt"), ours("client.crt"), ours("client.key"));
    let good = Files { ca: &ca, cert: &cert, key: &key };
    let (other_ca, other_cert, other_key) =
        (theirs("ca.crt"), theirs("client.crt"), theirs("client.key"));
    expired_client(&lab.directory().join("state/tls"), &lab.directory().join("bob"))?;
    let agent = format!("https://localhost:{agent}");
    let bare = format!("provider \"weft\" {{\n  endpoint = \"{agent}\"\n}}\n");
    Ok(vec![
        case("no certificates for an agent on TCP", &bare),
        case("an endpoint without TLS", &provider(&agent.replace("https", "http"), good)),
        case(
            "a client certificate that is not there",
            &provider(&agent, Files { cert: "../alice.crt", ..good }),
        ),
        case(
            "a directory instead of a certificate",
            &provider(&agent, Files { cert: "..", ..good }),
        ),
        case(
            "certificate and key swapped",
            &provider(&agent, Files { cert: &key, key: &cert, ..good }),
        ),
        case("a key of another certificate", &provider(&agent, Files { key: &other_key, ..good })),
        case(
            "a client certificate of another CA",
            &provider(&agent, Files { cert: &other_cert, key: &other_key, ..good }),
        ),
        case(
            "a client certificate that has ended",
            &provider(
                &agent,
                Files { cert: "../bob/client.crt", key: "../bob/client.key", ..good },
            ),
        ),
        case(
            "an agent of another CA",
            &provider(&agent, Files { ca: &other_ca, cert: &other_cert, key: &other_key }),
        ),
        case("a port that nobody listens on", &provider("https://127.0.0.1:1", good)),
        case("a web server instead of an agent", &provider(&web, good)),
    ])
}

fn case(name: &'static str, provider: &str) -> Case {
    let hcl = format!("{provider}\ndata \"weft_host\" \"this\" {{}}\n");
    Case::new(name, Fails::InPlan, hcl)
}

fn provider(endpoint: &str, files: Files<'_>) -> String {
    let Files { ca, cert, key } = files;
    format!(
        "provider \"weft\" {{\n  endpoint    = \"{endpoint}\"\n  ca_cert     = \"{ca}\"\n  \
         client_cert = \"{cert}\"\n  client_key  = \"{key}\"\n}}\n"
    )
}

/// The files of the client bob, whom the agent's CA knew in the year 2000.
fn expired_client(tls: &Path, folder: &Path) -> Result<()> {
    let read = |name: &str| {
        std::fs::read_to_string(tls.join(name)).with_context(|| format!("read the lab's {name}"))
    };
    let ca = Issuer::from_ca_cert_pem(&read("ca.crt")?, KeyPair::from_pem(&read("ca.key")?)?)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "bob");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
    std::fs::create_dir(folder)?;
    std::fs::write(folder.join("client.crt"), params.signed_by(&key, &ca)?.pem())?;
    std::fs::write(folder.join("client.key"), key.serialize_pem())?;
    Ok(())
}

/// Answers everything as web servers answer what is not HTTP; ends with the process.
fn web_server() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("https://localhost:{}", listener.local_addr()?.port());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    Ok(endpoint)
}
