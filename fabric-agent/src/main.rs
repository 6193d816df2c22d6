//! `fabric-agent`: one per host. Serves the API and makes its host match the store.

mod admission;
mod alone;
mod api;
mod cache;
mod captures;
mod clock;
mod config;
mod console_tokens;
mod context;
mod creation;
mod default_network;
mod error_chain;
mod events;
mod fetches;
mod files;
mod hits;
mod host;
mod ledger;
mod logging;
mod metering;
mod monitoring;
mod public;
mod purge;
mod quiet;
mod random;
mod reachability;
mod reconcile;
mod repo;
mod serve;
mod services;
mod sessions;
mod snapshotable;
mod store_mark;
mod strays;
#[cfg(test)]
mod testing;
mod tfstate;
mod tls;
mod transfers;
mod turns;
mod volume_keys;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::{Directories, ServeArgs};

/// The agent of Weft, an EC2-shaped private cloud on your own Linux hosts
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve the API and run guests, until SIGTERM or SIGINT. Guests go on running
    Serve(Box<ServeArgs>),
    /// Make the certificates that TCP needs: a CA, the agent's, and those of clients
    Init(tls::init::InitArgs),
    /// Make a root key for encrypted volumes, in a new file that only its owner may read
    VolumeKey {
        /// The file; fabric-agent serve --volume-key-file takes it
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Look at this machine as a running agent would (weft doctor runs it where none answers):
    /// prints JSON
    #[command(hide = true)]
    Doctor(Directories),
    /// Remove everything that the agent ever made: guests, networks, disks, images, the store, and all
    /// Terraform states that it keeps
    Purge(Directories),
    /// Hold one guest's hypervisor and console (started by the agent)
    #[command(hide = true)]
    HoldGuest {
        /// What to start
        #[arg(long)]
        spec: PathBuf,
        /// The descriptor that it inherits with the secrets of encrypted volumes
        #[arg(long)]
        secrets: Option<i32>,
    },
    /// Hold one VPC's network namespace (started by the agent)
    #[command(hide = true)]
    HoldNetns {
        /// Whose; shown in the process list
        #[arg(long)]
        vpc: String,
        /// Where to write who holds it
        #[arg(long)]
        record: PathBuf,
        /// Hold this one instead of a new one
        #[arg(long)]
        join: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    // The holders come first: they must not have a runtime, nor threads.
    match Cli::parse().command {
        Command::HoldGuest { spec, secrets } => weft_hypervisor::holder::run(&spec, secrets),
        Command::HoldNetns { vpc: _, record, join } => {
            match weft_network::holder::run(&weft_network::HolderArgs { record, join }) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => logging::last_words(&error_chain::ErrorChain(&error).to_string()),
            }
        }
        Command::Serve(args) => run(async move { serve::serve(*args).await }),
        Command::Doctor(directories) => run(async move { doctor(&directories).await }),
        Command::Init(args) => {
            tell(tls::init::init(&args, &config::machine_name(), std::time::SystemTime::now()))
        }
        Command::VolumeKey { file } => tell(volume_keys::make_file(&file)),
        Command::Purge(directories) => run(async move { purge::purge(&directories).await }),
    }
}

/// Prints the checks; what they find is for the reader to judge.
async fn doctor(directories: &Directories) -> anyhow::Result<()> {
    use std::io::Write as _;
    let checks = host::linux::doctor::Doctor::alone(directories).await;
    let items = checks.iter().map(|check| {
        serde_json::json!({
            "name": check.name,
            "result": check.result.as_str(),
            "finding": check.finding,
            "remedy": check.remedy,
        })
    });
    let items = serde_json::Value::Array(items.collect());
    writeln!(std::io::stdout().lock(), "{items:#}")?;
    Ok(())
}

/// Prints what was made.
fn tell(made: anyhow::Result<String>) -> ExitCode {
    use std::io::Write as _;
    match made {
        Ok(report) => match std::io::stdout().lock().write_all(report.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => logging::last_words(&format!("cannot write to standard output: {error}")),
        },
        Err(error) => logging::last_words(&format!("{error:#}")),
    }
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    logging::start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return logging::last_words(&format!("cannot start: {error}")),
    };
    let outcome = runtime.block_on(work);
    // A thread that is stuck in the kernel must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => logging::last_words(&format!("{error:#}")),
    }
}
