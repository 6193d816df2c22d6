//! `weft start`, `stop`, `hibernate`, `reboot` and `reset`.

use std::process::ExitCode;

use weft_model::InstanceView;
use weft_proto::convert::instance_from_wire;
use weft_proto::v1;
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

#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// Ids or unique names
    #[arg(value_name = "INSTANCE", required = true)]
    instances: Vec<String>,
    /// Return as soon as the request is accepted
    #[arg(long)]
    no_wait: bool,
    /// How long the guest may take to shut down before it is ended; unset: what the instance says
    /// (shutdown_timeout_seconds), else what the agent was started with
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// End the guest at once, as if its power were cut; of one that is hibernated, throw the memory
    /// away
    #[arg(long, conflicts_with = "timeout")]
    force: bool,
}

/// How much longer than the guest may take a stop is waited for.
const STOP_PATIENCE_SECONDS: u32 = 300;

impl StopArgs {
    /// What is asked for, and the rest as of the other commands.
    pub(crate) fn split(self) -> (Action, Args) {
        let Self { instances, no_wait, timeout, force } = self;
        let seconds = if force { Some(0) } else { timeout };
        let timeout = STOP_PATIENCE_SECONDS.saturating_add(seconds.unwrap_or_default());
        (Action::Stop(seconds), Args { instances, no_wait, timeout })
    }
}

/// What is done to each instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    /// With the seconds that the guest has.
    Stop(Option<u32>),
    /// Answered when it is done.
    Hibernate,
    Reboot,
    Reset,
}

impl Action {
    fn until(self) -> Until {
        match self {
            Self::Start | Self::Reboot | Self::Reset => Until::WaitFor("running".to_owned()),
            Self::Stop(_) | Self::Hibernate => Until::Stopped(true),
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
    let mut instances = agent.instances();
    let answer = match action {
        Action::Start => instances.start(get_request(id)).await?,
        Action::Stop(timeout_seconds) => {
            let request = v1::StopRequest { id: id.to_string(), claim: false, timeout_seconds };
            instances.stop(request).await?
        }
        Action::Hibernate => instances.hibernate(get_request(id)).await?,
        Action::Reboot => instances.reboot(get_request(id)).await?,
        Action::Reset => instances.reset(get_request(id)).await?,
    };
    Ok(instance_from_wire(answer.into_inner())?)
}
