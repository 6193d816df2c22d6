//! The program itself: health, reflection, two agents in one place, purge.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::{Agent, instance_spec, ok};

#[tokio::test]
async fn health_and_reflection_answer() {
    let agent = Agent::start().await;
    for service in ["", "weft.v1.Instances"] {
        let mut health = HealthClient::new(agent.channel().await);
        let answer = ok(health.check(HealthCheckRequest { service: service.to_owned() }).await);
        assert_eq!(answer.status().as_str_name(), "SERVING", "{service}");
    }
    let mut reflection = ServerReflectionClient::new(agent.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answer = reflection.server_reflection_info(futures::stream::iter([request])).await;
    let message = ok(answer).message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = message else { panic!("{message:?}") };
    let mut names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    let ours: Vec<&str> = names.into_iter().filter(|name| name.starts_with("weft.v1.")).collect();
    assert_eq!(
        ours,
        [
            "weft.v1.Agents",
            "weft.v1.Callers",
            "weft.v1.ConsoleAccess",
            "weft.v1.ConsoleTokens",
            "weft.v1.ElasticIpAssociations",
            "weft.v1.ElasticIps",
            "weft.v1.Events",
            "weft.v1.Hosts",
            "weft.v1.Images",
            "weft.v1.InstanceTypes",
            "weft.v1.Instances",
            "weft.v1.KeyPairs",
            "weft.v1.Monitoring",
            "weft.v1.NetworkInsights",
            "weft.v1.NetworkInterfaceAttachments",
            "weft.v1.NetworkInterfaces",
            "weft.v1.PortForwards",
            "weft.v1.PrefixLists",
            "weft.v1.RouteTableAssociations",
            "weft.v1.RouteTables",
            "weft.v1.SecurityGroupRules",
            "weft.v1.SecurityGroups",
            "weft.v1.Sessions",
            "weft.v1.Snapshots",
            "weft.v1.Subnets",
            "weft.v1.TerraformStates",
            "weft.v1.Usage",
            "weft.v1.VolumeAttachments",
            "weft.v1.Volumes",
            "weft.v1.Vpcs",
            "weft.v1.Watch",
        ]
    );
}

#[tokio::test]
async fn a_second_agent_in_the_same_place_is_refused_and_the_first_one_goes_on() {
    let mut agent = Agent::start().await;
    let second = agent.serve_command().output().unwrap();
    assert!(!second.status.success());
    let words = String::from_utf8_lossy(&second.stderr);
    assert!(words.contains("weft.db"), "{words}");
    assert!(words.contains("only one agent may open it"), "{words}");

    // The same socket with another store: the first agent's must not be taken away.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fabric-agent"));
    command.args(["serve", "--host", "sim", "--state-dir"]).arg(elsewhere.path());
    command.arg("--runtime-dir").arg(agent.runtime_dir());
    let third = command.output().unwrap();
    assert!(!third.status.success());
    let words = String::from_utf8_lossy(&third.stderr);
    assert!(words.contains("another --runtime-dir"), "{words}");

    assert!(agent.is_running());
    agent.api().await.group("still here").await;
    // What they tried has left no trace: the first one comes back to what it had.
    agent.kill();
    agent.start_again().await;
}

#[tokio::test]
async fn an_agent_whose_store_was_lost_does_not_take_what_is_there_for_leftovers() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    api.running("web", &image).await;
    agent.kill();
    let aside = agent.directory().join("aside");
    std::fs::create_dir(&aside).unwrap();
    let files = ["weft.db", "weft.db-wal", "weft.db-shm"];
    for file in files.iter().filter(|file| agent.state_dir().join(file).exists()) {
        std::fs::rename(agent.state_dir().join(file), aside.join(file)).unwrap();
    }
    let refused = agent.serve_command().output().unwrap();
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr);
    for part in ["is empty", "put the weft.db and weft.db-wal back", "fabric-agent purge"] {
        assert!(words.contains(part), "{part} is missing: {words}");
    }
    assert!(agent.state_dir().join("images").read_dir().unwrap().next().is_some());
    for file in std::fs::read_dir(agent.state_dir()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if files.contains(&name.as_str()) {
            std::fs::remove_file(file).unwrap();
        }
    }
    for entry in std::fs::read_dir(&aside).unwrap().map(Result::unwrap) {
        std::fs::rename(entry.path(), agent.state_dir().join(entry.file_name())).unwrap();
    }
    agent.start_again().await;
    let instances = agent.api().await.list().await;
    assert_eq!(instances.len(), 1);
    assert_eq!(instances[0].status.as_ref().unwrap().state, "running");
}

#[tokio::test]
async fn purge_names_the_directories_that_belong_together() {
    let mut agent = Agent::start().await;
    agent.kill();
    let mut purge = std::process::Command::new(env!("CARGO_BIN_EXE_fabric-agent"));
    purge.arg("purge").arg("--state-dir").arg(agent.directory().join("elsewhere"));
    purge.arg("--runtime-dir").arg(agent.runtime_dir()).args(["--prefix", "none"]);
    let purged = purge.output().unwrap();
    assert!(!purged.status.success());
    let words = String::from_utf8_lossy(&purged.stderr);
    assert!(words.contains("name the two that belong together"), "{words}");
    assert!(agent.runtime_dir().exists());
}

#[tokio::test]
async fn purge_removes_everything_but_not_under_a_running_agent() {
    let mut agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    api.running("web", &image).await;
    let refused = agent.purge();
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("an agent is running"), "{words}");
    assert_eq!(api.list().await.len(), 1);

    let kept = agent.state_dir().join("not-ours.txt");
    std::fs::write(&kept, "hands off").unwrap();
    agent.kill();
    let purged = agent.purge();
    assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
    let left: Vec<_> =
        std::fs::read_dir(agent.state_dir()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, std::slice::from_ref(&kept));
    assert!(!agent.runtime_dir().exists());
    std::fs::remove_file(kept).unwrap();
    // Twice is fine, and so is nothing at all.
    for _ in 0..2 {
        let purged = agent.purge();
        assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
        assert!(!agent.state_dir().exists());
    }
    // What starts there afterwards starts anew.
    agent.start_again().await;
    assert!(agent.api().await.list().await.is_empty());
}

#[tokio::test]
async fn a_range_that_is_too_small_for_a_vpc_is_refused_at_the_start() {
    let agent = Agent::not_started(&["--default-vpc-cidr", "10.0.0.0/28"]);
    let refused = agent.serve_command().output().unwrap();
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("10.0.0.0/28") && words.contains("10.231.0.0/16"), "{words}");
    let agent = Agent::with(&["--default-vpc-cidr", "10.0.0.0/26"]).await;
    let api = agent.api().await;
    let image = api.image_id().await;
    // 16 addresses: the first four and the last one are not given out.
    for n in 0..11 {
        ok(api.create(instance_spec(&format!("web-{n}"), &image)).await);
    }
    let problem = crate::support::refusal(api.create(instance_spec("one too many", &image)).await);
    assert_eq!(problem.reason, weft_model::Reason::ResourceExhausted, "{problem:?}");
}
