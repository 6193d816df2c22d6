//! Between the attributes of an instance and the agent's words for it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tfplugin::{ConvertError, Diagnostics, Known, Value};
use weft_model::{InstanceState, InstanceView, PowerState, Problem, Size, UserData, WaitFor};
use weft_proto::v1;

use crate::tags::TagMap;
use crate::{kept, tags};

/// What only the provider knows of an instance.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    pub(super) tags: Option<TagMap>,
    pub(super) wait_for: Option<String>,
    pub(super) timeouts: Option<BTreeMap<String, Option<String>>>,
    /// Whether user data were written as base64.
    pub(super) user_data_base64: bool,
    pub(super) user_data_replace_on_change: bool,
    /// Which user data it has, where they are in no state.
    pub(super) user_data_wo_version: Option<i64>,
    /// Whether power is left to people.
    pub(super) power_unmanaged: bool,
    /// Whether the configuration has it stopped, whatever an action has done to it since.
    pub(super) power_stopped: bool,
    /// The image that is wanted, where a change of it is recorded only. The agent has the one that
    /// the instance was made from.
    pub(super) recorded_image_id: Option<String>,
    /// `key_names = []` and no `key_names` are the same for the agent.
    pub(super) key_names_empty: bool,
    pub(super) apply_policy: Option<String>,
}

impl Kept {
    pub(super) fn of(plan: &Value) -> Result<Self, ConvertError> {
        Ok(Self {
            tags: tags::own(plan)?,
            wait_for: plan.read("wait_for")?,
            timeouts: plan.read("timeouts")?,
            user_data_base64: plan.get("user_data_base64").is_set(),
            user_data_replace_on_change: plan.read("user_data_replace_on_change")?,
            user_data_wo_version: plan.read("user_data_wo_version")?,
            power_unmanaged: plan.get("power_state").as_str() == Some("unmanaged"),
            power_stopped: plan.get("power_state").as_str() == Some("stopped"),
            recorded_image_id: match plan.get("replace_on_image_change").as_bool() {
                Some(false) => plan.read("image_id")?,
                _ => None,
            },
            key_names_empty: plan.get("key_names").as_list().is_some_and(<[Value]>::is_empty),
            apply_policy: plan.read("apply_policy")?,
        })
    }
}

/// What power the configuration says that an instance with this `client_data` has; `None` where that
/// is left to people.
pub(crate) fn configured_power(client_data: &str) -> Option<PowerState> {
    let kept: Kept = kept::decode(client_data);
    let power = if kept.power_stopped { PowerState::Stopped } else { PowerState::Running };
    (!kept.power_unmanaged).then_some(power)
}

/// The bytes of whichever form of user data is set and known; only a configuration has `user_data_wo`.
pub(super) fn user_data(values: &Value) -> Option<Vec<u8>> {
    let text = |name: &str| values.get(name).as_str().map(|text| text.as_bytes().to_vec());
    let text = text("user_data").or_else(|| text("user_data_wo"));
    let decoded = || STANDARD.decode(values.get("user_data_base64").as_str()?).ok();
    text.or_else(decoded)
}

/// Whether the instance keeps user data that are in no state.
pub(super) fn keeps_user_data(plan: &Value, prior: &Value) -> bool {
    let version = |values: &Value| values.get("user_data_wo_version").clone();
    version(plan).is_set() && version(plan) == version(prior)
}

/// What Create waits for.
pub(super) fn wait_for(plan: &Value) -> WaitFor {
    let has_keys = plan.get("key_names").as_list().is_some_and(|keys| !keys.is_empty());
    let unset = if has_keys { WaitFor::Ssh } else { WaitFor::Running };
    plan.get("wait_for").as_str().and_then(|word| word.parse().ok()).unwrap_or(unset)
}

/// The plan in the agent's words; what is still unknown is left to the agent. `power_state` is
/// only said where it is to change.
pub(super) fn spec(
    plan: &Value,
    power: Option<PowerState>,
) -> Result<v1::InstanceSpec, Diagnostics> {
    let instance_type: Option<String> = plan.read("instance_type")?;
    let number = |name: &str| -> Result<Option<u32>, ConvertError> {
        // A type says both.
        if instance_type.is_some() { Ok(None) } else { Ok(plan.read::<Known<u32>>(name)?.value()) }
    };
    let groups: Option<BTreeSet<String>> = plan.read("security_group_ids")?;
    let keys: Option<BTreeSet<String>> = plan.read("key_names")?;
    Ok(v1::InstanceSpec {
        name: plan.read("name")?,
        image_id: plan.read("image_id")?,
        vcpus: number("vcpus")?,
        memory_mib: number("memory_mib")?,
        instance_type,
        subnet_id: plan.read::<Known<String>>("subnet_id")?.value(),
        private_ip: plan.read::<Known<String>>("private_ip")?.value(),
        associate_public_ip_address: plan
            .read::<Known<bool>>("associate_public_ip_address")?
            .value(),
        security_group_ids: groups
            .map(|ids| v1::SecurityGroupIds { ids: ids.into_iter().collect() }),
        key_names: keys.unwrap_or_default().into_iter().collect(),
        user_data: user_data(plan),
        root_volume_size_gib: plan.read::<Known<u32>>("root_volume.size_gib")?.value(),
        root_volume_iops: plan.read::<Known<u32>>("root_volume.iops")?.value(),
        root_volume_throughput_mibps: plan
            .read::<Known<u32>>("root_volume.throughput_mibps")?
            .value(),
        max_vcpus: plan.read("max_vcpus")?,
        max_memory_mib: plan.read("max_memory_mib")?,
        power_state: power.map(|power| power.to_string()),
        display: plan.read("display")?,
        metadata_options: metadata_options(plan)?,
        source_dest_check: plan.read("source_dest_check")?,
        termination_protection: plan.read("termination_protection")?,
        auto_restart: plan.read("auto_restart")?,
        shutdown_timeout_seconds: plan.read("shutdown_timeout_seconds")?,
    })
}

fn metadata_options(plan: &Value) -> Result<Option<v1::MetadataOptions>, ConvertError> {
    if !plan.get("metadata_options").is_set() {
        return Ok(None);
    }
    Ok(Some(v1::MetadataOptions {
        http_endpoint: plan.read("metadata_options.http_endpoint")?,
        http_tokens: plan.read("metadata_options.http_tokens")?,
        http_put_response_hop_limit: plan.read("metadata_options.http_put_response_hop_limit")?,
    }))
}

/// The power that the plan asks for; `None` where it is left to people.
pub(super) fn power(plan: &Value) -> Option<PowerState> {
    plan.get("power_state").as_str().and_then(|word| word.parse().ok())
}

/// What `power_state` is while the instance is being removed, whatever is wanted.
const TERMINATING: &str = InstanceState::Terminating.as_str();

/// Whether the instance of this state is being removed.
pub(super) fn is_terminating(state: &Value) -> bool {
    state.get("power_state").as_str() == Some(TERMINATING)
}

/// Whether the guest is down and stays down until somebody starts it.
pub(super) fn has_settled_down(view: &InstanceView) -> bool {
    matches!(view.status.state, InstanceState::Stopped | InstanceState::Failed)
}

/// The attributes of `view`.
pub(crate) fn state(view: InstanceView) -> Result<Value, Problem> {
    let kept: Kept = kept::decode(&view.object.client_data);
    let power_state = match view.object.spec.power {
        _ if view.object.deleting_since.is_some() => TERMINATING,
        _ if kept.power_unmanaged => "unmanaged",
        _ if has_settled_down(&view) => PowerState::Stopped.as_str(),
        wanted => wanted.unwrap_or(PowerState::Running).as_str(),
    };
    let InstanceView { object, assigned, status } = view;
    let order = object.spec;
    let lifecycle = order.lifecycle;
    let instance_type = match order.size {
        Size::Type(name) => Some(name),
        Size::Custom { .. } => None,
    };
    let made_from = order.image_id.to_string();
    let replaces = kept.recorded_image_id.is_none();
    let image_id = kept.recorded_image_id.unwrap_or_else(|| made_from.clone());
    let outdated = image_id != made_from;
    let (user_data, user_data_base64) = match kept.user_data_wo_version {
        Some(_in_no_state) => (None, None),
        None => written(order.user_data, kept.user_data_base64),
    };
    let address = order.private_ip.map(|address| address.to_string());
    let on_address = |text: String| address.as_ref().map(|_| text).into();
    let shown = address.clone().unwrap_or_default();
    let known_hosts = assigned.ssh_host_public_keys.first().map(|key| format!("{shown} {key}"));
    let keys: BTreeSet<String> = order.key_names.iter().map(ToString::to_string).collect();
    let keys = (!keys.is_empty() || kept.key_names_empty).then(|| Vec::from_iter(keys));
    let groups =
        order.security_group_ids.map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    let limits = order.root_limits;
    let root_volume = order.root_size_gib.map(|size| {
        Value::object([
            ("size_gib", Value::from(size)),
            ("iops", limits.iops.into()),
            ("throughput_mibps", limits.throughput_mibps.into()),
        ])
    });
    let ipv6_addresses: Vec<String> =
        assigned.ipv6_addresses.iter().map(ToString::to_string).collect();
    // What was not said stays unsaid.
    let metadata_options = order.metadata_options.map(|options| {
        let hop_limit = options.http_put_response_hop_limit.map(u32::from);
        Value::object([
            ("http_endpoint", options.http_endpoint.map(|word| word.to_string()).into()),
            ("http_tokens", options.http_tokens.map(|word| word.to_string()).into()),
            ("http_put_response_hop_limit", Value::from(hop_limit)),
        ])
    });
    Ok(Value::object([
        ("id", Value::from(object.id.to_string())),
        ("name", order.name.map(|name| name.to_string()).into()),
        ("image_id", image_id.into()),
        ("replace_on_image_change", replaces.into()),
        ("image_outdated", outdated.into()),
        ("instance_type", instance_type.into()),
        ("vcpus", assigned.vcpus.into()),
        ("memory_mib", assigned.memory_mib.into()),
        ("max_vcpus", order.maxima.vcpus.into()),
        ("max_memory_mib", order.maxima.memory_mib.into()),
        ("root_volume", root_volume.unwrap_or_default()),
        ("display", order.display.into()),
        ("metadata_options", metadata_options.unwrap_or_default()),
        ("subnet_id", order.subnet_id.map(|id| id.to_string()).into()),
        ("private_ip", address.clone().into()),
        ("associate_public_ip_address", assigned.public_ip.is_some().into()),
        ("public_ip", assigned.public_ip.map(|address| address.to_string()).into()),
        ("security_group_ids", groups.into()),
        ("source_dest_check", order.source_dest_check.into()),
        ("key_names", keys.into()),
        ("user_data", user_data.into()),
        ("user_data_base64", user_data_base64.into()),
        ("user_data_wo_version", kept.user_data_wo_version.into()),
        ("user_data_replace_on_change", kept.user_data_replace_on_change.into()),
        ("power_state", power_state.into()),
        ("auto_restart", lifecycle.auto_restart.to_string().into()),
        ("termination_protection", lifecycle.termination_protection.into()),
        ("shutdown_timeout_seconds", lifecycle.shutdown_timeout_seconds.into()),
        ("apply_policy", kept.apply_policy.into()),
        ("wait_for", kept.wait_for.into()),
        ("timeouts", kept.timeouts.into()),
        ("tags", kept.tags.into()),
        ("tags_all", object.tags.into_map().into()),
        ("mac_address", assigned.mac.to_string().into()),
        ("ipv6_addresses", ipv6_addresses.into()),
        ("host_id", assigned.host_id.to_string().into()),
        ("launched_at", status.launched_at.map(|at| at.to_string()).into()),
        ("ssh_host_public_keys", assigned.ssh_host_public_keys.into()),
        ("known_hosts_line", known_hosts.map_or(Value::Null, on_address)),
        ("ssh_command", on_address(format!("ssh {}@{shown}", assigned.default_user))),
    ]))
}

/// `user_data` and `user_data_base64`, one of them null. What is no text is base64 in any case.
fn written(data: Option<UserData>, as_base64: bool) -> (Option<String>, Option<String>) {
    let Some(UserData(bytes)) = data else { return (None, None) };
    match String::from_utf8(bytes) {
        Ok(text) if !as_base64 => (Some(text), None),
        Ok(text) => (None, Some(STANDARD.encode(text))),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_come_back_as_they_were_written() {
        let data = |bytes: &[u8]| Some(UserData(bytes.to_vec()));
        assert_eq!(written(data(b"hi"), false), (Some("hi".into()), None));
        assert_eq!(written(data(b"hi"), true), (None, Some("aGk=".into())));
        assert_eq!(written(data(b"\xff"), false), (None, Some("/w==".into())));
        assert_eq!(written(None, true), (None, None));
    }

    #[test]
    fn the_wait_follows_the_keys_unless_said() {
        let keys = Value::from(vec!["me"]);
        #[rustfmt::skip]
        let cases = [
            (Value::Null,           Value::Null,    WaitFor::Running),
            (keys.clone(),          Value::Null,    WaitFor::Ssh),
            (Value::List(vec![]),   Value::Null,    WaitFor::Running),
            (keys,                  "none".into(),  WaitFor::None),
        ];
        for (key_names, word, want) in cases {
            let plan = Value::object([("key_names", key_names), ("wait_for", word)]);
            assert_eq!(wait_for(&plan), want, "{plan}");
        }
    }
}
