//! Instances.

use serde_json::{Value, json};
use weft_model::{
    CloudInitReport, InstanceView, Maxima, Phase, PhaseRecord, Restarts, Signal, Size, Timestamp,
};

use super::{Noun, common_details, common_json, lines, text};
use crate::output::{age, size};

impl Noun for InstanceView {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "STATE", "TYPE", "PRIVATE-IP", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let spec = &self.object.spec;
        vec![
            self.object.id.to_string(),
            text(spec.name.as_ref()),
            match self.status.is_hibernated() {
                true => format!("{} (hibernated)", self.status.state),
                false => self.status.state.to_string(),
            },
            type_name(&spec.size),
            text(spec.private_ip.as_ref()),
            age(now, self.object.created_at),
        ]
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let (spec, assigned, status) = (&self.object.spec, &self.assigned, &self.status);
        let groups = spec
            .security_group_ids
            .as_ref()
            .map_or_else(|| "the VPC's default group".to_owned(), |ids| lines(ids.iter()));
        let mut pairs = vec![
            ("id", self.object.id.to_string()),
            ("name", text(spec.name.as_ref())),
            ("state", status.state.to_string()),
            ("reason", status.reason.clone().unwrap_or_default()),
            ("power state", text(spec.power.as_ref())),
            ("restarts", restarts(&status.restarts)),
            ("auto restart", spec.lifecycle.auto_restart.to_string()),
            (
                "protected",
                if spec.lifecycle.termination_protection { "yes" } else { "no" }.to_owned(),
            ),
            ("type", type_name(&spec.size)),
            ("vcpus", assigned.vcpus.to_string()),
            ("memory", format!("{} MiB", assigned.memory_mib)),
            ("grows live to", room(spec.maxima)),
            ("root disk", size(assigned.root_size_bytes)),
            ("root disk limits", spec.root_limits.to_string()),
            ("image", spec.image_id.to_string()),
            ("private ip", text(spec.private_ip.as_ref())),
            ("public ip", text(assigned.public_ip.as_ref())),
            ("subnet", text(spec.subnet_id.as_ref())),
            ("vpc", assigned.vpc_id.to_string()),
            ("interface", assigned.interface_id.to_string()),
            ("mac address", assigned.mac.to_string()),
            ("groups", groups),
            ("keys", lines(&spec.key_names)),
            ("user", assigned.default_user.clone()),
            ("host keys", lines(&assigned.ssh_host_public_keys)),
            ("display", if spec.display { "yes" } else { "no" }.to_owned()),
            ("user data", user_data(self)),
            ("host", assigned.host_id.to_string()),
        ];
        pairs.extend(common_details(&self.object));
        pairs.push(("launched", text(status.launched_at.as_ref())));
        pairs.push(("cloud-init", status.cloud_init.as_ref().map(cloud_init).unwrap_or_default()));
        let live =
            if status.live_keys { "followed by the guest" } else { "not seen to be followed" };
        pairs.push(("live keys", live.to_owned()));
        pairs.push(("signal", status.signal.as_ref().map(signal).unwrap_or_default()));
        pairs.push(("timeline", timeline(&status.phases, status.epoch)));
        pairs
    }

    fn json(&self) -> Value {
        let (spec, assigned, status) = (&self.object.spec, &self.assigned, &self.status);
        let instance_type = match &spec.size {
            Size::Type(name) => Some(name),
            Size::Custom { .. } => None,
        };
        let specific = json!({
            "name": spec.name,
            "state": status.state,
            "reason": status.reason,
            "power_state": spec.power,
            "auto_restart": spec.lifecycle.auto_restart,
            "termination_protection": spec.lifecycle.termination_protection,
            "shutdown_timeout_seconds": spec.lifecycle.shutdown_timeout_seconds,
            "restarts": status.restarts,
            "instance_type": instance_type,
            "vcpus": assigned.vcpus,
            "memory_mib": assigned.memory_mib,
            "max_vcpus": spec.maxima.vcpus,
            "max_memory_mib": spec.maxima.memory_mib,
            "root_volume_size_gib": spec.root_size_gib,
            "root_volume_iops": spec.root_limits.iops,
            "root_volume_throughput_mibps": spec.root_limits.throughput_mibps,
            "root_size_bytes": assigned.root_size_bytes,
            "display": spec.display,
            "metadata_options": spec.metadata_options,
            "image_id": spec.image_id,
            "private_ip": spec.private_ip,
            "public_ip": assigned.public_ip,
            "subnet_id": spec.subnet_id,
            "vpc_id": assigned.vpc_id,
            "interface_id": assigned.interface_id,
            "mac_address": assigned.mac,
            "security_group_ids": spec.security_group_ids,
            "key_names": spec.key_names,
            "default_user": assigned.default_user,
            "ssh_host_public_keys": assigned.ssh_host_public_keys,
            // User data may be secret: only its size is shown.
            "user_data_bytes": spec.user_data.as_ref().map(|data| data.0.len()),
            "host_id": assigned.host_id,
            "run_epoch": assigned.run_epoch,
            "epoch": status.epoch,
            "ended_epoch": status.ended_epoch,
            "phases": status.phases,
            "launched_at": status.launched_at,
            "cloud_init": status.cloud_init,
            "live_keys": status.live_keys,
            "signal": status.signal,
        });
        common_json(&self.object, specific)
    }
}

/// How often it was started again in a row, and when it is next.
fn restarts(restarts: &Restarts) -> String {
    match (restarts.in_a_row, restarts.due_at) {
        (0, None) => String::new(),
        (n, None) => format!("{n} in a row"),
        (n, Some(at)) => format!("{n} in a row, the next one at {at}"),
    }
}

/// How far it may grow while it runs.
fn room(maxima: Maxima) -> String {
    let vcpus = maxima.vcpus.map(|vcpus| format!("{vcpus} vCPUs"));
    let memory = maxima.memory_mib.map(|mib| format!("{mib} MiB"));
    let room: Vec<String> = vcpus.into_iter().chain(memory).collect();
    if room.is_empty() { "no further: growth restarts it".to_owned() } else { room.join(", ") }
}

fn type_name(size: &Size) -> String {
    match size {
        Size::Type(name) => name.clone(),
        Size::Custom { vcpus, memory_mib } => format!("{vcpus}x{memory_mib}MiB"),
    }
}

fn user_data(view: &InstanceView) -> String {
    let bytes = view.object.spec.user_data.as_ref().map(|data| data.0.len());
    bytes.map(|bytes| format!("{bytes} bytes")).unwrap_or_default()
}

/// How it ended, with a line for each of its errors.
fn cloud_init(report: &CloudInitReport) -> String {
    let outcome = std::iter::once(report.outcome.as_str());
    lines(outcome.chain(report.errors.iter().map(String::as_str)))
}

fn signal(signal: &Signal) -> String {
    match signal.reason.as_str() {
        "" => signal.outcome.to_string(),
        reason => format!("{}: {reason}", signal.outcome),
    }
}

/// One line for each phase of the launch `epoch`: how many milliseconds after the first one it was
/// reached. That an instance was accepted belongs to its first launch.
fn timeline(phases: &[PhaseRecord], epoch: u64) -> String {
    let phases = match phases {
        [PhaseRecord { phase: Phase::Accepted, .. }, own @ ..] if epoch > 1 => own,
        all => all,
    };
    let width = phases.iter().map(|record| record.phase.as_str().len()).max().unwrap_or(0);
    let start = phases.first().map_or(0, |record| record.at.as_millisecond());
    lines(phases.iter().map(|record| {
        let offset = record.at.as_millisecond() - start;
        format!("{:<width$}  {offset:>8} ms", record.phase.as_str())
    }))
}

#[cfg(test)]
mod tests {
    use weft_model::{HIBERNATED, InstanceState};

    use super::*;
    use crate::nouns::samples::instance_view;

    #[test]
    fn the_row_has_a_cell_for_each_column() {
        let view = instance_view();
        let now = Timestamp::from_millisecond(1_700_000_060_000).unwrap();
        let want = ["i-aaaaaaaaaaaaaaaaa", "web", "running", "w1.small", "10.0.0.4", "60s"];
        assert_eq!(view.row(now), want);
        assert_eq!(want.len(), InstanceView::HEADER.len());
    }

    #[test]
    fn the_timeline_counts_from_the_first_phase() {
        let phases = instance_view().status.phases;
        assert_eq!(timeline(&phases, 1), "accepted         0 ms\nplaced          12 ms");
        assert_eq!(timeline(&phases, 2), "placed         0 ms");
    }

    #[test]
    fn a_hibernated_instance_is_told_from_one_that_is_off() {
        let mut view = instance_view();
        let now = view.object.created_at;
        view.status.state = InstanceState::Stopped;
        assert_eq!(view.row(now)[2], "stopped");
        view.status.reason = Some(HIBERNATED.to_owned());
        assert_eq!(view.row(now)[2], "stopped (hibernated)");
    }

    #[test]
    fn user_data_is_not_shown() {
        let view = instance_view();
        let details = crate::output::details(&view.details());
        assert!(details.contains("8 bytes") && !details.contains("secret"), "{details}");
        let json = view.json();
        assert_eq!(json["user_data_bytes"], 8);
        assert_eq!(json["tags"]["role"], "front");
        assert_eq!(json["phases"][1]["phase"], "placed");
        // Neither as text nor as base64.
        let text = json.to_string();
        assert!(!text.contains("a secret") && !text.contains("YSBzZWNyZXQ"), "{text}");
    }
}
