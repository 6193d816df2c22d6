//! `weft top`: what guests use, a table that is printed anew every few seconds.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use weft_proto::v1::{
    GuestMetrics, InstanceMetrics, InstanceMetricsList, ListInstanceMetricsRequest,
};

use crate::agent::Agent;
use crate::failure::Failure;
use crate::output::{Format, NOTHING, print, print_json, size, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds between two looks
    #[arg(long, short = 'd', default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Tables until it ends [default: without end to a terminal, else 1]
    #[arg(long, short = 'n')]
    count: Option<u32>,
}

/// Moves the cursor home and clears what is below (ECMA-48: CUP, ED).
const HOME: &str = "\x1b[H\x1b[J";

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    if format == Format::Json {
        print_json(&as_json(&look(agent).await?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let live = std::io::stdout().is_terminal();
    let tables = args.count.or_else(|| (!live).then_some(1));
    let mut before = look(agent).await?;
    let mut printed = 0;
    // Rates need two looks.
    while tables.is_none_or(|tables| printed < tables) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(args.interval)) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        let now = look(agent).await?;
        print(if live { HOME } else { "" })?;
        print(as_text(&before, &now))?;
        before = now;
        printed += 1;
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(agent: &Agent) -> Result<InstanceMetricsList, Failure> {
    Ok(agent.monitoring().list_instances(ListInstanceMetricsRequest {}).await?.into_inner())
}

/// What all disks or interfaces have carried.
fn disk_bytes(guest: &GuestMetrics) -> (u64, u64) {
    let sum = |of: fn(&weft_proto::v1::DiskMetrics) -> u64| guest.disks.iter().map(of).sum();
    (sum(|disk| disk.read_bytes), sum(|disk| disk.written_bytes))
}

fn network_bytes(guest: &GuestMetrics) -> (u64, u64) {
    let sum =
        |of: fn(&weft_proto::v1::InterfaceMetrics) -> u64| guest.interfaces.iter().map(of).sum();
    (sum(|one| one.received_bytes), sum(|one| one.sent_bytes))
}

fn as_text(before: &InstanceMetricsList, now: &InstanceMetricsList) -> String {
    let earlier: BTreeMap<&str, &InstanceMetrics> =
        before.items.iter().map(|item| (item.id.as_str(), item)).collect();
    let ms = u64::try_from(now.at_unix_ms - before.at_unix_ms).unwrap_or(0);
    let row = |item: &InstanceMetrics| {
        let guest = item.guest.as_ref();
        let was = earlier.get(item.id.as_str()).and_then(|item| item.guest.as_ref());
        let mut cells = vec![item.id.clone(), item.name.clone(), item.state.clone()];
        cells.extend(match (guest, was) {
            (Some(guest), Some(was)) => rates(guest, was, ms),
            _ => vec![NOTHING.to_owned(); 5],
        });
        let used = guest.and_then(|it| Some((it.memory_total_bytes?, it.memory_available_bytes?)));
        let used = used.map(|(total, available)| size(total.saturating_sub(available)));
        cells.insert(4, used.unwrap_or_else(|| NOTHING.to_owned()));
        cells.insert(5, size(u64::from(item.memory_mib) << 20));
        cells
    };
    // The busiest first; of those that are alike, by id.
    let spent = |item: &InstanceMetrics| {
        let was = earlier.get(item.id.as_str()).and_then(|item| item.guest.as_ref());
        let spent =
            item.guest.as_ref().zip(was).map(|(now, was)| now.cpu_ms.saturating_sub(was.cpu_ms));
        std::cmp::Reverse(spent)
    };
    let mut items: Vec<&InstanceMetrics> = now.items.iter().collect();
    items.sort_by_key(|item| spent(item));
    let rows: Vec<Vec<String>> = items.into_iter().map(row).collect();
    let header = [
        "ID",
        "NAME",
        "STATE",
        "CPU",
        "USED",
        "MEMORY",
        "READ/S",
        "WRITTEN/S",
        "RECEIVED/S",
        "SENT/S",
    ];
    table(&header, &rows)
}

/// Percent of one processor, then bytes a second. A guest that began anew in between has none yet.
fn rates(now: &GuestMetrics, was: &GuestMetrics, ms: u64) -> Vec<String> {
    if now.cpu_ms < was.cpu_ms || ms == 0 {
        return vec![NOTHING.to_owned(); 5];
    }
    let per_second = |now: u64, was: u64| size(now.saturating_sub(was).saturating_mul(1000) / ms);
    let ((read, written), (read_was, written_was)) = (disk_bytes(now), disk_bytes(was));
    let ((received, sent), (received_was, sent_was)) = (network_bytes(now), network_bytes(was));
    vec![
        format!("{}%", (now.cpu_ms - was.cpu_ms).saturating_mul(100) / ms),
        per_second(read, read_was),
        per_second(written, written_was),
        per_second(received, received_was),
        per_second(sent, sent_was),
    ]
}

fn as_json(list: &InstanceMetricsList) -> Value {
    let disk = |it: &weft_proto::v1::DiskMetrics| {
        json!({
            "disk": it.disk, "read_bytes": it.read_bytes, "written_bytes": it.written_bytes,
            "reads": it.reads, "writes": it.writes,
        })
    };
    let interface = |it: &weft_proto::v1::InterfaceMetrics| {
        json!({
            "network_interface_id": it.network_interface_id, "sent_bytes": it.sent_bytes,
            "received_bytes": it.received_bytes, "sent_packets": it.sent_packets,
            "received_packets": it.received_packets,
        })
    };
    let guest = |it: &GuestMetrics| {
        json!({
            "cpu_ms": it.cpu_ms, "resident_bytes": it.resident_bytes,
            "memory_total_bytes": it.memory_total_bytes,
            "memory_available_bytes": it.memory_available_bytes,
            "disks": it.disks.iter().map(disk).collect::<Vec<_>>(),
            "interfaces": it.interfaces.iter().map(interface).collect::<Vec<_>>(),
        })
    };
    let item = |it: &InstanceMetrics| {
        json!({
            "id": it.id, "name": it.name, "state": it.state, "vcpus": it.vcpus,
            "memory_mib": it.memory_mib, "guest": it.guest.as_ref().map(guest),
        })
    };
    let items: Vec<Value> = list.items.iter().map(item).collect();
    json!({ "at_unix_ms": list.at_unix_ms, "items": items })
}

#[cfg(test)]
mod tests {
    use weft_proto::v1::{DiskMetrics, InterfaceMetrics};

    use super::*;

    fn list(at_unix_ms: i64, cpu: &[Option<u64>]) -> InstanceMetricsList {
        let guest = |cpu_ms: u64| GuestMetrics {
            cpu_ms,
            resident_bytes: 1 << 20,
            memory_total_bytes: Some(200 << 20),
            memory_available_bytes: Some(150 << 20),
            disks: vec![DiskMetrics { written_bytes: cpu_ms * 1024, ..DiskMetrics::default() }],
            interfaces: vec![InterfaceMetrics { sent_bytes: 7, ..InterfaceMetrics::default() }],
        };
        let item = |(n, cpu): (usize, &Option<u64>)| InstanceMetrics {
            id: format!("i-{n}"),
            state: if cpu.is_some() { "running" } else { "stopped" }.to_owned(),
            memory_mib: 256,
            guest: cpu.map(guest),
            ..InstanceMetrics::default()
        };
        InstanceMetricsList { at_unix_ms, items: cpu.iter().enumerate().map(item).collect() }
    }

    #[test]
    fn rates_are_between_two_looks_and_the_busiest_is_first() {
        let before = list(1000, &[Some(100), None, Some(100), Some(900)]);
        let after = list(3000, &[Some(200), None, Some(4100), Some(0)]);
        let text = as_text(&before, &after);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").filter(|it| !it.is_empty()).collect())
            .collect();
        let cells = |line: usize| lines[line].iter().map(|it| it.trim()).collect::<Vec<_>>();
        let busy =
            ["i-2", "-", "running", "200%", "50 MiB", "256 MiB", "0 B", "1.9 MiB", "0 B", "0 B"];
        assert_eq!(cells(1), busy, "{text}");
        // Began anew, then 5 %, then off.
        let order: Vec<&str> = lines.iter().map(|line| line[0]).collect();
        assert_eq!(order, ["ID", "i-2", "i-0", "i-3", "i-1"], "{text}");
        assert_eq!(cells(3)[3], "-", "{text}");
    }
}
