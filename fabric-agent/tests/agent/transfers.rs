//! What comes to the agent, as those see it who look.

use tonic::Streaming;
use weft_fetch::testing::{Page, Site};
use weft_proto::v1;

use crate::support::{Agent, Api, eventually, ok, refusal, sha256_of};

const MIB: usize = 1 << 20;

/// What one who looks has heard.
struct Looker {
    events: Streaming<v1::TransfersEvent>,
    heard: Vec<v1::Transfer>,
}

impl Looker {
    /// After the first event, with all that is under way.
    async fn begin(api: &Api) -> Self {
        let request = v1::WatchTransfersRequest {};
        let mut events = ok(api.images.clone().watch_transfers(request).await);
        let heard = events.message().await.unwrap().unwrap().items;
        Self { events, heard }
    }

    /// Looks on until it has heard of a transfer like this.
    async fn until(&mut self, what: &str, is_it: impl Fn(&v1::Transfer) -> bool) -> v1::Transfer {
        loop {
            if let Some(found) = self.heard.iter().find(|one| is_it(one)) {
                return found.clone();
            }
            let next =
                tokio::time::timeout(std::time::Duration::from_secs(60), self.events.message());
            let event = next.await.unwrap_or_else(|_| panic!("never {what}: {:?}", self.heard));
            self.heard.extend(event.unwrap().unwrap().items);
        }
    }
}

async fn fetch(api: Api, url: String, sha256: String) -> Result<(), tonic::Status> {
    let role = "disk".to_owned();
    let request = v1::FetchRequest { url, sha256, role, ..v1::FetchRequest::default() };
    let mut events = api.images.clone().fetch(request).await?.into_inner();
    while events.message().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn whoever_looks_sees_a_download_that_somebody_else_began() {
    let (agent, site) = (Agent::start().await, Site::start().await.unwrap());
    let (disk, api) = (vec![7; 3 * MIB], agent.api().await);
    let url = site.put("/disk.raw", Page::new(disk.clone()).hangs_after(2 * MIB)) + "?token=secret";
    let mut first = Looker::begin(&api).await;
    assert_eq!(first.heard, []);
    let fetching = tokio::spawn(fetch(api.clone(), url, sha256_of(&disk)));
    let begun = first.until("begun", |one| one.received_bytes >= MIB as u64).await;
    assert_eq!((begun.way.as_str(), begun.state.as_str()), ("download", "running"));
    assert_eq!(begun.total_bytes, Some(3 * MIB as u64));
    assert!(begun.name.ends_with("/disk.raw?…"), "{}", begun.name);
    // Who comes later sees it too, and both see its end: the file itself is there now, at once.
    let mut second = Looker::begin(&api).await;
    assert_eq!(second.heard.iter().map(|one| one.id).collect::<Vec<_>>(), [begun.id]);
    site.put("/disk.raw", Page::new(disk.clone()));
    site.let_go();
    fetching.await.unwrap().unwrap();
    for looker in [&mut first, &mut second] {
        let done = looker.until("done", |one| one.id == begun.id && one.state == "done").await;
        assert_eq!((done.received_bytes, done.reason.as_str()), (3 * MIB as u64, ""));
    }
    assert_eq!(Looker::begin(&api).await.heard, [], "what has ended is no news");
}

#[tokio::test]
async fn a_download_that_fails_says_why_to_whoever_looks() {
    let (agent, site) = (Agent::start().await, Site::start().await.unwrap());
    let (disk, api) = (vec![7; MIB], agent.api().await);
    let url = site.put("/disk.raw", Page::new(disk));
    let mut looker = Looker::begin(&api).await;
    assert!(fetch(api.clone(), url, sha256_of(b"another file")).await.is_err());
    let failed = looker.until("failed", |one| one.state == "failed").await;
    assert!(failed.reason.contains("digest"), "{}", failed.reason);
}

#[tokio::test]
async fn an_upload_goes_by_the_name_that_its_sender_gives_it() {
    let agent = Agent::start().await;
    let (disk, api) = (vec![7; MIB], agent.api().await);
    let mut looker = Looker::begin(&api).await;
    let part = begin_upload(&api, &disk).await;
    let (sender, parts) = tokio::sync::mpsc::channel(1);
    let mut images = api.images.clone();
    let stream = tokio_stream::wrappers::ReceiverStream::new(parts);
    let sending = tokio::spawn(async move { images.upload(stream).await });
    sender.send(part(0..1000, "disk.raw")).await.unwrap();
    let begun = looker.until("begun", |one| one.received_bytes == 1000).await;
    assert_eq!((begun.way.as_str(), begun.name.as_str()), ("upload", "disk.raw"));
    assert_eq!(begun.total_bytes, Some(disk.len() as u64));
    // Its sender goes away.
    sending.abort();
    let broken = looker.until("broken", |one| one.state == "failed").await;
    drop(sender);
    assert!(broken.reason.contains("broke off"), "{}", broken.reason);
    // Another one goes on with it, and gives it no name.
    eventually("the rest is taken", async || images_rest(&api, part(1000..MIB, "")).await.ok())
        .await;
    let done = looker.until("done", |one| one.state == "done").await;
    assert_eq!(
        (done.name, done.received_bytes),
        (format!("sha256:{}", sha256_of(&disk)), disk.len() as u64)
    );
}

#[tokio::test]
async fn an_upload_that_ends_before_all_has_come_broke_off() {
    let agent = Agent::start().await;
    let (disk, api) = (vec![7; MIB], agent.api().await);
    let mut looker = Looker::begin(&api).await;
    let part = begin_upload(&api, &disk).await(0..1000, "disk.raw");
    let problem = refusal(api.images.clone().upload(futures::stream::iter([part])).await);
    let told = "broke off at 1000 of 1048576 bytes, which are kept: send the rest first";
    assert!(problem.message.contains(told), "{problem}");
    let broken = looker.until("broken", |one| one.state == "failed").await;
    assert_eq!(broken.reason, problem.message);
}

/// Announces `disk`; what is returned makes a part of it, of that name.
async fn begin_upload(
    api: &Api,
    disk: &[u8],
) -> impl Fn(std::ops::Range<usize>, &str) -> v1::UploadRequest {
    let (sha256, size_bytes) = (sha256_of(disk), disk.len() as u64);
    let begin = v1::BeginUploadRequest { sha256: sha256.clone(), size_bytes };
    ok(api.images.clone().begin_upload(begin).await);
    move |range, name| v1::UploadRequest {
        sha256: sha256.clone(),
        size_bytes,
        offset_bytes: range.start as u64,
        data: disk[range].to_vec(),
        name: name.to_owned(),
    }
}

async fn images_rest(api: &Api, rest: v1::UploadRequest) -> Result<(), tonic::Status> {
    let stream = futures::stream::iter([rest]);
    api.images.clone().upload(stream).await.map(drop)
}
