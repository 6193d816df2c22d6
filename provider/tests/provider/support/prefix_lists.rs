//! Prefix lists of the fake agent.

use tonic::{Request, Response, Status};
use weft_proto::convert::{prefix_list_spec_from_wire, prefix_list_spec_to_wire};
use weft_proto::v1;

use super::Shared;
use super::world::{batch, begin_update, get, missing, named, refused};

#[tonic::async_trait]
impl v1::prefix_lists_server::PrefixLists for Shared {
    async fn create(
        &self,
        request: Request<v1::CreatePrefixListRequest>,
    ) -> Result<Response<v1::PrefixList>, Status> {
        let v1::CreatePrefixListRequest { context, spec } = request.into_inner();
        let spec = prefix_list_spec_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("PrefixLists.Create", "pl-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.prefix_lists, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let spec = Some(prefix_list_spec_to_wire(spec));
        let wire = v1::PrefixList { metadata: Some(metadata), spec };
        world.prefix_lists.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::PrefixList>, Status> {
        get(&self.lock().prefix_lists, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::PrefixListList>, Status> {
        let mut world = self.lock();
        world.calls.push("PrefixLists.BatchGet");
        let items = batch(&world.prefix_lists, &request.into_inner().ids);
        Ok(Response::new(v1::PrefixListList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::PrefixListList>, Status> {
        let items = named(&self.lock().prefix_lists, &request.into_inner(), |one| {
            Some(&one.spec.as_ref()?.name)
        });
        Ok(Response::new(v1::PrefixListList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdatePrefixListRequest>,
    ) -> Result<Response<v1::PrefixList>, Status> {
        let v1::UpdatePrefixListRequest { context, spec } = request.into_inner();
        let spec = prefix_list_spec_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("PrefixLists.Update");
        let wire = world.prefix_lists.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(prefix_list_spec_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().prefix_lists.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
