//! `weft logs`: the end of an instance's serial console, byte for byte.

use std::process::ExitCode;

use weft_proto::v1::ConsoleTailRequest;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::{output, target};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An id or a unique name
    instance: String,
    /// How many bytes at most
    #[arg(short = 'n', long, value_name = "BYTES", default_value_t = 64 * 1024)]
    bytes: u32,
}

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    let id = target::instance(agent, &args.instance).await?.object.id;
    let request = ConsoleTailRequest { id: id.to_string(), max_bytes: args.bytes };
    output::print(agent.instances().console_tail(request).await?.into_inner().data)?;
    Ok(ExitCode::SUCCESS)
}
