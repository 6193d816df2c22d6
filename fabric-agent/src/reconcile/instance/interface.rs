//! An instance's interface, as far as one pass knows it.

use weft_planner::SeenInstance;

use super::{Failure, InstanceRecord};
use crate::host::SeenGuest;
use crate::reconcile::Reconciler;

/// What this pass knows of the instance's interface: nothing before it has asked.
#[derive(Default)]
pub(super) struct NetworkView {
    asked: Option<(bool, bool)>,
}

impl NetworkView {
    /// The whole picture. Before the network was asked, a tap is taken to be there and closed, so
    /// that plans which need to know ask.
    pub(super) fn complete(&self, seen: &SeenGuest) -> SeenInstance {
        let (ready, tap) = self.asked.unwrap_or((false, true));
        SeenInstance {
            root_disk: seen.root_disk,
            seed: seen.seed,
            guest: seen.guest.clone(),
            network_ready: ready,
            tap,
            ..SeenInstance::default()
        }
    }

    pub(super) async fn ask(
        &mut self,
        reconciler: &Reconciler,
        record: &InstanceRecord,
    ) -> Result<(), Failure> {
        let report = reconciler.networks.settle().await.map_err(Failure::Store)?;
        let interface = &record.spec.interface;
        let (ready, tap) =
            (report.open.contains(&interface.link), report.present.contains(&interface.link));
        let gone = record.deleting_since.is_some();
        if (gone && tap) || (!gone && !ready) {
            let why = report.failure(&interface.vpc_id, &interface.link);
            return Err(Failure::Network(
                why.unwrap_or("its interface is not there yet").to_owned(),
            ));
        }
        self.asked = Some((ready, tap));
        Ok(())
    }
}
