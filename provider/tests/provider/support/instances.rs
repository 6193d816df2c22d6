//! Instances of the fake agent: guests start and stop at once.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use weft_model::{GuestSize, Maxima, Problem, Reason};
use weft_proto::convert::instance_order_from_wire;
use weft_proto::v1;
use weft_proto::v1::wait_request::Until;

use super::Shared;
use super::networks::{HOST, VPC};
use super::world::{World, batch, begin_update, get, missing, refused};

const SUBNET: &str = "subnet-0000000000000000d";
const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
const LAUNCH_MS: i64 = 1_700_000_000_000;

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

fn size(world: &World, spec: &v1::InstanceSpec) -> Result<(u32, u32), Status> {
    match &spec.instance_type {
        None => Ok((spec.vcpus.unwrap_or_default(), spec.memory_mib.unwrap_or_default())),
        Some(name) => world.size_of(name),
    }
}

/// Starts or stops the guest as `spec.power_state` says.
fn power(instance: &mut v1::Instance) {
    let running = instance.spec.as_ref().unwrap().power_state.as_deref() == Some("running");
    let assigned = instance.assigned.as_mut().unwrap();
    let status = instance.status.as_mut().unwrap();
    if running {
        assigned.run_epoch += 1;
        status.epoch = assigned.run_epoch;
        let at = LAUNCH_MS + i64::try_from(assigned.run_epoch).unwrap();
        status.launched_at_unix_ms = Some(at);
        status.state = "running".to_owned();
        status.reason = None;
        let phase = |phase: &str, after| v1::PhaseRecord {
            phase: phase.to_owned(),
            at_unix_ms: at + after,
        };
        status.phases = vec![phase("accepted", 0), phase("hypervisor_started", 250)];
    } else {
        status.ended_epoch = assigned.run_epoch;
        status.state = "stopped".to_owned();
    }
}

impl World {
    /// The guest of `id` ends by itself.
    pub(crate) fn power_off(&mut self, id: &str, reason: &str) {
        let instance = self.instances.get_mut(id).unwrap();
        let status = instance.status.as_mut().unwrap();
        status.ended_epoch = status.epoch;
        status.state = "stopped".to_owned();
        status.reason = Some(reason.to_owned());
    }
}

#[tonic::async_trait]
impl v1::instances_server::Instances for Shared {
    async fn create(
        &self,
        request: Request<v1::CreateInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let v1::CreateInstanceRequest { context, spec } = request.into_inner();
        instance_order_from_wire(spec.clone()).map_err(refused)?;
        let mut spec = spec.unwrap();
        let mut world = self.lock();
        let (vcpus, memory_mib) = size(&world, &spec)?;
        let metadata = match world.begin_create("Instances.Create", "i-", context)? {
            Ok(metadata) => metadata,
            Err(id) => return get(&world.instances, &id).map(Response::new),
        };
        let id = metadata.id.clone();
        let number = world.instances.len();
        spec.subnet_id.get_or_insert_with(|| SUBNET.to_owned());
        spec.private_ip.get_or_insert_with(|| format!("172.31.0.{}", 4 + number));
        spec.power_state.get_or_insert_with(|| "running".to_owned());
        let public = spec.associate_public_ip_address == Some(true);
        let public_ip = public.then(|| "198.18.0.200".to_owned());
        let mut instance = v1::Instance {
            metadata: Some(metadata),
            spec: Some(spec),
            assigned: Some(v1::InstanceAssigned {
                vcpus,
                memory_mib,
                vpc_id: VPC.to_owned(),
                interface_id: id.replace("i-", "eni-"),
                mac_address: format!("02:00:00:00:00:{number:02x}"),
                ipv6_addresses: Vec::new(),
                host_id: HOST.to_owned(),
                default_user: "weft".to_owned(),
                ssh_host_public_keys: vec![HOST_KEY.to_owned()],
                run_epoch: 0,
                root_size_bytes: 1 << 30,
                public_ip,
            }),
            status: Some(v1::InstanceStatus::default()),
        };
        power(&mut instance);
        world.instances.insert(id, instance.clone());
        Ok(Response::new(instance))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        get(&self.lock().instances, &request.into_inner().id).map(Response::new)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::InstanceList>, Status> {
        let mut world = self.lock();
        world.calls.push("Instances.BatchGet");
        let items = batch(&world.instances, &request.into_inner().ids);
        Ok(Response::new(v1::InstanceList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::InstanceList>, Status> {
        let name = request.into_inner().name;
        let named = |instance: &&v1::Instance| {
            name.is_empty() || instance.spec.as_ref().unwrap().name.as_deref() == Some(&name)
        };
        let items = self.lock().instances.values().filter(named).cloned().collect();
        Ok(Response::new(v1::InstanceList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let v1::UpdateInstanceRequest { context, spec } = request.into_inner();
        instance_order_from_wire(spec.clone()).map_err(refused)?;
        let (context, mut spec) = (context.unwrap(), spec.unwrap());
        let mut world = self.lock();
        let (vcpus, memory_mib) = size(&world, &spec)?;
        world.calls.push("Instances.Update");
        let instance = world.instances.get_mut(&context.id).ok_or_else(|| missing(&context.id))?;
        let old = instance.spec.clone().unwrap();
        let fixed = |spec: &v1::InstanceSpec| {
            (spec.image_id.clone(), spec.subnet_id.clone(), spec.private_ip.clone())
        };
        if fixed(&old) != fixed(&spec) {
            return Err(refused(Problem::invalid("image_id", "it cannot change")));
        }
        begin_update(instance.metadata.as_mut().unwrap(), &context)?;
        let asked = spec.power_state.is_some();
        spec.power_state = spec.power_state.or_else(|| old.power_state.clone());
        let assigned = instance.assigned.as_mut().unwrap();
        let size_of = |vcpus, memory_mib| GuestSize { vcpus, memory_mib };
        let before = size_of(assigned.vcpus, assigned.memory_mib);
        let (after, room) = (size_of(vcpus, memory_mib), |spec: &v1::InstanceSpec| Maxima {
            vcpus: spec.max_vcpus,
            memory_mib: spec.max_memory_mib,
        });
        let maxima = room(&spec).check(after).map_err(refused)?;
        let resized = room(&old) != maxima || !maxima.lets_grow(before, after);
        (assigned.vcpus, assigned.memory_mib) = (vcpus, memory_mib);
        let restarts = resized || spec.user_data != old.user_data || spec.display != old.display;
        let powered = asked && spec.power_state != old.power_state;
        instance.spec = Some(spec);
        if powered || (restarts && instance.status.as_ref().unwrap().state == "running") {
            power(instance);
        }
        Ok(Response::new(instance.clone()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = request.into_inner().id;
        let mut world = self.lock();
        let instance = world.instances.get(&id).ok_or_else(|| missing(&id))?;
        if instance.spec.as_ref().unwrap().termination_protection == Some(true) {
            let problem = Problem::new(Reason::FailedPrecondition, "it is protected");
            return Err(refused(problem.at("termination_protection")));
        }
        world.instances.remove(&id);
        Ok(Response::new(v1::DeleteResponse {}))
    }

    async fn start(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let id = request.into_inner().id;
        let mut world = self.lock();
        world.calls.push("Instances.Start");
        let instance = world.instances.get_mut(&id).ok_or_else(|| missing(&id))?;
        instance.spec.as_mut().unwrap().power_state = Some("running".to_owned());
        power(instance);
        Ok(Response::new(instance.clone()))
    }

    type ScreenshotStream = futures::stream::Empty<Result<v1::ByteChunk, Status>>;

    async fn screenshot(
        &self,
        _: Request<v1::ScreenshotRequest>,
    ) -> Result<Response<Self::ScreenshotStream>, Status> {
        Err(Status::unimplemented("screenshot"))
    }

    type OpenDisplayStream = futures::stream::Empty<Result<v1::ByteChunk, Status>>;

    async fn open_display(
        &self,
        _: Request<Streaming<v1::DisplayInput>>,
    ) -> Result<Response<Self::OpenDisplayStream>, Status> {
        Err(Status::unimplemented("open_display"))
    }

    async fn hibernate(
        &self,
        _: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        Err(Status::unimplemented("not part of the fake"))
    }

    async fn reset(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::Instance>, Status> {
        Err(Status::unimplemented("not part of the fake"))
    }

    async fn stop(
        &self,
        request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let id = request.into_inner().id;
        let mut world = self.lock();
        let instance = world.instances.get_mut(&id).ok_or_else(|| missing(&id))?;
        instance.spec.as_mut().unwrap().power_state = Some("stopped".to_owned());
        power(instance);
        Ok(Response::new(instance.clone()))
    }

    async fn reboot(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::Instance>, Status> {
        Err(Status::unimplemented("not part of the fake"))
    }

    type WaitStream = Events<v1::WaitEvent>;

    async fn wait(
        &self,
        request: Request<v1::WaitRequest>,
    ) -> Result<Response<Self::WaitStream>, Status> {
        let v1::WaitRequest { id, until, .. } = request.into_inner();
        let mut world = self.lock();
        world.calls.push("Instances.Wait");
        world.has_time()?;
        if world.wait_hangs {
            return Ok(Response::new(Box::pin(tokio_stream::pending())));
        }
        if let Some(problem) = world.wait_fails.take() {
            return Err(refused(problem));
        }
        let state = world.instances.get(&id).map(|i| i.status.clone().unwrap_or_default().state);
        let holds = match (&until, state.as_deref()) {
            (Some(Until::Gone(_)), state) => state.is_none(),
            (Some(Until::Stopped(_)), Some(state)) => state == "stopped",
            (Some(Until::WaitFor(_)), Some(state)) => state == "running",
            _ => return Err(missing(&id)),
        };
        if !holds {
            let message = format!("{id} is {} and stays so", state.unwrap_or_default());
            return Err(refused(Problem::new(Reason::DeadlineExceeded, message)));
        }
        let event = v1::WaitEvent { done: true, ..Default::default() };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(event)))))
    }

    async fn console_tail(
        &self,
        _: Request<v1::ConsoleTailRequest>,
    ) -> Result<Response<v1::ConsoleTailResponse>, Status> {
        Err(Status::unimplemented("not part of the fake"))
    }

    type AttachConsoleStream = Events<v1::ByteChunk>;

    async fn attach_console(
        &self,
        _: Request<Streaming<v1::ConsoleInput>>,
    ) -> Result<Response<Self::AttachConsoleStream>, Status> {
        Err(Status::unimplemented("not part of the fake"))
    }

    type OpenPortStream = Events<v1::ByteChunk>;

    async fn open_port(
        &self,
        _: Request<Streaming<v1::PortInput>>,
    ) -> Result<Response<Self::OpenPortStream>, Status> {
        Err(Status::unimplemented("not part of the fake"))
    }
}
