//! The laboratory of the acceptance stories: real Terraform, real agents, real guests.
//!
//! A [`Lab`] is a directory, a network namespace where guests are real, and one agent. Stories
//! (in `tests/`) use it as a person would: they write HCL, run `terraform` and `weft`, log in by
//! ssh, and kill things. Nothing here links against the code under test.
//!
//! Everything that a lab starts carries a mark in its environment, so that what is left over can
//! be found whoever its parent is by then.

mod agent;
mod crash_story;
mod guest;
mod lab;
mod leftovers;
mod netns;
pub mod packet;
mod paths;
mod plan;
mod process;
mod root_key;
mod site;
mod small_disk;
mod terraform;
mod wait;
mod wire;

pub use agent::{Agent, Host};
pub use crash_story::{Act, CrashStory, Machine, Scene, Victim, kill_hypervisors};
pub use guest::{Guest, KeyFile, Session};
pub use lab::Lab;
pub use leftovers::{RunningProcess, marked_processes};
pub use netns::NetNs;
pub use paths::{
    Image, UefiImage, binaries, debian, debian_desktop, debian_ec2, debian_uefi, on_path,
    repository, terraform_of_version, terraform_version, weft_tiny,
};
pub use plan::{Change, Plan, State};
pub use process::{Background, Finished, run, skipped, spawn};
pub use root_key::root_key;
pub use site::{Page, Request, Site};
pub use small_disk::SmallDisk;
pub use terraform::Terraform;
pub use wait::{eventually, within};
pub use wire::Wire;
