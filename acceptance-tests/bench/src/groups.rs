//! From a changed rule to its being enforced, with few and with many members of its group.

use anyhow::Result;

use crate::api::Wish;
use crate::fabric::Fabric;
use crate::report::{Line, Report, Verdict};
use crate::samples::{Samples, milliseconds};

const FEW: usize = 100;
/// Groups in the VPC, each with a member and a rule that names the large group.
const GROUPS: usize = 500;
/// Changes that are timed.
const CHANGES: u16 = 200;

pub(crate) fn measure(report: &mut Report, many: usize) -> Result<()> {
    // Stopped instances are members like others; guests would only take time from the agent.
    let Some(mut fabric) = Fabric::new("stopped")? else { return Ok(()) };
    fabric.api.create_many(&fabric.wish, FEW)?;
    let group = fabric.wish.group_id.clone();
    let rule = fabric.api.create_rule(&group, 1000)?;
    let few = changes(&mut fabric, &rule, &group)?;
    fabric.api.create_many(&fabric.wish, many - FEW)?;
    // The first change waits until all of them are known to the kernel.
    fabric.api.change_rule(&rule, &group, 999)?;
    let lots = changes(&mut fabric, &rule, &group)?;
    for n in 0..GROUPS {
        let own = fabric.api.create_group(&format!("group-{n}"))?;
        fabric.api.let_in(&own, 5432, &group)?;
        fabric.api.create(&Wish { group_id: own, ..fabric.wish.clone() })?;
    }
    fabric.api.change_rule(&rule, &group, 998)?;
    let crowded = changes(&mut fabric, &rule, &group)?;
    report.add(Line {
        what: format!("security-group change, from API call to enforced, {FEW} members"),
        budget: "median at most 25 ms".to_owned(),
        figure: format!("{:.1} ms", few.median()),
        beside: format!("p99 {:.1} ms; {}", few.percentile(99.0), few.show("ms", 1)),
        verdict: Verdict::of(few.median() <= 25.0),
        why: "",
    });
    let ratio = lots.ratio_to(&few);
    report.add(Line {
        what: format!("the same with {many} members"),
        budget: format!("at most 1.2 x the median with {FEW}"),
        figure: format!("{ratio:.2} x"),
        beside: format!("p99 {:.1} ms; {}", lots.percentile(99.0), lots.show("ms", 1)),
        verdict: Verdict::of(ratio <= 1.2),
        why: "",
    });
    let ratio = crowded.ratio_to(&few);
    report.add(Line {
        what: format!("the same with {many} members and {GROUPS} groups that name theirs"),
        budget: "none; named beside it".to_owned(),
        figure: format!("{ratio:.2} x the median with {FEW}"),
        beside: format!("p99 {:.1} ms; {}", crowded.percentile(99.0), crowded.show("ms", 1)),
        verdict: Verdict::NoBudget,
        why: "",
    });
    fabric.lab.close()
}

fn changes(fabric: &mut Fabric, rule: &str, group: &str) -> Result<Samples> {
    let mut times = Samples::default();
    for n in 0..CHANGES {
        let start = std::time::Instant::now();
        fabric.api.change_rule(rule, group, 2000 + n)?;
        times.push(milliseconds(start.elapsed()));
    }
    Ok(times)
}
