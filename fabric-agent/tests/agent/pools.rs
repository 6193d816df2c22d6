//! Storage pools besides the state directory: whose they are, what becomes of their volumes when they
//! are missing, and that nothing is removed from what is not ours.

use std::path::PathBuf;

use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, Api, context, delete, eventually, get, ok, refused};

fn of_type(name: &str) -> v1::VolumeSpec {
    v1::VolumeSpec { size_gib: 1, r#type: Some(name.to_owned()), ..v1::VolumeSpec::default() }
}

/// A directory for the agent's pool, beside its own ones.
fn directory(agent: &Agent, name: &str) -> PathBuf {
    let dir = agent.directory().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn flag(name: &str, dir: &std::path::Path) -> String {
    format!("--pool={name}={}", dir.display())
}

/// An agent with the pool "fast", and where that is.
async fn with_fast() -> (Agent, PathBuf) {
    let mut agent = Agent::not_started(&[]);
    let dir = directory(&agent, "fast");
    agent.set_flags(&[&flag("fast", &dir)]);
    agent.start_again().await;
    (agent, dir)
}

async fn made(api: &Api, spec: v1::VolumeSpec) -> String {
    let volume = ok(api.volume(spec).await);
    assert_eq!(volume.state, "available", "{:?}", volume.reason);
    volume.metadata.unwrap().id
}

async fn snapshot(api: &Api, volume_id: &str) -> String {
    let spec = v1::SnapshotSpec { volume_id: volume_id.to_owned(), ..Default::default() };
    let request = v1::CreateSnapshotRequest { context: context(), spec: Some(spec) };
    let id = ok(api.snapshots.clone().create(request).await).metadata.unwrap().id;
    eventually("the snapshot is made", async || {
        let state = ok(api.snapshots.clone().get(get(&id)).await).state;
        (state == "completed").then_some(())
    })
    .await;
    id
}

/// The pools of what the simulated host has of a kind, sorted.
fn pools(agent: &Agent, kind: &str) -> Vec<String> {
    let things = agent.things(kind);
    let pool = |content: &serde_json::Value| match kind {
        "layer" => content.as_str().unwrap().to_owned(),
        _ => content["pool"].as_str().unwrap().to_owned(),
    };
    let mut pools: Vec<String> = things.iter().map(|(_, content)| pool(content)).collect();
    pools.sort();
    pools
}

/// What `fabric-agent serve` says where it does not start.
fn last_words(agent: &Agent, flags: &[&str]) -> String {
    let mut command = agent.serve_command();
    let output = command.args(flags).output().unwrap();
    assert!(!output.status.success(), "it started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_volume_is_in_its_pool_and_one_made_from_its_snapshot_in_another() {
    let (mut agent, dir) = with_fast().await;
    let api = agent.api().await;
    let first = made(&api, of_type("fast")).await;
    let snapshot = snapshot(&api, &first).await;
    let spec = v1::VolumeSpec { snapshot_id: Some(snapshot.clone()), ..of_type("standard") };
    let second = made(&api, spec).await;
    assert_eq!(pools(&agent, "volume"), ["fast", "standard"]);
    assert_eq!(pools(&agent, "layer"), ["fast"], "a layer is where its disk was");
    refused(api.volume(of_type("slow")).await, Reason::InvalidArgument, "type");
    let checks = ok(api.hosts.clone().doctor(v1::DoctorRequest::default()).await).checks;
    let lines: Vec<_> = checks.into_iter().filter(|check| check.name == "pool").collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].finding.starts_with(&format!("fast: {}", dir.display())), "{lines:?}");

    agent.kill();
    agent.start_again().await;
    let api = agent.api().await;
    for id in [&first, &second] {
        let there = eventually("it was looked at", async || {
            let volume = ok(api.volumes.clone().get(get(id)).await);
            (volume.state != "creating").then_some(volume.state)
        });
        assert_eq!(there.await, "available");
        ok(api.volumes.clone().delete(delete(id)).await);
    }
    ok(api.snapshots.clone().delete(delete(&snapshot)).await);
    eventually("the layer goes", async || pools(&agent, "layer").is_empty().then_some(())).await;
}

#[tokio::test]
async fn volumes_of_a_missing_pool_are_told_so_and_stay_and_others_do_not_suffer() {
    let (mut agent, dir) = with_fast().await;
    let api = agent.api().await;
    let (away, here) = (made(&api, of_type("fast")).await, made(&api, of_type("standard")).await);
    let snapshot = snapshot(&api, &away).await;
    agent.kill();
    agent.set_flags(&[]);
    agent.start_again().await;
    let api = agent.api().await;
    let told = eventually("it is told", async || {
        let volume = ok(api.volumes.clone().get(get(&away)).await);
        (volume.state == "error").then_some(volume.reason.unwrap())
    })
    .await;
    let again = format!("give it --pool fast={} again", dir.display());
    assert!(told.contains(&again), "{told}");
    let shown = async || ok(api.volumes.clone().get(get(&here)).await).state;
    eventually("the other is there", async || (shown().await == "available").then_some(())).await;
    made(&api, of_type("standard")).await;
    let refusal = refused(api.volume(of_type("fast")).await, Reason::FailedPrecondition, "type");
    assert!(refusal.contains(&again), "{refusal}");
    // What is made from its snapshot needs the pool as well.
    let from = v1::VolumeSpec { snapshot_id: Some(snapshot), ..of_type("standard") };
    let waits = ok(api.volume(from).await);
    assert_ne!(waits.state, "available");
    assert_eq!((pools(&agent, "volume").len(), pools(&agent, "layer").len()), (3, 1));

    agent.kill();
    agent.set_flags(&[&flag("fast", &dir)]);
    agent.start_again().await;
    let api = agent.api().await;
    for id in [away, here, waits.metadata.unwrap().id] {
        eventually("it is there again", async || {
            let volume = ok(api.volumes.clone().get(get(&id)).await);
            (volume.state == "available").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_alone() {
    let (mut agent, dir) = with_fast().await;
    ok(agent.api().await.volume(of_type("fast")).await);
    agent.kill();

    let other = Agent::not_started(&[]);
    let foreign = last_words(&other, &[&flag("fast", &dir)]);
    assert!(foreign.contains("filled by another agent"), "{foreign}");
    assert!(foreign.contains("help: give the pool another directory"), "{foreign}");
    let elsewhere = directory(&agent, "elsewhere");
    agent.set_flags(&[]);
    let unmounted = last_words(&agent, &[&flag("fast", &elsewhere)]);
    assert!(unmounted.contains("mount its file system"), "{unmounted}");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was made there");
    let missing = last_words(&agent, &["--pool=fast=/nonexistent"]);
    assert!(missing.contains("make it, or mount it, first"), "{missing}");
    let twice = last_words(&agent, &[&flag("fast", &dir), &flag("fast", &elsewhere)]);
    assert!(twice.contains("given twice"), "{twice}");

    // Unmounted while the agent runs: what is below is not taken for the pool.
    agent.set_flags(&[&flag("fast", &dir)]);
    agent.start_again().await;
    let mark = dir.join("store-mark.json");
    let aside = agent.directory().join("aside");
    std::fs::rename(&mark, &aside).unwrap();
    let api = agent.api().await;
    let problem = refused(api.volume(of_type("fast")).await, Reason::FailedPrecondition, "type");
    assert!(problem.contains("is not in"), "{problem}");
    made(&api, of_type("standard")).await;
    std::fs::rename(&aside, &mark).unwrap();
    made(&api, of_type("fast")).await;
}

#[tokio::test]
async fn leftovers_go_from_every_pool_that_is_ours() {
    let (mut agent, dir) = with_fast().await;
    let kept = made(&agent.api().await, of_type("fast")).await;
    agent.kill();
    let reality = rusqlite::Connection::open(agent.state_dir().join("sim-host.db")).unwrap();
    let put = |kind: &str, id: &str, content: &str| {
        let sql = "INSERT INTO things VALUES (?1, ?2, ?3)";
        reality.execute(sql, [kind, id, content]).unwrap();
    };
    let stray = r#"{"pool":"fast","size_bytes":1073741824}"#;
    put("volume", "vol-0123456789abcdef0", stray);
    put("layer", "layer-0123456789abcdef0", r#""fast""#);
    // Without the pool nothing of it is removed.
    agent.set_flags(&[]);
    agent.start_again().await;
    let api = agent.api().await;
    eventually("the sweep has been", async || {
        (ok(api.volumes.clone().get(get(&kept)).await).state == "error").then_some(())
    })
    .await;
    assert_eq!((pools(&agent, "volume").len(), pools(&agent, "layer").len()), (2, 1));
    agent.kill();
    agent.set_flags(&[&flag("fast", &dir)]);
    agent.start_again().await;
    eventually("the strays go", async || {
        (agent.things("layer").is_empty() && agent.things("volume").len() == 1).then_some(())
    })
    .await;
    assert_eq!(agent.things("volume")[0].0, kept);

    // A purge empties the pool, and leaves the directory.
    agent.end().await;
    std::fs::create_dir_all(dir.join("volumes").join(&kept)).unwrap();
    std::fs::write(dir.join("thesis.txt"), "mine").unwrap();
    let purged = agent.purge();
    assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.txt"]);
}
