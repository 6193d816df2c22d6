//! Volumes in plans and applies.

use tfplugin::Value;

use crate::samples::least;
use crate::support::{attributes, connected, connected_with, with};

#[tokio::test]
async fn a_volume_that_shrinks_is_an_error_of_the_plan_unless_it_is_another_one() {
    let (terraform, fake) = connected().await;
    let small = least("weft_volume", &terraform, &fake).await;
    let large = with(&small, "size_gib", 5);
    let state = terraform.create("weft_volume", large.clone()).await.unwrap();
    let shrinks = terraform.plan("weft_volume", small.clone(), Some(&state)).await;
    let text = shrinks.unwrap_err().to_string();
    assert!(text.contains("has 5 GiB and cannot shrink to 1 GiB"), "{text}");
    assert!(text.contains("Set it to 5 or more"), "{text}");

    let elsewhere = with(&small, "type", "ssd");
    let plan = terraform.plan("weft_volume", elsewhere, Some(&state)).await.unwrap();
    let warned = plan.warnings.to_string();
    assert!(
        warned.contains("is removed with what is on it") && warned.contains("type"),
        "{warned}"
    );
    // Nothing would be there in its place.
    for prior in [Some(&state), None] {
        let nowhere = terraform.plan("weft_volume", with(&small, "type", "gp3"), prior).await;
        let text = nowhere.unwrap_err().to_string();
        assert!(
            text.contains("no storage pool \"gp3\"") && text.contains("ssd, standard"),
            "{text}"
        );
    }
    let grows = with(&large, "size_gib", 6);
    let plan = terraform.plan("weft_volume", grows, Some(&state)).await.unwrap();
    assert_eq!(plan.action, tfplugin::testing::Action::Update);
}

#[tokio::test]
async fn a_volume_whose_disk_cannot_be_made_is_in_the_state_with_a_warning() {
    let (terraform, _fake) = connected().await;
    let config = attributes([("name", "disk-full".into()), ("size_gib", 1.into())]);
    let plan = terraform.plan("weft_volume", config, None).await.unwrap();
    let applied = terraform.apply(plan).await;
    assert!(applied.state.unwrap().get("id").is_set());
    let said = applied.diagnostics.to_string();
    assert!(said.contains("cannot be used") && said.contains("No space left"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_a_volume_is_refused_before_anything_is_asked() {
    let (terraform, _fake) = connected().await;
    let cases: [(&str, Value, &str); 8] = [
        ("size_gib", 0.into(), "whole number from 1 to 65536"),
        ("size_gib", 70_000.into(), "whole number from 1 to 65536"),
        ("iops", 99.into(), "whole number from 100 to 256000"),
        ("iops", 256_001.into(), "whole number from 100 to 256000"),
        ("throughput_mibps", 0.into(), "whole number from 1 to 10000"),
        ("throughput_mibps", 10_001.into(), "whole number from 1 to 10000"),
        ("type", "Fast SSD".into(), "name of a storage pool"),
        ("name", " x".into(), "outer spaces"),
    ];
    for (name, value, says) in cases {
        let config = with(&attributes([("size_gib", 1.into())]), name, value);
        let error = terraform.plan("weft_volume", config, None).await.unwrap_err().to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_volume_is_made_from_one_thing_and_is_another_one_with_another() {
    let (terraform, _fake) = connected().await;
    let snapshot = "snap-0123456789abcdef0";
    let config = attributes([("size_gib", 5.into()), ("snapshot_id", snapshot.into())]);
    let state = terraform.create("weft_volume", config.clone()).await.unwrap();
    assert_eq!(state.get("snapshot_id").as_str(), Some(snapshot));
    let plan = terraform.plan("weft_volume", config.clone(), Some(&state)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    // It is another volume, and may be smaller.
    let other = with(&config, "snapshot_id", "snap-0123456789abcdef1");
    let plan = terraform.plan("weft_volume", with(&other, "size_gib", 2), Some(&state)).await;
    assert_eq!(plan.unwrap().action, tfplugin::testing::Action::Replace);
    let both = with(&config, "image_id", "img-0123456789abcdef0");
    let error = terraform.plan("weft_volume", both, None).await.unwrap_err().to_string();
    assert!(error.contains("Both snapshot_id and image_id"), "{error}");
}

#[tokio::test]
async fn a_snapshot_is_of_one_disk() {
    let (terraform, _fake) = connected().await;
    let of_volume = attributes([("volume_id", "vol-0123456789abcdef0".into())]);
    let state = terraform.create("weft_snapshot", of_volume.clone()).await.unwrap();
    assert!(state.get("instance_id").is_null());
    let plan = terraform.plan("weft_snapshot", of_volume.clone(), Some(&state)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    let both = with(&of_volume, "instance_id", "i-0123456789abcdef0");
    let error = terraform.plan("weft_snapshot", both, None).await.unwrap_err().to_string();
    assert!(error.contains("Both instance_id and volume_id"), "{error}");
    let neither = attributes([("description", "of what?".into())]);
    let error = terraform.plan("weft_snapshot", neither, None).await.unwrap_err().to_string();
    assert!(error.contains("Neither instance_id nor volume_id"), "{error}");
    let other = attributes([("volume_id", "i-0123456789abcdef0".into())]);
    let error = terraform.plan("weft_snapshot", other, None).await.unwrap_err().to_string();
    assert!(error.contains("vol-"), "{error}");
}

#[tokio::test]
async fn a_root_disk_that_shrinks_is_an_error_of_the_plan_and_one_left_out_stays() {
    let (terraform, fake) = connected().await;
    let sized =
        |config: &Value, gib: i64| with(config, "root_volume", Value::object([("size_gib", gib)]));
    let large = sized(&least("weft_instance", &terraform, &fake).await, 5);
    let state = terraform.create("weft_instance", large.clone()).await.unwrap();
    let shrinks = terraform.plan("weft_instance", sized(&large, 4), Some(&state)).await;
    let text = shrinks.unwrap_err().to_string();
    assert!(text.contains("has 5 GiB and cannot shrink to 4 GiB"), "{text}");
    let without = with(&large, "root_volume", Value::Null);
    let plan = terraform.plan("weft_instance", without, Some(&state)).await.unwrap();
    assert!(plan.is_empty(), "it stays as it is: {plan:?}");
}

#[tokio::test]
async fn limits_of_a_volume_change_live_and_go_again() {
    let (terraform, fake) = connected().await;
    let plain = least("weft_volume", &terraform, &fake).await;
    let limited = with(&with(&plain, "iops", 500), "throughput_mibps", 20);
    let mut state = terraform.create("weft_volume", plain.clone()).await.unwrap();
    for (config, iops, mibps) in [(&limited, Some(500), Some(20)), (&plain, None, None)] {
        let plan = terraform.plan("weft_volume", config.clone(), Some(&state)).await.unwrap();
        assert_eq!(plan.action, tfplugin::testing::Action::Update);
        state = terraform.apply(plan).await.state.unwrap();
        assert_eq!(state.get("iops").as_i64(), iops);
        assert_eq!(state.get("throughput_mibps").as_i64(), mibps);
        let again = terraform.plan("weft_volume", config.clone(), Some(&state)).await.unwrap();
        assert!(again.is_empty(), "{again:?}");
    }
}

#[tokio::test]
async fn a_volume_is_encrypted_for_good_and_so_is_what_is_made_from_it() {
    let (terraform, fake) = connected().await;
    let plain = least("weft_volume", &terraform, &fake).await;
    let unset = terraform.create("weft_volume", plain.clone()).await.unwrap();
    assert_eq!(unset.get("encrypted").as_bool(), Some(false));
    let config = with(&plain, "encrypted", true);
    let plan = terraform.plan("weft_volume", config.clone(), Some(&unset)).await.unwrap();
    assert_eq!(plan.action, tfplugin::testing::Action::Replace);
    let state = terraform.create("weft_volume", config.clone()).await.unwrap();
    assert_eq!(state.get("encrypted").as_bool(), Some(true));
    // What is left out again changes nothing: a volume is not destroyed for that.
    let plan = terraform.plan("weft_volume", plain.clone(), Some(&state)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");

    let volume_id = state.get("id").as_str().unwrap().to_owned();
    let of_volume = attributes([("volume_id", volume_id.as_str().into())]);
    let snapshot = terraform.create("weft_snapshot", of_volume).await.unwrap();
    assert_eq!(snapshot.get("encrypted").as_bool(), Some(true));
    let made_from = |id: &Value| with(&plain, "snapshot_id", id.clone());
    let copy = made_from(snapshot.get("id"));
    let plan = terraform.plan("weft_volume", copy.clone(), None).await.unwrap();
    assert_eq!(plan.planned.get("encrypted").as_bool(), Some(true), "it is known while planning");
    let copied = terraform.apply(plan).await.state.unwrap();
    assert_eq!(copied.get("encrypted").as_bool(), Some(true));
    let not = terraform.plan("weft_volume", with(&copy, "encrypted", false), None).await;
    let text = not.unwrap_err().to_string();
    assert!(text.contains("every volume that is made from it"), "{text}");

    let of_unset = attributes([("volume_id", unset.get("id").clone())]);
    let snapshot = terraform.create("weft_snapshot", of_unset).await.unwrap();
    assert_eq!(snapshot.get("encrypted").as_bool(), Some(false));
    let copy = with(&made_from(snapshot.get("id")), "encrypted", true);
    let text = terraform.plan("weft_volume", copy, None).await.unwrap_err().to_string();
    assert!(text.contains("is not encrypted"), "{text}");
    let image = with(&config, "image_id", "img-0123456789abcdef0");
    let text = terraform.plan("weft_volume", image, None).await.unwrap_err().to_string();
    assert!(text.contains("images are not encrypted"), "{text}");

    // What is to be made by the same apply says so then.
    let later = terraform.plan("weft_volume", made_from(&Value::Unknown), None).await.unwrap();
    assert_eq!(*later.planned.get("encrypted"), Value::Unknown);
}

#[tokio::test]
async fn a_volume_is_not_replaced_by_an_encrypted_one_that_the_host_cannot_make() {
    let (terraform, fake) = connected().await;
    let plain = least("weft_volume", &terraform, &fake).await;
    let kept = terraform.create("weft_volume", plain.clone()).await.unwrap();
    let encrypted = with(&plain, "encrypted", true);
    let (no_key, says) = (Some(false), "need a root key, and this host's agent has none");
    let refused = async |config: &Value, prior, says: &str| {
        let plan = terraform.plan("weft_volume", config.clone(), prior).await;
        let text = plan.unwrap_err().to_string();
        assert!(text.contains(says) && text.contains("--volume-key-file"), "{config:?}: {text}");
    };
    for can in [no_key, Some(true), None] {
        fake.world().encrypts_volumes = can;
        if can == no_key {
            refused(&encrypted, Some(&kept), says).await;
            refused(&encrypted, None, says).await;
            // Whatever the snapshot is that is made by the same apply.
            refused(&with(&encrypted, "snapshot_id", Value::Unknown), None, says).await;
        } else {
            let plan = terraform.plan("weft_volume", encrypted.clone(), Some(&kept)).await;
            assert_eq!(plan.unwrap().action, tfplugin::testing::Action::Replace, "{can:?}");
        }
        let plan = terraform.plan("weft_volume", with(&plain, "encrypted", false), Some(&kept));
        assert!(plan.await.unwrap().is_empty(), "{can:?}");
    }

    // With the key gone, one that there is changes as before; another one cannot take its place.
    let state = terraform.create("weft_volume", encrypted.clone()).await.unwrap();
    let of_it = attributes([("volume_id", state.get("id").clone())]);
    let snapshot = terraform.create("weft_snapshot", of_it).await.unwrap();
    fake.world().encrypts_volumes = no_key;
    let renamed = with(&encrypted, "name", "renamed");
    let plan = terraform.plan("weft_volume", renamed, Some(&state)).await.unwrap();
    assert_eq!(plan.action, tfplugin::testing::Action::Update);
    refused(&with(&encrypted, "type", "ssd"), Some(&state), says).await;
    let copy = with(&plain, "snapshot_id", snapshot.get("id").clone());
    refused(&copy, None, "is encrypted with a root key, and this host's agent has none").await;
}

#[tokio::test]
async fn without_plan_checks_create_alone_says_that_there_is_no_root_key() {
    let (terraform, fake) = connected_with(attributes([("plan_checks", "off".into())])).await;
    fake.world().encrypts_volumes = Some(false);
    let encrypted = attributes([("size_gib", 1.into()), ("encrypted", true.into())]);
    let plan = terraform.plan("weft_volume", encrypted, None).await.unwrap();
    let text = terraform.apply(plan).await.diagnostics.to_string();
    assert!(text.contains("need a root key, and this host's agent has none"), "{text}");
}
