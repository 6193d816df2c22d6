//! `weft ls --unclaimed`: what no client's state is known to hold, of every kind.

use std::process::ExitCode;

use serde_json::{Value, json};
use weft_model::Timestamp;
use weft_proto::v1;

use super::Kind;
use crate::agent::Agent;
use crate::failure::Failure;
use crate::output::{Format, age, print, print_json, table};

/// An object that nobody may know of.
struct Orphan {
    kind: &'static str,
    name: String,
    metadata: v1::Metadata,
}

pub(super) async fn run(
    agent: &Agent,
    only: Option<Kind>,
    format: Format,
) -> Result<ExitCode, Failure> {
    let mut orphans = find(agent, only).await?;
    orphans.sort_by_key(|orphan| orphan.metadata.created_at_unix_ms);
    match format {
        Format::Json => {
            print_json(&Value::Array(orphans.iter().map(Orphan::json).collect()))?;
        }
        Format::Text if orphans.is_empty() => {
            print(
                "nothing is unclaimed: every object was given to a client that ended in good \
                 order\n(whether it is still in that client's state is not known here)\n",
            )?;
        }
        Format::Text => {
            let now = Timestamp::now();
            let rows: Vec<_> = orphans.iter().map(|orphan| orphan.row(now)).collect();
            print(table(&["KIND", "ID", "NAME", "AGE"], &rows))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(agent: &Agent, only: Option<Kind>) -> Result<Vec<Orphan>, Failure> {
    let mut orphans = Vec::new();
    let wanted = |kind: Kind| only.is_none_or(|only| only == kind);
    macro_rules! collect {
        ($kind:expr, $noun:literal, $client:ident, $request:expr, $name:expr) => {
            if wanted($kind) {
                for item in agent.$client().list($request).await?.into_inner().items {
                    let name = item.spec.map($name).unwrap_or_default();
                    let Some(metadata) = item.metadata else { continue };
                    if !metadata.claimed {
                        orphans.push(Orphan { kind: $noun, name, metadata });
                    }
                }
            }
        };
    }
    let all = v1::ListRequest::default;
    let every_rule = v1::ListSecurityGroupRulesRequest::default();
    collect!(Kind::Instances, "instance", instances, all(), |spec| spec.name.unwrap_or_default());
    collect!(Kind::Images, "image", images, all(), |spec| spec.name);
    collect!(Kind::Keys, "key pair", key_pairs, all(), |spec| spec.key_name);
    collect!(Kind::Types, "instance type", types, all(), |spec| spec.name);
    collect!(Kind::Vpcs, "VPC", vpcs, all(), |spec| spec.name);
    collect!(Kind::Snapshots, "snapshot", snapshots, all(), |spec| spec.description);
    collect!(Kind::PrefixLists, "prefix list", prefix_lists, all(), |spec| spec.name);
    collect!(Kind::Subnets, "subnet", subnets, all(), |spec| spec.name);
    collect!(Kind::ElasticIps, "elastic IP", elastic_ips, all(), |spec| {
        spec.name.unwrap_or_default()
    });
    collect!(Kind::VolumeAttachments, "volume attachment", volume_attachments, all(), |_spec| {
        String::new()
    });
    collect!(Kind::Volumes, "volume", volumes, all(), |spec| spec.name.unwrap_or_default());
    collect!(Kind::NetworkInterfaces, "network interface", interfaces, all(), |spec| spec.name);
    collect!(Kind::NetworkInterfaceAttachments, "attachment", attachments, all(), |_| String::new(
    ));
    collect!(Kind::ElasticIpAssociations, "association", associations, all(), |_| String::new());
    collect!(Kind::PortForwards, "port forward", forwards, all(), |spec| spec.name);
    collect!(Kind::RouteTables, "route table", route_tables, all(), |spec| spec.name);
    collect!(
        Kind::RouteTableAssociations,
        "route table association",
        route_associations,
        all(),
        |_spec| String::new()
    );
    collect!(Kind::Groups, "security group", groups, all(), |spec| spec.name);
    collect!(Kind::Rules, "security group rule", rules, every_rule, |spec| spec.description);
    Ok(orphans)
}

impl Orphan {
    /// A moment that no calendar has is as good as the oldest one.
    fn created_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.metadata.created_at_unix_ms).unwrap_or(Timestamp::MIN)
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.kind.to_owned(),
            self.metadata.id.clone(),
            self.name.clone(),
            age(now, self.created_at()),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "kind": self.kind,
            "id": self.metadata.id,
            "name": self.name,
            "tags": self.metadata.tags,
            "created_at": self.created_at(),
        })
    }
}
