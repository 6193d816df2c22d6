//! What a command is about: an id of any kind, or the unique name of an instance.

use std::str::FromStr;

use weft_model::{
    AssociationId, AttachmentId, ElasticIpId, GroupId, HostId, ImageId, InstanceId, InstanceState,
    InstanceTypeId, InstanceView, InterfaceId, KeyPairId, PortForwardId, PrefixListId, Problem,
    Reason, RouteTableAssociationId, RouteTableId, RuleId, SnapshotId, SubnetId,
    VolumeAttachmentId, VolumeId, VpcId, malformed_id,
};
use weft_proto::convert::instance_from_wire;
use weft_proto::v1;

use crate::agent::{Agent, get_request};
use crate::failure::Failure;

/// What helps who named an instance that is not there.
const UNKNOWN_INSTANCE: &str = "see weft ls for ids and names";
/// The same where anything could have been meant.
const UNKNOWN_OBJECT: &str = "only instances go by name, all else by id: weft ls lists instances, weft ls volumes \
                              volumes, and so on (weft ls --help)";

/// The id of an object whose kind its prefix tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnyId {
    Instance(InstanceId),
    Image(ImageId),
    KeyPair(KeyPairId),
    InstanceType(InstanceTypeId),
    Group(GroupId),
    Rule(RuleId),
    Vpc(VpcId),
    Subnet(SubnetId),
    Snapshot(SnapshotId),
    PrefixList(PrefixListId),
    ElasticIp(ElasticIpId),
    Association(AssociationId),
    NetworkInterface(InterfaceId),
    Attachment(AttachmentId),
    Volume(VolumeId),
    VolumeAttachment(VolumeAttachmentId),
    PortForward(PortForwardId),
    RouteTable(RouteTableId),
    RouteAssociation(RouteTableAssociationId),
    Host(HostId),
}

impl AnyId {
    /// `None` where `text` is no id at all; it may be a name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        fn of<T: FromStr>(text: &str, make: impl FnOnce(T) -> AnyId) -> Option<AnyId> {
            text.parse().ok().map(make)
        }
        of(text, Self::Instance)
            .or_else(|| of(text, Self::Image))
            .or_else(|| of(text, Self::KeyPair))
            .or_else(|| of(text, Self::InstanceType))
            .or_else(|| of(text, Self::Group))
            .or_else(|| of(text, Self::Rule))
            .or_else(|| of(text, Self::Vpc))
            .or_else(|| of(text, Self::Subnet))
            .or_else(|| of(text, Self::Snapshot))
            .or_else(|| of(text, Self::PrefixList))
            .or_else(|| of(text, Self::ElasticIp))
            .or_else(|| of(text, Self::Association))
            .or_else(|| of(text, Self::NetworkInterface))
            .or_else(|| of(text, Self::Attachment))
            .or_else(|| of(text, Self::Volume))
            .or_else(|| of(text, Self::VolumeAttachment))
            .or_else(|| of(text, Self::PortForward))
            .or_else(|| of(text, Self::RouteTable))
            .or_else(|| of(text, Self::RouteAssociation))
            .or_else(|| of(text, Self::Host))
    }
}

/// The object that `text` is the id of, or the instance that it is the unique name of.
pub(crate) async fn any(agent: &Agent, text: &str) -> Result<AnyId, Failure> {
    match AnyId::parse(text) {
        Some(id) => Ok(id),
        None => Ok(AnyId::Instance(by_name(agent, text, UNKNOWN_OBJECT).await?.object.id)),
    }
}

/// The instance whose id or unique name `text` is.
pub(crate) async fn instance(agent: &Agent, text: &str) -> Result<InstanceView, Failure> {
    match AnyId::parse(text) {
        Some(AnyId::Instance(id)) => {
            let request = get_request(id);
            Ok(instance_from_wire(agent.instances().get(request).await?.into_inner())?)
        }
        // The parser's message says what kind of object the id is of.
        Some(_) => match text.parse::<InstanceId>() {
            Err(error) => Err(Problem::invalid("instance", error.to_string()).into()),
            Ok(id) => Err(Problem::invalid("instance", format!("{id} is of two kinds")).into()),
        },
        None => by_name(agent, text, UNKNOWN_INSTANCE).await,
    }
}

async fn by_name(agent: &Agent, name: &str, unknown: &str) -> Result<InstanceView, Failure> {
    if name.is_empty() {
        // The API takes an empty name for any name.
        return Err(Problem::invalid("instance", "the name is empty").into());
    }
    let request = v1::ListRequest { name: name.to_owned(), ..Default::default() };
    let items = agent.instances().list(request).await?.into_inner().items;
    let views = items.into_iter().map(instance_from_wire).collect::<Result<_, _>>()?;
    Ok(choose(name, views, unknown)?)
}

/// The one of `views` that is called `name`. Instances on their way out count only when no other
/// has the name: a replacement often carries its predecessor's. `unknown` is the remedy where there is none.
fn choose(name: &str, views: Vec<InstanceView>, unknown: &str) -> Result<InstanceView, Problem> {
    let named = |view: &InstanceView| {
        view.object.spec.name.as_ref().is_some_and(|known| known.as_str() == name)
    };
    let (leaving, mut staying): (Vec<_>, Vec<_>) = views
        .into_iter()
        .filter(named)
        .partition(|view| view.status.state == InstanceState::Terminating);
    if staying.is_empty() {
        staying = leaving;
    }
    match (staying.pop(), staying.as_slice()) {
        (Some(view), []) => Ok(view),
        (None, _) => {
            let mut problem = Problem::not_found(format!("no instance is called \"{name}\""));
            problem.evidence = malformed_id(name).map(|error| error.to_string());
            Err(problem.remedy(unknown))
        }
        (Some(last), others) => {
            let mut ids: Vec<String> = others
                .iter()
                .chain([&last])
                .map(|view| format!("{} ({})", view.object.id, view.status.state))
                .collect();
            ids.sort();
            let message = format!("{} instances are called \"{name}\"", ids.len());
            Err(Problem::new(Reason::InvalidArgument, message)
                .evidence(ids.join("\n"))
                .remedy("give the id instead"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nouns::samples::instance_view;

    fn view(digit: u8, name: &str, state: InstanceState) -> InstanceView {
        let mut view = instance_view();
        view.object.id = InstanceId::from_random([digit; 9]);
        view.object.spec.name = Some(name.parse().unwrap());
        view.status.state = state;
        view
    }

    #[test]
    fn the_prefix_tells_the_kind() {
        #[rustfmt::skip]
        let cases = [
            ("i-00000000000000000", "Instance"), ("img-00000000000000000", "Image"),
            ("key-00000000000000000", "KeyPair"), ("snap-00000000000000000", "Snapshot"),
            ("type-00000000000000000", "InstanceType"), ("sg-00000000000000000", "Group"),
            ("sgr-00000000000000000", "Rule"), ("vpc-00000000000000000", "Vpc"),
            ("subnet-00000000000000000", "Subnet"), ("pl-00000000000000000", "PrefixList"),
            ("eip-00000000000000000", "ElasticIp"), ("pf-00000000000000000", "PortForward"),
            ("eni-00000000000000000", "NetworkInterface"), ("vol-00000000000000000", "Volume"),
            ("i-00000000000000000/vol-00000000000000000", "VolumeAttachment"),
            ("i-00000000000000000/eni-00000000000000000", "Attachment"),
            ("eip-00000000000000000/i-00000000000000000", "Association"), ("host-00000000000000000", "Host"),
            ("subnet-00000000000000000", "Subnet"), ("rtb-00000000000000000", "RouteTable"),
            ("rtb-00000000000000000/subnet-00000000000000000", "RouteAssociation"), ("host-00000000000000000", "Host"),
        ];
        for (text, want) in cases {
            let id = AnyId::parse(text).map(|id| format!("{id:?}")).unwrap_or_default();
            assert!(id.starts_with(want), "{text}: {id}");
        }
        for text in ["web", "i-1", "", "session-00000000000000000"] {
            assert_eq!(AnyId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_unique_name_finds_its_instance() {
        let views = vec![
            view(1, "web", InstanceState::Running),
            view(2, "web-2", InstanceState::Running),
            view(3, "web", InstanceState::Terminating),
        ];
        assert_eq!(
            choose("web", views, UNKNOWN_INSTANCE).unwrap().object.id,
            InstanceId::from_random([1; 9])
        );
    }

    #[test]
    fn an_instance_on_its_way_out_is_found_when_alone() {
        let views = vec![view(3, "web", InstanceState::Terminating)];
        assert!(choose("web", views, UNKNOWN_INSTANCE).is_ok());
    }

    #[test]
    fn an_ambiguous_name_lists_the_ids() {
        let views =
            vec![view(2, "web", InstanceState::Running), view(1, "web", InstanceState::Failed)];
        let problem = choose("web", views, UNKNOWN_INSTANCE).unwrap_err();
        assert_eq!(
            problem.evidence.unwrap(),
            "i-01010101010101010 (failed)\ni-02020202020202020 (running)"
        );
    }

    #[test]
    fn an_unknown_name_says_where_to_look() {
        let problem = choose("web", vec![], UNKNOWN_INSTANCE).unwrap_err();
        assert_eq!(problem.reason, Reason::NotFound);
        assert!(problem.remedy.unwrap().contains("weft ls"));
        assert_eq!(problem.evidence, None);
    }

    #[test]
    fn what_begins_as_an_id_is_told_how_ids_are_written() {
        let problem = choose("snap-0000", vec![], UNKNOWN_OBJECT).unwrap_err();
        assert_eq!(
            problem.evidence.unwrap(),
            "\"snap-0000\" is not the id of a snapshot: expected \"snap-\" and 17 hexadecimal digits"
        );
        assert!(problem.remedy.unwrap().starts_with("only instances go by name"));
    }
}
