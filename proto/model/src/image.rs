//! Images: immutable content addressed by digest, and how to boot it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{InstanceId, Problem, Reason};

/// The SHA-256 of a blob; shown as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Text that is not 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a SHA-256 digest: expected 64 hexadecimal digits")]
pub struct InvalidDigest(String);

impl Digest {
    /// From the 32 bytes of a SHA-256.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits.to_ascii_lowercase(), &mut bytes)
            .map_err(|_| InvalidDigest(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::net::serde_as_text!(Digest);

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// Every word, in the order they are documented.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word in HCL, the API and the store.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::Problem;
            fn from_str(text: &str) -> Result<Self, crate::Problem> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(crate::Problem::new(
                        crate::Reason::InvalidArgument,
                        format!("\"{text}\" is not one of its words"),
                    ).remedy(format!("use one of: {}", Self::WORDS.join(", ")))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// How a guest starts.
    BootMode {
        /// SeaBIOS loads the boot sector of the disk.
        Bios = "bios",
        /// OVMF loads a boot loader from the disk's EFI system partition.
        Uefi = "uefi",
        /// The hypervisor loads the image's kernel.
        DirectKernel = "direct_kernel",
    }
}

words! {
    /// The processor that the image is for.
    Architecture {
        /// 64-bit PC.
        X86_64 = "x86_64",
        /// 64-bit ARM.
        Aarch64 = "aarch64",
    }
}

words! {
    /// How a disk is laid out in its file.
    DiskFormat {
        /// The bytes of the disk.
        Raw = "raw",
        /// QEMU's copy-on-write format.
        Qcow2 = "qcow2",
    }
}

words! {
    /// What a file of an image is for.
    BlobRole {
        /// What a guest starts from.
        Disk = "disk",
        /// A Linux bzImage.
        Kernel = "kernel",
        /// The initial RAM filesystem.
        Initrd = "initrd",
    }
}

/// What instances are made of: enough to go on when the image is deregistered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageContent {
    /// The disk's blob.
    pub disk: Digest,
    /// How the disk's blob is laid out.
    pub format: DiskFormat,
    /// What a guest sees, in bytes.
    pub virtual_size_bytes: u64,
    /// How it starts.
    pub boot_mode: BootMode,
    /// What the hypervisor loads with [`BootMode::DirectKernel`].
    pub kernel: Option<KernelContent>,
}

/// A kernel that the hypervisor loads itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelContent {
    /// A Linux bzImage.
    pub kernel: Digest,
    /// The initial RAM filesystem.
    pub initrd: Option<Digest>,
    /// The kernel's command line.
    pub cmdline: String,
}

impl KernelContent {
    /// The blobs that it consists of.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        [Some(self.kernel), self.initrd].into_iter().flatten()
    }
}

/// A registered image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// Shown to people; need not be unique.
    pub name: String,
    /// The blobs and how to boot them.
    pub content: ImageContent,
    /// The processor it is for.
    pub architecture: Architecture,
    /// Who logs in over SSH.
    pub default_user: String,
    /// The smallest root disk.
    pub min_disk_gib: u32,
    /// The smallest memory.
    pub min_memory_mib: u32,
    /// Neither deleted nor replaced while it is set.
    #[serde(default)]
    pub protected: bool,
    /// Not chosen any more where the newest image is looked for.
    #[serde(default)]
    pub deprecated: bool,
    /// The file that the disk was unpacked from, where it came compressed.
    #[serde(default)]
    pub unpacked_from: Option<Digest>,
    /// The instance that its disk was captured from; it may be gone.
    #[serde(default)]
    pub captured_from: Option<InstanceId>,
}

impl ImageSpec {
    /// The digest of the disk's file as it was given: of the compressed file, where it was.
    pub fn source_digest(&self) -> Digest {
        self.unpacked_from.unwrap_or(self.content.disk)
    }

    /// Refuses a host whose guests have another processor.
    ///
    /// # Errors
    /// A [`Problem`] at `image_id`.
    pub fn check_architecture(&self, host: Architecture) -> Result<(), Problem> {
        if self.architecture == host {
            return Ok(());
        }
        let message =
            format!("the image is for {}, guests of this host are {host}", self.architecture);
        Err(Problem::invalid("image_id", message).remedy(format!(
            "use an image for {host} (its publisher may call it amd64, x86-64 or arm64)"
        )))
    }

    /// Refuses to let a protected image go.
    ///
    /// # Errors
    /// A [`Problem`] at `protected`.
    pub fn check_unprotected(&self) -> Result<(), Problem> {
        if !self.protected {
            return Ok(());
        }
        let message = format!("image \"{}\" is protected", self.name);
        Err(Problem::new(Reason::FailedPrecondition, message)
            .at("protected")
            .remedy("set protected = false and apply that first"))
    }

    /// Judges a root volume of `asked_gib` by what the image needs.
    ///
    /// # Errors
    /// It is too small: a [`Problem`] at `root_volume.size_gib`.
    pub fn check_root_size(&self, asked_gib: u32) -> Result<(), Problem> {
        let needed = self.content.virtual_size_bytes.max(u64::from(self.min_disk_gib) << 30);
        if u64::from(asked_gib) << 30 >= needed {
            return Ok(());
        }
        let message = format!(
            "a root volume of {asked_gib} GiB is smaller than the image, which needs {} GiB",
            needed.div_ceil(1 << 30)
        );
        Err(Problem::invalid("root_volume.size_gib", message)
            .remedy("leave the size out, or choose a larger one"))
    }
}
