//! `data.weft_network_interface`: a network interface by id or name.

use tfplugin::Validator;
use weft_model::InterfaceId;

use super::found::Lookup;
use crate::checks;
use crate::network_interface::NetworkInterface;

impl Lookup for NetworkInterface {
    const DESCRIPTION: &'static str = "A network interface by its id or its name.";

    fn id_rule() -> Validator {
        checks::id::<InterfaceId>(InterfaceId::PREFIX, "a network interface")
    }
}
