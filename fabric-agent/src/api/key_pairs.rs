//! `weft.v1.KeyPairs`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{KeyPairId, KeyPairSpec, Object, Problem, Reason, Record};
use weft_proto::convert::{
    Revision, creation_from_wire, key_pair_spec_from_wire, key_pair_to_wire, revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id};
use crate::context::Context;
use crate::creation::Outcome;
use crate::repo::{KeyPairs, key_pair_name_key};

type KeyPairRecord = Record<KeyPairId, KeyPairSpec>;

fn show(record: KeyPairRecord) -> v1::KeyPair {
    key_pair_to_wire(Object::from(record))
}

async fn create(
    context: &Context,
    request: v1::CreateKeyPairRequest,
) -> Result<KeyPairRecord, Problem> {
    let v1::CreateKeyPairRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::KeyPairSpec::encode_to_vec).unwrap_or_default();
    let spec = key_pair_spec_from_wire(spec)?;
    let content = match context.known::<KeyPairs>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let key = key_pair_name_key(&spec.key_name);
    let message = format!("there is a key pair \"{}\" already", spec.key_name);
    let taken = Problem::new(Reason::AlreadyExists, message)
        .at("key_name")
        .remedy("choose another key_name, or import the one that exists");
    context.make_named::<KeyPairs>(&key, taken, spec, &creation, &content).await
}

async fn update(
    context: &Context,
    request: v1::UpdateKeyPairRequest,
) -> Result<KeyPairRecord, Problem> {
    let v1::UpdateKeyPairRequest { context: update, spec } = request;
    let update: Revision<KeyPairId> = revision_from_wire(update)?;
    let spec = key_pair_spec_from_wire(spec)?;
    let _turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<KeyPairs>(&update).await?;
    if spec != before.value.spec {
        let field = match spec.key_name == before.value.spec.key_name {
            true => "public_key",
            false => "key_name",
        };
        return Err(Problem::invalid(field, format!("{field} of a key pair cannot change"))
            .remedy("replace the key pair"));
    }
    let record = KeyPairRecord {
        tags: update.tags,
        client_data: update.client_data,
        ..before.value.clone()
    };
    context.store_update::<KeyPairs>(before, record, Txn::new()).await
}

async fn delete(context: &Context, id: &KeyPairId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<KeyPairs>(id).await?;
    let txn = Txn::new().delete(key_pair_name_key(&stored.value.spec.key_name));
    context.remove::<KeyPairs>(&stored, txn).await
}

#[tonic::async_trait]
impl v1::key_pairs_server::KeyPairs for Api {
    async fn create(
        &self,
        request: Request<v1::CreateKeyPairRequest>,
    ) -> Result<Response<v1::KeyPair>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::KeyPair>, Status> {
        self.get_one::<KeyPairs, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::KeyPairList>, Status> {
        let items = self.get_many::<KeyPairs, _>(request, show).await?;
        Ok(Response::new(v1::KeyPairList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::KeyPairList>, Status> {
        let items =
            self.get_listed::<KeyPairs, _>(request, |spec| spec.key_name.as_str(), show).await?;
        Ok(Response::new(v1::KeyPairList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateKeyPairRequest>,
    ) -> Result<Response<v1::KeyPair>, Status> {
        let record =
            self.whole(async move |context| update(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        self.whole(async move |context| delete(&context, &id).await).await?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
