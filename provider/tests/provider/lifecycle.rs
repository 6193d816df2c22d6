//! Of every resource: apply then plan is empty, import then plan is empty, gone is gone.

use tfplugin::Value;
use tfplugin::testing::Action;

use crate::samples::{RESOURCES, UNTAGGED, full, least};
use crate::support::{Fake, attributes, connected, connected_with, provider, with};

#[tokio::test]
async fn after_an_apply_and_after_an_import_the_plan_is_empty() {
    for type_name in RESOURCES {
        let settings = attributes([("default_tags", Value::object([("env", "lab")]))]);
        let (terraform, fake) = connected_with(settings.clone()).await;
        let full = full(type_name, &terraform, &fake).await;
        let least = least(type_name, &terraform, &fake).await;
        for config in [full, least] {
            let state = terraform.create(type_name, config.clone()).await.unwrap();
            if !UNTAGGED.contains(&type_name) {
                assert_eq!(state.get("tags_all.env").as_str(), Some("lab"), "{type_name}");
            }
            // Every later run of Terraform is another process.
            let terraform = provider(&fake, settings.clone()).await;
            let read = terraform.refresh(&state).await.unwrap().unwrap();
            assert_eq!(read.value, state.value, "{type_name}: nothing changes by itself");
            let plan = terraform.plan(type_name, config.clone(), Some(&read)).await.unwrap();
            assert!(plan.is_empty(), "{type_name}: {plan:?}");

            let id = state.get("id").as_str().unwrap();
            let imported = terraform.import(type_name, id).await.unwrap().unwrap();
            assert_eq!(imported.value, state.value, "{type_name}: import gives back what was");
            let plan = terraform.plan(type_name, config, Some(&imported)).await.unwrap();
            assert!(plan.is_empty(), "{type_name}: {plan:?}");
        }
    }
}

#[tokio::test]
async fn forms_that_mean_the_same_come_back_as_they_were_written() {
    let cases: &[(&str, &[(&str, Value)])] = &[
        (
            "weft_security_group_ingress_rule",
            &[("ip_protocol", "icmp".into()), ("from_port", 8.into()), ("to_port", Value::Null)],
        ),
        (
            "weft_security_group_ingress_rule",
            &[("ip_protocol", "icmp".into()), ("from_port", (-1).into()), ("to_port", (-1).into())],
        ),
        ("weft_instance", &[("user_data", Value::Null), ("user_data_base64", "/wAB".into())]),
        ("weft_instance", &[("user_data", Value::Null), ("user_data_base64", "aGk=".into())]),
        ("weft_instance", &[("key_names", Value::List(vec![]))]),
        ("weft_instance", &[("tags", Value::Map([].into()))]),
        ("weft_instance", &[("timeouts", Value::Map([].into()))]),
        ("weft_instance", &[("power_state", "stopped".into())]),
        ("weft_instance", &[("power_state", "unmanaged".into())]),
        ("weft_image", &[("kernel_cmdline", "".into())]),
        ("weft_subnet", &[("dns_servers", Value::List(vec![]))]),
        ("weft_subnet", &[("dns_servers", Value::Null)]),
        ("weft_port_forward", &[("target_port", 8080.into())]),
        ("weft_port_forward", &[("target_port", Value::Null)]),
        (
            "weft_vpc",
            &[("mode", Value::Null), ("bridge_name", Value::Null), ("vlan_id", Value::Null)],
        ),
        ("weft_vpc", &[("bridge_name", Value::Null), ("uplink", "eth1".into())]),
        (
            "weft_vpc",
            &[("bridge_name", Value::Null), ("uplink", "eth1".into()), ("vlan_id", Value::Null)],
        ),
    ];
    let (terraform, fake) = connected().await;
    for (type_name, changes) in cases {
        let mut config = full(type_name, &terraform, &fake).await;
        for (path, value) in *changes {
            config = with(&config, path, value.clone());
        }
        let state = terraform.create(type_name, config.clone()).await.unwrap();
        let id = state.get("id").as_str().unwrap();
        let imported = terraform.import(type_name, id).await.unwrap().unwrap();
        let plan = terraform.plan(type_name, config, Some(&imported)).await.unwrap();
        assert!(plan.is_empty(), "{type_name} {changes:?}: {plan:?}");
    }
}

fn forget(fake: &Fake) {
    let mut world = fake.world();
    world.images.clear();
    world.key_pairs.clear();
    world.types.clear();
    world.groups.clear();
    world.rules.clear();
    world.vpcs.clear();
    world.subnets.clear();
    world.instances.clear();
    world.interfaces.clear();
    world.attachments.clear();
    world.volumes.clear();
    world.volume_attachments.clear();
    world.elastic_ips.clear();
    world.associations.clear();
    world.port_forwards.clear();
}

#[tokio::test]
async fn what_is_gone_leaves_the_state_and_is_destroyed_without_an_error() {
    let (terraform, fake) = connected().await;
    for type_name in RESOURCES {
        let config = full(type_name, &terraform, &fake).await;
        let state = terraform.create(type_name, config).await.unwrap();
        forget(&fake);
        terraform.destroy(&state).await.unwrap();
        assert_eq!(terraform.refresh(&state).await.unwrap(), None, "{type_name}");
    }
}

#[tokio::test]
async fn what_is_being_removed_counts_as_gone() {
    let (terraform, fake) = connected().await;
    let config = full("weft_volume", &terraform, &fake).await;
    let state = terraform.create("weft_volume", config).await.unwrap();
    for volume in fake.world().volumes.values_mut() {
        volume.metadata.as_mut().unwrap().deleting_since_unix_ms = Some(1);
    }
    assert_eq!(terraform.refresh(&state).await.unwrap(), None);
}

#[tokio::test]
async fn an_instance_that_is_being_removed_stays_until_it_is_gone_and_is_replaced() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    let state = terraform.create("weft_instance", config.clone()).await.unwrap();
    for instance in fake.world().instances.values_mut() {
        instance.metadata.as_mut().unwrap().deleting_since_unix_ms = Some(1);
    }
    let state = terraform.refresh(&state).await.unwrap().expect("it is still there");
    assert_eq!(state.get("power_state").as_str(), Some("terminating"));
    let plan = terraform.plan("weft_instance", config, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Replace);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    terraform.destroy(&state).await.unwrap();
    assert!(fake.world().instances.is_empty());
}

#[tokio::test]
async fn destroying_removes_what_was_made() {
    let (terraform, fake) = connected().await;
    for type_name in RESOURCES {
        let config = full(type_name, &terraform, &fake).await;
        let state = terraform.create(type_name, config).await.unwrap();
        terraform.destroy(&state).await.unwrap();
        assert_eq!(terraform.refresh(&state).await.unwrap(), None, "{type_name}");
    }
    let world = fake.world();
    assert!(world.images.is_empty() && world.key_pairs.is_empty() && world.types.is_empty());
    assert!(world.rules.is_empty() && world.instances.is_empty() && world.subnets.is_empty());
}

#[tokio::test]
async fn default_tags_that_change_change_everything_live() {
    let (_, fake) = connected().await;
    for type_name in RESOURCES.into_iter().filter(|name| !UNTAGGED.contains(name)) {
        let before = provider(&fake, Value::Null).await;
        let config = full(type_name, &before, &fake).await;
        let state = before.create(type_name, config.clone()).await.unwrap();
        let tags = Value::object([("env", "lab"), ("team", "loses")]);
        let after = provider(&fake, attributes([("default_tags", tags)])).await;
        let plan = after.plan(type_name, config.clone(), Some(&state)).await.unwrap();
        assert_eq!(plan.action, Action::Update, "{type_name}");
        let state = after.apply(plan).await.into_result().unwrap().unwrap();
        let all = Value::object([("env", "lab"), ("team", "kernel")]);
        assert_eq!(state.get("tags_all"), &all, "{type_name}");
    }
}

#[tokio::test]
async fn an_instance_shows_how_to_reach_it() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    let state = terraform.create("weft_instance", config).await.unwrap();
    let text = |name: &str| state.get(name).as_str().unwrap().to_owned();
    assert_eq!(text("ssh_command"), "ssh weft@172.31.0.77");
    assert!(text("known_hosts_line").starts_with("172.31.0.77 ssh-ed25519 AAAA"));
    assert_eq!(text("launched_at"), "2023-11-14T22:13:20.001Z");
    assert_eq!(
        (state.get("vcpus").as_i64(), state.get("memory_mib").as_i64()),
        (Some(1), Some(128))
    );
}
