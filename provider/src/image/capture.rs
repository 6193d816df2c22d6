//! Images of disks that the agent has: of an instance, or of a snapshot of one.
//!
//! The agent makes a blob of the disk and says what an image of it needs; registering it is the same
//! as with any other image.

use std::time::Duration;

use tfplugin::{ApplyContext, Diagnostic, Diagnostics, Value};
use tokio::time::Instant;
use weft_model::{Consistency, Problem, Reason};
use weft_proto::v1::capture_request::Source;
use weft_proto::v1::images_client::ImagesClient;
use weft_proto::{problem_from_status, v1};

use super::Image;
use crate::agent::verdict::{MAX_NOT_NOW, Verdict};
use crate::agent::{Connection, random_token};
use crate::kind;

/// What an image can be made of.
pub(super) const SOURCES: [&str; 2] = ["source_instance_id", "source_snapshot_id"];
/// What can be true of a disk that is captured: words of snapshots, and that its guest has shut down.
pub(super) const CONSISTENCIES: [&str; 3] =
    [Consistency::Crash.as_str(), Consistency::Frozen.as_str(), STOPPED];
const STOPPED: &str = "stopped";
/// What comes along with the disk, and cannot be chosen.
pub(super) const INHERITED: [&str; 8] = [
    "source_path",
    "source_url",
    "sha256",
    "kernel",
    "kernel_sha256",
    "initrd",
    "initrd_sha256",
    "kernel_cmdline",
];
/// How long the agent may be out of reach: it is restarted in a few seconds, or not at all.
const OUT_OF_REACH: Duration = Duration::from_secs(60);
/// Between two streams.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether the agent makes the disk of one that it has.
pub(super) fn is_captured(values: &Value) -> bool {
    SOURCES.iter().any(|name| !values.get(*name).is_null())
}

/// What configuration alone shows to be wrong with an image of a disk.
pub(super) fn validate(config: &Value) -> Diagnostics {
    let mut found = Diagnostics::new();
    if SOURCES.iter().all(|name| config.get(*name).is_set()) {
        found.push(
            Diagnostic::error("The image has two sources")
                .cause("both source_instance_id and source_snapshot_id are set")
                .remedy("Keep one of them")
                .at("source_snapshot_id"),
        );
    }
    let source = SOURCES.into_iter().find(|name| config.get(*name).is_set()).unwrap_or(SOURCES[0]);
    for name in INHERITED.into_iter().filter(|name| config.get(*name).is_set()) {
        found.push(
            Diagnostic::error(format!("{name} beside {source}"))
                .cause("the disk, and how it boots, come from the instance that is captured")
                .remedy(format!("Remove {name}, or {source}"))
                .at(name),
        );
    }
    if config.get("boot_mode").is_set() {
        found.push(
            Diagnostic::error(format!("boot_mode beside {source}"))
                .cause("an image boots as the instance did that it is made of")
                .remedy("Remove boot_mode")
                .at("boot_mode"),
        );
    }
    found
}

/// What needs an instance to be captured, or none to be.
pub(super) fn validate_others(config: &Value, found: &mut Diagnostics) {
    let others = [
        ("snapshot_without_reboot", "no instance is captured that could be rebooted"),
        ("consistency", "no instance is captured that could be frozen or shut down"),
    ];
    for (name, cause) in others {
        if config.get(name).is_set() && config.get(SOURCES[0]).is_null() {
            found.push(
                Diagnostic::error(format!("{name} without source_instance_id"))
                    .cause(cause)
                    .remedy("Remove it, or set source_instance_id")
                    .at(name),
            );
        }
    }
    if others.iter().all(|(name, _)| config.get(*name).is_set()) {
        found.push(
            Diagnostic::error("consistency beside snapshot_without_reboot")
                .cause("both say how the instance is captured")
                .remedy("Keep consistency: \"stopped\" is snapshot_without_reboot = false")
                .at("consistency"),
        );
    }
    if config.get("default_user").is_null() && !is_captured(config) {
        found.push(
            Diagnostic::error("default_user is missing")
                .cause("default_user is required unless the image is made of an instance or a snapshot, whose user it has then")
                .remedy("Set default_user to who logs in over SSH, such as \"debian\"")
                .at("default_user"),
        );
    }
}

impl Image {
    /// Has the agent make the disk; returns the plan with everything known that comes with it.
    pub(super) async fn capture(
        &self,
        connection: &Connection,
        ctx: &ApplyContext,
        deadline: Instant,
    ) -> Result<Value, Diagnostics> {
        let failed = |problem: Problem| kind::fail::<Self>("create", &problem, &ctx.config);
        let mut plan = ctx.plan.clone();
        let instance: Option<String> = plan.read(SOURCES[0])?;
        let snapshot: Option<String> = plan.read(SOURCES[1])?;
        let asked: Option<String> = plan.read("consistency")?;
        let reboot = match asked.as_deref() {
            Some(word) => word == STOPPED,
            None => plan.get("snapshot_without_reboot").as_bool() == Some(false),
        };
        let consistency = asked.filter(|word| word != STOPPED).unwrap_or_default();
        let source = instance.map(Source::InstanceId).or_else(|| snapshot.map(Source::SnapshotId));
        let client_token = random_token().map_err(failed)?;
        let request = v1::CaptureRequest { client_token, source, reboot, consistency };
        let followed = tokio::select! {
            biased;
            followed = follow(connection, &request) => followed,
            () = ctx.cancel.cancelled() => Err(Problem::new(
                Reason::FailedPrecondition,
                "waiting for the image's disk was cancelled",
            ).remedy("apply again to make it; the agent removes what it has begun")),
            () = tokio::time::sleep_until(deadline) => Err(Problem::new(
                Reason::DeadlineExceeded,
                "the agent has not made the image's disk in time",
            ).remedy("apply again, with a higher timeouts.create; see the agent's log")),
        };
        let v1::CaptureEvent {
            done: _,
            disk_sha256,
            boot_mode,
            kernel,
            architecture,
            default_user,
        } = followed.map_err(failed)?;
        plan.set("digest", disk_sha256);
        plan.set("boot_mode", boot_mode);
        if plan.get("architecture").is_unknown() {
            plan.set("architecture", architecture);
        }
        if !plan.get("default_user").is_set() {
            plan.set("default_user", default_user);
        }
        let cmdline = kernel.as_ref().map(|kernel| kernel.cmdline.clone());
        plan.set("kernel_cmdline", cmdline.filter(|cmdline| !cmdline.is_empty()));
        plan.set("initrd_digest", kernel.as_ref().and_then(|it| it.initrd_sha256.clone()));
        plan.set("kernel_digest", kernel.map(|kernel| kernel.kernel_sha256));
        Ok(plan)
    }
}

/// Asks, and asks again where the answer breaks off: the token goes on with what was begun.
async fn follow(
    connection: &Connection,
    request: &v1::CaptureRequest,
) -> Result<v1::CaptureEvent, Problem> {
    let (mut heard_of, mut not_now) = (Instant::now(), 0);
    loop {
        let channel = connection.channel().await?;
        let answer = async {
            let mut events =
                ImagesClient::new(channel).capture(request.clone()).await?.into_inner();
            while let Some(event) = events.message().await? {
                heard_of = Instant::now();
                if event.done {
                    return Ok(event);
                }
            }
            Err(tonic::Status::unavailable("the agent ended its answer without a result"))
        };
        let status = match answer.await {
            Ok(event) => return Ok(event),
            Err(status) => status,
        };
        match Verdict::of(&status) {
            Verdict::Away if Instant::now() < heard_of + OUT_OF_REACH => not_now = 0,
            Verdict::Away => return Err(connection.explain(&status).await),
            Verdict::NotNow if not_now < MAX_NOT_NOW => not_now += 1,
            Verdict::NotNow | Verdict::Refused => return Err(problem_from_status(&status)),
        }
        tracing::warn!(%status, "the agent's answer broke off, asking again");
        tokio::time::sleep(PAUSE).await;
    }
}
