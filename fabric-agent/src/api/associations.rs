//! `weft.v1.ElasticIpAssociations`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{AssociationId, AssociationSpec, Object, Problem, Reason, Record};
use weft_proto::convert::{
    Revision, association_spec_from_wire, association_to_wire, creation_from_wire,
    revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id};
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{
    Associations, ElasticIps, Kind as _, associated_key, missing, public_of_key, store_problem,
};

type AssociationRecord = Record<AssociationId, AssociationSpec>;

const NOT_YET: &str = "an association is not in force everywhere yet";

fn show(record: AssociationRecord) -> v1::ElasticIpAssociation {
    association_to_wire(Object::from(record))
}

/// It has none of its own.
fn name(_: &AssociationSpec) -> &str {
    ""
}

async fn create(
    context: &Context,
    request: v1::CreateElasticIpAssociationRequest,
) -> Result<AssociationRecord, Problem> {
    let v1::CreateElasticIpAssociationRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::ElasticIpAssociationSpec::encode_to_vec).unwrap_or_default();
    let spec = association_spec_from_wire(spec)?;
    let content = match context.known::<Associations>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let record = {
        let _guard = context.references.read().await;
        let txn = admit(context, &spec).await?;
        let id = Associations::new_id(random::bytes(), &spec);
        let record = context.new_record::<Associations>(id, spec, &creation, &content);
        context.store_new::<Associations>(&record, &creation, &content, txn).await?;
        record
    };
    context.settle_networks(NOT_YET).await;
    Ok(record)
}

/// Judges who is joined; the transaction makes both ends taken.
async fn admit(context: &Context, spec: &AssociationSpec) -> Result<Txn, Problem> {
    let (eip, target) = (&spec.elastic_ip_id, &spec.target);
    if context.repo.find::<ElasticIps>(eip).await?.is_none() {
        return Err(missing::<ElasticIps>(eip, "elastic_ip_id"));
    }
    let interface = context.reachable_target(target).await?;
    if let Some(own) = context.cache.read().own_public_ip(&interface.id) {
        let message = format!("{target} has the public address {own} for its whole life");
        return Err(Problem::new(Reason::FailedPrecondition, message)
            .at(target.attribute())
            .remedy("make the instance with associate_public_ip_address = false"));
    }
    let id = Associations::new_id(random::bytes(), spec);
    let mut txn = Txn::new();
    for (key, field, what) in [
        (associated_key(eip), "elastic_ip_id", format!("elastic IP {eip}")),
        (public_of_key(&interface.id), target.attribute(), target.to_string()),
    ] {
        if let Some(by) = context.repo.store().get(&key).await.map_err(store_problem)? {
            let by = String::from_utf8_lossy(&by.value);
            let message = format!("{what} is associated already: {by}");
            return Err(Problem::new(Reason::AlreadyExists, message)
                .at(field)
                .remedy("remove that association first"));
        }
        txn = txn.when_absent(&key).put(key, id.to_string());
    }
    Ok(txn)
}

async fn update(
    context: &Context,
    request: v1::UpdateElasticIpAssociationRequest,
) -> Result<AssociationRecord, Problem> {
    let v1::UpdateElasticIpAssociationRequest { context: update, spec } = request;
    let update: Revision<AssociationId> = revision_from_wire(update)?;
    let spec = association_spec_from_wire(spec)?;
    let _turn = context.turns().object(&update.id.to_string()).await;
    let before = context.fetch_for::<Associations>(&update).await?;
    if spec != before.value.spec {
        let message = format!("the ends of the association {} cannot change", update.id);
        return Err(Problem::invalid("elastic_ip_id", message).remedy("replace the association"));
    }
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    context.store_update::<Associations>(before, record, Txn::new()).await
}

async fn delete(context: &Context, id: &AssociationId) -> Result<(), Problem> {
    {
        let _guard = context.references.read().await;
        let _turn = context.turns().object(&id.to_string()).await;
        let stored = context.repo.get::<Associations>(id).await?;
        let spec = &stored.value.spec;
        let mut txn = Txn::new().delete(associated_key(&spec.elastic_ip_id));
        let interface = context.cache.read().interface_of(&spec.target).map(|one| one.id.clone());
        if let Some(interface) = interface {
            txn = txn.delete(public_of_key(&interface));
        }
        context.remove::<Associations>(&stored, txn).await?;
    }
    context.settle_networks(NOT_YET).await;
    Ok(())
}

#[tonic::async_trait]
impl v1::elastic_ip_associations_server::ElasticIpAssociations for Api {
    async fn create(
        &self,
        request: Request<v1::CreateElasticIpAssociationRequest>,
    ) -> Result<Response<v1::ElasticIpAssociation>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::ElasticIpAssociation>, Status> {
        self.get_one::<Associations, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::ElasticIpAssociationList>, Status> {
        let items = self.get_many::<Associations, _>(request, show).await?;
        Ok(Response::new(v1::ElasticIpAssociationList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ElasticIpAssociationList>, Status> {
        let items = self.get_listed::<Associations, _>(request, name, show).await?;
        Ok(Response::new(v1::ElasticIpAssociationList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateElasticIpAssociationRequest>,
    ) -> Result<Response<v1::ElasticIpAssociation>, Status> {
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
