//! What rules have let through, and when last. The kernel counts; nft 1.0.6 cannot say when, so
//! the counters are looked at once in a while and whenever somebody asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weft_model::{Counted, Counts, Timestamp, VpcId};

use crate::context::Context;
use crate::error_chain::ErrorChain;
use crate::host::HostError;

/// How often all counters are looked at: "when last" is as exact as that.
const INTERVAL: Duration = Duration::from_secs(45);

/// Of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hits {
    /// Since the counter exists, also across its being made anew while the agent ran.
    pub(crate) total: Counts,
    /// When more was seen than before; `None` where that was not since the agent's start.
    pub(crate) last: Option<Timestamp>,
    /// What the kernel said last.
    seen: Counts,
}

/// Of a VPC.
#[derive(Debug, Default)]
struct OfVpc {
    hits: BTreeMap<Counted, Hits>,
    /// Whether it was ever looked at.
    is_known: bool,
}

impl OfVpc {
    /// Takes in what the kernel says now.
    fn take(&mut self, counters: BTreeMap<Counted, Counts>, now: Timestamp) {
        let is_first = !std::mem::replace(&mut self.is_known, true);
        self.hits.retain(|counted, _| counters.contains_key(counted));
        for (counted, seen) in counters {
            let hits = self.hits.entry(counted).or_default();
            let more = seen.since(hits.seen);
            hits.total = hits.total.plus(more);
            hits.seen = seen;
            // What was counted before the first look may be of any age.
            if more.packets > 0 && !is_first {
                hits.last = Some(now);
            }
        }
    }
}

/// Of all VPCs; kept in memory.
#[derive(Debug, Default)]
pub(crate) struct HitCounts(Mutex<BTreeMap<VpcId, Arc<tokio::sync::Mutex<OfVpc>>>>);

impl HitCounts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<VpcId, Arc<tokio::sync::Mutex<OfVpc>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the host counts in the VPC now.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(crate) async fn of(
        &self,
        context: &Context,
        vpc_id: &VpcId,
    ) -> Result<BTreeMap<Counted, Hits>, HostError> {
        self.look(vpc_id, context.host.counters(vpc_id), || context.clock.now()).await
    }

    /// One look at a time: of two at once the older one could be taken in last, and would look like
    /// counters that were made anew.
    async fn look(
        &self,
        vpc_id: &VpcId,
        counters: impl Future<Output = Result<BTreeMap<Counted, Counts>, HostError>>,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<BTreeMap<Counted, Hits>, HostError> {
        let of_vpc = Arc::clone(self.lock().entry(vpc_id.clone()).or_default());
        let mut of_vpc = of_vpc.lock().await;
        let counters = counters.await?;
        of_vpc.take(counters, now());
        Ok(of_vpc.hits.clone())
    }
}

/// Looks at every VPC's counters until `shutdown`.
pub(crate) async fn sample(context: &Context, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let vpcs: Vec<VpcId> = context.cache.read().vpcs.keys().cloned().collect();
        context.hits.lock().retain(|vpc_id, _| vpcs.contains(vpc_id));
        for vpc_id in vpcs {
            if let Err(error) = context.hits.of(context, &vpc_id).await {
                tracing::debug!(vpc.id = %vpc_id, error = %ErrorChain(&error), "counters are not read");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::RuleId;

    use super::*;

    fn counts(packets: u64) -> Counts {
        Counts { packets, bytes: packets * 60 }
    }

    #[test]
    fn hits_add_up_when_a_counter_begins_anew_and_the_first_look_says_nothing_about_when() {
        let mut of_vpc = OfVpc::default();
        let rule = Counted::Rule(RuleId::from_random([1; 9]));
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut look = |packets, second| {
            of_vpc.take([(rule.clone(), counts(packets))].into(), at(second));
            let hits = of_vpc.hits[&rule];
            (hits.total.packets, hits.last.map(Timestamp::as_second))
        };
        assert_eq!(look(5, 100), (5, None));
        assert_eq!(look(5, 200), (5, None));
        assert_eq!(look(7, 300), (7, Some(300)));
        assert_eq!(look(3, 400), (10, Some(400)), "made anew");
        assert_eq!(look(3, 500), (10, Some(400)));
        of_vpc.take(BTreeMap::new(), at(600));
        assert!(of_vpc.hits.is_empty(), "a rule that is gone");
    }

    #[tokio::test]
    async fn two_looks_at_once_count_nothing_twice() {
        let (all, vpc_id) = (HitCounts::default(), VpcId::from_random([1; 9]));
        let rule = Counted::Rule(RuleId::from_random([1; 9]));
        let now = || Timestamp::from_second(100).unwrap();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let slow = async {
            answered.await.unwrap();
            Ok([(rule.clone(), counts(5))].into())
        };
        let quick = async { Ok([(rule.clone(), counts(7))].into()) };
        let (first, second, ()) =
            tokio::join!(all.look(&vpc_id, slow, now), all.look(&vpc_id, quick, now), async {
                tokio::task::yield_now().await;
                answer.send(()).unwrap();
            });
        assert_eq!(first.unwrap()[&rule].total.packets, 5);
        assert_eq!(second.unwrap()[&rule].total.packets, 7);
    }
}
