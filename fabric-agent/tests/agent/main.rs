//! The agent as clients see it: the real program with a simulated host, over its socket.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's helper fails with the test, and says what it saw"
)]

mod support;
mod tcp;

mod addresses;
mod console_tokens;
mod crash_points;
mod crashes;
mod creation;
mod disk_full;
mod display;
mod encryption;
mod fetches;
mod garbage;
mod groups;
mod hibernation;
mod images;
mod instance_types;
mod interfaces;
mod ipv6;
mod key_pairs;
mod layer_merges;
mod life;
mod monitoring;
mod network_insights;
mod networks;
mod orders;
mod pools;
mod power;
mod public;
mod restart;
mod restarts;
mod route_tables;
mod sessions;
mod snapshots;
mod transfers;
mod updates;
mod usage;
mod volume_snapshots;
mod volumes;
mod waiting;
mod watch;
