//! `weft_instance_start`, `_stop`, `_reboot`, `_reset` and `_hibernate`.

use std::sync::Arc;

use tfplugin::{
    Action, ActionContext, ActionPlanContext, Attribute, Diagnostic, Diagnostics, Schema,
    Validator, async_trait,
};
use tokio::time::Instant;
use tonic::transport::Channel;
use weft_model::{InstanceView, PowerState, Problem, Reason, SHUTDOWN_SECONDS, WaitFor};
use weft_proto::v1;
use weft_proto::v1::wait_request::Until;

use super::{TIMEOUT, called, fail, instance_id, look, timeout};
use crate::agent::{Agent, Connection};
use crate::checks;
use crate::instance::order;
use crate::instance::wait::Wait;
use crate::kind::wire::{Answer, Wire as _};

/// What a user who cancels has to know.
const CANCELLED: &str = "the agent goes on with it: weft get shows how far it is";

/// What is done to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Start,
    Stop,
    Reboot,
    Reset,
    Hibernate,
}

/// One of them, as an action.
#[derive(Debug)]
pub(super) struct Power {
    pub(super) agent: Arc<Agent>,
    pub(super) deed: Deed,
}

impl Deed {
    pub(super) const ALL: [Self; 5] =
        [Self::Start, Self::Stop, Self::Reboot, Self::Reset, Self::Hibernate];

    fn type_name(self) -> &'static str {
        match self {
            Self::Start => "weft_instance_start",
            Self::Stop => "weft_instance_stop",
            Self::Reboot => "weft_instance_reboot",
            Self::Reset => "weft_instance_reset",
            Self::Hibernate => "weft_instance_hibernate",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Start => "start the instance",
            Self::Stop => "stop the instance",
            Self::Reboot => "reboot the instance",
            Self::Reset => "reset the instance",
            Self::Hibernate => "hibernate the instance",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Start => {
                "Starts an instance, or lets one that is hibernated go on. One that runs already is \
                 left as it is."
            }
            Self::Stop => {
                "Asks the guest of an instance to shut down, and ends it where it does not. The \
                 instance keeps its disk and its address. One that is stopped already is left as it is."
            }
            Self::Reboot => {
                "Shuts the guest of an instance down and starts it again: its processors, memory and \
                 seed are made anew: what changes with a restart only has changed then."
            }
            Self::Reset => {
                "Resets the machine of an instance at once, as its reset button would, without asking \
                 the guest. What the guest has not written out is lost."
            }
            Self::Hibernate => {
                "Saves the memory of an instance to its host's disk and switches it off; the next start \
                 goes on from there."
            }
        }
    }

    fn attributes(self) -> Vec<Attribute> {
        let wait_for = || {
            Attribute::string(
                "wait_for",
                "What it waits for: `none`, `running`, `ssh` (a server answers with the injected host \
                 key), `cloud_init` or `signal`.",
            )
            .default("running")
            .validate(Validator::one_of(WaitFor::WORDS.iter().copied()))
        };
        match self {
            Self::Start | Self::Reboot => vec![wait_for()],
            Self::Stop => vec![
                Attribute::number(
                    "shutdown_timeout_seconds",
                    "How long the guest may take to shut down before it is ended, in seconds; unset, \
                     what the instance says.",
                )
                .validate(checks::number("seconds", checks::wide(SHUTDOWN_SECONDS))),
                Attribute::bool(
                    "force",
                    "Whether the guest is ended at once, as if its power were cut; of an instance \
                     that is hibernated, whether its memory is thrown away.",
                )
                .default(false),
            ],
            Self::Reset | Self::Hibernate => Vec::new(),
        }
    }

    /// What power the instance is wanted to have from then on.
    fn leaves(self) -> Option<PowerState> {
        match self {
            Self::Start => Some(PowerState::Running),
            Self::Stop | Self::Hibernate => Some(PowerState::Stopped),
            Self::Reboot | Self::Reset => None,
        }
    }

    fn begins(self) -> &'static str {
        match self {
            Self::Start => "being started",
            Self::Stop => "being stopped",
            Self::Reboot => "being rebooted",
            Self::Reset => "being reset",
            Self::Hibernate => "its memory is being saved",
        }
    }

    fn ends(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop => "stopped",
            Self::Reboot => "rebooted",
            Self::Reset => "reset",
            Self::Hibernate => "hibernated",
        }
    }

    fn until(self, config: &tfplugin::Value) -> Option<Until> {
        match self {
            Self::Start | Self::Reboot => match config.get("wait_for").as_str() {
                Some("none") => None,
                word => Some(Until::WaitFor(word.unwrap_or("running").to_owned())),
            },
            Self::Stop | Self::Hibernate => Some(Until::Stopped(true)),
            // Its machine goes on at once.
            Self::Reset => None,
        }
    }

    /// May be asked twice, where the first answer is lost: a reboot or reset comes again then.
    async fn ask(self, channel: Channel, id: &str, seconds: Option<u32>) -> Answer<v1::Instance> {
        let mut instances = v1::Instance::client(channel);
        let request = v1::GetRequest { id: id.to_owned(), claim: false };
        match self {
            Self::Start => instances.start(request).await,
            Self::Stop => {
                let (id, claim) = (id.to_owned(), false);
                instances.stop(v1::StopRequest { id, claim, timeout_seconds: seconds }).await
            }
            Self::Reboot => instances.reboot(request).await,
            Self::Reset => instances.reset(request).await,
            Self::Hibernate => instances.hibernate(request).await,
        }
    }
}

impl Power {
    /// What Terraform, which has the instance in its state, makes of it.
    fn warning(&self, before: &InstanceView) -> Option<Diagnostic> {
        let leaves = self.deed.leaves()?;
        let data = Some(&before.object.client_data).filter(|data| !data.is_empty())?;
        let had = order::configured_power(data).filter(|had| *had != leaves)?;
        Some(
            Diagnostic::warning("The next plan of Terraform undoes this")
                .cause(format!(
                    "the configuration of {} says that it is {had}: once it is {leaves}, the next \
                     plan has it {had} again",
                    called(before)
                ))
                .remedy(
                    "Set power_state = \"unmanaged\" in its weft_instance, which leaves its power to \
                     actions and people",
                )
                .at("instance_id"),
        )
    }

    async fn carry_out(
        &self,
        connection: &Arc<Connection>,
        ctx: &ActionContext,
        before: &InstanceView,
        deadline: Instant,
    ) -> Result<(), Problem> {
        let (id, deed) = (before.object.id.to_string(), self.deed);
        let force = ctx.config.get("force").as_bool() == Some(true);
        let seconds = ctx.config.get("shutdown_timeout_seconds").as_i64();
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        let seconds = if force { Some(0) } else { seconds };
        // A hibernation is answered when it is done, which takes as long as the memory is large.
        let limit = match deed {
            Deed::Hibernate => deadline.saturating_duration_since(Instant::now()),
            _ => connection.settings.request_timeout,
        };
        let asked = connection.call_within(limit, |channel| deed.ask(channel, &id, seconds));
        tokio::select! {
            asked = asked => asked.map(drop)?,
            () = ctx.cancel.cancelled() => {
                let message = format!("it was cancelled: {}", called(before));
                return Err(Problem::new(Reason::FailedPrecondition, message).remedy(CANCELLED));
            }
        }
        let Some(until) = deed.until(&ctx.config) else { return Ok(()) };
        let told = |state: &str, phase: &str| {
            let phase = phase.replace('_', " ");
            ctx.progress(match phase.as_str() {
                "" => format!("{id}: {state}"),
                phase => format!("{id}: {state}; {phase}"),
            });
        };
        let wait = Wait {
            connection,
            cancel: &ctx.cancel,
            id: &id,
            deadline,
            if_cancelled: CANCELLED,
            told: Some(&told),
        };
        wait.until(until).await
    }
}

#[async_trait]
impl Action for Power {
    fn type_name(&self) -> &str {
        self.deed.type_name()
    }

    fn schema(&self) -> Schema {
        let more = match self.deed.leaves() {
            Some(_) => {
                " Terraform undoes it in its next plan unless the instance has `power_state = \
                 \"unmanaged\"`; a warning says so."
            }
            None => "",
        };
        Schema::new(format!("{}{more}", self.deed.description()))
            .subcategory("Compute")
            .attribute(instance_id("The instance."))
            .attributes(self.deed.attributes())
            .attribute(timeout())
    }

    async fn plan(&self, ctx: &mut ActionPlanContext) -> Result<(), Diagnostics> {
        let (Some(id), Some(connection)) =
            (ctx.config.get("instance_id").as_str(), self.agent.asked_in_plans())
        else {
            return Ok(());
        };
        // An agent that is away, or an instance that is not there yet, is the invocation's business.
        if let Ok(before) = look(&connection, id).await
            && let Some(warning) = self.warning(&before)
        {
            ctx.warn(warning);
        }
        Ok(())
    }

    async fn invoke(&self, ctx: &mut ActionContext) -> Result<(), Diagnostics> {
        let deadline = Instant::now() + ctx.duration("timeout", TIMEOUT)?;
        let id: String = ctx.config.read("instance_id")?;
        let failed = |problem| fail(self.deed.doing(), problem, &self.schema(), &ctx.config);
        let connection = self.agent.connection().map_err(failed)?;
        let before = look(&connection, &id).await.map_err(failed)?;
        ctx.progress(format!("{}: {}", called(&before), self.deed.begins()));
        self.carry_out(&connection, ctx, &before, deadline).await.map_err(failed)?;
        ctx.progress(format!("{}: {}", called(&before), self.deed.ends()));
        if let Some(warning) = self.warning(&before) {
            ctx.warn(warning);
        }
        Ok(())
    }
}
