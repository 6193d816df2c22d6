//! What plans ask about the machine that guests run on.

use weft_proto::v1::{self, hosts_client::HostsClient};

use crate::agent::Connection;

/// The only host; `None` where it cannot be known now: Create says what is wrong.
pub(crate) async fn only_host(connection: &Connection) -> Option<v1::Host> {
    let list =
        connection
            .call(|channel| async move {
                HostsClient::new(channel).list(v1::ListRequest::default()).await
            })
            .await
            .ok()?;
    let [host] = <[v1::Host; 1]>::try_from(list.items).ok()?;
    Some(host)
}
