//! Which instances have which name in their VPC: guests ask, and must not make the agent look at
//! every instance for it.

use std::collections::{BTreeSet, HashMap};

use weft_model::{InstanceId, InstanceSpec, Name, VpcId, dns_label};

/// The instances by their names' labels, in each VPC.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(HashMap<(VpcId, String), BTreeSet<InstanceId>>);

impl Names {
    pub(super) fn insert(&mut self, id: &InstanceId, spec: &InstanceSpec) {
        if let Some(key) = key(spec) {
            self.0.entry(key).or_default().insert(id.clone());
        }
    }

    pub(super) fn remove(&mut self, id: &InstanceId, spec: &InstanceSpec) {
        let Some(key) = key(spec) else { return };
        if let Some(ids) = self.0.get_mut(&key) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Those that have this label, in lower case.
    pub(super) fn with_label(&self, vpc: &VpcId, label: &str) -> impl Iterator<Item = &InstanceId> {
        self.0.get(&(vpc.clone(), label.to_owned())).into_iter().flatten()
    }
}

fn key(spec: &InstanceSpec) -> Option<(VpcId, String)> {
    let label = dns_label(spec.name.as_ref().map(Name::as_str)?)?;
    Some((spec.interface.vpc_id.clone(), label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{instance, vpc_id};

    #[test]
    fn instances_are_found_by_their_name_in_their_own_vpc_as_long_as_they_have_it() {
        let mut names = Names::default();
        let found = |names: &Names, vpc, label| {
            names.with_label(&vpc_id(vpc), label).cloned().collect::<Vec<_>>()
        };
        let mut records = [instance(1, 0, None), instance(2, 0, None), instance(3, 7, None)];
        for (record, name) in records.iter_mut().zip(["web", "Web", "web"]) {
            record.spec.name = Some(name.parse().unwrap());
            names.insert(&record.id, &record.spec);
        }
        let [one, two, three] = &records;
        assert_eq!(found(&names, 0, "web"), [one.id.clone(), two.id.clone()]);
        assert_eq!(found(&names, 7, "web"), std::slice::from_ref(&three.id));
        assert_eq!(found(&names, 7, "db"), []);

        let mut nameless = instance(4, 0, None);
        names.insert(&nameless.id, &nameless.spec);
        nameless.spec.name = Some("not a label".parse().unwrap());
        names.insert(&nameless.id, &nameless.spec);
        names.remove(&one.id, &one.spec);
        assert_eq!(found(&names, 0, "web"), std::slice::from_ref(&two.id));
        names.remove(&two.id, &two.spec);
        names.remove(&three.id, &three.spec);
        assert!(names.0.is_empty(), "nothing is kept of names that nobody has");
    }
}
