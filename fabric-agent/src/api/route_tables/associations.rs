//! `weft.v1.RouteTableAssociations`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    Object, Problem, Reason, Record, RouteTableAssociationId, RouteTableAssociationSpec,
};
use weft_proto::convert::{
    Revision, creation_from_wire, revision_from_wire, route_table_association_spec_from_wire,
    route_table_association_to_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{NOT_YET, Routing};
use crate::api::{Api, parse_id};
use crate::context::Context;
use crate::creation::Outcome;
use crate::repo::{RouteTableAssociations, RouteTables, Subnets, missing};

type AssociationRecord = Record<RouteTableAssociationId, RouteTableAssociationSpec>;

fn show(record: AssociationRecord) -> v1::RouteTableAssociation {
    route_table_association_to_wire(Object::from(record))
}

/// Nobody gives an association a name.
fn name(_spec: &RouteTableAssociationSpec) -> &str {
    ""
}

/// Refuses ends that are not there or not of one VPC, a subnet that has a table, and circles. The
/// caller holds `references` for writing.
async fn judge(context: &Context, spec: &RouteTableAssociationSpec) -> Result<(), Problem> {
    let RouteTableAssociationSpec { route_table_id, subnet_id } = spec;
    let subnet = context.repo.find::<Subnets>(subnet_id).await?;
    let subnet = subnet.ok_or_else(|| missing::<Subnets>(subnet_id, "subnet_id"))?;
    let world = context.cache.read();
    let mut routing = Routing::of(&world);
    let table = routing
        .tables
        .get(route_table_id)
        .ok_or_else(|| missing::<RouteTables>(route_table_id, "route_table_id"))?;
    let (of, vpc_id) = (&subnet.value.spec.vpc_id, &table.vpc_id);
    if of != vpc_id {
        let message = format!("subnet {subnet_id} is of {of}, the route table is of {vpc_id}");
        return Err(Problem::invalid("subnet_id", message).remedy("use a subnet of the same VPC"));
    }
    if let Some(other) = routing.of_subnet.insert(subnet_id, route_table_id) {
        let message = format!("subnet {subnet_id} uses the route table {other} already");
        return Err(Problem::new(Reason::AlreadyExists, message)
            .at("subnet_id")
            .remedy("a subnet has one route table: remove the other association, or import it"));
    }
    routing.check_no_loop().map_err(|problem| problem.at("route_table_id"))
}

async fn create(
    context: &Context,
    request: v1::CreateRouteTableAssociationRequest,
) -> Result<AssociationRecord, Problem> {
    let v1::CreateRouteTableAssociationRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::RouteTableAssociationSpec::encode_to_vec).unwrap_or_default();
    let spec = route_table_association_spec_from_wire(spec)?;
    let content = match context.known::<RouteTableAssociations>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let record = {
        let _guard = context.references.write().await;
        judge(context, &spec).await?;
        let record =
            context.new_record::<RouteTableAssociations>(spec.id(), spec, &creation, &content);
        let txn = Txn::new();
        context.store_new::<RouteTableAssociations>(&record, &creation, &content, txn).await?;
        record
    };
    context.settle_networks(NOT_YET).await;
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateRouteTableAssociationRequest,
) -> Result<AssociationRecord, Problem> {
    let v1::UpdateRouteTableAssociationRequest { context: update, spec } = request;
    let update: Revision<RouteTableAssociationId> = revision_from_wire(update)?;
    let spec = route_table_association_spec_from_wire(spec)?;
    let _turn = context.turns().object(&update.id.to_string()).await;
    let before = context.fetch_for::<RouteTableAssociations>(&update).await?;
    for (field, changed) in [
        ("route_table_id", spec.route_table_id != before.value.spec.route_table_id),
        ("subnet_id", spec.subnet_id != before.value.spec.subnet_id),
    ] {
        if changed {
            return Err(Problem::invalid(
                field,
                format!("{field} of an association cannot change"),
            )
            .remedy("replace the association"));
        }
    }
    let mut record = before.value.clone();
    record.tags = update.tags;
    record.client_data = update.client_data;
    context.store_update::<RouteTableAssociations>(before, record, Txn::new()).await
}

async fn delete(context: &Context, id: &RouteTableAssociationId) -> Result<(), Problem> {
    {
        let _guard = context.references.write().await;
        let _turn = context.turns().object(&id.to_string()).await;
        let stored = context.repo.get::<RouteTableAssociations>(id).await?;
        context.remove::<RouteTableAssociations>(&stored, Txn::new()).await?;
    }
    context.settle_networks(NOT_YET).await;
    Ok(())
}

#[tonic::async_trait]
impl v1::route_table_associations_server::RouteTableAssociations for Api {
    async fn create(
        &self,
        request: Request<v1::CreateRouteTableAssociationRequest>,
    ) -> Result<Response<v1::RouteTableAssociation>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::RouteTableAssociation>, Status> {
        self.get_one::<RouteTableAssociations, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::RouteTableAssociationList>, Status> {
        let items = self.get_many::<RouteTableAssociations, _>(request, show).await?;
        Ok(Response::new(v1::RouteTableAssociationList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::RouteTableAssociationList>, Status> {
        let items = self.get_listed::<RouteTableAssociations, _>(request, name, show).await?;
        Ok(Response::new(v1::RouteTableAssociationList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRouteTableAssociationRequest>,
    ) -> Result<Response<v1::RouteTableAssociation>, Status> {
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
