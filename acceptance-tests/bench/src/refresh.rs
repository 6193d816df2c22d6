//! Reading thousands of instances again, as each plan does: whether the time grows with their number
//! and no faster, and how much memory the provider takes for it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use weft_acceptance::{Lab, Terraform, within};

use crate::api::{Api, Wish};
use crate::report::{Line, Report, Verdict};
use crate::samples::Samples;
use crate::scale::module;

const REFRESH: [&str; 4] = ["plan", "-refresh-only", "-input=false", "-no-color"];
const ACCEPT: [&str; 5] = ["apply", "-refresh-only", "-auto-approve", "-input=false", "-no-color"];
/// How often the provider's memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What the time for one instance may grow to, from a quarter of the instances to all.
const LINEAR: f64 = 1.25;

pub(crate) fn measure(report: &mut Report, instances: usize, runs: usize) -> Result<()> {
    let quarter = Refreshed::of(instances / 4, runs)?;
    let all = Refreshed::of(instances, runs)?;
    let each = |refreshed: &Refreshed| refreshed.seconds.median() / refreshed.instances as f64;
    let ratio = each(&all) / each(&quarter);
    report.add(Line {
        what: format!("refresh of {instances} instances (simulated host), time for each"),
        budget: format!("linear: at most {LINEAR} x that of {}", quarter.instances),
        figure: format!("{ratio:.2} x"),
        beside: format!(
            "{:.2} ms each, {} in all; of {} {:.2} ms each, {}",
            each(&all) * 1000.0,
            all.seconds,
            quarter.instances,
            each(&quarter) * 1000.0,
            quarter.seconds
        ),
        verdict: Verdict::of(ratio <= LINEAR),
        why: "",
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
    seconds: Samples,
    /// The most that a provider had resident.
    peak_mib: f64,
}

impl Refreshed {
    fn of(instances: usize, runs: usize) -> Result<Self> {
        let mut lab = Lab::simulated()?;
        let terraform = many(&mut lab, instances)?;
        let (mut seconds, mut peak_mib) = (Samples::default(), 0.0_f64);
        for _ in 0..runs {
            seconds.time(|| {
                let mut run = terraform.start(&REFRESH)?;
                while run.is_running()? {
                    peak_mib = peak_mib.max(provider_mib(&lab));
                    std::thread::sleep(LOOK);
                }
                run.finish(within())?.success()
            })?;
        }
        lab.close()?;
        Ok(Self { instances, seconds, peak_mib })
    }
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

    let path = terraform.directory().join("terraform.tfstate");
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
