//! `weft start`, `weft stop` and `weft reboot`.

use std::process::ExitCode;

use weft_model::InstanceView;
use weft_proto::convert::instance_from_wire;
use weft_proto::v1::wait_request::Until;

use super::wait::wait;
use crate::agent::{Agent, get_request};
use crate::failure::{self, Failure};
use crate::{output, target};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids or unique names
    #[arg(value_name = "INSTANCE", required = true)]
    instances: Vec<String>,
    /// Return as soon as the request is accepted
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for each instance, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u32,
}

/// What is done to each instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Stop,
    Reboot,
}

impl Action {
    fn until(self) -> Until {
        match self {
            Self::Start | Self::Reboot => Until::WaitFor("running".to_owned()),
            Self::Stop => Until::Stopped(true),
        }
    }
}

/// Asks for all of them first, then waits for each: they change at the same time. One failure does
/// not keep the others from their turn.
pub(crate) async fn run(agent: &Agent, action: Action, args: &Args) -> Result<ExitCode, Failure> {
    let mut asked = Vec::new();
    for name in &args.instances {
        asked.push(ask(agent, action, name).await);
    }
    let mut code = ExitCode::SUCCESS;
    for result in asked {
        let outcome = match result {
            Ok(view) if args.no_wait => Ok((view.object.id, view.status.state.to_string())),
            Ok(view) => wait(agent, &view.object.id, action.until(), args.timeout)
                .await
                .map(|state| (view.object.id, state)),
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok((id, state)) => output::print(format!("{id} {}\n", output::clean(&state)))?,
            Err(failure) => code = failure::report(&failure),
        }
    }
    Ok(code)
}

async fn ask(agent: &Agent, action: Action, name: &str) -> Result<InstanceView, Failure> {
    let id = target::instance(agent, name).await?.object.id;
    let request = get_request(id);
    let mut instances = agent.instances();
    let answer = match action {
        Action::Start => instances.start(request).await?,
        Action::Stop => instances.stop(request).await?,
        Action::Reboot => instances.reboot(request).await?,
    };
    Ok(instance_from_wire(answer.into_inner())?)
}
