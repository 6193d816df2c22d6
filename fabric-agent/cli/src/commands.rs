//! One module per command, or per small family of them.

pub(crate) mod console;
pub(crate) mod copy;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod images;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod power;
pub(crate) mod proxy;
pub(crate) mod remove;
pub(crate) mod screenshot;
pub(crate) mod ssh;
pub(crate) mod state;
pub(crate) mod top;
pub(crate) mod usage;
pub(crate) mod vnc;
mod wait;
pub(crate) mod watch;
