//! `data.weft_caller_identity`: who the agent takes the provider for.

use std::sync::Arc;

use tfplugin::{Attribute, DataSource, DataSourceContext, Diagnostics, Schema, Value, async_trait};
use weft_proto::v1::{self, callers_client::CallersClient};

use crate::agent::Agent;

#[derive(Debug)]
pub(crate) struct CallerIdentity(pub(crate) Arc<Agent>);

const NOUN: &str = "caller's identity";

#[async_trait]
impl DataSource for CallerIdentity {
    fn type_name(&self) -> &str {
        "weft_caller_identity"
    }

    fn schema(&self) -> Schema {
        let text = |name: &str, text: &str| Attribute::string(name, text).computed();
        Schema::new("Who the agent takes the provider for, as its log names the client of a request.")
            .attributes([
                text("name", "Over a `unix://` endpoint the local user, over `https://` the common name of the client's certificate."),
                text("method", "How the agent knows: `unix_socket` or `client_certificate`."),
                Attribute::number("uid", "The local user's number; unset over `https://`.").computed(),
                text("host_id", "The host whose agent answers."),
            ])
    }

    async fn read(&self, _ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let caller = connection
            .call(|channel| async move {
                CallersClient::new(channel).get_identity(v1::GetIdentityRequest {}).await
            })
            .await
            .map_err(|problem| super::fail(NOUN, &problem))?;
        Ok(Value::object([
            ("name", Value::from(caller.name)),
            ("method", caller.method.into()),
            ("uid", caller.uid.map(i64::from).into()),
            ("host_id", caller.host_id.into()),
        ]))
    }
}
