//! `data.weft_port_forward`: a port forward by id or name.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Schema, ValidateContext, Value,
    async_trait,
};
use weft_model::PortForwardId;
use weft_proto::v1;

use super::by_name;
use crate::agent::Agent;
use crate::checks;
use crate::kind::wire::Wire as _;
use crate::port_forward;

#[derive(Debug)]
pub(crate) struct PortForward(pub(crate) Arc<Agent>);

#[async_trait]
impl DataSource for PortForward {
    fn type_name(&self) -> &str {
        "weft_port_forward"
    }

    fn schema(&self) -> Schema {
        let id = Attribute::string("id", "Which, by id. Either this or `name`.")
            .validate(checks::id::<PortForwardId>(PortForwardId::PREFIX, "a port forward"));
        by_name::schema::<port_forward::PortForward>("A port forward by its id or its name.", id)
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        by_name::validate::<port_forward::PortForward>(ctx)
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let schema = DataSource::schema(self);
        by_name::read::<port_forward::PortForward, _>(
            &self.0,
            ctx,
            &schema,
            |channel, request| async move {
                let list = v1::PortForward::client(channel).list(request).await?;
                Ok(list.map(|list| list.items))
            },
        )
        .await
    }
}
