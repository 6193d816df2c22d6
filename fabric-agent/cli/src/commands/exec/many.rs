//! The same command in several instances, some at a time.

use std::collections::VecDeque;
use std::io::Write as _;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use weft_model::{InstanceView, Problem, Reason};

use super::output::{KEPT_BYTES, Kept, Sink, Stream, carry};
use super::{Args, give_up, pass, targets};
use crate::agent::Agent;
use crate::commands::login::{self, Logins, Prompts, Signals, exit_code};
use crate::failure::{self, Failure};
use crate::output::{Format, print, print_json};

/// How one instance's command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Status(u8),
    TimedOut,
    NotRun(String),
}

#[derive(Debug)]
struct Outcome {
    place: usize,
    end: End,
    out: Kept,
    err: Kept,
}

pub(super) async fn run(
    agent: &Agent,
    args: &Args,
    views: Vec<InstanceView>,
    format: Format,
) -> Result<ExitCode, Failure> {
    let logins = Logins::at(agent, &args.access, &views)?;
    let labels = targets::labels(&views);
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let is_kept = args.collect || format == Format::Json;
    let mut outcomes = Vec::new();
    let mut waiting = VecDeque::new();
    for (place, view) in views.iter().enumerate() {
        match login::reachable(view) {
            Ok(()) => waiting.push_back((place, logins.ssh(view, Prompts::None, &[args.line()])?)),
            Err(problem) => outcomes.push(Outcome {
                place,
                end: End::NotRun(problem.message),
                out: Kept::default(),
                err: Kept::default(),
            }),
        }
    }
    let mut signals = Signals::catch()?;
    // Dropping the set ends what runs: each ssh is killed with its task.
    let mut running = JoinSet::new();
    loop {
        while running.len() < usize::from(args.parallel) {
            let Some((place, ssh)) = waiting.pop_front() else { break };
            let label = (!is_kept).then(|| format!("{:<width$}", labels[place]));
            running.spawn(one(place, ssh, label, args.deadline()));
        }
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            caught = signals.next() => {
                running.shutdown().await;
                let code = 128_i32.saturating_add(caught as i32);
                return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
            }
        };
        let Some(ended) = ended else { break };
        let outcome = ended.map_err(|error| Failure::internal("wait for ssh", &error))??;
        if args.collect && format == Format::Text {
            tell_whole(&labels[outcome.place], &outcome)?;
        }
        outcomes.push(outcome);
    }
    outcomes.sort_by_key(|outcome| outcome.place);
    if format == Format::Json {
        let json = outcomes.iter().map(|one| to_json(&views[one.place], one, args));
        print_json(&Value::Array(json.collect()))?;
    }
    Ok(match summary(&labels, &outcomes, args) {
        None => ExitCode::SUCCESS,
        Some(problem) => {
            failure::report_problem(&problem);
            ExitCode::FAILURE
        }
    })
}

/// Runs one ssh to its end, or for as long as it may. Without a label, what it says is kept.
async fn one(
    place: usize,
    mut ssh: Command,
    label: Option<String>,
    deadline: Option<std::time::Duration>,
) -> Result<Outcome, Failure> {
    let kept = [(); 2].map(|()| Arc::new(Mutex::new(Kept::default())));
    let sinks = match label {
        Some(label) => [Sink::Lines(Stream::Out, label.clone()), Sink::Lines(Stream::Err, label)],
        None => [Sink::Kept(Arc::clone(&kept[0])), Sink::Kept(Arc::clone(&kept[1]))],
    };
    ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = login::spawn(&mut ssh)?;
    let [out, err] = sinks;
    let streams = async {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let carried = async { if let Some(s) = stdout { carry(s, out).await } else { Ok(()) } };
        let told = async { if let Some(s) = stderr { carry(s, err).await } else { Ok(()) } };
        tokio::try_join!(carried, told).map_err(Failure::Output)?;
        child.wait().await.map_err(|error| Failure::internal("wait for ssh", &error))
    };
    let ended = tokio::select! {
        status = streams => Some(status?),
        () = pass(deadline) => None,
    };
    let end = match ended {
        Some(status) => End::Status(exit_code(status)),
        None => {
            give_up(&mut child).await;
            End::TimedOut
        }
    };
    let [out, err] =
        kept.map(|kept| std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner)));
    Ok(Outcome { place, end, out, err })
}

/// As tail(1) tells several files apart.
fn tell_whole(label: &str, outcome: &Outcome) -> Result<(), Failure> {
    let whole = |kept: &Kept| {
        let mut text = format!("==> {label} <==\n").into_bytes();
        text.extend_from_slice(&kept.bytes);
        if !kept.bytes.is_empty() && !kept.bytes.ends_with(b"\n") {
            text.push(b'\n');
        }
        if kept.truncated {
            text.extend_from_slice(format!("[more than {KEPT_BYTES} bytes]\n").as_bytes());
        }
        text
    };
    print(whole(&outcome.out))?;
    if !outcome.err.bytes.is_empty() {
        std::io::stderr().lock().write_all(&whole(&outcome.err)).map_err(Failure::Output)?;
    }
    Ok(())
}

fn to_json(view: &InstanceView, outcome: &Outcome, args: &Args) -> Value {
    let status = match &outcome.end {
        End::Status(status) => json!(status),
        _ => Value::Null,
    };
    json!({
        "id": view.object.id,
        "name": view.object.spec.name,
        "exit_status": status,
        "error": why(&outcome.end, args),
        "stdout": String::from_utf8_lossy(&outcome.out.bytes),
        "stderr": String::from_utf8_lossy(&outcome.err.bytes),
        "truncated": outcome.out.truncated || outcome.err.truncated,
    })
}

/// `None` where it went well.
fn why(end: &End, args: &Args) -> Option<String> {
    Some(match end {
        End::Status(0) => return None,
        End::Status(login::CONNECTION_FAILED) => {
            format!("exit status {}: no login, or the command's own", login::CONNECTION_FAILED)
        }
        End::Status(status) => format!("exit status {status}"),
        End::TimedOut => {
            format!("not ended within {} s; it may go on in the guest", args.timeout.unwrap_or(0))
        }
        End::NotRun(why) => why.clone(),
    })
}

fn summary(labels: &[String], outcomes: &[Outcome], args: &Args) -> Option<Problem> {
    let failed: Vec<String> = outcomes
        .iter()
        .filter_map(|one| Some(format!("{}: {}", labels[one.place], why(&one.end, args)?)))
        .collect();
    if failed.is_empty() {
        return None;
    }
    let message = format!("the command failed in {} of {} instances", failed.len(), labels.len());
    Some(Problem::new(Reason::FailedPrecondition, message).evidence(failed.join("\n")))
}
