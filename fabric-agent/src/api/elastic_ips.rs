//! `weft.v1.ElasticIps`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{ElasticIpId, ElasticIpSpec, Object, Problem, Reason, Record};
use weft_proto::convert::{
    Revision, creation_from_wire, elastic_ip_order_from_wire, elastic_ip_to_wire,
    revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id};
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{ElasticIps, Kind as _, public_key};

type ElasticIpRecord = Record<ElasticIpId, ElasticIpSpec>;

fn show(record: ElasticIpRecord) -> v1::ElasticIp {
    elastic_ip_to_wire(Object::from(record))
}

fn name(spec: &ElasticIpSpec) -> &str {
    spec.name.as_ref().map(weft_model::Name::as_str).unwrap_or_default()
}

async fn create(
    context: &Context,
    request: v1::CreateElasticIpRequest,
) -> Result<ElasticIpRecord, Problem> {
    let v1::CreateElasticIpRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::ElasticIpSpec::encode_to_vec).unwrap_or_default();
    let order = elastic_ip_order_from_wire(spec)?;
    let content = match context.known::<ElasticIps>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let (public_ip, _turn) = context.choose_public(order.address).await?;
    let spec = ElasticIpSpec { name: order.name, chosen: order.address.is_some(), public_ip };
    let id = ElasticIps::new_id(random::bytes(), &spec);
    let key = public_key(public_ip);
    let txn = Txn::new().when_absent(&key).put(key, id.as_str());
    let record = context.new_record::<ElasticIps>(id, spec, &creation, &content);
    context.store_new::<ElasticIps>(&record, &creation, &content, txn).await?;
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateElasticIpRequest,
) -> Result<ElasticIpRecord, Problem> {
    let v1::UpdateElasticIpRequest { context: update, spec } = request;
    let update: Revision<ElasticIpId> = revision_from_wire(update)?;
    let order = elastic_ip_order_from_wire(spec)?;
    let _turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<ElasticIps>(&update).await?;
    let old = &before.value.spec;
    if order.address.is_some_and(|address| address != old.public_ip) {
        let message = format!("the elastic IP {} is {}", update.id, old.public_ip);
        return Err(Problem::invalid("address", message).remedy("replace the elastic IP"));
    }
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    record.spec.name = order.name;
    record.spec.chosen = order.address.is_some();
    context.store_update::<ElasticIps>(before, record, Txn::new()).await
}

async fn delete(context: &Context, id: &ElasticIpId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<ElasticIps>(id).await?;
    let user = {
        let world = context.cache.read();
        let mut associations = world.associations.values();
        let found = associations.find(|one| one.spec.elastic_ip_id == *id);
        found.map(|one| {
            match one.spec.target.instance_id().and_then(|id| world.instances.get(id)) {
                Some(instance) => match &instance.spec.name {
                    Some(name) => format!("{} ({name})", instance.id),
                    None => instance.id.to_string(),
                },
                None => one.spec.target.to_string(),
            }
        })
    };
    if let Some(user) = user {
        let message = format!("elastic IP {id} is associated with {user}");
        return Err(Problem::new(Reason::InUse, message)
            .at("id")
            .remedy("remove the association first"));
    }
    let txn = Txn::new().delete(public_key(stored.value.spec.public_ip));
    context.remove::<ElasticIps>(&stored, txn).await
}

#[tonic::async_trait]
impl v1::elastic_ips_server::ElasticIps for Api {
    async fn create(
        &self,
        request: Request<v1::CreateElasticIpRequest>,
    ) -> Result<Response<v1::ElasticIp>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::ElasticIp>, Status> {
        self.get_one::<ElasticIps, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::ElasticIpList>, Status> {
        let items = self.get_many::<ElasticIps, _>(request, show).await?;
        Ok(Response::new(v1::ElasticIpList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ElasticIpList>, Status> {
        let items = self.get_listed::<ElasticIps, _>(request, name, show).await?;
        Ok(Response::new(v1::ElasticIpList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateElasticIpRequest>,
    ) -> Result<Response<v1::ElasticIp>, Status> {
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
