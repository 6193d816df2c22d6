//! What links have carried, as the kernel counts it.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use weft_model::{LinkCounters, LinkName};

use crate::error::asking;
use crate::netlink::Netlink;
use crate::{Namespace, NetworkError};

/// The counters of every link in the namespace, by name; seen from the guest, whose words the tap
/// turns round: what a tap receives, its guest has sent.
///
/// Source: `IFLA_STATS64`, `struct rtnl_link_stats64` in Linux `include/uapi/linux/if_link.h`.
///
/// # Errors
/// The kernel could not be asked.
pub async fn counters(vpc: &Namespace) -> Result<BTreeMap<LinkName, LinkCounters>, NetworkError> {
    let inside = Netlink::of(vpc)?;
    let listed: Vec<LinkMessage> =
        inside.handle.link().get().execute().try_collect().await.map_err(asking("list links"))?;
    Ok(listed.iter().filter_map(counted).collect())
}

fn counted(message: &LinkMessage) -> Option<(LinkName, LinkCounters)> {
    let mut name = None;
    let mut counters = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text.parse().ok(),
            LinkAttribute::Stats64(seen) => {
                counters = Some(LinkCounters {
                    index: message.header.index,
                    sent_bytes: seen.rx_bytes,
                    sent_packets: seen.rx_packets,
                    received_bytes: seen.tx_bytes,
                    received_packets: seen.tx_packets,
                });
            }
            _ => {}
        }
    }
    Some((name?, counters?))
}
