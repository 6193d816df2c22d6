//! A thousand instances on the simulated host: plan, apply, state, memory, restart.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_acceptance::{Lab, Terraform, eventually, within};

use crate::floor::Floor;
use crate::processor::Cost;
use crate::report::{Line, Report, Verdict};
use crate::samples::Samples;

const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];
const PLAN: [&str; 4] = ["plan", "-detailed-exitcode", "-input=false", "-no-color"];

const WHY_PLAN: &str = "each instance is read from the agent, ten at a time as Terraform asks, and each \
    read waits 2 ms for company, so that ten are one request; the no-op provider reads nothing. \
    Tried: that window was 20 ms, and the agent read the statuses of all instances for each \
    request (1.65 x, and 2.3 s of its processor time).";
const WHY_STATE: &str = "the attributes that the design names, as compact JSON, are what stands beside it; the rest \
    is Terraform's own: it indents the file, and writes a null for each attribute that is not set. \
    Nothing was left out for it: what is not in the state cannot be referred to.";

pub(crate) fn measure(report: &mut Report, instances: usize, runs: usize) -> Result<()> {
    let scratch = Lab::simulated()?;
    let floor = {
        let small = scratch.terraform()?;
        small.main(&module(&scratch, 1)?)?;
        small.apply()?;
        Floor::like(&small, scratch.directory())?
    };

    // In turns, each in a fabric of its own: nothing that one run leaves helps or hurts the next.
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    let mut kept: Option<(Lab, Terraform, Terraform)> = None;
    for _ in 0..runs {
        if let Some((lab, ..)) = kept.take() {
            lab.close()?;
        }
        let lab = Lab::simulated()?;
        let weft = lab.terraform()?;
        weft.main(&module(&lab, instances)?)?;
        ours.time(|| weft.run(&APPLY)?.success())?;
        let noop = floor.terraform(&lab)?;
        noop.main(&module(&lab, instances)?)?;
        theirs.time(|| noop.run(&APPLY)?.success())?;
        kept = Some((lab, weft, noop));
    }
    let (mut lab, weft, noop) = kept.context("no run was asked for")?;
    report.add(ratio_line(
        "apply",
        instances,
        "at most 1.3 x a no-op provider",
        1.3,
        &ours,
        &theirs,
    ));

    let mut ours = Cost::default();
    let mut theirs = Cost::default();
    let agent = lab.agent().pid().context("the agent does not run")?;
    for _ in 0..runs {
        ours.time(agent, || plan_is_empty(&weft))?;
        theirs.time(agent, || plan_is_empty(&noop))?;
    }
    let mut line = ratio_line(
        "plan",
        instances,
        "at most 1.25 x a no-op provider",
        1.25,
        &ours.seconds,
        &theirs.seconds,
    );
    line.beside += &format!(
        "; processor time of terraform and provider {:.2} s and {:.2} s, of the agent {:.2} s",
        ours.processor.median(),
        theirs.processor.median(),
        ours.agent.median()
    );
    line.why = WHY_PLAN;
    report.add(line);

    report.add(state_line(&weft, instances)?);
    report.add(memory_line(&mut lab, instances)?);
    report.add(restart_line(&mut lab, &weft, instances, runs)?);
    lab.close()
}

pub(crate) fn module(lab: &Lab, instances: usize) -> Result<String> {
    let disk = lab.directory().join("disk.raw");
    std::fs::write(&disk, vec![7; 64 * 1024])?;
    Ok(format!(
        r#"
resource "weft_image" "it" {{
  name         = "it"
  source_path  = "{}"
  default_user = "weft"
}}

resource "weft_instance" "it" {{
  count         = {instances}
  name          = "it-${{count.index}}"
  image_id      = weft_image.it.id
  instance_type = "w1.nano"
}}
"#,
        disk.display()
    ))
}

fn plan_is_empty(terraform: &Terraform) -> Result<()> {
    let finished = terraform.run(&PLAN)?;
    ensure!(finished.code() == Some(0), "the plan is not empty:\n{}", finished.text());
    Ok(())
}

fn ratio_line(
    verb: &str,
    instances: usize,
    budget: &str,
    limit: f64,
    ours: &Samples,
    floor: &Samples,
) -> Line {
    let ratio = ours.ratio_to(floor);
    Line {
        what: format!("`terraform {verb}` of {instances} instances (simulated host)"),
        budget: budget.to_owned(),
        figure: format!("{ratio:.2} x"),
        beside: format!("Weft {ours}; no-op provider {floor}"),
        verdict: Verdict::of(ratio <= limit),
        why: "",
    }
}

fn state_line(weft: &Terraform, instances: usize) -> Result<Line> {
    let path = weft.directory().join("terraform.tfstate");
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let each = text.len() as f64 / instances as f64;
    let state: Value = serde_json::from_slice(&text)?;
    // Without indentation, which is Terraform's, and without what Terraform notes of its own.
    let resources = state["resources"].as_array().into_iter().flatten();
    let values: usize = resources
        .filter(|resource| resource["type"] == "weft_instance")
        .flat_map(|resource| resource["instances"].as_array().into_iter().flatten())
        .map(|instance| instance["attributes"].to_string().len())
        .sum();
    Ok(Line {
        what: "state file, per instance".to_owned(),
        budget: "at most 1.2 KB".to_owned(),
        figure: format!("{:.2} KB", each / 1000.0),
        beside: format!(
            "the attributes alone, as compact JSON: {:.2} KB",
            values as f64 / instances as f64 / 1000.0
        ),
        verdict: Verdict::of(each <= 1200.0),
        why: WHY_STATE,
    })
}

fn memory_line(lab: &mut Lab, instances: usize) -> Result<Line> {
    let pid = lab.agent().pid().context("the agent does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no such line")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    };
    let (resident, peak) = (mib("VmRSS:")?, mib("VmHWM:")?);
    Ok(Line {
        what: format!("agent memory with {instances} instances (simulated host)"),
        budget: "at most 64 MiB".to_owned(),
        figure: format!("{resident:.0} MiB"),
        beside: format!("resident, after the apply and the plans; at its peak {peak:.0} MiB"),
        verdict: Verdict::of(resident <= 64.0),
        why: "",
    })
}

fn restart_line(lab: &mut Lab, weft: &Terraform, instances: usize, runs: usize) -> Result<Line> {
    let launched = |lab: &Lab| -> Result<Vec<Value>> {
        let all = lab.weft_json(&["ls", "instances"])?;
        let all = all.as_array().context("no list of instances")?.iter();
        Ok(all.map(|instance| instance["status"].clone()).collect())
    };
    let before = launched(lab)?;
    ensure!(before.len() == instances, "there are {} instances", before.len());
    let mut times = Samples::default();
    for _ in 0..runs {
        lab.agent().kill_9()?;
        let start = Instant::now();
        lab.start_agent()?;
        eventually("all instances are adopted", within(), || {
            Ok((launched(lab)? == before).then_some(()))
        })?;
        times.push(start.elapsed().as_secs_f64());
    }
    plan_is_empty(weft)?;
    Ok(Line {
        what: format!("restart with {instances} instances (simulated host)"),
        budget: "all adopted in 2 s, nothing touched".to_owned(),
        figure: format!("{:.2} s", times.most()),
        beside: format!(
            "the slowest of {times}: from `fabric-agent serve` after kill -9 to the same status \
             of all; the plan is empty afterwards"
        ),
        verdict: Verdict::of(times.most() <= 2.0),
        why: "",
    })
}
