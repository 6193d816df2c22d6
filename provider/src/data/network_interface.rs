//! `data.weft_network_interface`: a network interface by id or name.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Schema, ValidateContext, Value,
    async_trait,
};
use weft_model::InterfaceId;
use weft_proto::v1;

use super::by_name;
use crate::agent::Agent;
use crate::checks;
use crate::kind::wire::Wire as _;
use crate::network_interface;

#[derive(Debug)]
pub(crate) struct NetworkInterface(pub(crate) Arc<Agent>);

#[async_trait]
impl DataSource for NetworkInterface {
    fn type_name(&self) -> &str {
        "weft_network_interface"
    }

    fn schema(&self) -> Schema {
        let id = Attribute::string("id", "Which, by id. Either this or `name`.")
            .validate(checks::id::<InterfaceId>(InterfaceId::PREFIX, "a network interface"));
        by_name::schema::<network_interface::NetworkInterface>(
            "A network interface by its id or its name.",
            id,
        )
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        by_name::validate::<network_interface::NetworkInterface>(ctx)
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let schema = DataSource::schema(self);
        by_name::read::<network_interface::NetworkInterface, _>(
            &self.0,
            ctx,
            &schema,
            |channel, request| async move {
                let list = v1::NetworkInterface::client(channel).list(request).await?;
                Ok(list.map(|list| list.items))
            },
        )
        .await
    }
}
