//! `weft.v1.Callers`.

use nix::unistd::{Uid, User};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};
use weft_proto::v1;

use super::Api;
use crate::tls::listen::Peer;

#[tonic::async_trait]
impl v1::callers_server::Callers for Api {
    async fn get_identity(
        &self,
        request: Request<v1::GetIdentityRequest>,
    ) -> Result<Response<v1::CallerIdentity>, Status> {
        let host_id = self.context.host_id.to_string();
        if let Some(peer) = request.extensions().get::<Peer>() {
            return Ok(Response::new(v1::CallerIdentity {
                method: "client_certificate".to_owned(),
                name: peer.client.clone(),
                uid: None,
                address: Some(peer.address.to_string()),
                host_id,
            }));
        }
        let local = request.extensions().get::<UdsConnectInfo>();
        let uid = local.and_then(|local| local.peer_cred).map(|peer| peer.uid());
        // A directory service may be asked, and may take its time.
        let name = tokio::task::spawn_blocking(move || uid.map_or_else(String::new, user_name));
        let name = name.await.map_err(|_| Status::internal("the user's name was not found out"))?;
        Ok(Response::new(v1::CallerIdentity {
            method: "unix_socket".to_owned(),
            name,
            uid,
            address: None,
            host_id,
        }))
    }
}

/// The user's name on this host; of one that has none its number.
fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}
