//! Elastic IPs, their associations and port forwards of the fake agent.

use std::net::Ipv4Addr;

use tonic::{Request, Response, Status};
use weft_proto::convert::{
    association_spec_from_wire, association_spec_to_wire, elastic_ip_order_from_wire,
    elastic_ip_order_to_wire, port_forward_spec_from_wire, port_forward_spec_to_wire,
};
use weft_proto::v1;

use super::Shared;
use super::world::{batch, begin_update, get, missing, named, refused};

#[tonic::async_trait]
impl v1::elastic_ips_server::ElasticIps for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateElasticIpRequest>,
    ) -> Result<Response<v1::ElasticIp>, Status> {
        let v1::CreateElasticIpRequest { context, spec } = request.into_inner();
        let spec = elastic_ip_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("ElasticIps.Create", "eip-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.elastic_ips, &id).map(Response::new),
        };
        let metadata_id = metadata.id.clone();
        let number = u8::try_from(world.elastic_ips.len()).unwrap();
        let public_ip =
            spec.address.unwrap_or_else(|| Ipv4Addr::new(198, 18, 0, 1 + number)).to_string();
        let spec = Some(elastic_ip_order_to_wire(spec));
        let wire = v1::ElasticIp { metadata: Some(metadata), spec, public_ip };
        world.elastic_ips.insert(metadata_id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::ElasticIp>, Status> {
        get(&self.lock().elastic_ips, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::ElasticIpList>, Status> {
        let items = batch(&self.lock().elastic_ips, &request.into_inner().ids);
        Ok(Response::new(v1::ElasticIpList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ElasticIpList>, Status> {
        let items = named(&self.lock().elastic_ips, &request.into_inner(), |one| {
            one.spec.as_ref()?.name.as_deref()
        });
        Ok(Response::new(v1::ElasticIpList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateElasticIpRequest>,
    ) -> Result<Response<v1::ElasticIp>, Status> {
        let v1::UpdateElasticIpRequest { context, spec } = request.into_inner();
        let spec = elastic_ip_order_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        let wire = world.elastic_ips.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(elastic_ip_order_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().elastic_ips.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

#[tonic::async_trait]
impl v1::elastic_ip_associations_server::ElasticIpAssociations for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateElasticIpAssociationRequest>,
    ) -> Result<Response<v1::ElasticIpAssociation>, Status> {
        let v1::CreateElasticIpAssociationRequest { context, spec } = request.into_inner();
        let spec = association_spec_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let mut metadata =
            match world.begin_create("ElasticIpAssociations.Create", "eip-", context)? {
                Ok(metadata) => metadata,
                Err(id) => return get(&world.associations, &id).map(Response::new),
            };
        let metadata_id = format!("{}/{}", spec.elastic_ip_id, spec.target);
        metadata.id.clone_from(&metadata_id);
        let spec = Some(association_spec_to_wire(spec));
        let wire = v1::ElasticIpAssociation { metadata: Some(metadata), spec };
        world.associations.insert(metadata_id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::ElasticIpAssociation>, Status> {
        get(&self.lock().associations, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::ElasticIpAssociationList>, Status> {
        let items = batch(&self.lock().associations, &request.into_inner().ids);
        Ok(Response::new(v1::ElasticIpAssociationList { items }))
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ElasticIpAssociationList>, Status> {
        let items = self.lock().associations.values().cloned().collect();
        Ok(Response::new(v1::ElasticIpAssociationList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateElasticIpAssociationRequest>,
    ) -> Result<Response<v1::ElasticIpAssociation>, Status> {
        let v1::UpdateElasticIpAssociationRequest { context, spec } = request.into_inner();
        let spec = association_spec_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        let wire = world.associations.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(association_spec_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().associations.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

#[tonic::async_trait]
impl v1::port_forwards_server::PortForwards for Shared {
    async fn create(
        &self,
        request: Request<v1::CreatePortForwardRequest>,
    ) -> Result<Response<v1::PortForward>, Status> {
        let v1::CreatePortForwardRequest { context, spec } = request.into_inner();
        let spec = port_forward_spec_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("PortForwards.Create", "pf-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.port_forwards, &id).map(Response::new),
        };
        let metadata_id = metadata.id.clone();
        let spec = Some(port_forward_spec_to_wire(spec));
        let wire = v1::PortForward { metadata: Some(metadata), spec };
        world.port_forwards.insert(metadata_id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::PortForward>, Status> {
        get(&self.lock().port_forwards, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::PortForwardList>, Status> {
        let items = batch(&self.lock().port_forwards, &request.into_inner().ids);
        Ok(Response::new(v1::PortForwardList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::PortForwardList>, Status> {
        let items = named(&self.lock().port_forwards, &request.into_inner(), |one| {
            Some(&one.spec.as_ref()?.name)
        });
        Ok(Response::new(v1::PortForwardList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdatePortForwardRequest>,
    ) -> Result<Response<v1::PortForward>, Status> {
        let v1::UpdatePortForwardRequest { context, spec } = request.into_inner();
        let spec = port_forward_spec_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        let wire = world.port_forwards.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(port_forward_spec_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().port_forwards.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
