//! When the process ends.

use std::{future::Future, io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::handshake::Mode;

/// How often the parent is looked at.
const PARENT_POLL: Duration = Duration::from_millis(500);

/// Why serving ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Terraform asked (or, with `--debug`, the person pressed Ctrl-C).
    Graceful,
    /// Terraform is gone without a word.
    ParentDied,
    /// Somebody sent SIGTERM.
    Terminated,
}

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

pub(super) fn parent() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// Waits for the end. `parent` is the process that started this one.
pub(super) async fn end(
    mode: Mode,
    parent_at_start: i32,
    mut signals: Signals,
    shutdown_asked: impl Future<Output = ()>,
) -> End {
    tokio::pin!(shutdown_asked);
    let mut poll = tokio::time::interval(PARENT_POLL);
    loop {
        tokio::select! {
            // Terraform gives a provider no signal and no closed socket when it is killed, and
            // the kernel hands orphans to another parent: getppid(2) changes.
            _ = poll.tick() => if mode == Mode::Normal && parent() != parent_at_start {
                return End::ParentDied;
            },
            // Under --debug one run of several ended; a person ends the process.
            () = &mut shutdown_asked, if mode == Mode::Normal => return End::Graceful,
            // A Ctrl-C at the terminal reaches the whole process group. Terraform decides what
            // it means and calls StopProvider.
            _ = signals.interrupt.recv() => if mode == Mode::Debug {
                return End::Graceful;
            },
            _ = signals.terminate.recv() => return End::Terminated,
        }
    }
}
