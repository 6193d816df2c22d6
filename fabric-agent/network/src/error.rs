//! What can go wrong with links, routes and namespaces.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use weft_model::LinkName;

/// Why the kernel's network could not be changed or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A request over rtnetlink failed.
    #[error("{action}")]
    Netlink {
        /// What was asked, with names.
        action: String,
        /// Why not.
        #[source]
        source: rtnetlink::Error,
    },
    /// Tracked connections could not be listed or forgotten.
    #[error("{action}")]
    Conntrack {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The host has a route of its own to the range of a VPC.
    #[error(
        "the host's own network has {range} already ({by}); give the VPC a range that the host \
         does not use, or remove that route"
    )]
    RangeTaken {
        /// The VPC's range.
        range: IpNetwork,
        /// The route that has it.
        by: String,
    },
    /// A link that should exist does not.
    #[error("link {link} does not exist")]
    NoSuchLink {
        /// Its name.
        link: LinkName,
    },
    /// What a VPC should be joined to does not exist, or is something else.
    #[error(
        "{link} is {}; make a bridge of that name, such as with \"ip link add {link} type bridge\", \
         or name another one",
        instead(kind.as_deref())
    )]
    NoSuchBridge {
        /// The name that was given.
        link: LinkName,
        /// What has that name instead.
        kind: Option<String>,
    },
    /// What should lead a VPC to its LAN cannot.
    #[error("{link} {why}")]
    UnfitUplink {
        /// The name that was given.
        link: LinkName,
        /// What is wrong with it and what to do, after its name.
        why: String,
    },
    /// The kernel has no VLAN links.
    #[error(
        "this kernel makes no VLAN links (802.1Q): load its module with \"modprobe 8021q\", or \
         leave vlan_id out"
    )]
    NoVlans,
    /// The kernel cannot filter what crosses a bridge.
    #[error(
        "this kernel does not filter bridged packets, so security groups could not be enforced on \
         a bridge: load its module with \"modprobe br_netfilter\" (it also filters the host's \
         other bridges unless net.bridge.bridge-nf-call-iptables is 0 there)"
    )]
    NoBridgeFilter,
    /// The device behind a tap could not be made or opened.
    #[error("{action} tap {link}")]
    Tap {
        /// `create`.
        action: &'static str,
        /// Its name.
        link: LinkName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A switch under `/proc/sys` could not be read or written.
    #[error("set {}", path.display())]
    Sysctl {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread could not enter a namespace.
    #[error("enter network namespace {namespace}")]
    Enter {
        /// Which one.
        namespace: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The record of a namespace's holder could not be read, written or removed.
    #[error("{action} {}", path.display())]
    Record {
        /// What was tried.
        action: &'static str,
        /// The record's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process that holds a namespace could not be started or ended.
    #[error("{action} the process that holds a network namespace")]
    Holder {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The holder was started, lives and left no record.
    #[error(
        "the process that holds a network namespace did not write {} in time{}",
        record.display(), said(last_words)
    )]
    HolderSilent {
        /// The record it should have written.
        record: PathBuf,
        /// The end of its log.
        last_words: String,
    },
    /// The holder was started and ended by itself.
    #[error(
        "the process that holds a network namespace ended before it wrote {}{}",
        record.display(), said(last_words)
    )]
    HolderEnded {
        /// The record it should have written.
        record: PathBuf,
        /// The end of its log.
        last_words: String,
    },
    /// The holder should have taken over a namespace and holds another.
    #[error("the process of {} did not join the network namespace of running guests", record.display())]
    NotJoined {
        /// Its record.
        record: PathBuf,
    },
    /// No connection from inside a namespace.
    #[error("connect to {address} from inside the VPC")]
    Connect {
        /// The far end.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl NetworkError {
    /// Whether the same call may succeed later with nothing else changed.
    pub fn is_retryable(&self) -> bool {
        let denied = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::Netlink { source, .. } => errno(source) != Some(libc::EPERM),
            Self::RangeTaken { .. }
            | Self::NoSuchLink { .. }
            | Self::NoSuchBridge { .. }
            | Self::UnfitUplink { .. }
            | Self::NoVlans
            | Self::NoBridgeFilter
            | Self::HolderSilent { .. }
            | Self::HolderEnded { .. }
            | Self::NotJoined { .. } => true,
            Self::Conntrack { source, .. }
            | Self::Tap { source, .. }
            | Self::Sysctl { source, .. }
            | Self::Enter { source, .. }
            | Self::Record { source, .. }
            | Self::Holder { source, .. }
            | Self::Connect { source, .. } => !denied(source),
        }
    }
}

fn instead(kind: Option<&str>) -> String {
    match kind {
        None => "no link of this host".to_owned(),
        Some(kind) => format!("a link of kind \"{kind}\" and no bridge"),
    }
}

fn said(last_words: &str) -> String {
    match last_words {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}

/// The positive error number of a refused request.
pub(crate) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().saturating_abs()),
        _ => None,
    }
}

/// Says what was asked of the kernel when it refuses.
pub(crate) fn asking(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    let action = action.into();
    move |source| NetworkError::Netlink { action, source }
}
