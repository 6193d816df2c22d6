//! `weft_snapshot`: what a disk had on it at one moment.

pub(crate) mod wait;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tfplugin::timeouts::{self, Operation};
use tfplugin::{
    ApplyContext, Attribute, ConvertError, Diagnostic, Diagnostics, IdentitySchema, ImportContext,
    PlanContext, ReadContext, Resource, Schema, ValidateContext, Validator, Value, async_trait,
};
use tokio::time::Instant;
use weft_model::{Consistency, InstanceId, Problem, SnapshotSource, VolumeId};
use weft_proto::convert::snapshot_from_wire;
use weft_proto::v1;

use crate::agent::Agent;
use crate::kind::{self, Kind};
use crate::tags::TagMap;
use crate::{checks, kept, references, tags};
use wait::Wait;

/// Unless `timeouts` says otherwise. It takes a moment, but the guest's hypervisor has to answer.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

#[derive(Debug)]
pub(crate) struct Snapshot(pub(crate) Arc<Agent>);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
    timeouts: Option<BTreeMap<String, Option<String>>>,
}

impl Kind for Snapshot {
    type Wire = v1::Snapshot;
    type Kept = Kept;
    const TYPE: &'static str = "weft_snapshot";
    const NOUN: &'static str = "snapshot";

    fn schema() -> Schema {
        Schema::new(
            "What a disk had on it at one moment, as if its machine had lost power then: what the \
             guest was told is written is in it; with `consistency = \"frozen\"`, all that its \
             programs had written. The guest goes on running. Only what has changed \
             since the last snapshot of the disk takes space. A disk can have 32 snapshots and \
             images taken of it at a time, those counted that what it was made from had; what \
             deleted ones leave is merged, except of encrypted volumes. It \
             outlives the disk. Deleting a snapshot gives its space back once nothing \
             is left that was made of it, the disk itself included.",
        )
        .subcategory("Storage")
        .attribute(
            Attribute::string(
                "instance_id",
                "The instance whose root disk is snapshotted. Either this or `volume_id`.",
            )
            .replace_on_change()
            .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
        )
        .attribute(
            Attribute::string(
                "volume_id",
                "The volume that is snapshotted, wherever it is attached, or nowhere. What a guest \
                 has not written out yet is not in it, unless `consistency` is `frozen`: sync \
                 there first, or unmount.",
            )
            .replace_on_change()
            .validate(checks::id::<VolumeId>(VolumeId::PREFIX, "a volume")),
        )
        .attribute(
            Attribute::string("description", "What it is there for.")
                .default("")
                .validate(checks::description()),
        )
        .attribute(
            Attribute::string(
                "consistency",
                "`crash`: as if the machine had lost power. `frozen`: the agent that the guest runs \
                 (the package `qemu-guest-agent`) writes all out and freezes its file systems for \
                 that moment; where none answers within seconds, the snapshot is refused. An \
                 instance that is stopped, and a volume that is attached to none, have nothing to \
                 be frozen.",
            )
            .default(Consistency::Crash.as_str())
            .replace_on_change()
            .validate(Validator::one_of(Consistency::WORDS.iter().copied())),
        )
        .attribute(timeouts::attribute([Operation::Create]))
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`snap-` and 17 hexadecimal digits.").computed())
        .attribute(
            Attribute::number("size_gib", "What a guest saw of the disk, in GiB, rounded up.")
                .computed(),
        )
        .attribute(
            Attribute::bool(
                "encrypted",
                "Whether it is encrypted, as the volume is that it is of.",
            )
            .computed(),
        )
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)?, timeouts: plan.read("timeouts")? })
    }

    fn state(wire: v1::Snapshot) -> Result<Value, Problem> {
        let object = snapshot_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let view = object.spec;
        let size_gib = view.size_gib();
        let (instance_id, volume_id) = match view.order.source {
            SnapshotSource::RootDisk(id) => (Some(id.to_string()), None),
            SnapshotSource::Volume(id) => (None, Some(id.to_string())),
        };
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("instance_id", instance_id.into()),
            ("volume_id", volume_id.into()),
            ("description", view.order.description.into()),
            ("consistency", view.order.consistency.as_str().into()),
            ("timeouts", kept.timeouts.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
            ("size_gib", size_gib.into()),
            ("encrypted", view.encrypted.into()),
        ]))
    }
}

/// What a plan, or the configuration of an action, asks for.
pub(crate) fn spec(plan: &Value) -> Result<v1::SnapshotSpec, Diagnostics> {
    Ok(v1::SnapshotSpec {
        instance_id: plan.read::<Option<_>>("instance_id")?.unwrap_or_default(),
        volume_id: plan.read::<Option<_>>("volume_id")?.unwrap_or_default(),
        description: plan.read("description")?,
        consistency: plan.read("consistency")?,
    })
}

#[async_trait]
impl Resource for Snapshot {
    fn type_name(&self) -> &str {
        Self::TYPE
    }

    fn schema(&self) -> Schema {
        <Self as Kind>::schema()
    }

    fn identity(&self) -> Option<IdentitySchema> {
        Some(kind::identity::<Self>())
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        let (instance, volume) = (ctx.config.get("instance_id"), ctx.config.get("volume_id"));
        if instance.is_null() && volume.is_null() {
            return Diagnostic::error("Nothing says what is to be snapshotted")
                .cause("neither instance_id nor volume_id is set")
                .remedy("Set instance_id for the root disk of an instance, or volume_id")
                .into();
        }
        if instance.is_set() && volume.is_set() {
            return Diagnostic::error("A snapshot is of one disk")
                .cause("both instance_id and volume_id are set")
                .remedy("Make a snapshot of each")
                .at("volume_id")
                .into();
        }
        Diagnostics::new()
    }

    async fn modify_plan(&self, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        let connection = self.0.connection().ok();
        tags::plan(connection.as_deref().map(|connection| &connection.settings), ctx);
        references::check(&self.0, ctx).await;
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let connection = kind::connection::<Self>(&self.0, "create")?;
        let deadline = Instant::now() + ctx.timeout(CREATE_TIMEOUT)?;
        let made = kind::create::<Self>(&connection, ctx, &ctx.plan, spec(&ctx.plan)?).await?;
        ctx.set_state(kind::state::<Self>(made.clone())?);
        let wait = Wait { connection: &connection, cancel: &ctx.cancel, deadline };
        let completed = wait.until_completed(made).await;
        let completed =
            completed.map_err(|problem| kind::fail::<Self>("make", &problem, &ctx.config))?;
        ctx.set_state(kind::state::<Self>(completed)?);
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        kind::read::<Self>(&self.0, ctx).await
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::change::<Self>(&self.0, ctx, spec).await
    }

    async fn delete(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::delete::<Self>(&self.0, ctx).await
    }

    async fn import(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }

    async fn import_by_identity(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }
}
