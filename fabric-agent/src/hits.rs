//! What rules have let through, and when last. The kernel counts; nft 1.0.6 cannot say when, so
//! the counters are looked at once in a while and whenever somebody asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weft_model::{Counted, Counts, Timestamp, VpcId};

use crate::chain::Chain;
use crate::context::Context;
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

/// Of all VPCs; kept in memory.
#[derive(Debug, Default)]
pub(crate) struct HitCounts(Mutex<BTreeMap<VpcId, BTreeMap<Counted, Hits>>>);

impl HitCounts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<VpcId, BTreeMap<Counted, Hits>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the kernel says now.
    fn take(&self, vpc_id: &VpcId, counters: BTreeMap<Counted, Counts>, now: Timestamp) {
        let mut all = self.lock();
        let is_first = !all.contains_key(vpc_id);
        let known = all.entry(vpc_id.clone()).or_default();
        known.retain(|counted, _| counters.contains_key(counted));
        for (counted, seen) in counters {
            let hits = known.entry(counted).or_default();
            let more = seen.since(hits.seen);
            hits.total = hits.total.plus(more);
            hits.seen = seen;
            // What was counted before the first look may be of any age.
            if more.packets > 0 && !is_first {
                hits.last = Some(now);
            }
        }
    }

    /// What `host` counts in the VPC now.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(crate) async fn of(
        &self,
        context: &Context,
        vpc_id: &VpcId,
    ) -> Result<BTreeMap<Counted, Hits>, HostError> {
        let counters = context.host.counters(vpc_id).await?;
        self.take(vpc_id, counters, context.clock.now());
        Ok(self.lock().get(vpc_id).cloned().unwrap_or_default())
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
                tracing::debug!(vpc.id = %vpc_id, error = %Chain(&error), "counters are not read");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::RuleId;

    use super::*;

    #[test]
    fn hits_add_up_when_a_counter_begins_anew_and_the_first_look_says_nothing_about_when() {
        let (counts, vpc_id) = (HitCounts::default(), VpcId::from_random([1; 9]));
        let rule = Counted::Rule(RuleId::from_random([1; 9]));
        let at = |second| Timestamp::from_second(second).unwrap();
        let look = |packets, second| {
            let seen = Counts { packets, bytes: packets * 60 };
            counts.take(&vpc_id, [(rule.clone(), seen)].into(), at(second));
            let hits = counts.lock()[&vpc_id][&rule];
            (hits.total.packets, hits.last.map(Timestamp::as_second))
        };
        assert_eq!(look(5, 100), (5, None));
        assert_eq!(look(5, 200), (5, None));
        assert_eq!(look(7, 300), (7, Some(300)));
        assert_eq!(look(3, 400), (10, Some(400)), "made anew");
        assert_eq!(look(3, 500), (10, Some(400)));
        counts.take(&vpc_id, BTreeMap::new(), at(600));
        assert!(counts.lock()[&vpc_id].is_empty(), "a rule that is gone");
    }
}
