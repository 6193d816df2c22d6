//! Measures what section "Budgets" of the design names, each beside the floor that it stands on,
//! and writes the table `docs/benchmarks.md`. `make bench` builds everything for it.

mod api;
mod by_hand;
mod creates;
mod fabric;
mod floor;
mod forwarding;
mod groups;
mod guest;
mod image_size;
mod processor;
mod refresh;
mod report;
mod samples;
mod scale;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use report::Report;

#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Measurements of each thing that takes seconds
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Instances on the simulated host
    #[arg(long, default_value_t = 1000)]
    instances: usize,
    /// Instances on the simulated host that are read again
    #[arg(long, default_value_t = 5000)]
    refreshed: usize,
    /// Members of the large security group
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    /// Where the table goes; without it, it is only printed
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A guest's start
    Guest,
    /// Creating from a large image and from a small one
    ImageSize,
    /// Creates at the same time
    Creates,
    /// Changes of security groups
    Groups,
    /// Packets through security groups
    Forwarding,
    /// Many instances on the simulated host
    Scale,
    /// Reading more of them again
    Refresh,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let wanted = |part: Part| args.only.is_empty() || args.only.contains(&part);
    let mut report = Report::default();
    if wanted(Part::Guest) {
        guest::measure(&mut report, args.runs)?;
    }
    if wanted(Part::ImageSize) {
        image_size::measure(&mut report, args.runs)?;
    }
    if wanted(Part::Creates) {
        creates::measure(&mut report, args.runs)?;
    }
    if wanted(Part::Groups) {
        groups::measure(&mut report, args.members)?;
    }
    if wanted(Part::Forwarding) {
        forwarding::measure(&mut report)?;
    }
    if wanted(Part::Scale) {
        scale::measure(&mut report, args.instances, args.runs)?;
    }
    if wanted(Part::Refresh) {
        refresh::measure(&mut report, args.refreshed, args.runs)?;
    }
    if let Some(path) = &args.out {
        report.write(path, &machine())?;
    }
    tell_missed(report.missed());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report is what the program is for")]
fn tell_missed(missed: usize) {
    match missed {
        0 => println!("every budget that was measured is kept"),
        missed => println!("{missed} budgets are missed"),
    }
}

/// What the figures were taken on.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("This run: {processors} x {model}, Linux {}.", kernel.trim())
}
