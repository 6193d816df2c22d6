//! Whether a change of `key_names` reaches the guest that runs.

use std::sync::Arc;

use tfplugin::{Diagnostic, PlanContext, Value};
use weft_model::{InstanceState, InstanceView};

use super::Instance;
use crate::agent::Connection;
use crate::kind::called;

/// Warns where the guest has not been seen to follow its keys, or nobody can say.
pub(super) async fn warn(connection: Option<&Arc<Connection>>, ctx: &mut PlanContext) {
    // None at all and an empty set are the same to a guest.
    let keys = |values: &Value| values.get("key_names").as_list().unwrap_or_default().to_vec();
    let is_known = !ctx.plan.get("key_names").is_unknown();
    if ctx.is_create() || (is_known && keys(&ctx.plan) == keys(&ctx.prior)) {
        return;
    }
    let view = super::now(connection, &ctx.prior).await;
    if view.as_ref().is_some_and(sees_keys) {
        return;
    }
    ctx.warn(
        Diagnostic::warning("The running guest may not see other keys")
            .cause(format!(
                "{} has not been seen to ask for its keys since it was started: key_names are \
                 recorded, and whoever has a key in the guest keeps it",
                called::<Instance>(&ctx.prior)
            ))
            .remedy(
                "Change ~/.ssh/authorized_keys in the guest too, or use an image whose guests \
                 follow key_names (the guide on live keys says how)",
            )
            .at("key_names"),
    );
}

/// A guest that follows its keys.
fn sees_keys(view: &InstanceView) -> bool {
    view.status.live_keys && view.status.state == InstanceState::Running
}
