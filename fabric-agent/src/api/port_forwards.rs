//! `weft.v1.PortForwards`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{Object, PortForwardId, PortForwardSpec, Problem, Reason, Record};
use weft_proto::convert::{
    Revision, creation_from_wire, port_forward_spec_from_wire, port_forward_to_wire,
    revision_from_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id};
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{Kind as _, PortForwards, host_port_key, store_problem};

type PortForwardRecord = Record<PortForwardId, PortForwardSpec>;

const NOT_YET: &str = "a port forward is not in force everywhere yet";

fn show(record: PortForwardRecord) -> v1::PortForward {
    port_forward_to_wire(Object::from(record))
}

fn name(spec: &PortForwardSpec) -> &str {
    spec.name.as_str()
}

async fn create(
    context: &Context,
    request: v1::CreatePortForwardRequest,
) -> Result<PortForwardRecord, Problem> {
    let v1::CreatePortForwardRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::PortForwardSpec::encode_to_vec).unwrap_or_default();
    let spec = port_forward_spec_from_wire(spec)?;
    let content = match context.known::<PortForwards>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let record = {
        let _guard = context.references.read().await;
        context.reachable_target(&spec.target).await?;
        let key = host_port_key(spec.protocol, spec.host_port);
        check_port(context, &spec, &key).await?;
        let id = PortForwards::new_id(random::bytes(), &spec);
        let txn = Txn::new().when_absent(&key).put(key, id.as_str());
        let record = context.new_record::<PortForwards>(id, spec, &creation, &content);
        context.store_new::<PortForwards>(&record, &creation, &content, txn).await?;
        record
    };
    context.settle_networks(NOT_YET).await;
    Ok(record)
}

/// Refuses a port that another forward has, or a service of the host.
async fn check_port(context: &Context, spec: &PortForwardSpec, key: &str) -> Result<(), Problem> {
    let PortForwardSpec { protocol, host_port, host_address, .. } = spec;
    let taken = |by: String| {
        let message = format!("port {host_port} ({protocol}) of the host is in use by {by}");
        Err(Problem::new(Reason::AlreadyExists, message)
            .at("host_port")
            .remedy("use another host_port"))
    };
    if let Some(other) = context.repo.store().get(key).await.map_err(store_problem)? {
        return taken(format!("port forward {}", String::from_utf8_lossy(&other.value)));
    }
    let listener = context.host.listener(*protocol, *host_port, *host_address).await;
    match listener.map_err(|error| error.problem())? {
        Some(address) => taken(format!("a service of the host that listens on {address}")),
        None => Ok(()),
    }
}

async fn update(
    context: &Context,
    request: v1::UpdatePortForwardRequest,
) -> Result<PortForwardRecord, Problem> {
    let v1::UpdatePortForwardRequest { context: update, spec } = request;
    let update: Revision<PortForwardId> = revision_from_wire(update)?;
    let spec = port_forward_spec_from_wire(spec)?;
    let record = {
        let _guard = context.references.read().await;
        let _turn = context.turns().object(update.id.as_str()).await;
        let before = context.fetch_for::<PortForwards>(&update).await?;
        let old = &before.value.spec;
        for (field, changed) in [
            ("protocol", spec.protocol != old.protocol),
            ("host_port", spec.host_port != old.host_port),
            ("host_address", spec.host_address != old.host_address),
        ] {
            if changed {
                let message = format!("{field} of a port forward cannot change");
                return Err(Problem::invalid(field, message).remedy("replace the port forward"));
            }
        }
        if spec.target != old.target {
            context.reachable_target(&spec.target).await?;
        }
        let mut record = before.value.clone();
        record.tags = update.tags;
        record.client_data = update.client_data;
        record.spec = spec;
        context.store_update::<PortForwards>(before, record, Txn::new()).await?
    };
    context.settle_networks(NOT_YET).await;
    Ok(record)
}

async fn delete(context: &Context, id: &PortForwardId) -> Result<(), Problem> {
    {
        let _turn = context.turns().object(id.as_str()).await;
        let stored = context.repo.get::<PortForwards>(id).await?;
        let spec = &stored.value.spec;
        let txn = Txn::new().delete(host_port_key(spec.protocol, spec.host_port));
        context.remove::<PortForwards>(&stored, txn).await?;
    }
    context.settle_networks(NOT_YET).await;
    Ok(())
}

#[tonic::async_trait]
impl v1::port_forwards_server::PortForwards for Api {
    async fn create(
        &self,
        request: Request<v1::CreatePortForwardRequest>,
    ) -> Result<Response<v1::PortForward>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::PortForward>, Status> {
        self.get_one::<PortForwards, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::PortForwardList>, Status> {
        let items = self.get_many::<PortForwards, _>(request, show).await?;
        Ok(Response::new(v1::PortForwardList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::PortForwardList>, Status> {
        let items = self.get_listed::<PortForwards, _>(request, name, show).await?;
        Ok(Response::new(v1::PortForwardList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdatePortForwardRequest>,
    ) -> Result<Response<v1::PortForward>, Status> {
        let record =
            self.whole(async move |context| update(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let id = parse_id(&request.into_inner().id)?;
        self.whole(async move |context| delete(&context, &id).await).await?;
        Ok(Response::new(v1::DeleteResponse {}))
    }
}
