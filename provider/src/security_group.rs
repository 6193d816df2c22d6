//! `weft_security_group`: a stateful set of allow rules; the rules are resources of their own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tfplugin::{
    ApplyContext, Attribute, Diagnostics, ImportContext, Known, PlanContext, ReadContext, Resource,
    Schema, Value, async_trait,
};
use tonic::transport::Channel;
use tonic::{Response, Status};
use weft_model::{GroupId, InvalidId, Problem, VpcId};
use weft_proto::convert::group_from_wire;
use weft_proto::v1::{self, security_groups_client::SecurityGroupsClient};

use crate::agent::Agent;
use crate::agent::reads::{Queue, Reads};
use crate::kind::{self, Kind};
use crate::tags::TagMap;
use crate::{checks, kept, tags};

#[derive(Debug)]
pub(crate) struct SecurityGroup(pub(crate) Arc<Agent>);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    tags: Option<TagMap>,
}

fn client(channel: Channel) -> SecurityGroupsClient<Channel> {
    SecurityGroupsClient::new(channel).max_decoding_message_size(weft_proto::MAX_MESSAGE_BYTES)
}

#[async_trait]
impl Kind for SecurityGroup {
    type Wire = v1::SecurityGroup;
    type List = v1::SecurityGroupList;
    const TYPE: &'static str = "weft_security_group";
    const NOUN: &'static str = "security group";

    fn schema() -> Schema {
        Schema::new(
            "A stateful set of allow rules for instances: what no rule lets in stays out. Rules are \
             resources of their own (`weft_security_group_ingress_rule`, \
             `weft_security_group_egress_rule`) and take effect on running guests at once.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique.")
                .required()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string("description", "Free text.")
                .default("")
                .validate(checks::description()),
        )
        .attribute(
            Attribute::string("vpc_id", "The VPC of its members; unset, the default VPC.")
                .optional_computed()
                .replace_on_change()
                .validate(checks::id::<VpcId>(VpcId::PREFIX, "a VPC")),
        )
        .attribute(
            Attribute::bool(
                "allow_all_egress",
                "Whether members may open any connection to anywhere. Egress rules matter only with `false`.",
            )
            .default(true),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`sg-` and 17 hexadecimal digits.").computed())
    }

    fn check_id(text: &str) -> Result<(), InvalidId> {
        text.parse::<GroupId>().map(drop)
    }
    fn queue(reads: &Reads) -> &Queue<v1::SecurityGroup> {
        &reads.groups
    }
    async fn batch_get(
        channel: Channel,
        request: v1::BatchGetRequest,
    ) -> Result<Response<v1::SecurityGroupList>, Status> {
        client(channel).batch_get(request).await
    }
    fn items(list: v1::SecurityGroupList) -> Vec<v1::SecurityGroup> {
        list.items
    }
    fn metadata(wire: &v1::SecurityGroup) -> Option<&v1::Metadata> {
        wire.metadata.as_ref()
    }
    async fn delete(
        channel: Channel,
        request: v1::DeleteRequest,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        client(channel).delete(request).await
    }

    fn state(wire: v1::SecurityGroup) -> Result<Value, Problem> {
        let object = group_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", object.spec.name.into()),
            ("description", object.spec.description.into()),
            ("vpc_id", object.spec.vpc_id.to_string().into()),
            ("allow_all_egress", object.spec.allow_all_egress.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

fn kept(plan: &Value) -> Result<String, Diagnostics> {
    kept::encode(&Kept { tags: tags::own(plan)? })
        .map_err(|problem| kind::fail::<SecurityGroup>("describe", &problem, plan))
}

fn spec(plan: &Value) -> Result<v1::SecurityGroupSpec, Diagnostics> {
    Ok(v1::SecurityGroupSpec {
        name: plan.read("name")?,
        description: plan.read("description")?,
        vpc_id: plan.read::<Known<String>>("vpc_id")?.value(),
        allow_all_egress: plan.read("allow_all_egress")?,
    })
}

#[async_trait]
impl Resource for SecurityGroup {
    fn type_name(&self) -> &str {
        Self::TYPE
    }

    fn schema(&self) -> Schema {
        <Self as Kind>::schema()
    }

    async fn modify_plan(&self, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        let connection = self.0.connection().ok();
        tags::plan(connection.as_deref().map(|connection| &connection.settings), ctx);
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let connection = kind::connection::<Self>(&self.0, "create")?;
        let (spec, kept) = (spec(&ctx.plan)?, kept(&ctx.plan)?);
        let tags = tags::all(&connection.settings, &ctx.plan)?;
        let made = connection
            .create(tags, kept, |channel, context| {
                let request = v1::CreateSecurityGroupRequest {
                    context: Some(context),
                    spec: Some(spec.clone()),
                };
                async move { client(channel).create(request).await }
            })
            .await
            .map_err(|problem| kind::fail::<Self>("create", &problem, &ctx.config))?;
        ctx.set_state(kind::state::<Self>(made)?);
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        kind::read::<Self>(&self.0, ctx).await
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let connection = kind::connection::<Self>(&self.0, "update")?;
        let (spec, kept) = (spec(&ctx.plan)?, kept(&ctx.plan)?);
        let tags = tags::all(&connection.settings, &ctx.plan)?;
        let now = kind::update::<Self, _>(&connection, ctx, tags, kept, |channel, context| {
            let request =
                v1::UpdateSecurityGroupRequest { context: Some(context), spec: Some(spec.clone()) };
            async move { client(channel).update(request).await }
        })
        .await?;
        ctx.set_state(kind::state::<Self>(now)?);
        Ok(())
    }

    async fn delete(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        kind::delete::<Self>(&self.0, ctx).await
    }

    async fn import(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        kind::import::<Self>(ctx)
    }
}
