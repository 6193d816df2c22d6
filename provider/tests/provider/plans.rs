//! What a plan says of what exists already, and of what it makes itself.

use tfplugin::testing::{Action, Terraform};
use tfplugin::{Severity, Value};

use crate::samples::least;
use crate::support::{Fake, attributes, connected, connected_with, provider, said, with};

async fn vpc(terraform: &Terraform, fake: &Fake) -> Value {
    let config = least("weft_vpc", terraform, fake).await;
    terraform.create("weft_vpc", config).await.unwrap().get("id").clone()
}

fn subnet(vpc: &Value, name: &str, range: &str) -> Value {
    attributes([("name", name.into()), ("vpc_id", vpc.clone()), ("cidr_block", range.into())])
}

/// What the plan of a new one says; nothing is accepted.
async fn refusal(terraform: &Terraform, type_name: &str, config: Value) -> String {
    let refused = terraform.plan(type_name, config, None).await.unwrap_err();
    assert!(refused.has_errors());
    said(&refused)
}

#[tokio::test]
async fn a_subnet_that_its_vpc_has_no_place_for_is_refused_in_the_plan() {
    let (terraform, fake) = connected().await;
    let vpc = vpc(&terraform, &fake).await;
    let web = subnet(&vpc, "web", "10.0.0.0/24");
    let web = terraform.create("weft_subnet", web).await.unwrap();
    // Another run, in which it is not known.
    let terraform = provider(&fake, Value::Null).await;
    let outside = refusal(&terraform, "weft_subnet", subnet(&vpc, "db", "10.1.0.0/24")).await;
    let says = "10.1.0.0/24 is not in the range 10.0.0.0/16";
    assert!(outside.contains(says), "{outside}");
    let gateway = with(&subnet(&vpc, "db", "10.0.2.0/24"), "gateway_ip", "10.0.2.9");
    let gateway = refusal(&terraform, "weft_subnet", gateway).await;
    assert!(gateway.contains("10.0.2.9 is not reserved for the router"), "{gateway}");
    // What is there may be gone by then.
    let over = subnet(&vpc, "db", "10.0.0.128/25");
    let plan = terraform.plan("weft_subnet", over.clone(), None).await.unwrap();
    assert!(said(&plan.warnings).contains("10.0.0.128/25 overlaps"), "{:?}", plan.warnings);
    let strict = attributes([("plan_checks", "error".into())]);
    let over = refusal(&provider(&fake, strict).await, "weft_subnet", over).await;
    let says = format!(
        "10.0.0.128/25 overlaps 10.0.0.0/24 of subnet {} (web)",
        web.get("id").as_str().unwrap()
    );
    assert!(over.contains(&says), "{over}");
    let terraform = provider(&fake, Value::Null).await;
    let free = subnet(&vpc, "db", "10.0.2.0/24");
    terraform.plan("weft_subnet", free, None).await.unwrap();
}

#[tokio::test]
async fn two_new_subnets_of_a_vpc_that_overlap_are_refused_in_the_plan() {
    let (terraform, fake) = connected().await;
    let (first, second) = (vpc(&terraform, &fake).await, vpc(&terraform, &fake).await);
    terraform.plan("weft_subnet", subnet(&first, "web", "10.0.0.0/24"), None).await.unwrap();
    // Ranges of different VPCs may be alike.
    terraform.plan("weft_subnet", subnet(&second, "web", "10.0.0.0/24"), None).await.unwrap();
    for name in ["db", "web"] {
        let over = refusal(&terraform, "weft_subnet", subnet(&first, name, "10.0.0.0/25")).await;
        let says = "10.0.0.0/25 overlaps 10.0.0.0/24 of subnet \"web\", which is to be made too";
        assert!(over.contains(says), "{over}");
    }
}

#[tokio::test]
async fn a_subnet_that_is_replaced_makes_place_for_what_comes_instead() {
    let (terraform, fake) = connected().await;
    let vpc = vpc(&terraform, &fake).await;
    let config = subnet(&vpc, "web", "10.0.0.0/24");
    let mut state = terraform.create("weft_subnet", config.clone()).await.unwrap();
    let wider = with(&subnet(&vpc, "front", "10.0.0.0/23"), "tags", Value::object([("a", "b")]));
    for (config, tainted) in [(wider, false), (config, true)] {
        let terraform = provider(&fake, Value::Null).await;
        state.tainted = tainted;
        let plan = terraform.plan("weft_subnet", config, Some(&state)).await.unwrap();
        assert_eq!(plan.action, Action::Replace);
    }
}

#[tokio::test]
async fn subnets_of_a_vpc_that_is_made_with_them_are_known_by_its_range() {
    let (terraform, fake) = connected().await;
    let config = least("weft_vpc", &terraform, &fake).await;
    terraform.plan("weft_vpc", config.clone(), None).await.unwrap();
    let new = |name, range| subnet(&Value::Unknown, name, range);
    let plan = terraform.plan("weft_subnet", new("web", "10.0.0.0/24"), None).await.unwrap();
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let over = refusal(&terraform, "weft_subnet", new("db", "10.0.0.0/25")).await;
    assert!(over.contains("overlaps 10.0.0.0/24 of subnet \"web\""), "{over}");
    let plan = terraform.plan("weft_subnet", new("lab", "10.0.7.0/24"), None).await.unwrap();
    assert_eq!(said(&plan.warnings), "");
    let plan = terraform.plan("weft_subnet", new("far", "192.168.9.0/25"), None).await.unwrap();
    let warned = said(&plan.warnings);
    assert!(warned.contains("is in none of the VPCs that are to be made"), "{warned}");
    assert!(plan.warnings.iter().all(|one| one.severity == Severity::Warning));

    let strict = provider(&fake, attributes([("plan_checks", "error".into())])).await;
    strict.plan("weft_vpc", config, None).await.unwrap();
    let refused = refusal(&strict, "weft_subnet", new("far", "192.168.9.0/25")).await;
    assert!(refused.contains("is in none of the VPCs"), "{refused}");
}

#[tokio::test]
async fn a_routed_vpc_over_the_public_pool_is_refused_in_the_plan() {
    let (terraform, fake) = connected().await;
    let vpc = |range: &str| attributes([("name", "x".into()), ("cidr_block", range.into())]);
    for range in ["198.18.0.128/25", "203.0.113.0/24"] {
        let over = refusal(&terraform, "weft_vpc", vpc(range)).await;
        assert!(over.contains(&format!("{range} overlaps ")), "{over}");
        assert!(over.contains("of the host's public pool"), "{over}");
        let lan = with(&vpc(range), "mode", "bridge");
        terraform.plan("weft_vpc", lan, None).await.unwrap();
    }
    terraform.plan("weft_vpc", vpc("198.18.1.0/24"), None).await.unwrap();
    let off = provider(&fake, attributes([("plan_checks", "off".into())])).await;
    off.plan("weft_vpc", vpc("198.18.0.0/24"), None).await.unwrap();
}

#[tokio::test]
async fn what_an_interface_cannot_be_in_its_subnet_is_refused_in_the_plan() {
    let (terraform, fake) = connected().await;
    let made = async |mode: &str| {
        let config = with(&least("weft_vpc", &terraform, &fake).await, "mode", mode);
        let vpc = terraform.create("weft_vpc", config).await.unwrap().get("id").clone();
        let subnet = subnet(&vpc, "web", "10.0.0.0/24");
        terraform.create("weft_subnet", subnet).await.unwrap().get("id").clone()
    };
    let (routed, bridged) = (made("routed").await, made("bridge").await);
    for type_name in ["weft_network_interface", "weft_instance"] {
        let config = least(type_name, &terraform, &fake).await;
        let checked = with(&config, "subnet_id", bridged.clone());
        let config = with(&checked, "source_dest_check", false);
        let refused = refusal(&terraform, type_name, config.clone()).await;
        assert!(refused.contains("source_dest_check = false has no effect there"), "{refused}");
        let config = with(&config, "subnet_id", routed.clone());
        terraform.plan(type_name, config.clone(), None).await.unwrap();
        // Also where it is switched off later.
        let state = terraform.create(type_name, checked.clone()).await.unwrap();
        let change = with(&checked, "source_dest_check", false);
        let refused = terraform.plan(type_name, change, Some(&state)).await.unwrap_err();
        assert!(said(&refused).contains("has no effect there"), "{}", said(&refused));
        let elsewhere = with(&config, "private_ip", "10.9.0.9");
        let refused = refusal(&terraform, type_name, elsewhere).await;
        assert!(refused.contains("10.9.0.9"), "{refused}");
    }
}

#[tokio::test]
async fn the_61st_rule_of_a_group_is_refused_in_the_plan() {
    let (terraform, fake) = connected().await;
    let kind = "weft_security_group_ingress_rule";
    let base = least(kind, &terraform, &fake).await;
    let base = with(&base, "referenced_security_group_id", Value::Null);
    let from = |n: usize| with(&base, "cidr_ipv4", format!("192.0.2.{n}/32"));
    for n in 0..40 {
        terraform.create(kind, from(n)).await.unwrap();
    }
    // Another run: 40 are there, 20 more are planned.
    let terraform = provider(&fake, Value::Null).await;
    for n in 40..60 {
        terraform.plan(kind, from(n), None).await.unwrap();
    }
    let over = refusal(&terraform, kind, from(60)).await;
    assert!(over.contains("would have 61 ingress rules for IPv4, and 60 are the limit"), "{over}");
    let both = with(&base, "referenced_security_group_id", base.get("security_group_id").clone());
    let over = refusal(&terraform, kind, both).await;
    assert!(over.contains("rules for IPv4"), "{over}");
    // Neither the other family nor the other direction is full, nor what is made anew one more.
    terraform.plan(kind, with(&base, "cidr_ipv6", "2001:db8::/32"), None).await.unwrap();
    let egress = "weft_security_group_egress_rule";
    terraform.plan(egress, from(60), None).await.unwrap();
    let mut state = provider(&fake, Value::Null).await.create(kind, from(40)).await.unwrap();
    let terraform = provider(&fake, Value::Null).await;
    state.tainted = true;
    terraform.plan(kind, from(40), Some(&state)).await.unwrap();
    let off = provider(&fake, attributes([("plan_checks", "off".into())])).await;
    fake.world().calls.clear();
    off.plan(kind, from(61), None).await.unwrap();
    assert!(fake.world().calls.is_empty(), "{:?}", fake.world().calls);
}

#[tokio::test]
async fn without_plan_checks_and_without_an_agent_nothing_is_asked() {
    let (terraform, fake) = connected_with(attributes([("plan_checks", "off".into())])).await;
    let vpc = vpc(&terraform, &fake).await;
    let unknown = Terraform::new(terraform_provider_weft::Weft::new(None));
    unknown.configure(attributes([("endpoint", Value::Unknown)])).await.unwrap();
    fake.world().calls.clear();
    for terraform in [terraform, unknown] {
        terraform.plan("weft_subnet", subnet(&vpc, "far", "10.9.0.0/24"), None).await.unwrap();
        let pooled = attributes([("name", "x".into()), ("cidr_block", "198.18.0.0/24".into())]);
        terraform.plan("weft_vpc", pooled, None).await.unwrap();
        let interface = attributes([
            ("name", "x".into()),
            ("subnet_id", "subnet-0123456789abcdef0".into()),
            ("source_dest_check", false.into()),
        ]);
        terraform.plan("weft_network_interface", interface, None).await.unwrap();
    }
    assert!(fake.world().calls.is_empty(), "{:?}", fake.world().calls);
}
