//! Images that the agent fetches.

use sha2::{Digest as _, Sha256};
use tfplugin::Value;
use tfplugin::testing::Action;

use crate::samples::bz_image;
use crate::support::{Fake, attributes, connected, said, with};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn put(fake: &Fake, url: &str, bytes: &[u8]) -> (Value, Value) {
    fake.world().remote.insert(url.to_owned(), bytes.to_vec());
    (url.into(), sha256(bytes).into())
}

/// An image with all three files at URLs.
fn image(fake: &Fake) -> Value {
    let (url, sha256) = put(fake, "https://mirror.example/disk.raw", &[7; 3000]);
    let (kernel, kernel_sha256) = put(fake, "https://mirror.example/vmlinuz", &bz_image(0));
    let (initrd, initrd_sha256) = put(fake, "http://mirror.example/initrd.img", &[9; 300]);
    attributes([
        ("name", "remote".into()),
        ("source_url", url),
        ("sha256", sha256),
        ("kernel", kernel),
        ("kernel_sha256", kernel_sha256),
        ("initrd", initrd),
        ("initrd_sha256", initrd_sha256),
        ("default_user", "weft".into()),
        ("timeouts", Value::object([("create", "5m")])),
    ])
}

#[tokio::test]
async fn an_image_by_url_is_fetched_and_comes_back_by_import() {
    let (terraform, fake) = connected().await;
    let config = image(&fake);
    let plan = terraform.plan("weft_image", config.clone(), None).await.unwrap();
    assert_eq!(plan.planned.get("digest").as_str(), Some(sha256(&[7; 3000]).as_str()));
    assert!(plan.planned.get("virtual_size_bytes").is_unknown());
    let state = terraform.apply(plan).await.into_result().unwrap().unwrap();
    assert_eq!(state.get("virtual_size_bytes").as_i64(), Some(3072));
    assert_eq!(state.get("boot_mode").as_str(), Some("direct_kernel"));
    let id = state.get("id").as_str().unwrap();
    let imported = terraform.import("weft_image", id).await.unwrap().unwrap();
    assert_eq!(imported.value, state.value);
    let plan = terraform.plan("weft_image", config, Some(&imported)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
}

#[tokio::test]
async fn the_content_replaces_and_the_place_does_not() {
    let (terraform, fake) = connected().await;
    let base = image(&fake);
    let same = "https://other.example/disk.raw";
    let (same, _) = put(&fake, same, &[7; 3000]);
    let path = fake.file("disk.raw", &[7; 3000]);
    let upper = sha256(&[7; 3000]).to_uppercase();
    #[rustfmt::skip]
    let cases = [
        (vec![("source_url", same)],                                Action::Update),
        (vec![("sha256", upper.into())],                            Action::Update),
        (vec![("timeouts", Value::Null)],                           Action::Update),
        (vec![("sha256", sha256(b"other").into())],                 Action::Replace),
        (vec![("kernel_sha256", sha256(b"other").into())],          Action::Replace),
        (vec![("initrd", Value::Null), ("initrd_sha256", Value::Null)], Action::Replace),
    ];
    for (changes, want) in cases {
        let mut config = base.clone();
        for (name, value) in &changes {
            config = with(&config, name, value.clone());
        }
        let state = terraform.create("weft_image", base.clone()).await.unwrap();
        let plan = terraform.plan("weft_image", config.clone(), Some(&state)).await.unwrap();
        assert_eq!(plan.action, want, "{changes:?}");
        if want == Action::Update {
            let state = terraform.apply(plan).await.into_result().unwrap().unwrap();
            let plan = terraform.plan("weft_image", config, Some(&state)).await.unwrap();
            assert!(plan.is_empty(), "{changes:?}: {plan:?}");
        }
    }
    // The same disk from this machine, without the kernel.
    let plain = attributes([
        ("name", "remote".into()),
        ("source_path", path.into()),
        ("default_user", "weft".into()),
    ]);
    let state = terraform.create("weft_image", plain.clone()).await.unwrap();
    let by_url = attributes([
        ("name", "remote".into()),
        ("source_url", base.get("source_url").clone()),
        ("sha256", base.get("sha256").clone()),
        ("default_user", "weft".into()),
    ]);
    let plan = terraform.plan("weft_image", by_url, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Update);
}

#[tokio::test]
async fn a_stream_that_breaks_is_asked_for_again() {
    let (terraform, fake) = connected().await;
    fake.world().fetches_break = 2;
    terraform.create("weft_image", image(&fake)).await.unwrap();
    let asked = fake.world().calls.iter().filter(|call| **call == "Images.Fetch").count();
    assert_eq!(asked, 5, "two that broke, and one for each file");
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_for_a_download() {
    let (terraform, fake) = connected().await;
    fake.world().fetch_hangs = true;
    let plan = terraform.plan("weft_image", image(&fake), None).await.unwrap();
    let interrupting = async {
        fake.has_been_asked("Images.Fetch").await;
        terraform.interrupt().await;
    };
    let (applied, ()) = tokio::join!(terraform.apply(plan), interrupting);
    let text = said(&applied.diagnostics);
    assert!(text.contains("was cancelled") && text.contains("is kept"), "{text}");
    assert!(applied.state.is_none());
}

#[tokio::test]
async fn a_download_that_takes_too_long_ends_with_what_to_do() {
    let (terraform, fake) = connected().await;
    fake.world().fetch_hangs = true;
    let config = with(&image(&fake), "timeouts", Value::object([("create", "1s")]));
    let text = said(&terraform.create("weft_image", config).await.unwrap_err());
    assert!(text.contains("in time") && text.contains("timeouts.create"), "{text}");
}

#[tokio::test]
async fn a_password_in_a_url_is_not_shown() {
    let (terraform, fake) = connected().await;
    let secret = "https://me:s3cret@mirror.example/none.raw?signature=s3cret";
    let config = with(&image(&fake), "source_url", secret);
    let text = said(&terraform.create("weft_image", config.clone()).await.unwrap_err());
    assert!(!text.contains("s3cret"), "{text}");
    fake.world().fetch_hangs = true;
    let config = with(&config, "timeouts", Value::object([("create", "1s")]));
    let text = said(&terraform.create("weft_image", config).await.unwrap_err());
    assert!(text.contains("mirror.example") && !text.contains("s3cret"), "{text}");
}

/// An image whose digest its publisher's list says.
fn listed(fake: &Fake, list: &str) -> Value {
    put(fake, "https://mirror.example/new/disk.raw", &[7; 3000]);
    put(fake, "https://mirror.example/new/SHA256SUMS", list.as_bytes());
    attributes([
        ("name", "listed".into()),
        ("source_url", "https://mirror.example/new/disk.raw".into()),
        ("sha256_url", "https://mirror.example/new/SHA256SUMS".into()),
        ("default_user", "weft".into()),
    ])
}

#[tokio::test]
async fn a_publishers_list_says_the_digest_once_and_what_it_says_later_changes_nothing() {
    let (terraform, fake) = connected().await;
    let digest = sha256(&[7; 3000]);
    let config = listed(&fake, &format!("{digest} *disk.raw\n"));
    let plan = terraform.plan("weft_image", config.clone(), None).await.unwrap();
    assert_eq!(plan.planned.get("digest").as_str(), Some(digest.as_str()));
    let state = terraform.apply(plan).await.into_result().unwrap().unwrap();
    let id = state.get("id").as_str().unwrap();
    assert_eq!(terraform.import("weft_image", id).await.unwrap().unwrap().value, state.value);

    // The publisher has a newer file, and then none at all.
    listed(&fake, &format!("{} *disk.raw\n", sha256(&[8; 3000])));
    let plan = terraform.plan("weft_image", config.clone(), Some(&state)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    fake.world().remote.clear();
    let plan = terraform.plan("weft_image", config.clone(), Some(&state)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");

    // Another list is read; one that cannot be read replaces nothing.
    let (list, _) = put(&fake, "https://mirror.example/newer/SHA256SUMS", b"no list");
    let other = with(&config, "sha256_url", list.clone());
    let refused = terraform.plan("weft_image", other.clone(), Some(&state)).await.unwrap_err();
    assert!(refused.to_string().contains("no list of SHA-256"), "{refused}");
    let text = format!("{}  disk.raw\n", sha256(&[8; 3000]));
    put(&fake, list.as_str().unwrap(), text.as_bytes());
    let plan = terraform.plan("weft_image", other, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Replace);
}

#[tokio::test]
async fn a_list_that_does_not_answer_while_planning_is_asked_again_in_the_apply() {
    let (terraform, fake) = connected().await;
    let digest = sha256(&[7; 3000]);
    let config = listed(&fake, &format!("{digest}  disk.raw\n"));
    let list = fake.world().remote.remove("https://mirror.example/new/SHA256SUMS").unwrap();
    let plan = terraform.plan("weft_image", config, None).await.unwrap();
    assert!(plan.planned.get("digest").is_unknown());
    put(&fake, "https://mirror.example/new/SHA256SUMS", &list);
    let state = terraform.apply(plan).await.into_result().unwrap().unwrap();
    assert_eq!(state.get("digest").as_str(), Some(digest.as_str()));
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_the_last_error_tells_of_all() {
    let (terraform, fake) = connected().await;
    let (good, digest) = put(&fake, "https://b.example/disk.raw", &[7; 3000]);
    let (wrong, _) = put(&fake, "https://a.example/disk.raw", &[8; 3000]);
    let config = |mirrors: Vec<Value>| {
        attributes([
            ("name", "mirrored".into()),
            ("source_url", "https://gone.example/disk.raw".into()),
            ("mirrors", mirrors.into()),
            ("sha256", digest.clone()),
            ("default_user", "weft".into()),
        ])
    };
    let error = terraform.create("weft_image", config(vec![wrong.clone()])).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("The digest is another one"), "{text}");
    assert!(text.contains("before that: it answers 404"), "{text}");
    let state = terraform.create("weft_image", config(vec![wrong, good])).await.unwrap();
    assert_eq!(state.get("digest").as_str(), digest.as_str());
    let before = fake.world().calls.len();
    let empty = config(Vec::new());
    let plan = terraform.plan("weft_image", empty, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Update, "mirrors are no content");
    assert!(fake.world().calls.len() <= before + 2);
}

/// Debian gives no other digest: what it is of is seen in the apply, and is the image's from then on.
#[tokio::test]
async fn a_sha512_pins_the_file_as_well_and_the_digest_is_known_after_the_apply() {
    let (terraform, fake) = connected().await;
    let url = "https://mirror.example/debian.raw";
    let (url, _) = put(&fake, url, &[7; 3000]);
    let sha512 = |bytes: &[u8]| Value::from(hex::encode(sha2::Sha512::digest(bytes)));
    let config = attributes([
        ("name", "debian".into()),
        ("source_url", url.clone()),
        ("sha512", sha512(&[7; 3000])),
        ("default_user", "debian".into()),
    ]);
    let plan = terraform.plan("weft_image", config.clone(), None).await.unwrap();
    assert!(plan.planned.get("digest").is_unknown());
    let state = terraform.apply(plan).await.into_result().unwrap().unwrap();
    assert_eq!(state.get("digest").as_str(), Some(sha256(&[7; 3000]).as_str()));
    let plan = terraform.plan("weft_image", config.clone(), Some(&state)).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");

    let (moved, _) = put(&fake, "https://other.example/debian.raw", &[7; 3000]);
    let elsewhere = with(&config, "source_url", moved);
    let plan = terraform.plan("weft_image", elsewhere, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Update);
    let next = with(&config, "sha512", sha512(b"other"));
    let plan = terraform.plan("weft_image", next, Some(&state)).await.unwrap();
    assert_eq!(plan.action, Action::Replace);
    let told = terraform.create("weft_image", with(&config, "sha512", sha512(b"other"))).await;
    assert!(said(&told.unwrap_err()).contains("digest is another one"));

    let twice = with(&config, "sha256", sha256(&[7; 3000]));
    let told = terraform.plan("weft_image", twice, None).await.unwrap_err();
    assert!(said(&told).contains("Both sha256 and sha512 are set"), "{told:?}");
    let list = Value::from("https://mirror.example/SHA512SUMS");
    let line = format!("{}  debian.raw\n", sha512(&[7; 3000]).as_str().unwrap());
    put(&fake, "https://mirror.example/SHA512SUMS", line.as_bytes());
    let listed = with(&with(&config, "sha512", Value::Null), "sha256_url", list);
    let state = terraform.create("weft_image", listed.clone()).await.unwrap();
    assert_eq!(state.get("digest").as_str(), Some(sha256(&[7; 3000]).as_str()));
    assert!(terraform.plan("weft_image", listed, Some(&state)).await.unwrap().is_empty());
}
