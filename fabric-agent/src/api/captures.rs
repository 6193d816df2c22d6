//! `Images.Capture`: an image's disk made of a disk that there is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Response;
use weft_model::{BootMode, Consistency, Problem};
use weft_proto::convert::consistency_from_wire;
use weft_proto::v1::{self, capture_request};

use super::{Answers, refuse};
use crate::captures::{Captured, Source, capture};
use crate::context::Context;

/// Between two signs of life.
const EVENT_EVERY: Duration = Duration::from_secs(1);
/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 128;

fn parse(request: v1::CaptureRequest) -> Result<(String, Source), Problem> {
    let v1::CaptureRequest { client_token, source, reboot, consistency } = request;
    let consistency = consistency_from_wire(&consistency)?;
    let frozen = consistency == Consistency::Frozen;
    if reboot && frozen {
        let message = "a guest that shuts down is not frozen";
        return Err(Problem::invalid("consistency", message).remedy("ask for one of both"));
    }
    if client_token.is_empty() || client_token.len() > MAX_TOKEN_BYTES {
        let message = format!("a client token has 1 to {MAX_TOKEN_BYTES} bytes");
        return Err(Problem::invalid("client_token", message));
    }
    let invalid = |field: &str| {
        let field = field.to_owned();
        move |error: weft_model::InvalidId| Problem::invalid(field, error.to_string())
    };
    let source = match source {
        Some(capture_request::Source::InstanceId(id)) => {
            let id = id.parse().map_err(invalid("source_instance_id"))?;
            Source::Instance { id, reboot, consistency }
        }
        Some(capture_request::Source::SnapshotId(_)) if reboot => {
            let message = "a snapshot is made already: nothing is rebooted for it";
            return Err(Problem::invalid("snapshot_without_reboot", message));
        }
        Some(capture_request::Source::SnapshotId(_)) if frozen => {
            let message = "a snapshot is made already: nothing is frozen for it";
            return Err(Problem::invalid("consistency", message)
                .remedy("have the snapshot itself made with consistency = \"frozen\""));
        }
        Some(capture_request::Source::SnapshotId(id)) => {
            Source::Snapshot(id.parse().map_err(invalid("source_snapshot_id"))?)
        }
        None => {
            let message = "nothing says what is to be captured";
            return Err(Problem::invalid("source", message).remedy("set one of both sources"));
        }
    };
    Ok((client_token, source))
}

/// Carries the capture out to its end, also when this client goes away: the disk is whole then, and
/// the client may ask again.
pub(super) fn start(
    context: &Arc<Context>,
    request: v1::CaptureRequest,
) -> Result<Response<Answers<v1::CaptureEvent>>, Problem> {
    let (token, source) = parse(request)?;
    let (events, receiver) = mpsc::channel(1);
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let mut alive = tokio::time::interval(EVENT_EVERY);
        let captured = capture(&context, &token, source);
        tokio::pin!(captured);
        let outcome = loop {
            // Nothing is awaited in an arm but the sending of an event, which a full channel skips.
            tokio::select! {
                outcome = &mut captured => break outcome,
                _ = alive.tick() => {
                    let _ = events.try_send(Ok(v1::CaptureEvent::default()));
                }
            }
        };
        if let Err(problem) = &outcome {
            tracing::info!(reason = ?problem.reason, error = %problem, "an image could not be captured");
        }
        // A client that has gone hears nothing.
        let _ = events.send(outcome.map(last).map_err(refuse)).await;
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

fn last(captured: Captured) -> v1::CaptureEvent {
    let Captured { digest, boots } = captured;
    let kernel = boots.kernel.filter(|_| boots.boot_mode == BootMode::DirectKernel);
    v1::CaptureEvent {
        done: true,
        disk_sha256: digest.to_string(),
        boot_mode: boots.boot_mode.to_string(),
        kernel: kernel.map(|kernel| v1::Kernel {
            kernel_sha256: kernel.kernel.to_string(),
            initrd_sha256: kernel.initrd.map(|digest| digest.to_string()),
            cmdline: kernel.cmdline,
        }),
        architecture: boots.architecture.to_string(),
        default_user: boots.default_user,
    }
}
