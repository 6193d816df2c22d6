//! `weft.v1.Images`.

mod superseded;

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};
use weft_images::DiskError;
use weft_model::{
    Digest, ImageContent, ImageId, ImageOrder, ImageSpec, KernelContent, Object, Problem, Reason,
    Record,
};
use weft_planner::Action;
use weft_proto::convert::{
    Revision, creation_from_wire, image_order_from_wire, image_to_wire, revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Answers, Api, captures, fetches, parse_id, refuse, transfers, unpacking};
use crate::context::Context;
use crate::creation::Outcome;
use crate::host::{HostError, UploadState};
use crate::random;
use crate::repo::{Images, Kind as _};
use crate::transfers::{Underway, Way};

/// The longest name of a file that is shown, in characters.
const MAX_NAME: usize = 200;

type ImageRecord = Record<ImageId, ImageSpec>;

fn show(record: ImageRecord) -> v1::Image {
    image_to_wire(Object::from(record))
}

pub(super) fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|e: weft_model::InvalidDigest| Problem::invalid("sha256", e.to_string()))
}

fn broken(status: Status) -> Problem {
    Problem::new(Reason::Unavailable, "the upload broke off; what has come is kept")
        .evidence(status.to_string())
}

/// The stream ended well, with less than was announced: so does that of a client that is gone, for
/// HTTP/2's CANCEL comes as the end of what it sends.
fn cut_short(offset_bytes: u64, size_bytes: u64) -> Problem {
    let message = format!(
        "the upload broke off at {offset_bytes} of {size_bytes} bytes, which are kept: send the rest \
         first"
    );
    Problem::new(Reason::Unavailable, message)
}

fn host_problem(error: HostError) -> Problem {
    error.problem()
}

async fn begin(
    context: &Context,
    request: v1::BeginUploadRequest,
) -> Result<v1::BeginUploadResponse, Problem> {
    let v1::BeginUploadRequest { sha256, size_bytes } = request;
    let digest = digest(&sha256)?;
    if size_bytes == 0 {
        return Err(Problem::invalid("size_bytes", "the file is empty")
            .remedy("an image has at least one byte"));
    }
    context.reconciler.pins.keep([digest]).await;
    let action = Action::BeginUpload { digest, size_bytes: Some(size_bytes) };
    context.host.apply(&action).await.map_err(host_problem)?;
    Ok(match context.host.upload_state(&digest).await.map_err(host_problem)? {
        UploadState::Complete => {
            v1::BeginUploadResponse { offset_bytes: size_bytes, complete: true }
        }
        UploadState::Partial { offset_bytes } => {
            v1::BeginUploadResponse { offset_bytes, complete: false }
        }
    })
}

async fn upload(
    context: &Context,
    mut chunks: Streaming<v1::UploadRequest>,
) -> Result<v1::UploadResponse, Problem> {
    let first = chunks.message().await.map_err(broken)?;
    let Some(v1::UploadRequest { sha256, size_bytes, offset_bytes, data, name }) = first else {
        return Err(Problem::invalid("data", "the upload has no message"));
    };
    let digest = digest(&sha256)?;
    let name = match name.is_empty() {
        true => format!("sha256:{digest}"),
        false => name.chars().take(MAX_NAME).collect(),
    };
    let underway = context.transfers.begin(Way::Upload, name, offset_bytes, Some(size_bytes));
    let received = receive(context, &underway, digest, size_bytes, offset_bytes, data, chunks);
    let outcome = received.await;
    underway.end(&outcome);
    outcome
}

async fn receive(
    context: &Context,
    underway: &Underway,
    digest: Digest,
    size_bytes: u64,
    offset_bytes: u64,
    data: Vec<u8>,
    mut chunks: Streaming<v1::UploadRequest>,
) -> Result<v1::UploadResponse, Problem> {
    let mut offset = offset_bytes;
    let mut next = Some(data);
    while let Some(data) = next {
        if !data.is_empty() {
            let length = data.len() as u64;
            let action = Action::AppendUpload { digest, offset_bytes: offset, data };
            context.host.apply(&action).await.map_err(host_problem)?;
            offset += length;
            underway.reached(offset, Some(size_bytes));
        }
        next = chunks.message().await.map_err(broken)?.map(|chunk| chunk.data);
    }
    if offset < size_bytes {
        return Err(cut_short(offset, size_bytes));
    }
    context.reconciler.pins.keep([digest]).await;
    let action = Action::FinishUpload { digest, size_bytes, sha512: None };
    context.host.apply(&action).await.map_err(host_problem)?;
    Ok(v1::UploadResponse { size_bytes })
}

/// The agent does not have a blob (any more) that an image is to be made of. The field is the disk's
/// also where it is a kernel's: the client gives all of them in the same way.
pub(super) fn not_there(digest: Digest) -> Problem {
    let message = format!("the agent does not have the file {digest} that the image is made of");
    Problem::new(Reason::FailedPrecondition, message)
        .at("disk_sha256")
        .remedy("apply again: what the agent does not have is uploaded, or downloaded, then")
}

/// What an image is made of.
fn blobs_of(order: &ImageOrder, disk: Digest) -> Vec<Digest> {
    order.kernel.iter().flat_map(KernelContent::digests).chain([disk]).collect()
}

/// Reads what the blobs say of themselves; they are kept.
async fn content(
    context: &Context,
    order: &ImageOrder,
    disk: Digest,
) -> Result<ImageContent, Problem> {
    let disk_digest = disk;
    let present = context.host.blobs().await.map_err(host_problem)?;
    for digest in blobs_of(order, disk_digest) {
        if !present.contains_key(&digest) {
            return Err(not_there(digest));
        }
    }
    let disk = context.host.inspect_disk(&disk_digest).await;
    let disk = disk.map_err(|error| {
        let problem = error.problem().at("source_path");
        match error.cause() {
            Some(DiskError::Damaged { .. }) => problem.remedy(
                "use another copy; where the file can be trusted, `qemu-img convert -O qcow2 FILE NEW.qcow2` makes a sound one",
            ),
            _ => problem,
        }
    })?;
    if let Some(kernel) = &order.kernel {
        let inspected = context.host.inspect_kernel(&kernel.kernel).await;
        inspected.map_err(|error| error.problem().at("kernel"))?;
    }
    Ok(ImageContent {
        disk: disk_digest,
        format: disk.format,
        virtual_size_bytes: disk.virtual_size_bytes,
        boot_mode: order.boot_mode,
        kernel: order.kernel.clone(),
    })
}

fn spec(order: ImageOrder, content: ImageContent) -> ImageSpec {
    ImageSpec {
        name: order.name,
        architecture: order.architecture,
        default_user: order.default_user,
        min_disk_gib: order.min_disk_gib,
        min_memory_mib: order.min_memory_mib,
        protected: order.protected,
        deprecated: order.deprecated,
        unpacked_from: (content.disk != order.disk).then_some(order.disk),
        captured_from: order.captured_from,
        content,
    }
}

async fn create(
    context: &Context,
    request: v1::CreateImageRequest,
) -> Result<ImageRecord, Problem> {
    let v1::CreateImageRequest { context: creation, spec: wire } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = wire.as_ref().map(v1::ImageSpec::encode_to_vec).unwrap_or_default();
    let order = image_order_from_wire(wire)?;
    let hash = match context.known::<Images>(&bytes, &creation).await? {
        Outcome::Known(record) => {
            // Its client may have asked for them before it asked for the image, once more.
            let blobs = crate::reconcile::digests(&record.spec.content);
            blobs.iter().for_each(|digest| context.reconciler.pins.unpin(digest));
            return Ok(record);
        }
        Outcome::New(content) => content,
    };
    let disk = unpacking::unpacked(context, order.disk).await?;
    let blobs = blobs_of(&order, disk);
    context.reconciler.pins.keep(blobs.iter().copied()).await;
    let content = content(context, &order, disk).await?;
    let order_disk = order.disk;
    let spec = spec(order, content);
    superseded::remove(context, &spec).await?;
    let id = Images::new_id(random::bytes(), &spec);
    let record = context.new_record::<Images>(id, spec, &creation, &hash);
    context.store_new::<Images>(&record, &creation, &hash, Txn::new()).await?;
    // The image itself keeps them now, and nobody the file that the disk was packed in.
    blobs.iter().chain([&order_disk]).for_each(|digest| context.reconciler.pins.unpin(digest));
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateImageRequest,
) -> Result<ImageRecord, Problem> {
    let v1::UpdateImageRequest { context: update, spec: wire } = request;
    let update: Revision<ImageId> = revision_from_wire(update)?;
    let order = image_order_from_wire(wire)?;
    let _turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<Images>(&update).await?;
    let old = &before.value.spec;
    for (field, changed) in [
        ("source_path", order.disk != old.source_digest()),
        ("boot_mode", order.boot_mode != old.content.boot_mode),
        ("kernel", order.kernel != old.content.kernel),
        ("architecture", order.architecture != old.architecture),
    ] {
        if changed {
            return Err(Problem::invalid(field, "the content of an image cannot change")
                .remedy("replace the image"));
        }
    }
    let captured_from = old.captured_from.clone();
    let record = ImageRecord {
        spec: ImageSpec { captured_from, ..spec(order, old.content.clone()) },
        tags: update.tags,
        client_data: update.client_data,
        ..before.value.clone()
    };
    context.store_update::<Images>(before, record, Txn::new()).await
}

async fn delete(context: &Context, id: &ImageId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<Images>(id).await?;
    stored.value.spec.check_unprotected()?;
    context.remove::<Images>(&stored, Txn::new()).await
}

#[tonic::async_trait]
impl v1::images_server::Images for Api {
    async fn begin_upload(
        &self,
        request: Request<v1::BeginUploadRequest>,
    ) -> Result<Response<v1::BeginUploadResponse>, Status> {
        let answer = begin(&self.context, request.into_inner()).await.map_err(refuse)?;
        Ok(Response::new(answer))
    }

    type CaptureStream = Answers<v1::CaptureEvent>;

    async fn capture(
        &self,
        request: Request<v1::CaptureRequest>,
    ) -> Result<Response<Self::CaptureStream>, Status> {
        captures::start(&self.context, request.into_inner()).map_err(refuse)
    }

    type WatchTransfersStream = Answers<v1::TransfersEvent>;

    async fn watch_transfers(
        &self,
        _: Request<v1::WatchTransfersRequest>,
    ) -> Result<Response<Self::WatchTransfersStream>, Status> {
        Ok(transfers::watch(&self.context))
    }

    type FetchStream = Answers<v1::FetchEvent>;

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        fetches::fetch(&self.context, request.into_inner()).map_err(refuse)
    }

    async fn find_checksum(
        &self,
        request: Request<v1::FindChecksumRequest>,
    ) -> Result<Response<v1::FindChecksumResponse>, Status> {
        let answer = fetches::find_checksum(&self.context, request.into_inner()).await;
        answer.map(Response::new).map_err(refuse)
    }

    type UnpackStream = Answers<v1::UnpackEvent>;

    async fn unpack(
        &self,
        request: Request<v1::UnpackRequest>,
    ) -> Result<Response<Self::UnpackStream>, Status> {
        unpacking::unpack(Arc::clone(&self.context), request.into_inner()).map_err(refuse)
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let answer = upload(&self.context, request.into_inner()).await.map_err(refuse)?;
        Ok(Response::new(answer))
    }

    async fn create(
        &self,
        request: Request<v1::CreateImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Image>, Status> {
        self.get_one::<Images, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::ImageList>, Status> {
        let items = self.get_many::<Images, _>(request, show).await?;
        Ok(Response::new(v1::ImageList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ImageList>, Status> {
        let items = self.get_listed::<Images, _>(request, |spec| &spec.name, show).await?;
        Ok(Response::new(v1::ImageList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
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
