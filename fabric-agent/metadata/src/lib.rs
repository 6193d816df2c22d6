//! What a guest is told about itself: the NoCloud seed, its SSH host key and its host name.
//!
//! ```text
//!   SeedInput ─▶ Seed { meta-data, network-config, vendor-data, user-data } ─▶ FAT volume "CIDATA"
//! ```
//!
//! Pure: the same input gives the same bytes, on every host and for ever. Randomness and files are
//! the caller's.

mod credentials;
mod host_key;
mod hostname;
mod report;
mod seed;
mod volume;

pub use credentials::smbios_credentials;
pub use host_key::{HostKeyError, generate_host_key};
pub use hostname::hostname;
pub use seed::{Network, OtherInterface, Seed, SeedInput};
pub use volume::{SeedError, VOLUME_LABEL};
