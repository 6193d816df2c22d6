//! Actions used wrongly: of what is not there, not in the right state, or with wrong words.

use anyhow::{Context as _, Result};
use weft_acceptance::{Lab, Terraform};

use super::rendered;
use crate::module::image;

/// One action that fails.
struct Wrong {
    name: &'static str,
    kind: &'static str,
    config: String,
}

fn wrong(name: &'static str, kind: &'static str, lines: &[&str]) -> Wrong {
    Wrong { name, kind, config: lines.iter().map(|line| format!("    {line}\n")).collect() }
}

/// `removed` is an instance that was there.
fn all(removed: &str) -> Vec<Wrong> {
    let off = "instance_id = weft_instance.off.id";
    let on = "instance_id = weft_instance.on.id";
    let nobody = "instance_id = \"i-11111111111111111\"";
    let removed = format!("instance_id = \"{removed}\"");
    vec![
        wrong("an instance that never was", "weft_instance_stop", &[nobody]),
        wrong("an instance that was removed", "weft_instance_start", &[&removed]),
        wrong("a snapshot of an instance that was removed", "weft_instance_snapshot", &[&removed]),
        wrong(
            "an id of another kind",
            "weft_instance_start",
            &["instance_id = \"vpc-11111111111111111\""],
        ),
        wrong("a name instead of an id", "weft_instance_start", &["instance_id = \"web\""]),
        wrong("a reboot of an instance that is stopped", "weft_instance_reboot", &[off]),
        wrong("a reset of an instance that is stopped", "weft_instance_reset", &[off]),
        wrong("hibernating an instance that is stopped", "weft_instance_hibernate", &[off]),
        wrong("hibernating a guest that cannot be", "weft_instance_hibernate", &[on]),
        wrong("a snapshot of an instance that was never started", "weft_instance_snapshot", &[off]),
        wrong(
            "a frozen snapshot of a guest without an agent of its own",
            "weft_instance_snapshot",
            &["instance_id = weft_instance.mute.id", "consistency = \"frozen\""],
        ),
        wrong(
            "a snapshot of unknown consistency",
            "weft_instance_snapshot",
            &[on, "consistency = \"application\""],
        ),
        wrong(
            "a snapshot of a volume that never was",
            "weft_volume_snapshot",
            &["volume_id = \"vol-11111111111111111\""],
        ),
        wrong("a wait for nothing known", "weft_instance_reboot", &[on, "wait_for = \"login\""]),
        wrong("a duration that is none", "weft_instance_start", &[on, "timeout = \"soon\""]),
        wrong(
            "more time to shut down than there is",
            "weft_instance_stop",
            &[on, "shutdown_timeout_seconds = 100000"],
        ),
        wrong("a word that no action knows", "weft_instance_stop", &[on, "forced = true"]),
    ]
}

/// What each says, as text for the golden file.
pub(super) fn told(lab: &Lab, terraform: &Terraform) -> Result<String> {
    let instance = |label: &str, name: &str, power: &str| {
        format!(
            "resource \"weft_instance\" \"{label}\" {{\n  name = \"{name}\"\n  \
             image_id = weft_image.it.id\n  vcpus = 1\n  memory_mib = 64\n  \
             power_state = \"{power}\"\n}}\n"
        )
    };
    let stay = image(lab)?
        + &instance("on", "sim-no-hibernate", "unmanaged")
        + &instance("mute", "sim-no-guest-agent", "running")
        + &instance("off", "off", "stopped");
    terraform.main(&(stay.clone() + &instance("gone", "gone", "running")))?;
    terraform.apply()?;
    let removed = terraform.state()?.text("weft_instance.gone", "id")?;
    terraform.main(&stay)?;
    terraform.apply()?;
    let mut text = String::new();
    for Wrong { name, kind, config } in all(&removed) {
        let action = format!("action \"{kind}\" \"bad\" {{\n  config {{\n{config}  }}\n}}\n");
        terraform.main(&format!("{action}{stay}"))?;
        // With colours: see `refuse`.
        let invoke = format!("-invoke=action.{kind}.bad");
        let said = terraform.run(&["apply", "-auto-approve", "-input=false", &invoke])?;
        let said = said.failure().with_context(|| format!("case \"{name}\""))?.text();
        let said = rendered::normalise(&rendered::diagnostics(&said), lab.directory());
        let shown = rendered::normalise(action.trim(), lab.directory());
        text.push_str(&format!(
            "\n## {name}\n\n```hcl\n{shown}\n```\n\nterraform apply -invoke:\n\n```\n{said}\n```\n"
        ));
    }
    terraform.main(&stay)?;
    terraform.destroy()?;
    Ok(text)
}
