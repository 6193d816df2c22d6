//! What a real guest uses is seen, and what it used is counted.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_acceptance::{Lab, eventually, within};

use crate::module::{access, image, instance};

/// What the only instance uses.
fn measured(lab: &Lab) -> Result<Value> {
    let top = lab.weft_json(&["top", "--json"])?;
    Ok(top["items"][0]["guest"].clone())
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("no number: {value}"))
}

/// Of the rows of `weft usage` those of a kind, added up.
fn used(lab: &Lab, kind: &str) -> Result<f64> {
    let usage = lab.weft_json(&["usage", "--json"])?;
    let rows = usage["rows"].as_array().context("no rows")?;
    let of_kind = rows.iter().filter(|row| row["kind"] == kind);
    of_kind.map(|row| Ok(row["amount"].as_str().context("no amount")?.parse::<f64>()?)).sum()
}

#[test]
fn figures_rise_with_what_a_guest_does_and_usage_stops_with_it() -> Result<()> {
    let Some(mut lab) = Lab::linux()? else { return Ok(()) };
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    terraform.main(&(image("")? + &access(&key) + &instance("it", "")))?;
    terraform.apply()?;
    let state = terraform.state()?;
    let guest = lab.guest(&key, &state, "weft_instance.it")?;

    let before = measured(&lab)?;
    guest.ssh("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")?;
    guest.ssh("head -c 2000000 /dev/urandom > burnt; sync")?;
    let sent = guest.ssh("head -c 400000 /dev/zero | tr '\\0' x")?;
    ensure!(sent.len() == 400_000, "the guest sent {} bytes", sent.len());
    let after = measured(&lab)?;
    let (cpu, cpu_before) = (number(&after["cpu_ms"])?, number(&before["cpu_ms"])?);
    ensure!(cpu > cpu_before, "the guest burnt processor time: {cpu_before} ms, then {cpu} ms");
    let sent = |figures: &Value| number(&figures["interfaces"][0]["sent_bytes"]);
    ensure!(sent(&after)? >= sent(&before)? + 400_000, "sent: {before}, then {after}");
    let written = |figures: &Value| -> Result<u64> {
        let disks = figures["disks"].as_array().context("no disks")?;
        let root = disks.iter().find(|disk| disk["disk"] == "root").context("no root disk")?;
        number(&root["written_bytes"])
    };
    ensure!(written(&after)? >= written(&before)? + 2_000_000, "written: {before}, then {after}");
    eventually("the guest says what memory it has", within(), || {
        let figures = measured(&lab)?;
        let total = figures["memory_total_bytes"].as_u64();
        let available = figures["memory_available_bytes"].as_u64();
        Ok(total.zip(available).filter(|(total, available)| available < total && *available > 0))
    })?;
    let table = lab.weft(&["top"])?.success()?.stdout;
    ensure!(table.contains("running") && table.contains('%'), "weft top said:\n{table}");

    // Counted also while no agent is there, and no longer than the guest ran.
    lab.agent().kill_9()?;
    lab.start_agent()?;
    let running = used(&lab, "instance")?;
    ensure!(running > 0.0, "no second was counted");
    let id = state.text("weft_instance.it", "id")?;
    lab.weft(&["stop", "it"])?.success()?;
    lab.wait_for_state(&id, "stopped")?;
    let stopped = used(&lab, "instance")?;
    ensure!(stopped >= running, "{running} s, then {stopped} s");
    ensure!(used(&lab, "bytes_out")? >= 400_000.0, "the bytes are counted when the guest ends");
    ensure!(measured(&lab)?.is_null(), "nothing runs, and something is measured");
    ensure!((used(&lab, "instance")? - stopped).abs() < f64::EPSILON, "what is off is counted");
    terraform.destroy()?;
    lab.close()
}
