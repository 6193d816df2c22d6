//! What instances show.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use v1::wait_request::Until;
use weft_model::Reason;
use weft_proto::v1;

use crate::support::{Agent, Api, instance_spec, ok, refusal, stop_request, update_context};

async fn with_display(api: &Api, name: &str) -> String {
    let image = api.image_id().await;
    let spec = v1::InstanceSpec { display: Some(true), ..instance_spec(name, &image) };
    let id = ok(api.create(spec).await).metadata.unwrap().id;
    api.wait(&id, Until::WaitFor("running".to_owned())).await.unwrap();
    id
}

async fn picture(api: &Api, id: &str) -> Vec<u8> {
    let request = v1::ScreenshotRequest { id: id.to_owned() };
    let mut chunks = ok(api.instances.clone().screenshot(request).await);
    let mut picture = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        picture.extend(chunk.data);
    }
    picture
}

#[tokio::test]
async fn a_display_is_seen_and_used_while_its_guest_runs() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let id = with_display(&api, "web").await;
    let png = picture(&api, &id).await;
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xae\x42\x60\x82"));

    let (sender, input) = mpsc::channel(4);
    let hello = v1::DisplayInput { id: id.clone(), data: Vec::new() };
    sender.send(hello).await.unwrap();
    let output = api.instances.clone().open_display(ReceiverStream::new(input)).await;
    let mut output = ok(output);
    let said = output.message().await.unwrap().unwrap().data;
    assert_eq!(said, b"RFB 003.008\n");
    sender.send(v1::DisplayInput { id: String::new(), data: said }).await.unwrap();
    assert_eq!(output.message().await.unwrap().unwrap().data, b"RFB 003.008\n");
    drop(sender);
    while output.message().await.unwrap().is_some() {}

    ok(api.instances.clone().stop(stop_request(&id)).await);
    api.wait(&id, Until::Stopped(true)).await.unwrap();
    let request = v1::ScreenshotRequest { id: id.clone() };
    let problem = refusal(api.instances.clone().screenshot(request).await);
    assert_eq!(problem.reason, Reason::FailedPrecondition);
    assert_eq!(problem.message, format!("instance {id} is stopped: its display shows nothing"));
    assert!(problem.remedy.unwrap().contains("weft start"));
}

#[tokio::test]
async fn an_instance_gets_a_display_by_a_restart_and_loses_it_by_one() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let image = api.image_id().await;
    let mut instance = api.running("web", &image).await;
    let id = instance.metadata.clone().unwrap().id;
    let free = api.free_memory_mib().await;
    for (display, epoch) in [(true, 2), (true, 2), (false, 3)] {
        let seen = api.instances.clone();
        let shown = |seen: Result<_, _>| match seen {
            Ok(_) => None,
            Err(status) => Some(weft_proto::problem_from_status(&status)),
        };
        let mut spec = instance.spec.clone().unwrap();
        (spec.vcpus, spec.memory_mib) = (None, None);
        spec.display = Some(display);
        let context = update_context(instance.metadata.as_ref());
        let request = v1::UpdateInstanceRequest { context, spec: Some(spec) };
        instance = ok(api.instances.clone().update(request).await);
        assert_eq!(instance.spec.as_ref().unwrap().display, Some(display));
        assert_eq!(instance.assigned.as_ref().unwrap().run_epoch, epoch);
        api.wait(&id, Until::WaitFor("ssh".to_owned())).await.unwrap();
        // The video memory, and what shows it, are the host's too.
        let less = if display { 64 } else { 0 };
        assert_eq!(api.free_memory_mib().await, free - less);
        let request = v1::ScreenshotRequest { id: id.clone() };
        let problem = shown(seen.clone().screenshot(request).await);
        if display {
            assert_eq!(problem, None);
        } else {
            let problem = problem.unwrap();
            assert_eq!(problem.message, format!("instance {id} has no display"));
            assert!(problem.remedy.unwrap().contains("display = true"));
        }
    }
}

#[tokio::test]
async fn a_hibernated_guest_keeps_the_machine_that_it_knows() {
    let agent = Agent::start().await;
    let api = agent.api().await;
    let id = with_display(&api, "web").await;
    let get = v1::GetRequest { id: id.clone(), claim: false };
    ok(api.instances.clone().hibernate(get).await);
    let instance = api.instance(&id).await;
    let mut spec = instance.spec.clone().unwrap();
    (spec.vcpus, spec.memory_mib) = (None, None);
    spec.display = None;
    let context = update_context(instance.metadata.as_ref());
    let request = v1::UpdateInstanceRequest { context, spec: Some(spec) };
    let problem = refusal(api.instances.clone().update(request).await);
    assert_eq!(problem.field.as_deref(), Some("display"));
    assert!(problem.message.contains("is hibernated"), "{problem}");
}
