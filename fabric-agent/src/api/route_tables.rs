//! `weft.v1.RouteTables`.

mod associations;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use tonic::{Request, Response, Status};
use weft_model::{
    Object, Problem, Reason, Record, ResolvedRoute, RouteSpec, RouteTableId, RouteTableOrder,
    RouteTableSpec, SubnetId, VpcMode, check_no_loop, check_routes,
};
use weft_proto::convert::{
    Revision, creation_from_wire, revision_from_wire, route_table_order_from_wire,
    route_table_to_wire,
};
use weft_proto::v1;
use weft_store::Txn;

use super::{Api, parse_id};
use crate::cache::World;
use crate::context::Context;
use crate::creation::Outcome;
use crate::random;
use crate::repo::{RouteTables, Vpcs, missing};

type RouteTableRecord = Record<RouteTableId, RouteTableSpec>;

/// What the log says where the kernel does not route that way yet.
const NOT_YET: &str = "a change of routes is not in force yet";

fn show(record: RouteTableRecord) -> v1::RouteTable {
    route_table_to_wire(Object::from(record))
}

fn name(spec: &RouteTableSpec) -> &str {
    &spec.name
}

/// Who is routed by what, as of one moment, with the change that is judged.
///
/// The caller holds `references` for writing: what is written under it is in the world before it is
/// let go, so nothing that is referred to here is gone or not there yet.
struct Routing<'a> {
    world: &'a World,
    tables: BTreeMap<&'a RouteTableId, &'a RouteTableSpec>,
    of_subnet: BTreeMap<&'a SubnetId, &'a RouteTableId>,
}

impl<'a> Routing<'a> {
    fn of(world: &'a World) -> Self {
        let ends = world.route_table_associations.values();
        Self {
            world,
            tables: world.route_tables.iter().map(|(id, table)| (id, &table.spec)).collect(),
            of_subnet: ends.map(|one| (&one.spec.subnet_id, &one.spec.route_table_id)).collect(),
        }
    }

    /// Where a route leads, or `None` where its target is gone or it leads nowhere.
    fn resolve(&self, route: &RouteSpec) -> Option<ResolvedRoute> {
        let interface = self.world.interface_of(route.target.as_ref()?)?;
        Some(ResolvedRoute {
            cidr_block: route.cidr_block,
            interface: interface.id.clone(),
            subnet: interface.subnet_id.clone(),
        })
    }

    /// Refuses targets that are not there, in another VPC, or not for packets of others.
    fn check_targets(&self, table: &RouteTableSpec) -> Result<(), Problem> {
        for route in &table.routes {
            let Some(target) = &route.target else { continue };
            let (range, vpc_id) = (route.cidr_block, &table.vpc_id);
            let Some(interface) = self.world.interface_of(target) else {
                let message = format!("{target}, which {range} is routed to, does not exist");
                return Err(Problem::not_found(message).at("routes").remedy(
                    "weft ls instances and weft ls network-interfaces show what does; refer to the \
                     resource's id, so that it is made first",
                ));
            };
            let of = &interface.vpc_id;
            if of != vpc_id {
                let message = format!("{target}, which {range} is routed to, is in {of}");
                return Err(Problem::invalid("routes", message)
                    .remedy(format!("use an instance of {vpc_id}")));
            }
            if interface.source_dest_check {
                let message = format!(
                    "{target}, which {range} is routed to, has source_dest_check = true: it gets \
                     nothing that is for others"
                );
                return Err(Problem::new(Reason::FailedPrecondition, message)
                    .at("routes")
                    .remedy("set source_dest_check = false on it, before it is routed to"));
            }
        }
        Ok(())
    }

    fn check_no_loop(&self) -> Result<(), Problem> {
        let routes = |id: &RouteTableId| -> Vec<ResolvedRoute> {
            let routes = self.tables.get(id).into_iter().flat_map(|table| &table.routes);
            routes.filter_map(|route| self.resolve(route)).collect()
        };
        let of_subnets =
            self.of_subnet.iter().map(|(subnet, table)| ((*subnet).clone(), routes(table)));
        check_no_loop(&of_subnets.collect())
    }
}

/// The table among those that are there.
async fn judge(
    context: &Context,
    id: &RouteTableId,
    order: RouteTableOrder,
    index: Option<u16>,
) -> Result<RouteTableSpec, Problem> {
    let RouteTableOrder { name, vpc_id, routes } = order;
    let vpc = context.repo.find::<Vpcs>(&vpc_id).await?;
    let vpc = vpc.ok_or_else(|| missing::<Vpcs>(&vpc_id, "vpc_id"))?;
    if vpc.value.spec.mode == VpcMode::Bridge {
        let message =
            format!("{vpc_id} is a bridge: its guests' packets are routed by the LAN's router");
        return Err(Problem::invalid("vpc_id", message).remedy("add the route there"));
    }
    let routes = check_routes(routes, vpc.value.spec.cidr_block)?;
    let world = context.cache.read();
    let mut routing = Routing::of(&world);
    let of_vpc = routing.tables.values().filter(|table| table.vpc_id == vpc_id);
    let taken: BTreeSet<u16> = of_vpc.map(|table| table.index).collect();
    let free = || (0..=u16::MAX).find(|index| !taken.contains(index));
    let index = index.or_else(free).ok_or_else(|| {
        Problem::new(Reason::ResourceExhausted, format!("{vpc_id} has too many route tables"))
    })?;
    let spec = RouteTableSpec { name, vpc_id, routes, index };
    routing.check_targets(&spec)?;
    routing.tables.insert(id, &spec);
    routing.check_no_loop()?;
    Ok(spec)
}

async fn create(
    context: &Context,
    request: v1::CreateRouteTableRequest,
) -> Result<RouteTableRecord, Problem> {
    let v1::CreateRouteTableRequest { context: creation, spec } = request;
    let creation = creation_from_wire(creation)?;
    let bytes = spec.as_ref().map(v1::RouteTableSpec::encode_to_vec).unwrap_or_default();
    let order = route_table_order_from_wire(spec)?;
    let content = match context.known::<RouteTables>(&bytes, &creation).await? {
        Outcome::Known(record) => return Ok(record),
        Outcome::New(content) => content,
    };
    let _guard = context.references.write().await;
    let id = RouteTableId::from_random(random::bytes());
    let spec = judge(context, &id, order, None).await?;
    let record = context.new_record::<RouteTables>(id, spec, &creation, &content);
    context.store_new::<RouteTables>(&record, &creation, &content, Txn::new()).await?;
    Ok(record)
}

async fn update(
    context: &Context,
    request: v1::UpdateRouteTableRequest,
) -> Result<RouteTableRecord, Problem> {
    let v1::UpdateRouteTableRequest { context: update, spec } = request;
    let update: Revision<RouteTableId> = revision_from_wire(update)?;
    let order = route_table_order_from_wire(spec)?;
    let updated = {
        let _guard = context.references.write().await;
        let _turn = context.turns().object(update.id.as_str()).await;
        let before = context.fetch_for::<RouteTables>(&update).await?;
        if order.vpc_id != before.value.spec.vpc_id {
            return Err(Problem::invalid("vpc_id", "vpc_id of a route table cannot change")
                .remedy("replace the route table"));
        }
        let mut record = before.value.clone();
        record.tags = update.tags;
        record.client_data = update.client_data;
        record.spec = judge(context, &update.id, order, Some(record.spec.index)).await?;
        context.store_update::<RouteTables>(before, record, Txn::new()).await?
    };
    context.settle_networks(NOT_YET).await;
    Ok(updated)
}

async fn delete(context: &Context, id: &RouteTableId) -> Result<(), Problem> {
    let _guard = context.references.write().await;
    let _turn = context.turns().object(id.as_str()).await;
    let stored = context.repo.get::<RouteTables>(id).await?;
    let subnets: Vec<String> = {
        let world = context.cache.read();
        let associations = world.route_table_associations.values();
        let own = associations.filter(|one| one.spec.route_table_id == *id);
        own.map(|one| one.spec.subnet_id.to_string()).collect()
    };
    if !subnets.is_empty() {
        let message = format!("route table {id} is used by {}", subnets.join(", "));
        return Err(Problem::new(Reason::InUse, message)
            .at("id")
            .remedy("remove its associations first"));
    }
    context.remove::<RouteTables>(&stored, Txn::new()).await
}

#[tonic::async_trait]
impl v1::route_tables_server::RouteTables for Api {
    async fn create(
        &self,
        request: Request<v1::CreateRouteTableRequest>,
    ) -> Result<Response<v1::RouteTable>, Status> {
        let record =
            self.whole(async move |context| create(&context, request.into_inner()).await).await?;
        Ok(Response::new(show(record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::RouteTable>, Status> {
        self.get_one::<RouteTables, _>(request, show).await
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::RouteTableList>, Status> {
        let items = self.get_many::<RouteTables, _>(request, show).await?;
        Ok(Response::new(v1::RouteTableList { items }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::RouteTableList>, Status> {
        let items = self.get_listed::<RouteTables, _>(request, name, show).await?;
        Ok(Response::new(v1::RouteTableList { items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRouteTableRequest>,
    ) -> Result<Response<v1::RouteTable>, Status> {
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
