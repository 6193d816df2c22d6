//! Usage over a scripted day: the agent's clock is moved by hand, and the figures are exact.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use v1::wait_request::Until;
use weft_model::{Reason, Timestamp};
use weft_proto::v1;

use crate::support::{Agent, Api, context, eventually, instance_spec, ok, refused, update_context};

const PRICES: &str = r#"
currency = "EUR"
public_ip_hour = "0.01"
gib_out = "1"
[instance_hour]
"w1.nano" = "0.36"
"w1.micro" = "3.6"
"#;

/// A machine whose clocks stand still but when the test moves them.
pub(crate) struct Machine {
    file: PathBuf,
    wall_ms: i64,
    ticks_ms: u64,
    boot: u32,
}

impl Machine {
    /// An agent of its own on it.
    pub(crate) async fn with_agent() -> (Self, Agent) {
        Self::with_agent_and(&[]).await
    }

    /// The same, with more settings.
    pub(crate) async fn with_agent_and(flags: &[&str]) -> (Self, Agent) {
        let mut agent = Agent::not_started(&[]);
        let (file, prices) =
            (agent.directory().join("clock.json"), agent.directory().join("prices.toml"));
        std::fs::write(&prices, PRICES).unwrap();
        let begin: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        let machine = Self { file, wall_ms: begin.as_millisecond(), ticks_ms: 5_000, boot: 1 };
        machine.show();
        let (clock, prices) = (machine.file.to_str().unwrap(), prices.to_str().unwrap());
        let own = ["--sim-clock", clock, "--prices", prices];
        agent.set_flags(&[&own, flags].concat());
        agent.start_again().await;
        (machine, agent)
    }

    fn moment(&self) -> serde_json::Value {
        let at = Timestamp::from_millisecond(self.wall_ms).unwrap();
        json!({ "at": at, "boot": format!("boot-{}", self.boot), "ticks_ms": self.ticks_ms })
    }

    fn show(&self) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, self.moment().to_string()).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    pub(crate) fn pass(&mut self, seconds: u32) {
        self.wall_ms += i64::from(seconds) * 1000;
        self.ticks_ms += u64::from(seconds) * 1000;
        self.show();
    }

    fn set_clock(&mut self, by_seconds: i64) {
        self.wall_ms += by_seconds * 1000;
        self.show();
    }

    fn restart(&mut self, after_seconds: u32) {
        self.wall_ms += i64::from(after_seconds) * 1000;
        (self.ticks_ms, self.boot) = (1_000, self.boot + 1);
        self.show();
    }
}

/// What is in the agent's store.
fn stored(agent: &Agent, prefix: &str) -> Vec<(String, serde_json::Value)> {
    let file = rusqlite::Connection::open(agent.state_dir().join("weft.db")).unwrap();
    file.busy_timeout(Duration::from_secs(60)).unwrap();
    let sql = "SELECT key, value FROM item WHERE key LIKE ?1 || '%' ORDER BY key";
    let mut statement = file.prepare(sql).unwrap();
    let rows = statement.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(|row| {
        let (key, value): (String, Vec<u8>) = row.unwrap();
        (key, serde_json::from_slice(&value).unwrap())
    })
    .collect()
}

/// Returns when the agent has written down that it lives now.
async fn heartbeat(agent: &Agent, machine: &Machine) {
    let now = machine.moment();
    eventually("the heartbeat is stored", async || {
        stored(agent, "usage/heartbeat").iter().any(|(_, at)| *at == now).then_some(())
    })
    .await;
}

fn everything() -> v1::UsageRequest {
    let (from_day, to_day) = ("2026-11-01".to_owned(), "2026-12-31".to_owned());
    v1::UsageRequest { from_day, to_day, ..v1::UsageRequest::default() }
}

async fn report(api: &Api, request: v1::UsageRequest) -> v1::UsageReport {
    ok(api.usage.clone().report(request).await)
}

/// Rows as text: kind, type, amount and unit.
async fn used(api: &Api) -> Vec<String> {
    let group_by = "item".to_owned();
    let rows = report(api, v1::UsageRequest { group_by, ..everything() }).await.rows;
    let show = |row: v1::UsageRow| {
        format!("{} {} {} {}", row.kind, row.r#type, row.amount, row.unit).replace("  ", " ")
    };
    rows.into_iter().map(show).collect()
}

async fn switch(api: &Api, id: &str, on: bool) {
    let request = v1::GetRequest { id: id.to_owned(), claim: false };
    let until = match on {
        true => {
            ok(api.instances.clone().start(request).await);
            Until::WaitFor("ssh".to_owned())
        }
        false => {
            ok(api.instances.clone().stop(stop_request(id)).await);
            Until::Stopped(true)
        }
    };
    api.wait(id, until).await.unwrap();
}

pub(crate) fn stop_request(id: &str) -> v1::StopRequest {
    v1::StopRequest { id: id.to_owned(), ..v1::StopRequest::default() }
}

async fn update(api: &Api, id: &str, change: impl FnOnce(&mut v1::UpdateInstanceRequest)) {
    let now = api.instance(id).await;
    let (context, mut spec) = (update_context(now.metadata.as_ref()), now.spec.unwrap());
    (spec.vcpus, spec.memory_mib) = (None, None);
    let mut request = v1::UpdateInstanceRequest { context, spec: Some(spec) };
    change(&mut request);
    ok(api.instances.clone().update(request).await);
}

#[tokio::test]
async fn a_scripted_day_is_counted_to_the_second() {
    let (mut machine, mut agent) = Machine::with_agent().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    assert_eq!(used(&api).await, ["instance w1.nano 0 seconds"; 0]);
    machine.pass(3600);
    assert_eq!(used(&api).await, ["instance w1.nano 3600 seconds"]);

    // The agent is killed, the guest goes on.
    agent.kill();
    machine.pass(1800);
    agent.start_again().await;
    let api = agent.api().await;
    assert_eq!(used(&api).await, ["instance w1.nano 5400 seconds"]);

    // The clock is set: back and forth, with the agent there and without.
    machine.set_clock(-7200);
    machine.pass(300);
    agent.kill();
    machine.set_clock(86_400);
    machine.pass(300);
    agent.start_again().await;
    machine.set_clock(7200 - 86_400);
    let api = agent.api().await;
    assert_eq!(used(&api).await, ["instance w1.nano 6000 seconds"]);

    // What is off costs nothing; another type is counted as such.
    switch(&api, &web, false).await;
    machine.pass(1000);
    update(&api, &web, |request| {
        request.spec.as_mut().unwrap().instance_type = Some("w1.micro".to_owned());
    })
    .await;
    machine.pass(1000);
    assert_eq!(used(&api).await, ["instance w1.nano 6000 seconds"]);
    switch(&api, &web, true).await;
    machine.pass(700);
    // A resize of a guest that runs is a restart: until then it is what it was.
    let both = ["instance w1.micro 700 seconds", "instance w1.nano 6000 seconds"];
    assert_eq!(used(&api).await, both);

    // The host loses power: it is counted up to the last sign of life, and starts again.
    heartbeat(&agent, &machine).await;
    let open = "usage/open/instances/";
    let before = stored(&agent, open);
    agent.kill();
    machine.pass(20);
    machine.restart(500);
    agent.start_again().await;
    let api = agent.api().await;
    eventually("the guest runs again", async || {
        let now = stored(&agent, open);
        (!now.is_empty() && now != before).then_some(())
    })
    .await;
    assert_eq!(used(&api).await, both);
    api.wait(&web, Until::WaitFor("ssh".to_owned())).await.unwrap();
    machine.pass(50);
    let both = ["instance w1.micro 750 seconds", "instance w1.nano 6000 seconds"];
    assert_eq!(used(&api).await, both);

    // Tags are those of the time; what is gone is remembered.
    update(&api, &web, |request| {
        let tags = &mut request.context.as_mut().unwrap().tags;
        tags.insert("team".to_owned(), "red".to_owned());
    })
    .await;
    eventually("the tag is known", async || {
        let open = stored(&agent, "usage/open/instances/").remove(0).1;
        (open["labels"]["tags"]["team"] == "red").then_some(())
    })
    .await;
    machine.pass(40);
    api.remove(&web).await;
    machine.pass(5000);
    let group_by = "tag:team".to_owned();
    let rows = report(&api, v1::UsageRequest { group_by, ..everything() }).await.rows;
    let show =
        |row: &v1::UsageRow| format!("{}/{}/{}/{}", row.group, row.r#type, row.amount, row.cost());
    let rows: Vec<String> = rows.iter().map(show).collect();
    assert_eq!(rows, ["/w1.micro/750/0.75", "/w1.nano/6000/0.6", "red/w1.micro/40/0.04"]);
    assert_eq!(stored(&agent, "usage/open/"), [], "nothing is counted any more");
}

#[tokio::test]
async fn a_guest_that_ended_while_no_agent_ran_is_counted_up_to_its_end() {
    let (mut machine, mut agent) = Machine::with_agent().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("sim-busy", &image).await.metadata.unwrap().id;
    agent.kill();
    machine.pass(90);
    // What its holder writes down.
    let (id, mut guest) = agent.things("guest").remove(0);
    guest["state"] = json!({ "state": "exited", "epoch": 1, "how": "it was killed" });
    guest["ended"] = machine.moment();
    let file = rusqlite::Connection::open(agent.state_dir().join("sim-host.db")).unwrap();
    let sql = "UPDATE things SET content = ?2 WHERE kind = 'guest' AND id = ?1";
    assert_eq!(file.execute(sql, [&id, &guest.to_string()]).unwrap(), 1);
    drop(file);
    machine.pass(100_000);
    agent.start_again().await;
    let api = agent.api().await;
    eventually("its end is known", async || {
        let status = api.instance(&web).await.status.unwrap();
        (status.state == "failed").then_some(())
    })
    .await;
    // A busy simulated guest sends a megabyte a second; its link is looked at when it has ended.
    let want = ["instance w1.nano 90 seconds", "bytes_out 90000000 bytes"];
    assert_eq!(used(&api).await, want);
}

#[tokio::test]
async fn kills_at_any_moment_of_starts_and_stops_count_no_second_twice_and_lose_none() {
    let (mut machine, mut agent) = Machine::with_agent().await;
    let mut api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    let (mut ran, mut on) = (0, true);
    for round in 0..16_u32 {
        machine.pass(60 + round);
        ran += if on { 60 + round } else { 0 };
        // The clock stands still while the guest comes or goes, so it is known what it ran.
        let request = v1::GetRequest { id: web.clone(), claim: false };
        let mut client = api.instances.clone();
        let asked = match on {
            true => client.stop(stop_request(&web)).await,
            false => client.start(request).await,
        };
        ok(asked);
        on = !on;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 2)).await;
        agent.kill();
        agent.start_again().await;
        api = agent.api().await;
        let until = if on { Until::WaitFor("ssh".to_owned()) } else { Until::Stopped(true) };
        api.wait(&web, until).await.unwrap();
        assert_eq!(used(&api).await, [format!("instance w1.nano {ran} seconds")], "{round}");
    }
}

#[tokio::test]
async fn a_public_address_is_counted_from_its_making_to_its_removal() {
    let (mut machine, mut agent) = Machine::with_agent().await;
    let api = agent.api().await;
    let spec = v1::ElasticIpSpec { name: Some("front".to_owned()), address: None };
    let request = v1::CreateElasticIpRequest { context: context(), spec: Some(spec) };
    let eip = ok(api.elastic_ips.clone().create(request).await).metadata.unwrap().id;
    machine.pass(3600);
    agent.kill();
    machine.pass(1800);
    agent.start_again().await;
    let api = agent.api().await;
    machine.pass(1800);
    ok(api.elastic_ips.clone().delete(v1::DeleteRequest { id: eip.clone() }).await);
    machine.pass(3600);
    let report = report(&api, everything()).await;
    let row = &report.rows[0];
    assert_eq!((report.rows.len(), row.group.as_str(), row.name.as_str()), (1, &*eip, "front"));
    assert_eq!((row.amount.as_str(), row.unit.as_str(), row.cost()), ("2", "hours", "0.02"));
    assert_eq!((report.cost(), report.currency.as_str(), report.unpriced), ("0.02", "EUR", false));
}

#[tokio::test]
async fn a_volume_is_counted_by_its_size_and_its_pool() {
    let (mut machine, agent) = Machine::with_agent().await;
    let api = agent.api().await;
    let spec = v1::VolumeSpec { size_gib: 30, ..v1::VolumeSpec::default() };
    let request = v1::CreateVolumeRequest { context: context(), spec: Some(spec) };
    let id = ok(api.volumes.clone().create(request).await).metadata.unwrap().id;
    machine.pass(1800);
    ok(api.volumes.clone().delete(v1::DeleteRequest { id: id.clone() }).await);
    machine.pass(1800);
    let report = report(&api, everything()).await;
    let row = &report.rows[0];
    assert_eq!((row.group.as_str(), row.r#type.as_str(), row.size_gib), (&*id, "standard", 30));
    assert_eq!((row.amount.as_str(), row.unit.as_str()), ("15", "GiB-hours"));
    assert!(row.cost.is_none() && report.unpriced);
}

#[tokio::test]
async fn a_day_is_a_utc_day_and_sums_stay_bounded() {
    let (mut machine, agent) = Machine::with_agent().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let web = api.running("web", &image).await.metadata.unwrap().id;
    // 6:00 to 18:00 of the third day, in many steps, each of which is counted durably.
    for _ in 0..60 {
        machine.pass(3600);
        heartbeat(&agent, &machine).await;
    }
    let group_by = "day".to_owned();
    let request = v1::UsageRequest { group_by, resource_id: web, ..everything() };
    let rows = report(&api, request).await.rows;
    let days: BTreeMap<_, _> = rows.into_iter().map(|row| (row.group, row.amount)).collect();
    let day = |day: &str, seconds: u32| (day.to_owned(), seconds.to_string());
    let want = [day("2026-11-22", 64_800), day("2026-11-23", 86_400), day("2026-11-24", 64_800)];
    assert_eq!(days, want.into());
    assert!(stored(&agent, "usage/days/").len() <= 3);
}

#[tokio::test]
async fn prices_are_estimated_and_bad_questions_are_refused() {
    let (_machine, agent) = Machine::with_agent().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut estimates = Vec::new();
    for instance_type in ["w1.nano", "w1.large"] {
        let mut spec = instance_spec("web", &image);
        spec.instance_type = Some(instance_type.to_owned());
        let id = ok(api.create(spec).await).metadata.unwrap().id;
        let request = v1::GetRequest { id, claim: false };
        let estimate = ok(api.usage.clone().estimate_instance(request).await);
        estimates.push((estimate.per_hour, estimate.per_month, estimate.currency));
    }
    let some = |text: &str| Some(text.to_owned());
    let eur = || "EUR".to_owned();
    assert_eq!(estimates, [(some("0.36"), some("262.8"), eur()), (None, None, eur())]);

    let ask = async |request| api.usage.clone().report(request).await;
    let from = |day: &str| v1::UsageRequest { from_day: day.to_owned(), ..everything() };
    refused_at(ask(from("2026-13-01")).await, "from_day");
    refused_at(ask(from("2027-02-01")).await, "from_day");
    let group_by = "month".to_owned();
    refused_at(ask(v1::UsageRequest { group_by, ..everything() }).await, "group_by");
}

#[track_caller]
fn refused_at(answer: Result<tonic::Response<v1::UsageReport>, tonic::Status>, field: &str) {
    refused(answer, Reason::InvalidArgument, field);
}

#[tokio::test]
async fn a_price_file_that_is_wrong_keeps_the_agent_from_starting_and_says_where() {
    let mut agent = Agent::not_started(&[]);
    let prices = agent.directory().join("prices.toml");
    std::fs::write(&prices, "currency = \"EUR\"\npublic_ip_hour = \"cheap\"\n").unwrap();
    agent.set_flags(&["--prices", prices.to_str().unwrap()]);
    agent.spawn();
    eventually("it has ended", async || agent.ended()).await;
    let log = agent.log();
    assert!(log.contains("prices.toml"), "{log}");
    assert!(log.contains("public_ip_hour: \"cheap\" is not an amount"), "{log}");
}

#[tokio::test]
async fn a_guest_that_grows_is_counted_as_it_was_until_it_has() {
    let (mut machine, agent) = Machine::with_agent().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let spec = v1::InstanceSpec { max_memory_mib: Some(1024), ..instance_spec("web", &image) };
    let web = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&web, Until::WaitFor("ssh".to_owned())).await.unwrap();
    machine.pass(100);
    let held_up = r#"{"orders": [{"step": "add_memory", "on": "web", "hang": true}]}"#;
    agent.order(held_up);
    let grow = update(&api, &web, |request| {
        request.spec.as_mut().unwrap().instance_type = Some("w1.micro".to_owned());
    });
    let meanwhile = async {
        eventually("it is about to grow", async || {
            agent.log().contains("obeying an order").then_some(())
        })
        .await;
        machine.pass(200);
        assert_eq!(used(&api).await, ["instance w1.nano 300 seconds"]);
        agent.order(r#"{"orders": []}"#);
    };
    tokio::join!(grow, meanwhile);
    machine.pass(400);
    let both = ["instance w1.micro 400 seconds", "instance w1.nano 300 seconds"];
    assert_eq!(used(&api).await, both);
}
