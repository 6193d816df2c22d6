//! What to do next, decided by comparing what should be with what is.
//!
//! Pure: no clock, no randomness, no I/O, no async. The agent observes, asks here, carries the
//! actions out through its one `Host::apply`, and reports. Whatever changes a host is one
//! [`Action`]; an action is idempotent and tolerates that an earlier attempt got half way.

mod about;
mod action;
mod growth;
mod instance;
mod merge;
mod network;
mod restart;
mod seal;
mod status;
mod volume;

pub use action::{
    Action, GuestLaunch, GuestNic, GuestVolume, HostEdge, HostRoute, SeedContent, SeedInterface,
};
pub use growth::plan_growth;
pub use instance::{
    Attached, AttachedNic, AttachedVolume, GuestState, InstanceStep, Saving, SeenInstance,
    SeenNics, SeenSize, SeenVolumes, Wanted, is_to_end, plan_instance, wanted,
};
pub use merge::plan_merge;
pub use network::{
    SeenNetwork, drift, must_judge_connections, plan_cuts, plan_network, simulate_network,
};
pub use restart::{Restart, restart};
pub use seal::{PendingSeal, SealStep, plan_seal};
pub use status::{Observation, derive_status, record_phase};
pub use volume::{
    SeenDisk, SeenVolume, VolumeStep, VolumeUser, needs_user, plan_volume, remove as remove_volume,
};
