//! The state directory's disk is full: what was acknowledged stays, what is asked is refused in plain
//! words, and the agent goes on when there is room.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use v1::wait_request::Until;
use weft_fetch::testing::{Page, Site};
use weft_model::{Problem, Reason};
use weft_proto::{problem_from_status, v1};

use crate::support::{
    Agent, Api, context, eventually, image_spec, instance_spec, ok, refusal, sha256_of,
    update_context,
};

/// MiB that no upload may take: room for running guests' disks.
const RESERVE: u64 = 256;
const MIB: u64 = 1 << 20;
const CHUNK: usize = 64 << 10;

/// A file system of the agent's own. It is seen by this thread and what it starts, and ends with them.
struct Disk {
    ballast: PathBuf,
}

impl Disk {
    /// Of `mib` MiB; `None`, said on standard output, where there is no root.
    fn of(agent: &Agent, mib: u64) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: a disk of its own needs root");
            return None;
        }
        let directory = agent.state_dir();
        std::fs::create_dir_all(&directory).unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let size = format!("size={mib}m,mode=755");
        mount(Some("tmpfs"), &directory, Some("tmpfs"), MsFlags::empty(), Some(&*size)).unwrap();
        Some(Self { ballast: directory.join("ballast") })
    }

    /// Fills it to the last block, and gives so many bytes back.
    fn fill_but(&self, bytes: u64) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(&self.ballast).unwrap();
        for chunk in [vec![1; 1 << 20], vec![1; 4096]] {
            loop {
                match ballast.write(&chunk) {
                    Ok(written) => assert!(written > 0),
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(bytes)).unwrap();
    }

    fn free(&self) {
        File::create(&self.ballast).unwrap();
    }
}

/// That the words say what is full and what to do.
#[track_caller]
fn assert_is_plain(problem: &Problem) {
    assert_eq!(problem.reason, Reason::ResourceExhausted, "{problem:?}");
    let said = format!("{} {}", problem.message, problem.remedy.as_deref().unwrap_or_default());
    assert!(said.contains("full") || said.contains("do not fit"), "{problem:?}");
    assert!(said.contains("room") || said.contains("remove images"), "{problem:?}");
}

async fn create_key(api: &Api, name: &str) -> Result<String, Problem> {
    let created = api.key_pair(name).await.map_err(|status| problem_from_status(&status))?;
    Ok(created.into_inner().spec.unwrap().key_name)
}

async fn key_names(api: &Api) -> BTreeSet<String> {
    let items = ok(api.key_pairs.clone().list(v1::ListRequest::default()).await).items;
    items.into_iter().map(|pair| pair.spec.unwrap().key_name).collect()
}

/// Creates until it is refused: the names that were acknowledged.
async fn create_until_refused(api: &Api) -> (BTreeSet<String>, Problem) {
    let mut acknowledged = BTreeSet::new();
    for n in 0..20_000 {
        match create_key(api, &format!("key-{n}")).await {
            Ok(name) => drop(acknowledged.insert(name)),
            Err(problem) => return (acknowledged, problem),
        }
    }
    panic!("20,000 objects fit on a full disk");
}

#[tokio::test]
async fn the_store_refuses_and_loses_nothing_and_goes_on_when_there_is_room() {
    let mut agent = Agent::not_started(&[]);
    let Some(disk) = Disk::of(&agent, 64) else { return };
    agent.start_again().await;
    let api = agent.api().await;
    let old = create_key(&api, "old").await.unwrap();
    disk.fill_but(0);
    let (mut acknowledged, problem) = create_until_refused(&api).await;
    acknowledged.insert(old);
    assert_is_plain(&problem);
    assert!(problem.message.contains("nothing was changed"), "{problem:?}");
    // Again and again, while what is only looked at is answered.
    for _ in 0..3 {
        assert_is_plain(&create_key(&api, "one-more").await.unwrap_err());
        assert_eq!(key_names(&api).await, acknowledged);
    }
    // What there is may still change, and go: the store keeps room for that.
    let pairs = ok(api.key_pairs.clone().list(v1::ListRequest::default()).await).items;
    let mut old = pairs.into_iter().find(|pair| pair.spec.as_ref().unwrap().key_name == "old");
    for n in 0..300 {
        let pair = old.unwrap();
        let mut context = update_context(pair.metadata.as_ref());
        context.as_mut().unwrap().tags.insert("turn".to_owned(), n.to_string());
        let request = v1::UpdateKeyPairRequest { context, spec: pair.spec };
        old = Some(ok(api.key_pairs.clone().update(request).await));
    }
    let id = old.unwrap().metadata.unwrap().id;
    ok(api.key_pairs.clone().delete(v1::DeleteRequest { id }).await);
    acknowledged.remove("old");
    assert_eq!(key_names(&api).await, acknowledged);
    assert_is_plain(&create_key(&api, "one-more").await.unwrap_err());
    assert!(agent.is_running(), "{}", agent.log());

    disk.free();
    acknowledged.insert(create_key(&api, "one-more").await.unwrap());
    assert_eq!(key_names(&api).await, acknowledged);
    agent.kill();
    agent.start_again().await;
    assert_eq!(key_names(&agent.api().await).await, acknowledged);
}

#[tokio::test]
async fn an_agent_killed_on_a_full_disk_comes_back_with_all_that_it_had_acknowledged() {
    let mut agent = Agent::not_started(&[]);
    let Some(disk) = Disk::of(&agent, 64) else { return };
    agent.start_again().await;
    let api = agent.api().await;
    disk.fill_but(0);
    let (acknowledged, _) = create_until_refused(&api).await;
    agent.kill();
    agent.spawn();
    let socket = agent.socket();
    // Either it answers, or it says what it lacks; it destroys nothing.
    let answers = eventually("the agent has started or given up", async || {
        if agent.ended().is_some() {
            return Some(false);
        }
        tokio::net::UnixStream::connect(&socket).await.is_ok().then_some(true)
    })
    .await;
    match answers {
        true => {
            assert_eq!(key_names(&agent.api().await).await, acknowledged);
            agent.kill();
        }
        false => assert!(agent.log().contains("full"), "{}", agent.log()),
    }
    disk.free();
    agent.start_again().await;
    assert_eq!(key_names(&agent.api().await).await, acknowledged);
}

/// Bytes that are no known file's.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

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

async fn begin(api: &Api, disk: &[u8]) -> Result<v1::BeginUploadResponse, Problem> {
    let request = v1::BeginUploadRequest { sha256: sha256_of(disk), size_bytes: disk.len() as u64 };
    let begun = api.images.clone().begin_upload(request).await;
    Ok(begun.map_err(|status| problem_from_status(&status))?.into_inner())
}

async fn create_image(api: &Api, disk: &[u8]) -> v1::Image {
    let spec = image_spec("disk", disk);
    ok(api.images.clone().create(v1::CreateImageRequest { context: context(), spec }).await)
}

#[tokio::test]
async fn an_upload_that_meets_a_full_disk_is_refused_and_goes_on_where_it_was() {
    let mut agent = Agent::not_started(&[]);
    let Some(small) = Disk::of(&agent, RESERVE + 40) else { return };
    agent.start_again().await;
    let (api, disk) = (agent.api().await, bytes(16 * CHUNK));
    // More than there is room for is refused before anything is sent.
    small.fill_but(RESERVE * MIB + CHUNK as u64);
    assert_is_plain(&begin(&api, &disk).await.unwrap_err());
    small.free();

    assert_eq!(begin(&api, &disk).await.unwrap().offset_bytes, 0);
    let (sender, receiver) = mpsc::channel(1);
    let mut images = api.images.clone();
    let upload = tokio::spawn(async move { images.upload(ReceiverStream::new(receiver)).await });
    let all = chunks(&disk, 0);
    for chunk in &all[..8] {
        sender.send(chunk.clone()).await.unwrap();
    }
    let part = agent.state_dir().join("images/uploads").join(format!("{}.part", sha256_of(&disk)));
    eventually("half of it has come", async || {
        (std::fs::metadata(&part).ok()?.len() == 8 * CHUNK as u64).then_some(())
    })
    .await;
    small.fill_but(0);
    for chunk in &all[8..] {
        // It is refused in the middle, and nobody takes the rest.
        if sender.send(chunk.clone()).await.is_err() {
            break;
        }
    }
    drop(sender);
    let problem = problem_from_status(&upload.await.unwrap().unwrap_err());
    assert_is_plain(&problem);
    assert!(agent.is_running(), "{}", agent.log());

    small.free();
    let begun = begin(&api, &disk).await.unwrap();
    assert!(begun.offset_bytes >= 8 * CHUNK as u64, "{begun:?}");
    let offset = usize::try_from(begun.offset_bytes).unwrap();
    ok(api.images.clone().upload(futures::stream::iter(chunks(&disk, offset))).await);
    assert_eq!(create_image(&api, &disk).await.virtual_size_bytes, disk.len() as u64);
}

#[tokio::test]
async fn a_download_that_meets_a_full_disk_gives_its_room_back_and_comes_later() {
    let mut agent = Agent::not_started(&[]);
    let Some(small) = Disk::of(&agent, RESERVE + 40) else { return };
    agent.start_again().await;
    let (api, disk) = (agent.api().await, bytes(12 << 20));
    let site = Site::start().await.unwrap();
    // Its length is not known before it has come.
    let url = site.put("/disk.raw", Page::new(disk.clone()).no_length());
    let fetch = async || -> Result<(), Problem> {
        let request = v1::FetchRequest {
            url: url.clone(),
            sha256: sha256_of(&disk),
            role: "disk".to_owned(),
            sha512: String::new(),
        };
        let problem = |status: tonic::Status| problem_from_status(&status);
        let mut events = api.images.clone().fetch(request).await.map_err(problem)?.into_inner();
        while events.message().await.map_err(problem)?.is_some() {}
        Ok(())
    };
    for left in [RESERVE * MIB + 4 * MIB, 0] {
        small.free();
        small.fill_but(left);
        assert_is_plain(&fetch().await.unwrap_err());
        let parts = std::fs::read_dir(agent.state_dir().join("images/uploads")).unwrap().count();
        assert_eq!(parts, 0, "with {left} bytes left, a part stays behind");
    }
    assert!(agent.is_running(), "{}", agent.log());
    small.free();
    fetch().await.unwrap();
    create_image(&api, &disk).await;
}

#[tokio::test]
async fn an_instance_whose_host_has_no_room_comes_when_there_is_some() {
    let mut agent = Agent::not_started(&[]);
    let Some(small) = Disk::of(&agent, RESERVE + 40) else { return };
    agent.start_again().await;
    let api = agent.api().await;
    let disk = bytes(16 * CHUNK);
    api.upload(&disk).await.unwrap();
    let image = create_image(&api, &disk).await.metadata.unwrap().id;
    small.fill_but(0);
    let (acknowledged, _) = create_until_refused(&api).await;
    let spec = instance_spec("web", &image);
    assert_is_plain(&refusal(api.create(spec.clone()).await));
    small.free();
    let id = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&id, Until::WaitFor("running".to_owned())).await.unwrap();
    assert_eq!(key_names(&api).await, acknowledged);
}
