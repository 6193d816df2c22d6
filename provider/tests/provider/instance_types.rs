//! Instance types of one's own: what a plan knows of them, import by name, and the data source.

use tfplugin::Value;
use tfplugin::testing::{Action, Terraform};

use crate::samples::{least, strings};
use crate::support::{attributes, connected, connected_with, provider, said, with};

fn kind(name: &str, vcpus: u32, memory_mib: u32) -> Value {
    attributes([("name", name.into()), ("vcpus", vcpus.into()), ("memory_mib", memory_mib.into())])
}

fn instance(kind: &str) -> Value {
    attributes([("image_id", "img-0000000000000000a".into()), ("instance_type", kind.into())])
}

async fn make(terraform: &Terraform, config: Value) -> tfplugin::testing::State {
    terraform.create("weft_instance_type", config).await.unwrap()
}

#[tokio::test]
async fn each_change_but_of_tags_replaces() {
    let (terraform, _fake) = connected().await;
    let config = kind("c1.big", 2, 300);
    let state = make(&terraform, config.clone()).await;
    #[rustfmt::skip]
    let cases: [(&str, Value, Action); 5] = [
        ("name",       "c1.bigger".into(),              Action::Replace),
        ("vcpus",      3.into(),                        Action::Replace),
        ("memory_mib", 301.into(),                      Action::Replace),
        ("network_mbps", 10.into(),                     Action::Replace),
        ("tags",       Value::object([("team", "a")]),  Action::Update),
    ];
    for (attribute, value, want) in cases {
        let config = with(&config, attribute, value);
        let plan = terraform.plan("weft_instance_type", config, Some(&state)).await.unwrap();
        assert_eq!(plan.action, want, "{attribute}");
    }
}

#[tokio::test]
async fn the_size_of_a_type_of_ones_own_is_unknown_until_the_apply() {
    let (terraform, _fake) = connected().await;
    make(&terraform, kind("c1.big", 2, 300)).await;
    let plan = terraform.plan("weft_instance", instance("c1.big"), None).await.unwrap();
    assert!(plan.planned.get("vcpus").is_unknown() && plan.planned.get("memory_mib").is_unknown());
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let state = terraform.create("weft_instance", instance("c1.big")).await.unwrap();
    let size = |state: &Value| (state.get("vcpus").as_i64(), state.get("memory_mib").as_i64());
    assert_eq!(size(&state.value), (Some(2), Some(300)));
    let again = terraform.plan("weft_instance", instance("c1.big"), Some(&state)).await.unwrap();
    assert!(again.is_empty(), "{again:?}");
    // From one to another, and back to one that is built in.
    make(&terraform, kind("c1.bigger", 4, 500)).await;
    let plan = terraform.plan("weft_instance", instance("c1.bigger"), Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Update);
    assert!(plan.planned.get("vcpus").is_unknown() && plan.planned.get("launched_at").is_unknown());
    let state = terraform.apply(plan).await.into_result().unwrap().unwrap();
    assert_eq!(size(&state.value), (Some(4), Some(500)));
    let plan = terraform.plan("weft_instance", instance("w1.nano"), Some(&state)).await.unwrap();
    assert_eq!(size(&plan.planned), (Some(1), Some(128)));
}

#[tokio::test]
async fn a_type_that_the_same_run_makes_is_not_warned_of_and_the_agent_not_asked() {
    let (terraform, fake) = connected().await;
    let plan = terraform.plan("weft_instance_type", kind("c1.big", 2, 300), None).await.unwrap();
    assert_eq!(plan.action, Action::Create);
    let plan = terraform.plan("weft_instance", instance("c1.big"), None).await.unwrap();
    let of_type = |one: &tfplugin::Diagnostic| one.summary.contains("instance type");
    assert!(!plan.warnings.iter().any(of_type), "{:?}", plan.warnings);
    terraform.plan("weft_instance", instance("w1.nano"), None).await.unwrap();
    assert!(!fake.world().calls.contains(&"InstanceTypes.List"));
    // Another run knows nothing of it.
    let other = provider(&fake, Value::Null).await;
    let plan = other.plan("weft_instance", instance("c1.big"), None).await.unwrap();
    assert_eq!(plan.warnings.iter().filter(|one| of_type(one)).count(), 1);
    assert!(fake.world().calls.contains(&"InstanceTypes.List"));
}

#[tokio::test]
async fn an_unknown_type_is_told_the_nearest_names_and_how_to_make_one() {
    let (terraform, _fake) = connected().await;
    make(&terraform, kind("gpu.huge", 2, 300)).await;
    let plan = terraform.plan("weft_instance", instance("gpu.hug"), None).await.unwrap();
    let said = said(&plan.warnings);
    for part in [
        "Unknown instance type",
        "There is no instance type \"gpu.hug\".",
        "nearest are \"gpu.huge\", ",
        "weft_instance_type.NAME.name",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_what_plan_checks_says() {
    for (setting, fails) in [("off", false), ("warn", false), ("error", true)] {
        let (terraform, fake) = connected_with(attributes([("plan_checks", setting.into())])).await;
        drop(fake);
        match terraform.plan("weft_instance", instance("c1.big"), None).await {
            Ok(plan) => {
                assert!(!fails, "{setting}");
                let said = said(&plan.warnings);
                assert_eq!(said.contains("could not be looked up"), setting == "warn", "{said}");
            }
            Err(diagnostics) => assert!(fails, "{setting}: {diagnostics}"),
        }
        // What is built in needs no agent.
        terraform.plan("weft_instance", instance("w1.nano"), None).await.unwrap();
    }
}

#[tokio::test]
async fn an_import_takes_the_id_or_the_name() {
    let (terraform, _fake) = connected().await;
    let config = with(&kind("c1.big", 2, 300), "tags", Value::object([("team", "a")]));
    let state = make(&terraform, config).await;
    for id in [state.get("id").as_str().unwrap(), "c1.big"] {
        let imported = terraform.import("weft_instance_type", id).await.unwrap().unwrap();
        assert_eq!(imported.value, state.value, "{id}");
    }
    #[rustfmt::skip]
    let refused = [
        ("c1.gone",               "there is no instance type \"c1.gone\""),
        ("w1.nano",               "\"w1.nano\" is built in"),
        ("key-0123456789abcdef0", "this is the id of a key pair"),
        ("big",                   "or its name such as"),
    ];
    for (id, want) in refused {
        let error = terraform.import("weft_instance_type", id).await.unwrap_err();
        assert!(said(&error).to_lowercase().contains(want), "{id}: {error}");
    }
}

#[tokio::test]
async fn the_data_source_has_all_types_from_small_to_large_and_filters_them() {
    let (terraform, fake) = connected().await;
    let tagged = with(&kind("c1.big", 1, 300), "tags", Value::object([("team", "a")]));
    let own = make(&terraform, tagged).await;
    make(&terraform, kind("a1.big", 1, 512)).await;
    least("weft_instance", &terraform, &fake).await;
    let names = async |config: Value| {
        let data = terraform.data("weft_instance_types", config).await.unwrap();
        let types = data.get("types").as_list().unwrap().to_vec();
        Value::List(types.iter().map(|kind| kind.get("name").clone()).collect())
    };
    let all = [
        "w1.nano",
        "w1.micro",
        "c1.big",
        "a1.big",
        "w1.small",
        "w1.medium",
        "w1.large",
        "w1.xlarge",
        "w1.2xlarge",
    ];
    assert_eq!(names(Value::Null).await, strings(&all));
    let cases: [(&str, Value, &[&str]); 5] = [
        ("name", "w1.large".into(), &["w1.large"]),
        ("name", "a1.big".into(), &["a1.big"]),
        ("name_regex", r"\.big$".into(), &["c1.big", "a1.big"]),
        ("tags", Value::object([("team", "a")]), &["c1.big"]),
        ("name", "nothing".into(), &[]),
    ];
    for (filter, value, want) in cases {
        let config = attributes([(filter, value)]);
        assert_eq!(names(config.clone()).await, strings(want), "{config}");
    }
    let data = terraform.data("weft_instance_types", Value::Null).await.unwrap();
    assert_eq!(data.get("types[2].id"), own.get("id"));
    assert_eq!(data.get("types[2].tags_all.team").as_str(), Some("a"));
    assert!(data.get("types[0].id").is_null());
    assert_eq!(data.get("types[0].memory_mib").as_i64(), Some(128));
}
