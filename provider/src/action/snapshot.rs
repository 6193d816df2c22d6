//! `weft_instance_snapshot` and `weft_volume_snapshot`: snapshots that no state holds, such as one
//! before each change of an instance.

use std::sync::Arc;

use tfplugin::{
    Action, ActionContext, Attribute, Diagnostics, Schema, Type, Validator, async_trait,
};
use tokio::time::Instant;
use weft_model::{Consistency, Problem, VolumeId};
use weft_proto::convert::snapshot_from_wire;
use weft_proto::v1;

use super::{TIMEOUT, fail, instance_id, timeout};
use crate::agent::{Agent, Connection};
use crate::kind::wire::Wire as _;
use crate::snapshot::wait::Wait;
use crate::{checks, snapshot, tags};

/// What is snapshotted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Instance,
    Volume,
}

#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) agent: Arc<Agent>,
    pub(super) of: Of,
}

impl Of {
    pub(super) const ALL: [Self; 2] = [Self::Instance, Self::Volume];
}

#[async_trait]
impl Action for Snapshot {
    fn type_name(&self) -> &str {
        match self.of {
            Of::Instance => "weft_instance_snapshot",
            Of::Volume => "weft_volume_snapshot",
        }
    }

    fn schema(&self) -> Schema {
        let (what, of) = match self.of {
            Of::Instance => ("the root disk of an instance", instance_id("The instance.")),
            Of::Volume => (
                "a volume",
                Attribute::string("volume_id", "The volume, wherever it is attached, or nowhere.")
                    .required()
                    .validate(checks::id::<VolumeId>(VolumeId::PREFIX, "a volume")),
            ),
        };
        Schema::new(format!(
            "Makes a snapshot of {what}, which is in no state: nothing but `weft rm` removes it, and \
             its id is told while it is made. `data.weft_snapshot` finds it by its tags. Where \
             Terraform is to keep it, and remove it, use the resource `weft_snapshot`."
        ))
        .subcategory("Storage")
        .attribute(of)
        .attribute(
            Attribute::string("description", "What it is there for.")
                .default("")
                .validate(checks::description()),
        )
        .attribute(
            Attribute::string(
                "consistency",
                "`crash`: as if the machine had lost power. `frozen`: the agent that the guest runs \
                 freezes its file systems for that moment.",
            )
            .default(Consistency::Crash.as_str())
            .validate(Validator::one_of(Consistency::WORDS.iter().copied())),
        )
        .attribute(
            Attribute::map("tags", Type::String, "Its tags, besides the provider's `default_tags`.")
                .validate(checks::tags()),
        )
        .attribute(timeout())
    }

    async fn invoke(&self, ctx: &mut ActionContext) -> Result<(), Diagnostics> {
        let deadline = Instant::now() + ctx.duration("timeout", TIMEOUT)?;
        let failed = |problem| fail("make the snapshot", problem, &self.schema(), &ctx.config);
        let connection = self.agent.connection().map_err(failed)?;
        let spec = snapshot::spec(&ctx.config)?;
        let tags = tags::all(&connection.settings, &ctx.config)?;
        let asked = ask(&connection, tags, spec).await.map_err(failed)?;
        let object = snapshot_from_wire(asked.clone()).map_err(failed)?;
        ctx.progress(format!("{} of {} is asked for", object.id, object.spec.order.source.id()));
        let wait = Wait { connection: &connection, cancel: &ctx.cancel, deadline };
        let made = wait.until_completed(asked).await.map_err(|problem| {
            let id = &object.id;
            let remedy = format!("weft get {id} shows what became of it, weft rm {id} removes it");
            failed(problem.remedy(remedy))
        })?;
        let size = snapshot_from_wire(made).map_err(failed)?.spec.size_gib();
        ctx.progress(format!("{} is made, of a disk of {size} GiB", object.id));
        Ok(())
    }
}

/// In no session: nobody is to adopt it, as it goes into no state.
async fn ask(
    connection: &Connection,
    tags: std::collections::BTreeMap<String, String>,
    spec: v1::SnapshotSpec,
) -> Result<v1::Snapshot, Problem> {
    let context = v1::CreateContext {
        client_token: crate::agent::random_token()?,
        session_id: String::new(),
        tags: tags.into_iter().collect(),
        client_data: String::new(),
    };
    connection.call(|channel| v1::Snapshot::create(channel, context.clone(), spec.clone())).await
}
