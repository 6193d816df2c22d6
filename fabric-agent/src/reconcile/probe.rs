//! Asks a guest's SSH port, from inside its VPC, until a server with the injected key answers.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use weft_model::{InstanceId, InstanceSpec, Record, Timestamp};

use super::Reconciler;
use crate::host::{SshProbe, SshSeen};

/// Between two attempts: short while guests usually come up, longer later.
const POLL_MIN: Duration = Duration::from_millis(50);
const POLL_MAX: Duration = Duration::from_secs(2);
/// The pause once a guest has not answered for so long that nobody is in a hurry any more.
const POLL_LATE: Duration = Duration::from_secs(30);
const LATE: Duration = Duration::from_secs(30 * 60);
/// How much longer the pause gets with each attempt, in per mille.
const GROWTH_PER_MILLE: u32 = 1050;

/// Starts a prober for this launch unless one runs or has seen it ready.
pub(super) fn start(
    reconciler: &Arc<Reconciler>,
    record: &Record<InstanceId, InstanceSpec>,
    epoch: u64,
) {
    {
        let mut transients = reconciler.transients();
        let transient = transients.entry(record.id.clone()).or_default();
        if transient.probing == Some(epoch) {
            return;
        }
        transient.probing = Some(epoch);
        transient.last_probe = None;
        transient.ssh_ready = None;
    }
    let (reconciler, record) = (Arc::downgrade(reconciler), record.clone());
    tokio::spawn(async move {
        let began = tokio::time::Instant::now();
        let mut pause = POLL_MIN;
        loop {
            let Some(reconciler) = reconciler.upgrade() else { return };
            if !attempt(&reconciler, &record, epoch).await {
                return;
            }
            drop(reconciler);
            tokio::time::sleep(pause).await;
            let longest = if began.elapsed() < LATE { POLL_MAX } else { POLL_LATE };
            pause = (pause * GROWTH_PER_MILLE / 1000).min(longest);
        }
    });
}

/// One attempt; whether another one is wanted.
async fn attempt(
    reconciler: &Arc<Reconciler>,
    record: &Record<InstanceId, InstanceSpec>,
    epoch: u64,
) -> bool {
    let (id, interface) = (&record.id, &record.spec.interface);
    let still_wanted = |reconciler: &Reconciler| {
        reconciler.transients().get(id).is_some_and(|transient| transient.probing == Some(epoch))
    };
    if !still_wanted(reconciler) {
        return false;
    }
    let target = SocketAddrV4::new(interface.private_ip, 22);
    let host_key = &record.spec.host_key.public_line;
    let seen = reconciler.host.probe_ssh(id, &interface.vpc_id, target, host_key).await;
    let now = reconciler.clock.now();
    let mut transients = reconciler.transients();
    let Some(transient) = transients.get_mut(id) else { return false };
    match seen {
        Ok(SshProbe::Ready) => {
            transient.ssh_ready = Some((epoch, now));
            drop(transients);
            reconciler.look_at(id);
            return false;
        }
        Ok(SshProbe::NotYet(what)) => transient.last_probe = Some(what),
        Err(error) => {
            let why = crate::error_chain::ErrorChain(&error).to_string();
            transient.last_probe = Some(SshSeen::NotAsked(why));
        }
    }
    true
}

/// When the guest of this launch was seen ready.
pub(super) fn ready_at(reconciler: &Reconciler, id: &InstanceId, epoch: u64) -> Option<Timestamp> {
    let transients = reconciler.transients();
    let (of, at) = transients.get(id)?.ssh_ready?;
    (of == epoch).then_some(at)
}
