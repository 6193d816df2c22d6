//! Instance types of the fake agent.

use tonic::{Request, Response, Status};
use weft_model::{InstanceType, built_in_types, find_type, no_such_type};
use weft_proto::convert::{
    instance_type_spec_from_wire, instance_type_spec_to_wire, instance_type_to_wire,
};
use weft_proto::v1;

use super::Shared;
use super::world::{World, batch, begin_update, get, missing, refused};

impl World {
    /// vCPUs and MiB of the type called `name`.
    pub(super) fn size_of(&self, name: &str) -> Result<(u32, u32), Status> {
        if let Some(kind) = find_type(name) {
            return Ok((kind.vcpus, kind.memory_mib));
        }
        let specs = || self.types.values().filter_map(|kind| kind.spec.as_ref());
        if let Some(spec) = specs().find(|spec| spec.name == name) {
            return Ok((spec.vcpus, spec.memory_mib));
        }
        let own: Vec<_> = specs().map(|spec| spec.name.parse().unwrap()).collect();
        Err(refused(no_such_type(name, &own)))
    }
}

#[tonic::async_trait]
impl v1::instance_types_server::InstanceTypes for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateInstanceTypeRequest>,
    ) -> Result<Response<v1::InstanceType>, Status> {
        let v1::CreateInstanceTypeRequest { context, spec } = request.into_inner();
        let spec = instance_type_spec_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("InstanceTypes.Create", "type-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.types, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let spec = Some(instance_type_spec_to_wire(spec));
        let wire = v1::InstanceType { metadata: Some(metadata), spec };
        world.types.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::InstanceType>, Status> {
        get(&self.lock().types, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::InstanceTypeList>, Status> {
        let mut world = self.lock();
        world.calls.push("InstanceTypes.BatchGet");
        let items = batch(&world.types, &request.into_inner().ids);
        Ok(Response::new(v1::InstanceTypeList { items }))
    }

    /// In no order.
    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::InstanceTypeList>, Status> {
        let v1::ListRequest { name, tags } = request.into_inner();
        let mut world = self.lock();
        world.calls.push("InstanceTypes.List");
        let built_in = built_in_types().map(InstanceType::BuiltIn).map(instance_type_to_wire);
        let mut items: Vec<_> = built_in.chain(world.types.values().cloned()).collect();
        items.reverse();
        items.retain(|kind| {
            let own = kind.metadata.as_ref().map(|metadata| metadata.tags.clone());
            let own = own.unwrap_or_default();
            (name.is_empty() || kind.spec.as_ref().unwrap().name == name)
                && tags.iter().all(|(key, value)| own.get(key) == Some(value))
        });
        Ok(Response::new(v1::InstanceTypeList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateInstanceTypeRequest>,
    ) -> Result<Response<v1::InstanceType>, Status> {
        let v1::UpdateInstanceTypeRequest { context, spec } = request.into_inner();
        instance_type_spec_from_wire(spec.clone()).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("InstanceTypes.Update");
        let wire = world.types.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = spec;
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().types.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
