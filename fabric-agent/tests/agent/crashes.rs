//! `kill -9` of the agent at any moment loses nothing, doubles nothing, leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use v1::wait_request::Until;
use weft_proto::v1;

use crate::support::{Agent, Api, eventually, instance_spec, ok, stop_request};

const INSTANCES: usize = 20;
const KILLS: usize = 30;

/// A small generator (xorshift64): which moments and which requests, so that a seed tells all.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % sides
    }
}

/// What a client wants of one instance, and what it knows of it.
struct Slot {
    number: usize,
    life: usize,
    id: Option<String>,
}

impl Slot {
    fn token(&self) -> String {
        format!("slot-{}-{}", self.number, self.life)
    }

    async fn create(&mut self, api: &Api, image: &str) {
        let tags = [("slot".to_owned(), self.token())].into();
        let context = v1::CreateContext { client_token: self.token(), tags, ..Default::default() };
        let spec = instance_spec(&format!("web-{}", self.number), image);
        let request = v1::CreateInstanceRequest { context: Some(context), spec: Some(spec) };
        if let Ok(made) = api.instances.clone().create(request).await {
            self.id = Some(made.into_inner().metadata.unwrap().id);
        }
    }

    /// One request; it may break with the agent.
    async fn act(&mut self, api: &Api, image: &str, die: u64) {
        let Some(id) = self.id.clone() else { return self.create(api, image).await };
        let mut instances = api.instances.clone();
        let get = v1::GetRequest { id: id.clone(), claim: false };
        match die {
            0 => drop(instances.stop(stop_request(&id)).await),
            1 => drop(instances.start(get).await),
            2 => drop(instances.reboot(get).await),
            3 => {
                // With no answer it may be durable or not: either way the next life is another.
                drop(instances.delete(v1::DeleteRequest { id }).await);
                self.id = None;
                self.life += 1;
            }
            _ => {
                let mut spec = instance_spec(&format!("web-{}", self.number), image);
                spec.instance_type =
                    Some(["w1.nano", "w1.micro"][usize::from(die == 4)].to_owned());
                let tags = [("slot".to_owned(), self.token())].into();
                let context = v1::UpdateContext { id, tags, ..Default::default() };
                let request =
                    v1::UpdateInstanceRequest { context: Some(context), spec: Some(spec) };
                drop(instances.update(request).await);
            }
        }
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_at_random_converges_each_time() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = match std::env::var("WEFT_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => seed.as_nanos() as u64 | 1,
    };
    println!("WEFT_SEED={seed}");
    let mut dice = Dice(seed);
    let mut agent = Agent::start().await;
    let image = agent.api().await.image_id().await;
    let mut slots: Vec<Slot> =
        (0..INSTANCES).map(|number| Slot { number, life: 0, id: None }).collect();
    for _ in 0..KILLS {
        let api = agent.api().await;
        let moment = Duration::from_micros(dice.roll(60_000));
        let work = slots.iter_mut().map(|slot| {
            let rolls: Vec<u64> = (0..8).map(|_| dice.roll(7)).collect();
            let (api, image) = (api.clone(), image.as_str());
            async move {
                for die in rolls {
                    slot.act(&api, image, die).await;
                }
            }
        });
        let killed = async {
            tokio::time::sleep(moment).await;
            agent.kill();
        };
        tokio::join!(join_all(work), killed);
        agent.start_again().await;
    }
    let api = agent.api().await;
    let known = converged(&agent, &api).await;
    // What was made and whose id the client knows is there: an answer is a promise.
    for slot in &slots {
        if let Some(id) = &slot.id {
            assert!(known.contains_key(id), "{id} of {} is lost", slot.token());
        }
    }
    for id in known.keys() {
        api.delete(id).await;
    }
    for id in known.keys() {
        api.wait(id, Until::Gone(true)).await.unwrap();
    }
    assert!(api.list().await.is_empty());
    assert_eq!(agent.things("guest"), []);
    assert_eq!(agent.things("tap"), []);
    assert_eq!(api.free_memory_mib().await, 4 << 20);
    // All of the range is free again, from the first address on.
    let made = ok(api.create(instance_spec("next", &image)).await);
    assert_eq!(made.spec.unwrap().private_ip.as_deref(), Some("172.31.0.4"));
}

/// Waits until the host has exactly what the store wants; returns the instances by id.
async fn converged(agent: &Agent, api: &Api) -> BTreeMap<String, v1::Instance> {
    let listed = eventually("every instance is as wanted", async || {
        let listed = api.list().await;
        listed.iter().all(is_settled).then_some(listed)
    })
    .await;
    let slots: Vec<&String> =
        listed.iter().map(|i| &i.metadata.as_ref().unwrap().tags["slot"]).collect();
    let distinct: BTreeSet<&String> = slots.iter().copied().collect();
    assert_eq!(slots.len(), distinct.len(), "a token made two instances: {slots:?}");
    let addresses: BTreeSet<_> =
        listed.iter().map(|i| i.spec.as_ref().unwrap().private_ip.clone()).collect();
    assert_eq!(addresses.len(), listed.len());
    let known: BTreeMap<String, v1::Instance> =
        listed.into_iter().map(|i| (i.metadata.clone().unwrap().id, i)).collect();
    for (id, guest) in agent.things("guest") {
        let instance = known.get(&id).unwrap_or_else(|| panic!("{id} is nobody's: {guest}"));
        let state = &instance.status.as_ref().unwrap().state;
        let runs = guest["state"]["state"] == "running";
        assert_eq!(runs, state == "running", "{id}: {guest}");
        if runs {
            assert_eq!(guest["state"]["epoch"], instance.assigned.as_ref().unwrap().run_epoch);
        }
    }
    known
}

fn is_settled(instance: &v1::Instance) -> bool {
    let (status, spec) = (instance.status.as_ref().unwrap(), instance.spec.as_ref().unwrap());
    let epoch = instance.assigned.as_ref().unwrap().run_epoch;
    let wanted = spec.power_state.as_deref().unwrap();
    let deleting = instance.metadata.as_ref().unwrap().deleting_since_unix_ms.is_some();
    !deleting && status.state == wanted && (wanted == "stopped" || status.epoch == epoch)
}
