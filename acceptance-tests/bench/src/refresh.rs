//! Reading thousands of instances again, as each plan does: whether the time grows with their number
//! and no faster, and how much memory the provider takes for it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use weft_acceptance::{Lab, Terraform, within};

use crate::api::{Api, Wish};
use crate::floor::Floor;
use crate::processor::Cost;
use crate::report::{Line, Report, Verdict};
use crate::scale::module;

const REFRESH: [&str; 4] = ["plan", "-refresh-only", "-input=false", "-no-color"];
const ACCEPT: [&str; 5] = ["apply", "-refresh-only", "-auto-approve", "-input=false", "-no-color"];
const STATE_FILE: &str = "terraform.tfstate";
/// How often it is looked at whether a run has ended, and how much memory the provider has.
const LOOK: Duration = Duration::from_millis(100);
/// What the processor time that Weft adds for one instance may grow to, from a quarter of the instances to all.
const LINEAR: f64 = 1.25;

const WHY: &str = "Terraform's own time grows faster than the number of instances, as the no-op provider, which reads \
    nothing, shows beside it. What grows linearly is what Weft adds to it.";

pub(crate) fn measure(report: &mut Report, instances: usize, runs: usize) -> Result<()> {
    let quarter = Refreshed::of(instances / 4, runs)?;
    let all = Refreshed::of(instances, runs)?;
    report.add(Line {
        what: format!("refresh of {instances} instances (simulated host)"),
        budget: "none; a no-op provider beside it".to_owned(),
        figure: format!("{:.2} x", all.ratio()),
        beside: format!("{}; {}", all.told(), quarter.told()),
        verdict: Verdict::NoBudget,
        why: "",
    });
    let growth = all.added_ms() / quarter.added_ms();
    report.add(Line {
        what: format!("processor time that Weft adds for each of {instances}, in a refresh"),
        budget: format!("linear: at most {LINEAR} x that of {}", quarter.instances),
        figure: format!("{growth:.2} x"),
        beside: format!(
            "terraform, provider and agent over those of the no-op provider: {:.2} ms each; of {} {:.2} ms",
            all.added_ms(),
            quarter.instances,
            quarter.added_ms()
        ),
        verdict: Verdict::of(growth <= LINEAR),
        why: WHY,
    });
    report.add(Line {
        what: format!("provider memory with {instances} instances (simulated host)"),
        budget: "none; named".to_owned(),
        figure: format!("{:.0} MiB", all.peak_mib),
        beside: format!(
            "at its peak, in a refresh; with {} it is {:.0} MiB",
            quarter.instances, quarter.peak_mib
        ),
        verdict: Verdict::NoBudget,
        why: "",
    });
    Ok(())
}

struct Refreshed {
    instances: usize,
    weft: Cost,
    noop: Cost,
    /// The most that Weft's provider had resident.
    peak_mib: f64,
}

impl Refreshed {
    fn of(instances: usize, runs: usize) -> Result<Self> {
        let mut lab = Lab::simulated()?;
        let terraform = many(&mut lab, instances)?;
        let noop = beside(&lab, &terraform, instances)?;
        let agent = lab.agent().pid().context("the agent does not run")?;
        let (mut ours, mut theirs, mut peak_mib) = (Cost::default(), Cost::default(), 0.0_f64);
        for _ in 0..runs {
            ours.time(agent, || {
                refresh(&terraform, || peak_mib = peak_mib.max(provider_mib(&lab)))
            })?;
            theirs.time(agent, || refresh(&noop, || ()))?;
        }
        lab.close()?;
        Ok(Self { instances, weft: ours, noop: theirs, peak_mib })
    }

    fn ratio(&self) -> f64 {
        self.weft.seconds.ratio_to(&self.noop.seconds)
    }

    /// Processor time for each instance, in ms.
    fn added_ms(&self) -> f64 {
        let added = self.weft.processor_seconds() - self.noop.processor_seconds();
        added * 1000.0 / self.instances as f64
    }

    fn told(&self) -> String {
        format!(
            "with {} {:.2} x: Weft {}, no-op provider {}",
            self.instances,
            self.ratio(),
            self.weft.seconds,
            self.noop.seconds
        )
    }
}

/// One refresh, to its end; `look` is called now and then.
fn refresh(terraform: &Terraform, mut look: impl FnMut()) -> Result<()> {
    let mut run = terraform.start(&REFRESH)?;
    while run.is_running()? {
        look();
        std::thread::sleep(LOOK);
    }
    run.finish(within())?.success().map(drop)
}

/// The same module with the same state, of a provider that reads nothing.
fn beside(lab: &Lab, weft: &Terraform, instances: usize) -> Result<Terraform> {
    let noop = Floor::like(weft, lab.directory())?.terraform(lab)?;
    noop.main(&module(lab, instances)?)?;
    let mut state: Value =
        serde_json::from_slice(&std::fs::read(weft.directory().join(STATE_FILE))?)?;
    let resources = state["resources"].as_array_mut().context("a state without resources")?;
    for resource in resources {
        for instance in resource["instances"].as_array_mut().into_iter().flatten() {
            // It knows neither identities nor what Weft's provider notes beside.
            if let Some(fields) = instance.as_object_mut() {
                fields.retain(|name, _| !name.starts_with("identity") && name != "private");
            }
        }
    }
    std::fs::write(noop.directory().join(STATE_FILE), serde_json::to_vec_pretty(&state)?)?;
    Ok(noop)
}

/// A module with a state of so many instances. Terraform would need many minutes to make them: it writes
/// the whole state for each. So they are made by the API, and noted in the state as the first one is.
fn many(lab: &mut Lab, instances: usize) -> Result<Terraform> {
    let terraform = lab.terraform()?;
    terraform.main(&module(lab, 1)?)?;
    terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color"])?.success()?;
    let image_id = terraform.state()?.text("weft_image.it", "id")?;
    let mut api = Api::connect(&lab.agent().endpoint())?;
    let group_id = api.create_group("bench")?;
    api.create_many(&Wish { image_id, group_id, power_state: "running" }, instances - 1)?;
    let all = lab.weft_json(&["ls", "instances"])?;
    let ids = all.as_array().context("no list of instances")?.iter().map(|one| one["id"].clone());

    let path = terraform.directory().join(STATE_FILE);
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let resources = state["resources"].as_array_mut().context("a state without resources")?;
    let instance = resources.iter_mut().find(|resource| resource["type"] == "weft_instance");
    let noted = &mut instance.context("no instance in the state")?["instances"];
    let first = noted[0].clone();
    let like_it = |(index, id): (usize, Value)| {
        let mut one = first.clone();
        one["index_key"] = json!(index);
        one["attributes"]["id"] = id.clone();
        if one["identity"]["id"].is_string() {
            one["identity"]["id"] = id;
        }
        one
    };
    *noted = ids.enumerate().map(like_it).collect();
    state["serial"] = json!(state["serial"].as_u64().unwrap_or_default() + 1);
    std::fs::write(&path, serde_json::to_vec_pretty(&state)?)?;
    terraform.main(&module(lab, instances)?)?;
    // What differs from the first one is read here, so that what is measured finds nothing new.
    terraform.run(&ACCEPT)?.success()?;
    Ok(terraform)
}

/// Resident memory of the provider at its peak, as long as it runs.
fn provider_mib(lab: &Lab) -> f64 {
    let providers = lab.processes().into_iter();
    let providers = providers.filter(|one| one.command.contains("terraform-provider-weft"));
    let peak = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    providers.filter_map(|one| peak(one.pid)).fold(0.0, f64::max) / 1024.0
}
