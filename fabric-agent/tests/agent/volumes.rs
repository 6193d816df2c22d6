//! Volumes: their records, their disks, and what becomes of them when the agent dies.

use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, Api, context, eventually, ok, refused, update_context};

fn spec(size_gib: u32) -> v1::VolumeSpec {
    v1::VolumeSpec { size_gib, ..v1::VolumeSpec::default() }
}

fn get(id: &str) -> v1::GetRequest {
    v1::GetRequest { id: id.to_owned(), claim: false }
}

fn delete(id: &str) -> v1::DeleteRequest {
    v1::DeleteRequest { id: id.to_owned() }
}

impl Api {
    pub(crate) async fn volume(
        &self,
        spec: v1::VolumeSpec,
    ) -> Result<tonic::Response<v1::Volume>, tonic::Status> {
        let request = v1::CreateVolumeRequest { context: context(), spec: Some(spec) };
        self.volumes.clone().create(request).await
    }
}

/// What the simulated host has of volumes: ids and GiB.
fn disks(agent: &Agent) -> Vec<(String, u64)> {
    let things = agent.things("volume");
    things.iter().map(|(id, it)| (id.clone(), it["size_bytes"].as_u64().unwrap() >> 30)).collect()
}

#[tokio::test]
async fn a_volume_has_its_disk_when_create_answers_and_none_when_delete_does() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let made = ok(api.volume(v1::VolumeSpec { name: Some("data".to_owned()), ..spec(20) }).await);
    let id = made.metadata.as_ref().unwrap().id.clone();
    assert!(id.starts_with("vol-"), "{id}");
    assert_eq!(made.state, "available", "{:?}", made.reason);
    assert_eq!(made.spec.as_ref().unwrap().r#type.as_deref(), Some("standard"));
    assert_eq!(disks(&agent), [(id.clone(), 20)]);

    let renamed = v1::VolumeSpec { name: Some("log".to_owned()), ..made.spec.clone().unwrap() };
    let context = update_context(made.metadata.as_ref());
    let request = v1::UpdateVolumeRequest { context, spec: Some(renamed) };
    let now = ok(api.volumes.clone().update(request).await);
    assert_eq!(now.spec.as_ref().unwrap().name.as_deref(), Some("log"));
    let by_name = v1::ListRequest { name: "log".to_owned(), ..v1::ListRequest::default() };
    assert_eq!(ok(api.volumes.clone().list(by_name).await).items.len(), 1);

    ok(api.volumes.clone().delete(delete(&id)).await);
    assert_eq!(disks(&agent), []);
    refused(api.volumes.clone().get(get(&id)).await, Reason::NotFound, "id");
}

#[tokio::test]
async fn what_a_volume_cannot_be_is_refused_at_its_field() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    for size in [0, 65_537] {
        refused(api.volume(spec(size)).await, Reason::InvalidArgument, "size_gib");
    }
    let ssd = || v1::VolumeSpec { r#type: Some("ssd".to_owned()), ..spec(1) };
    let message = refused(api.volume(ssd()).await, Reason::InvalidArgument, "type");
    assert!(message.contains("no storage pool \"ssd\""), "{message}");

    let made = ok(api.volume(spec(2)).await);
    let update = |spec| v1::UpdateVolumeRequest {
        context: update_context(made.metadata.as_ref()),
        spec: Some(spec),
    };
    let shrunk = api.volumes.clone().update(update(spec(1))).await;
    let message = refused(shrunk, Reason::InvalidArgument, "size_gib");
    assert!(message.contains("has 2 GiB and cannot shrink to 1 GiB"), "{message}");
    let moved = v1::VolumeSpec { size_gib: 2, ..ssd() };
    refused(api.volumes.clone().update(update(moved)).await, Reason::InvalidArgument, "type");
}

#[tokio::test]
async fn disks_are_what_the_store_says_after_a_kill_whatever_was_there() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let kept = ok(api.volume(spec(1)).await).metadata.unwrap().id;
    let stray = "vol-0123456789abcdef0";
    agent.kill();
    // Left by an agent that was killed, whose store never knew of it.
    let reality = rusqlite::Connection::open(agent.state_dir().join("sim-host.db")).unwrap();
    let content = r#"{"pool":"standard","size_bytes":1073741824}"#;
    let sql = "INSERT INTO things VALUES ('volume', ?1, ?2)";
    reality.execute(sql, [stray, content]).unwrap();
    drop(reality);
    agent.start_again().await;
    eventually("the stray disk goes", async || (disks(&agent).len() == 1).then_some(())).await;
    assert_eq!(disks(&agent), [(kept.clone(), 1)]);

    // A disk that is lost is told, and never made anew: what was on it would seem to be gone.
    agent.kill();
    let reality = rusqlite::Connection::open(agent.state_dir().join("sim-host.db")).unwrap();
    reality.execute("DELETE FROM things WHERE kind = 'volume'", []).unwrap();
    drop(reality);
    agent.start_again().await;
    let api = agent.api().await;
    let lost = eventually("it is told", async || {
        let volume = ok(api.volumes.clone().get(get(&kept)).await);
        (volume.state == "error").then_some(volume)
    })
    .await;
    assert!(lost.reason.unwrap().contains("its disk is missing"));
    assert_eq!(disks(&agent), []);
    ok(api.volumes.clone().delete(delete(&kept)).await);
}
