//! Route tables and their associations of the fake agent.

use tonic::{Request, Response, Status};
use weft_proto::convert::{
    route_table_association_spec_from_wire, route_table_association_spec_to_wire,
    route_table_order_from_wire, route_table_order_to_wire,
};
use weft_proto::v1;

use super::Shared;
use super::world::{batch, begin_update, get, missing, named, refused};

#[tonic::async_trait]
impl v1::route_tables_server::RouteTables for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateRouteTableRequest>,
    ) -> Result<Response<v1::RouteTable>, Status> {
        let v1::CreateRouteTableRequest { context, spec } = request.into_inner();
        let spec = route_table_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("RouteTables.Create", "rtb-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.route_tables, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let spec = Some(route_table_order_to_wire(spec));
        let wire = v1::RouteTable { metadata: Some(metadata), spec };
        world.route_tables.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::RouteTable>, Status> {
        get(&self.lock().route_tables, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::RouteTableList>, Status> {
        let mut world = self.lock();
        world.calls.push("RouteTables.BatchGet");
        let items = batch(&world.route_tables, &request.into_inner().ids);
        Ok(Response::new(v1::RouteTableList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::RouteTableList>, Status> {
        let items = named(&self.lock().route_tables, &request.into_inner(), |one| {
            Some(&one.spec.as_ref()?.name)
        });
        Ok(Response::new(v1::RouteTableList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRouteTableRequest>,
    ) -> Result<Response<v1::RouteTable>, Status> {
        let v1::UpdateRouteTableRequest { context, spec } = request.into_inner();
        let spec = route_table_order_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("RouteTables.Update");
        let wire = world.route_tables.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(route_table_order_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().route_tables.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

#[tonic::async_trait]
impl v1::route_table_associations_server::RouteTableAssociations for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateRouteTableAssociationRequest>,
    ) -> Result<Response<v1::RouteTableAssociation>, Status> {
        let v1::CreateRouteTableAssociationRequest { context, spec } = request.into_inner();
        let spec = route_table_association_spec_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let mut metadata =
            match world.begin_create("RouteTableAssociations.Create", "rtb-", context)? {
                Ok(metadata) => metadata,
                Err(id) => return get(&world.route_table_associations, &id).map(Response::new),
            };
        let id = format!("{}/{}", spec.route_table_id, spec.subnet_id);
        metadata.id.clone_from(&id);
        let spec = Some(route_table_association_spec_to_wire(spec));
        let wire = v1::RouteTableAssociation { metadata: Some(metadata), spec };
        world.route_table_associations.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::RouteTableAssociation>, Status> {
        get(&self.lock().route_table_associations, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::RouteTableAssociationList>, Status> {
        let mut world = self.lock();
        world.calls.push("RouteTableAssociations.BatchGet");
        let items = batch(&world.route_table_associations, &request.into_inner().ids);
        Ok(Response::new(v1::RouteTableAssociationList { items }))
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::RouteTableAssociationList>, Status> {
        let items = self.lock().route_table_associations.values().cloned().collect();
        Ok(Response::new(v1::RouteTableAssociationList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRouteTableAssociationRequest>,
    ) -> Result<Response<v1::RouteTableAssociation>, Status> {
        let v1::UpdateRouteTableAssociationRequest { context, spec } = request.into_inner();
        let spec = route_table_association_spec_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("RouteTableAssociations.Update");
        let wire = world
            .route_table_associations
            .get_mut(&context.id)
            .ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(route_table_association_spec_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().route_table_associations.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
