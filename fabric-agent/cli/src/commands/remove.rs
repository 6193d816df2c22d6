//! `weft rm`: removes objects and waits until nothing of them is left.

use std::process::ExitCode;
use std::time::Duration;

use weft_model::{Problem, Reason};
use weft_proto::v1::{DeleteRequest, wait_request::Until};

use super::wait::wait;
use crate::agent::{Agent, get_request};
use crate::failure::{self, Failure};
use crate::output;
use crate::target::{self, AnyId};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of any kind, or unique names of instances
    #[arg(value_name = "ID", required = true)]
    targets: Vec<String>,
    /// Return as soon as the request is accepted
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for each object, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u32,
}

/// Only instances have a Wait; others are asked for this often.
const POLL: Duration = Duration::from_millis(100);

/// Asks for all of them first, then waits for each. One failure does not spare the others.
pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let mut asked = Vec::new();
    for text in &args.targets {
        asked.push((text, ask(agent, text).await));
    }
    let mut code = ExitCode::SUCCESS;
    for (text, result) in asked {
        let outcome = match result {
            Ok(id) if !args.no_wait => until_gone(agent, &id, args.timeout).await,
            other => other.map(drop),
        };
        match outcome {
            Ok(()) if args.no_wait => output::print(format!("{text} accepted\n"))?,
            Ok(()) => output::print(format!("{text} gone\n"))?,
            Err(failure) => code = failure::report(&failure),
        }
    }
    Ok(code)
}

async fn ask(agent: &Agent, text: &str) -> Result<AnyId, Failure> {
    let id = target::any(agent, text).await?;
    macro_rules! delete {
        ($client:ident, $id:expr) => {{
            let request = DeleteRequest { id: $id.to_string() };
            agent.$client().delete(request).await?;
        }};
    }
    match &id {
        AnyId::Instance(id) => delete!(instances, id),
        AnyId::Image(id) => delete!(images, id),
        AnyId::KeyPair(id) => delete!(key_pairs, id),
        AnyId::InstanceType(id) => delete!(types, id),
        AnyId::Group(id) => delete!(groups, id),
        AnyId::Rule(id) => delete!(rules, id),
        AnyId::Vpc(id) => delete!(vpcs, id),
        AnyId::Subnet(id) => delete!(subnets, id),
        AnyId::Snapshot(id) => delete!(snapshots, id),
        AnyId::PrefixList(id) => delete!(prefix_lists, id),
        AnyId::ElasticIp(id) => delete!(elastic_ips, id),
        AnyId::NetworkInterface(id) => delete!(interfaces, id),
        AnyId::Attachment(id) => delete!(attachments, id),
        AnyId::Volume(id) => delete!(volumes, id),
        AnyId::VolumeAttachment(id) => delete!(volume_attachments, id),
        AnyId::Association(id) => delete!(associations, id),
        AnyId::PortForward(id) => delete!(forwards, id),
        AnyId::RouteTable(id) => delete!(route_tables, id),
        AnyId::RouteAssociation(id) => delete!(route_associations, id),
        AnyId::Host(_) => {
            let message = format!("{text} cannot be removed");
            return Err(Problem::new(Reason::FailedPrecondition, message)
                .remedy("the host belongs to its agent; see fabric-agent purge")
                .into());
        }
    }
    Ok(id)
}

async fn until_gone(agent: &Agent, id: &AnyId, timeout_seconds: u32) -> Result<(), Failure> {
    macro_rules! poll {
        ($client:ident, $id:expr) => {{
            let mut client = agent.$client();
            let gone = async {
                loop {
                    match client.get(get_request($id)).await {
                        Ok(_) => tokio::time::sleep(POLL).await,
                        Err(status) if status.code() == tonic::Code::NotFound => return Ok(()),
                        Err(status) => return Err(Failure::from(status)),
                    }
                }
            };
            let limit = Duration::from_secs(timeout_seconds.into());
            tokio::time::timeout(limit, gone).await.unwrap_or_else(|_| {
                let message = format!("{} is not gone after {timeout_seconds} s", $id);
                Err(Problem::new(Reason::DeadlineExceeded, message).into())
            })
        }};
    }
    match id {
        AnyId::Instance(id) => wait(agent, id, Until::Gone(true), timeout_seconds).await.map(drop),
        AnyId::Image(id) => poll!(images, id),
        AnyId::KeyPair(id) => poll!(key_pairs, id),
        AnyId::InstanceType(id) => poll!(types, id),
        AnyId::Group(id) => poll!(groups, id),
        AnyId::Rule(id) => poll!(rules, id),
        AnyId::Vpc(id) => poll!(vpcs, id),
        AnyId::Subnet(id) => poll!(subnets, id),
        AnyId::Snapshot(id) => poll!(snapshots, id),
        AnyId::PrefixList(id) => poll!(prefix_lists, id),
        AnyId::ElasticIp(id) => poll!(elastic_ips, id),
        AnyId::NetworkInterface(id) => poll!(interfaces, id),
        AnyId::Attachment(id) => poll!(attachments, id),
        AnyId::Volume(id) => poll!(volumes, id),
        AnyId::VolumeAttachment(id) => poll!(volume_attachments, id),
        AnyId::Association(id) => poll!(associations, id),
        AnyId::PortForward(id) => poll!(forwards, id),
        AnyId::RouteTable(id) => poll!(route_tables, id),
        AnyId::RouteAssociation(id) => poll!(route_associations, id),
        AnyId::Host(_) => Ok(()),
    }
}
