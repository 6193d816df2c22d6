//! Route tables: what they may lead to, and who may use them.

use weft_model::Reason;
use weft_proto::v1;
use weft_proto::v1::route::Target;
use weft_proto::v1::route_table_associations_client::RouteTableAssociationsClient;
use weft_proto::v1::route_tables_client::RouteTablesClient;

use crate::support::{
    Agent, Api, context, instance_spec, ok, refusal, refused, subnet_spec, update_context, vpc_spec,
};

type Answer<T> = Result<tonic::Response<T>, tonic::Status>;

struct Bench {
    agent: Agent,
    api: Api,
    vpc: String,
    subnet: String,
    image: String,
}

impl Bench {
    async fn new() -> Self {
        let agent = Agent::start().await;
        let api = agent.api().await;
        let vpc = ok(api.vpc(vpc_spec("lab", "10.0.0.0/16")).await).metadata.unwrap().id;
        let subnet = ok(api.subnet(subnet_spec("a", &vpc, "10.0.1.0/24")).await);
        let subnet = subnet.metadata.unwrap().id;
        let image = api.image_id().await;
        Self { agent, api, vpc, subnet, image }
    }

    async fn instance(&self, name: &str, subnet: &str, forwards: bool) -> String {
        let spec = v1::InstanceSpec {
            subnet_id: Some(subnet.to_owned()),
            source_dest_check: Some(!forwards),
            power_state: Some("stopped".to_owned()),
            ..instance_spec(name, &self.image)
        };
        ok(self.api.create(spec).await).metadata.unwrap().id
    }

    fn table(&self, cidr: &str, target: Option<Target>) -> v1::RouteTableSpec {
        let routes = vec![v1::Route { cidr_block: cidr.to_owned(), target }];
        v1::RouteTableSpec { name: "it".to_owned(), vpc_id: self.vpc.clone(), routes }
    }

    async fn create(&self, spec: v1::RouteTableSpec) -> Answer<v1::RouteTable> {
        let request = v1::CreateRouteTableRequest { context: context(), spec: Some(spec) };
        RouteTablesClient::new(self.agent.channel().await).create(request).await
    }

    async fn associate(&self, table: &str, subnet: &str) -> Answer<v1::RouteTableAssociation> {
        let spec = v1::RouteTableAssociationSpec {
            route_table_id: table.to_owned(),
            subnet_id: subnet.to_owned(),
        };
        let request =
            v1::CreateRouteTableAssociationRequest { context: context(), spec: Some(spec) };
        RouteTableAssociationsClient::new(self.agent.channel().await).create(request).await
    }
}

fn to(instance: &str) -> Option<Target> {
    Some(Target::InstanceId(instance.to_owned()))
}

#[tokio::test]
async fn a_route_leads_to_who_forwards_in_its_vpc_or_nowhere() {
    let bench = Bench::new().await;
    let nat = bench.instance("nat", &bench.subnet, true).await;
    let web = bench.instance("web", &bench.subnet, false).await;
    let elsewhere = ok(bench.api.vpc(vpc_spec("other", "10.1.0.0/16")).await);
    let elsewhere = elsewhere.metadata.unwrap().id;
    let other = ok(bench.api.subnet(subnet_spec("b", &elsewhere, "10.1.1.0/24")).await);
    let far = bench.instance("far", &other.metadata.unwrap().id, true).await;
    #[rustfmt::skip]
    let cases = [
        ("0.0.0.0/0",    None,                        Reason::InvalidArgument,    "leads nowhere"),
        ("0.0.0.0/0",    to("i-00000000000000000"),   Reason::NotFound,           "does not exist"),
        ("0.0.0.0/0",    to(&far),                    Reason::InvalidArgument,    "is in vpc-"),
        ("0.0.0.0/0",    to(&web),                    Reason::FailedPrecondition, "source_dest_check = true"),
        ("10.0.1.0/24",  to(&nat),                    Reason::InvalidArgument,    "inside of the VPC"),
        ("224.0.0.0/4",  to(&nat),                    Reason::InvalidArgument,    "224.0.0.0/4"),
    ];
    for (cidr, target, reason, words) in cases {
        let message = refused(bench.create(bench.table(cidr, target)).await, reason, "routes");
        assert!(message.contains(words), "{message}");
    }
    for target in [to(&nat), Some(Target::Blackhole(true))] {
        let spec = bench.table("0.0.0.0/0", target);
        assert_eq!(ok(bench.create(spec.clone()).await).spec, Some(spec));
    }
}

#[tokio::test]
async fn a_subnet_has_one_table_which_stays_while_it_is_used() {
    let bench = Bench::new().await;
    let nat = bench.instance("nat", &bench.subnet, true).await;
    let made = ok(bench.create(bench.table("0.0.0.0/0", to(&nat))).await);
    let table = made.metadata.clone().unwrap().id;
    let spare = ok(bench.create(bench.table("192.0.2.0/24", to(&nat))).await).metadata.unwrap().id;
    let joined = ok(bench.associate(&table, &bench.subnet).await).metadata.unwrap().id;
    assert_eq!(joined, format!("{table}/{}", bench.subnet));
    let again = bench.associate(&spare, &bench.subnet).await;
    let message = refused(again, Reason::AlreadyExists, "subnet_id");
    assert!(message.contains(&table), "{message}");

    let mut tables = RouteTablesClient::new(bench.agent.channel().await);
    let request = |id: &str| v1::DeleteRequest { id: id.to_owned() };
    let used = refusal(tables.delete(request(&table)).await);
    assert_eq!(used.reason, Reason::InUse);
    assert!(used.message.contains(&bench.subnet), "{used}");
    let closed = v1::RouteTableSpec { routes: Vec::new(), ..made.spec.clone().unwrap() };
    let context = update_context(made.metadata.as_ref());
    ok(tables.update(v1::UpdateRouteTableRequest { context, spec: Some(closed) }).await);

    let mut associations = RouteTableAssociationsClient::new(bench.agent.channel().await);
    ok(associations.delete(request(&joined)).await);
    ok(tables.delete(request(&table)).await);
}

#[tokio::test]
async fn packets_are_not_led_in_a_circle() {
    let bench = Bench::new().await;
    let second = ok(bench.api.subnet(subnet_spec("b", &bench.vpc, "10.0.2.0/24")).await);
    let second = second.metadata.unwrap().id;
    let here = bench.instance("here", &bench.subnet, true).await;
    let there = bench.instance("there", &second, true).await;
    let out = ok(bench.create(bench.table("0.0.0.0/0", to(&there))).await).metadata.unwrap().id;
    let back = ok(bench.create(bench.table("0.0.0.0/0", to(&here))).await).metadata.unwrap().id;
    ok(bench.associate(&out, &bench.subnet).await);
    let message =
        refused(bench.associate(&back, &second).await, Reason::InvalidArgument, "route_table_id");
    assert!(message.contains("in a circle"), "{message}");
}
