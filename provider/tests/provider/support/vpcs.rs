//! VPCs and subnets of the fake agent.

use tonic::{Request, Response, Status};
use weft_proto::convert::{
    subnet_order_from_wire, subnet_order_to_wire, vpc_order_from_wire, vpc_order_to_wire,
};
use weft_proto::v1;

use super::Shared;
use super::world::{batch, begin_update, get, missing, named, refused};

#[tonic::async_trait]
impl v1::vpcs_server::Vpcs for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateVpcRequest>,
    ) -> Result<Response<v1::Vpc>, Status> {
        let v1::CreateVpcRequest { context, spec } = request.into_inner();
        let order = vpc_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("Vpcs.Create", "vpc-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.vpcs, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let wire = v1::Vpc {
            metadata: Some(metadata),
            spec: Some(vpc_order_to_wire(order)),
            default_security_group_id: world.new_id("sg-"),
            is_default: false,
        };
        world.vpcs.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Vpc>, Status> {
        get(&self.lock().vpcs, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::VpcList>, Status> {
        let mut world = self.lock();
        world.calls.push("Vpcs.BatchGet");
        let items = batch(&world.vpcs, &request.into_inner().ids);
        Ok(Response::new(v1::VpcList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::VpcList>, Status> {
        let mut world = self.lock();
        world.calls.push("Vpcs.List");
        let items = named(&world.vpcs, &request.into_inner(), |one| Some(&one.spec.as_ref()?.name));
        Ok(Response::new(v1::VpcList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateVpcRequest>,
    ) -> Result<Response<v1::Vpc>, Status> {
        let v1::UpdateVpcRequest { context, spec } = request.into_inner();
        let order = vpc_order_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("Vpcs.Update");
        let wire = world.vpcs.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(vpc_order_to_wire(order));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().vpcs.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

#[tonic::async_trait]
impl v1::subnets_server::Subnets for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
        let v1::CreateSubnetRequest { context, spec } = request.into_inner();
        let mut order = subnet_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("Subnets.Create", "subnet-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.subnets, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        order.gateway = order.gateway.or_else(|| order.cidr_block.nth(1));
        let spec = Some(subnet_order_to_wire(order));
        let wire = v1::Subnet { metadata: Some(metadata), spec, is_default: false };
        world.subnets.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Subnet>, Status> {
        get(&self.lock().subnets, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::SubnetList>, Status> {
        let mut world = self.lock();
        world.calls.push("Subnets.BatchGet");
        let items = batch(&world.subnets, &request.into_inner().ids);
        Ok(Response::new(v1::SubnetList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::SubnetList>, Status> {
        let mut world = self.lock();
        world.calls.push("Subnets.List");
        let items =
            named(&world.subnets, &request.into_inner(), |one| Some(&one.spec.as_ref()?.name));
        Ok(Response::new(v1::SubnetList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
        let v1::UpdateSubnetRequest { context, spec } = request.into_inner();
        let order = subnet_order_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("Subnets.Update");
        let wire = world.subnets.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(subnet_order_to_wire(order));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().subnets.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
