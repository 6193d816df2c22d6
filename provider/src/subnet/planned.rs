//! The VPCs and subnets that this run has planned: what is wrong between them, only a plan can say
//! before the first of them is made.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use ipnetwork::{Ipv4Network, Ipv6Network};
use weft_model::{Problem, Reason, SubnetId, SubnetSpec, VpcId, overlap_v6};

/// A subnet that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedSubnet {
    /// `None`: of a VPC that is to be made too.
    pub(super) vpc_id: Option<VpcId>,
    pub(super) name: String,
    pub(super) cidr_block: Ipv4Network,
    pub(super) ipv6_cidr_block: Option<Ipv6Network>,
}

impl PlannedSubnet {
    /// Refuses both in one VPC.
    fn check_beside(&self, other: &Self) -> Result<(), Problem> {
        let overlaps = |field: &str, ours: String, theirs: String| {
            let message = format!(
                "{ours} overlaps {theirs} of subnet \"{}\", which is to be made too",
                other.name
            );
            Err(Problem::new(Reason::AlreadyExists, message)
                .at(field)
                .remedy("give each subnet a range of its own; cidrsubnet() cuts them off"))
        };
        if self.cidr_block.overlaps(other.cidr_block) {
            let (ours, theirs) = (self.cidr_block, other.cidr_block);
            return overlaps("cidr_block", ours.to_string(), theirs.to_string());
        }
        match (self.ipv6_cidr_block, other.ipv6_cidr_block) {
            (Some(ours), Some(theirs)) if overlap_v6(ours, theirs) => {
                overlaps("ipv6_cidr_block", ours.to_string(), theirs.to_string())
            }
            _ => Ok(()),
        }
    }

    fn is(&self, existing: &SubnetSpec) -> bool {
        self.vpc_id.as_ref() == Some(&existing.vpc_id)
            && self.name == existing.name
            && self.cidr_block == existing.cidr_block
    }
}

/// What one run has planned so far. Terraform plans a VPC before its subnets.
#[derive(Debug, Default)]
pub(crate) struct PlannedNetworks(Mutex<Planned>);

#[derive(Debug, Default)]
struct Planned {
    /// The ranges of VPCs that are to be made; `None` is not known yet.
    vpcs: Vec<Option<Ipv4Network>>,
    subnets: Vec<PlannedSubnet>,
    /// They go before others come in their place.
    replaced: BTreeSet<SubnetId>,
}

impl Planned {
    /// The only VPC that is to be made whose range has all of `range`.
    fn home(&self, range: Ipv4Network) -> Option<usize> {
        let known: Option<Vec<Ipv4Network>> = self.vpcs.iter().copied().collect();
        let known = known.unwrap_or_default();
        let mut homes = (0..known.len()).filter(|at| known[*at].is_supernet_of(range));
        let home = homes.next()?;
        homes.next().is_none().then_some(home)
    }
}

impl PlannedNetworks {
    fn with<T>(&self, act: impl FnOnce(&mut Planned) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add_vpc(&self, range: Option<Ipv4Network>) {
        self.with(|planned| planned.vpcs.push(range));
    }

    pub(super) fn replaces(&self, id: SubnetId) {
        self.with(|planned| planned.replaced.insert(id));
    }

    /// Whether the existing one makes place for `subnet`. Terraform plans what comes instead as if
    /// nothing were there, and what is tainted in no other way: that is known by its name.
    pub(super) fn makes_place(&self, id: &SubnetId, existing: &SubnetSpec, name: &str) -> bool {
        existing.name == name || self.with(|planned| planned.replaced.contains(id))
    }

    /// Refuses a range that none of the VPCs has which are to be made.
    ///
    /// # Errors
    /// At `cidr_block`. The subnet may be of another VPC, that is looked up in the apply.
    pub(super) fn check_in_a_vpc(&self, range: Ipv4Network) -> Result<(), Problem> {
        let known: Option<Vec<Ipv4Network>> =
            self.with(|planned| planned.vpcs.iter().copied().collect());
        let known = known.unwrap_or_default();
        if known.is_empty() || known.iter().any(|vpc| vpc.is_supernet_of(range)) {
            return Ok(());
        }
        let vpcs: Vec<String> = known.iter().map(ToString::to_string).collect();
        let message =
            format!("{range} is in none of the VPCs that are to be made: {}", vpcs.join(", "));
        Err(Problem::invalid("cidr_block", message)
            .remedy("choose a part of the VPC's cidr_block; cidrsubnet() cuts one off"))
    }

    /// Takes in a subnet, if it fits beside those before it. What is there by now is none of them.
    ///
    /// # Errors
    /// The ranges overlap. Of VPCs that are to be made, the range says which one each is in.
    pub(super) fn add(
        &self,
        subnet: PlannedSubnet,
        existing: &[&SubnetSpec],
    ) -> Result<(), Problem> {
        self.with(|planned| {
            let home = planned.home(subnet.cidr_block);
            let together = |other: &&PlannedSubnet| match (&subnet.vpc_id, &other.vpc_id) {
                (Some(ours), Some(theirs)) => ours == theirs,
                (None, None) => home.is_some() && home == planned.home(other.cidr_block),
                _ => false,
            };
            // An apply plans again what it makes: what is alike in all is taken for the same.
            let to_be_made = |other: &&PlannedSubnet| {
                **other != subnet && !existing.iter().any(|one| other.is(one))
            };
            let mut others = planned.subnets.iter().filter(together).filter(to_be_made);
            let judged = others.try_for_each(|other| subnet.check_beside(other));
            if !planned.subnets.contains(&subnet) {
                planned.subnets.push(subnet);
            }
            judged
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(vpc: Option<&str>, name: &str, range: &str) -> PlannedSubnet {
        PlannedSubnet {
            vpc_id: vpc.map(|id| id.parse().unwrap()),
            name: name.to_owned(),
            cidr_block: range.parse().unwrap(),
            ipv6_cidr_block: None,
        }
    }

    const ONE: Option<&str> = Some("vpc-0123456789abcdef0");
    const TWO: Option<&str> = Some("vpc-0123456789abcdef1");

    #[test]
    fn subnets_of_one_vpc_are_judged_together() {
        #[rustfmt::skip]
        let cases = [
            ("beside",            ONE,  ONE,  "10.0.1.0/24", true),
            ("the same",          ONE,  ONE,  "10.0.0.0/24", false),
            ("around",            ONE,  ONE,  "10.0.0.0/20", false),
            ("in another VPC",    ONE,  TWO,  "10.0.0.0/24", true),
            ("in no known VPC",   ONE,  None, "10.0.0.0/24", true),
            // Without a VPC that is planned, nothing says which one it could be.
            ("both of unknown",   None, None, "10.0.0.0/24", true),
        ];
        for (name, first, second, range, fits) in cases {
            let planned = PlannedNetworks::default();
            planned.add(subnet(first, "a", "10.0.0.0/24"), &[]).unwrap();
            assert_eq!(planned.add(subnet(second, "b", range), &[]).is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn a_vpc_that_is_to_be_made_is_known_by_its_range() {
        /// What it is, the ranges of new VPCs, and of two subnets; whether both fit.
        type Case =
            (&'static str, &'static [Option<&'static str>], &'static str, &'static str, bool);
        #[rustfmt::skip]
        let cases: [Case; 6] = [
            ("overlap",             &[Some("10.0.0.0/16")],                      "10.0.0.0/24", "10.0.0.0/25", false),
            ("no overlap",          &[Some("10.0.0.0/16")],                      "10.0.0.0/24", "10.0.1.0/24", true),
            ("one of two VPCs",     &[Some("10.0.0.0/16"), Some("10.1.0.0/16")], "10.1.0.0/24", "10.1.0.0/24", false),
            ("two alike",           &[Some("10.0.0.0/16"), Some("10.0.0.0/16")], "10.0.0.0/24", "10.0.0.0/24", true),
            ("one is not known",    &[Some("10.0.0.0/16"), None],                "10.0.0.0/24", "10.0.0.0/24", true),
            ("outside of all",      &[Some("10.0.0.0/16")],                      "10.1.0.0/24", "10.1.0.0/24", true),
        ];
        for (name, vpcs, first, second, fits) in cases {
            let planned = PlannedNetworks::default();
            vpcs.iter().for_each(|range| planned.add_vpc(range.map(|text| text.parse().unwrap())));
            planned.add(subnet(None, "a", first), &[]).unwrap();
            assert_eq!(planned.add(subnet(None, "b", second), &[]).is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn a_range_that_no_planned_vpc_has_is_told_only_where_all_of_them_are_known() {
        let range = |text: &str| text.parse().unwrap();
        let planned = PlannedNetworks::default();
        planned.check_in_a_vpc(range("10.1.0.0/24")).unwrap();
        planned.add_vpc(Some(range("10.0.0.0/16")));
        planned.check_in_a_vpc(range("10.0.1.0/24")).unwrap();
        planned.check_in_a_vpc(range("10.1.0.0/24")).unwrap_err();
        planned.add_vpc(None);
        planned.check_in_a_vpc(range("10.1.0.0/24")).unwrap();
    }
}
