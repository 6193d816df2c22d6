//! `data.weft_prefix_list`: a prefix list by id or name.

use tfplugin::Validator;
use weft_model::PrefixListId;

use super::found::Lookup;
use crate::checks;
use crate::prefix_list::PrefixList;

impl Lookup for PrefixList {
    const DESCRIPTION: &'static str = "A prefix list by its id or its name.";

    fn id_rule() -> Validator {
        checks::id::<PrefixListId>(PrefixListId::PREFIX, "a prefix list")
    }
}
