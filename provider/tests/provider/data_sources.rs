//! Data sources answer with what the resources say, and with what resources do not say.

use tfplugin::Value;

use crate::samples::{full, least};
use crate::support::{attributes, connected, with};

#[tokio::test]
async fn an_instance_is_found_by_id_and_by_name_and_shows_its_state() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    let state = terraform.create("weft_instance", config.clone()).await.unwrap();
    let id = state.get("id").clone();
    fake.world().power_off(id.as_str().unwrap(), "the guest powered off");
    for config in [attributes([("id", id.clone())]), attributes([("name", "web-1".into())])] {
        let data = terraform.data("weft_instance", config).await.unwrap();
        assert_eq!(data.get("id"), &id);
        assert_eq!(data.get("state").as_str(), Some("stopped"));
        assert_eq!(data.get("state_reason").as_str(), Some("the guest powered off"));
        assert_eq!(data.get("estimated_monthly_price").as_str(), Some("3.285"));
        assert_eq!(data.get("price_currency").as_str(), Some("EUR"));
        for (name, value) in state.value.as_map().unwrap() {
            if name != "power_state" {
                assert_eq!(data.get(name.as_str()), value, "{name}");
            }
        }
    }
    terraform.create("weft_instance", config).await.unwrap();
    let twice = terraform.data("weft_instance", attributes([("name", "web-1".into())])).await;
    assert!(twice.unwrap_err().to_string().contains("2 instances are called"));
    let nobody = terraform.data("weft_instance", attributes([("name", "nobody".into())])).await;
    assert!(nobody.unwrap_err().to_string().contains("No instance is called"));
}

#[tokio::test]
async fn an_image_is_found_by_each_of_its_filters() {
    let (terraform, fake) = connected().await;
    let base = least("weft_image", &terraform, &fake).await;
    let mut ids = Vec::new();
    for name in ["debian-12", "debian-13"] {
        let config = with(&base, "name", name);
        let config = with(&config, "tags", Value::object([("release", name)]));
        ids.push(terraform.create("weft_image", config).await.unwrap().get("id").clone());
    }
    let most_recent = ("most_recent", Value::from(true));
    #[rustfmt::skip]
    let cases = [
        (attributes([("id", ids[0].clone())]),                               0),
        (attributes([("name", "debian-12".into())]),                         0),
        (attributes([("name_regex", "13$".into())]),                         1),
        (attributes([("name_regex", "^debian".into()), most_recent]),        1),
        (attributes([("tags", Value::object([("release", "debian-12")]))]),  0),
    ];
    for (config, want) in cases {
        let data = terraform.data("weft_image", config.clone()).await.unwrap();
        assert_eq!(data.get("id"), &ids[want], "{config}");
    }
    let several = terraform.data("weft_image", attributes([("name_regex", "debian".into())])).await;
    assert!(several.unwrap_err().to_string().contains("2 images fit"));
}

#[tokio::test]
async fn deprecated_images_are_passed_over_unless_they_are_asked_for() {
    let (terraform, fake) = connected().await;
    let base = with(&least("weft_image", &terraform, &fake).await, "name", "debian");
    let old = terraform.create("weft_image", base.clone()).await.unwrap();
    let new = terraform.create("weft_image", with(&base, "deprecated", true)).await.unwrap();
    let arm = terraform.create("weft_image", with(&base, "architecture", "aarch64")).await.unwrap();
    let [old, new, arm] = [old, new, arm].map(|state| state.get("id").clone());
    let asked = |more: &[(&'static str, Value)]| {
        let mut config = attributes([("name", "debian".into()), ("most_recent", true.into())]);
        more.iter().for_each(|(name, value)| config = with(&config, name, value.clone()));
        config
    };
    let x86 = ("architecture", Value::from("x86_64"));
    #[rustfmt::skip]
    let cases = [
        (asked(std::slice::from_ref(&x86)),                                     &old),
        (asked(&[x86, ("include_deprecated", true.into())]),        &new),
        (asked(&[("architecture", "aarch64".into())]),              &arm),
        (attributes([("id", new.clone())]),                         &new),
    ];
    for (config, want) in cases {
        let data = terraform.data("weft_image", config.clone()).await.unwrap();
        assert_eq!(data.get("id"), want, "{config}");
    }
    let data =
        terraform.data("weft_images", attributes([("name", "debian".into())])).await.unwrap();
    assert_eq!(data.get("ids").as_list().unwrap(), [arm, old]);
}

#[tokio::test]
async fn all_images_that_fit_are_listed_the_newest_first() {
    let (terraform, fake) = connected().await;
    let base = least("weft_image", &terraform, &fake).await;
    let mut ids = Vec::new();
    for name in ["debian-12", "debian-13", "ubuntu"] {
        let state = terraform.create("weft_image", with(&base, "name", name)).await.unwrap();
        ids.push(state.get("id").clone());
    }
    let [twelve, thirteen, ubuntu] = <[Value; 3]>::try_from(ids).unwrap();
    #[rustfmt::skip]
    let cases = [
        (attributes([]),                               vec![ubuntu, thirteen.clone(), twelve.clone()]),
        (attributes([("name_regex", "deb".into())]),   vec![thirteen, twelve.clone()]),
        (attributes([("name", "debian-12".into())]),   vec![twelve]),
        (attributes([("name", "nobody".into())]),      vec![]),
    ];
    for (config, want) in cases {
        let data = terraform.data("weft_images", config.clone()).await.unwrap();
        assert_eq!(data.get("ids").as_list().unwrap(), want, "{config}");
        let shown = data.get("images").as_list().unwrap();
        let shown: Vec<_> = shown.iter().map(|image| image.get("id").clone()).collect();
        assert_eq!(shown, want, "{config}");
    }
}

#[tokio::test]
async fn all_instances_that_fit_are_listed_with_their_states_and_without_user_data() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    let first = terraform.create("weft_instance", config.clone()).await.unwrap();
    let second = terraform.create("weft_instance", with(&config, "name", "db")).await.unwrap();
    let [first, second] = [first, second].map(|state| state.get("id").clone());
    fake.world().power_off(first.as_str().unwrap(), "the guest powered off");
    let states = |word: &str| attributes([("states", Value::from(vec![Value::from(word)]))]);
    #[rustfmt::skip]
    let cases = [
        (attributes([]),                            vec![first.clone(), second.clone()]),
        (attributes([("name", "db".into())]),       vec![second.clone()]),
        (attributes([("name_regex", "^w".into())]), vec![first.clone()]),
        (states("stopped"),                         vec![first]),
        (states("running"),                         vec![second]),
        (states("failed"),                          vec![]),
    ];
    for (config, want) in cases {
        let data = terraform.data("weft_instances", config.clone()).await.unwrap();
        assert_eq!(data.get("ids").as_list().unwrap(), want, "{config}");
        for instance in data.get("instances").as_list().unwrap() {
            assert!(instance.get("state").is_set(), "{instance}");
            assert!(!instance.as_map().unwrap().contains_key("user_data"), "{instance}");
        }
    }
    let wrong = terraform.data("weft_instances", states("dead")).await;
    assert!(wrong.unwrap_err().to_string().contains("states"));
}

#[tokio::test]
async fn timeline_types_and_host() {
    let (terraform, fake) = connected().await;
    let config = least("weft_instance", &terraform, &fake).await;
    let state = terraform.create("weft_instance", config).await.unwrap();

    let config = attributes([("instance_id", state.get("id").clone())]);
    let timeline = terraform.data("weft_instance_timeline", config).await.unwrap();
    assert_eq!(timeline.get("phases[1].name").as_str(), Some("hypervisor_started"));
    assert_eq!(timeline.get("phases[1].offset_ms").as_i64(), Some(250));

    let types = terraform.data("weft_instance_types", Value::Null).await.unwrap();
    assert_eq!(types.get("types[0].name").as_str(), Some("w1.nano"));
    assert_eq!(types.get("types").as_list().unwrap().len(), weft_model::BUILT_IN_TYPES.len());

    let host = terraform.data("weft_host", Value::Null).await.unwrap();
    assert_eq!(host.get("accelerator").as_str(), Some("sim"));
    let again = terraform.data("weft_host", attributes([("id", host.get("id").clone())])).await;
    assert_eq!(again.unwrap(), host);
}

#[tokio::test]
async fn usage_is_asked_for_as_configured_and_says_which_days_it_is_of() {
    let (terraform, _fake) = connected().await;
    let all = terraform.data("weft_usage", Value::Null).await.unwrap();
    assert_eq!(all.get("from_day").as_str(), Some("2023-11-01"));
    assert_eq!(all.get("as_of").as_str(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(all.get("rows[0].amount").as_str(), Some("3600.5"));
    assert_eq!(all.get("cost").as_str(), Some("0.01"));
    assert!(all.get("rows[0].name").is_null() && all.get("rows[0].vcpus").is_null());
    let asked = attributes([
        ("from_day", "2023-10-02".into()),
        ("group_by", "tag:team".into()),
        ("tags", Value::object([("stage", "live")])),
    ]);
    let some = terraform.data("weft_usage", asked).await.unwrap();
    assert_eq!(some.get("from_day").as_str(), Some("2023-10-02"));
    let question = "tag:team {\"stage\": \"live\"}";
    assert_eq!(some.get("rows[0].group").as_str(), Some(question));
}

#[tokio::test]
async fn metrics_are_those_of_the_guest_and_unset_where_none_runs() {
    let (terraform, fake) = connected().await;
    let config = least("weft_instance", &terraform, &fake).await;
    let id = terraform.create("weft_instance", config).await.unwrap().get("id").clone();
    let asked = attributes([("instance_id", id.clone())]);
    let metrics = terraform.data("weft_instance_metrics", asked.clone()).await.unwrap();
    assert_eq!(metrics.get("cpu_ms").as_i64(), Some(1500));
    assert_eq!(metrics.get("disks[0].writes").as_i64(), Some(3));
    assert_eq!(metrics.get("interfaces[0].sent_bytes").as_i64(), Some(9));
    assert_eq!(metrics.get("memory_available_bytes").as_i64(), Some(77));
    assert!(metrics.get("memory_total_bytes").is_null());
    fake.world().power_off(id.as_str().unwrap(), "the guest powered off");
    let metrics = terraform.data("weft_instance_metrics", asked).await.unwrap();
    assert_eq!(metrics.get("state").as_str(), Some("stopped"));
    assert!(metrics.get("cpu_ms").is_null() && metrics.get("disks").is_null());
}

#[tokio::test]
async fn hits_of_a_group() {
    let (terraform, fake) = connected().await;
    let config = least("weft_security_group_ingress_rule", &terraform, &fake).await;
    let group = config.get("security_group_id").clone();
    let rule = terraform.create("weft_security_group_ingress_rule", config).await.unwrap();
    let asked = attributes([("security_group_id", group)]);
    let hits = terraform.data("weft_security_group_hits", asked).await.unwrap();
    assert_eq!(hits.get("rules[0].security_group_rule_id"), rule.get("id"));
    assert_eq!(hits.get("rules[0].packets").as_i64(), Some(3));
    assert_eq!(hits.get("rules[0].last_hit_at").as_str(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(hits.get("denied_ingress.bytes").as_i64(), Some(180));
    assert_eq!(hits.get("denied_egress.packets").as_i64(), Some(0));
}

#[tokio::test]
async fn reachability_is_asked_with_one_of_each_kind_of_end() {
    let (terraform, _fake) = connected().await;
    let ask = |pairs: Vec<(&'static str, Value)>| {
        let mut config = attributes([
            ("source_address", "192.0.2.1".into()),
            ("destination_instance_id", "i-0123456789abcdef0".into()),
            ("protocol", "tcp".into()),
        ]);
        pairs.into_iter().for_each(|(name, value)| config.set(name, value));
        terraform.data("weft_reachability", config)
    };
    let open = ask(vec![("port", 22.into())]).await.unwrap();
    assert_eq!(open.get("allowed").as_bool(), Some(true));
    assert_eq!(open.get("ingress_rule_id").as_str(), Some("sgr-0123456789abcdef0"));
    assert!(open.get("reason").as_str().unwrap().contains("192.0.2.1"), "{open:?}");
    let closed = ask(vec![("port", 80.into())]).await.unwrap();
    assert_eq!(closed.get("allowed").as_bool(), Some(false));
    for (name, wrong, says) in [
        ("no port", vec![], "port"),
        ("an ICMP type of TCP", vec![("port", 1.into()), ("icmp_type", 8.into())], "icmp_type"),
        (
            "two sources",
            vec![("port", 1.into()), ("source_instance_id", "i-0123456789abcdef0".into())],
            "two sources",
        ),
        ("a range", vec![("port", 1.into()), ("source_address", "192.0.2.0/24".into())], "address"),
    ] {
        let refused = ask(wrong).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{name}: {refused}");
    }
}

#[tokio::test]
async fn an_alias_says_where_an_image_is_and_asks_nobody() {
    let (terraform, fake) = connected().await;
    let named = |name: &str| attributes([("name", name.into())]);
    let alias = async |config: Value| terraform.data("weft_image_alias", config).await;
    let debian = alias(named("debian/13")).await.unwrap();
    assert_eq!(debian.get("architecture").as_str(), Some("x86_64"));
    assert_eq!(debian.get("boot_mode").as_str(), Some("bios"));
    assert_eq!(debian.get("sha512").as_str().map(str::len), Some(128));
    for unset in ["sha256", "sha256_url", "mirrors"] {
        assert!(debian.get(unset).is_null(), "{unset}");
    }
    let ubuntu = alias(with(&named("ubuntu/24.04"), "architecture", "aarch64")).await.unwrap();
    assert_eq!(ubuntu.get("boot_mode").as_str(), Some("uefi"));
    assert!(ubuntu.get("url").as_str().unwrap().contains("arm64"), "{ubuntu:?}");
    let told = alias(named("ubuntu/24.4")).await.unwrap_err();
    assert!(told.to_string().contains("\"ubuntu/24.04\""), "{told}");
    assert!(fake.world().calls.is_empty(), "{:?}", fake.world().calls);

    let broken = fake.file("catalog.toml", b"[[image]]\nname = 3\n");
    let settings = attributes([("image_catalog", broken.into())]);
    let terraform = crate::support::provider(&fake, settings).await;
    let told = terraform.data("weft_image_alias", named("debian/13")).await.unwrap_err();
    assert!(told.to_string().contains("catalog.toml"), "{told}");
}
