//! Images of instances and of snapshots, and snapshots that cannot be made.

use tfplugin::Value;
use tfplugin::testing::Action;
use weft_model::{Problem, Reason};

use crate::support::{attributes, connected, with};

fn of_instance() -> Value {
    attributes([("name", "mine".into()), ("source_instance_id", "i-0123456789abcdef0".into())])
}

#[tokio::test]
async fn what_comes_with_the_disk_is_known_after_the_apply_and_stays() {
    let (terraform, fake) = connected().await;
    let config = of_instance();
    let plan = terraform.plan("weft_image", config.clone(), None).await.unwrap();
    for name in ["digest", "boot_mode", "default_user", "kernel_cmdline", "kernel_digest"] {
        assert!(plan.planned.get(name).is_unknown(), "{name}");
    }
    fake.world().captures_break = 2;
    let state = terraform.create("weft_image", config.clone()).await.unwrap();
    let shown = |name: &str| state.get(name).as_str().map(str::to_owned);
    assert_eq!(shown("boot_mode").as_deref(), Some("direct_kernel"));
    assert_eq!(shown("default_user").as_deref(), Some("debian"));
    assert_eq!(shown("kernel_cmdline").as_deref(), Some("root=/dev/vda"));
    let calls = fake.world().calls.iter().filter(|call| **call == "Images.Capture").count();
    assert_eq!(calls, 3, "it asked again until there was an answer");
    let read = terraform.refresh(&state).await.unwrap().unwrap();
    let plan = terraform.plan("weft_image", config.clone(), Some(&read)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");

    let renamed = with(&config, "name", "ours");
    let plan = terraform.plan("weft_image", renamed, Some(&read)).await.unwrap();
    terraform.apply(plan).await.into_result().unwrap();
    let calls = fake.world().calls.iter().filter(|call| **call == "Images.Capture").count();
    assert_eq!(calls, 3, "a new name captures nothing");
}

#[tokio::test]
async fn the_guest_is_rebooted_where_that_is_asked_for() {
    let (terraform, fake) = connected().await;
    let config = with(&of_instance(), "snapshot_without_reboot", false);
    terraform.create("weft_image", config).await.unwrap();
    assert!(fake.world().calls.contains(&"Images.Capture rebooted"));
}

#[tokio::test]
async fn an_instance_is_captured_as_its_consistency_says() {
    let calls = [
        ("crash", "Images.Capture"),
        ("frozen", "Images.Capture frozen"),
        ("stopped", "Images.Capture rebooted"),
    ];
    for (word, call) in calls {
        let (terraform, fake) = connected().await;
        let config = with(&of_instance(), "consistency", word);
        let state = terraform.create("weft_image", config.clone()).await.unwrap();
        assert!(fake.world().calls.contains(&call), "{word}: {:?}", fake.world().calls);
        let read = terraform.refresh(&state).await.unwrap().unwrap();
        let changed = with(&config, "consistency", "crash");
        let plan = terraform.plan("weft_image", changed, Some(&read)).await.unwrap();
        assert_ne!(plan.action, Action::Replace, "{plan:?}");
    }
}

#[tokio::test]
async fn another_consistency_is_another_snapshot() {
    let (terraform, fake) = connected().await;
    let config = attributes([("instance_id", "i-0123456789abcdef0".into())]);
    let state = terraform.create("weft_snapshot", config.clone()).await.unwrap();
    assert_eq!(state.get("consistency").as_str(), Some("crash"));
    let frozen = with(&config, "consistency", "frozen");
    let plan = terraform.plan("weft_snapshot", frozen.clone(), Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Replace, "{plan:?}");
    let state = terraform.create("weft_snapshot", frozen).await.unwrap();
    assert_eq!(state.get("consistency").as_str(), Some("frozen"));
    let asked: Vec<String> = {
        let world = fake.world();
        world.snapshots.values().map(|it| it.spec.as_ref().unwrap().consistency.clone()).collect()
    };
    assert!(asked.contains(&"frozen".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn contradictions_are_refused_at_their_attributes() {
    let (terraform, _fake) = connected().await;
    #[rustfmt::skip]
    let cases: [(&str, Value, &str); 4] = [
        ("source_snapshot_id",      "snap-0123456789abcdef0".into(), "two sources"),
        ("source_path",             "/disk.raw".into(),              "source_path beside"),
        ("kernel",                  "/vmlinuz".into(),               "kernel beside"),
        ("boot_mode",               "bios".into(),                   "boot_mode beside"),
    ];
    for (name, value, want) in cases {
        let config: Value = with(&of_instance(), name, value);
        let error = terraform.create("weft_image", config).await.unwrap_err();
        assert!(format!("{error:?}").contains(want), "{name}: {error:?}");
    }
    let path = attributes([("name", "mine".into()), ("source_path", "/disk.raw".into())]);
    let error = terraform.create("weft_image", path.clone()).await.unwrap_err();
    assert!(format!("{error:?}").contains("default_user is missing"), "{error:?}");
    let without = with(&path, "snapshot_without_reboot", true);
    let error = terraform.create("weft_image", without).await.unwrap_err();
    assert!(format!("{error:?}").contains("snapshot_without_reboot without"), "{error:?}");
    let without = with(&path, "consistency", "frozen");
    let error = terraform.create("weft_image", without).await.unwrap_err();
    assert!(format!("{error:?}").contains("consistency without"), "{error:?}");
    let both = with(&with(&of_instance(), "consistency", "crash"), "snapshot_without_reboot", true);
    let error = terraform.create("weft_image", both).await.unwrap_err();
    assert!(format!("{error:?}").contains("Both say how"), "{error:?}");
}

#[tokio::test]
async fn what_the_agent_refuses_is_told_at_the_attribute() {
    let (terraform, fake) = connected().await;
    let problem = Problem::new(Reason::NotFound, "instance i-0123456789abcdef0 does not exist");
    fake.world().captures_fail = Some(problem.at("source_instance_id"));
    let error = terraform.create("weft_image", of_instance()).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("does not exist") && text.contains("source_instance_id"), "{text}");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_made_is_an_error_and_is_replaced() {
    let (terraform, fake) = connected().await;
    fake.world().snapshots_fail = Some("the host's disk is full".to_owned());
    let config = attributes([("instance_id", "i-0123456789abcdef0".into())]);
    let error = terraform.create("weft_snapshot", config).await.unwrap_err();
    assert!(format!("{error:?}").contains("the host's disk is full"), "{error:?}");
}

/// What the provider asked of the agent while it made a snapshot.
async fn asked_for_a_snapshot(watches_break: u32) -> Vec<&'static str> {
    let (terraform, fake) = connected().await;
    fake.world().watches_break = watches_break;
    let config = attributes([("instance_id", "i-0123456789abcdef0".into())]);
    let state = terraform.create("weft_snapshot", config).await.unwrap();
    assert_eq!(state.get("size_gib").as_i64(), Some(3));
    let calls = fake.world().calls.clone();
    // The plan's look for the instance is another matter.
    calls.into_iter().filter(|call| *call != "Instances.BatchGet").collect()
}

#[tokio::test]
async fn a_snapshot_is_looked_at_when_it_has_changed_and_not_in_between() {
    let (create, watch, look) = ("Snapshots.Create", "Watch.Watch", "Snapshots.BatchGet");
    assert_eq!(asked_for_a_snapshot(0).await, [create, watch, look, look]);
    // What changed while nobody watched is not missed.
    assert_eq!(asked_for_a_snapshot(1).await, [create, watch, look, watch, look]);
}
