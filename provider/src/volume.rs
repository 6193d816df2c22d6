//! `weft_volume`: a disk that outlives the instances that have it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tfplugin::{
    Attribute, ConvertError, Diagnostic, Diagnostics, Known, PlanContext, Schema, Validator, Value,
    async_trait,
};
use weft_model::{
    DISK_GIB, DISK_IOPS, DISK_MIBPS, ImageId, PoolName, Problem, Reason, SnapshotId, VolumeSource,
    VolumeState, check_encryption, check_no_shrink, no_root_key, no_such_pool,
};
use weft_proto::convert::{host_from_wire, snapshot_from_wire, volume_from_wire};
use weft_proto::v1;

use crate::agent::reads::{self, Claim};
use crate::agent::{Agent, Connection};
use crate::host::only_host;
use crate::kind::plain::Plain;
use crate::kind::{self, Kind};
use crate::snapshot::Snapshot;
use crate::tags::TagMap;
use crate::{checks, kept, problem, tags};

#[derive(Debug)]
pub(crate) enum Volume {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for Volume {
    type Wire = v1::Volume;
    type Kept = Kept;
    const TYPE: &'static str = "weft_volume";
    const NOUN: &'static str = "volume";

    fn schema() -> Schema {
        Schema::new(
            "A disk of its own: what is on it outlives the instances that it is attached to. A new \
             one is empty, or has what a snapshot or an image has on it, and takes room on the host \
             only for what is written to it.",
        )
        .subcategory("Storage")
        .attribute(
            Attribute::string("name", "For people; need not be unique. Changes live.")
                .validate(checks::name()),
        )
        .attribute(
            Attribute::number("size_gib", "Its size in GiB. It grows live: a guest that runs sees a larger disk at once, and what is on it is grown by the guest itself. It never shrinks.")
                .required()
                .validate(checks::number("GiB", checks::wide(DISK_GIB))),
        )
        .attributes(limits())
        .attribute(
            Attribute::string(
                "type",
                format!(
                    "The storage pool that its file is in: one that the agent is given with `--pool`, \
                     or \"{}\", its state directory.",
                    PoolName::STANDARD
                ),
            )
            .default(PoolName::STANDARD)
            .replace_on_change()
            .validate(Validator::pattern(
                "must be the name of a storage pool, such as \"standard\"",
                |text| text.parse::<PoolName>().is_ok(),
            )),
        )
        .attribute(
            Attribute::string(
                "snapshot_id",
                "The snapshot that is on it at first, of a volume or of a root disk. It may go \
                 afterwards. `size_gib` is at least its `size_gib`.",
            )
            .replace_on_change()
            .validate(checks::id::<SnapshotId>(SnapshotId::PREFIX, "a snapshot")),
        )
        .attribute(
            Attribute::string(
                "image_id",
                "The image whose disk is on it at first; either this or `snapshot_id`. It may go \
                 afterwards.",
            )
            .replace_on_change()
            .validate(checks::id::<ImageId>(ImageId::PREFIX, "an image")),
        )
        .attribute(
            Attribute::bool(
                "encrypted",
                "Whether what is on it is encrypted on the host, by a secret of its own that the \
                 agent's root key protects (`--volume-key-file`); see the guide on encryption. \
                 Unset: as the snapshot is that it is made from, else not. One that is made from an \
                 encrypted snapshot is encrypted; one that is made from an image, or from a snapshot \
                 that is not, cannot be.",
            )
            .optional_computed()
            .replace_on_change(),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`vol-` and 17 hexadecimal digits.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    fn state(wire: v1::Volume) -> Result<Value, Problem> {
        let object = volume_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let order = object.spec.order;
        let source = order.source.as_ref();
        let snapshot_id = source.and_then(VolumeSource::snapshot).map(ToString::to_string);
        let image_id = source.and_then(VolumeSource::image).map(ToString::to_string);
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", order.name.map(|name| name.to_string()).into()),
            ("size_gib", i64::from(order.size_gib).into()),
            ("type", order.volume_type.map(|name| name.to_string()).into()),
            ("snapshot_id", snapshot_id.into()),
            ("image_id", image_id.into()),
            ("iops", order.limits.iops.into()),
            ("throughput_mibps", order.limits.throughput_mibps.into()),
            ("encrypted", order.encrypted.unwrap_or_default().into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }

    fn remark(wire: &v1::Volume, _: &Value) -> Option<Diagnostic> {
        let failed = wire.state == VolumeState::Error.as_str();
        let why = wire.reason.as_deref().filter(|_| failed)?;
        let id = wire.metadata.as_ref().map(|metadata| metadata.id.as_str()).unwrap_or_default();
        let warning = Diagnostic::warning(format!("The volume {id} cannot be used"));
        Some(warning.cause(why).remedy("The agent goes on trying; see weft get"))
    }
}

/// What a disk may do each second, whatever kind of disk it is.
pub(crate) fn limits() -> [Attribute; 2] {
    [
        Attribute::number("iops", "How many operations it may do each second, reads and writes together; unset, as many as its host's storage does. One of more than 256 KiB counts as several. As with EC2's `gp3` and `io2` no credits are saved up for bursts; a tenth of a second's worth may come at once. Changes live.")
            .validate(checks::number("operations per second", checks::wide(DISK_IOPS))),
        Attribute::number("throughput_mibps", "How many MiB it may read and write each second, both together; unset, as many as its host's storage does. Changes live.")
            .validate(checks::number("MiB per second", checks::wide(DISK_MIBPS))),
    ]
}

#[async_trait]
impl Plain for Volume {
    fn spec(plan: &Value) -> Result<v1::VolumeSpec, Diagnostics> {
        Ok(v1::VolumeSpec {
            name: plan.read("name")?,
            size_gib: plan.read("size_gib")?,
            r#type: plan.read("type")?,
            snapshot_id: plan.read("snapshot_id")?,
            image_id: plan.read("image_id")?,
            iops: plan.read("iops")?,
            throughput_mibps: plan.read("throughput_mibps")?,
            encrypted: plan.read::<Known<bool>>("encrypted")?.value(),
        })
    }

    async fn plan(agent: &Agent, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        if ctx.plan.get("snapshot_id").is_set() && ctx.plan.get("image_id").is_set() {
            return Err(Diagnostic::error("A volume is made from one thing")
                .cause("both snapshot_id and image_id are set")
                .remedy("Leave one of them out")
                .at("image_id")
                .into());
        }
        plan_encryption(agent.asked_in_plans(), ctx).await?;
        check_pool(agent.asked_in_plans().as_deref(), ctx).await?;
        if ctx.is_create() {
            return Ok(());
        }
        // One that is replaced is another one.
        let causes = kind::replacing::<Self>(ctx);
        if let Some(warning) = kind::replaced::<Self>(&ctx.prior, "what is on it", &causes) {
            ctx.warn(warning.remedy(
                "To keep what is on it, take a weft_snapshot first and make the other one from that",
            ));
            return Ok(());
        }
        if !ctx.changes("size_gib") {
            return Ok(());
        }
        let (now, wanted) = (ctx.prior.get("size_gib"), ctx.plan.get("size_gib"));
        let gib = |value: &Value| value.as_i64().and_then(|gib| u32::try_from(gib).ok());
        let (Some(now), Some(wanted)) = (gib(now), gib(wanted)) else { return Ok(()) };
        check_no_shrink("size_gib", "the volume", now, wanted).map_err(|problem| {
            let summary = "A volume cannot shrink";
            problem::diagnostic(summary, &problem, &Self::schema(), &ctx.config).into()
        })
    }
}

/// A volume that is replaced is gone before Create says that the host has no such pool.
async fn check_pool(connection: Option<&Connection>, ctx: &PlanContext) -> Result<(), Diagnostics> {
    let (Some(connection), true) = (connection, ctx.is_create() || ctx.changes("type")) else {
        return Ok(());
    };
    let name = ctx.plan.get("type").as_str().and_then(|name| name.parse::<PoolName>().ok());
    // Every agent has the standard pool.
    let Some(name) = name.filter(|name| *name != PoolName::standard()) else { return Ok(()) };
    let host = only_host(connection).await.and_then(|host| host_from_wire(host).ok());
    let Some(host) = host else { return Ok(()) };
    if host.storage_pools.is_empty() || host.storage_pools.contains(&name) {
        return Ok(());
    }
    let problem = no_such_pool(&name, host.storage_pools.iter());
    let summary = "The volume cannot be in that pool";
    Err(problem::diagnostic(summary, &problem, &Volume::schema(), &ctx.config).into())
}

/// What a new volume is made from says whether it is encrypted, and the host whether it can be: a volume
/// that is replaced is gone before Create is asked. Without the agent's answer a plan is as good as it can
/// be; Create says what is wrong.
async fn plan_encryption(
    connection: Option<Arc<Connection>>,
    ctx: &mut PlanContext,
) -> Result<(), Diagnostics> {
    let made_from = ["snapshot_id", "image_id", "encrypted"];
    if !ctx.is_create() && !made_from.iter().any(|name| ctx.changes(*name)) {
        return Ok(());
    }
    let (snapshot_id, image_id) = (ctx.plan.get("snapshot_id"), ctx.plan.get("image_id"));
    let id = |value: &Value| value.as_str().map(str::to_owned);
    let source = match (id(snapshot_id), id(image_id)) {
        (Some(id), None) => id.parse().ok().map(VolumeSource::Snapshot),
        (None, Some(id)) => id.parse().ok().map(VolumeSource::Image),
        _ => None,
    };
    let below = match &source {
        Some(VolumeSource::Snapshot(id)) => is_encrypted(connection.as_ref(), id).await,
        Some(VolumeSource::Image(_)) => Some(false),
        // One of both may be set, and not be known yet.
        None => (snapshot_id.is_null() && image_id.is_null()).then_some(false),
    };
    let asked = ctx.config.get("encrypted");
    let (is_unset, asked) = (asked.is_null(), asked.as_bool());
    let refused = |ctx: &PlanContext, problem: Problem| {
        let (summary, schema) = ("The volume cannot be encrypted so", Volume::schema());
        problem::diagnostic(summary, &problem, &schema, &ctx.config)
    };
    let encrypted = match below {
        Some(below) if is_unset => {
            ctx.set("encrypted", below);
            Some(below)
        }
        Some(below) => {
            check_encryption(asked, source.as_ref(), below)
                .map_err(|problem| refused(ctx, problem))?;
            asked
        }
        None => asked,
    };
    if encrypted == Some(true) && has_no_root_key(connection.as_deref()).await {
        let problem = match (&source, below) {
            (Some(VolumeSource::Snapshot(id)), Some(true)) => not_opened(id),
            _ => no_root_key(),
        };
        return Err(refused(ctx, problem).into());
    }
    Ok(())
}

/// Why nothing is made of an encrypted snapshot without a root key: a new one would not open it.
fn not_opened(id: &SnapshotId) -> Problem {
    let message = format!("{id} is encrypted with a root key, and this host's agent has none");
    Problem::new(Reason::FailedPrecondition, message)
        .at("snapshot_id")
        .remedy("start the agent with --volume-key-file and that key's file")
}

/// Whether the host says that its agent has no root key; older agents say nothing of it.
async fn has_no_root_key(connection: Option<&Connection>) -> bool {
    let Some(connection) = connection else { return false };
    only_host(connection).await.is_some_and(|host| host.encrypts_volumes == Some(false))
}

/// Whether a snapshot is, as far as that can be told while planning.
async fn is_encrypted(connection: Option<&Arc<Connection>>, id: &SnapshotId) -> Option<bool> {
    let wire = reads::read::<Snapshot>(connection?, id.as_str(), Claim::No).await.ok()??;
    Some(snapshot_from_wire(wire).ok()?.spec.encrypted)
}
