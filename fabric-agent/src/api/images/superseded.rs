//! Images of instances that nobody has. Whoever captures an instance again, because an earlier client
//! died before it knew its image, gets another disk; so the image that was made cannot be adopted by its
//! content, as other objects are, and it would be of an earlier moment than is meant. It is removed.

use weft_model::{Claim, ImageId, ImageSpec, Problem, Reason};
use weft_store::Txn;

use crate::cache::World;
use crate::context::Context;
use crate::repo::{Images, Kind as _, RecordOf};

/// Removes what dead clients have left of the image that is about to be made: of the same instance, with
/// the same name. Images that are protected go too: nobody has chosen to keep them.
pub(super) async fn remove(context: &Context, spec: &ImageSpec) -> Result<(), Problem> {
    if spec.captured_from.is_none() {
        return Ok(());
    }
    let is_left = |record: &RecordOf<Images>| is_left(context, record, spec);
    let left = left(&context.cache.read(), is_left);
    for id in left {
        let _guard = context.references.write().await;
        let _turn = context.turns().object(id.as_str()).await;
        let Some(stored) = context.repo.find::<Images>(&id).await? else { continue };
        // Somebody may have read it meanwhile, and has it now.
        if !is_left(&stored.value) {
            continue;
        }
        match context.remove::<Images>(&stored, Txn::new()).await {
            Ok(()) => {
                tracing::info!(kind = Images::NAME, id = %id, "a dead session had made it of an instance that is captured anew");
            }
            Err(problem) if problem.reason == Reason::StaleGeneration => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

fn left(world: &World, is_left: impl Fn(&RecordOf<Images>) -> bool) -> Vec<ImageId> {
    let left = world.images.values().filter(|record| is_left(record));
    left.map(|record| record.id.clone()).collect()
}

fn is_left(context: &Context, record: &RecordOf<Images>, spec: &ImageSpec) -> bool {
    let same = record.spec.captured_from == spec.captured_from && record.spec.name == spec.name;
    same && match &record.claim {
        Claim::Unclaimed { session, .. } => !context.sessions.is_alive(session),
        Claim::Claimed => false,
    }
}
