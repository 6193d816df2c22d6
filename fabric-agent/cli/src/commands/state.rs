//! `weft state`: the Terraform states that the agent keeps.

use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};
use weft_model::{Problem, Reason, Timestamp};
use weft_proto::v1;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::output::{Format, NOTHING, age, clean, print, print_json, size, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all states, with who holds their locks
    Ls,
    /// List the versions of a state that are kept, oldest first
    Versions {
        /// The state's name: what its address ends with
        name: String,
    },
    /// Print a state. It holds secrets
    #[command(disable_version_flag = true)]
    Get {
        /// The state's name
        name: String,
        /// Which version; unset: the latest
        #[arg(long, value_name = "N")]
        version: Option<u64>,
    },
    /// Make an older version the latest once more. Plans that were saved before are refused then
    #[command(disable_version_flag = true)]
    Restore {
        /// The state's name
        name: String,
        /// Which version
        #[arg(long, value_name = "N")]
        version: u64,
        /// Also while somebody holds the lock
        #[arg(long)]
        force: bool,
    },
    /// Release a lock whose holder is gone
    Unlock {
        /// The state's name
        name: String,
        /// The lock's id, as Terraform and weft state rm tell it: what was locked anew meanwhile stays locked
        #[arg(long, required_unless_present = "force", value_parser = NonEmptyStringValueParser::new())]
        id: Option<String>,
        /// Whichever lock is held, also that of an apply at work
        #[arg(long, conflicts_with = "id")]
        force: bool,
    },
    /// Forget a state with all its versions
    Rm {
        /// The state's name
        name: String,
        /// Also where it is locked or has resources
        #[arg(long)]
        force: bool,
    },
}

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    let mut states = agent.states();
    match &args.command {
        Command::Ls => {
            let request = v1::ListTerraformStatesRequest {};
            let items = states.list(request).await?.into_inner().items;
            match format {
                Format::Json => print_json(&items.iter().map(state_json).collect())?,
                Format::Text => print(list(&items, Timestamp::now()))?,
            }
        }
        Command::Versions { name } => {
            let request = v1::ListTerraformStateVersionsRequest { name: name.clone() };
            let items = states.list_versions(request).await?.into_inner().items;
            match format {
                Format::Json => print_json(&items.iter().map(version_json).collect())?,
                Format::Text => print(versions(&items))?,
            }
        }
        Command::Get { name, version } => {
            let request = v1::GetTerraformStateRequest { name: name.clone(), version: *version };
            let mut chunks = states.get(request).await?.into_inner();
            let mut content = Vec::new();
            while let Some(chunk) = chunks.message().await? {
                content.extend(chunk.data);
            }
            // All of it, or nothing: half a state is not to be stored anywhere.
            print(content)?;
        }
        Command::Restore { name, version, force } => {
            let (version, force) = (*version, *force);
            let request = v1::RestoreTerraformStateRequest { name: name.clone(), version, force };
            let made = states.restore(request).await?.into_inner();
            let number = made.number;
            print(format!("{name}: version {version} is the latest again, as version {number}\n"))?;
        }
        Command::Unlock { name, id, force } => {
            let id = match (id, force) {
                (Some(id), false) => id.clone(),
                // To the agent: whichever there is.
                _ => String::new(),
            };
            let request = v1::UnlockTerraformStateRequest { name: name.clone(), id };
            let lock = states.unlock(request).await?.into_inner().lock.ok_or_else(|| {
                let message = format!("the state {name} is not locked");
                Problem::new(Reason::FailedPrecondition, message).remedy("weft state ls")
            })?;
            print(format!("{name}: unlocked, was held by {}\n", clean(&holder(&lock))))?;
        }
        Command::Rm { name, force } => {
            let request = v1::DeleteTerraformStateRequest { name: name.clone(), force: *force };
            states.delete(request).await?;
            print(format!("{name} gone\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(items: &[v1::TerraformState], now: Timestamp) -> String {
    let header = ["NAME", "VERSION", "SERIAL", "RESOURCES", "KEPT", "CHANGED", "BY", "LOCKED BY"];
    let row = |state: &v1::TerraformState| {
        let latest = state.latest.as_ref();
        let of = |get: &dyn Fn(&v1::TerraformStateVersion) -> Option<String>| {
            latest.and_then(get).unwrap_or_default()
        };
        vec![
            state.name.clone(),
            of(&|latest| Some(latest.number.to_string())),
            of(&|latest| latest.serial.map(|serial| serial.to_string())),
            of(&|latest| latest.resources.map(|count| count.to_string())),
            format!("{} of {}", state.versions, size(state.bytes)),
            of(&|latest| Some(age(now, time(latest.at_unix_ms)))),
            of(&|latest| Some(latest.client.clone())),
            state.lock.as_ref().map(holder).unwrap_or_default(),
        ]
    };
    table(&header, &items.iter().map(row).collect::<Vec<_>>())
}

fn versions(items: &[v1::TerraformStateVersion]) -> String {
    let header = ["VERSION", "SERIAL", "RESOURCES", "SIZE", "STORED", "BY", "FROM", "NOTE"];
    let row = |version: &v1::TerraformStateVersion| {
        let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        vec![
            version.number.to_string(),
            number(version.serial),
            number(version.resources),
            size(version.bytes),
            at(version.at_unix_ms),
            version.client.clone(),
            version.client_address.clone(),
            version.restored_from.map(|n| format!("restored from {n}")).unwrap_or_default(),
        ]
    };
    table(&header, &items.iter().map(row).collect::<Vec<_>>())
}

/// Who it is, in the words of the certificate and in their own, since when, and the id.
fn holder(lock: &v1::TerraformStateLock) -> String {
    let v1::TerraformStateLock { id, at_unix_ms, client, who, operation, .. } = lock;
    let who = if who.is_empty() { NOTHING } else { who };
    let operation = operation.strip_prefix("OperationType").unwrap_or(operation).to_lowercase();
    format!("{client} ({who}, {operation}) since {}, lock {id}", at(*at_unix_ms))
}

fn state_json(state: &v1::TerraformState) -> Value {
    let v1::TerraformState { name, latest, versions, bytes, lock } = state;
    json!({
        "name": name,
        "latest": latest.as_ref().map(version_json),
        "versions": versions,
        "bytes": bytes,
        "lock": lock.as_ref().map(|lock| json!({
            "id": lock.id,
            "at": time(lock.at_unix_ms).to_string(),
            "client": lock.client,
            "client_address": lock.client_address,
            "who": lock.who,
            "operation": lock.operation,
        })),
    })
}

fn version_json(version: &v1::TerraformStateVersion) -> Value {
    json!({
        "number": version.number,
        "at": time(version.at_unix_ms).to_string(),
        "client": version.client,
        "client_address": version.client_address,
        "bytes": version.bytes,
        "sha256": version.sha256,
        "serial": version.serial,
        "lineage": version.lineage,
        "terraform_version": version.terraform_version,
        "resources": version.resources,
        "restored_from": version.restored_from,
    })
}

fn time(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn at(unix_ms: i64) -> String {
    time(unix_ms).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> v1::TerraformStateVersion {
        v1::TerraformStateVersion {
            number,
            at_unix_ms: 1_700_000_000_000,
            client: "ci".to_owned(),
            client_address: "192.0.2.7:5000".to_owned(),
            bytes: 2048,
            serial: Some(number + 10),
            resources: Some(3),
            restored_from: (number == 2).then_some(1),
            ..Default::default()
        }
    }

    #[test]
    fn states_and_versions_are_lines() {
        let lock = v1::TerraformStateLock {
            id: "3c24".to_owned(),
            at_unix_ms: 1_700_000_000_000,
            client: "ci".to_owned(),
            who: "root@vm".to_owned(),
            operation: "OperationTypeApply".to_owned(),
            ..Default::default()
        };
        let network = v1::TerraformState {
            name: "network".to_owned(),
            latest: Some(version(2)),
            versions: 2,
            bytes: 4096,
            lock: None,
        };
        let web =
            v1::TerraformState { name: "web".to_owned(), lock: Some(lock), ..Default::default() };
        let now = Timestamp::from_second(1_700_000_060).unwrap();
        let want = "\
NAME     VERSION  SERIAL  RESOURCES  KEPT        CHANGED  BY  LOCKED BY
network  2        12      3          2 of 4 KiB  60s      ci  -
web      -        -       -          0 of 0 B    -        -   ci (root@vm, apply) since 2023-11-14T22:13:20Z, lock 3c24
";
        assert_eq!(list(&[network, web], now), want);
        let want = "\
VERSION  SERIAL  RESOURCES  SIZE   STORED                BY  FROM            NOTE
1        11      3          2 KiB  2023-11-14T22:13:20Z  ci  192.0.2.7:5000  -
2        12      3          2 KiB  2023-11-14T22:13:20Z  ci  192.0.2.7:5000  restored from 1
";
        assert_eq!(versions(&[version(1), version(2)]), want);
    }
}
