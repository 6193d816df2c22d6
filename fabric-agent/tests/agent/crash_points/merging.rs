//! The agent dies at each point of a merge, which no client is waiting for.

use futures::{StreamExt as _, stream};
use v1::wait_request::Until;
use weft_proto::v1;

use super::{AT_A_TIME, dies, program};
use crate::layer_merges::{forget, of_instance, snapshots, volume};
use crate::support::{Agent, delete, eventually, get, id_of, ok};

/// What is left when all is merged: a snapshot with all that is below it, over which an instance lies, and
/// a volume that was made from it.
const LAYERS: usize = 1;

struct Known {
    instance: String,
    volume: String,
    kept: String,
}

/// An agent that died before it wrote down what it was about to merge.
async fn base() -> Option<(Agent, Known)> {
    let mut agent = Agent::not_started(&[]);
    agent.use_program(&program()?);
    agent.set_environment(&[("WEFT_CRASH_AT", "store.merges.create.before")]);
    agent.start_again().await;
    let api = agent.api().await;
    let instance = id_of(api.running("web", &api.image_id().await).await.metadata.as_ref());
    let daily = snapshots(&api, &of_instance(&instance), 8).await;
    let kept = daily[7].clone();
    let volume = volume(&api, Some(kept.clone())).await;
    ok(api.attach_volume(&instance, &volume, false).await);
    forget(&api, &daily[..6]).await;
    // With the seventh all eight layers may be one. The answer may not come any more.
    let _ = api.snapshots.clone().delete(delete(&daily[6])).await;
    dies(&mut agent).await;
    Some((agent, Known { instance, volume, kept }))
}

/// Waits until all is merged, whether the agent dies or not; whether it did.
async fn merged(agent: &mut Agent) -> bool {
    let files = agent.files();
    let all = async || {
        eventually("all is merged", async || {
            let layers = files.things("layer").len();
            (layers == LAYERS && files.log().contains("done with merging")).then_some(())
        })
        .await;
    };
    tokio::select! {
        () = all() => false,
        _ = dies(agent) => true,
    }
}

/// The disks are what they were, and nothing is left of them when they go.
async fn works(agent: &mut Agent, known: &Known) {
    let api = agent.api().await;
    let id = &known.instance;
    // The simulated host refuses a guest over other layers than its disks were sealed into.
    ok(api.instances.clone().reboot(get(id)).await);
    api.wait(id, Until::WaitFor("ssh".to_owned())).await.unwrap();
    let copy = volume(&api, Some(known.kept.clone())).await;
    ok(api.attach_volume(id, &copy, false).await);
    api.remove(id).await;
    for volume in [&known.volume, &copy] {
        ok(api.volumes.clone().delete(delete(volume)).await);
    }
    forget(&api, std::slice::from_ref(&known.kept)).await;
    let files = agent.files();
    eventually("the layers go", async || files.things("layer").is_empty().then_some(())).await;
    drop(api);
    agent.end().await;
}

#[tokio::test]
async fn at_each_point_of_merging_layers() {
    let Some((base, known)) = base().await else { return };
    let mut first = base.copy();
    let log = first.directory().join("points");
    first.set_environment(&[("WEFT_CRASH_LOG", log.to_str().unwrap())]);
    first.start_again().await;
    assert!(!merged(&mut first).await);
    first.kill();
    let mut points: Vec<String> =
        std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    points.sort();
    points.dedup();
    let passes = |part: &str| points.iter().any(|point| point.contains(part));
    for part in ["merge_layers", "use_merged_root", "use_merged_volume", "remove_layer"] {
        assert!(passes(part), "{part} is not among {points:?}");
    }
    let (base, known) = (&base, &known);
    let deaths: Vec<(&String, bool)> = stream::iter(&points)
        .map(|point| async move {
            let mut agent = base.copy();
            agent.set_environment(&[("WEFT_CRASH_AT", point)]);
            agent.spawn();
            let died = merged(&mut agent).await;
            if died {
                agent.set_environment(&[]);
                agent.start_again().await;
                let files = agent.files();
                eventually(&format!("all is merged after {point}"), async || {
                    (files.things("layer").len() == LAYERS).then_some(())
                })
                .await;
            }
            works(&mut agent, known).await;
            (point, died)
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    let missed: Vec<_> = deaths.iter().filter(|(_, died)| !died).collect();
    println!("merging: {} points, {} crashes", points.len(), points.len() - missed.len());
    assert!(missed.is_empty(), "never came to {missed:?}");
}
