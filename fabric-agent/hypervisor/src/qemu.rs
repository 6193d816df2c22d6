//! QEMU as an engine: which binary there is, what a guest needs, the command line that gives it.
//!
//! [`command_line()`] is pure. Opening files, namespaces and processes is the holder's work.

mod binary;
mod command_line;
mod firmware;
mod parts;
mod spec;
mod volume_disk;

pub use binary::{QemuBinary, QemuError, QemuVersion};
pub use command_line::{
    AGENT_DEVICE, BALLOON_DEVICE, GuestFds, ROOT_DEVICE, VolumeFds, command_line,
};
pub use firmware::Firmware;
pub use parts::{GuestParts, MemoryPart, VcpuPart};
pub use spec::{
    Accel, BackingImage, Boot, DISPLAY_MIB, GuestSpec, GuestUuid, InvalidUuid, NicSpec, Resume,
    RootDisk,
};
pub use volume_disk::VolumeDisk;
pub(crate) use volume_disk::decryption;
