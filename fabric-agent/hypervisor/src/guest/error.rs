//! What can fail between the agent and a guest.

use std::io;
use std::path::PathBuf;

use weft_model::{InstanceId, InterfaceId, LinkName, VolumeId};

use crate::cgroup::CgroupError;
use crate::qga::QgaError;
use crate::qmp::QmpError;
use crate::record::ExitCause;

/// What was attempted with which guest.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The root directory could not be read.
    #[error("list the guests in {root}")]
    List {
        /// The directory.
        root: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step of preparing a launch failed.
    #[error("{step} for {id}")]
    Prepare {
        /// Whose guest.
        id: InstanceId,
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The guest's control group could not be made or removed.
    #[error("{step} for {id}")]
    Cgroup {
        /// Whose guest.
        id: InstanceId,
        /// What was attempted.
        step: &'static str,
        /// What failed.
        #[source]
        source: CgroupError,
    },
    /// The guest has no places for so many processors.
    #[error("{id} was started without places for {vcpus} vCPUs; a restart gives it them")]
    NoPlace {
        /// Whose guest.
        id: InstanceId,
        /// How many it should have.
        vcpus: u32,
    },
    /// Nothing of the guest runs, and its control group cannot be removed.
    #[error("the control group of {id} is still used by some process")]
    CgroupInUse {
        /// Whose guest.
        id: InstanceId,
    },
    /// The holder's program could not be started.
    #[error("start {program} as the holder of {id}")]
    Holder {
        /// Whose guest.
        id: InstanceId,
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The holder ended without saying why.
    #[error("the holder of {id} ended before qemu ran ({status}): {log}")]
    HolderEnded {
        /// Whose guest.
        id: InstanceId,
        /// Its exit status.
        status: String,
        /// The end of what it wrote.
        log: String,
    },
    /// There is a holder or QEMU already.
    #[error("{id} has a running guest already; stop it first")]
    AlreadyRunning {
        /// Whose guest.
        id: InstanceId,
    },
    /// QEMU ended while it was waited for.
    #[error("qemu for {id} {cause}{}", with_stderr(.stderr_tail))]
    Start {
        /// Whose guest.
        id: InstanceId,
        /// How it ended.
        cause: ExitCause,
        /// The end of its standard error.
        stderr_tail: String,
    },
    /// QEMU neither ran nor ended.
    #[error("qemu for {id} was not running {seconds} s after its start")]
    StartTimeout {
        /// Whose guest.
        id: InstanceId,
        /// How long it was waited for.
        seconds: u64,
    },
    /// There is nothing to command.
    #[error("{id} has no running guest")]
    NotRunning {
        /// Whose guest.
        id: InstanceId,
    },
    /// QEMU did not do as it was told.
    #[error("tell the guest of {id} \"{command}\"")]
    Qmp {
        /// Whose guest.
        id: InstanceId,
        /// The command.
        command: &'static str,
        /// What went wrong.
        #[source]
        source: QmpError,
    },
    /// A tap could not be opened.
    #[error("open the tap {link} for {id}")]
    Tap {
        /// Whose guest.
        id: InstanceId,
        /// The tap.
        link: LinkName,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The guest still uses an interface that it was asked to let go of.
    #[error(
        "the guest of {id} has not let go of {interface_id} within {seconds} s; it may still boot, \
         or not know how; at the latest it goes when the guest is stopped"
    )]
    KeepsNic {
        /// Whose guest.
        id: InstanceId,
        /// The interface.
        interface_id: InterfaceId,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It was started without one.
    #[error("the guest of {id} has no display")]
    NoDisplay {
        /// Whose guest.
        id: InstanceId,
    },
    /// What the guest shows could not be had.
    #[error("{step} for {id}")]
    Display {
        /// Whose guest.
        id: InstanceId,
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nothing can be said about what it has open yet.
    #[error("the guest of {id} is being started")]
    StartsJustNow {
        /// Whose guest.
        id: InstanceId,
    },
    /// QEMU knows no such disk.
    #[error("the guest of {id} has no disk \"{device}\"")]
    NoDisk {
        /// Whose guest.
        id: InstanceId,
        /// What QEMU should call it.
        device: String,
    },
    /// It was started by an agent that knew of none.
    #[error(
        "the guest of {id} was started before there was a way to freeze its file systems; stop it and \
         start it again, or ask for consistency = \"crash\""
    )]
    NoAgentPort {
        /// Whose guest.
        id: InstanceId,
    },
    /// There is nothing to freeze, where something was.
    #[error(
        "no guest of {id} runs that could freeze its file systems; start it, or ask for consistency = \
         \"crash\""
    )]
    NobodyToFreeze {
        /// Whose guest.
        id: InstanceId,
    },
    /// There is no guest that has the disk, where there was one; how that ended, nobody saw.
    #[error(
        "the guest that was to be frozen for it has the disk no more; ask again, now or once it is \
         attached to a guest that runs, or ask for consistency = \"crash\""
    )]
    NobodyHasIt,
    /// Nobody in the guest can freeze its file systems.
    #[error(
        "no guest agent answers in the guest of {id}: install the package qemu-guest-agent there and \
         see that it runs, or ask for consistency = \"crash\""
    )]
    NoAgent {
        /// Whose guest.
        id: InstanceId,
        /// What was seen.
        #[source]
        source: QgaError,
    },
    /// The guest goes on, and nothing was taken of its disks.
    #[error(
        "the guest of {id} did not freeze its file systems ({why}); the log and the configuration of its \
         guest agent tell more (journalctl -u qemu-guest-agent there); mend that, or ask for \
         consistency = \"crash\""
    )]
    NotFrozen {
        /// Whose guest.
        id: InstanceId,
        /// In the words of its agent.
        why: String,
        /// Whether its agent has said so itself: then nothing is frozen.
        said_so: bool,
    },
    /// It was given up; the guest goes on, and nothing was taken of its disks.
    #[error(
        "the guest of {id} has not written out what it holds, and frozen its file systems, within \
         {seconds} s; try again when it writes less, or ask for consistency = \"crash\""
    )]
    FreezesSlowly {
        /// Whose guest.
        id: InstanceId,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The guest may stand still wherever it writes.
    #[error(
        "the file systems of the guest of {id} may still be frozen, and its guest agent does not thaw \
         them; it is told again and again; what helps is to start qemu-guest-agent in the guest, \
         fsfreeze --unfreeze there, or to stop the instance by force"
    )]
    StaysFrozen {
        /// Whose guest.
        id: InstanceId,
        /// What was seen.
        #[source]
        source: QgaError,
    },
    /// Who froze the guest now might not be there to thaw it.
    #[error("the guest of {id} is not frozen while the agent ends; the next one does it")]
    AgentEnds {
        /// Whose guest.
        id: InstanceId,
    },
    /// The guest was to be frozen once more, and nothing was taken of its disks.
    #[error(
        "the file systems of the guest of {id} may still be frozen since an earlier snapshot, and its \
         guest agent does not thaw them; start qemu-guest-agent in the guest, or use fsfreeze --unfreeze \
         there, and ask again"
    )]
    FrozenBefore {
        /// Whose guest.
        id: InstanceId,
        /// What was seen.
        #[source]
        source: QgaError,
    },
    /// QEMU's chain of files is not the disk's.
    #[error(
        "the guest of {id} has {found} files below its disk \"{device}\" where {expected} are recorded"
    )]
    OtherChain {
        /// Whose guest.
        id: InstanceId,
        /// What QEMU calls the disk.
        device: String,
        /// How many files the record has.
        expected: usize,
        /// How many QEMU has.
        found: usize,
    },
    /// The file of a disk could not be opened.
    #[error("open {} for the guest of {id}", path.display())]
    Disk {
        /// Whose guest.
        id: InstanceId,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The guest still uses a volume that it was asked to let go of.
    #[error(
        "the guest of {id} has not let go of {volume_id} within {seconds} s; unmount it there; it may \
         also still boot, or not know how; at the latest it goes when the guest is stopped"
    )]
    KeepsVolume {
        /// Whose guest.
        id: InstanceId,
        /// The volume.
        volume_id: VolumeId,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The guest's memory could not be saved; the guest runs on.
    #[error("save the memory of {id}: {why}")]
    NotSaved {
        /// Whose guest.
        id: InstanceId,
        /// QEMU's own words.
        why: String,
    },
    /// A process outlived SIGKILL.
    #[error("process {pid} of {id} did not end after it was killed; it may wait for a disk")]
    StillAlive {
        /// Whose guest.
        id: InstanceId,
        /// The process.
        pid: i32,
    },
    /// A record could not be read.
    #[error("read {file} of {id}")]
    Record {
        /// Whose guest.
        id: InstanceId,
        /// The record.
        file: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The console could not be used.
    #[error("open the console of {id}")]
    Console {
        /// Whose guest.
        id: InstanceId,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something of the guest could not be found or removed.
    #[error("{step} of {id}")]
    Remove {
        /// Whose guest.
        id: InstanceId,
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl GuestError {
    /// Whether QEMU has said no: what was asked for has not been done.
    pub fn refused(&self) -> bool {
        matches!(
            self,
            Self::NoDisk { .. }
                | Self::NobodyToFreeze { .. }
                | Self::NobodyHasIt
                | Self::NoAgentPort { .. }
                | Self::NoAgent { .. }
                | Self::NotFrozen { .. }
                | Self::FreezesSlowly { .. }
                | Self::FrozenBefore { .. }
                | Self::OtherChain { .. }
                | Self::Qmp { source: QmpError::Refused { .. }, .. }
        )
    }

    /// Whether the same call may succeed later with no change of what is asked for.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Qmp { source, .. } => source.is_retryable(),
            Self::AlreadyRunning { .. }
            | Self::NotSaved { .. }
            | Self::NotRunning { .. }
            | Self::NoDisk { .. }
            | Self::NoPlace { .. }
            | Self::OtherChain { .. }
            | Self::NoDisplay { .. }
            | Self::NobodyToFreeze { .. }
            | Self::NobodyHasIt
            | Self::NoAgentPort { .. }
            | Self::NoAgent { .. }
            | Self::NotFrozen { .. }
            | Self::FreezesSlowly { .. }
            | Self::FrozenBefore { .. }
            | Self::Start { .. } => false,
            Self::Prepare { source, .. } | Self::Holder { source, .. } => {
                !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            }
            Self::List { .. }
            | Self::Cgroup { .. }
            | Self::CgroupInUse { .. }
            | Self::Tap { .. }
            | Self::StartsJustNow { .. }
            | Self::StaysFrozen { .. }
            | Self::AgentEnds { .. }
            | Self::Disk { .. }
            | Self::Display { .. }
            | Self::KeepsNic { .. }
            | Self::KeepsVolume { .. }
            | Self::HolderEnded { .. }
            | Self::StartTimeout { .. }
            | Self::StillAlive { .. }
            | Self::Record { .. }
            | Self::Console { .. }
            | Self::Remove { .. } => true,
        }
    }
}

fn with_stderr(tail: &str) -> String {
    match tail.trim() {
        "" => String::new(),
        tail => format!(": {tail}"),
    }
}
