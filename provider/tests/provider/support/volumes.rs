//! Volumes and their attachments of the fake agent.

use tonic::{Request, Response, Status};
use weft_model::{VolumeSource, check_encryption, no_root_key};
use weft_proto::convert::{
    volume_attachment_order_from_wire, volume_attachment_order_to_wire, volume_order_from_wire,
    volume_order_to_wire,
};
use weft_proto::v1;

use super::Shared;
use super::world::{batch, begin_update, get, missing, named, refused};

#[tonic::async_trait]
impl v1::volumes_server::Volumes for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateVolumeRequest>,
    ) -> Result<Response<v1::Volume>, Status> {
        let v1::CreateVolumeRequest { context, spec } = request.into_inner();
        let mut order = volume_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let snapshot = order.source.as_ref().and_then(VolumeSource::snapshot);
        let below = snapshot.and_then(|id| world.snapshots.get(id.as_str()));
        let below = below.is_some_and(|snapshot| snapshot.encrypted);
        check_encryption(order.encrypted, order.source.as_ref(), below).map_err(refused)?;
        order.encrypted = Some(order.encrypted.unwrap_or(below));
        if order.encrypted == Some(true) && world.encrypts_volumes == Some(false) {
            return Err(refused(no_root_key()));
        }
        let spec = volume_order_to_wire(order);
        let metadata = match world.begin_create("Volumes.Create", "vol-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.volumes, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        // A name says how it fails.
        let fails = spec.name.as_deref() == Some("disk-full");
        let wire = v1::Volume {
            metadata: Some(metadata),
            spec: Some(spec),
            state: if fails { "error" } else { "available" }.to_owned(),
            reason: fails.then(|| "no space left on device".to_owned()),
            instance_id: None,
        };
        world.volumes.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Volume>, Status> {
        get(&self.lock().volumes, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::VolumeList>, Status> {
        let items = batch(&self.lock().volumes, &request.into_inner().ids);
        Ok(Response::new(v1::VolumeList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::VolumeList>, Status> {
        let items = named(&self.lock().volumes, &request.into_inner(), |one| {
            one.spec.as_ref()?.name.as_deref()
        });
        Ok(Response::new(v1::VolumeList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateVolumeRequest>,
    ) -> Result<Response<v1::Volume>, Status> {
        let v1::UpdateVolumeRequest { context, spec } = request.into_inner();
        let spec = volume_order_to_wire(volume_order_from_wire(spec).map_err(refused)?);
        let context = context.unwrap();
        let mut world = self.lock();
        let wire = world.volumes.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(spec);
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().volumes.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

#[tonic::async_trait]
impl v1::volume_attachments_server::VolumeAttachments for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateVolumeAttachmentRequest>,
    ) -> Result<Response<v1::VolumeAttachment>, Status> {
        let v1::CreateVolumeAttachmentRequest { context, spec } = request.into_inner();
        let spec = volume_attachment_order_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        let mut metadata = match world.begin_create("VolumeAttachments.Create", "vol-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.volume_attachments, &id).map(Response::new),
        };
        let metadata_id = format!("{}/{}", spec.instance_id, spec.volume_id);
        metadata.id.clone_from(&metadata_id);
        let device_path = spec.volume_id.device_path();
        let spec = Some(volume_attachment_order_to_wire(spec));
        let wire = v1::VolumeAttachment { metadata: Some(metadata), spec, device_path };
        world.volume_attachments.insert(metadata_id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::VolumeAttachment>, Status> {
        get(&self.lock().volume_attachments, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::VolumeAttachmentList>, Status> {
        let items = batch(&self.lock().volume_attachments, &request.into_inner().ids);
        Ok(Response::new(v1::VolumeAttachmentList { items }))
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::VolumeAttachmentList>, Status> {
        let items = self.lock().volume_attachments.values().cloned().collect();
        Ok(Response::new(v1::VolumeAttachmentList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateVolumeAttachmentRequest>,
    ) -> Result<Response<v1::VolumeAttachment>, Status> {
        let v1::UpdateVolumeAttachmentRequest { context, spec } = request.into_inner();
        let spec = volume_attachment_order_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        let wire =
            world.volume_attachments.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(volume_attachment_order_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().volume_attachments.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
