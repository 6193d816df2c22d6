//! `weft.v1.InstanceTypes`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    InstanceType, InstanceTypeId, InstanceTypeSpec, Object, Problem, Reason, Record, built_in_types,
};
use weft_proto::convert::{
    Revision, creation_from_wire, instance_type_spec_from_wire, instance_type_to_wire,
    revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, listed, parse_id, refuse};
use crate::context::Context;
use crate::creation::Outcome;
use crate::repo::{InstanceTypes, type_name_key};

type TypeRecord = Record<InstanceTypeId, InstanceTypeSpec>;

fn show(record: TypeRecord) -> v1::InstanceType {
    instance_type_to_wire(InstanceType::Own(Object::from(record)))
}

async fn create(
    context: &Context,
    request: v1::CreateInstanceTypeRequest,
) -> Result<TypeRecord, Problem> {
    let v1::CreateInstanceTypeRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::InstanceTypeSpec::encode_to_vec).unwrap_or_default();
    let spec = instance_type_spec_from_wire(spec)?;
    let content = match context.known::<InstanceTypes>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let key = type_name_key(&spec.name);
    let message = format!("there is an instance type \"{}\" already", spec.name);
    let taken = Problem::new(Reason::AlreadyExists, message)
        .at("name")
        .remedy("choose another name, or import the one that exists");
    context.make_named::<InstanceTypes>(&key, taken, spec, &creation, &content).await
}

async fn update(
    context: &Context,
    request: v1::UpdateInstanceTypeRequest,
) -> Result<TypeRecord, Problem> {
    let v1::UpdateInstanceTypeRequest { context: update, spec } = request;
    let update: Revision<InstanceTypeId> = revision_from_wire(update)?;
    let spec = instance_type_spec_from_wire(spec)?;
    let _turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<InstanceTypes>(&update).await?;
    let old = &before.value.spec;
    let changes = [
        ("name", spec.name != old.name),
        ("vcpus", spec.vcpus != old.vcpus),
        ("memory_mib", spec.memory_mib != old.memory_mib),
        ("network_mbps", spec.network_mbps != old.network_mbps),
    ];
    if let Some((field, _)) = changes.into_iter().find(|(_, changed)| *changed) {
        let message = format!("{field} of an instance type cannot change");
        return Err(Problem::invalid(field, message).remedy("replace the instance type"));
    }
    let record =
        TypeRecord { tags: update.tags, client_data: update.client_data, ..before.value.clone() };
    context.store_update::<InstanceTypes>(before, record, Txn::new()).await
}

/// Instances keep the sizes that they were made with.
async fn delete(context: &Context, id: &InstanceTypeId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<InstanceTypes>(id).await?;
    let txn = Txn::new().delete(type_name_key(&stored.value.spec.name));
    context.remove::<InstanceTypes>(&stored, txn).await
}

/// Weft's own have no tags.
async fn list(context: &Context, request: &v1::ListRequest) -> Result<Vec<InstanceType>, Problem> {
    let none = weft_model::Tags::default();
    let mut items = Vec::new();
    for spec in built_in_types() {
        if listed(request, Some(spec.name.as_str()), &none)? {
            items.push(InstanceType::BuiltIn(spec));
        }
    }
    for record in context.repo.list::<InstanceTypes>().await? {
        if listed(request, Some(record.spec.name.as_str()), &record.tags)? {
            items.push(InstanceType::Own(Object::from(record)));
        }
    }
    items.sort_by_key(|kind| {
        let InstanceTypeSpec { name, vcpus, memory_mib, .. } = kind.spec();
        (*vcpus, *memory_mib, name.clone())
    });
    Ok(items)
}

#[tonic::async_trait]
impl v1::instance_types_server::InstanceTypes for Api {
    async fn create(
        &self,
        request: Request<v1::CreateInstanceTypeRequest>,
    ) -> Result<Response<v1::InstanceType>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::InstanceType>, Status> {
        self.get_one::<InstanceTypes, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::InstanceTypeList>, Status> {
        let items = self.get_many::<InstanceTypes, _>(request, show).await?;
        Ok(Response::new(v1::InstanceTypeList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::InstanceTypeList>, Status> {
        let found = list(&self.context, &request.into_inner()).await.map_err(refuse)?;
        let items = found.into_iter().map(instance_type_to_wire).collect();
        Ok(Response::new(v1::InstanceTypeList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateInstanceTypeRequest>,
    ) -> Result<Response<v1::InstanceType>, Status> {
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
