//! `weft_volume_attachment`: a volume in an instance.

use tfplugin::{Attribute, ConvertError, Diagnostics, Schema, Value};
use weft_model::{InstanceId, Problem, VolumeId};
use weft_proto::convert::volume_attachment_from_wire;
use weft_proto::v1;

use crate::checks;
use crate::kind::Kind;
use crate::kind::plain::Plain;

#[derive(Debug)]
pub(crate) enum VolumeAttachment {}

impl Kind for VolumeAttachment {
    type Wire = v1::VolumeAttachment;
    type Kept = ();
    const TYPE: &'static str = "weft_volume_attachment";
    const NOUN: &'static str = "volume attachment";

    fn schema() -> Schema {
        Schema::new(
            "Attaches a volume to an instance. A guest that runs has the disk at once; one that is off \
             has it at its next start. What is on it is the guest's business: it makes the file \
             system, and mounts it by `device_path`. Removing the attachment takes the disk from a \
             guest that runs, which has to let go of it: unmount it there before. Changing an end \
             replaces the attachment, neither the volume nor the instance.",
        )
        .subcategory("Storage")
        .attribute(
            Attribute::string("instance_id", "The instance.")
                .required()
                .replace_on_change()
                .validate(checks::id::<InstanceId>(InstanceId::PREFIX, "an instance")),
        )
        .attribute(
            Attribute::string("volume_id", "The volume; it is attached to one instance at most.")
                .required()
                .replace_on_change()
                .validate(checks::id::<VolumeId>(VolumeId::PREFIX, "a volume")),
        )
        .attribute(
            Attribute::bool("delete_on_termination", "Whether the volume is removed with the instance, when that is terminated by something else than Terraform, which removes the attachment first. `false` unless set. Changes live.")
                .default(false),
        )
        .attribute(Attribute::string("id", "The ids of both ends: `i-.../vol-...`.").computed())
        .attribute(
            Attribute::string(
                "device_path",
                "Where a guest with udev finds the disk, whatever other disks it has: by its serial number, which is the volume's id without the dash.",
            )
            .computed(),
        )
    }

    fn kept(_: &Value) -> Result<(), ConvertError> {
        Ok(())
    }

    fn state(wire: v1::VolumeAttachment) -> Result<Value, Problem> {
        let object = volume_attachment_from_wire(wire)?;
        let spec = object.spec;
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("instance_id", spec.instance_id.to_string().into()),
            ("volume_id", spec.volume_id.to_string().into()),
            ("delete_on_termination", spec.delete_on_termination.into()),
            ("device_path", spec.volume_id.device_path().into()),
        ]))
    }
}

impl Plain for VolumeAttachment {
    const TAGGED: bool = false;

    fn spec(plan: &Value) -> Result<v1::VolumeAttachmentSpec, Diagnostics> {
        Ok(v1::VolumeAttachmentSpec {
            instance_id: plan.read("instance_id")?,
            volume_id: plan.read("volume_id")?,
            delete_on_termination: plan.read("delete_on_termination")?,
        })
    }
}
