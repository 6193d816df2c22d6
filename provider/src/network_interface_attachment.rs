//! `weft_network_interface_attachment`: a network interface in an instance.

use tfplugin::{Attribute, ConvertError, Diagnostics, Known, Schema, Value};
use weft_model::{InstanceId, InterfaceId, MAX_INTERFACES_PER_INSTANCE, Problem};
use weft_proto::convert::attachment_from_wire;
use weft_proto::v1;

use crate::checks;
use crate::kind::Kind;
use crate::kind::plain::Plain;

#[derive(Debug)]
pub(crate) enum NetworkInterfaceAttachment {}

impl Kind for NetworkInterfaceAttachment {
    type Wire = v1::NetworkInterfaceAttachment;
    type Kept = ();
    const TYPE: &'static str = "weft_network_interface_attachment";
    const NOUN: &'static str = "network interface attachment";

    fn schema() -> Schema {
        let last = i64::from(MAX_INTERFACES_PER_INSTANCE) - 1;
        Schema::new(
            "Attaches a network interface to an instance. A guest that runs gets it at once, and \
             configures it itself; one that is off has it at its next start. As in EC2, an interface \
             has groups and an address of its own, and by which one a guest sends is the guest's choice: \
             to a subnet that it is in by its address there. What it answers to its other address \
             from there needs policy routing in the guest (`ip rule`). Removing it takes the \
             interface from a guest that runs, which has to let go of it. Any change replaces the \
             attachment, neither the interface nor the instance.",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("instance_id", "The instance.")
                .required()
                .replace_on_change()
                .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
        )
        .attribute(
            Attribute::string(
                "network_interface_id",
                "The interface, in the VPC of the instance; it is attached to one instance at most.",
            )
            .required()
            .replace_on_change()
            .validate(checks::id::<InterfaceId>(InterfaceId::PREFIX, "a network interface")),
        )
        .attribute(
            Attribute::number(
                "device_index",
                format!("Its place among the instance's interfaces, 1 to {last}; unset, the next one that is free. 0 is the interface that the instance was made with."),
            )
            .optional_computed()
            .replace_on_change()
            .validate(checks::numbered("a device index", 1..=last)),
        )
        .attribute(
            Attribute::string("id", "The ids of both ends: `i-.../eni-...`.").computed(),
        )
    }

    fn kept(_: &Value) -> Result<(), ConvertError> {
        Ok(())
    }

    fn state(wire: v1::NetworkInterfaceAttachment) -> Result<Value, Problem> {
        let object = attachment_from_wire(wire)?;
        let spec = object.spec;
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("instance_id", spec.instance_id.to_string().into()),
            ("network_interface_id", spec.network_interface_id.to_string().into()),
            ("device_index", i64::from(spec.device_index).into()),
        ]))
    }
}

impl Plain for NetworkInterfaceAttachment {
    const TAGGED: bool = false;

    fn spec(plan: &Value) -> Result<v1::NetworkInterfaceAttachmentSpec, Diagnostics> {
        Ok(v1::NetworkInterfaceAttachmentSpec {
            instance_id: plan.read("instance_id")?,
            network_interface_id: plan.read("network_interface_id")?,
            device_index: plan.read::<Known<u32>>("device_index")?.value(),
        })
    }
}
