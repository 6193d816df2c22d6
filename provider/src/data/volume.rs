//! `data.weft_volume`: a volume by id or name.

use tfplugin::Validator;
use weft_model::VolumeId;

use super::found::Lookup;
use crate::checks;
use crate::volume::Volume;

impl Lookup for Volume {
    const DESCRIPTION: &'static str = "A volume by its id or its name.";
    const SUBCATEGORY: &'static str = "Storage";

    fn id_rule() -> Validator {
        checks::id::<VolumeId>(VolumeId::PREFIX, "a volume")
    }
}
