//! Images: uploads that survive, content that is checked, blobs that go with their last user.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{
    Agent, Api, context, eventually, image_spec, instance_spec, ok, refusal, refused, sha256_of,
    update_context,
};

const CHUNK: usize = 64 << 10;

/// Bytes that are no known file's.
fn disk() -> Vec<u8> {
    (0..16 * CHUNK).map(|n| (n % 251) as u8).collect()
}

async fn begin(api: &Api, disk: &[u8]) -> v1::BeginUploadResponse {
    let request = v1::BeginUploadRequest { sha256: sha256_of(disk), size_bytes: disk.len() as u64 };
    ok(api.images.clone().begin_upload(request).await)
}

/// The messages that send `disk` from `offset` on.
fn chunks(disk: &[u8], offset: usize) -> Vec<v1::UploadRequest> {
    let chunk = |(n, data): (usize, &[u8])| {
        let first = n == 0;
        v1::UploadRequest {
            sha256: if first { sha256_of(disk) } else { String::new() },
            size_bytes: if first { disk.len() as u64 } else { 0 },
            offset_bytes: if first { offset as u64 } else { 0 },
            data: data.to_vec(),
            ..Default::default()
        }
    };
    disk[offset..].chunks(CHUNK).enumerate().map(chunk).collect()
}

async fn create(api: &Api, disk: &[u8]) -> Result<tonic::Response<v1::Image>, tonic::Status> {
    let spec = image_spec("disk", disk);
    api.images.clone().create(v1::CreateImageRequest { context: context(), spec }).await
}

/// Sends the first half of `disk` and leaves the stream open.
async fn send_half(agent: &Agent, disk: &[u8]) -> (Api, mpsc::Sender<v1::UploadRequest>) {
    let api = agent.api().await;
    assert_eq!(begin(&api, disk).await.offset_bytes, 0);
    let (sender, receiver) = mpsc::channel(1);
    let mut images = api.images.clone();
    tokio::spawn(async move { images.upload(ReceiverStream::new(receiver)).await });
    for chunk in chunks(disk, 0).into_iter().take(8) {
        sender.send(chunk).await.unwrap();
    }
    eventually("half of the disk has arrived", async || {
        let part = agent.state_dir().join("images").join("uploads");
        let entries = std::fs::read_dir(part).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| entry.metadata().unwrap().len()).find(|len| *len == 8 * CHUNK as u64)
    })
    .await;
    (api, sender)
}

#[tokio::test]
async fn an_upload_in_chunks_makes_an_image_once_for_all_who_have_the_same_disk() {
    let agent = Agent::start().await;
    let (api, disk) = (agent.api().await, disk());
    assert_eq!(begin(&api, &disk).await.offset_bytes, 0);
    let problem = refusal(create(&api, &disk).await);
    assert_eq!(problem.reason, Reason::FailedPrecondition, "{problem:?}");
    let sent = ok(api.images.clone().upload(futures::stream::iter(chunks(&disk, 0))).await);
    assert_eq!(sent.size_bytes, disk.len() as u64);
    let image = ok(create(&api, &disk).await);
    assert_eq!((image.format.as_str(), image.virtual_size_bytes), ("raw", disk.len() as u64));
    let again = begin(&api, &disk).await;
    assert!(again.complete, "{again:?}");
    assert_ne!(ok(create(&api, &disk).await).metadata, image.metadata);
}

#[tokio::test]
async fn an_upload_goes_on_where_a_broken_stream_left_it() {
    let agent = Agent::start().await;
    let disk = disk();
    let (first, sender) = send_half(&agent, &disk).await;
    drop((first, sender));
    let api = agent.api().await;
    let begun = begin(&api, &disk).await;
    assert_eq!((begun.offset_bytes, begun.complete), (8 * CHUNK as u64, false));
    ok(api.images.clone().upload(futures::stream::iter(chunks(&disk, 8 * CHUNK))).await);
    ok(create(&api, &disk).await);
}

#[tokio::test]
async fn an_upload_goes_on_where_a_killed_agent_left_it() {
    let mut agent = Agent::start().await;
    let disk = disk();
    let (first, sender) = send_half(&agent, &disk).await;
    agent.kill();
    drop((first, sender));
    agent.start_again().await;
    let api = agent.api().await;
    let begun = begin(&api, &disk).await;
    assert_eq!((begun.offset_bytes, begun.complete), (8 * CHUNK as u64, false));
    ok(api.images.clone().upload(futures::stream::iter(chunks(&disk, 8 * CHUNK))).await);
    ok(create(&api, &disk).await);
}

#[tokio::test]
async fn a_chunk_that_does_not_follow_on_is_refused_and_spoils_nothing() {
    let agent = Agent::start().await;
    let (api, disk) = (agent.api().await, disk());
    begin(&api, &disk).await;
    let ahead = chunks(&disk, CHUNK);
    let problem = refusal(api.images.clone().upload(futures::stream::iter(ahead)).await);
    assert!(problem.message.contains("the upload is at 0"), "{problem}");
    let few = chunks(&disk, 0).into_iter().take(3);
    let problem = refusal(api.images.clone().upload(futures::stream::iter(few)).await);
    assert!(problem.message.contains("send the rest first"), "{problem}");
    assert_eq!(begin(&api, &disk).await.offset_bytes, 3 * CHUNK as u64);
    ok(api.images.clone().upload(futures::stream::iter(chunks(&disk, 3 * CHUNK))).await);
    ok(create(&api, &disk).await);
}

#[tokio::test]
async fn bytes_with_another_digest_are_thrown_away() {
    let agent = Agent::start().await;
    let (api, disk) = (agent.api().await, disk());
    begin(&api, &disk).await;
    let mut wrong = chunks(&disk, 0);
    wrong[3].data[7] ^= 1;
    let problem = refusal(api.images.clone().upload(futures::stream::iter(wrong)).await);
    assert_eq!(problem.reason, Reason::InvalidArgument, "{problem:?}");
    assert!(problem.message.contains("have the digest"), "{problem}");
    assert_eq!(begin(&api, &disk).await.offset_bytes, 0);
    assert_eq!(refusal(create(&api, &disk).await).reason, Reason::FailedPrecondition);
}

#[tokio::test]
async fn what_is_no_disk_is_refused_with_what_it_is() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let mut backed = vec![0; 4096];
    backed[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    // The backing file's name: where, and how long.
    backed[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 104, 0, 0, 0, 8]);
    // 64 KiB clusters, 1 GiB.
    backed[20..32].copy_from_slice(&[0, 0, 0, 16, 0, 0, 0, 0, 0x40, 0, 0, 0]);
    backed[100..104].copy_from_slice(&104_u32.to_be_bytes());
    let page = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n".to_vec();
    for (bytes, word) in [(page, "HTML"), (backed, "backing file")] {
        api.upload(&bytes).await.unwrap();
        let message = refused_without_remedy(create(&api, &bytes).await);
        assert!(message.contains(word), "{message}");
    }
    let empty = v1::BeginUploadRequest { sha256: sha256_of(b""), size_bytes: 0 };
    let answer = api.images.clone().begin_upload(empty).await;
    refused(answer, Reason::InvalidArgument, "size_bytes");
    let request = v1::BeginUploadRequest { sha256: "abc".to_owned(), size_bytes: 1 };
    let answer = api.images.clone().begin_upload(request).await;
    refused(answer, Reason::InvalidArgument, "sha256");
}

fn refused_without_remedy(answer: Result<tonic::Response<v1::Image>, tonic::Status>) -> String {
    refused(answer, Reason::InvalidArgument, "source_path")
}

#[tokio::test]
async fn a_protected_image_goes_only_when_it_is_not_any_more() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image("disk").await;
    let set = async |image: &v1::Image, protected: bool| {
        let spec = v1::ImageSpec { protected, ..image.spec.clone().unwrap() };
        let context = update_context(image.metadata.as_ref());
        ok(api.images.clone().update(v1::UpdateImageRequest { context, spec: Some(spec) }).await)
    };
    let delete = async |image: &v1::Image| {
        let id = image.metadata.as_ref().unwrap().id.clone();
        api.images.clone().delete(v1::DeleteRequest { id }).await
    };
    let image = set(&image, true).await;
    let problem = refusal(delete(&image).await);
    assert_eq!(problem.reason, Reason::FailedPrecondition, "{problem:?}");
    assert_eq!(problem.field.as_deref(), Some("protected"));
    assert!(problem.remedy.unwrap().contains("protected = false"));
    let image = set(&image, false).await;
    ok(delete(&image).await);
}

#[tokio::test]
async fn an_image_for_another_processor_is_registered_but_not_started() {
    let agent = Agent::start().await;
    let (api, disk) = (agent.api().await, disk());
    api.upload(&disk).await.unwrap();
    let mut spec = image_spec("arm", &disk).unwrap();
    spec.architecture = "aarch64".to_owned();
    let request = v1::CreateImageRequest { context: context(), spec: Some(spec) };
    let image = ok(api.images.clone().create(request).await).metadata.unwrap().id;
    let message = refused(
        api.create(instance_spec("web", &image)).await,
        Reason::InvalidArgument,
        "image_id",
    );
    assert!(message.contains("aarch64") && message.contains("x86_64"), "{message}");
}

#[tokio::test]
async fn a_blob_goes_with_its_last_user() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let first = api.image("disk").await;
    let digest = first.spec.unwrap().disk_sha256;
    let blob = agent.state_dir().join("images/blobs/sha256").join(&digest);
    let second = api.image("disk").await.metadata.unwrap().id;
    let first = first.metadata.unwrap().id;
    let instance = api.running("web", &first).await.metadata.unwrap().id;
    let delete = async |id: &str| {
        ok(api.images.clone().delete(v1::DeleteRequest { id: id.to_owned() }).await);
    };
    // Another blob that goes shows that the sweep has been there.
    let swept = async || {
        let other = api.image("other").await;
        let path = blob.with_file_name(&other.spec.unwrap().disk_sha256);
        assert!(path.exists());
        delete(&other.metadata.unwrap().id).await;
        eventually("the sweep has been there", async || (!path.exists()).then_some(())).await;
    };
    delete(&first).await;
    swept().await;
    assert!(blob.exists(), "the second image uses it");
    delete(&second).await;
    swept().await;
    assert!(blob.exists(), "the instance uses it");
    // The instance still starts from it.
    let get = v1::GetRequest { id: instance.clone(), claim: false };
    ok(api.instances.clone().reboot(get).await);
    let ssh = v1::wait_request::Until::WaitFor("ssh".to_owned());
    api.wait(&instance, ssh).await.unwrap();
    let answer = api.create(instance_spec("web", &first)).await;
    refused(answer, Reason::NotFound, "image_id");
    api.remove(&instance).await;
    eventually("the blob is gone", async || (!blob.exists()).then_some(())).await;
}

#[tokio::test]
async fn a_blob_that_waits_for_its_image_is_not_swept() {
    let agent = Agent::start().await;
    let (api, disk) = (agent.api().await, disk());
    api.upload(&disk).await.unwrap();
    let other = api.image("other").await;
    let path = agent.state_dir().join("images/blobs/sha256").join(other.spec.unwrap().disk_sha256);
    let id = other.metadata.unwrap().id;
    ok(api.images.clone().delete(v1::DeleteRequest { id }).await);
    eventually("the sweep has been there", async || (!path.exists()).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    ok(create(&api, &disk).await);
}

#[tokio::test]
async fn a_compressed_disk_is_unpacked_and_goes_by_the_digest_of_the_file_as_it_came() {
    use std::io::Write as _;
    let agent = Agent::start().await;
    let (api, disk) = (agent.api().await, disk());
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&disk).unwrap();
    let packed = encoder.finish().unwrap();
    api.upload(&packed).await.unwrap();
    let request = v1::UnpackRequest { sha256: sha256_of(&packed) };
    let mut events = ok(api.images.clone().unpack(request).await);
    let mut last = v1::UnpackEvent::default();
    while let Some(event) = events.message().await.unwrap() {
        last = event;
    }
    assert!(last.done);
    assert_eq!(last.unpacked_sha256, sha256_of(&disk));
    let image = ok(create(&api, &packed).await);
    assert_eq!(image.spec.unwrap().disk_sha256, sha256_of(&packed));
    assert_eq!(image.unpacked_sha256, Some(sha256_of(&disk)));
    assert_eq!((image.format.as_str(), image.virtual_size_bytes), ("raw", disk.len() as u64));
    // What nobody needs any more goes, what instances are made of stays.
    let blobs = agent.state_dir().join("images/blobs/sha256");
    let (came, out) = (blobs.join(sha256_of(&packed)), blobs.join(sha256_of(&disk)));
    let other = api.image("other").await.metadata.unwrap().id;
    ok(api.images.clone().delete(v1::DeleteRequest { id: other }).await);
    eventually("the compressed file is gone", async || (!came.exists()).then_some(())).await;
    assert!(out.exists());
    let image = image.metadata.unwrap().id;
    api.running("web", &image).await;
}
