//! Each attribute changed alone does what the published table says.

use tfplugin::testing::{Action, State, Terraform};
use tfplugin::{Diagnostics, Value};

use crate::samples::{bz_image, elastic_ip, full, group, least, metadata_options, strings};
use crate::support::{Fake, OTHER_KEY, PUBLIC_KEY, attributes, connected, connected_with, with};

/// What a change does, in the words of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Nothing,
    Live,
    Restart,
    Replace,
}
use Does::{Live, Nothing, Replace, Restart};

fn has_warning(warnings: &Diagnostics, summary: &str) -> bool {
    warnings.iter().any(|warning| warning.summary.contains(summary))
}

async fn changing(terraform: &Terraform, state: &State, config: Value) -> Does {
    let plan = terraform.plan(&state.type_name, config.clone(), Some(state)).await.unwrap();
    let restarts = plan.planned.get("launched_at").is_unknown();
    let does = match plan.action {
        Action::Nothing => Nothing,
        Action::Update if restarts => Restart,
        Action::Update => Live,
        Action::Replace => Replace,
        other => panic!("{other:?}"),
    };
    if does == Restart && state.get("power_state").as_str() == Some("running") {
        assert!(has_warning(&plan.warnings, "restarts the instance"), "{:?}", plan.warnings);
    }
    if does == Live && state.type_name == "weft_instance" {
        assert!(!has_warning(&plan.warnings, "restarts"), "{:?}", plan.warnings);
    }
    // What was planned can be done, and leaves nothing to do.
    let state = terraform.apply(plan).await.into_result().unwrap().unwrap();
    let read = terraform.refresh(&state).await.unwrap().unwrap();
    let plan = terraform.plan(&state.type_name, config, Some(&read)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    does
}

async fn table(terraform: &Terraform, fake: &Fake, type_name: &str, rows: &[(&str, Value, Does)]) {
    for (path, value, want) in rows {
        let base = full(type_name, terraform, fake).await;
        let state = terraform.create(type_name, base.clone()).await.unwrap();
        let does = changing(terraform, &state, with(&base, path, value.clone())).await;
        assert_eq!(does, *want, "{type_name}.{path} = {value}");
    }
}

#[tokio::test]
async fn key_pairs() {
    let (terraform, fake) = connected().await;
    #[rustfmt::skip]
    let rows = [
        ("key_name",   "you".into(),                     Replace),
        ("public_key", OTHER_KEY.into(),                 Replace),
        ("public_key", PUBLIC_KEY.into(),                Live),
        ("tags",       Value::object([("a", "b")]),      Live),
        ("tags",       Value::Null,                      Live),
    ];
    table(&terraform, &fake, "weft_key_pair", &rows).await;
}

#[tokio::test]
async fn security_groups() {
    let (terraform, fake) = connected().await;
    #[rustfmt::skip]
    let rows = [
        ("name",             "db".into(),                    Live),
        ("description",      "other".into(),                 Live),
        ("allow_all_egress", true.into(),                    Live),
        ("revoke_now",       false.into(),                   Live),
        ("vpc_id",           "vpc-00000000000000001".into(), Replace),
        ("vpc_id",           "vpc-0000000000000000d".into(), Nothing),
        ("tags",             Value::Null,                    Live),
    ];
    table(&terraform, &fake, "weft_security_group", &rows).await;
}

#[tokio::test]
async fn rules() {
    let (terraform, fake) = connected().await;
    for type_name in ["weft_security_group_ingress_rule", "weft_security_group_egress_rule"] {
        #[rustfmt::skip]
        let rows = [
            ("security_group_id", group(&terraform, "x").await, Replace),
            ("ip_protocol",       "udp".into(),                 Live),
            ("from_port",         23.into(),                    Live),
            ("to_port",           81.into(),                    Live),
            ("cidr_ipv4",         "198.51.100.0/24".into(),     Live),
            ("description",       "home".into(),                Live),
            ("tags",              Value::Null,                  Live),
        ];
        table(&terraform, &fake, type_name, &rows).await;
    }
}

#[tokio::test]
async fn snapshots() {
    let (terraform, fake) = connected().await;
    #[rustfmt::skip]
    let rows = [
        ("instance_id", "i-0123456789abcdef1".into(),                 Replace),
        ("description", "after it".into(),                            Live),
        ("timeouts",    Value::object([("create", "7m")]),            Live),
        ("tags",        Value::object([("team", "disks")]),           Live),
    ];
    table(&terraform, &fake, "weft_snapshot", &rows).await;
}

#[tokio::test]
async fn prefix_lists() {
    let (terraform, fake) = connected().await;
    let entries = vec![Value::object([("cidr", "203.0.113.0/24")])];
    #[rustfmt::skip]
    let rows = [
        ("name",    "other".into(), Live),
        ("entries", entries.into(), Live),
        ("tags",    Value::Null,    Live),
    ];
    table(&terraform, &fake, "weft_prefix_list", &rows).await;
    let base = least("weft_prefix_list", &terraform, &fake).await;
    let state = terraform.create("weft_prefix_list", base).await.unwrap();
    let other = full("weft_prefix_list", &terraform, &fake).await;
    assert_eq!(changing(&terraform, &state, other).await, Replace, "another family");
}

#[tokio::test]
async fn images() {
    let (terraform, fake) = connected().await;
    let copy = fake.file("copy.raw", &[7; 3000]);
    let other = fake.file("other.raw", &[8; 3000]);
    let kernel = fake.file("other-vmlinuz", &bz_image(1));
    let initrd = fake.file("other-initrd", &[1; 30]);
    #[rustfmt::skip]
    let rows = [
        ("name",           "other".into(),        Live),
        ("source_path",    copy.into(),           Live),
        ("source_path",    other.into(),          Replace),
        ("kernel",         kernel.into(),         Replace),
        ("initrd",         initrd.into(),         Replace),
        ("initrd",         Value::Null,           Replace),
        ("kernel_cmdline", "quiet".into(),        Replace),
        ("boot_mode",      "direct_kernel".into(), Nothing),
        ("default_user",   "root".into(),         Live),
        ("min_disk_gib",   2.into(),              Live),
        ("min_memory_mib", 256.into(),            Live),
        ("deprecated",     true.into(),           Live),
        ("protected",      true.into(),           Live),
        ("architecture",   "aarch64".into(),      Replace),
        ("tags",           Value::Null,           Live),
    ];
    table(&terraform, &fake, "weft_image", &rows).await;
}

#[tokio::test]
async fn a_protected_image_is_neither_replaced_nor_deleted_before_it_is_set_free() {
    let (terraform, fake) = connected().await;
    let base = with(&full("weft_image", &terraform, &fake).await, "protected", true);
    let state = terraform.create("weft_image", base.clone()).await.unwrap();
    let refused = terraform.plan_destroy(&state).await.unwrap_err().to_string();
    assert!(refused.contains("is protected and cannot be deleted"), "{refused}");
    assert!(refused.contains("protected = false"), "{refused}");
    // Setting it free in the same step would be too late: the plan is carried out as a whole.
    let other = with(&base, "source_path", fake.file("other.raw", &[8; 3000]));
    for config in [other.clone(), with(&other, "protected", false)] {
        let refused = terraform.plan("weft_image", config, Some(&state)).await.unwrap_err();
        assert!(refused.to_string().contains("cannot be replaced"), "{refused}");
    }
    let free = terraform.update(&state, with(&base, "protected", false)).await.unwrap();
    assert_eq!(changing(&terraform, &free, other).await, Replace);
    terraform.destroy(&free).await.unwrap();
}

#[tokio::test]
async fn an_image_without_its_kernel_is_another_one() {
    let (terraform, fake) = connected().await;
    let base = full("weft_image", &terraform, &fake).await;
    let state = terraform.create("weft_image", base.clone()).await.unwrap();
    let mut config = base;
    for name in ["kernel", "initrd", "kernel_cmdline"] {
        config = with(&config, name, Value::Null);
    }
    assert_eq!(changing(&terraform, &state, config).await, Replace);
}

#[tokio::test]
async fn an_image_follows_its_file_where_the_file_is() {
    let (terraform, fake) = connected().await;
    let config = full("weft_image", &terraform, &fake).await;
    let state = terraform.create("weft_image", config.clone()).await.unwrap();
    let disk = fake.directory.path().join("disk.raw");

    std::fs::remove_file(&disk).unwrap();
    let plan = terraform.plan("weft_image", config.clone(), Some(&state)).await.unwrap();
    assert!(plan.is_empty(), "a file that is missing here matters only for create: {plan:?}");
    let astray = with(&config, "source_path", "/nowhere/disk.raw");
    let plan = terraform.plan("weft_image", astray, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Update);
    assert!(has_warning(&plan.warnings, "source_path is recorded only"), "{:?}", plan.warnings);

    std::fs::write(&disk, [6; 4000]).unwrap();
    let plan = terraform.plan("weft_image", config, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Replace);
    assert_eq!(plan.planned.get("virtual_size_bytes").as_i64(), Some(4096));
}

#[tokio::test]
async fn instances() {
    let (terraform, fake) = connected().await;
    #[rustfmt::skip]
    let rows = [
        ("name",               "web-2".into(),                      Live),
        ("name",               Value::Null,                         Live),
        ("security_group_ids", vec![group(&terraform, "x").await].into(), Live),
        ("security_group_ids", Value::Null,                         Live),
        ("source_dest_check",  true.into(),                         Live),
        ("key_names",          strings(&["me"]),                    Live),
        ("wait_for",           "ssh".into(),                        Live),
        ("metadata_options",   Value::Null,                         Live),
        ("metadata_options",   metadata_options("", Value::Null),             Live),
        ("metadata_options",   metadata_options("http_tokens", "required".into()),          Live),
        ("timeouts",           Value::object([("delete", "1m")]),   Live),
        ("tags",               Value::Null,                         Live),
        ("power_state",        "stopped".into(),                    Live),
        ("power_state",        "unmanaged".into(),                  Live),
        ("user_data_replace_on_change", true.into(),                Live),
        ("replace_on_image_change", false.into(),                   Live),
        ("instance_type",      "w1.micro".into(),                   Live),
        ("max_vcpus",          Value::Null,                         Restart),
        ("max_memory_mib",     2048.into(),                         Restart),
        ("display",            false.into(),                        Restart),
        ("display",            Value::Null,                         Restart),
        ("user_data",          "#!/bin/ash\n".into(),               Restart),
        ("user_data",          Value::Null,                         Restart),
        ("user_data_wo_version", Value::Null,                       Nothing),
        ("image_id",           "img-0000000000000000b".into(),      Replace),
        ("subnet_id",          "subnet-00000000000000001".into(),   Replace),
        ("subnet_id",          "subnet-0000000000000000d".into(),   Nothing),
        ("private_ip",         "172.31.0.78".into(),                Replace),
        ("private_ip",         Value::Null,                         Nothing),
        ("associate_public_ip_address", false.into(),               Replace),
        ("associate_public_ip_address", Value::Null,                Nothing),
        ("root_volume",        Value::object([("size_gib", 3)]),    Live),
        ("root_volume",        Value::object([("size_gib", 2), ("iops", 100)]), Live),
        ("root_volume",        Value::Null,                         Nothing),
    ];
    table(&terraform, &fake, "weft_instance", &rows).await;
}

#[tokio::test]
async fn an_instance_moves_to_another_subnet_unless_its_address_is_not_of_it() {
    let (terraform, fake) = connected().await;
    let subnet = async |config: Value| {
        terraform.create("weft_subnet", config).await.unwrap().get("id").clone()
    };
    let first = subnet(full("weft_subnet", &terraform, &fake).await).await;
    let second = subnet(least("weft_subnet", &terraform, &fake).await).await;
    let base = with(&least("weft_instance", &terraform, &fake).await, "subnet_id", first);
    let state = terraform.create("weft_instance", base.clone()).await.unwrap();
    assert!(state.get("private_ip").is_set(), "it has one of the first subnet");

    let moved = with(&base, "subnet_id", second);
    assert_eq!(changing(&terraform, &state, moved.clone()).await, Replace);
    let fixed = with(&moved, "private_ip", "10.0.2.9");
    assert_eq!(changing(&terraform, &state, fixed).await, Replace);
    let outside = with(&moved, "private_ip", "10.0.1.9");
    let refused = terraform.plan("weft_instance", outside, Some(&state)).await.unwrap_err();
    let words = "10.0.1.9 is not in the subnet's range 10.0.2.0/24";
    assert!(refused.iter().any(|one| one.detail.contains(words)), "{refused:?}");
}

#[tokio::test]
async fn another_image_can_be_recorded_only_and_made_good_later() {
    let (terraform, fake) = connected().await;
    let image = async |name: &str, content: &[u8]| {
        let config = attributes([
            ("name", name.into()),
            ("source_path", fake.file(name, content).into()),
            ("default_user", "weft".into()),
        ]);
        terraform.create("weft_image", config).await.unwrap().get("id").clone()
    };
    let (first, second) = (image("first", b"1").await, image("second", b"2").await);
    let base = with(&full("weft_instance", &terraform, &fake).await, "image_id", first.clone());
    let base = with(&base, "replace_on_image_change", false);
    let state = terraform.create("weft_instance", base.clone()).await.unwrap();
    assert_eq!(state.get("image_outdated").as_bool(), Some(false));

    let other = with(&base, "image_id", second.clone());
    assert_eq!(changing(&terraform, &state, other.clone()).await, Live);
    let state = terraform.refresh(&state).await.unwrap().unwrap();
    assert_eq!(state.get("image_outdated").as_bool(), Some(true));
    assert_eq!(state.get("image_id"), &second);
    let imported = terraform.import("weft_instance", state.get("id").as_str().unwrap()).await;
    assert_eq!(imported.unwrap().unwrap().value, state.value);
    let renamed = with(&other, "name", "renamed");
    assert_eq!(changing(&terraform, &state, renamed).await, Live);

    let state = terraform.refresh(&state).await.unwrap().unwrap();
    let plan = terraform.plan(
        "weft_instance",
        with(&other, "replace_on_image_change", true),
        Some(&state),
    );
    assert_eq!(plan.await.unwrap().action, Action::Replace);
    let missing = with(&other, "image_id", "img-0000000000000000c");
    let error = terraform.update(&state, missing).await.unwrap_err();
    assert!(error.iter().any(|one| one.detail.contains("does not exist")), "{error:?}");
    assert_eq!(changing(&terraform, &state, base.clone()).await, Live);
    let state = terraform.refresh(&state).await.unwrap().unwrap();
    assert_eq!(state.get("image_outdated").as_bool(), Some(false), "it is what it was made from");
}

#[tokio::test]
async fn instances_of_other_forms() {
    let (terraform, fake) = connected().await;
    let type_name = "weft_instance";
    let base = with(&full(type_name, &terraform, &fake).await, "max_vcpus", Value::Null);
    let base = with(&base, "max_memory_mib", Value::Null);
    let custom = |vcpus: u32, memory: u32| {
        let config = with(&with(&base, "instance_type", Value::Null), "vcpus", vcpus);
        with(&config, "memory_mib", memory)
    };
    let base64 =
        with(&with(&base, "user_data", Value::Null), "user_data_base64", "IyEvYmluL3NoCg==");
    let replacing = with(&base, "user_data_replace_on_change", true);
    let secret = |version: u32| {
        let config = with(&with(&base, "user_data", Value::Null), "user_data_wo", "s3cret");
        with(&config, "user_data_wo_version", version)
    };
    let replacing_wo = with(&secret(1), "user_data_replace_on_change", true);
    let stopped = with(&base, "power_state", "stopped");
    let maxima = |config: &Value, vcpus: u32, memory: u32| {
        with(&with(config, "max_vcpus", vcpus), "max_memory_mib", memory)
    };
    let small = maxima(&custom(1, 128), 4, 512);
    let large = maxima(&custom(4, 512), 4, 512);
    let of_type = maxima(&base, 4, 512);
    let micro = with(&of_type, "instance_type", "w1.micro");
    let vcpus_only = with(&custom(1, 128), "max_vcpus", 4);
    let also_shown = with(&large, "display", false);
    #[rustfmt::skip]
    let rows = [
        ("by numbers that are the type's",  &base,         custom(1, 128),                         Live),
        ("by other numbers",                &base,         custom(2, 128),                         Restart),
        ("more memory",                     &custom(1, 96), custom(1, 256),                        Restart),
        ("back to a type",                  &custom(1, 96), base.clone(),                          Restart),
        ("the same bytes in base64",        &base,         base64,                                 Live),
        ("user data in no state",           &base,         secret(1),                              Restart),
        ("others of the same version",      &secret(1),    with(&secret(1), "user_data_wo", "y"),  Nothing),
        ("another version",                 &secret(1),    secret(2),                              Restart),
        ("back into the state",             &secret(1),    base.clone(),                           Restart),
        ("another version that replaces",   &replacing_wo, with(&replacing_wo, "user_data_wo_version", 2), Replace),
        ("user data that replace",          &replacing,    with(&replacing, "user_data", "x"),     Replace),
        ("growth within its maxima",        &small,        large.clone(),                         Live),
        ("growth of its vCPUs alone",       &small,        with(&small, "vcpus", 2),              Live),
        ("growth by type",                  &of_type,      micro.clone(),                         Live),
        ("growth beside what restarts",     &small,        also_shown,                            Restart),
        ("less",                            &large,        small.clone(),                         Restart),
        ("less, by type",                   &micro,        of_type.clone(),                       Restart),
        ("more of one, less of another",    &small,        with(&with(&large, "memory_mib", 384), "max_vcpus", 8), Restart),
        ("growth without room for it",      &vcpus_only,   with(&vcpus_only, "memory_mib", 256),  Restart),
        ("other maxima",                    &small,        with(&small, "max_vcpus", 8),          Restart),
        ("no maxima any more",              &small,        custom(1, 128),                        Restart),
        ("started",                         &stopped,      base.clone(),                           Restart),
        ("resized while stopped",           &stopped,      with(&stopped, "instance_type", "w1.micro"), Live),
    ];
    for (name, before, after, want) in rows {
        let state = terraform.create(type_name, before.clone()).await.unwrap();
        assert_eq!(changing(&terraform, &state, after).await, want, "{name}");
    }
}

#[tokio::test]
async fn a_replacement_and_keys_that_a_guest_does_not_see_are_warned_of() {
    let (terraform, fake) = connected().await;
    let base = full("weft_instance", &terraform, &fake).await;
    let state = terraform.create("weft_instance", base.clone()).await.unwrap();
    let rows = [
        ("image_id", "img-0000000000000000b".into(), "replaces the instance"),
        ("key_names", strings(&["me"]), "may not see other keys"),
        ("power_state", "stopped".into(), "stops the instance"),
    ];
    for (path, value, want) in rows {
        let config = with(&base, path, value);
        let plan = terraform.plan("weft_instance", config, Some(&state)).await.unwrap();
        assert!(has_warning(&plan.warnings, want), "{path}: {:?}", plan.warnings);
    }
}

#[tokio::test]
async fn an_instance_that_stopped_by_itself_is_started_by_the_next_apply() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    let state = terraform.create("weft_instance", config.clone()).await.unwrap();
    let id = state.get("id").as_str().unwrap();
    fake.world().power_off(id, "the guest powered off");
    let read = terraform.refresh(&state).await.unwrap().unwrap();
    assert_eq!(read.get("power_state").as_str(), Some("stopped"));
    assert_eq!(changing(&terraform, &read, config).await, Restart);
    assert!(fake.world().calls.contains(&"Instances.Start"));
}

#[tokio::test]
async fn power_that_is_unmanaged_is_left_alone() {
    let (terraform, fake) = connected().await;
    let config = full("weft_instance", &terraform, &fake).await;
    let config = with(&config, "power_state", "unmanaged");
    let state = terraform.create("weft_instance", config.clone()).await.unwrap();
    fake.world().power_off(state.get("id").as_str().unwrap(), "by hand");
    let read = terraform.refresh(&state).await.unwrap().unwrap();
    let plan = terraform.plan("weft_instance", config, Some(&read)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
}

#[tokio::test]
async fn an_unknown_type_is_what_plan_checks_says() {
    let config = attributes([
        ("image_id", "img-0000000000000000a".into()),
        ("instance_type", "w9.huge".into()),
    ]);
    for (setting, warns, fails) in
        [("off", false, false), ("warn", true, false), ("error", false, true)]
    {
        let (terraform, _fake) =
            connected_with(attributes([("plan_checks", setting.into())])).await;
        match terraform.plan("weft_instance", config.clone(), None).await {
            Ok(plan) => {
                assert!(!fails, "{setting}");
                assert_eq!(
                    has_warning(&plan.warnings, "Unknown instance type"),
                    warns,
                    "{setting}"
                );
                assert!(plan.planned.get("vcpus").is_unknown());
            }
            Err(diagnostics) => assert!(fails, "{setting}: {diagnostics}"),
        }
    }
}

#[tokio::test]
async fn an_egress_rule_beside_allow_all_egress_is_warned_of() {
    let (terraform, fake) = connected().await;
    let open = attributes([("name", "open".into())]);
    let open = terraform.create("weft_security_group", open).await.unwrap().get("id").clone();
    for (direction, warns) in [("egress", true), ("ingress", false)] {
        let type_name = format!("weft_security_group_{direction}_rule");
        let config = full(&type_name, &terraform, &fake).await;
        let config = with(&config, "security_group_id", open.clone());
        let plan = terraform.plan(&type_name, config, None).await.unwrap();
        assert_eq!(has_warning(&plan.warnings, "changes nothing"), warns, "{direction}");
    }
}

#[tokio::test]
async fn elastic_ips() {
    let (terraform, fake) = connected().await;
    #[rustfmt::skip]
    let rows = [
        ("name",          "renamed".into(),       Live),
        ("name",          Value::Null,            Live),
        ("tags",          Value::Null,            Live),
        ("address",       "203.0.113.208".into(), Replace),
        ("address",       Value::Null,            Replace),
    ];
    table(&terraform, &fake, "weft_elastic_ip", &rows).await;
}

#[tokio::test]
async fn associations_are_replaced() {
    let (terraform, fake) = connected().await;
    let rows = [
        ("elastic_ip_id", elastic_ip(&terraform).await, Replace),
        ("instance_id", "i-0123456789abcdef1".into(), Replace),
    ];
    table(&terraform, &fake, "weft_elastic_ip_association", &rows).await;
}

#[tokio::test]
async fn port_forwards() {
    let (terraform, fake) = connected().await;
    #[rustfmt::skip]
    let rows = [
        ("name",         "renamed".into(),             Live),
        ("tags",         Value::Null,                  Live),
        ("target_port",  81.into(),                    Live),
        ("target_port",  Value::Null,                  Live),
        ("protocol",     "udp".into(),                 Replace),
        ("host_port",    8081.into(),                  Replace),
        ("host_address", Value::Null,                  Replace),
        ("instance_id",  "i-0123456789abcdef1".into(), Replace),
    ];
    table(&terraform, &fake, "weft_port_forward", &rows).await;
}

#[tokio::test]
async fn an_address_outside_of_the_pool_is_an_error_of_the_plan() {
    let (terraform, _fake) = connected().await;
    let config = |address: &str| attributes([("address", address.into())]);
    let refused = terraform.plan("weft_elastic_ip", config("192.0.2.1"), None).await.unwrap_err();
    let said = format!("{refused:?}");
    assert!(said.contains("198.18.0.0/24, 203.0.113.200-203.0.113.220"), "{said}");
    assert!(terraform.plan("weft_elastic_ip", config("203.0.113.220"), None).await.is_ok());
}
