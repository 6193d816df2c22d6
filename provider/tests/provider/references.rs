//! Whether a plan sees that what it refers to is not there.

use tfplugin::Value;
use tfplugin::testing::Terraform;

use crate::support::{attributes, connected_with, said};

const ABSENT: &str = "vpc-0123456789abcdef0";

fn subnet(vpc: Value) -> Value {
    attributes([("name", "a".into()), ("vpc_id", vpc), ("cidr_block", "10.0.1.0/24".into())])
}

async fn told(terraform: &Terraform, type_name: &str, config: Value) -> String {
    match terraform.plan(type_name, config, None).await {
        Ok(plan) => said(&plan.warnings),
        Err(errors) => format!("refused: {}", said(&errors)),
    }
}

async fn with_checks(word: &str, type_name: &str, config: Value) -> String {
    let (terraform, _fake) = connected_with(attributes([("plan_checks", word.into())])).await;
    told(&terraform, type_name, config).await
}

#[tokio::test]
async fn what_is_not_there_is_told_as_plan_checks_says() {
    let missing = || subnet(ABSENT.into());
    let warned = with_checks("warn", "weft_subnet", missing()).await;
    assert!(warned.starts_with(&format!("There is no VPC {ABSENT}")), "{warned}");
    assert!(warned.contains("weft ls vpcs"), "{warned}");
    let refused = with_checks("error", "weft_subnet", missing()).await;
    assert!(refused.starts_with("refused: There is no VPC"), "{refused}");
    assert_eq!(with_checks("off", "weft_subnet", missing()).await, "");
}

#[tokio::test]
async fn what_is_there_or_made_along_with_it_is_not() {
    let checks = attributes([("plan_checks", "error".into())]);
    let (terraform, fake) = connected_with(checks).await;
    let vpc = attributes([("name", "v".into()), ("cidr_block", "10.0.0.0/16".into())]);
    let vpc = terraform.create("weft_vpc", vpc).await.unwrap();
    // What was made is carried out in this run: the next one looks anew.
    let terraform = crate::support::provider(&fake, Value::Null).await;
    assert_eq!(told(&terraform, "weft_subnet", subnet(vpc.get("id").clone())).await, "");
    assert_eq!(told(&terraform, "weft_subnet", subnet(Value::Unknown)).await, "");
}

#[tokio::test]
async fn each_of_a_set_and_each_inside_a_list_is_looked_up() {
    let groups = Value::List(vec!["sg-0123456789abcdef0".into(), "sg-1123456789abcdef0".into()]);
    let instance = attributes([
        ("image_id", "img-0123456789abcdef0".into()),
        ("vcpus", 1.into()),
        ("memory_mib", 64.into()),
        ("security_group_ids", groups),
    ]);
    let said = with_checks("warn", "weft_instance", instance).await;
    for missing in ["image img-0", "security group sg-0", "security group sg-1"] {
        assert!(said.contains(&format!("There is no {missing}")), "{missing}: {said}");
    }
    let route = attributes([
        ("cidr_block", "10.9.0.0/16".into()),
        ("instance_id", "i-0123456789abcdef0".into()),
    ]);
    let table = attributes([
        ("name", "t".into()),
        ("vpc_id", Value::Unknown),
        ("routes", Value::List(vec![route])),
    ]);
    let said = with_checks("warn", "weft_route_table", table).await;
    assert!(said.contains("There is no instance i-0"), "{said}");
}
