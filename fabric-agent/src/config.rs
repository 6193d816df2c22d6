//! What an operator can set. Every setting has a default; there is no configuration file.

pub(crate) mod pool;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnetwork::Ipv4Network;
use weft_model::{AddressRange, GuestAccess, ZoneName};

use crate::monitoring::server::MetricsListen;
use crate::tfstate::Limits;
use pool::GivenPool;

/// Where an agent keeps what must survive, unless told otherwise.
pub(crate) const STATE_DIR: &str = "/var/lib/weft";

/// What the folder of Terraform's states is called.
pub(crate) const TFSTATES: &str = "tfstates";

/// Where an agent keeps its things.
#[derive(Args, Clone, Debug)]
pub(crate) struct Directories {
    /// What survives a restart of the machine: the store, images, disks
    #[arg(long, value_name = "DIR", default_value = STATE_DIR, value_parser = parse_dir)]
    pub(crate) state_dir: PathBuf,
    /// What does not: the socket, running guests' sockets and records
    #[arg(long, value_name = "DIR", default_value = "/run/weft", value_parser = parse_dir)]
    pub(crate) runtime_dir: PathBuf,
    /// What the names of everything in the kernel start with (1 to 4 letters or digits): lets
    /// several agents share a network namespace
    #[arg(long, default_value = "weft", value_parser = parse_prefix)]
    pub(crate) prefix: String,
}

/// The settings of `fabric-agent serve`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) directories: Directories,
    /// Serve the API on TCP as well, to clients with a certificate (fabric-agent init makes them);
    /// for example 0.0.0.0:7443
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve the consoles of instances on TCP, and nothing else, to holders of console tokens, who need
    /// no certificate; for example 0.0.0.0:7444. Unset: no such tokens are made
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) console_listen: Option<SocketAddr>,
    /// A directory for volumes of this type, besides the state directory ("standard"); repeatable.
    /// shared: other hosts have the same file system
    #[arg(long, value_name = "NAME=DIRECTORY[,shared]")]
    pub(crate) pool: Vec<GivenPool>,
    /// A file with the root key of encrypted volumes (fabric-agent volume-key makes one), which only
    /// the agent's user may read; unset: no volume is encrypted, and none that is can be used
    #[arg(long, value_name = "FILE")]
    pub(crate) volume_key_file: Option<PathBuf>,
    /// What to run guests on
    #[arg(long, value_enum, default_value_t = HostKind::Linux)]
    pub(crate) host: HostKind,
    /// How guests' instructions are run: auto tries KVM and falls back to TCG, loudly
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    pub(crate) accel: AccelChoice,
    /// The default VPC's range, at the first start; unset: the first of 172.31.0.0/16,
    /// 10.231.0.0/16 and 192.168.224.0/19 that overlaps no route
    #[arg(long, value_name = "CIDR")]
    pub(crate) default_vpc_cidr: Option<Ipv4Network>,
    /// This host's name; unset: the machine's
    #[arg(long, value_name = "NAME")]
    pub(crate) host_name: Option<String>,
    /// Seconds that a guest may take to shut down before it is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = parse_seconds())]
    pub(crate) shutdown_grace: u64,
    /// Seconds that something of ours which nothing wants is left alone before it is removed
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = parse_seconds())]
    pub(crate) sweep_grace: u64,
    /// Seconds between two looks at everything on the host, whether something said so or not: what
    /// somebody else has changed is put right by the next one
    #[arg(long, value_name = "SECONDS", default_value_t = 45, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) resync: u64,
    /// CA certificates (PEM) that are trusted besides the system's when images are fetched
    #[arg(long, value_name = "FILE")]
    pub(crate) fetch_ca: Option<PathBuf>,
    /// A directory with copies of images and lists of digests, as `wget --force-directories` makes
    /// it: what lies in it is not asked of its server
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) image_mirror: Option<PathBuf>,
    /// The largest file that is fetched for an image, and the largest disk that is unpacked, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) max_image_gib: u64,
    /// The availability zone that this host is in: a name for machines that fail together
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) zone: ZoneName,
    /// What elastic IPs and instances get public addresses from: CIDR ranges or FIRST-LAST. Unset: a
    /// part of 198.18.0.0/15 that overlaps no route, which only this host reaches. Addresses of a
    /// network that the host is in are answered for there, when they are in use
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    pub(crate) public_pool: Vec<AddressRange>,
    /// What guests may use of this host, which is closed to them otherwise but for echo requests:
    /// protocol/port, such as tcp/8080,udp/123
    #[arg(long, value_name = "PROTOCOL/PORT", value_delimiter = ',')]
    pub(crate) guest_access: Vec<GuestAccess>,
    /// The host's resolvers, which guests' questions for names go on to
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    pub(crate) resolv_conf: PathBuf,
    /// vCPUs of the simulated host
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    pub(crate) sim_vcpus: u32,
    /// Memory of the simulated host, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4 << 20)]
    pub(crate) sim_memory_mib: u64,
    /// For tests: a file that says what time it is on the simulated host
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) sim_clock: Option<PathBuf>,
    /// What things cost (docs/guides/metering.md); unset: usage is shown without prices
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,
    /// Where /metrics is served to Prometheus, or off; unset: 127.0.0.1:9743, if it can be had
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_listen: Option<MetricsListen>,
    #[command(flatten)]
    pub(crate) tfstate: TfstateArgs,
}

/// How much is kept of Terraform's states, which whoever comes by TCP may store (docs/guides/terraform-state.md).
#[derive(Args, Clone, Debug)]
pub(crate) struct TfstateArgs {
    /// The largest Terraform state that is taken, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) tfstate_max_mib: u64,
    /// How many versions are kept of each Terraform state
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) tfstate_versions: u16,
    /// What the versions of one Terraform state may have together, in MiB; the latest is kept
    /// whatever it has
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) tfstate_history_mib: u64,
}

impl TfstateArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_bytes: self.tfstate_max_mib << 20,
            versions: self.tfstate_versions.into(),
            history_bytes: self.tfstate_history_mib << 20,
        }
    }
}

/// What guests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostKind {
    /// This machine: QEMU, netlink, nftables. Needs root
    Linux,
    /// A simulated one, kept in a file: serves the real API with no guests and no root
    Sim,
}

/// How guests' instructions are to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccelChoice {
    /// KVM where it is usable, else TCG
    Auto,
    /// KVM, or the agent does not start
    Kvm,
    /// Software emulation
    Tcg,
}

/// What the reconcile loop needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) prefix: String,
    pub(crate) shutdown_grace: Duration,
    pub(crate) sweep_grace: Duration,
    pub(crate) resync: Duration,
    pub(crate) guest_access: BTreeSet<GuestAccess>,
}

impl ServeArgs {
    pub(crate) fn config(&self) -> Config {
        Config {
            prefix: self.directories.prefix.clone(),
            shutdown_grace: Duration::from_secs(self.shutdown_grace),
            sweep_grace: Duration::from_secs(self.sweep_grace),
            resync: Duration::from_secs(self.resync),
            guest_access: self.guest_access.iter().copied().collect(),
        }
    }

    pub(crate) fn max_image_bytes(&self) -> u64 {
        self.max_image_gib << 30
    }
}

impl Directories {
    /// Where the agent listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime_dir.join("agent.sock")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.state_dir.join("weft.db")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.state_dir.join("images")
    }

    pub(crate) fn instances(&self) -> PathBuf {
        self.state_dir.join("instances")
    }

    /// The disks of volumes in the standard pool.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.state_dir.join("volumes")
    }

    /// Terraform's states.
    pub(crate) fn tfstates(&self) -> PathBuf {
        self.state_dir.join(TFSTATES)
    }

    /// The storage pools that were ever given.
    pub(crate) fn pools_record(&self) -> PathBuf {
        self.state_dir.join("pools.json")
    }

    /// Which boot of the machine the runtime directory is of.
    pub(crate) fn boot_record(&self) -> PathBuf {
        self.runtime_dir.join("boot-id")
    }

    pub(crate) fn guests(&self) -> PathBuf {
        self.runtime_dir.join("guests")
    }

    pub(crate) fn vpcs(&self) -> PathBuf {
        self.runtime_dir.join("vpcs")
    }
}

/// What this machine is called.
pub(crate) fn machine_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned())
}

/// Holders outlive the agent and its working directory: their paths are absolute.
pub(crate) fn parse_dir(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// Up to a year.
fn parse_seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=31_536_000)
}

/// A tap is named by the prefix and 11 digits of its instance's id, and has 15 bytes.
fn parse_prefix(text: &str) -> Result<String, String> {
    let valid = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if valid { Ok(text.to_owned()) } else { Err("use 1 to 4 letters or digits".to_owned()) }
}
