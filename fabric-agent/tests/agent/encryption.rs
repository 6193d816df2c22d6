//! Encrypted volumes: what is refused without the root key, what becomes of them with another one, and
//! that their secrets are nowhere in the clear.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{
    Agent, Api, context, delete, eventually, get, id_of, ok, refusal, refused, stop_request,
    update_context,
};

/// A root key's file.
pub(crate) fn make_key(path: &Path) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fabric-agent"));
    let output = command.arg("volume-key").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

pub(crate) fn flag(path: &Path) -> String {
    format!("--volume-key-file={}", path.display())
}

fn encrypted() -> v1::VolumeSpec {
    v1::VolumeSpec { size_gib: 1, encrypted: Some(true), ..Default::default() }
}

fn plain() -> v1::VolumeSpec {
    v1::VolumeSpec { size_gib: 1, ..Default::default() }
}

fn from(snapshot_id: &str) -> v1::VolumeSpec {
    v1::VolumeSpec { snapshot_id: Some(snapshot_id.to_owned()), ..plain() }
}

async fn made(api: &Api, spec: v1::VolumeSpec) -> v1::Volume {
    let volume = ok(api.volume(spec).await);
    assert_eq!(volume.state, "available", "{:?}", volume.reason);
    volume
}

fn of(volume_id: &str) -> v1::CreateSnapshotRequest {
    let spec = v1::SnapshotSpec { volume_id: volume_id.to_owned(), ..Default::default() };
    v1::CreateSnapshotRequest { context: context(), spec: Some(spec) }
}

async fn completed(api: &Api, volume_id: &str) -> v1::Snapshot {
    let id = id_of(ok(api.snapshots.clone().create(of(volume_id)).await).metadata.as_ref());
    eventually("the snapshot is made", async || {
        let snapshot = ok(api.snapshots.clone().get(get(&id)).await);
        (snapshot.state == "completed").then_some(snapshot)
    })
    .await
}

fn grown(volume: &v1::Volume, size_gib: u32) -> v1::UpdateVolumeRequest {
    let spec = v1::VolumeSpec { size_gib, ..volume.spec.clone().unwrap() };
    v1::UpdateVolumeRequest { context: update_context(volume.metadata.as_ref()), spec: Some(spec) }
}

/// What the host says of itself.
async fn encrypts_volumes(api: &Api) -> Option<bool> {
    ok(api.hosts.clone().list(v1::ListRequest::default()).await).items[0].encrypts_volumes
}

/// What the doctor says of volumes that cannot be opened.
async fn locked(api: &Api) -> Vec<v1::DoctorCheck> {
    let mut checks = ok(api.hosts.clone().doctor(v1::DoctorRequest {}).await).checks;
    checks.retain(|check| check.name == "volume keys");
    checks
}

/// An agent with a root key, and where that is.
async fn with_key() -> (Agent, PathBuf) {
    let mut agent = Agent::not_started(&[]);
    let key = agent.directory().join("volume.key");
    make_key(&key);
    agent.set_flags(&[&flag(&key)]);
    agent.start_again().await;
    (agent, key)
}

/// The files below `dir` that have the text.
fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(bytes) = std::fs::read(&path)
                && bytes.windows(text.len()).any(|window| window == text.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}

/// What is stored of the volume's secret, as JSON.
fn stored_secret(agent: &Agent, volume_id: &str) -> serde_json::Value {
    let file = rusqlite::Connection::open(agent.state_dir().join("weft.db")).unwrap();
    file.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    let names = "SELECT name FROM sqlite_master WHERE type = 'table'";
    let mut statement = file.prepare(names).unwrap();
    let tables = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let tables: Vec<String> = tables.map(Result::unwrap).collect();
    for table in tables {
        let Ok(mut rows) = file.prepare(&format!("SELECT * FROM \"{table}\"")) else { continue };
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                let Ok(value) = row.get_ref(column) else { continue };
                let Ok(bytes) = value.as_bytes() else { continue };
                let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { continue };
                if json["id"] == volume_id && json["spec"]["secret"].is_object() {
                    return json["spec"]["secret"].clone();
                }
            }
        }
    }
    panic!("nothing is stored of the secret of {volume_id}");
}

/// Opens what is stored by the root key in the file: written anew, from what the documentation says.
fn opened(wrapped: &serde_json::Value, key: &Path) -> String {
    let bytes = |text: &str| hex::decode(text.trim()).unwrap();
    let part = |name: &str| bytes(wrapped[name].as_str().unwrap());
    let key = bytes(&std::fs::read_to_string(key).unwrap());
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let bound = [b"weft volume secret 1".as_slice(), &part("id")].concat();
    let nonce = Nonce::try_assume_unique_for_key(&part("nonce")).unwrap();
    let mut sealed = part("sealed");
    let text = key.open_in_place(nonce, Aad::from(bound), &mut sealed).unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

#[tokio::test]
async fn without_a_root_key_no_volume_is_encrypted_and_the_flag_is_named() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let problem = refusal(api.volume(encrypted()).await);
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    assert_eq!(problem.field.as_deref(), Some("encrypted"));
    assert!(problem.remedy.unwrap().contains("--volume-key-file"));
    assert_eq!(encrypts_volumes(&api).await, Some(false), "plans go by it");
    let volume = made(&api, v1::VolumeSpec { encrypted: Some(false), ..plain() }).await;
    assert_eq!(volume.spec.unwrap().encrypted, Some(false));
}

#[tokio::test]
async fn an_encrypted_volume_lives_as_any_other_and_its_secret_is_nowhere_in_the_clear() {
    let (mut agent, key) = with_key().await;
    let api = agent.api().await;
    assert_eq!(encrypts_volumes(&api).await, Some(true), "plans go by it");
    let first = made(&api, encrypted()).await;
    assert_eq!(first.spec.as_ref().unwrap().encrypted, Some(true));
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    let vol = id_of(first.metadata.as_ref());
    ok(api.attach_volume(&web, &vol, false).await);
    let snapshot = completed(&api, &vol).await;
    assert!(snapshot.encrypted);
    let snapshot_id = id_of(snapshot.metadata.as_ref());
    let now = ok(api.volumes.clone().get(get(&vol)).await);
    ok(api.volumes.clone().update(grown(&now, 2)).await);
    let copy = made(&api, from(&snapshot_id)).await;
    assert_eq!(copy.spec.as_ref().unwrap().encrypted, Some(true));
    ok(api.instances.clone().stop(stop_request(&web)).await);
    api.wait(&web, Until::Stopped(true)).await.unwrap();
    completed(&api, &vol).await;
    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    ok(api.instances.clone().start(get(&web)).await);
    api.wait(&web, Until::WaitFor("ssh".to_owned())).await.unwrap();
    let copy_id = id_of(copy.metadata.as_ref());
    ok(api.attach_volume(&web, &copy_id, false).await);

    let wrapped = stored_secret(&agent, &vol);
    assert_eq!(stored_secret(&agent, &copy_id), wrapped, "they lie over one layer");
    let other = id_of(made(&api, encrypted()).await.metadata.as_ref());
    assert_ne!(stored_secret(&agent, &other)["sealed"], wrapped["sealed"]);
    let secret = opened(&wrapped, &key);
    assert_eq!(secret.len(), 64);
    let root = std::fs::read_to_string(&key).unwrap().trim().to_owned();
    let look = |text: &str| {
        let mut files = files_with(agent.directory(), text);
        files.retain(|file| *file != key);
        files
    };
    // The look can find something: the wrapped form is there.
    assert!(!look(wrapped["sealed"].as_str().unwrap()).is_empty());
    assert_eq!(look(&secret), Vec::<PathBuf>::new());
    assert_eq!(look(&root), Vec::<PathBuf>::new());
    let log = agent.log();
    assert!(log.contains(wrapped["root_key"].as_str().unwrap()), "{log}");

    ok(api.volume_attachments.clone().delete(delete(&format!("{web}/{vol}"))).await);
    ok(api.volumes.clone().delete(delete(&vol)).await);
}

#[tokio::test]
async fn a_volume_is_encrypted_as_what_it_is_made_from_and_images_are_not() {
    let (agent, _key) = with_key().await;
    let api = agent.api().await;
    let secret = id_of(
        completed(&api, &id_of(made(&api, encrypted()).await.metadata.as_ref()))
            .await
            .metadata
            .as_ref(),
    );
    let open = completed(&api, &id_of(made(&api, plain()).await.metadata.as_ref())).await;
    assert!(!open.encrypted);
    let open = id_of(open.metadata.as_ref());
    let not = v1::VolumeSpec { encrypted: Some(false), ..from(&secret) };
    refused(api.volume(not).await, Reason::InvalidArgument, "encrypted");
    let too = v1::VolumeSpec { encrypted: Some(true), ..from(&open) };
    refused(api.volume(too).await, Reason::InvalidArgument, "encrypted");
    let image_id = Some(api.image_id().await);
    let of_image = v1::VolumeSpec { image_id, ..encrypted() };
    refused(api.volume(of_image).await, Reason::InvalidArgument, "encrypted");

    let volume = made(&api, encrypted()).await;
    let spec = v1::VolumeSpec { encrypted: Some(false), ..volume.spec.clone().unwrap() };
    let request = v1::UpdateVolumeRequest { spec: Some(spec), ..grown(&volume, 1) };
    refused(api.volumes.clone().update(request).await, Reason::InvalidArgument, "encrypted");

    let source = Some(v1::capture_request::Source::SnapshotId(secret));
    let request =
        v1::CaptureRequest { client_token: "token".to_owned(), source, ..Default::default() };
    let mut events = ok(api.images.clone().capture(request).await);
    let problem = loop {
        match events.message().await {
            Ok(event) => assert!(!event.unwrap().done, "it was captured"),
            Err(status) => break weft_proto::problem_from_status(&status),
        }
    };
    assert!(problem.message.contains("is encrypted, and an image is not"), "{problem:?}");
}

#[tokio::test]
async fn with_another_root_key_or_none_encrypted_volumes_are_locked_and_nothing_else_suffers() {
    let (mut agent, key) = with_key().await;
    let api = agent.api().await;
    let volume = made(&api, encrypted()).await;
    let id = id_of(volume.metadata.as_ref());
    let spare = id_of(made(&api, encrypted()).await.metadata.as_ref());
    let snapshot = id_of(completed(&api, &spare).await.metadata.as_ref());
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    ok(api.attach_volume(&web, &id, false).await);
    let wrapped = stored_secret(&agent, &id);
    let needed = wrapped["root_key"].as_str().unwrap().to_owned();
    let other = agent.directory().join("other.key");
    make_key(&other);

    for (flags, says) in [(Vec::new(), "has none"), (vec![flag(&other)], "has the key")] {
        agent.kill();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        agent.set_flags(&flags);
        agent.start_again().await;
        let api = agent.api().await;
        let told = eventually("it is told", async || {
            ok(api.volumes.clone().get(get(&spare)).await).reason
        })
        .await;
        assert!(told.contains(says) && told.contains(&needed), "{told}");
        assert!(told.contains("--volume-key-file"), "{told}");
        let checks = locked(&api).await;
        let [check] = checks.as_slice() else { panic!("{checks:?}") };
        assert_eq!(check.result, "failed");
        let finding = &check.finding;
        assert!(finding.contains(says) && finding.contains(&needed), "{finding}");
        assert!(finding.contains("and 1 more"), "{finding}");
        assert!(check.remedy.contains("--volume-key-file"), "{check:?}");
        let locked = Reason::FailedPrecondition;
        let attaches = api.attach_volume(&web, &spare, false).await;
        let text = refused(attaches, locked, "volume_id");
        assert!(text.contains(says), "{text}");
        refused(api.snapshots.clone().create(of(&spare)).await, locked, "volume_id");
        refused(api.volume(from(&snapshot)).await, locked, "snapshot_id");
        let now = ok(api.volumes.clone().get(get(&spare)).await);
        refused(api.volumes.clone().update(grown(&now, 2)).await, locked, "size_gib");
        // Its guest runs on, and is not started again.
        let instance = ok(api.instances.clone().get(get(&web)).await);
        assert_eq!(instance.status.unwrap().state, "running");
        let reboots = refusal(api.instances.clone().reboot(get(&web)).await);
        assert!(reboots.message.contains(&id) && reboots.message.contains(says), "{reboots:?}");
        // Others are as they were.
        let open = id_of(made(&api, plain()).await.metadata.as_ref());
        ok(api.attach_volume(&web, &open, false).await);
        ok(api.volume_attachments.clone().delete(delete(&format!("{web}/{open}"))).await);
        ok(api.volumes.clone().delete(delete(&open)).await);
    }

    agent.kill();
    agent.set_flags(&[&flag(&key)]);
    agent.start_again().await;
    let api = agent.api().await;
    assert_eq!(locked(&api).await, []);
    ok(api.instances.clone().reboot(get(&web)).await);
    ok(api.attach_volume(&web, &spare, false).await);
    let now = ok(api.volumes.clone().get(get(&spare)).await);
    assert_eq!((now.state.as_str(), now.reason), ("in_use", None));
}

#[tokio::test]
async fn a_locked_volume_can_be_let_go_of_and_removed() {
    let (mut agent, _key) = with_key().await;
    let api = agent.api().await;
    let id = id_of(made(&api, encrypted()).await.metadata.as_ref());
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    ok(api.attach_volume(&web, &id, false).await);
    agent.kill();
    agent.set_flags(&[]);
    agent.start_again().await;
    let api = agent.api().await;
    ok(api.volume_attachments.clone().delete(delete(&format!("{web}/{id}"))).await);
    ok(api.volumes.clone().delete(delete(&id)).await);
    assert_eq!(agent.things("volume").len(), 0);
}

#[tokio::test]
async fn an_agent_does_not_start_with_a_key_that_others_may_read() {
    let (mut agent, key) = with_key().await;
    agent.kill();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = agent.serve_command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--volume-key-file") && said.contains("chmod 0600"), "{said}");
}

#[tokio::test]
async fn a_snapshot_that_waits_when_the_key_is_lost_keeps_nobody_from_the_volume() {
    let (mut agent, _key) = with_key().await;
    let api = agent.api().await;
    let alone = id_of(made(&api, encrypted()).await.metadata.as_ref());
    let used = id_of(made(&api, encrypted()).await.metadata.as_ref());
    let web = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    ok(api.attach_volume(&web, &used, false).await);
    let order = r#"{"orders": [{"step": "seal_volume", "fail": "not now"}]}"#;
    agent.order(order);
    let mut snapshots = Vec::new();
    for volume in [&alone, &used] {
        let snapshot = ok(api.snapshots.clone().create(of(volume)).await);
        assert_eq!(snapshot.state, "pending");
        snapshots.push(id_of(snapshot.metadata.as_ref()));
    }
    agent.kill();
    agent.order(r#"{"orders": []}"#);
    agent.set_flags(&[]);
    agent.start_again().await;
    let api = agent.api().await;
    for snapshot in &snapshots {
        let failed = eventually("it ends", async || {
            let now = ok(api.snapshots.clone().get(get(snapshot)).await);
            (now.state != "pending").then_some(now)
        })
        .await;
        assert_eq!(failed.state, "error");
        assert!(failed.reason.contains("agent has none"), "{}", failed.reason);
    }
    ok(api.volumes.clone().delete(delete(&alone)).await);
    ok(api.volume_attachments.clone().delete(delete(&format!("{web}/{used}"))).await);
    ok(api.volumes.clone().delete(delete(&used)).await);
    ok(api.instances.clone().reboot(get(&web)).await);
    api.wait(&web, Until::WaitFor("ssh".to_owned())).await.unwrap();
}
