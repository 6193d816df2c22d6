//! An instance's interfaces, as far as one pass knows them.

use std::sync::Arc;

use weft_model::LinkName;
use weft_planner::{AttachedNic, SeenInstance};

use super::{Failure, InstanceRecord};
use crate::host::SeenGuest;
use crate::reconcile::Reconciler;
use crate::reconcile::network::NetworkReport;

/// What this pass knows of the instance's interfaces: nothing before it has asked.
#[derive(Default)]
pub(super) struct NetworkView {
    asked: Option<Arc<NetworkReport>>,
}

impl NetworkView {
    /// The whole picture. Before the network was asked, a tap is taken to be there and closed, so
    /// that plans which need to know ask.
    pub(super) fn complete(
        &self,
        record: &InstanceRecord,
        attached: &[AttachedNic],
        seen: &SeenGuest,
    ) -> SeenInstance {
        let (ready, tap) = match &self.asked {
            None => (false, true),
            Some(report) => (
                wanted_links(record, attached).all(|link| report.open.contains(link)),
                all_links(record, attached).any(|link| report.present.contains(link)),
            ),
        };
        SeenInstance {
            folder: seen.folder,
            root_disk: seen.root_disk,
            memory: seen.memory,
            seed: seen.seed,
            guest: seen.guest.clone(),
            network_ready: ready,
            tap,
            nics: seen.nics.clone(),
            volumes: seen.volumes.clone(),
            throttles: seen.throttles.clone(),
            size: seen.size.clone(),
            ..SeenInstance::default()
        }
    }

    pub(super) async fn ask(
        &mut self,
        reconciler: &Reconciler,
        record: &InstanceRecord,
        attached: &[AttachedNic],
    ) -> Result<(), Failure> {
        let report = reconciler.networks.settle().await.map_err(Failure::Store)?;
        let vpc_id = &record.spec.interface.vpc_id;
        let wrong = match record.deleting_since {
            Some(_) => all_links(record, attached).find(|link| report.present.contains(*link)),
            None => wanted_links(record, attached).find(|link| !report.open.contains(*link)),
        };
        if let Some(link) = wrong {
            let why = report.failure(vpc_id, link).unwrap_or("its interface is not there yet");
            return Err(Failure::Network(why.to_owned()));
        }
        self.asked = Some(report);
        Ok(())
    }
}

fn all_links<'a>(
    record: &'a InstanceRecord,
    attached: &'a [AttachedNic],
) -> impl Iterator<Item = &'a LinkName> {
    std::iter::once(&record.spec.interface.link).chain(attached.iter().map(|one| &one.nic.link))
}

fn wanted_links<'a>(
    record: &'a InstanceRecord,
    attached: &'a [AttachedNic],
) -> impl Iterator<Item = &'a LinkName> {
    let staying = attached.iter().filter(|one| !one.leaving).map(|one| &one.nic.link);
    std::iter::once(&record.spec.interface.link).chain(staying)
}
