//! Network interfaces and their attachments of the fake agent.

use tonic::{Request, Response, Status};
use weft_proto::convert::{
    attachment_order_from_wire, attachment_order_to_wire, interface_order_from_wire,
    interface_order_to_wire,
};
use weft_proto::v1;

use super::Shared;
use super::world::{batch, begin_update, get, missing, named, refused};

#[tonic::async_trait]
impl v1::network_interfaces_server::NetworkInterfaces for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateNetworkInterfaceRequest>,
    ) -> Result<Response<v1::NetworkInterface>, Status> {
        let v1::CreateNetworkInterfaceRequest { context, spec } = request.into_inner();
        let spec = interface_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("NetworkInterfaces.Create", "eni-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.interfaces, &id).map(Response::new),
        };
        let metadata_id = metadata.id.clone();
        let number = u8::try_from(world.interfaces.len()).unwrap();
        let mut spec = interface_order_to_wire(spec);
        spec.subnet_id.get_or_insert_with(|| "subnet-0000000000000000d".to_owned());
        spec.private_ip.get_or_insert_with(|| format!("172.31.1.{number}"));
        let (vpc_id, mac_address) =
            ("vpc-0000000000000000d".to_owned(), format!("02:00:00:00:01:{number:02x}"));
        let (metadata, spec) = (Some(metadata), Some(spec));
        let wire = v1::NetworkInterface {
            ipv6_addresses: vec![format!("fd00:1:2:3::{number:x}")],
            metadata,
            spec,
            vpc_id,
            mac_address,
        };
        world.interfaces.insert(metadata_id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::NetworkInterface>, Status> {
        get(&self.lock().interfaces, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::NetworkInterfaceList>, Status> {
        let items = batch(&self.lock().interfaces, &request.into_inner().ids);
        Ok(Response::new(v1::NetworkInterfaceList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::NetworkInterfaceList>, Status> {
        let items = named(&self.lock().interfaces, &request.into_inner(), |one| {
            Some(&one.spec.as_ref()?.name)
        });
        Ok(Response::new(v1::NetworkInterfaceList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateNetworkInterfaceRequest>,
    ) -> Result<Response<v1::NetworkInterface>, Status> {
        let v1::UpdateNetworkInterfaceRequest { context, spec } = request.into_inner();
        let spec = interface_order_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        let wire = world.interfaces.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        let mut spec = interface_order_to_wire(spec);
        let old = wire.spec.take().unwrap();
        (spec.subnet_id, spec.private_ip) = (old.subnet_id, old.private_ip);
        wire.spec = Some(spec);
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().interfaces.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

#[tonic::async_trait]
impl v1::network_interface_attachments_server::NetworkInterfaceAttachments for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateNetworkInterfaceAttachmentRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachment>, Status> {
        let v1::CreateNetworkInterfaceAttachmentRequest { context, spec } = request.into_inner();
        let mut spec = attachment_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let mut metadata =
            match world.begin_create("NetworkInterfaceAttachments.Create", "eni-", context)? {
                Ok(metadata) => metadata,
                Err(id) => return get(&world.attachments, &id).map(Response::new),
            };
        let metadata_id = format!("{}/{}", spec.instance_id, spec.network_interface_id);
        metadata.id.clone_from(&metadata_id);
        spec.device_index.get_or_insert(1);
        let spec = Some(attachment_order_to_wire(spec));
        let wire = v1::NetworkInterfaceAttachment { metadata: Some(metadata), spec };
        world.attachments.insert(metadata_id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachment>, Status> {
        get(&self.lock().attachments, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachmentList>, Status> {
        let items = batch(&self.lock().attachments, &request.into_inner().ids);
        Ok(Response::new(v1::NetworkInterfaceAttachmentList { items }))
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachmentList>, Status> {
        let items = self.lock().attachments.values().cloned().collect();
        Ok(Response::new(v1::NetworkInterfaceAttachmentList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateNetworkInterfaceAttachmentRequest>,
    ) -> Result<Response<v1::NetworkInterfaceAttachment>, Status> {
        let v1::UpdateNetworkInterfaceAttachmentRequest { context, spec } = request.into_inner();
        let spec = attachment_order_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        let wire = world.attachments.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(attachment_order_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().attachments.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
