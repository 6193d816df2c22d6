//! What a change of an instance does: live, by a restart, or by a replacement. Says so in the plan.

use tfplugin::{Diagnostic, Diagnostics, PlanContext, ValidateContext, Value};
use weft_model::{GuestSize, Maxima, check_no_shrink, find_type};

use super::downtime::{Away, Interruption};
use super::{Instance, guard, order};
use crate::agent::Settings;
use crate::kind::{self, called};
use crate::{problem, tags, update_table};

/// What configuration alone shows to be wrong between attributes.
pub(super) fn validate(ctx: &ValidateContext) -> Diagnostics {
    let config = &ctx.config;
    let mut found = Diagnostics::new();
    validate_size(config, &mut found);
    validate_wait(config, &mut found);
    validate_user_data(config, &mut found);
    found
}

fn validate_user_data(config: &Value, found: &mut Diagnostics) {
    let mut forms = ["user_data", "user_data_base64", "user_data_wo"]
        .into_iter()
        .filter(|form| config.get(*form).is_set());
    if let (Some(first), Some(second)) = (forms.next(), forms.next()) {
        found.push(
            Diagnostic::error("User data are given twice")
                .cause(format!("both {first} and {second} are set"))
                .remedy("Keep one of them")
                .at(second),
        );
    }
    let [data, version] = ["user_data_wo", "user_data_wo_version"].map(|name| config.get(name));
    let shown =
        ["user_data", "user_data_base64"].into_iter().find(|form| config.get(*form).is_set());
    if let (Some(shown), true, true) = (shown, version.is_set(), data.is_null()) {
        found.push(
            Diagnostic::error("user_data_wo_version is of other user data")
                .cause(format!(
                    "{shown} is set, and user_data_wo_version says that the user data are in no state"
                ))
                .remedy("Remove user_data_wo_version, or write the user data into user_data_wo")
                .at("user_data_wo_version"),
        );
    }
    if !data.is_null() && version.is_null() {
        found.push(
            Diagnostic::error("user_data_wo_version is missing")
                .cause(
                    "user_data_wo is in no state, so nothing could tell whether it has changed: its \
                     version does",
                )
                .remedy("Set user_data_wo_version = 1, and another number whenever they change")
                .at("user_data_wo"),
        );
    }
}

/// A guest reports through its metadata endpoint.
fn validate_wait(config: &Value, found: &mut Diagnostics) {
    let wait = config.get("wait_for").as_str();
    let disabled = config.get("metadata_options.http_endpoint").as_str() == Some("disabled");
    if let Some(wait @ ("cloud_init" | "signal")) = wait
        && disabled
    {
        found.push(
            Diagnostic::error("The wait can never end")
                .cause(format!(
                    "wait_for = \"{wait}\" waits for the guest's report, and \
                     metadata_options.http_endpoint = \"disabled\" refuses it"
                ))
                .remedy("Enable the endpoint, or set wait_for = \"ssh\" or \"running\"")
                .at("wait_for"),
        );
    }
}

fn validate_size(config: &Value, found: &mut Diagnostics) {
    let [kind, vcpus, memory] =
        ["instance_type", "vcpus", "memory_mib"].map(|name| config.get(name));
    if kind.is_set() && (vcpus.is_set() || memory.is_set()) {
        found.push(
            Diagnostic::error("The size is given twice")
                .cause("instance_type already says how many vCPUs and how much memory there are")
                .remedy("Keep instance_type, or vcpus and memory_mib")
                .at("instance_type"),
        );
    }
    if !kind.is_null() {
        return;
    }
    match (vcpus.is_null(), memory.is_null()) {
        (true, true) => found.push(
            Diagnostic::error("The instance has no size")
                .cause("neither instance_type nor vcpus and memory_mib are set")
                .remedy("Set instance_type = \"w1.small\", say, or both vcpus and memory_mib"),
        ),
        (true, false) => found.push(half("vcpus", "memory_mib")),
        (false, true) => found.push(half("memory_mib", "vcpus")),
        (false, false) => {}
    }
}

fn half(missing: &str, there: &str) -> Diagnostic {
    Diagnostic::error(format!("{missing} is missing"))
        .cause(format!("without instance_type, {there} needs {missing} beside it"))
        .remedy("Set both, or instance_type alone")
        .at(there)
}

/// Fills in what follows from the configuration, and warns of what hurts. Returns whether the instance
/// is replaced, and what interrupts it, which is still to be told.
pub(super) fn plan(
    settings: Option<&Settings>,
    ctx: &mut PlanContext,
) -> (bool, Option<Interruption>) {
    tags::plan(settings, ctx);
    plan_size(ctx);
    let user_data = plan_user_data(ctx);
    check_user_data(ctx);
    check_maxima(ctx);
    plan_image(ctx);
    if ctx.is_create() {
        return (false, None);
    }
    if order::is_terminating(&ctx.prior) {
        // What was read says why. The replacement waits until it is gone.
        ctx.replace("power_state");
        return (true, None);
    }
    let replacing = replacing(user_data, ctx);
    // One that is made anew is not restarted besides.
    let (restarting, interruption) = match replacing.is_empty() {
        true => plan_restart(user_data, ctx),
        false => (Vec::new(), replacement(&replacing, ctx)),
    };
    check_root_volume(&replacing, ctx);
    guard::check_policy(&restarting, &replacing, ctx);
    guard::check_protection(&replacing, ctx);
    // What is refused does not come about.
    (!replacing.is_empty(), interruption.filter(|_| !ctx.has_errors()))
}

/// The root disk grows live and never shrinks, unless it is another one.
fn check_root_volume(replacing: &[String], ctx: &mut PlanContext) {
    let gib = |value: &Value| {
        value.get("root_volume.size_gib").as_i64().and_then(|gib| u32::try_from(gib).ok())
    };
    let (Some(now), Some(wanted)) = (gib(&ctx.prior), gib(&ctx.plan)) else { return };
    if !replacing.is_empty() {
        return;
    }
    if let Err(problem) = check_no_shrink("root_volume.size_gib", "the root disk", now, wanted) {
        let (summary, schema) = ("A root disk cannot shrink", super::schema::schema());
        ctx.error(problem::diagnostic(summary, &problem, &schema, &ctx.config));
    }
}

/// vCPUs and memory follow from the type where it is built in; what one's own are is known in the
/// apply, which may make them.
fn plan_size(ctx: &mut PlanContext) {
    let kind = ctx.plan.get("instance_type").clone();
    if kind.is_null() || !(ctx.is_create() || ctx.changes("instance_type")) {
        return;
    }
    let known = kind.as_str().and_then(find_type);
    match &known {
        Some(known) => {
            ctx.set("vcpus", known.vcpus);
            ctx.set("memory_mib", known.memory_mib);
        }
        None => {
            ctx.mark_unknown("vcpus");
            ctx.mark_unknown("memory_mib");
        }
    }
}

fn number(values: &Value, name: &str) -> Option<u32> {
    values.get(name).as_i64().and_then(|number| u32::try_from(number).ok())
}

/// How big it is, where that is known.
fn size(values: &Value) -> Option<GuestSize> {
    let (vcpus, memory_mib) = (number(values, "vcpus")?, number(values, "memory_mib")?);
    Some(GuestSize { vcpus, memory_mib })
}

fn maxima(values: &Value) -> Maxima {
    Maxima { vcpus: number(values, "max_vcpus"), memory_mib: number(values, "max_memory_mib") }
}

/// How far it may grow has to fit its size.
fn check_maxima(ctx: &mut PlanContext) {
    let Some(size) = size(&ctx.plan) else { return };
    if let Err(problem) = maxima(&ctx.plan).check(size) {
        let (summary, schema) = ("The instance cannot grow so far", super::schema::schema());
        ctx.error(problem::diagnostic(summary, &problem, &schema, &ctx.config));
    }
}

/// Whether the change of its size is nothing but growth for which a guest that runs has room.
fn grows_live(ctx: &PlanContext) -> bool {
    match (size(&ctx.prior), size(&ctx.plan)) {
        (Some(now), Some(wanted)) => maxima(&ctx.prior).lets_grow(now, wanted),
        _ => false,
    }
}

/// What becomes of the user data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UserData {
    Same,
    Restart,
    Replace,
}

/// Another image replaces, or is recorded only.
fn plan_image(ctx: &mut PlanContext) {
    let is = |values: &Value, name: &str| values.get(name).as_bool() == Some(true);
    let was_outdated = is(&ctx.prior, "image_outdated");
    if ctx.is_create() || ctx.plan.get("replace_on_image_change").as_bool() != Some(false) {
        ctx.set("image_outdated", false);
        // An outdated one is made good, though image_id stays as it is.
        if !ctx.is_create() && was_outdated {
            ctx.replace("image_outdated");
        }
        if !ctx.is_create() && ctx.changes("image_id") {
            ctx.replace("image_id");
        }
        return;
    }
    if !ctx.changes("image_id") {
        return;
    }
    if was_outdated || ctx.plan.get("image_id").is_unknown() {
        // It may be the one again that the instance was made from.
        ctx.mark_unknown("image_outdated");
    } else {
        ctx.set("image_outdated", true);
    }
    ctx.warn(
        Diagnostic::warning("The instance keeps its old image")
            .cause(format!(
                "replace_on_image_change is false: the new image_id of {} is recorded only",
                called::<Instance>(&ctx.prior)
            ))
            .remedy("Set replace_on_image_change = true to replace it, or terraform apply -replace")
            .at("image_id"),
    );
}

/// User data that are in no state may be left out while the instance has them.
fn check_user_data(ctx: &mut PlanContext) {
    let sends = ctx.is_create() || ctx.changes(WO_VERSION);
    if sends && ctx.plan.get(WO_VERSION).is_set() && ctx.config.get("user_data_wo").is_null() {
        ctx.error(
            Diagnostic::error("There are no user data of this version")
                .cause("user_data_wo_version is new, and user_data_wo is not set, or is null")
                .remedy("Set user_data_wo, or leave both out")
                .at(WO_VERSION),
        );
    }
}

/// What stands for user data that are in no state.
const WO_VERSION: &str = "user_data_wo_version";

/// The attribute that has other user data sent.
fn user_data_form(ctx: &PlanContext) -> &'static str {
    if ctx.changes(WO_VERSION) { WO_VERSION } else { "user_data" }
}

fn plan_user_data(ctx: &mut PlanContext) -> UserData {
    // Of what is in no state only the version can be compared.
    let forms = ["user_data", "user_data_base64", WO_VERSION];
    let unknown = forms.iter().any(|form| ctx.plan.get(*form).is_unknown());
    let same = !unknown
        && !ctx.changes(WO_VERSION)
        && order::user_data(&ctx.plan) == order::user_data(&ctx.prior);
    if ctx.is_create() || same {
        return UserData::Same;
    }
    if ctx.plan.get("user_data_replace_on_change").as_bool() != Some(true) {
        return UserData::Restart;
    }
    for form in forms {
        if ctx.changes(form) {
            ctx.replace(form);
        }
    }
    UserData::Replace
}

/// `launched_at` becomes unknown exactly where the plan starts the guest. Returns the attributes that
/// restart a guest that runs, and that they do.
fn plan_restart(
    user_data: UserData,
    ctx: &mut PlanContext,
) -> (Vec<&'static str>, Option<Interruption>) {
    let is = |values: &Value, word: &str| values.get("power_state").as_str() == Some(word);
    let starts = is(&ctx.plan, "running") && is(&ctx.prior, "stopped");
    let stops = is(&ctx.plan, "stopped");
    let stays_down = stops || is(&ctx.prior, "stopped");
    let size: Vec<&str> =
        ["vcpus", "memory_mib"].into_iter().filter(|name| ctx.changes(*name)).collect();
    let size = if grows_live(ctx) { Vec::new() } else { size };
    let maxima = ["max_vcpus", "max_memory_mib"].into_iter().filter(|name| ctx.changes(*name));
    let mut causes: Vec<&str> = size.iter().copied().chain(maxima).collect();
    causes.extend(ctx.changes("display").then_some("display"));
    causes.extend((user_data == UserData::Restart).then(|| user_data_form(ctx)));
    let (mut restarting, mut interruption) = (Vec::new(), None);
    if starts {
        ctx.mark_unknown("launched_at");
    } else if let Some(first) = causes.first()
        && !stays_down
    {
        ctx.mark_unknown("launched_at");
        let what = causes.join(" and ");
        let by_type = !size.is_empty() && ctx.changes("instance_type");
        let path = if by_type { "instance_type" } else { *first };
        let when = if is(&ctx.plan, "unmanaged") { " if it runs" } else { "" };
        let warning = Diagnostic::warning("This change restarts the instance")
            .cause(format!(
                "{} is shut down and started again{when}, because {what} can only change while it is off",
                called::<Instance>(&ctx.prior)
            ))
            .at(path);
        let remedy = (user_data == UserData::Restart).then_some(
            "cloud-init runs user data once in an instance's life: set user_data_replace_on_change = \
             true for an instance that runs the new ones",
        );
        interruption = Some(Interruption { away: Away::Restarted, warning, remedy });
        restarting = update_table::RESTARTING
            .into_iter()
            .filter(|name| ctx.changes(*name))
            .filter(|name| user_data == UserData::Restart || !name.starts_with("user_data"))
            .filter(|name| !size.is_empty() || !update_table::SIZE.contains(name))
            .collect();
    }
    if stops && is(&ctx.prior, "running") {
        ctx.warn(
            Diagnostic::warning("This change stops the instance")
                .cause(format!(
                    "{} is shut down; it keeps its disk and address",
                    called::<Instance>(&ctx.prior)
                ))
                .at("power_state"),
        );
    }
    (restarting, interruption)
}

/// The attributes that have the instance replaced.
fn replacing(user_data: UserData, ctx: &PlanContext) -> Vec<String> {
    let mut causes = kind::replacing::<Instance>(ctx);
    if user_data == UserData::Replace {
        causes.push(user_data_form(ctx).to_owned());
    }
    let recorded = ctx.plan.get("replace_on_image_change").as_bool() == Some(false);
    if !recorded && (ctx.changes("image_id") || ctx.changes("image_outdated")) {
        causes.insert(0, "image_id".to_owned());
    }
    causes
}

fn replacement(causes: &[String], ctx: &PlanContext) -> Option<Interruption> {
    let warning = kind::replaced::<Instance>(&ctx.prior, "its root disk", causes)?;
    Some(Interruption { away: Away::Replaced, warning, remedy: None })
}
