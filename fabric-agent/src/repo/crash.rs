//! What a transaction is called where a test has the agent die before or after it.

use weft_store::{Op, Revision, Txn};

use super::keys::OBJECTS;

/// `KIND.create`, `KIND.update` or `KIND.delete` of the first object that it writes; of its first
/// key, where it writes none.
pub(super) fn write_name(txn: &Txn) -> String {
    let first =
        txn.then.iter().find(|op| key(op).starts_with(OBJECTS)).or_else(|| txn.then.first());
    let Some(op) = first else { return "nothing".to_owned() };
    let kind = key(op).trim_start_matches(OBJECTS).split('/').next().unwrap_or_default();
    let is_new = |key: &str| {
        txn.when
            .iter()
            .any(|compare| compare.key == key && compare.mod_revision == Revision::ABSENT)
    };
    let verb = match op {
        Op::Put { key, .. } if is_new(key) => "create",
        Op::Put { .. } => "update",
        Op::Delete { .. } => "delete",
    };
    format!("{kind}.{verb}")
}

fn key(op: &Op) -> &str {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_named_after_the_object_that_it_writes() {
        let create = Txn::new().when_absent("objects/instances/i-1").put("tokens/ab", "");
        let create = create.put("objects/instances/i-1", "");
        assert_eq!(write_name(&create), "instances.create");
        let update =
            Txn::new().when_at("objects/images/a", Revision(3)).put("objects/images/a", "");
        assert_eq!(write_name(&update), "images.update");
        let delete = Txn::new().delete("addresses/s/10.0.0.4").delete("objects/instances/i-1");
        assert_eq!(write_name(&delete), "instances.delete");
        assert_eq!(write_name(&Txn::new().put("status/instances/i-1", "")), "status.update");
    }
}
