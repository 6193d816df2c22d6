//! `fabric-agent init`: makes the CA, the agent's certificate and those of clients.
//!
//! Everything is made beside its place and moved there, so that a folder is whole or absent. What
//! exists is not made again, unless it is to be renewed.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rcgen::KeyPair;
use rustls_pki_types::ServerName;
use weft_proto::certificate::{Certificate, show_time};
use weft_proto::client::DEFAULT_PORT;

use super::Files;
use super::authority::{Authority, Purpose, facts};
use crate::files::replace;

/// The client that is made when no other is named.
const FIRST_CLIENT: &str = "admin";

/// The settings of `fabric-agent init`.
#[derive(Args, Clone, Debug)]
pub(crate) struct InitArgs {
    /// The agent's state directory; the files go into its folder tls
    #[arg(long, value_name = "DIR", default_value = crate::config::STATE_DIR, value_parser = crate::config::parse_dir)]
    pub(crate) state_dir: PathBuf,
    /// A name or address that clients use for this machine, besides its host name, localhost,
    /// 127.0.0.1 and ::1. May be repeated
    #[arg(long = "server-name", value_name = "NAME", value_parser = parse_server_name)]
    pub(crate) server_names: Vec<String>,
    /// Make a certificate for a client of this name; it stands in the agent's log beside each
    /// change. May be repeated; with the first run, "admin" unless set
    #[arg(long = "client", value_name = "NAME", value_parser = parse_client)]
    pub(crate) clients: Vec<String>,
    /// Sign again what exists: the clients named by --client, else the agent's own certificate.
    /// Keys stay as they are, and so does the CA
    #[arg(long)]
    pub(crate) renew: bool,
    /// How many days the certificates are valid (the CA: ten years)
    #[arg(long, value_name = "DAYS", default_value_t = 730, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub(crate) valid_days: u64,
}

/// Makes what is asked for; the answer is what to tell people.
pub(crate) fn init(args: &InitArgs, host: &str, now: SystemTime) -> anyhow::Result<String> {
    let files = Files::of(&args.state_dir);
    let mut report = String::new();
    if !files.folder().exists() {
        ensure!(
            !args.renew,
            "there is nothing to renew in {}: run fabric-agent init without --renew",
            files.folder().display()
        );
        first(&files, args, host, now, &mut report)?;
    } else if args.renew {
        renew(&files, args, host, now, &mut report)?;
    } else {
        more(&files, args, now, &mut report)?;
    }
    Ok(report)
}

/// The whole folder, in one step.
fn first(
    files: &Files,
    args: &InitArgs,
    host: &str,
    now: SystemTime,
    report: &mut String,
) -> anyhow::Result<()> {
    make_dir_all(files.state_dir())?;
    let (authority, ca_key) = Authority::generate(host, now)?;
    let names = server_names(host, &args.server_names);
    let agent_key = new_key()?;
    let agent = authority.sign(Purpose::Agent(&names), &agent_key, now, args.valid_days)?;
    let clients = match args.clients.as_slice() {
        [] => vec![FIRST_CLIENT.to_owned()],
        named => named.to_vec(),
    };
    let nursery = nursery(files.state_dir())?;
    let made = Files { state_dir: nursery.path().to_owned() };
    make_dir(&made.folder())?;
    make_dir(&made.clients())?;
    replace(&made.ca_key(), ca_key.as_bytes(), 0o600)?;
    replace(&made.ca_cert(), authority.pem.as_bytes(), 0o644)?;
    replace(&made.agent_key(), agent_key.serialize_pem().as_bytes(), 0o600)?;
    replace(&made.agent_cert(), agent.pem.as_bytes(), 0o644)?;
    let mut ends = Vec::new();
    for client in &clients {
        let facts = client_folder(&authority, &made.client(client), client, now, args.valid_days)?;
        ends.push((client.clone(), facts));
    }
    sync(&made.folder())?;
    fs::rename(made.folder(), files.folder())
        .with_context(|| format!("cannot make {}", files.folder().display()))?;
    sync(files.state_dir())?;

    let _ = writeln!(report, "made in {}:", files.folder().display());
    line(report, "ca.crt, ca.key", &authority.facts.name, &authority.facts);
    line(report, "agent.crt, agent.key", &names.join(", "), &agent.facts);
    for (client, facts) in &ends {
        line(report, &format!("clients/{client}/"), &format!("client \"{client}\""), facts);
    }
    let _ = writeln!(
        report,
        "\nOn this machine, let the agent listen on TCP as well:\n\n  \
         fabric-agent serve {}--listen 0.0.0.0:{DEFAULT_PORT}",
        files.flag()
    );
    for client in &clients {
        other_machine(report, files, client, &names);
    }
    Ok(())
}

/// Clients of the CA that is there.
fn more(
    files: &Files,
    args: &InitArgs,
    now: SystemTime,
    report: &mut String,
) -> anyhow::Result<()> {
    let agent = read_facts(&files.agent_cert())?;
    if args.clients.is_empty() {
        bail!(
            "{} exists already: the agent's certificate is for {} and valid until {}\n  \
             help: --client NAME makes a certificate for another client, --renew signs the \
             agent's again (with --server-name: for more names)",
            files.folder().display(),
            agent.alternative_names.join(", "),
            show_time(agent.ends)
        );
    }
    ensure!(
        args.server_names.is_empty(),
        "the agent's certificate exists already, for {}\n  help: fabric-agent init {}--renew \
         --server-name NAME signs it again, for more names",
        agent.alternative_names.join(", "),
        files.flag()
    );
    for client in &args.clients {
        ensure!(
            !files.client(client).exists(),
            "{} exists already\n  help: --renew signs its certificate again",
            files.client(client).display()
        );
    }
    let authority = Authority::open(files)?;
    make_dir_all(&files.clients())?;
    for client in &args.clients {
        let nursery = nursery(files.state_dir())?;
        let folder = nursery.path().join(client);
        let facts = client_folder(&authority, &folder, client, now, args.valid_days)?;
        fs::rename(&folder, files.client(client))
            .with_context(|| format!("cannot make {}", files.client(client).display()))?;
        sync(&files.clients())?;
        let _ = writeln!(report, "made in {}:", files.folder().display());
        line(report, &format!("clients/{client}/"), &format!("client \"{client}\""), &facts);
        other_machine(report, files, client, &agent.alternative_names);
    }
    Ok(())
}

/// New certificates for the keys that are there.
fn renew(
    files: &Files,
    args: &InitArgs,
    host: &str,
    now: SystemTime,
    report: &mut String,
) -> anyhow::Result<()> {
    let authority = Authority::open(files)?;
    ensure!(
        authority.facts.remaining(now).is_some(),
        "the CA {} ended at {}: remove {} and run fabric-agent init again; every client needs new \
         files then",
        authority.facts.name,
        show_time(authority.facts.ends),
        files.folder().display()
    );
    if args.clients.is_empty() {
        let key = read_key(&files.agent_key())?;
        // Clients know it by the names that it has: more are added, none is taken away.
        let former = read_facts(&files.agent_cert())?.alternative_names;
        let names = match args.server_names.as_slice() {
            [] => former,
            more => server_names(host, &[more, &former].concat()),
        };
        let signed = authority.sign(Purpose::Agent(&names), &key, now, args.valid_days)?;
        replace(&files.agent_cert(), signed.pem.as_bytes(), 0o644)?;
        let _ = writeln!(report, "renewed in {}:", files.folder().display());
        line(report, "agent.crt", &names.join(", "), &signed.facts);
        let _ = writeln!(report, "\nAn agent that runs takes it for the next connection.");
    }
    for client in &args.clients {
        let folder = files.client(client);
        ensure!(
            folder.exists(),
            "there is no client \"{client}\" in {}\n  help: without --renew, it is made",
            files.clients().display()
        );
        let key = read_key(&folder.join("client.key"))?;
        let signed = authority.sign(Purpose::Client(client), &key, now, args.valid_days)?;
        replace(&folder.join("client.crt"), signed.pem.as_bytes(), 0o644)?;
        let _ = writeln!(report, "renewed in {}:", folder.display());
        line(report, "client.crt", &format!("client \"{client}\""), &signed.facts);
        let _ = writeln!(
            report,
            "\nCopy {} to where the client is.",
            folder.join("client.crt").display()
        );
    }
    Ok(())
}

/// A folder with all that a client needs.
fn client_folder(
    authority: &Authority,
    folder: &Path,
    client: &str,
    now: SystemTime,
    valid_days: u64,
) -> anyhow::Result<Certificate> {
    let key = new_key()?;
    let signed = authority.sign(Purpose::Client(client), &key, now, valid_days)?;
    make_dir(folder)?;
    replace(&folder.join("ca.crt"), authority.pem.as_bytes(), 0o644)?;
    replace(&folder.join("client.key"), key.serialize_pem().as_bytes(), 0o600)?;
    replace(&folder.join("client.crt"), signed.pem.as_bytes(), 0o644)?;
    Ok(signed.facts)
}

/// The lines for a client's machine.
fn other_machine(report: &mut String, files: &Files, client: &str, names: &[String]) {
    // The host name is the first, where it is a name that DNS can have.
    let host = names.first().map_or("localhost", String::as_str);
    let _ = write!(
        report,
        "
On the machine of \"{client}\", with {host} or another of the names above:

  scp -r root@{host}:{folder} ~/weft-{client}

  export WEFT_ENDPOINT=https://{host}:{DEFAULT_PORT}
  export WEFT_CA_CERT=~/weft-{client}/ca.crt
  export WEFT_CLIENT_CERT=~/weft-{client}/client.crt
  export WEFT_CLIENT_KEY=~/weft-{client}/client.key

or in Terraform:

  provider \"weft\" {{
    endpoint    = \"https://{host}:{DEFAULT_PORT}\"
    ca_cert     = pathexpand(\"~/weft-{client}/ca.crt\")
    client_cert = pathexpand(\"~/weft-{client}/client.crt\")
    client_key  = pathexpand(\"~/weft-{client}/client.key\")
  }}
",
        folder = files.client(client).display(),
    );
}

fn line(report: &mut String, what: &str, whose: &str, facts: &Certificate) {
    let _ = writeln!(report, "  {what:<22} {whose}; valid until {}", show_time(facts.ends));
}

/// The host's name, where DNS can have it, what loopback is called, and `more`.
fn server_names(host: &str, more: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let always = [host, "localhost", "127.0.0.1", "::1"];
    // What people name comes first after the host's name: it is shown as an example.
    let (own, loopback) = always.split_at(1);
    let own =
        own.iter().filter(|name| ServerName::try_from(**name).is_ok()).map(|n| (*n).to_owned());
    let loopback = loopback.iter().map(|name| (*name).to_owned());
    for name in more.iter().cloned().chain(own).chain(loopback) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn new_key() -> anyhow::Result<KeyPair> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

fn read_key(path: &Path) -> anyhow::Result<KeyPair> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    KeyPair::from_pem(&text).with_context(|| format!("{} holds no private key", path.display()))
}

fn read_facts(path: &Path) -> anyhow::Result<Certificate> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    facts(&text).with_context(|| format!("{} holds no certificate", path.display()))
}

/// A directory beside the final place: moving out of it is one step.
fn nursery(state_dir: &Path) -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(".tls-")
        .tempdir_in(state_dir)
        .with_context(|| format!("cannot make files in {}", state_dir.display()))
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the directory {}", dir.display()))
}

fn make_dir_all(dir: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the directory {}", dir.display()))
}

fn sync(dir: &Path) -> anyhow::Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("cannot write {}", dir.display()))
}

fn parse_server_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("neither a DNS name nor an address".to_owned()),
    }
}

/// A client's name is the name of a folder, and stands in logs.
fn parse_client(text: &str) -> Result<String, String> {
    let valid = (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_@".contains(&b));
    match valid {
        true => Ok(text.to_owned()),
        false => Err("use up to 40 letters, digits, dots, dashes, underscores or @".to_owned()),
    }
}

#[cfg(test)]
mod tests;
