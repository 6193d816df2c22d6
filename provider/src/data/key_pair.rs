//! `data.weft_key_pair`: a key pair by id or name.

use tfplugin::Validator;
use weft_model::KeyPairId;

use super::found::Lookup;
use crate::checks;
use crate::key_pair::KeyPair;

impl Lookup for KeyPair {
    const DESCRIPTION: &'static str = "A key pair by its id or its name.";
    const SUBCATEGORY: &'static str = "Compute";
    const NAME: &'static str = "key_name";

    fn id_rule() -> Validator {
        checks::id::<KeyPairId>(KeyPairId::PREFIX, "a key pair")
    }
}
