//! Random valid configurations, 60 in all and 300 in `make accept`: each applies, the plan is empty then, what is exported is only
//! imported, and nothing is left after the destroy. Several are one root module, so that Terraform starts less often.

#[path = "configurations/beside.rs"]
mod beside;
#[path = "configurations/generator.rs"]
mod generator;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::Lab;

use crate::dice::Dice;
use crate::exports::assert_export_only_imports;
use generator::Generator;

/// Runs of each of the two tests.
const RUNS: usize = 3;
const KINDS: [&str; 16] = [
    "instances",
    "images",
    "keys",
    "groups",
    "rules",
    "vpcs",
    "subnets",
    "prefix-lists",
    "network-interfaces",
    "volumes",
    "volume-attachments",
    "snapshots",
    "elastic-ips",
    "port-forwards",
    "route-tables",
    "route-table-associations",
];

/// Configurations of one run of Terraform.
fn at_once() -> usize {
    if std::env::var_os("WEFT_THOROUGH").is_some() { 50 } else { 10 }
}

fn story() -> Result<()> {
    let lab = Lab::simulated()?;
    let counts = || KINDS.iter().map(|kind| lab.count(kind)).collect::<Result<Vec<_>>>();
    let before = counts()?;
    let mut dice = Dice::new();
    let mut resources = 0;
    for run in 0..RUNS {
        let terraform = lab.terraform()?;
        let mut generator = Generator::new(&lab, &mut dice);
        for number in 0..at_once() {
            generator.add(&format!("m{number}"))?;
        }
        let json = generator.finish();
        terraform.write("main.tf.json", &serde_json::to_string_pretty(&json)?)?;
        let told = || format!("run {run}:\n{json:#}");
        terraform.apply().with_context(told)?;
        terraform.assert_plan_is_empty().with_context(told)?;
        let made = terraform.state()?.addresses().len();
        assert_export_only_imports(&lab, made).with_context(told)?;
        resources += made;
        terraform.destroy().with_context(told)?;
        ensure!(counts()? == before, "of {KINDS:?} there were {before:?} and are {:?}", counts()?);
    }
    println!("{} configurations, {resources} resources", RUNS * at_once());
    lab.close()
}

#[test]
fn of_half_of_them_each_plan_is_empty_after_apply() -> Result<()> {
    story()
}

#[test]
fn of_the_others_each_plan_is_empty_after_apply() -> Result<()> {
    story()
}
