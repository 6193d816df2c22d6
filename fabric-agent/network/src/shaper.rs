//! What slows down packets on their way to a guest: a token bucket (tc-tbf(8)) at its tap.
//!
//! Packets wait their turn, and those that would wait too long are lost: a sender learns its rate
//! from that, as on a slow wire. The way from the guest is the packet filter's: there nothing can
//! wait, see `weft_firewall`.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload, Nla, NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use weft_model::ObservedShaper;

use crate::NetworkError;
use crate::error::{asking, errno};
use crate::netlink::{Link, Netlink};

/// As the kernel calls it.
const KIND: &str = "tbf";
/// Attributes of Linux `pkt_sched.h`: `TCA_TBF_PARMS`, `TCA_TBF_RATE64`, `TCA_TBF_BURST`.
const PARAMETERS: u16 = 1;
const RATE64: u16 = 4;
const BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: without it the kernel wants a table of times (`sch_api.c`).
const LINKLAYER_ETHERNET: u8 = 1;
/// Bytes of `struct tc_tbf_qopt`, and where its rate, limit and buffer are.
const OPTIONS_LEN: usize = 36;
const RATE_AT: usize = 8;
const LIMIT_AT: usize = 24;
const BUFFER_AT: usize = 28;
/// A tick of the scheduler is this many nanoseconds (`PSCHED_SHIFT` of `pkt_sched.h`).
const TICK_NANOSECONDS: u64 = 64;
const NANOSECONDS: u64 = 1_000_000_000;

/// What may pass at once after a pause: this much time at the full rate, so that a timer that is
/// late loses nothing, and at least the largest packet that segmentation offload hands over
/// (`GSO_LEGACY_MAX_SIZE`).
const BURST_MILLISECONDS: u64 = 10;
const LEAST_BURST: u64 = 64 << 10;
/// How long a packet waits at most.
const LATENCY_MILLISECONDS: u64 = 50;

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    bytes_per_second: u64,
    /// What may pass at once.
    burst: u32,
    /// Bytes that wait at most.
    limit: u32,
}

impl Bucket {
    fn of(mbps: u32) -> Self {
        let bytes_per_second = u64::from(mbps) * 125_000;
        let bytes = |milliseconds: u64| bytes_per_second * milliseconds / 1000;
        let burst = bytes(BURST_MILLISECONDS).max(LEAST_BURST);
        let limit = burst + bytes(LATENCY_MILLISECONDS);
        let fit = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { bytes_per_second, burst: fit(burst), limit: fit(limit) }
    }

    /// The kernel takes the larger of both rates.
    fn options(self) -> Vec<TcOption> {
        let mut parameters = vec![0; OPTIONS_LEN];
        let rate = u32::try_from(self.bytes_per_second).unwrap_or(u32::MAX);
        parameters[1] = LINKLAYER_ETHERNET;
        parameters[RATE_AT..RATE_AT + 4].copy_from_slice(&rate.to_ne_bytes());
        parameters[LIMIT_AT..LIMIT_AT + 4].copy_from_slice(&self.limit.to_ne_bytes());
        let rate64 = self.bytes_per_second.to_ne_bytes().to_vec();
        let burst = self.burst.to_ne_bytes().to_vec();
        [(PARAMETERS, parameters), (RATE64, rate64), (BURST, burst)]
            .map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)))
            .into()
    }

    /// From what the kernel shows, which has the burst as the time that it takes.
    fn read(options: &[u8]) -> Option<Self> {
        let mut found: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        for attribute in NlasIterator::new(options) {
            let attribute = attribute.ok()?;
            found.insert(attribute.kind(), attribute.value().to_vec());
        }
        let parameters = found.get(&PARAMETERS)?;
        let number =
            |at: usize| Some(u32::from_ne_bytes(parameters.get(at..at + 4)?.try_into().ok()?));
        let large = found.get(&RATE64).and_then(|value| value.as_slice().try_into().ok());
        let bytes_per_second = match large {
            Some(large) => u64::from_ne_bytes(large),
            None => number(RATE_AT)?.into(),
        };
        let nanoseconds = u64::from(number(BUFFER_AT)?) * TICK_NANOSECONDS;
        let burst =
            u128::from(nanoseconds) * u128::from(bytes_per_second) / u128::from(NANOSECONDS);
        let burst = u32::try_from(burst).unwrap_or(u32::MAX);
        Some(Self { bytes_per_second, burst, limit: number(LIMIT_AT)? })
    }

    fn observed(self) -> ObservedShaper {
        let mbps = u32::try_from(self.bytes_per_second / 125_000).unwrap_or(u32::MAX);
        let ours = Self::of(mbps);
        // Ticks and the kernel's arithmetic round.
        let is_near = self.burst.abs_diff(ours.burst) <= ours.burst / 100;
        if is_near && (Self { burst: ours.burst, ..self }) == ours {
            ObservedShaper::Mbps(mbps)
        } else {
            ObservedShaper::Foreign
        }
    }
}

/// Limits what goes out of `link` to `mbps`, or takes the limit away. Idempotent; packets that wait
/// are kept where there is a limit already.
pub(crate) async fn shape(
    netlink: &Netlink,
    link: &Link,
    mbps: Option<u32>,
) -> Result<(), NetworkError> {
    let index = i32::try_from(link.index).unwrap_or_default();
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle::ROOT;
    // Without a look at what there is: the kernel tells of all links at once only.
    let (what, request, flags) = match mbps {
        None => ("without a limit", RouteNetlinkMessage::DelQueueDiscipline(message), 0),
        Some(mbps) => {
            let options = Bucket::of(mbps).options();
            message.attributes =
                vec![TcAttribute::Kind(KIND.to_owned()), TcAttribute::Options(options)];
            let request = RouteNetlinkMessage::NewQueueDiscipline(message);
            ("with its limit", request, NLM_F_CREATE | NLM_F_REPLACE)
        }
    };
    let failed = || asking(format!("set link {} {what}", link.name));
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = netlink.handle.clone().request(request).map_err(failed())?;
    while let Some(answer) = answers.next().await {
        let NetlinkPayload::Error(error) = answer.payload else { continue };
        if error.code.is_none() {
            continue;
        }
        let error = rtnetlink::Error::NetlinkError(error);
        // What a link has without us has no handle, and is not there to be removed (`sch_api.c`).
        if mbps.is_none() && errno(&error) == Some(libc::ENOENT) {
            continue;
        }
        return Err(failed()(error));
    }
    Ok(())
}

/// What slows down packets at the links of the namespace, by their index; nothing at others.
pub(crate) async fn shapers(
    netlink: &Netlink,
) -> Result<BTreeMap<u32, ObservedShaper>, NetworkError> {
    let listed: Vec<TcMessage> = netlink
        .handle
        .qdisc()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(asking("list queues of links"))?;
    Ok(listed.iter().filter_map(shaper).collect())
}

/// Other kinds are what links have without us, and limit nothing.
fn shaper(message: &TcMessage) -> Option<(u32, ObservedShaper)> {
    let is_bucket = message.attributes.contains(&TcAttribute::Kind(KIND.to_owned()));
    if !is_bucket || message.header.parent != TcHandle::ROOT {
        return None;
    }
    let index = u32::try_from(message.header.index).ok()?;
    let bucket = message.attributes.iter().find_map(|attribute| {
        let TcAttribute::Options(options) = attribute else { return None };
        let [TcOption::Other(options)] = options.as_slice() else { return None };
        let mut bytes = vec![0; options.value_len()];
        options.emit_value(&mut bytes);
        Bucket::read(&bytes)
    });
    Some((index, bucket.map_or(ObservedShaper::Foreign, Bucket::observed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_the_largest_packet_and_some_time_of_its_rate() {
        #[rustfmt::skip]
        let cases = [
            // Mbit/s, bytes/s,        burst,       waiting
            (1,        125_000,        65_536,      65_536 + 6_250),
            (100,      12_500_000,     125_000,     125_000 + 625_000),
            (100_000,  12_500_000_000, 125_000_000, 125_000_000 + 625_000_000),
        ];
        for (mbps, bytes_per_second, burst, limit) in cases {
            assert_eq!(Bucket::of(mbps), Bucket { bytes_per_second, burst, limit });
        }
    }

    #[test]
    fn only_a_bucket_as_we_set_it_is_ours() {
        let ours = Bucket::of(50);
        let rounded = Bucket { burst: ours.burst - 3, ..ours };
        assert_eq!(rounded.observed(), ObservedShaper::Mbps(50));
        for other in [
            Bucket { burst: ours.burst * 2, ..ours },
            Bucket { limit: ours.limit + 1, ..ours },
            Bucket { bytes_per_second: ours.bytes_per_second + 1, ..ours },
        ] {
            assert_eq!(other.observed(), ObservedShaper::Foreign, "{other:?}");
        }
    }
}
