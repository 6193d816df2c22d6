//! The default VPC, its subnet and its group: ordinary objects, made at the agent's first start.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use weft_model::{
    Claim, DNS_ADDRESS, Direction, GroupId, GroupSpec, IpProtocol, Problem, Record, RulePeer,
    RulePorts, RuleSpec, SubnetSpec, Tags, Timestamp, VpcId, VpcMode, VpcSpec,
    check_no_special_range,
};
use weft_store::Txn;

use crate::host::Host;
use crate::random;
use crate::repo::{Groups, Kind, RecordOf, Repo, Rules, Subnets, Vpcs, encode, object_key};

/// What is tried when the operator names no range, in this order.
const CANDIDATES: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(172, 31, 0, 0), 16),
    (Ipv4Addr::new(10, 231, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 224, 0), 19),
];
/// The smallest VPC whose first quarter still has room for guests.
const LONGEST_PREFIX: u8 = 26;

fn record<K: Kind>(id: K::Id, spec: K::Spec, now: Timestamp) -> RecordOf<K> {
    Record {
        id,
        generation: 1,
        spec,
        tags: Tags::default(),
        client_data: String::new(),
        created_at: now,
        deleting_since: None,
        claim: Claim::Claimed,
    }
}

/// Makes them unless they exist.
///
/// # Errors
/// No range is free, or the one that the operator named is too small.
pub(crate) async fn ensure(
    repo: &Repo,
    host: &dyn Host,
    wanted: Option<Ipv4Network>,
    now: Timestamp,
) -> Result<(), Problem> {
    if repo.list::<Vpcs>().await?.iter().any(|vpc| vpc.spec.is_default) {
        return Ok(());
    }
    let cidr = choose(host, wanted).await?;
    let subnet_cidr = first_quarter(cidr)?;
    let vpc_id = VpcId::from_random(random::bytes());
    let group_id = GroupId::from_random(random::bytes());
    let vpc = VpcSpec {
        name: "default".to_owned(),
        cidr_block: cidr,
        ipv6_cidr_block: None,
        mode: VpcMode::Routed,
        bridge_name: None,
        uplink: None,
        vlan_id: None,
        default_group_id: group_id.clone(),
        is_default: true,
        uplink_index: 0,
    };
    let subnet = SubnetSpec {
        name: "default".to_owned(),
        vpc_id: vpc_id.clone(),
        cidr_block: subnet_cidr,
        ipv6_cidr_block: None,
        gateway: Ipv4Addr::from(u32::from(subnet_cidr.network()) + 1),
        dns_servers: vec![DNS_ADDRESS],
        map_public_ip: false,
        is_default: true,
    };
    let subnet_id = Subnets::new_id(random::bytes(), &subnet);
    let txn = put_default_group(Txn::new(), group_id, &vpc_id, now)
        .put(object_key::<Vpcs>(&vpc_id), encode(&record::<Vpcs>(vpc_id.clone(), vpc, now)))
        .put(object_key::<Subnets>(&subnet_id), encode(&record::<Subnets>(subnet_id, subnet, now)));
    repo.commit(txn).await?;
    tracing::info!(vpc.id = %vpc_id, cidr = %cidr, subnet = %subnet_cidr, "made the default VPC");
    Ok(())
}

/// The group of a VPC's interfaces that name none, and its one rule. Nobody has them in a state:
/// they come and go with the VPC.
pub(crate) fn put_default_group(txn: Txn, id: GroupId, vpc_id: &VpcId, now: Timestamp) -> Txn {
    let group = GroupSpec {
        name: "default".to_owned(),
        description: "default group of the VPC: in from its own members, out to everywhere"
            .to_owned(),
        vpc_id: vpc_id.clone(),
        allow_all_egress: true,
        revoke_now: false,
        is_default: true,
    };
    let rule = RuleSpec {
        group_id: id.clone(),
        direction: Direction::Ingress,
        protocol: IpProtocol::All,
        ports: RulePorts::Any,
        peer: RulePeer::Group(id.clone()),
        description: "everything from members of the group".to_owned(),
    };
    let rule_id = Rules::new_id(random::bytes(), &rule);
    txn.put(object_key::<Groups>(&id), encode(&record::<Groups>(id, group, now)))
        .put(object_key::<Rules>(&rule_id), encode(&record::<Rules>(rule_id, rule, now)))
}

async fn choose(host: &dyn Host, wanted: Option<Ipv4Network>) -> Result<Ipv4Network, Problem> {
    if let Some(cidr) = wanted {
        check_no_special_range("--default-vpc-cidr", cidr)?;
        let free = host.free_range(&[cidr]).await.map_err(|error| error.problem())?;
        return free.ok_or_else(|| {
            Problem::invalid("--default-vpc-cidr", format!("{cidr} overlaps a route of this host"))
                .remedy("name a range that nothing else uses; ip route shows what is used")
        });
    }
    let candidates: Vec<Ipv4Network> = CANDIDATES
        .iter()
        .filter_map(|(address, prefix)| Ipv4Network::new(*address, *prefix).ok())
        .collect();
    let free = host.free_range(&candidates).await.map_err(|error| error.problem())?;
    free.ok_or_else(|| {
        let tried: Vec<String> = candidates.iter().map(ToString::to_string).collect();
        Problem::new(
            weft_model::Reason::ResourceExhausted,
            format!("no range for the default VPC is free: {} overlap routes", tried.join(", ")),
        )
        .remedy("name one with --default-vpc-cidr")
    })
}

fn first_quarter(cidr: Ipv4Network) -> Result<Ipv4Network, Problem> {
    let invalid = |message: String| {
        Problem::invalid("--default-vpc-cidr", message).remedy("use a range such as 10.231.0.0/16")
    };
    if cidr.ip() != cidr.network() || !(8..=LONGEST_PREFIX).contains(&cidr.prefix()) {
        return Err(invalid(format!("{cidr} is no range with a prefix of 8 to {LONGEST_PREFIX}")));
    }
    Ipv4Network::new(cidr.network(), cidr.prefix() + 2).map_err(|error| invalid(error.to_string()))
}
