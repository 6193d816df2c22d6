//! `data.weft_elastic_ip`: an elastic IP by id or name.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Schema, ValidateContext, Value,
    async_trait,
};
use weft_model::ElasticIpId;
use weft_proto::v1;

use super::by_name;
use crate::agent::Agent;
use crate::checks;
use crate::elastic_ip;
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct ElasticIp(pub(crate) Arc<Agent>);

#[async_trait]
impl DataSource for ElasticIp {
    fn type_name(&self) -> &str {
        "weft_elastic_ip"
    }

    fn schema(&self) -> Schema {
        let id = Attribute::string("id", "Which, by id. Either this or `name`.")
            .validate(checks::id::<ElasticIpId>(ElasticIpId::PREFIX, "an elastic IP"));
        by_name::schema::<elastic_ip::ElasticIp>("An elastic IP by its id or its name.", id)
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        by_name::validate::<elastic_ip::ElasticIp>(ctx)
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let schema = DataSource::schema(self);
        by_name::read::<elastic_ip::ElasticIp, _>(
            &self.0,
            ctx,
            &schema,
            |channel, request| async move {
                let list = v1::ElasticIp::client(channel).list(request).await?;
                Ok(list.map(|list| list.items))
            },
        )
        .await
    }
}
