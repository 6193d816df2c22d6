//! `data.weft_port_forward`: a port forward by id or name.

use tfplugin::Validator;
use weft_model::PortForwardId;

use super::found::Lookup;
use crate::checks;
use crate::port_forward::PortForward;

impl Lookup for PortForward {
    const DESCRIPTION: &'static str = "A port forward by its id or its name.";

    fn id_rule() -> Validator {
        checks::id::<PortForwardId>(PortForwardId::PREFIX, "a port forward")
    }
}
