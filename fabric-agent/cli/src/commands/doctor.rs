//! `weft doctor`: the agent's own checks, or this machine's where no agent answers.

mod local;

use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;
use weft_model::Problem;
use weft_proto::certificate::{ENDS_SOON, show_time};
use weft_proto::client::Endpoint;
use weft_proto::v1::{DoctorCheck, DoctorRequest};

use crate::agent::Agent;
use crate::failure::Failure;
use crate::output::{Format, clean, print, print_json};

pub(crate) async fn run(endpoint: &Endpoint, format: Format) -> Result<ExitCode, Failure> {
    let mut checks = Vec::new();
    match ask(endpoint).await {
        Ok(answered) => {
            checks.push(check("agent", "ok", format!("an agent answers at {endpoint}"), ""));
            checks.extend(answered);
        }
        Err(problem) => {
            checks.push(unreachable_agent(&problem));
            checks.extend(local::host_checks(endpoint).await);
        }
    }
    checks.extend(client_certificate(endpoint).await);
    checks.push(local::ssh_client());
    match format {
        Format::Text => print(checks.iter().map(render).collect::<String>())?,
        Format::Json => {
            let items = checks.iter().map(|check| {
                json!({
                    "name": check.name,
                    "result": check.result,
                    "finding": check.finding,
                    "remedy": check.remedy,
                })
            });
            print_json(&items.collect())?;
        }
    }
    let failed = checks.iter().any(|check| check.result == "failed");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn ask(endpoint: &Endpoint) -> Result<Vec<DoctorCheck>, Problem> {
    let agent = Agent::connect(endpoint.clone()).await?;
    let answer = agent.hosts().doctor(DoctorRequest {}).await;
    let answer = answer.map_err(|status| weft_proto::problem_from_status(&status))?;
    Ok(answer.into_inner().checks)
}

/// When this client's certificate ends, where it has one.
async fn client_certificate(endpoint: &Endpoint) -> Option<DoctorCheck> {
    if endpoint.socket().is_some() {
        return None;
    }
    // Files that cannot be used have failed the connection, which says so.
    let certificate = endpoint.credentials().client_certificate().await.ok()?;
    let name = "client certificate";
    let until = format!("of {}, valid until {}", certificate.name, show_time(certificate.ends));
    let remedy =
        format!("on the agent's machine: fabric-agent init --renew --client {}", certificate.name);
    Some(match certificate.remaining(SystemTime::now()) {
        Some(left) if left >= ENDS_SOON => check(name, "ok", until, ""),
        Some(_) => check(name, "warning", until, &remedy),
        None => check(name, "failed", until, &remedy),
    })
}

fn check(name: &str, result: &str, finding: impl Into<String>, remedy: &str) -> DoctorCheck {
    DoctorCheck {
        name: name.to_owned(),
        result: result.to_owned(),
        finding: finding.into(),
        remedy: remedy.to_owned(),
    }
}

fn unreachable_agent(problem: &Problem) -> DoctorCheck {
    let finding = match &problem.evidence {
        Some(evidence) => format!("{} ({evidence})", problem.message),
        None => problem.message.clone(),
    };
    check("agent", "failed", finding, problem.remedy.as_deref().unwrap_or("look at its log"))
}

fn render(check: &DoctorCheck) -> String {
    let DoctorCheck { name, result, finding, remedy } = check;
    let mut text = format!("{:<8} {}: {}\n", clean(result), clean(name), clean(finding));
    if !remedy.is_empty() {
        text.push_str(&format!("{:<8} help: {}\n", "", clean(remedy)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_what_why_and_how_to_mend_it() {
        assert_eq!(render(&check("kvm", "ok", "fast", "")), "ok       kvm: fast\n");
        let failed = check("qemu", "failed", "not found", "install it");
        assert_eq!(render(&failed), "failed   qemu: not found\n         help: install it\n");
    }
}
