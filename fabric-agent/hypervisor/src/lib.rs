//! Guests as processes of this host: QEMU, its holder, and how the agent finds them again.
//!
//! Effects only; nothing here decides what should run. A guest is a directory named by its
//! instance id (see [`guest`]) and two processes that outlive the agent:
//!
//! ```text
//!  agent ──launch──> holder ──spawn, setuid──> QEMU (own uid, sandboxed)
//!    │                 │  console pipes, wait      │
//!    │                 └── console.log, console.sock, guest.json, exit.json
//!    ├──────────────── qmp.sock (one connection, see Guests) ──┤
//!    └──────────────── agent.sock (to the guest's own agent) ──┘
//! ```

pub mod cgroup;
mod error_text;
pub mod guest;
pub mod holder;
pub mod kvm;
mod layout;
mod lock;
mod process;
pub mod qemu;
pub mod qga;
pub mod qmp;
mod record;
mod secrets;
mod sys;
mod tap;

pub use cgroup::{CgroupError, Cgroups};
pub use guest::{
    Booted, FREEZE_ENDS_WITHIN, FreezeNote, Freezes, GrownSize, GuestError, GuestNics,
    GuestObservation, GuestVolumes, Guests, HolderCommand, MemoryFiles, MergedLayers, SavedMachine,
    Saving, WentOver,
};
pub use kvm::KvmProbe;
pub use process::{ProcessIdentity, boot_id};
pub use qemu::{
    Accel, BackingImage, Boot, DISPLAY_MIB, Firmware, GuestParts, GuestSpec, GuestUuid, MemoryPart,
    NicSpec, QemuBinary, QemuError, QemuVersion, ROOT_DEVICE, Resume, RootDisk, VcpuPart,
    VolumeDisk,
};
pub use record::{Clocks, ExitCause, GuestEvents, GuestExit, GuestIdentity, GuestRun};
pub use secrets::VolumeSecrets;
