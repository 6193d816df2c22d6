//! `weft.v1.PrefixLists`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{Object, PrefixListId, PrefixListSpec, Problem, Reason, Record, RulePeer};
use weft_proto::convert::{
    Revision, creation_from_wire, prefix_list_spec_from_wire, prefix_list_to_wire,
    revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::groups::NOT_YET;
use super::{Api, parse_id};
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{Kind as _, PrefixLists, Rules};

type PrefixListRecord = Record<PrefixListId, PrefixListSpec>;

fn show(record: PrefixListRecord) -> v1::PrefixList {
    prefix_list_to_wire(Object::from(record))
}

async fn create(
    context: &Context,
    request: v1::CreatePrefixListRequest,
) -> Result<PrefixListRecord, Problem> {
    let v1::CreatePrefixListRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::PrefixListSpec::encode_to_vec).unwrap_or_default();
    let spec = prefix_list_spec_from_wire(spec)?;
    let content = match context.known::<PrefixLists>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let id = PrefixLists::new_id(random::bytes(), &spec);
    let record = context.new_record::<PrefixLists>(id, spec, &creation, &content);
    context.store_new::<PrefixLists>(&record, &creation, &content, Txn::new()).await?;
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdatePrefixListRequest,
) -> Result<PrefixListRecord, Problem> {
    let v1::UpdatePrefixListRequest { context: update, spec } = request;
    let update: Revision<PrefixListId> = revision_from_wire(update)?;
    let spec = prefix_list_spec_from_wire(spec)?;
    let turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<PrefixLists>(&update).await?;
    if spec.address_family != before.value.spec.address_family {
        let message = "the address_family of a prefix list cannot change";
        return Err(Problem::invalid("address_family", message).remedy("replace the list"));
    }
    let enforced = spec.entries != before.value.spec.entries;
    let record = PrefixListRecord {
        spec,
        tags: update.tags,
        client_data: update.client_data,
        ..before.value.clone()
    };
    let record = context.store_update::<PrefixLists>(before, record, Txn::new()).await?;
    drop(turn);
    if enforced {
        context.settle_networks(NOT_YET).await;
    }
    Ok(record)
}

async fn delete(context: &Context, id: &PrefixListId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<PrefixLists>(id).await?;
    let rules = context.repo.list::<Rules>().await?;
    let users: Vec<String> = rules
        .iter()
        .filter(|rule| rule.spec.peer == RulePeer::PrefixList(id.clone()))
        .map(|rule| format!("{} of {}", rule.id, rule.spec.group_id))
        .collect();
    if !users.is_empty() {
        let message = format!("prefix list {id} is used by {}", users.join(", "));
        return Err(Problem::new(Reason::InUse, message).at("id").remedy(
            "give those rules another peer, or remove them, and apply that first: Terraform \
                 destroys before it updates, unless the list has \
                 lifecycle { create_before_destroy = true }",
        ));
    }
    context.remove::<PrefixLists>(&stored, Txn::new()).await
}

#[tonic::async_trait]
impl v1::prefix_lists_server::PrefixLists for Api {
    async fn create(
        &self,
        request: Request<v1::CreatePrefixListRequest>,
    ) -> Result<Response<v1::PrefixList>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::PrefixList>, Status> {
        self.get_one::<PrefixLists, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::PrefixListList>, Status> {
        let items = self.get_many::<PrefixLists, _>(request, show).await?;
        Ok(Response::new(v1::PrefixListList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::PrefixListList>, Status> {
        let items = self.get_listed::<PrefixLists, _>(request, |spec| &spec.name, show).await?;
        Ok(Response::new(v1::PrefixListList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdatePrefixListRequest>,
    ) -> Result<Response<v1::PrefixList>, Status> {
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
