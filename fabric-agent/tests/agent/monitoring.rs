//! What guests use, as Prometheus and the API are told.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weft_proto::v1;

use crate::support::{Agent, eventually, ok};
use crate::usage::{Machine, stop_request};

/// An address that nobody listens on.
async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Every sample of the page, by its name with labels.
async fn scrape(address: &str) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn figures_follow_from_what_guests_do() {
    let address = free_address().await;
    let (mut machine, agent) = Machine::with_agent_and(&["--metrics-listen", &address]).await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let busy = api.running("sim-busy", &image).await.metadata.unwrap().id;
    let idle = api.running("lazy", &image).await.metadata.unwrap().id;
    machine.pass(10);
    let name = |metric: &str, id: &str, name: &str, more: &str| {
        format!("weft_instance_{metric}{{instance_id=\"{id}\",name=\"{name}\"{more}}}")
    };
    let cpu = name("cpu_seconds_total", &busy, "sim-busy", "");
    let page = eventually("ten seconds are shown", async || {
        let page = scrape(&address).await;
        (page.get(&cpu) == Some(&10.0)).then_some(page)
    })
    .await;
    let of_idle = |metric: &str, more: &str| page.get(&name(metric, &idle, "lazy", more)).copied();
    assert_eq!(of_idle("cpu_seconds_total", ""), Some(0.1));
    assert_eq!(of_idle("state", ",state=\"running\""), Some(1.0));
    assert_eq!(of_idle("memory_bytes", ""), Some(f64::from(128 << 20)));
    assert_eq!(of_idle("disk_written_bytes_total", ",disk=\"root\""), Some(0.0));
    let sent: Vec<f64> = page
        .iter()
        .filter(|(name, _)| name.starts_with("weft_instance_network_sent_bytes_total"))
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(sent.iter().sum::<f64>(), 10_000_000.0);
    let creates = "weft_agent_requests_total{method=\"weft.v1.Instances/Create\",code=\"0\"}";
    assert_eq!(page.get(creates), Some(&2.0), "{page:?}");
    assert!(page["weft_agent_passes_total{outcome=\"done\"}"] >= 2.0);
    assert!(page["weft_agent_store_transactions_total"] >= 2.0);

    // A guest that is off uses nothing; the API says the same.
    let request = v1::GetRequest { id: busy.clone(), claim: false };
    ok(api.instances.clone().stop(stop_request(&busy)).await);
    api.wait(&busy, v1::wait_request::Until::Stopped(true)).await.unwrap();
    let off = ok(api.monitoring.clone().get_instance(request).await);
    assert_eq!((off.state.as_str(), off.guest), ("stopped", None));
    eventually("it is not shown any more", async || {
        (!scrape(&address).await.contains_key(&cpu)).then_some(())
    })
    .await;
    let all = eventually("the list says so", async || {
        let request = v1::ListInstanceMetricsRequest {};
        let all = ok(api.monitoring.clone().list_instances(request).await).items;
        (all.iter().filter(|item| item.guest.is_some()).count() == 1).then_some(all)
    })
    .await;
    assert_eq!(all.len(), 2);
}

#[tokio::test]
async fn two_agents_of_one_machine_get_along_and_an_address_that_was_asked_for_is_had() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut agent = Agent::not_started(&["--metrics-listen", &address]);
    agent.spawn();
    eventually("it has ended", async || agent.ended()).await;
    assert!(agent.log().contains(&format!("cannot serve metrics on {address}")), "{}", agent.log());
    // Where nothing was asked for, both start, whoever has the port.
    let _first = Agent::start().await;
    let _second = Agent::start().await;
    let off = Agent::with(&["--metrics-listen", "off"]).await;
    assert!(!off.log().contains("metrics are"), "{}", off.log());
}
