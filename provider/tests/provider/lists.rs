//! What exists is listed, taken over by its identity, and written down so that nothing is to do.

use terraform_provider_weft::Weft;
use tfplugin::{Provider as _, Value};

use crate::samples::{RESOURCES, full, least};
use crate::support::{attributes, connected};

/// More than the tests make.
const LIMIT: i64 = 100;

#[test]
fn every_resource_has_an_identity_and_a_list() {
    let provider = Weft::new(None);
    let mut resources: Vec<String> = Vec::new();
    for resource in provider.resources() {
        assert!(resource.identity().is_some(), "{}", resource.type_name());
        resources.push(resource.type_name().to_owned());
    }
    let mut lists: Vec<String> =
        provider.list_resources().iter().map(|list| list.type_name().to_owned()).collect();
    resources.sort();
    lists.sort();
    assert_eq!(resources, lists);
}

#[tokio::test]
async fn what_exists_is_listed_whole_and_taken_over_by_its_identity() {
    for type_name in RESOURCES {
        let (terraform, fake) = connected().await;
        let config = full(type_name, &terraform, &fake).await;
        let state = terraform.create(type_name, config).await.unwrap();
        let (found, _) = terraform.list(type_name, Value::Null, true, LIMIT).await.unwrap();
        let listed = found.iter().find(|listed| Some(&listed.identity) == state.identity.as_ref());
        let listed = listed.unwrap_or_else(|| panic!("{type_name} is not listed: {found:?}"));
        assert!(!listed.name.is_empty(), "{type_name}");
        let identity = listed.identity.clone();
        let taken = terraform.import_by_identity(type_name, identity).await.unwrap().unwrap();
        assert_eq!(Some(&taken.value), listed.object.as_ref(), "{type_name}");
        let id = state.get("id").as_str().unwrap();
        let by_id = terraform.import(type_name, id).await.unwrap().unwrap();
        assert_eq!(taken, by_id, "{type_name}");
    }
}

#[tokio::test]
async fn a_written_configuration_is_valid_and_changes_nothing() {
    for type_name in RESOURCES {
        let (terraform, fake) = connected().await;
        let full = full(type_name, &terraform, &fake).await;
        let least = least(type_name, &terraform, &fake).await;
        for config in [full, least] {
            let state = terraform.create(type_name, config).await.unwrap();
            let state = terraform.refresh(&state).await.unwrap().unwrap();
            let written = terraform.configuration(type_name, &state.value).await.unwrap();
            let plan = terraform.plan(type_name, written.clone(), Some(&state)).await;
            let plan = plan.unwrap_or_else(|error| panic!("{type_name}: {error}\n{written}"));
            assert!(plan.is_empty(), "{type_name}: {written}");
            assert!(written.get("id").is_null() && written.get("tags_all").is_null());
        }
    }
}

#[tokio::test]
async fn lists_are_filtered() {
    let (terraform, fake) = connected().await;
    let config = full("weft_subnet", &terraform, &fake).await;
    let state = terraform.create("weft_subnet", config).await.unwrap();
    let name = state.get("name").clone();
    let fits = async |attribute: &str, value: Value| {
        let config = attributes([(attribute, value)]);
        terraform.list("weft_subnet", config, false, LIMIT).await.unwrap().0.len()
    };
    assert_eq!(fits("name", name.clone()).await, 1);
    assert_eq!(fits("name", "nobody".into()).await, 0);
    let part: String = name.as_str().unwrap().chars().take(2).collect();
    assert_eq!(fits("name_regex", format!("^{part}").into()).await, 1);
    assert_eq!(fits("name_regex", "^nobody".into()).await, 0);
    assert_eq!(fits("vpc_id", state.get("vpc_id").clone()).await, 1);
    assert_eq!(fits("vpc_id", "vpc-00000000000000000".into()).await, 0);
    assert_eq!(fits("tags", state.get("tags_all").clone()).await, 1);
    assert_eq!(fits("tags", Value::object([("nobody", "has")])).await, 0);

    let config = full("weft_instance", &terraform, &fake).await;
    let state = terraform.create("weft_instance", config).await.unwrap();
    for (attribute, set) in [("security_group_id", "security_group_ids"), ("key_name", "key_names")]
    {
        let one = state.get(set).as_list().unwrap()[0].clone();
        let config = attributes([(attribute, one)]);
        let (found, _) = terraform.list("weft_instance", config, false, LIMIT).await.unwrap();
        assert_eq!(found.len(), 1, "{attribute}");
    }
    let wrong = attributes([("security_group_id", "sg-1".into())]);
    let error = terraform.list("weft_instance", wrong, false, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("must be the id of a security group"), "{error}");
}
