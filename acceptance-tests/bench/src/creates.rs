//! Many Creates at the same time: how long they take together, and that no two get the same.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use weft_proto::v1;

use crate::fabric::Fabric;
use crate::report::{Line, Report, Verdict};
use crate::samples::{Samples, milliseconds};

const AT_ONCE: usize = 200;

pub(crate) fn measure(report: &mut Report, runs: usize) -> Result<()> {
    // Admission alone: guests of 200 instances would take all of the machine.
    let Some(mut fabric) = Fabric::new("stopped")? else { return Ok(()) };
    let (mut alone, mut together) = (Samples::default(), Samples::default());
    let mut made = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        for _ in 0..AT_ONCE {
            made.push(fabric.api.create(&fabric.wish)?);
        }
        alone.push(milliseconds(start.elapsed()));
        let start = Instant::now();
        made.extend(fabric.api.create_at_once(&fabric.wish, AT_ONCE)?);
        together.push(milliseconds(start.elapsed()));
    }
    let addresses = made.iter().map(address).collect::<Result<BTreeSet<_>>>()?;
    let (distinct, all) = (addresses.len(), made.len());
    ensure!(distinct == all, "{all} instances have {distinct} addresses");
    report.add(Line {
        what: format!("{AT_ONCE} Creates at once, each answered with its address"),
        budget: "none; one after the other beside it".to_owned(),
        figure: format!("{:.2} x", together.ratio_to(&alone)),
        beside: format!(
            "{}, {:.2} ms each; one after the other {}; {distinct} addresses for {all} instances",
            together.show("ms", 0),
            together.median() / AT_ONCE as f64,
            alone.show("ms", 0)
        ),
        verdict: Verdict::NoBudget,
        why: "",
    });
    fabric.lab.close()
}

fn address(instance: &v1::Instance) -> Result<String> {
    let spec = instance.spec.as_ref().context("the instance has no specification")?;
    spec.private_ip.clone().context("the instance has no address")
}
