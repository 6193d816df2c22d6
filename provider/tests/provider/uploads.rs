//! Files on their way to the agent.

use std::time::Duration;

use tfplugin::Value;

use crate::samples::bz_image;
use crate::support::{Fake, attributes, connected, connected_with, said};

const DISK_BYTES: u32 = 5_000_000;

fn disk() -> Vec<u8> {
    (0..DISK_BYTES).map(|n| (n % 251) as u8).collect()
}

/// An image of [`disk`].
fn image(fake: &Fake) -> Value {
    let path = fake.file("large.raw", &disk());
    attributes([
        ("name", "large".into()),
        ("source_path", path.into()),
        ("default_user", "weft".into()),
    ])
}

fn begins(fake: &Fake) -> usize {
    fake.world().calls.iter().filter(|call| **call == "Images.BeginUpload").count()
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_was() {
    let (terraform, fake) = connected().await;
    fake.world().upload_breaks_after = Some(2_000_000);
    let state = terraform.create("weft_image", image(&fake)).await.unwrap();
    assert_eq!(fake.world().blobs[state.get("digest").as_str().unwrap()], disk());
    assert_eq!(begins(&fake), 2);
}

#[tokio::test]
async fn an_upload_goes_on_where_another_run_has_come_to() {
    let (terraform, fake) = connected().await;
    fake.world().other_run_sends = Some(disk()[..1_500_000].to_vec());
    let state = terraform.create("weft_image", image(&fake)).await.unwrap();
    assert_eq!(fake.world().blobs[state.get("digest").as_str().unwrap()], disk());
    assert_eq!(begins(&fake), 2);
}

#[tokio::test]
async fn an_upload_that_another_run_has_finished_is_done() {
    let (terraform, fake) = connected().await;
    fake.world().other_run_sends = Some(disk());
    terraform.create("weft_image", image(&fake)).await.unwrap();
    assert_eq!(begins(&fake), 2);
}

#[tokio::test]
async fn an_upload_that_never_comes_further_ends_with_what_the_agent_says() {
    let (terraform, fake) = connected().await;
    fake.world().uploads_go_on_elsewhere = true;
    let text = said(&terraform.create("weft_image", image(&fake)).await.unwrap_err());
    assert!(text.contains("go on there"), "{text}");
    assert_eq!(begins(&fake), 6);
}

#[tokio::test]
async fn an_agent_that_reads_its_part_again_may_take_longer_than_a_request() {
    let settings = attributes([("request_timeout", "1s".into())]);
    let (terraform, fake) = connected_with(settings).await;
    fake.world().begin_takes = Duration::from_millis(1500);
    terraform.create("weft_image", image(&fake)).await.unwrap();
}

#[tokio::test]
async fn ctrl_c_ends_an_upload_that_the_agent_does_not_answer() {
    let (terraform, fake) = connected().await;
    fake.world().begin_takes = Duration::from_secs(3600);
    let plan = terraform.plan("weft_image", image(&fake), None).await.unwrap();
    let interrupting = async {
        fake.has_been_asked("Images.BeginUpload").await;
        terraform.interrupt().await;
    };
    let (applied, ()) = tokio::join!(terraform.apply(plan), interrupting);
    let text = said(&applied.diagnostics);
    assert!(text.contains("was cancelled"), "{text}");
    assert!(text.contains("what the agent has already is not sent twice"), "{text}");
    assert!(applied.state.is_none());
}

#[tokio::test]
async fn the_files_of_an_image_are_sent_one_after_the_other_whatever_others_wait() {
    let (terraform, fake) = connected().await;
    // Long enough for each to begin while another is sending.
    fake.world().begin_takes = Duration::from_millis(20);
    let image = |n: u8| {
        let disk: Vec<u8> = (0..100_000).map(|at: u32| (at % 251) as u8 ^ n).collect();
        attributes([
            ("name", format!("image {n}").into()),
            ("source_path", fake.file(&format!("{n}.raw"), &disk).into()),
            ("kernel", fake.file(&format!("vmlinuz-{n}"), &bz_image(n)).into()),
            ("initrd", fake.file(&format!("initrd-{n}"), &[n; 1000]).into()),
            ("default_user", "weft".into()),
        ])
    };
    let created =
        futures::future::join_all((0..4).map(|n| terraform.create("weft_image", image(n))));
    let images: Vec<Value> = created.await.into_iter().map(|it| it.unwrap().value).collect();
    let begun = fake.world().begun.clone();
    let owner = |digest: &String| {
        let files = ["digest", "kernel_digest", "initrd_digest"];
        let is_it = |image: &Value, file| image.get(file).as_str() == Some(digest);
        images.iter().position(|image| files.into_iter().any(|it| is_it(image, it))).unwrap()
    };
    let mut turns: Vec<usize> = begun.iter().map(owner).collect();
    assert_eq!(turns.len(), 12);
    turns.dedup();
    assert_eq!(turns.len(), 4, "each image had one turn: {turns:?}");
}
