//! What a plan may not do to an instance: what its owner has ruled out.

use tfplugin::{DestroyPlanContext, Diagnostic, Diagnostics, PlanContext, Value};

use super::Instance;
use crate::kind::called;

/// How far an apply may go without being told so again. Unset is the last one.
pub(super) const POLICIES: [&str; 3] = ["live_only", "allow_restart", "allow_replace"];

fn is_protected(values: &Value) -> bool {
    values.get("termination_protection").as_bool() == Some(true)
}

fn protected(prior: &Value, what: &str) -> Diagnostic {
    Diagnostic::error("The instance is protected from termination")
        .cause(format!(
            "{} {what}, and its termination_protection is true",
            called::<Instance>(prior)
        ))
        .remedy(
            "To remove it all the same, set termination_protection = false, apply that, then plan \
             again",
        )
        .at("termination_protection")
}

/// A replacement makes no plan of a destruction: it is refused where it is brought about. What
/// counts is the state, as the agent would refuse to remove the instance.
pub(super) fn check_protection(replacing: &[String], ctx: &mut PlanContext) {
    if !replacing.is_empty() && is_protected(&ctx.prior) {
        let what = format!("would be replaced, because of {}", replacing.join(" and "));
        ctx.error(protected(&ctx.prior, &what));
    }
}

pub(super) fn check_destruction(ctx: &DestroyPlanContext) -> Result<(), Diagnostics> {
    match is_protected(&ctx.prior) {
        true => Err(protected(&ctx.prior, "would be destroyed").into()),
        false => Ok(()),
    }
}

/// One error for each attribute whose change goes further than `apply_policy` allows.
pub(super) fn check_policy(restarting: &[&str], replacing: &[String], ctx: &mut PlanContext) {
    let policy = ctx.plan.get("apply_policy").as_str().unwrap_or("allow_replace").to_owned();
    let refuse = |attribute: &str, does: &str, allows: &str| {
        Diagnostic::error(format!("This change {does}s the instance, which apply_policy rules out"))
            .cause(format!(
                "{} would be {does}{}, because of {attribute}; its apply_policy is \"{policy}\"",
                called::<Instance>(&ctx.prior),
                if does.ends_with('e') { "d" } else { "ed" },
            ))
            .remedy(format!(
                "Set apply_policy = \"{allows}\" in the same apply, leave {attribute} as it was, or \
                 let Terraform pass over it with lifecycle {{ ignore_changes = [{attribute}] }}"
            ))
            .at(attribute)
    };
    let mut found = Vec::new();
    if policy != "allow_replace" {
        found.extend(replacing.iter().map(|one| refuse(one, "replace", "allow_replace")));
    }
    if policy == "live_only" {
        found.extend(restarting.iter().map(|one| refuse(one, "restart", "allow_restart")));
    }
    found.into_iter().for_each(|diagnostic| ctx.error(diagnostic));
}
