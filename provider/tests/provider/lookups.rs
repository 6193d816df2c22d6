//! Objects of the network are found by id, by name, and by what else distinguishes them.

use tfplugin::Value;
use tfplugin::testing::Terraform;

use crate::samples::{full, least};
use crate::support::{Fake, attributes, connected, with};

async fn made(terraform: &Terraform, type_name: &str, config: &Value) -> Value {
    terraform.create(type_name, config.clone()).await.unwrap().get("id").clone()
}

async fn refused(terraform: &Terraform, type_name: &str, config: Value) -> String {
    terraform.data(type_name, config).await.unwrap_err().to_string()
}

#[tokio::test]
async fn each_kind_is_found_by_id_and_by_name_and_shows_what_its_resource_does() {
    #[rustfmt::skip]
    let kinds = [
        ("weft_vpc",               "name",     "office"),
        ("weft_subnet",            "name",     "desks"),
        ("weft_network_interface", "name",     "back"),
        ("weft_route_table",       "name",     "private"),
        ("weft_prefix_list",       "name",     "offices"),
        ("weft_security_group",    "name",     "web"),
        ("weft_key_pair",          "key_name", "me"),
        ("weft_elastic_ip",        "name",     "front"),
        ("weft_volume",            "name",     "data"),
        ("weft_port_forward",      "name",     "web"),
    ];
    for (type_name, attribute, name) in kinds {
        let (terraform, fake) = connected().await;
        // Another one, which is not meant.
        let other = with(&least(type_name, &terraform, &fake).await, attribute, "another");
        made(&terraform, type_name, &other).await;
        let config = full(type_name, &terraform, &fake).await;
        let state = terraform.create(type_name, config).await.unwrap();
        for asked in [("id", state.get("id").clone()), (attribute, name.into())] {
            let data = terraform.data(type_name, attributes([asked.clone()])).await.unwrap();
            for (name, value) in state.value.as_map().unwrap() {
                if name != "tags" {
                    assert_eq!(data.get(name.as_str()), value, "{type_name} by {asked:?}: {name}");
                }
            }
        }
        let nobody = refused(&terraform, type_name, attributes([(attribute, "nobody".into())]));
        let nobody = nobody.await;
        assert!(nobody.contains(&format!("{attribute} = \"nobody\"")), "{nobody}");
        let nothing = refused(&terraform, type_name, attributes([])).await;
        assert!(nothing.contains("Nothing says which"), "{nothing}");
        let both = [("id", state.get("id").clone()), (attribute, name.into())];
        let both = refused(&terraform, type_name, attributes(both)).await;
        assert!(both.contains(&format!("Either id or {attribute}")), "{both}");
    }
}

#[tokio::test]
async fn an_id_that_nobody_has_and_one_of_something_else() {
    let (terraform, _fake) = connected().await;
    let ask = |id: &str| refused(&terraform, "weft_vpc", attributes([("id", id.into())]));
    let missing = ask("vpc-0123456789abcdef0").await;
    assert!(missing.contains("does not exist"), "{missing}");
    let other = ask("subnet-0123456789abcdef0").await;
    assert!(other.contains("must be the id of a VPC"), "{other}");
}

#[tokio::test]
async fn the_default_vpc_is_the_one_that_the_agent_calls_so() {
    let (terraform, fake) = connected().await;
    let asked = || attributes([("default", true.into())]);
    let config = least("weft_vpc", &terraform, &fake).await;
    let first = made(&terraform, "weft_vpc", &config).await;
    let none = refused(&terraform, "weft_vpc", asked()).await;
    assert!(none.contains("No VPC has default = true"), "{none}");

    let second = made(&terraform, "weft_vpc", &config).await;
    fake.world().vpcs.get_mut(second.as_str().unwrap()).unwrap().is_default = true;
    let data = terraform.data("weft_vpc", asked()).await.unwrap();
    assert_eq!(data.get("id"), &second);
    assert_eq!(data.get("default").as_bool(), Some(true));
    assert!(data.get("default_security_group_id").is_set(), "{data}");
    let other = attributes([("name", "least".into()), ("default", false.into())]);
    assert_eq!(terraform.data("weft_vpc", other).await.unwrap().get("id"), &first);
    let both = refused(&terraform, "weft_vpc", attributes([("name", "least".into())])).await;
    assert!(both.contains("2 have name = \"least\""), "{both}");
    assert!(both.contains("Use id, or more of name, cidr_block, default"), "{both}");
}

/// Two VPCs, each with one of `type_name`, which are alike in all but that; each with its id.
async fn two_vpcs(terraform: &Terraform, fake: &Fake, type_name: &str) -> [(Value, Value); 2] {
    let mut both = Vec::new();
    for name in ["app", "lab"] {
        let config = with(&least("weft_vpc", terraform, fake).await, "name", name);
        let vpc = made(terraform, "weft_vpc", &config).await;
        let config = with(&least(type_name, terraform, fake).await, "vpc_id", vpc.clone());
        both.push((vpc, made(terraform, type_name, &config).await));
    }
    both.try_into().unwrap()
}

#[tokio::test]
async fn names_that_repeat_across_vpcs_are_told_apart_by_the_vpc() {
    for type_name in ["weft_subnet", "weft_security_group", "weft_route_table"] {
        let (terraform, fake) = connected().await;
        let both = two_vpcs(&terraform, &fake, type_name).await;
        let named = || attributes([("name", "least".into())]);
        for (vpc, id) in &both {
            let asked = with(&named(), "vpc_id", vpc.clone());
            let data = terraform.data(type_name, asked).await.unwrap();
            assert_eq!(data.get("id"), id, "{type_name}");
            let alone = attributes([("vpc_id", vpc.clone())]);
            assert_eq!(terraform.data(type_name, alone).await.unwrap().get("id"), id);
        }
        let several = refused(&terraform, type_name, named()).await;
        let ids = both.each_ref().map(|(_, id)| id.as_str().unwrap());
        assert!(several.contains(&ids.join(", ")), "{several}");
        let elsewhere = with(&named(), "vpc_id", "vpc-0123456789abcdef0");
        let none = refused(&terraform, type_name, elsewhere).await;
        let says = "has name = \"least\" and vpc_id = \"vpc-0123456789abcdef0\"";
        assert!(none.contains(says), "{none}");
    }
}

#[tokio::test]
async fn a_subnet_is_found_by_its_range_in_a_vpc_and_the_default_one_by_being_it() {
    let (terraform, fake) = connected().await;
    let [(vpc, subnet), (_, other)] = two_vpcs(&terraform, &fake, "weft_subnet").await;
    let ranged = attributes([("vpc_id", vpc), ("cidr_block", "10.0.2.0/24".into())]);
    assert_eq!(terraform.data("weft_subnet", ranged.clone()).await.unwrap().get("id"), &subnet);
    let free = with(&ranged, "cidr_block", "10.0.3.0/24");
    assert!(refused(&terraform, "weft_subnet", free).await.contains("10.0.3.0/24"));
    fake.world().subnets.get_mut(other.as_str().unwrap()).unwrap().is_default = true;
    let default = attributes([("default", true.into())]);
    assert_eq!(terraform.data("weft_subnet", default).await.unwrap().get("id"), &other);
}

#[tokio::test]
async fn all_subnets_of_a_vpc_are_listed() {
    let (terraform, fake) = connected().await;
    let [(vpc, first), (other_vpc, other)] = two_vpcs(&terraform, &fake, "weft_subnet").await;
    let config = attributes([
        ("name", "db".into()),
        ("vpc_id", vpc.clone()),
        ("cidr_block", "10.0.9.0/24".into()),
    ]);
    let second = made(&terraform, "weft_subnet", &config).await;
    #[rustfmt::skip]
    let cases = [
        (attributes([("vpc_id", vpc.clone())]),                               vec![first.clone(), second.clone()]),
        (attributes([("vpc_id", vpc), ("name_regex", "^d".into())]),          vec![second.clone()]),
        (attributes([("vpc_id", other_vpc)]),                                 vec![other.clone()]),
        (attributes([("name", "least".into())]),                              vec![first, other]),
        (attributes([("vpc_id", "vpc-0123456789abcdef0".into())]),            vec![]),
    ];
    for (config, want) in cases {
        let data = terraform.data("weft_subnets", config.clone()).await.unwrap();
        assert_eq!(data.get("ids").as_list().unwrap(), want, "{config}");
        let shown = data.get("subnets").as_list().unwrap();
        let shown: Vec<_> = shown.iter().map(|subnet| subnet.get("id").clone()).collect();
        assert_eq!(shown, want, "{config}");
    }
    assert_eq!(
        terraform
            .data("weft_subnets", attributes([("name", "db".into())]))
            .await
            .unwrap()
            .get("subnets[0].cidr_block"),
        &Value::from("10.0.9.0/24"),
    );
}
