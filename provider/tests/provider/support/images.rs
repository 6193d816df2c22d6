//! Images and key pairs of the fake agent.

use tonic::{Request, Response, Status, Streaming};
use weft_model::{Problem, Reason};
use weft_proto::convert::{
    image_order_from_wire, key_pair_from_wire, key_pair_spec_from_wire, key_pair_to_wire,
};
use weft_proto::v1;

use super::Shared;
use super::world::{batch, begin_update, get, missing, named, refused};

#[tonic::async_trait]
impl v1::images_server::Images for Shared {
    async fn begin_upload(
        &self,
        request: Request<v1::BeginUploadRequest>,
    ) -> Result<Response<v1::BeginUploadResponse>, Status> {
        let v1::BeginUploadRequest { sha256, size_bytes } = request.into_inner();
        let takes = {
            let mut world = self.lock();
            world.calls.push("Images.BeginUpload");
            world.begun.push(sha256.clone());
            world.begin_takes
        };
        tokio::time::sleep(takes).await;
        let world = self.lock();
        let have = world.blobs.get(&sha256).map_or(0, |blob| blob.len() as u64);
        let complete = have == size_bytes;
        Ok(Response::new(v1::BeginUploadResponse { offset_bytes: have, complete }))
    }

    type WatchTransfersStream =
        futures::stream::BoxStream<'static, Result<v1::TransfersEvent, Status>>;

    async fn watch_transfers(
        &self,
        _: Request<v1::WatchTransfersRequest>,
    ) -> Result<Response<Self::WatchTransfersStream>, Status> {
        Err(Status::unimplemented("not part of the fake"))
    }

    type CaptureStream = futures::stream::BoxStream<'static, Result<v1::CaptureEvent, Status>>;

    /// Makes a disk whose content is what it is asked to be made of.
    async fn capture(
        &self,
        request: Request<v1::CaptureRequest>,
    ) -> Result<Response<Self::CaptureStream>, Status> {
        use futures::StreamExt as _;
        use sha2::Digest as _;
        let v1::CaptureRequest { client_token: _, source, reboot, consistency } =
            request.into_inner();
        let mut world = self.lock();
        world.calls.push(match (reboot, consistency.as_str()) {
            (true, _) => "Images.Capture rebooted",
            (false, "frozen") => "Images.Capture frozen",
            (false, _) => "Images.Capture",
        });
        if let Some(problem) = world.captures_fail.clone() {
            return Err(refused(problem));
        }
        if let Some(left) = world.captures_break.checked_sub(1) {
            world.captures_break = left;
            return Err(Status::unavailable("the agent is being restarted"));
        }
        let content = format!("{source:?}").into_bytes();
        let disk_sha256 = hex::encode(sha2::Sha256::digest(&content));
        let kernel_sha256 = hex::encode(sha2::Sha256::digest(b"a kernel"));
        world.blobs.insert(kernel_sha256.clone(), b"a kernel".to_vec());
        world.blobs.insert(disk_sha256.clone(), content);
        let last = v1::CaptureEvent {
            done: true,
            disk_sha256,
            boot_mode: "direct_kernel".to_owned(),
            kernel: Some(v1::Kernel {
                kernel_sha256,
                initrd_sha256: None,
                cmdline: "root=/dev/vda".to_owned(),
            }),
            architecture: "x86_64".to_owned(),
            default_user: "debian".to_owned(),
        };
        let events = [v1::CaptureEvent::default(), last].map(Ok);
        Ok(Response::new(futures::stream::iter(events).boxed()))
    }

    type FetchStream = futures::stream::BoxStream<'static, Result<v1::FetchEvent, Status>>;

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        use futures::StreamExt as _;
        use sha2::Digest as _;
        let v1::FetchRequest { url, sha256, role: _, sha512 } = request.into_inner();
        let mut world = self.lock();
        world.calls.push("Images.Fetch");
        let event = |received_bytes, done| v1::FetchEvent {
            received_bytes,
            total_bytes: Some(100),
            done,
            ..v1::FetchEvent::default()
        };
        let first = futures::stream::once(async move { Ok(event(50, false)) });
        if world.fetch_hangs {
            return Ok(Response::new(first.chain(futures::stream::pending()).boxed()));
        }
        if let Some(left) = world.fetches_break.checked_sub(1) {
            world.fetches_break = left;
            let broken = futures::stream::iter([Err(Status::unavailable("it broke"))]);
            return Ok(Response::new(first.chain(broken).boxed()));
        }
        let Some(bytes) = world.remote.get(&url).cloned() else {
            let problem = Problem::new(Reason::FailedPrecondition, "it answers 404 Not Found");
            return Err(refused(problem.at("url")));
        };
        let digest = hex::encode(sha2::Sha256::digest(&bytes));
        let by_sha512 = hex::encode(sha2::Sha512::digest(&bytes)) == sha512;
        if digest != sha256 && !by_sha512 {
            let field = if sha512.is_empty() { "sha256" } else { "sha512" };
            return Err(refused(Problem::invalid(field, "the digest is another one")));
        }
        world.blobs.insert(digest.clone(), bytes);
        let last = v1::FetchEvent { sha256: digest, ..event(100, true) };
        let last = futures::stream::iter([Ok(last)]);
        Ok(Response::new(first.chain(last).boxed()))
    }

    /// Of what `remote` has at the list's URL.
    async fn find_checksum(
        &self,
        request: Request<v1::FindChecksumRequest>,
    ) -> Result<Response<v1::FindChecksumResponse>, Status> {
        let v1::FindChecksumRequest { url, file_name } = request.into_inner();
        let mut world = self.lock();
        world.calls.push("Images.FindChecksum");
        let Some(bytes) = world.remote.get(&url) else {
            let problem = Problem::new(Reason::FailedPrecondition, "it answers 404 Not Found");
            return Err(refused(problem.at("url")));
        };
        let found = weft_model::find_checksum(&String::from_utf8_lossy(bytes), &file_name);
        let found = found.map_err(|error| refused(Problem::invalid("url", error.to_string())))?;
        let (sha256, sha512) = found.to_fields();
        Ok(Response::new(v1::FindChecksumResponse { sha256, sha512 }))
    }

    type UnpackStream = futures::stream::BoxStream<'static, Result<v1::UnpackEvent, Status>>;

    async fn unpack(
        &self,
        request: Request<v1::UnpackRequest>,
    ) -> Result<Response<Self::UnpackStream>, Status> {
        use futures::StreamExt as _;
        let unpacked_sha256 = request.into_inner().sha256;
        let last = v1::UnpackEvent { done: true, unpacked_sha256, ..v1::UnpackEvent::default() };
        Ok(Response::new(futures::stream::iter([Ok(last)]).boxed()))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        use sha2::Digest as _;
        let mut chunks = request.into_inner();
        let mut first: Option<v1::UploadRequest> = None;
        let mut offset = 0;
        while let Some(chunk) = chunks.message().await? {
            if first.is_none() {
                offset = chunk.offset_bytes;
            }
            let head = first.get_or_insert_with(|| chunk.clone());
            let mut world = self.lock();
            let (breaks, elsewhere) = (world.upload_breaks_after, world.uploads_go_on_elsewhere);
            let other = world.other_run_sends.take();
            let blob = world.blobs.entry(head.sha256.clone()).or_default();
            blob.extend(other.unwrap_or_default());
            let reached = blob.len() as u64;
            if elsewhere || reached != offset {
                let message = format!("the blob has {reached} bytes, not {offset}: go on there");
                return Err(refused(Problem::new(Reason::Unavailable, message)));
            }
            offset += chunk.data.len() as u64;
            blob.extend(chunk.data);
            if breaks.is_some_and(|limit| blob.len() >= limit) {
                world.upload_breaks_after = None;
                return Err(Status::unavailable("the connection broke"));
            }
        }
        let Some(head) = first else { return Err(Status::invalid_argument("no chunk")) };
        let world = self.lock();
        let blob = &world.blobs[&head.sha256];
        if hex::encode(sha2::Sha256::digest(blob)) != head.sha256 {
            return Err(refused(Problem::invalid("disk_sha256", "the digest is another one")));
        }
        Ok(Response::new(v1::UploadResponse { size_bytes: blob.len() as u64 }))
    }

    async fn create(
        &self,
        request: Request<v1::CreateImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let v1::CreateImageRequest { context, spec } = request.into_inner();
        image_order_from_wire(spec.clone()).map_err(refused)?;
        let mut world = self.lock();
        let spec = spec.unwrap();
        let size = world.blobs.get(&spec.disk_sha256).map(Vec::len);
        let Some(size) = size else {
            return Err(refused(Problem::invalid("disk_sha256", "the blob was not uploaded")));
        };
        let metadata = match world.begin_create("Images.Create", "img-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.images, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let image = v1::Image {
            metadata: Some(metadata),
            spec: Some(spec),
            format: "raw".to_owned(),
            virtual_size_bytes: (size as u64).next_multiple_of(512),
            unpacked_sha256: None,
        };
        world.images.insert(id, image.clone());
        Ok(Response::new(image))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Image>, Status> {
        get(&self.lock().images, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::ImageList>, Status> {
        let mut world = self.lock();
        world.calls.push("Images.BatchGet");
        let items = batch(&world.images, &request.into_inner().ids);
        Ok(Response::new(v1::ImageList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ImageList>, Status> {
        let wanted = request.into_inner();
        let fits = |image: &&v1::Image| {
            let (spec, metadata) = (image.spec.as_ref().unwrap(), image.metadata.as_ref().unwrap());
            let tags = wanted.tags.iter().all(|(key, value)| metadata.tags.get(key) == Some(value));
            tags && (wanted.name.is_empty() || spec.name == wanted.name)
        };
        let items = self.lock().images.values().filter(fits).cloned().collect();
        Ok(Response::new(v1::ImageList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let v1::UpdateImageRequest { context, spec } = request.into_inner();
        image_order_from_wire(spec.clone()).map_err(refused)?;
        let (context, spec) = (context.unwrap(), spec.unwrap());
        let mut world = self.lock();
        world.calls.push("Images.Update");
        let image = world.images.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        let old = image.spec.as_ref().unwrap();
        if (&old.disk_sha256, &old.kernel, &old.boot_mode)
            != (&spec.disk_sha256, &spec.kernel, &spec.boot_mode)
        {
            return Err(refused(Problem::invalid("disk_sha256", "content cannot change")));
        }
        begin_update(image.metadata.as_mut().unwrap(), &context)?;
        image.spec = Some(spec);
        Ok(Response::new(image.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().images.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

#[tonic::async_trait]
impl v1::key_pairs_server::KeyPairs for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateKeyPairRequest>,
    ) -> Result<Response<v1::KeyPair>, Status> {
        let v1::CreateKeyPairRequest { context, spec } = request.into_inner();
        key_pair_spec_from_wire(spec.clone()).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("KeyPairs.Create", "key-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.key_pairs, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let wire = v1::KeyPair { metadata: Some(metadata), spec, ..Default::default() };
        let wire = key_pair_to_wire(key_pair_from_wire(wire).map_err(refused)?);
        world.key_pairs.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::KeyPair>, Status> {
        get(&self.lock().key_pairs, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::KeyPairList>, Status> {
        let mut world = self.lock();
        world.calls.push("KeyPairs.BatchGet");
        let items = batch(&world.key_pairs, &request.into_inner().ids);
        Ok(Response::new(v1::KeyPairList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::KeyPairList>, Status> {
        let items = named(&self.lock().key_pairs, &request.into_inner(), |one| {
            Some(&one.spec.as_ref()?.key_name)
        });
        Ok(Response::new(v1::KeyPairList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateKeyPairRequest>,
    ) -> Result<Response<v1::KeyPair>, Status> {
        let v1::UpdateKeyPairRequest { context, spec } = request.into_inner();
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("KeyPairs.Update");
        let wire = world.key_pairs.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        if wire.spec != spec {
            return Err(refused(Problem::invalid("public_key", "only tags can change")));
        }
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        let wire = wire.clone();
        world.loses_answer()?;
        Ok(Response::new(wire))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        let mut world = self.lock();
        world.begin_delete("KeyPairs.Delete")?;
        world.key_pairs.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
