//! Everything that is needed to start one guest, as the agent writes it and the holder reads it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weft_model::{DiskFormat, GuestSize, InstanceId, InterfaceId, LinkName, MacAddr, Maxima};

use super::{GuestParts, QemuBinary, VolumeDisk};

/// What one start of a guest needs. Written to `spec.json` in the guest's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestSpec {
    /// Whose guest this is; also the name of its directory and QEMU's process name.
    pub instance_id: InstanceId,
    /// Which start of the instance this is; given back by `observe`.
    pub epoch: u64,
    /// The SMBIOS UUID; also how a QEMU process is recognised as this guest's.
    pub uuid: GuestUuid,
    /// A name for people; shown by QEMU only.
    pub name: String,
    /// The user and group that QEMU runs as: this guest's own, from 1,900,000,000 up.
    pub uid: u32,
    /// The binary to run, as detected by the agent.
    pub qemu: QemuBinary,
    /// Virtual processors that it boots with, at least one.
    pub vcpus: u32,
    /// Guest memory that it boots with, in MiB.
    pub memory_mib: u32,
    /// How far it may grow while it runs. Guests of agents before this cannot.
    #[serde(default)]
    pub maxima: Maxima,
    /// What came later to a guest whose memory is read back.
    #[serde(default, skip_serializing_if = "GuestParts::is_empty")]
    pub parts: GuestParts,
    /// How instructions are executed.
    pub accel: Accel,
    /// How the guest starts.
    pub boot: Boot,
    /// The disk that the guest boots from.
    pub root: RootDisk,
    /// A raw image that is attached read-only: cloud-init's NoCloud seed.
    pub seed: Option<PathBuf>,
    /// An SMBIOS string of type 11, in a file that only the guest's user reads: credentials for
    /// its systemd. Guests of agents before this have none.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// Volumes, at most eight.
    #[serde(default)]
    pub volumes: Vec<VolumeDisk>,
    /// Memory that is read back: the guest waits then, to be resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// Whether it has a display: a graphics card and a pointer.
    #[serde(default)]
    pub display: bool,
    /// Whether it has a port to the agent that it may run. Guests of agents before this have none, and
    /// one of their memories is read back into such a machine.
    #[serde(default)]
    pub guest_agent: bool,
    /// Network interfaces in device order, at most eight.
    pub nics: Vec<NicSpec>,
}

impl GuestSpec {
    /// How big the guest is, with all of its parts.
    pub fn size(&self) -> GuestSize {
        let vcpus = u32::try_from(self.parts.vcpus.len()).unwrap_or(u32::MAX);
        let parts = self.parts.memory.iter();
        GuestSize {
            vcpus: self.vcpus.saturating_add(vcpus),
            memory_mib: parts.fold(self.memory_mib, |mib, part| mib.saturating_add(part.mib)),
        }
    }
}

/// The memory of a guest that was hibernated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The file.
    pub path: PathBuf,
    /// The machine that it is of, such as `pc-q35-10.0`.
    pub machine: String,
    /// Whether that had a port to the guest's agent.
    #[serde(default)]
    pub guest_agent: bool,
}

/// How guest instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation.
    Tcg {
        /// Upper bound of the translated code cache in MiB; 128 is what the agent accounts for.
        tb_size_mib: u32,
    },
}

/// What QEMU takes besides its guest's memory and the code cache, in MiB.
const OVERHEAD_MIB: u64 = 64;
/// What a display takes, in MiB: 16 of video memory, the card, the VNC server and what it remembers of
/// the picture. Seen with QEMU 10.0, all video memory written: 33 where nobody looks; with one viewer 43
/// at 1280 x 800 and 66 at 2560 x 1600, which is all that the video memory holds.
pub const DISPLAY_MIB: u64 = 64;

impl Accel {
    /// MiB of the host that a guest of `memory_mib` takes: its memory, what runs it, and what shows it.
    pub fn memory_cost_mib(self, memory_mib: u32, display: bool) -> u64 {
        let cache = match self {
            Self::Kvm => 0,
            Self::Tcg { tb_size_mib } => u64::from(tb_size_mib),
        };
        let display = if display { DISPLAY_MIB } else { 0 };
        u64::from(memory_mib) + cache + OVERHEAD_MIB + display
    }
}

/// How the guest starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// SeaBIOS, from the root disk.
    Bios,
    /// OVMF, from the root disk's EFI system partition.
    Uefi {
        /// OVMF's code.
        code: PathBuf,
        /// The guest's own variables, which it writes.
        variables: PathBuf,
    },
    /// A kernel given by the host. Kernel and initrd must be readable by everyone (mode 0444), as
    /// QEMU opens them itself, under its own uid; the directories above may stay closed.
    DirectKernel {
        /// A Linux bzImage.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: Option<PathBuf>,
        /// The kernel's command line.
        cmdline: String,
    },
}

/// A writable qcow2 overlay over read-only layers and a read-only image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootDisk {
    /// The overlay, always qcow2.
    pub overlay: PathBuf,
    /// The sealed layers between image and overlay, bottom to top; all qcow2.
    #[serde(default)]
    pub layers: Vec<PathBuf>,
    /// What lies under all of it. Given here and not taken from headers.
    pub backing: BackingImage,
}

/// A read-only image under an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackingImage {
    /// The image file.
    pub path: PathBuf,
    /// Its format; a qcow2 image must have no backing file of its own.
    pub format: DiskFormat,
}

/// One network interface: a tap that exists already, in some network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicSpec {
    /// The persistent tap.
    pub link: LinkName,
    /// The guest's address on it.
    pub mac: MacAddr,
    /// The namespace that the tap is in, such as `/proc/PID/ns/net`; unset: the agent's own.
    pub netns: Option<PathBuf>,
    /// What QEMU calls the device, so that it is found again.
    #[serde(default)]
    pub id: Option<InterfaceId>,
    /// The root port that it is plugged into, from which it can be taken while the guest runs;
    /// unset: it stays in the slot of its place.
    #[serde(default)]
    pub port: Option<u8>,
}

impl NicSpec {
    /// What QEMU calls its end of the tap.
    pub(crate) fn netdev(id: &InterfaceId) -> String {
        format!("net-{id}")
    }

    /// What QEMU calls a root port.
    pub(crate) fn port_name(port: u8) -> String {
        format!("port{port}")
    }
}

/// A UUID; shown as `00112233-4455-6677-8899-aabbccddeeff`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestUuid([u8; 16]);

/// Text that is not a UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a UUID such as 00112233-4455-6677-8899-aabbccddeeff")]
pub struct InvalidUuid(String);

impl GuestUuid {
    /// A version 4 UUID from random bytes (RFC 9562, section 5.4).
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// As [`GuestUuid::from_random`], beginning with `ec2`: with a serial number equal to it,
    /// cloud-init takes the machine for one of EC2 and asks the metadata service with tokens
    /// (`identify_aws` in `DataSourceEc2.py`, `ec2_identify_platform` in `tools/ds-identify`).
    pub fn recognised_as_ec2(bytes: [u8; 16]) -> Self {
        let Self(mut bytes) = Self::from_random(bytes);
        bytes[0] = 0xec;
        bytes[1] = 0x20 | (bytes[1] & 0x0f);
        Self(bytes)
    }

    /// The sixteen bytes in text order.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for GuestUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for GuestUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GuestUuid {
    type Err = InvalidUuid;
    fn from_str(text: &str) -> Result<Self, InvalidUuid> {
        let invalid = || InvalidUuid(text.to_owned());
        let dashes = [8, 13, 18, 23];
        let shaped = text.len() == 36
            && text.bytes().enumerate().all(|(i, b)| match dashes.contains(&i) {
                true => b == b'-',
                false => b.is_ascii_hexdigit(),
            });
        if !shaped {
            return Err(invalid());
        }
        let digits = text.replace('-', "");
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for GuestUuid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GuestUuid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_round_trip_and_almost_uuids_are_refused() {
        let uuid = GuestUuid::from_random([0xff; 16]);
        assert_eq!(uuid.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid.to_string().parse::<GuestUuid>().unwrap(), uuid);
        let uuid = GuestUuid::recognised_as_ec2([0xff; 16]);
        assert_eq!(uuid.to_string(), "ec2fffff-ffff-4fff-bfff-ffffffffffff");
        for text in
            ["", "ffffffff-ffff-4fff-bfff-fffffffffff", "fffffffff-fff-4fff-bfff-ffffffffffff"]
        {
            assert!(text.parse::<GuestUuid>().is_err(), "{text}");
        }
    }
}
