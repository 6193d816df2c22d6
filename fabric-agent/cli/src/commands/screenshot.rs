//! `weft screenshot`: what an instance's display shows, as a PNG.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use weft_model::{Problem, Reason};
use weft_proto::v1::ScreenshotRequest;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::{output, target};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An id or a unique name
    instance: String,
    /// Where the picture goes; without it, to standard output, which cannot be a terminal
    #[arg(short, long, value_name = "FILE.png")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(agent: &Agent, args: &Args) -> Result<ExitCode, Failure> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        let problem = Problem::invalid("output", "a picture is not for a terminal");
        return Err(Failure::Usage(problem.remedy("name a file: -o FILE.png")));
    }
    let id = target::instance(agent, &args.instance).await?.object.id.to_string();
    let mut chunks = agent.instances().screenshot(ScreenshotRequest { id }).await?.into_inner();
    let mut picture = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        picture.extend(chunk.data);
    }
    match &args.output {
        // All of it is there: what was called so before is not lost for half a picture.
        Some(path) => tokio::fs::write(path, picture).await.map_err(|error| {
            let message = format!("cannot write {}", path.display());
            Failure::from(Problem::new(Reason::Internal, message).evidence(error.to_string()))
        })?,
        None => output::print(picture)?,
    }
    Ok(ExitCode::SUCCESS)
}
