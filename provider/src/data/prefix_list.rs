//! `data.weft_prefix_list`: a prefix list by id or name.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Schema, ValidateContext, Value,
    async_trait,
};
use weft_model::PrefixListId;
use weft_proto::v1;

use super::by_name;
use crate::agent::Agent;
use crate::checks;
use crate::kind::wire::Wire as _;
use crate::prefix_list;

#[derive(Debug)]
pub(crate) struct PrefixList(pub(crate) Arc<Agent>);

#[async_trait]
impl DataSource for PrefixList {
    fn type_name(&self) -> &str {
        "weft_prefix_list"
    }

    fn schema(&self) -> Schema {
        let id = Attribute::string("id", "Which, by id. Either this or `name`.")
            .validate(checks::id::<PrefixListId>(PrefixListId::PREFIX, "a prefix list"));
        by_name::schema::<prefix_list::PrefixList>("A prefix list by its id or its name.", id)
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        by_name::validate::<prefix_list::PrefixList>(ctx)
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let schema = DataSource::schema(self);
        by_name::read::<prefix_list::PrefixList, _>(
            &self.0,
            ctx,
            &schema,
            |channel, request| async move {
                let list = v1::PrefixList::client(channel).list(request).await?;
                Ok(list.map(|list| list.items))
            },
        )
        .await
    }
}
