//! `weft.v1.Instances`.

mod display;
mod hibernation;

use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};
use weft_model::{
    InstanceId, InstanceSpec, InstanceState, InstanceStatus, InstanceView, PowerState, Problem,
    Reason, Record,
};
use weft_planner::Action;
use weft_proto::convert::{
    Revision, creation_from_wire, instance_order_from_wire, instance_to_wire, revision_from_wire,
    shutdown_seconds_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Answers, Api, attaching, listed, parse_id, refuse, streams};
use crate::admission::first_status;
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{Instances, Stored, status_key};
use crate::wait;

type InstanceRecord = Record<InstanceId, InstanceSpec>;

impl Context {
    /// The instance as clients see it.
    async fn view(&self, record: InstanceRecord) -> Result<InstanceView, Problem> {
        let status = self.repo.status(&record.id).await?;
        let status = status.unwrap_or_else(|| InstanceStatus::accepted(record.created_at));
        Ok(InstanceView::new(record, status, self.host_id.clone()))
    }

    async fn show(&self, record: InstanceRecord) -> Result<v1::Instance, Problem> {
        Ok(instance_to_wire(self.view(record).await?))
    }

    /// Some of many: the statuses of the others are not read. A plan of a thousand asks a hundred
    /// times for ten.
    async fn show_each(&self, records: Vec<InstanceRecord>) -> Result<v1::InstanceList, Problem> {
        let mut items = Vec::with_capacity(records.len());
        for record in records {
            items.push(self.show(record).await?);
        }
        Ok(v1::InstanceList { items })
    }

    /// A large part of all there are: one question to the store, not one for each.
    async fn show_all(&self, records: Vec<InstanceRecord>) -> Result<v1::InstanceList, Problem> {
        let mut statuses = self.repo.statuses().await?;
        let items = records.into_iter().map(|record| {
            let status = statuses.remove(&record.id);
            let status = status.unwrap_or_else(|| InstanceStatus::accepted(record.created_at));
            instance_to_wire(InstanceView::new(record, status, self.host_id.clone()))
        });
        Ok(v1::InstanceList { items: items.collect() })
    }
}

async fn create(
    context: &Context,
    request: v1::CreateInstanceRequest,
) -> Result<InstanceRecord, Problem> {
    let v1::CreateInstanceRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::InstanceSpec::encode_to_vec).unwrap_or_default();
    let order = instance_order_from_wire(spec)?;
    let content = match context.known::<Instances>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let _guard = context.references.read().await;
    let id = InstanceId::from_random(random::bytes());
    let (spec, reservation, txn, _public) = context.admit(&id, order).await?;
    let txn = txn.put(status_key(&id), first_status(context));
    let record = context.new_record::<Instances>(id, spec, &creation, &content);
    context.store_new::<Instances>(&record, &creation, &content, txn).await?;
    reservation.keep();
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateInstanceRequest,
) -> Result<InstanceRecord, Problem> {
    let v1::UpdateInstanceRequest { context: update, spec } = request;
    let update: Revision<InstanceId> = revision_from_wire(update)?;
    let order = instance_order_from_wire(spec)?;
    let guard = context.references.read().await;
    let turn = context.turns().object(update.id.as_str()).await;
    let before = context.fetch_for::<Instances>(&update).await?;
    let status = context.repo.status(&update.id).await?;
    let status = status.unwrap_or_else(|| InstanceStatus::accepted(before.value.created_at));
    let (spec, reservation) = context.admit_change(&before, &status, order).await?;
    let (old, new) = (&before.value.spec.interface, &spec.interface);
    let changes_network = new.security_group_ids != old.security_group_ids
        || new.source_dest_check != old.source_dest_check
        || spec.network_mbps != before.value.spec.network_mbps;
    let grows_live =
        spec.run_epoch == before.value.spec.run_epoch && spec.size() != before.value.spec.size();
    let is_limited_anew = spec.root_limits != before.value.spec.root_limits;
    let record = InstanceRecord {
        spec,
        tags: update.tags,
        client_data: update.client_data,
        ..before.value.clone()
    };
    let record = context.store_update::<Instances>(before, record, Txn::new()).await?;
    reservation.keep();
    if changes_network {
        context.settle_networks(super::groups::NOT_YET).await;
    }
    drop((turn, guard));
    if is_limited_anew {
        attaching::limited(context, &record.id, None, record.spec.root_limits).await;
    }
    if grows_live {
        attaching::grown(context, &record.id, record.spec.size()).await;
    }
    Ok(record)
}

/// What `weft start`, `stop` and `reboot` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Start,
    /// With the seconds that the guest has, where they are not the instance's own.
    Stop(Option<u32>),
    Reboot,
}

/// The instance as it is, for a request that is about no generation.
async fn fetch_any(context: &Context, id: &InstanceId) -> Result<Stored<InstanceRecord>, Problem> {
    let any = Revision {
        id: id.clone(),
        expected_generation: None,
        tags: Default::default(),
        client_data: String::new(),
    };
    context.fetch_for::<Instances>(&any).await
}

fn is_off(id: &InstanceId) -> Problem {
    Problem::new(Reason::FailedPrecondition, format!("instance {id} is off"))
        .remedy(format!("weft start {id} switches it on"))
}

async fn switch(
    context: &Context,
    id: &InstanceId,
    switch: Switch,
) -> Result<InstanceRecord, Problem> {
    let _turn = context.turns().object(id.as_str()).await;
    let before = fetch_any(context, id).await?;
    let status = context.repo.status(id).await?;
    let ended = status.is_some_and(|status| status.ended_epoch >= before.value.spec.run_epoch);
    let mut record = before.value.clone();
    let spec = &mut record.spec;
    let is_on = spec.power == PowerState::Running && !ended;
    match switch {
        Switch::Stop(seconds) => {
            spec.power = PowerState::Stopped;
            spec.stop_seconds = seconds;
            // By force, not even the memory is kept.
            spec.hibernate &= seconds != Some(0);
        }
        Switch::Start if is_on => {}
        Switch::Start | Switch::Reboot => {
            if switch == Switch::Reboot && !is_on {
                return Err(is_off(id));
            }
            context.check_keys_of(id)?;
            spec.power = PowerState::Running;
            spec.stop_seconds = None;
            spec.hibernate = false;
            spec.run_epoch += 1;
        }
    }
    let on = spec.power == PowerState::Running;
    let memory = context.host.memory_cost_mib(spec.memory_mib, spec.display);
    let memory = if on { memory } else { 0 };
    let vcpus = if on { spec.vcpus } else { 0 };
    let reservation = context.ledger.raise(id, memory, vcpus)?;
    let record = context.store_update::<Instances>(before, record, Txn::new()).await?;
    reservation.keep();
    Ok(record)
}

/// Resets the guest's machine at once. It is not a launch, so nothing of it is kept: who gets no
/// answer asks again.
async fn reset(context: &Context, id: &InstanceId) -> Result<InstanceRecord, Problem> {
    let _turn = context.turns().object(id.as_str()).await;
    let record = fetch_any(context, id).await?.value;
    let status = context.repo.status(id).await?;
    let runs = status.is_some_and(|status| {
        status.state == InstanceState::Running && status.epoch == record.spec.run_epoch
    });
    if record.spec.power != PowerState::Running || !runs {
        return Err(Problem::new(
            Reason::FailedPrecondition,
            format!("instance {id} does not run: there is nothing to reset"),
        )
        .remedy(format!("weft get {id} shows what it does; weft start {id} switches it on")));
    }
    let action = Action::ResetGuest { instance_id: id.clone() };
    context.host.apply(&action).await.map_err(|error| error.problem())?;
    tracing::info!(instance.id = %id, "reset");
    Ok(record)
}

async fn delete(context: &Context, id: &InstanceId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let before = context.repo.get::<Instances>(id).await?;
    if before.value.deleting_since.is_some() {
        return Ok(());
    }
    let users = context.public_users(id);
    if !users.is_empty() {
        let message = format!("instance {id} is used by {}", users.join(", "));
        return Err(Problem::new(Reason::InUse, message).at("id").remedy("remove these first"));
    }
    if before.value.spec.lifecycle.termination_protection {
        let message = format!("instance {id} is protected from termination");
        return Err(Problem::new(Reason::FailedPrecondition, message)
            .at("termination_protection")
            .remedy("set termination_protection = false, apply that, then remove it"));
    }
    context.mark_deleting::<Instances>(before).await?;
    tracing::info!(instance.id = %id, "deletion accepted");
    Ok(())
}

impl Api {
    async fn switched(&self, id: &str, how: Switch) -> Result<Response<v1::Instance>, Status> {
        let id = parse_id(id)?;
        let record = self.whole(async move |context| switch(&context, &id, how).await).await?;
        Ok(Response::new(self.context.show(record).await.map_err(refuse)?))
    }
}

#[tonic::async_trait]
impl v1::instances_server::Instances for Api {
    type WaitStream = Answers<v1::WaitEvent>;
    type AttachConsoleStream = Answers<v1::ByteChunk>;
    type OpenPortStream = Answers<v1::ByteChunk>;
    type ScreenshotStream = Answers<v1::ByteChunk>;
    type OpenDisplayStream = Answers<v1::ByteChunk>;

    async fn create(
        &self,
        request: Request<v1::CreateInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(self.context.show(record).await.map_err(refuse)?))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let v1::GetRequest { id, claim } = request.into_inner();
        let record = self.context.fetch::<Instances>(&parse_id(&id)?, claim).await;
        let record = record.map_err(refuse)?;
        Ok(Response::new(self.context.show(record).await.map_err(refuse)?))
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::InstanceList>, Status> {
        let v1::BatchGetRequest { ids, claim } = request.into_inner();
        let records = self.context.fetch_all::<Instances>(&ids, claim).await.map_err(refuse)?;
        Ok(Response::new(self.context.show_each(records).await.map_err(refuse)?))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::InstanceList>, Status> {
        let request = request.into_inner();
        let mut wanted = Vec::new();
        for record in self.context.repo.list::<Instances>().await.map_err(refuse)? {
            let name = record.spec.name.as_ref().map(weft_model::Name::as_str);
            if listed(&request, name, &record.tags).map_err(refuse)? {
                wanted.push(record);
            }
        }
        Ok(Response::new(self.context.show_all(wanted).await.map_err(refuse)?))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateInstanceRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let record =
            self.whole(async move |context| update(&context, request.into_inner()).await).await?;
        Ok(Response::new(self.context.show(record).await.map_err(refuse)?))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        self.whole(async move |context| delete(&context, &id).await).await?;
        Ok(Response::new(v1::DeleteResponse {}))
    }

    async fn start(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        self.switched(&request.into_inner().id, Switch::Start).await
    }

    async fn stop(
        &self,
        request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let v1::StopRequest { id, claim: _, timeout_seconds } = request.into_inner();
        let seconds = timeout_seconds
            .map(|seconds| shutdown_seconds_from_wire("timeout_seconds", seconds))
            .transpose()
            .map_err(refuse)?;
        self.switched(&id, Switch::Stop(seconds)).await
    }

    async fn hibernate(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        let record =
            self.whole(async move |context| hibernation::hibernate(&context, &id).await).await?;
        Ok(Response::new(self.context.show(record).await.map_err(refuse)?))
    }

    async fn reset(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        let record = self.whole(async move |context| reset(&context, &id).await).await?;
        Ok(Response::new(self.context.show(record).await.map_err(refuse)?))
    }

    async fn reboot(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        self.switched(&request.into_inner().id, Switch::Reboot).await
    }

    async fn wait(
        &self,
        request: Request<v1::WaitRequest>,
    ) -> Result<Response<Self::WaitStream>, Status> {
        let answers = wait::start(self.context.clone(), request.into_inner()).map_err(refuse)?;
        Ok(Response::new(answers))
    }

    async fn console_tail(
        &self,
        request: Request<v1::ConsoleTailRequest>,
    ) -> Result<Response<v1::ConsoleTailResponse>, Status> {
        let v1::ConsoleTailRequest { id, max_bytes } = request.into_inner();
        let id: InstanceId = parse_id(&id)?;
        self.context.repo.get::<Instances>(&id).await.map_err(refuse)?;
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let data = self.context.host.console_tail(&id, max_bytes).await;
        let data = data.map_err(|error| refuse(error.problem()))?;
        Ok(Response::new(v1::ConsoleTailResponse { data }))
    }

    async fn attach_console(
        &self,
        request: Request<Streaming<v1::ConsoleInput>>,
    ) -> Result<Response<Self::AttachConsoleStream>, Status> {
        streams::attach_console(&self.context, request.into_inner()).await
    }

    async fn screenshot(
        &self,
        request: Request<v1::ScreenshotRequest>,
    ) -> Result<Response<Self::ScreenshotStream>, Status> {
        display::screenshot(&self.context, &request.into_inner().id).await
    }

    async fn open_display(
        &self,
        request: Request<Streaming<v1::DisplayInput>>,
    ) -> Result<Response<Self::OpenDisplayStream>, Status> {
        display::open(&self.context, request.into_inner()).await
    }

    async fn open_port(
        &self,
        request: Request<Streaming<v1::PortInput>>,
    ) -> Result<Response<Self::OpenPortStream>, Status> {
        streams::open_port(&self.context, request.into_inner()).await
    }
}
