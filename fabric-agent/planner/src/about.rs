//! What an action is called, and what it is about: for tests that order failures or crashes.

use crate::{Action, GuestNic, GuestVolume};

impl Action {
    /// Its name, as in its serialised form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MakeRootDisk { .. } => "make_root_disk",
            Self::GrowRootDisk { .. } => "grow_root_disk",
            Self::WriteSeed { .. } => "write_seed",
            Self::StartGuest(_) => "start_guest",
            Self::PlugNic { .. } => "plug_nic",
            Self::UnplugNic { .. } => "unplug_nic",
            Self::PlugVolume { .. } => "plug_volume",
            Self::UnplugVolume { .. } => "unplug_volume",
            Self::LimitDisk { .. } => "limit_disk",
            Self::RaiseLimits { .. } => "raise_limits",
            Self::AddVcpus { .. } => "add_vcpus",
            Self::AddMemory { .. } => "add_memory",
            Self::PressPowerButton { .. } => "press_power_button",
            Self::HibernateGuest { .. } => "hibernate_guest",
            Self::KeepMemory { .. } => "keep_memory",
            Self::ResumeGuest { .. } => "resume_guest",
            Self::ForgetMemory { .. } => "forget_memory",
            Self::ResetGuest { .. } => "reset_guest",
            Self::ContinueGuest { .. } => "continue_guest",
            Self::EndGuest { .. } => "end_guest",
            Self::ForgetGuest { .. } => "forget_guest",
            Self::RemoveDisks { .. } => "remove_disks",
            Self::SealRootDisk { .. } => "seal_root_disk",
            Self::SealVolume { .. } => "seal_volume",
            Self::ThawGuest { .. } => "thaw_guest",
            Self::ForgetFreezes { .. } => "forget_freezes",
            Self::MergeLayers { .. } => "merge_layers",
            Self::UseMergedRoot { .. } => "use_merged_root",
            Self::UseMergedVolume { .. } => "use_merged_volume",
            Self::RemoveLayer { .. } => "remove_layer",
            Self::MakeVolume { .. } => "make_volume",
            Self::GrowVolume { .. } => "grow_volume",
            Self::RemoveVolume { .. } => "remove_volume",
            Self::MakeNamespace { .. } => "make_namespace",
            Self::SetBase { .. } => "set_base",
            Self::SetUplink { .. } => "set_uplink",
            Self::RemoveUplink { .. } => "remove_uplink",
            Self::SetBridge { .. } => "set_bridge",
            Self::JoinBridge { .. } => "join_bridge",
            Self::AddTap { .. } => "add_tap",
            Self::OpenTap { .. } => "open_tap",
            Self::SetRoutes { .. } => "set_routes",
            Self::RemoveTap { .. } => "remove_tap",
            Self::SetFirewall { .. } => "set_firewall",
            Self::CutConnections { .. } => "cut_connections",
            Self::RemoveNamespace { .. } => "remove_namespace",
            Self::SetHostRouting { .. } => "set_host_routing",
            Self::BeginUpload { .. } => "begin_upload",
            Self::AppendUpload { .. } => "append_upload",
            Self::FinishUpload { .. } => "finish_upload",
            Self::UnpackBlob { .. } => "unpack_blob",
            Self::AbandonUpload { .. } => "abandon_upload",
            Self::RemoveBlob { .. } => "remove_blob",
            Self::FlattenDisk { .. } => "flatten_disk",
            Self::KeepCapture { .. } => "keep_capture",
            Self::AbandonCapture { .. } => "abandon_capture",
        }
    }

    /// The ids and names that it is about.
    pub fn subjects(&self) -> Vec<String> {
        match self {
            Self::MakeRootDisk { instance_id, name, .. } => {
                std::iter::once(instance_id.to_string()).chain(name.clone()).collect()
            }
            Self::WriteSeed { instance_id, seed, .. } => {
                std::iter::once(instance_id.to_string()).chain(seed.name.clone()).collect()
            }
            Self::StartGuest(launch) => vec![launch.instance_id.to_string(), launch.name.clone()],
            Self::PlugNic { instance_id, nic: GuestNic { interface_id, .. }, .. }
            | Self::UnplugNic { instance_id, interface_id } => {
                vec![instance_id.to_string(), interface_id.to_string()]
            }
            Self::SealRootDisk { instance_id, layer, .. } => {
                vec![instance_id.to_string(), layer.to_string()]
            }
            Self::SealVolume { volume_id, layer, .. } => {
                vec![volume_id.to_string(), layer.to_string()]
            }
            Self::RemoveLayer { layer } => vec![layer.to_string()],
            Self::MergeLayers { merge, .. } => vec![merge.merged.to_string()],
            Self::UseMergedRoot { instance_id, merge, .. } => {
                vec![instance_id.to_string(), merge.merged.to_string()]
            }
            Self::UseMergedVolume { volume_id, merge, .. } => {
                vec![volume_id.to_string(), merge.merged.to_string()]
            }
            Self::PlugVolume { instance_id, volume: GuestVolume { volume_id, .. } }
            | Self::UnplugVolume { instance_id, volume_id, .. } => {
                vec![instance_id.to_string(), volume_id.to_string()]
            }
            Self::LimitDisk { instance_id, volume_id, .. } => {
                let volume = volume_id.as_ref().map(ToString::to_string);
                std::iter::once(instance_id.to_string()).chain(volume).collect()
            }
            Self::RaiseLimits { instance_id, .. }
            | Self::AddVcpus { instance_id, .. }
            | Self::AddMemory { instance_id, .. }
            | Self::PressPowerButton { instance_id }
            | Self::HibernateGuest { instance_id, .. }
            | Self::KeepMemory { instance_id }
            | Self::ResumeGuest { instance_id }
            | Self::ForgetMemory { instance_id }
            | Self::ResetGuest { instance_id }
            | Self::ContinueGuest { instance_id }
            | Self::ThawGuest { instance_id }
            | Self::ForgetFreezes { instance_id, .. }
            | Self::EndGuest { instance_id }
            | Self::ForgetGuest { instance_id }
            | Self::GrowRootDisk { instance_id, .. }
            | Self::RemoveDisks { instance_id } => vec![instance_id.to_string()],
            Self::MakeVolume { volume_id, pool, .. }
            | Self::GrowVolume { volume_id, pool, .. }
            | Self::RemoveVolume { volume_id, pool } => {
                vec![volume_id.to_string(), pool.to_string()]
            }
            Self::MakeNamespace { vpc_id }
            | Self::RemoveUplink { vpc_id }
            | Self::SetFirewall { vpc_id, .. }
            | Self::CutConnections { vpc_id, .. }
            | Self::SetRoutes { vpc_id, .. }
            | Self::RemoveNamespace { vpc_id } => vec![vpc_id.to_string()],
            Self::SetBase { network }
            | Self::SetUplink { network }
            | Self::SetBridge { network }
            | Self::JoinBridge { network } => vec![network.vpc_id.to_string()],
            Self::AddTap { vpc_id, link, .. }
            | Self::OpenTap { vpc_id, link, .. }
            | Self::RemoveTap { vpc_id, link } => vec![vpc_id.to_string(), link.to_string()],
            Self::SetHostRouting { .. } => Vec::new(),
            Self::FlattenDisk { snapshot_id, .. } => vec![snapshot_id.to_string()],
            Self::KeepCapture { snapshot_id, digest } => {
                vec![snapshot_id.to_string(), digest.to_string()]
            }
            Self::AbandonCapture { name } => vec![name.clone()],
            Self::BeginUpload { digest, .. }
            | Self::AppendUpload { digest, .. }
            | Self::FinishUpload { digest, .. }
            | Self::UnpackBlob { digest, .. }
            | Self::AbandonUpload { digest }
            | Self::RemoveBlob { digest } => vec![digest.to_string()],
        }
    }

    /// The instance that it is about, if it is about one.
    pub fn instance_id(&self) -> Option<&weft_model::InstanceId> {
        match self {
            Self::MakeRootDisk { instance_id, .. }
            | Self::WriteSeed { instance_id, .. }
            | Self::PlugNic { instance_id, .. }
            | Self::UnplugNic { instance_id, .. }
            | Self::PlugVolume { instance_id, .. }
            | Self::UnplugVolume { instance_id, .. }
            | Self::LimitDisk { instance_id, .. }
            | Self::RaiseLimits { instance_id, .. }
            | Self::AddVcpus { instance_id, .. }
            | Self::AddMemory { instance_id, .. }
            | Self::PressPowerButton { instance_id }
            | Self::HibernateGuest { instance_id, .. }
            | Self::KeepMemory { instance_id }
            | Self::ResumeGuest { instance_id }
            | Self::ForgetMemory { instance_id }
            | Self::ResetGuest { instance_id }
            | Self::ContinueGuest { instance_id }
            | Self::EndGuest { instance_id }
            | Self::ForgetGuest { instance_id }
            | Self::SealRootDisk { instance_id, .. }
            | Self::ThawGuest { instance_id }
            | Self::ForgetFreezes { instance_id, .. }
            | Self::UseMergedRoot { instance_id, .. }
            | Self::GrowRootDisk { instance_id, .. }
            | Self::RemoveDisks { instance_id } => Some(instance_id),
            Self::StartGuest(launch) => Some(&launch.instance_id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_serialised_form() {
        let instance_id = weft_model::InstanceId::from_random([1; 9]);
        let vpc_id = weft_model::VpcId::from_random([1; 9]);
        let digest = weft_model::Digest::from_bytes([1; 32]);
        let actions = [
            Action::RemoveLayer { layer: weft_model::LayerId::from_random([1; 9]) },
            Action::PressPowerButton { instance_id },
            Action::RemoveNamespace { vpc_id },
            Action::SetHostRouting { routes: Default::default(), edge: Default::default() },
            Action::RemoveBlob { digest },
        ];
        for action in actions {
            let json = serde_json::to_value(&action).unwrap();
            assert_eq!(json["action"], action.name());
        }
    }
}
