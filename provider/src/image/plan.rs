//! Planning an image: its digests come from the files, where those are here, or are given.

use std::path::Path;
use std::sync::Arc;

use tfplugin::{Diagnostic, Diagnostics, PlanContext, Value};
use weft_model::{BootMode, Problem, Reason};

use super::capture;
use super::files::{Digests, Inspected, Role};
use super::source;
use crate::problem;

/// The key of the digests in private state.
pub(crate) const DIGESTS: &str = "digests";

/// The files that an image can have, and where their digests are shown.
pub(crate) const FILES: [(Role, &str); 3] =
    [(Role::Disk, "digest"), (Role::Kernel, "kernel_digest"), (Role::Initrd, "initrd_digest")];

pub(crate) async fn plan(digests: &Arc<Digests>, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
    // The agent says what comes with a disk that it has; until then all of it is unknown.
    if capture::is_captured(&ctx.plan) {
        return Ok(());
    }
    if ctx.config.get("kernel_cmdline").is_null() {
        ctx.set("kernel_cmdline", Value::Null);
    }
    plan_boot_mode(ctx);
    digests.recall(ctx.private.get_str(DIGESTS));
    let mut inspected = Vec::new();
    let by_url = source::is_by_url(&ctx.plan);
    for (role, shown) in FILES {
        match ctx.plan.get(role.attribute()).clone() {
            _ if by_url => source::plan(ctx, role, shown),
            Value::Unknown => {
                ctx.mark_unknown(shown);
                if role == Role::Disk {
                    ctx.mark_unknown("virtual_size_bytes");
                }
            }
            Value::String(path) => match inspect(digests, &path, role).await {
                Ok(file) => {
                    ctx.set(shown, file.digest.to_string());
                    if role == Role::Disk {
                        plan_virtual_size(ctx, file.virtual_size_bytes);
                    }
                    inspected.push(file);
                }
                // Another machine made the image; here its files are not needed.
                Err(problem) if problem.reason == Reason::NotFound && keeps(ctx, role, shown) => {
                    tracing::debug!(path, "the file is not here, the digest stays as it is");
                    if ctx.changes(role.attribute()) {
                        ctx.warn(recorded_only(role, &path));
                    }
                }
                Err(problem) => {
                    let schema = super::schema::schema();
                    let summary = format!("Cannot use {}", role.attribute());
                    ctx.error(problem::diagnostic(summary, &problem, &schema, &ctx.config));
                }
            },
            _ => ctx.set(shown, Value::Null),
        }
        if !ctx.is_create() && ctx.changes(shown) {
            ctx.replace(shown);
        }
    }
    if !inspected.is_empty() {
        ctx.private.set(DIGESTS, digests.remember(&inspected));
    }
    Ok(())
}

/// What is packed in a file shows its size when it is unpacked, unless its header says it.
fn plan_virtual_size(ctx: &mut PlanContext, known: Option<u64>) {
    match known {
        Some(bytes) => ctx.set("virtual_size_bytes", bytes),
        None if ctx.is_create() || ctx.changes("digest") => ctx.mark_unknown("virtual_size_bytes"),
        None => {}
    }
}

/// A path that was changed is meant to lead somewhere, whoever has the file.
fn recorded_only(role: Role, path: &str) -> Diagnostic {
    Diagnostic::warning(format!("The new {} is recorded only", role.attribute()))
        .cause(format!("there is no file at {path:?} on this machine: the image stays as it is"))
        .remedy("Correct the path, or apply where the file is, so that it is looked at")
        .at(role.attribute())
}

/// Whether the digest that is shown can stay: the image exists and has such a file.
fn keeps(ctx: &PlanContext, role: Role, shown: &str) -> bool {
    !ctx.is_create() && ctx.prior.get(role.attribute()).is_set() && ctx.prior.get(shown).is_set()
}

/// What makes an image another one, besides its files and how it boots.
const REPLACING: [&str; 2] = ["kernel_cmdline", "architecture"];

/// A protected image is not replaced: the replacement's first half would be refused by the agent,
/// or, with `create_before_destroy`, its second.
pub(crate) fn check_protected(ctx: &mut PlanContext) {
    if ctx.is_create() || ctx.prior.get("protected").as_bool() != Some(true) {
        return;
    }
    let files = FILES.map(|(_, shown)| shown);
    let causes = files.into_iter().chain(REPLACING).chain(["boot_mode"]);
    if let Some(cause) = causes.into_iter().find(|path| ctx.changes(*path)) {
        let told = is_protected(&ctx.prior, "replaced");
        ctx.error(told.cause(format!("its {cause} changes, which makes another image of it")));
    }
}

pub(crate) fn is_protected(prior: &Value, done: &str) -> Diagnostic {
    let name = prior.get("name").as_str().unwrap_or_default();
    Diagnostic::error(format!("Image \"{name}\" is protected and cannot be {done}"))
        .remedy("Set protected = false and apply that first")
        .at("protected")
}

fn plan_boot_mode(ctx: &mut PlanContext) {
    if !ctx.config.get("boot_mode").is_null() {
        return;
    }
    let mode = match ctx.plan.get("kernel") {
        Value::Unknown => Value::Unknown,
        Value::Null => BootMode::Bios.as_str().into(),
        _ => BootMode::DirectKernel.as_str().into(),
    };
    ctx.set("boot_mode", mode);
    if !ctx.is_create() && ctx.changes("boot_mode") {
        ctx.replace("boot_mode");
    }
}

/// Looks at a file without holding up other work.
pub(crate) async fn inspect(
    digests: &Arc<Digests>,
    path: &str,
    role: Role,
) -> Result<Inspected, Problem> {
    let (digests, path) = (digests.clone(), Path::new(path).to_owned());
    let looking = tokio::task::spawn_blocking(move || digests.inspect(&path, role));
    looking.await.unwrap_or_else(|error| {
        Err(Problem::new(Reason::Internal, "looking at the file failed")
            .evidence(error.to_string()))
    })
}
