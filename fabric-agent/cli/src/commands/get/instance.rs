//! What belongs to an instance and is objects of its own: elastic IPs and further interfaces.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tonic::{Code, Response, Status};
use weft_model::{
    AssociationId, AssociationSpec, AttachmentId, AttachmentSpec, ElasticIpId, ElasticIpSpec,
    InstanceView, InterfaceId, NetworkInterfaceView, Object,
};
use weft_proto::convert::{
    association_from_wire, attachment_from_wire, elastic_ip_from_wire, interface_from_wire,
};
use weft_proto::v1;

use crate::agent::Agent;
use crate::failure::Failure;

type ElasticIp = Object<ElasticIpId, ElasticIpSpec>;
type Association = Object<AssociationId, AssociationSpec>;
type Attachment = Object<AttachmentId, AttachmentSpec>;

/// Everything of one instance that its own record does not say.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// Each elastic IP, and the interface that it leads to.
    elastic_ips: Vec<(ElasticIp, InterfaceId)>,
    /// By their device's place.
    interfaces: BTreeMap<u8, Object<InterfaceId, NetworkInterfaceView>>,
}

impl Belongings {
    /// # Errors
    /// The agent's.
    pub(super) async fn of(agent: &Agent, view: &InstanceView) -> Result<Self, Failure> {
        let all = v1::ListRequest::default;
        let attachments = listed(agent.attachments().list(all()).await)?.items;
        let attachments: Vec<Attachment> =
            attachments.into_iter().map(attachment_from_wire).collect::<Result<_, _>>()?;
        let associations = listed(agent.associations().list(all()).await)?.items;
        let associations: Vec<Association> =
            associations.into_iter().map(association_from_wire).collect::<Result<_, _>>()?;
        let places = places(view, &attachments);
        let leading = leading(view, &places, &associations);
        let mut belongings = Self::default();
        if !places.is_empty() {
            for wire in agent.interfaces().list(all()).await?.into_inner().items {
                let interface = interface_from_wire(wire)?;
                if let Some(place) = places.get(&interface.id) {
                    belongings.interfaces.insert(*place, interface);
                }
            }
        }
        if !leading.is_empty() {
            for wire in agent.elastic_ips().list(all()).await?.into_inner().items {
                let elastic_ip = elastic_ip_from_wire(wire)?;
                if let Some(interface) = leading.get(&elastic_ip.id) {
                    belongings.elastic_ips.push((elastic_ip, interface.clone()));
                }
            }
        }
        Ok(belongings)
    }

    /// For people; nothing where there is nothing.
    pub(super) fn details(&self) -> Vec<(&'static str, String)> {
        let elastic_ips = self.elastic_ips.iter().map(|(one, interface)| {
            format!("{} ({}) leads to {interface}", one.spec.public_ip, one.id)
        });
        let interfaces = self.interfaces.iter().map(|(place, one)| {
            let address = one.spec.order.private_ip.map(|ip| ip.to_string()).unwrap_or_default();
            format!("{place}: {} {address} {}", one.id, one.spec.mac)
        });
        let blocks = [
            ("elastic ips", elastic_ips.collect::<Vec<_>>()),
            ("more interfaces", interfaces.collect()),
        ];
        let told = blocks.into_iter().filter(|(_, lines)| !lines.is_empty());
        told.map(|(key, lines)| (key, lines.join("\n"))).collect()
    }

    /// For programs: members beside those of the instance.
    pub(super) fn add_to(&self, json: &mut Value) {
        let elastic_ips = self.elastic_ips.iter().map(|(one, interface)| {
            json!({
                "id": one.id,
                "public_ip": one.spec.public_ip,
                "network_interface_id": interface,
            })
        });
        let interfaces = self.interfaces.iter().map(|(place, one)| {
            json!({
                "id": one.id,
                "device_index": place,
                "private_ip": one.spec.order.private_ip,
                "mac_address": one.spec.mac,
            })
        });
        json["elastic_ips"] = elastic_ips.collect();
        json["network_interfaces"] = interfaces.collect();
    }
}

/// An agent from before there were such objects has none of them.
fn listed<T: Default>(answer: Result<Response<T>, Status>) -> Result<T, Status> {
    match answer {
        Err(status) if status.code() == Code::Unimplemented => Ok(T::default()),
        answer => answer.map(Response::into_inner),
    }
}

/// The instance's further interfaces and their devices' places.
fn places(view: &InstanceView, attachments: &[Attachment]) -> BTreeMap<InterfaceId, u8> {
    let own = attachments.iter().filter(|one| one.spec.instance_id == view.object.id);
    own.map(|one| (one.spec.network_interface_id.clone(), one.spec.device_index)).collect()
}

/// The elastic IPs that lead to the instance, and to which of its interfaces.
fn leading(
    view: &InstanceView,
    places: &BTreeMap<InterfaceId, u8>,
    associations: &[Association],
) -> BTreeMap<ElasticIpId, InterfaceId> {
    let primary = &view.assigned.interface_id;
    let leads_to = |association: &Association| {
        let target = &association.spec.target;
        let interface = match target.instance_id() {
            Some(id) => (*id == view.object.id).then_some(primary)?,
            None => target.interface_id()?,
        };
        let is_own = interface == primary || places.contains_key(interface);
        is_own.then(|| (association.spec.elastic_ip_id.clone(), interface.clone()))
    };
    associations.iter().filter_map(leads_to).collect()
}

#[cfg(test)]
mod tests {
    use weft_model::{InstanceId, Target};

    use super::*;
    use crate::nouns::samples::instance_view;

    fn object<I, S>(id: I, spec: S) -> Object<I, S> {
        let sample = instance_view().object;
        Object {
            id,
            generation: 1,
            spec,
            tags: sample.tags,
            client_data: String::new(),
            created_at: sample.created_at,
            deleting_since: None,
            claimed: true,
        }
    }

    #[test]
    fn what_leads_to_any_of_its_interfaces_is_the_instances() {
        let view = instance_view();
        let further = InterfaceId::from_random([8; 9]);
        let attach = |instance: &InstanceId, interface: &InterfaceId, device_index| {
            let spec = AttachmentSpec {
                instance_id: instance.clone(),
                network_interface_id: interface.clone(),
                device_index,
            };
            object(spec.id(), spec)
        };
        let other = InstanceId::from_random([9; 9]);
        let others = InterfaceId::from_random([10; 9]);
        let places =
            places(&view, &[attach(&view.object.id, &further, 2), attach(&other, &others, 1)]);
        assert_eq!(places, [(further.clone(), 2)].into());
        let elastic = |n| ElasticIpId::from_random([n; 9]);
        let lead = |n, target: Target| {
            let spec = AssociationSpec { elastic_ip_id: elastic(n), target: target.clone() };
            object(AssociationId::new(elastic(n), target), spec)
        };
        let found = leading(
            &view,
            &places,
            &[
                lead(1, Target::Instance(view.object.id.clone())),
                lead(2, Target::Interface(further.clone())),
                lead(3, Target::Interface(view.assigned.interface_id.clone())),
                lead(4, Target::Instance(other)),
                lead(5, Target::Interface(others)),
            ],
        );
        let primary = view.assigned.interface_id;
        let want = [(elastic(1), primary.clone()), (elastic(2), further), (elastic(3), primary)];
        assert_eq!(found, want.into());
    }
}
