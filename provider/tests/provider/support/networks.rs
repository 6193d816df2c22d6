//! Groups, rules, hosts and sessions of the fake agent.

use std::pin::Pin;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_model::{Problem, Reason};
use weft_proto::convert::{group_order_from_wire, rule_spec_from_wire, rule_spec_to_wire};
use weft_proto::v1;
use weft_proto::v1::{session_event::Event, session_request::Request as Said};

use super::Shared;
use super::world::{World, batch, begin_update, get, missing, named, refused};

pub(super) const VPC: &str = "vpc-0000000000000000d";
pub(super) const HOST: &str = "host-00000000000000001";

#[tonic::async_trait]
impl v1::security_groups_server::SecurityGroups for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateSecurityGroupRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        let v1::CreateSecurityGroupRequest { context, spec } = request.into_inner();
        group_order_from_wire(spec.clone()).map_err(refused)?;
        let mut world = self.lock();
        let metadata = match world.begin_create("SecurityGroups.Create", "sg-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.groups, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let mut spec = spec.unwrap();
        spec.vpc_id.get_or_insert_with(|| VPC.to_owned());
        let wire =
            v1::SecurityGroup { metadata: Some(metadata), spec: Some(spec), is_default: false };
        world.groups.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        get(&self.lock().groups, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::SecurityGroupList>, Status> {
        let mut world = self.lock();
        world.calls.push("SecurityGroups.BatchGet");
        let items = batch(&world.groups, &request.into_inner().ids);
        Ok(Response::new(v1::SecurityGroupList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::SecurityGroupList>, Status> {
        let items =
            named(&self.lock().groups, &request.into_inner(), |one| Some(&one.spec.as_ref()?.name));
        Ok(Response::new(v1::SecurityGroupList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateSecurityGroupRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        let v1::UpdateSecurityGroupRequest { context, spec } = request.into_inner();
        group_order_from_wire(spec.clone()).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("SecurityGroups.Update");
        let wire = world.groups.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = spec;
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        let mut world = self.lock();
        let uses = |instance: &&v1::Instance| {
            let groups = instance.spec.as_ref().and_then(|spec| spec.security_group_ids.as_ref());
            groups.is_some_and(|groups| groups.ids.contains(&id))
        };
        if let Some(user) = world.instances.values().find(uses) {
            let user = &user.metadata.as_ref().unwrap().id;
            let message = format!("{id} is used by {user}");
            return Err(refused(
                Problem::new(Reason::InUse, message).remedy("remove it from the instance first"),
            ));
        }
        world.groups.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

#[tonic::async_trait]
impl v1::security_group_rules_server::SecurityGroupRules for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateSecurityGroupRuleRequest>,
    ) -> Result<Response<v1::SecurityGroupRule>, Status> {
        let v1::CreateSecurityGroupRuleRequest { context, spec } = request.into_inner();
        let spec = rule_spec_from_wire(spec).map_err(refused)?;
        let mut world = self.lock();
        if !world.groups.contains_key(spec.group_id.as_str()) {
            let message = format!("{} does not exist", spec.group_id);
            return Err(refused(Problem::not_found(message).at("security_group_id")));
        }
        let metadata = match world.begin_create("SecurityGroupRules.Create", "sgr-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.rules, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        // Through the model and back, as the real agent stores it.
        let spec = Some(rule_spec_to_wire(spec));
        let wire = v1::SecurityGroupRule { metadata: Some(metadata), spec };
        world.rules.insert(id, wire.clone());
        Ok(Response::new(wire))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::SecurityGroupRule>, Status> {
        get(&self.lock().rules, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::SecurityGroupRuleList>, Status> {
        let mut world = self.lock();
        world.calls.push("SecurityGroupRules.BatchGet");
        let items = batch(&world.rules, &request.into_inner().ids);
        Ok(Response::new(v1::SecurityGroupRuleList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListSecurityGroupRulesRequest>,
    ) -> Result<Response<v1::SecurityGroupRuleList>, Status> {
        let group = request.into_inner().security_group_id;
        let is_of = |rule: &&v1::SecurityGroupRule| {
            group.is_empty() || rule.spec.as_ref().unwrap().security_group_id == group
        };
        let mut world = self.lock();
        world.calls.push("SecurityGroupRules.List");
        let items = world.rules.values().filter(is_of).cloned().collect();
        Ok(Response::new(v1::SecurityGroupRuleList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateSecurityGroupRuleRequest>,
    ) -> Result<Response<v1::SecurityGroupRule>, Status> {
        let v1::UpdateSecurityGroupRuleRequest { context, spec } = request.into_inner();
        let spec = rule_spec_from_wire(spec).map_err(refused)?;
        let context = context.unwrap();
        let mut world = self.lock();
        world.calls.push("SecurityGroupRules.Update");
        let wire = world.rules.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        begin_update(wire.metadata.as_mut().unwrap(), &context)?;
        wire.spec = Some(rule_spec_to_wire(spec));
        Ok(Response::new(wire.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        self.lock().rules.remove(&id).ok_or_else(|| missing(&id))?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}

fn host(world: &World) -> v1::Host {
    v1::Host {
        id: HOST.to_owned(),
        name: "fake".to_owned(),
        accelerator: "sim".to_owned(),
        accelerator_note: "a test".to_owned(),
        vcpus: 8,
        memory_mib: 8192,
        free_vcpus: 7,
        free_memory_mib: 8064,
        hypervisor_version: "fake 1".to_owned(),
        architecture: "x86_64".to_owned(),
        agent_version: "0.1.0".to_owned(),
        public_pool: vec!["198.18.0.0/24".to_owned(), "203.0.113.200-203.0.113.220".to_owned()],
        encrypts_volumes: world.encrypts_volumes,
        availability_zone: "rack-1".to_owned(),
        storage_pools: vec!["ssd".to_owned(), "standard".to_owned()],
    }
}

#[tonic::async_trait]
impl v1::hosts_server::Hosts for Shared {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Host>, Status> {
        let id = request.into_inner().id;
        if id == HOST { Ok(Response::new(host(&self.lock()))) } else { Err(missing(&id)) }
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<v1::HostList>, Status> {
        Ok(Response::new(v1::HostList { items: vec![host(&self.lock())] }))
    }

    async fn doctor(
        &self,
        _: Request<v1::DoctorRequest>,
    ) -> Result<Response<v1::DoctorResponse>, Status> {
        Ok(Response::new(v1::DoctorResponse::default()))
    }

    async fn check_placement(
        &self,
        request: Request<v1::CheckPlacementRequest>,
    ) -> Result<Response<v1::CheckPlacementResponse>, Status> {
        let v1::CheckPlacementRequest { demands, freed_instance_ids } = request.into_inner();
        let mut world = self.lock();
        world.calls.push("Hosts.CheckPlacement");
        let mut room = room(&world);
        let freed = freed_instance_ids.iter().filter_map(|id| world.instances.get(id));
        let freed: u32 = freed.map(|one| one.assigned.as_ref().unwrap().memory_mib).sum();
        room.free_memory_mib += u64::from(freed);
        let needed = demands.iter().map(|demand| match &demand.instance_type {
            Some(name) => world.size_of(name).map_or(0, |(_, memory_mib)| memory_mib),
            None => demand.memory_mib.unwrap_or_default(),
        });
        let needed_memory_mib = needed.map(u64::from).sum();
        Ok(Response::new(v1::CheckPlacementResponse {
            fits: needed_memory_mib <= room.free_memory_mib,
            needed_memory_mib,
            hosts: vec![room],
        }))
    }

    async fn get_capacity(
        &self,
        _: Request<v1::GetCapacityRequest>,
    ) -> Result<Response<v1::GetCapacityResponse>, Status> {
        let room = room(&self.lock());
        let one = v1::TypeCapacity {
            instance_type: "w1.small".to_owned(),
            vcpus: 1,
            memory_mib: 512,
            available_instance_count: room.free_memory_mib / 512,
        };
        Ok(Response::new(v1::GetCapacityResponse { types: vec![one], hosts: vec![room] }))
    }
}

/// What the fake's instances leave of its memory.
fn room(world: &World) -> v1::HostRoom {
    let taken = world.instances.values().map(|one| one.assigned.as_ref().unwrap().memory_mib);
    let memory_mib = 8192;
    v1::HostRoom {
        host_id: HOST.to_owned(),
        name: "fake".to_owned(),
        memory_mib,
        free_memory_mib: memory_mib.saturating_sub(taken.map(u64::from).sum()),
    }
}

#[tonic::async_trait]
impl v1::sessions_server::Sessions for Shared {
    type OpenStream = Pin<
        Box<dyn tokio_stream::Stream<Item = Result<v1::SessionEvent, Status>> + Send + 'static>,
    >;

    async fn open(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut said = request.into_inner();
        let Some(Said::Hello(hello)) = said.message().await?.and_then(|said| said.request) else {
            return Err(Status::invalid_argument("hello comes first"));
        };
        let (events, outgoing) = tokio::sync::mpsc::channel(2);
        let (session_id, stream) = self.lock().open_session(hello.session_id);
        let opened =
            v1::SessionOpened { session_id: session_id.clone(), agent_version: "0.1.0".to_owned() };
        let event = |event| Ok(v1::SessionEvent { event: Some(event) });
        events.send(event(Event::Opened(opened))).await.unwrap();
        let world = self.clone();
        tokio::spawn(async move {
            let end = said.message().await.ok().flatten().and_then(|said| said.request);
            let ended = matches!(end, Some(Said::End(_)));
            world.lock().close_session(&session_id, stream, ended);
            let _ = events.send(event(Event::Ended(v1::SessionEnded {}))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
