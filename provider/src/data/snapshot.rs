//! `data.weft_snapshot`: a completed snapshot by id, by what it is of, or by tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostic, Diagnostics, Schema, Type,
    ValidateContext, Value, async_trait,
};
use weft_model::{InstanceId, Problem, SnapshotId, SnapshotProgress, VolumeId};
use weft_proto::v1;

use super::newest;
use crate::agent::Agent;
use crate::checks;
use crate::kind::Kind;
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct Snapshot(pub(crate) Arc<Agent>);

const NOUN: &str = "snapshot";
const FILTERS: [&str; 4] = ["id", "instance_id", "volume_id", "tags"];
/// The resource's alone.
const HIDDEN: [&str; 5] = ["id", "instance_id", "volume_id", "tags", "timeouts"];

#[async_trait]
impl DataSource for Snapshot {
    fn type_name(&self) -> &str {
        "weft_snapshot"
    }

    fn schema(&self) -> Schema {
        let resource = crate::snapshot::Snapshot::schema();
        Schema::new(
            "A completed snapshot, by id, by the instance or the volume that it is of, or by tags.",
        )
        .subcategory("Storage")
        .attribute(
            Attribute::string("id", "By its id.").optional_computed().validate(checks::id::<
                SnapshotId,
            >(
                SnapshotId::PREFIX,
                "a snapshot",
            )),
        )
        .attribute(
            Attribute::string(
                "instance_id",
                "By the instance whose root disk it is of, which need not exist any more.",
            )
            .optional_computed()
            .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
        )
        .attribute(
            Attribute::string(
                "volume_id",
                "By the volume that it is of, which need not exist any more.",
            )
            .optional_computed()
            .validate(checks::id::<VolumeId>(VolumeId::PREFIX, "a volume")),
        )
        .attribute(
            Attribute::map(
                "tags",
                Type::String,
                "By tags: it has all of these, from wherever they come.",
            )
            .optional_computed()
            .validate(checks::tags()),
        )
        .attribute(newest::attribute())
        .attributes(super::shown("weft_snapshot", &resource, &HIDDEN))
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        if FILTERS.iter().all(|name| ctx.config.get(*name).is_null()) {
            return Diagnostic::error("Which snapshot?")
                .cause("nothing says which snapshot is meant")
                .remedy("Set id, instance_id, volume_id or tags")
                .into();
        }
        Diagnostics::new()
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem: Problem| super::fail(NOUN, &problem);
        let config = &ctx.config;
        let tags = config.read::<Option<BTreeMap<String, String>>>("tags")?.unwrap_or_default();
        let request = v1::ListRequest { tags: tags.into_iter().collect(), ..Default::default() };
        let listed = connection
            .call(|channel| {
                let request = request.clone();
                async move { v1::Snapshot::client(channel).list(request).await }
            })
            .await
            .map_err(failed)?;
        let fits = |wire: &v1::Snapshot, name: &str, has: Option<&str>| {
            let asked = config.get(name);
            wire.state == SnapshotProgress::Completed.as_str()
                && (asked.is_null() || asked.as_str() == has)
        };
        let id = |wire: &v1::Snapshot| wire.metadata.as_ref().map(|it| it.id.clone());
        let mut found = listed.items;
        found.retain(|wire| {
            let instance = wire.spec.as_ref().map(|spec| spec.instance_id.as_str());
            let volume = wire.spec.as_ref().map(|spec| spec.volume_id.as_str());
            fits(wire, "id", id(wire).as_deref())
                && fits(wire, "instance_id", instance)
                && fits(wire, "volume_id", volume)
        });
        newest::sort(&mut found);
        let Some(wire) = newest::one_of(found, config, NOUN)? else {
            let remedy =
                "Check id, instance_id, volume_id and tags; weft ls snapshots shows what there is";
            return Err(super::not_one(NOUN, "no completed snapshot fits".to_owned(), remedy));
        };
        let values = crate::snapshot::Snapshot::state(wire).map_err(failed)?;
        Ok(super::answer(values, config, &DataSource::schema(self)))
    }
}
