//! `instance_id` and `network_interface_id`: what an association or a port forward leads to.

use tfplugin::{Attribute, Diagnostic, Diagnostics, Value};
use weft_model::{InstanceId, InterfaceId};

use crate::checks;

/// Both attributes; exactly one of them is set.
pub(crate) fn attributes() -> [Attribute; 2] {
    [
        Attribute::string(
            "instance_id",
            "The instance whose primary interface it leads to. Either this or `network_interface_id`.",
        )
        .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
        Attribute::string("network_interface_id", "The network interface that it leads to.")
            .validate(checks::id::<InterfaceId>(InterfaceId::PREFIX, "a network interface")),
    ]
}

/// What the configuration alone shows to be wrong about them.
pub(crate) fn validate(config: &Value) -> Diagnostics {
    let targets = ["instance_id", "network_interface_id"].map(|name| config.get(name));
    let unknown = targets.iter().any(|target| target.is_unknown());
    match targets.iter().filter(|target| target.is_set()).count() {
        0 if !unknown => Diagnostic::error("It leads nowhere")
            .cause("neither instance_id nor network_interface_id is set")
            .remedy("Set one of them")
            .at("instance_id")
            .into(),
        2 => Diagnostic::error("It leads to two interfaces")
            .cause("both instance_id and network_interface_id are set")
            .remedy("Keep one of them")
            .at("network_interface_id")
            .into(),
        _ => Diagnostics::new(),
    }
}
