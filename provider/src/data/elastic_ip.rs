//! `data.weft_elastic_ip`: an elastic IP by id or name.

use tfplugin::Validator;
use weft_model::ElasticIpId;

use super::found::Lookup;
use crate::checks;
use crate::elastic_ip::ElasticIp;

impl Lookup for ElasticIp {
    const DESCRIPTION: &'static str = "An elastic IP by its id or its name.";

    fn id_rule() -> Validator {
        checks::id::<ElasticIpId>(ElasticIpId::PREFIX, "an elastic IP")
    }
}
