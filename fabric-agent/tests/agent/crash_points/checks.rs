//! Whether a host and a store are as a client wants them, no more and no less.

use std::time::Duration;

use weft_proto::v1;

use super::client::{Away, Client, GROWN, GROWN_GIB, IMAGES, ROOT_IOPS, Stage};
use crate::support::Files;

/// Bytes of disks that have grown.
const GROWN_BYTES: u64 = (GROWN_GIB as u64) << 30;
/// How long it may take; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the store, its instances' statuses and the host are as they should be at `stage`.
pub(super) async fn converged(
    files: &Files,
    client: &mut Client,
    stage: Stage,
) -> Result<(), Away> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let Err(why) = look(files, client, stage).await? else { return Ok(()) };
        assert!(tokio::time::Instant::now() < deadline, "at {stage:?}: {why}\n{}", files.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn look(
    files: &Files,
    client: &mut Client,
    stage: Stage,
) -> Result<Result<(), String>, Away> {
    let all = v1::ListRequest::default;
    let images = client.ask(async |api| api.images.clone().list(all()).await).await?.items.len();
    let keys = client.ask(async |api| api.key_pairs.clone().list(all()).await).await?.items.len();
    let groups = client.ask(async |api| api.groups.clone().list(all()).await).await?.items;
    // The default group has a rule from the start.
    let is_default = |id: &str| {
        groups.iter().any(|group| group.is_default && group.metadata.as_ref().unwrap().id == id)
    };
    let every = v1::ListSecurityGroupRulesRequest::default();
    let rules = client.ask(async |api| api.rules.clone().list(every.clone()).await).await?.items;
    let of_ours =
        |rule: &&v1::SecurityGroupRule| !is_default(&rule.spec.as_ref().unwrap().security_group_id);
    let rules = rules.iter().filter(of_ours).count();
    let groups = groups.iter().filter(|group| !group.is_default).count();
    let instances = client.ask(async |api| api.instances.clone().list(all()).await).await?.items;
    let vpcs = client.ask(async |api| api.vpcs.clone().list(all()).await).await?.items.len();
    let subnets = client.ask(async |api| api.subnets.clone().list(all()).await).await?.items.len();
    let networks = files.things("network").len();
    let snapshots = client.ask(async |api| api.snapshots.clone().list(all()).await).await?.items;
    let layers = files.things("layer").len();
    // The snapshot's, and the one that the image was made of: the disk lies over both. And those of
    // snapshots that were completed and gave way to a later one, since their client had died.
    let (more, kept, sealed) = match stage {
        Stage::Captured => (1, 1, layers >= 2),
        Stage::Stored => (0, 1, layers >= 1),
        _ => (0, 0, true),
    };
    if snapshots.len() != kept || !sealed {
        return Ok(Err(format!("layers: {layers}, snapshots: {snapshots:?}")));
    }
    let volumes = files.things("volume");
    if let Err(why) = check_volumes(&volumes, stage) {
        return Ok(Err(why));
    }
    let counts = [images, keys, groups, rules, instances.len(), vpcs, subnets, networks];
    let wanted = match stage {
        Stage::NotStarted | Stage::Absent => [0, 0, 0, 0, 0, 1, 1, 1],
        _ => [IMAGES + more, 1, 1, 1, 1, 2, 2, 2],
    };
    if counts != wanted {
        let names = "images, keys, groups, rules, instances, VPCs, subnets, networks";
        return Ok(Err(format!("{names}: {counts:?}")));
    }
    let (guests, taps) = (files.things("guest"), files.things("tap"));
    let Some(instance) = instances.first() else {
        let left = blobs(files);
        let nothing = guests.is_empty() && taps.is_empty() && left.is_empty() && layers == 0;
        return Ok(nothing.then_some(()).ok_or_else(|| format!("{guests:?} {taps:?} {left:?}")));
    };
    let (id, status) = (&instance.metadata.as_ref().unwrap().id, instance.status.as_ref().unwrap());
    assert_eq!(client.instance(), Some(id.as_str()), "another instance than the client knows");
    let (state, runs) = match stage {
        Stage::Stopped | Stage::Hibernated => ("stopped", false),
        _ => ("running", true),
    };
    let epoch = instance.assigned.as_ref().unwrap().run_epoch;
    let as_wanted = status.state == state
        && (!runs || status.epoch == epoch)
        && guests.len() == 1
        && guests[0].0 == *id
        && (guests[0].1["state"]["state"] == "running") == runs
        && guests[0].1["frozen"] == false
        && (!runs || guests[0].1["root_limits"]["iops"] == ROOT_IOPS)
        && (!runs || guests[0].1["state"]["epoch"] == epoch)
        && taps.len() == usize::from(runs)
        && (guests[0].1["memory"] == true) == (stage == Stage::Hibernated)
        && (stage != Stage::Grown || has_grown(&guests[0].1))
        && (stage != Stage::Awake || guests[0].1["booted_by"] == 1)
        && (stage != Stage::Stored || guests[0].1["root_bytes"] == GROWN_BYTES);
    Ok(as_wanted.then_some(()).ok_or_else(|| format!("{status:?} {guests:?} {taps:?}")))
}

/// To its full size, in one piece of memory, and never started again.
fn has_grown(guest: &serde_json::Value) -> bool {
    (&guest["vcpus"], &guest["memory_mib"]) == (&GROWN.0.into(), &GROWN.1.into())
        && guest["slots"].as_object().is_some_and(|slots| slots.len() == 1)
        && guest["booted_by"] == 1
}

/// One that has grown, over the layer of its snapshot; or none.
fn check_volumes(volumes: &[(String, serde_json::Value)], stage: Stage) -> Result<(), String> {
    let as_wanted = match (stage, volumes) {
        (Stage::Stored, [(_, volume)]) => volume["size_bytes"] == GROWN_BYTES,
        (Stage::Stored, _) => false,
        (_, volumes) => volumes.is_empty(),
    };
    as_wanted.then_some(()).ok_or_else(|| format!("volumes: {volumes:?}"))
}

/// Files of blobs and of uploads.
fn blobs(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![files.state_dir().join("images")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => pending.push(entry.path()),
                false => found.push(entry.path().display().to_string()),
            }
        }
    }
    found
}

/// Fails if the store of an agent that has ended holds more than a new one does: the host's
/// identity, the key of its metadata tokens, the default network, the public pool, and the tokens
/// of Creates, which are kept for a day. What was used stays in the books, but nothing is counted
/// any more.
pub(super) fn nothing_left(files: &Files, case: &str) {
    let file = rusqlite::Connection::open(files.state_dir().join("weft.db")).unwrap();
    let mut statement = file.prepare("SELECT key FROM item ORDER BY key").unwrap();
    let keys = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let keys: Vec<String> = keys.map(Result::unwrap).collect();
    let kinds: Vec<&str> = keys
        .iter()
        .filter(|key| !key.starts_with("tokens/") && !key.starts_with("usage/days/"))
        .filter(|key| *key != "usage/heartbeat")
        .map(|key| key.strip_prefix("objects/").unwrap_or(key).split('/').next().unwrap())
        .collect();
    let of_a_new_one = [
        "host",
        "metadata-key",
        "security-group-rules",
        "security-groups",
        "subnets",
        "vpcs",
        "public-pool",
    ];
    assert_eq!(kinds, of_a_new_one, "{case}: {keys:?}");
}
