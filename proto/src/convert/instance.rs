//! Instances.

use std::collections::BTreeSet;

use weft_model::{
    Assigned, AutoRestart, CloudInitReport, DiskLimits, GroupId, InstanceOrder, InstanceStatus,
    InstanceView, Lifecycle, MAX_GROUPS_PER_INTERFACE, MAX_USER_DATA_BYTES, Maxima,
    MetadataOptions, PhaseRecord, Problem, Restarts, SHUTDOWN_SECONDS, Signal, Size, UserData,
    check_disk_gib, check_hop_limit, check_size,
};

use super::object::{object_from_wire, object_to_wire};
use super::{parse, parse_word, required, time_from_wire};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn instance_order_from_wire(spec: Option<v1::InstanceSpec>) -> Result<InstanceOrder, Problem> {
    let v1::InstanceSpec {
        name,
        image_id,
        instance_type,
        vcpus,
        memory_mib,
        subnet_id,
        private_ip,
        security_group_ids,
        key_names,
        user_data,
        root_volume_size_gib,
        power_state,
        metadata_options,
        display,
        root_volume_iops,
        root_volume_throughput_mibps,
        max_vcpus,
        max_memory_mib,
        associate_public_ip_address,
        source_dest_check,
        termination_protection,
        auto_restart,
        shutdown_timeout_seconds,
    } = required("spec", spec)?;
    if let Some(data) = user_data.as_ref().filter(|data| data.len() > MAX_USER_DATA_BYTES) {
        return Err(Problem::invalid("user_data", format!("user data has {} bytes", data.len()))
            .remedy(format!(
                "{MAX_USER_DATA_BYTES} bytes fit; let it fetch the rest, or put it into the image"
            )));
    }
    if let Some(size) = root_volume_size_gib {
        check_disk_gib("root_volume.size_gib", size)?;
    }
    Ok(InstanceOrder {
        name: name.map(|text| parse("name", &text)).transpose()?,
        image_id: parse("image_id", &image_id)?,
        size: size_from_wire(instance_type, vcpus, memory_mib)?,
        maxima: Maxima { vcpus: max_vcpus, memory_mib: max_memory_mib },
        subnet_id: subnet_id.map(|text| parse("subnet_id", &text)).transpose()?,
        private_ip: private_ip.map(|text| parse("private_ip", &text)).transpose()?,
        associate_public_ip: associate_public_ip_address,
        security_group_ids: security_group_ids.map(groups_from_wire).transpose()?,
        source_dest_check: source_dest_check.unwrap_or(true),
        key_names: key_names
            .iter()
            .map(|text| parse("key_names", text))
            .collect::<Result<_, _>>()?,
        user_data: user_data.map(UserData),
        root_size_gib: root_volume_size_gib,
        root_limits: DiskLimits {
            iops: root_volume_iops,
            throughput_mibps: root_volume_throughput_mibps,
        }
        .check("root_volume.")?,
        display: display.unwrap_or_default(),
        metadata_options: metadata_options.map(metadata_options_from_wire).transpose()?,
        lifecycle: Lifecycle {
            termination_protection: termination_protection.unwrap_or_default(),
            auto_restart: auto_restart
                .map(|text| parse_word("auto_restart", &text))
                .transpose()?
                .unwrap_or(AutoRestart::Never),
            shutdown_timeout_seconds: shutdown_timeout_seconds
                .map(|seconds| shutdown_seconds_from_wire("shutdown_timeout_seconds", seconds))
                .transpose()?,
        },
        power: power_state.map(|text| parse_word("power_state", &text)).transpose()?,
    })
}

/// # Errors
/// A [`Problem`] at `field`.
pub fn shutdown_seconds_from_wire(field: &str, seconds: u32) -> Result<u32, Problem> {
    if SHUTDOWN_SECONDS.contains(&seconds) {
        return Ok(seconds);
    }
    Err(Problem::invalid(field, format!("{seconds} s is no time to wait for a guest's shutdown"))
        .remedy(format!("use {} to {} s", SHUTDOWN_SECONDS.start(), SHUTDOWN_SECONDS.end())))
}

fn metadata_options_from_wire(wire: v1::MetadataOptions) -> Result<MetadataOptions, Problem> {
    let v1::MetadataOptions { http_endpoint, http_tokens, http_put_response_hop_limit } = wire;
    let endpoint = |text: String| parse_word("metadata_options.http_endpoint", &text);
    let tokens = |text: String| parse_word("metadata_options.http_tokens", &text);
    Ok(MetadataOptions {
        http_endpoint: http_endpoint.map(endpoint).transpose()?,
        http_tokens: http_tokens.map(tokens).transpose()?,
        http_put_response_hop_limit: http_put_response_hop_limit
            .map(check_hop_limit)
            .transpose()?,
    })
}

fn size_from_wire(
    instance_type: Option<String>,
    vcpus: Option<u32>,
    memory_mib: Option<u32>,
) -> Result<Size, Problem> {
    match (instance_type, vcpus, memory_mib) {
        (Some(name), None, None) => Ok(Size::Type(name)),
        (None, Some(vcpus), Some(memory_mib)) => {
            check_size(vcpus, memory_mib)?;
            Ok(Size::Custom { vcpus, memory_mib })
        }
        (Some(_), ..) => Err(Problem::invalid(
            "instance_type",
            "the size is given twice: by type and by numbers",
        )
        .remedy("keep instance_type, or vcpus and memory_mib")),
        (None, ..) => Err(Problem::invalid("instance_type", "the instance has no size")
            .remedy("set instance_type, or both vcpus and memory_mib")),
    }
}

pub(super) fn groups_from_wire(groups: v1::SecurityGroupIds) -> Result<BTreeSet<GroupId>, Problem> {
    let v1::SecurityGroupIds { ids } = groups;
    let at = |message: String| Problem::invalid("security_group_ids", message);
    if ids.is_empty() {
        return Err(at("the list of security groups is empty".to_owned())
            .remedy("leave it out for the VPC's default group, or name a group"));
    }
    if ids.len() > MAX_GROUPS_PER_INTERFACE {
        return Err(at(format!(
            "an interface has at most {MAX_GROUPS_PER_INTERFACE} security groups, and these are {}: \
             {}",
            ids.len(),
            ids.join(", ")
        ))
        .remedy("move rules of some groups into one"));
    }
    ids.iter().map(|text| parse("security_group_ids", text)).collect()
}

pub(super) fn groups_to_wire(ids: BTreeSet<GroupId>) -> v1::SecurityGroupIds {
    v1::SecurityGroupIds { ids: ids.iter().map(ToString::to_string).collect() }
}

/// The wire's form of `order`.
pub fn instance_order_to_wire(order: InstanceOrder) -> v1::InstanceSpec {
    let (instance_type, vcpus, memory_mib) = match order.size {
        Size::Type(name) => (Some(name), None, None),
        Size::Custom { vcpus, memory_mib } => (None, Some(vcpus), Some(memory_mib)),
    };
    v1::InstanceSpec {
        name: order.name.map(|name| name.to_string()),
        image_id: order.image_id.to_string(),
        instance_type,
        vcpus,
        memory_mib,
        subnet_id: order.subnet_id.map(|id| id.to_string()),
        private_ip: order.private_ip.map(|address| address.to_string()),
        security_group_ids: order.security_group_ids.map(groups_to_wire),
        key_names: order.key_names.iter().map(ToString::to_string).collect(),
        user_data: order.user_data.map(|data| data.0),
        root_volume_size_gib: order.root_size_gib,
        root_volume_iops: order.root_limits.iops,
        root_volume_throughput_mibps: order.root_limits.throughput_mibps,
        max_vcpus: order.maxima.vcpus,
        max_memory_mib: order.maxima.memory_mib,
        power_state: order.power.map(|power| power.to_string()),
        display: Some(order.display),
        metadata_options: order.metadata_options.map(|options| v1::MetadataOptions {
            http_endpoint: options.http_endpoint.map(|word| word.to_string()),
            http_tokens: options.http_tokens.map(|word| word.to_string()),
            http_put_response_hop_limit: options.http_put_response_hop_limit.map(Into::into),
        }),
        associate_public_ip_address: order.associate_public_ip,
        source_dest_check: Some(order.source_dest_check),
        termination_protection: Some(order.lifecycle.termination_protection),
        auto_restart: Some(order.lifecycle.auto_restart.to_string()),
        shutdown_timeout_seconds: order.lifecycle.shutdown_timeout_seconds,
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn status_from_wire(wire: Option<v1::InstanceStatus>) -> Result<InstanceStatus, Problem> {
    let v1::InstanceStatus {
        state,
        reason,
        epoch,
        ended_epoch,
        phases,
        launched_at_unix_ms,
        cloud_init,
        live_keys,
        signal,
        restarts,
    } = required("status", wire)?;
    let phase = |record: v1::PhaseRecord| {
        let v1::PhaseRecord { phase, at_unix_ms } = record;
        Ok(PhaseRecord {
            phase: parse_word("status.phases", &phase)?,
            at: time_from_wire("status.phases", at_unix_ms)?,
        })
    };
    Ok(InstanceStatus {
        state: parse_word("status.state", &state)?,
        reason,
        epoch,
        ended_epoch,
        phases: phases.into_iter().map(phase).collect::<Result<_, Problem>>()?,
        launched_at: launched_at_unix_ms
            .map(|ms| time_from_wire("status.launched_at_unix_ms", ms))
            .transpose()?,
        cloud_init: cloud_init.map(cloud_init_from_wire).transpose()?,
        live_keys,
        signal: signal.map(signal_from_wire).transpose()?,
        restarts: restarts.map(restarts_from_wire).transpose()?.unwrap_or_default(),
    })
}

fn restarts_from_wire(wire: v1::Restarts) -> Result<Restarts, Problem> {
    let v1::Restarts { in_a_row, epoch, due_at_unix_ms } = wire;
    let due_at = due_at_unix_ms
        .map(|ms| time_from_wire("status.restarts.due_at_unix_ms", ms))
        .transpose()?;
    Ok(Restarts { in_a_row, epoch, due_at })
}

fn cloud_init_from_wire(wire: v1::CloudInitReport) -> Result<CloudInitReport, Problem> {
    let v1::CloudInitReport { outcome, errors, detail, at_unix_ms } = wire;
    let outcome = parse_word("status.cloud_init.outcome", &outcome)?;
    let at = time_from_wire("status.cloud_init.at_unix_ms", at_unix_ms)?;
    Ok(CloudInitReport::new(outcome, errors, &detail, at))
}

fn signal_from_wire(wire: v1::Signal) -> Result<Signal, Problem> {
    let v1::Signal { outcome, reason, at_unix_ms } = wire;
    let outcome = parse_word("status.signal.outcome", &outcome)?;
    Ok(Signal::new(outcome, &reason, time_from_wire("status.signal.at_unix_ms", at_unix_ms)?))
}

/// The wire's form of `status`.
pub fn status_to_wire(status: InstanceStatus) -> v1::InstanceStatus {
    let InstanceStatus {
        state,
        reason,
        epoch,
        ended_epoch,
        phases,
        launched_at,
        cloud_init,
        live_keys,
        signal,
        restarts,
    } = status;
    let phase = |record: PhaseRecord| v1::PhaseRecord {
        phase: record.phase.to_string(),
        at_unix_ms: record.at.as_millisecond(),
    };
    v1::InstanceStatus {
        state: state.to_string(),
        reason,
        epoch,
        ended_epoch,
        phases: phases.into_iter().map(phase).collect(),
        launched_at_unix_ms: launched_at.map(|at| at.as_millisecond()),
        cloud_init: cloud_init.map(|report| v1::CloudInitReport {
            outcome: report.outcome.to_string(),
            errors: report.errors,
            detail: report.detail,
            at_unix_ms: report.at.as_millisecond(),
        }),
        live_keys,
        signal: signal.map(|signal| v1::Signal {
            outcome: signal.outcome.to_string(),
            reason: signal.reason,
            at_unix_ms: signal.at.as_millisecond(),
        }),
        restarts: (restarts != Restarts::default()).then(|| v1::Restarts {
            in_a_row: restarts.in_a_row,
            epoch: restarts.epoch,
            due_at_unix_ms: restarts.due_at.map(|at| at.as_millisecond()),
        }),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn instance_from_wire(wire: v1::Instance) -> Result<InstanceView, Problem> {
    let v1::Instance { metadata, spec, assigned, status } = wire;
    let v1::InstanceAssigned {
        vcpus,
        memory_mib,
        vpc_id,
        interface_id,
        mac_address,
        ipv6_addresses,
        host_id,
        default_user,
        ssh_host_public_keys,
        run_epoch,
        root_size_bytes,
        public_ip,
    } = required("assigned", assigned)?;
    let assigned = Assigned {
        vcpus,
        memory_mib,
        vpc_id: parse("assigned.vpc_id", &vpc_id)?,
        interface_id: parse("assigned.interface_id", &interface_id)?,
        mac: parse("assigned.mac_address", &mac_address)?,
        ipv6_addresses: ipv6_addresses
            .iter()
            .map(|text| parse("assigned.ipv6_addresses", text))
            .collect::<Result<_, _>>()?,
        host_id: parse("assigned.host_id", &host_id)?,
        default_user,
        ssh_host_public_keys,
        run_epoch,
        root_size_bytes,
        public_ip: public_ip.map(|text| parse("assigned.public_ip", &text)).transpose()?,
    };
    let object = object_from_wire(metadata, instance_order_from_wire(spec)?)?;
    Ok(InstanceView { object, assigned, status: status_from_wire(status)? })
}

/// The wire's form of `view`.
pub fn instance_to_wire(view: InstanceView) -> v1::Instance {
    let InstanceView { object, assigned, status } = view;
    let (metadata, order) = object_to_wire(object);
    v1::Instance {
        metadata: Some(metadata),
        spec: Some(instance_order_to_wire(order)),
        assigned: Some(v1::InstanceAssigned {
            vcpus: assigned.vcpus,
            memory_mib: assigned.memory_mib,
            vpc_id: assigned.vpc_id.to_string(),
            interface_id: assigned.interface_id.to_string(),
            mac_address: assigned.mac.to_string(),
            ipv6_addresses: assigned.ipv6_addresses.iter().map(ToString::to_string).collect(),
            host_id: assigned.host_id.to_string(),
            default_user: assigned.default_user,
            ssh_host_public_keys: assigned.ssh_host_public_keys,
            run_epoch: assigned.run_epoch,
            root_size_bytes: assigned.root_size_bytes,
            public_ip: assigned.public_ip.map(|address| address.to_string()),
        }),
        status: Some(status_to_wire(status)),
    }
}
