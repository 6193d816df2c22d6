//! Waiting for an instance, and saying why the wait was in vain.

mod console;
mod evidence;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_model::{
    CloudInitOutcome, CloudInitReport, Direction, InstanceId, InstanceSpec, InstanceState,
    InstanceStatus, Phase, Problem, Reason, Record, RulePeer, Service, Signal, SignalOutcome,
    WaitFor, shows_itself,
};
use weft_proto::v1;
use weft_proto::v1::wait_request::Until as WireUntil;

use crate::cache::next_of;
use crate::context::Context;
use evidence::Seen;

type Answers = std::pin::Pin<Box<dyn futures::Stream<Item = Result<v1::WaitEvent, Status>> + Send>>;

/// The condition that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Ready(WaitFor),
    Stopped,
    Gone,
}

/// How far the condition is.
enum Verdict {
    Done,
    NotYet,
    /// It cannot come to hold any more.
    InVain(Problem),
}

/// The longest wait, in seconds; also the default.
const MAX_SECONDS: u32 = 24 * 3600;

/// Starts a wait and streams what is reached.
///
/// # Errors
/// A [`Problem`] at the field that is wrong.
pub(crate) fn start(context: Arc<Context>, request: v1::WaitRequest) -> Result<Answers, Problem> {
    let v1::WaitRequest { id, until, timeout_seconds } = request;
    let id: InstanceId =
        id.parse().map_err(|e: weft_model::InvalidId| Problem::invalid("id", e.to_string()))?;
    let until = match until {
        Some(WireUntil::WaitFor(word)) => {
            Until::Ready(word.parse().map_err(|problem: Problem| problem.at("wait_for"))?)
        }
        Some(WireUntil::Stopped(_)) => Until::Stopped,
        Some(WireUntil::Gone(_)) => Until::Gone,
        None => return Err(Problem::invalid("until", "nothing to wait for is named")),
    };
    let seconds = match timeout_seconds {
        0 => MAX_SECONDS,
        seconds => seconds.min(MAX_SECONDS),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let waiting = wait(&context, &id, until, &sender);
        let deadline = Duration::from_secs(seconds.into());
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(deadline, waiting) => outcome,
            // Nobody listens any more.
            () = sender.closed() => return,
        };
        let problem = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(problem)) => problem,
            Err(_) => timed_out(&context, &id, until, seconds),
        };
        let problem = explain(&context, &id, until, problem).await;
        let _ = sender.send(Err(crate::api::refuse(problem))).await;
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn wait(
    context: &Context,
    id: &InstanceId,
    until: Until,
    sender: &Sender<Result<v1::WaitEvent, Status>>,
) -> Result<(), Problem> {
    // Subscribed before the first look: no change in between is missed.
    let mut changes = context.cache.changes();
    let mut told = None;
    loop {
        let (record, status) = {
            let world = context.cache.read();
            (world.instances.get(id).cloned(), world.statuses.get(id).cloned())
        };
        let verdict = judge(id, until, record.as_deref(), status.as_deref());
        let state = status.as_ref().map_or("", |status| status.state.as_str());
        let phase = status.as_ref().and_then(|status| status.phases.last());
        let phase = phase.map_or("", |record| record.phase.as_str());
        let done = matches!(verdict, Verdict::Done);
        if done && until == Until::Gone {
            // Whoever removes the record gives back the address before it ends its turn.
            drop(context.turns().object(id.as_str()).await);
        }
        if done || told != Some((state.to_owned(), phase.to_owned())) {
            told = Some((state.to_owned(), phase.to_owned()));
            let event = v1::WaitEvent { state: state.to_owned(), phase: phase.to_owned(), done };
            if sender.send(Ok(event)).await.is_err() {
                return Ok(());
            }
        }
        match verdict {
            Verdict::Done => return Ok(()),
            Verdict::InVain(problem) => return Err(problem),
            Verdict::NotYet => {}
        }
        next_of(&mut changes, id.as_str()).await?;
    }
}

/// Pure: whether the condition holds.
fn judge(
    id: &InstanceId,
    until: Until,
    record: Option<&Record<InstanceId, InstanceSpec>>,
    status: Option<&InstanceStatus>,
) -> Verdict {
    let Some(record) = record else {
        return match until {
            Until::Gone => Verdict::Done,
            _ => Verdict::InVain(Problem::not_found(format!("instance {id} does not exist"))),
        };
    };
    let Some(status) = status else { return Verdict::NotYet };
    let in_vain = |what: &str| {
        let reason = status.reason.as_deref().unwrap_or("no reason is known");
        let message = format!("instance {id} {what}: {reason}");
        Verdict::InVain(Problem::new(Reason::FailedPrecondition, message))
    };
    let current = status.epoch == record.spec.run_epoch;
    match (until, status.state) {
        (Until::Gone, _) => Verdict::NotYet,
        (_, InstanceState::Terminating) => Verdict::InVain(Problem::new(
            Reason::FailedPrecondition,
            format!("instance {id} is being deleted"),
        )),
        (Until::Stopped, InstanceState::Stopped | InstanceState::Failed) => Verdict::Done,
        (Until::Stopped, _) | (Until::Ready(_), InstanceState::Stopping) => Verdict::NotYet,
        (Until::Ready(WaitFor::None), _) => Verdict::Done,
        // The launch that was asked for has not been seen yet.
        (_, InstanceState::Failed | InstanceState::Stopped)
            if status.ended_epoch < record.spec.run_epoch
                && record.spec.power == weft_model::PowerState::Running =>
        {
            Verdict::NotYet
        }
        (_, InstanceState::Failed) => in_vain("failed"),
        (_, InstanceState::Stopped) => in_vain("is stopped"),
        (Until::Ready(WaitFor::Running), InstanceState::Running) if current => Verdict::Done,
        (Until::Ready(WaitFor::Ssh), InstanceState::Running)
            if current && status.reached(Phase::SshBanner).is_some() =>
        {
            Verdict::Done
        }
        (Until::Ready(WaitFor::CloudInit), InstanceState::Running) if current => {
            status.cloud_init.as_ref().map_or(Verdict::NotYet, |report| judge_report(id, report))
        }
        (Until::Ready(WaitFor::Signal), InstanceState::Running) if current => {
            status.signal.as_ref().map_or(Verdict::NotYet, |signal| judge_signal(id, signal))
        }
        _ => Verdict::NotYet,
    }
}

/// What cloud-init recovered from is no failure: `weft get` shows it.
fn judge_report(id: &InstanceId, report: &CloudInitReport) -> Verdict {
    if report.outcome != CloudInitOutcome::Error {
        return Verdict::Done;
    }
    let why = match report.errors.as_slice() {
        [] if report.detail.is_empty() => "the guest did not say what failed".to_owned(),
        [] => report.detail.clone(),
        errors => errors.join("; "),
    };
    let message = format!("cloud-init failed in instance {id}: {why}");
    Verdict::InVain(Problem::new(Reason::FailedPrecondition, message))
}

fn judge_signal(id: &InstanceId, signal: &Signal) -> Verdict {
    if signal.outcome == SignalOutcome::Success {
        return Verdict::Done;
    }
    let why = match signal.reason.as_str() {
        "" => "it gave no reason",
        reason => reason,
    };
    let message = format!("instance {id} signalled failure: {why}");
    Verdict::InVain(Problem::new(Reason::FailedPrecondition, message))
}

fn timed_out(context: &Context, id: &InstanceId, until: Until, seconds: u32) -> Problem {
    let what = match until {
        Until::Ready(WaitFor::Ssh) => "did not answer on SSH",
        Until::Ready(WaitFor::CloudInit) => "did not report cloud-init's end",
        Until::Ready(WaitFor::Signal) => "did not signal",
        Until::Ready(_) => "did not run",
        Until::Stopped => "did not stop",
        Until::Gone => "was not removed",
    };
    let reason = context.cache.read().statuses.get(id).and_then(|status| status.reason.clone());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Problem::new(
        Reason::DeadlineExceeded,
        format!("instance {id} {what} within {seconds} s{reason}"),
    )
}

/// Adds what was seen and what to do next.
async fn explain(context: &Context, id: &InstanceId, until: Until, problem: Problem) -> Problem {
    let (record, status) = {
        let world = context.cache.read();
        (world.instances.get(id).cloned(), world.statuses.get(id).cloned())
    };
    let (Some(record), Some(status)) = (record, status) else { return problem };
    let console = context.host.console_tail(id, console::BYTES).await;
    let seen = Seen {
        id,
        until,
        status: &status,
        asked: context.reconciler.seen_asking(id, status.epoch),
        ssh: context.reconciler.last_probe(id),
        groups: &admitted(context, &record),
        console: console
            .map(|bytes| console::lines(&bytes))
            .map_err(|error| crate::error_chain::ErrorChain(&error).to_string()),
    };
    let mut problem = problem.evidence(seen.evidence()).remedy(seen.remedy());
    // Its reason may hold what a hypervisor or a guest wrote.
    problem.message.retain(|c| c == '\n' || shows_itself(c));
    problem
}

/// Whether the groups let new connections to port 22 in, from where.
fn admitted(context: &Context, record: &Record<InstanceId, InstanceSpec>) -> String {
    let world = context.cache.read();
    let interface = &record.spec.interface;
    let groups = world.groups_of(interface);
    let rules: Vec<String> = world
        .rules
        .values()
        .filter(|rule| {
            groups.contains(&rule.spec.group_id) && rule.spec.direction == Direction::Ingress
        })
        .filter(|rule| rule.spec.is_about(&Service::Tcp(22)))
        .map(|rule| match &rule.spec.peer {
            RulePeer::Cidr(range) => range.to_string(),
            RulePeer::Group(id) => format!("members of {id}"),
            RulePeer::PrefixList(id) => format!("the ranges of {id}"),
        })
        .collect();
    match rules.is_empty() {
        true => {
            "no rule admits port 22 from anywhere (this wait passes beside the groups)".to_owned()
        }
        false => format!("port 22 is admitted from {}", rules.join(", ")),
    }
}

#[cfg(test)]
mod tests;
