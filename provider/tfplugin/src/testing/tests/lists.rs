//! Lists, and configuration that is written.

use super::*;
use crate::{ListContext, proto, proto::provider_server::Provider as _, testing::calls};

/// Lists as many disks as `many` says; none of `broken` ones has an id.
pub(super) struct Disks {
    pub(super) seen: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl ListResource for Disks {
    fn type_name(&self) -> &str {
        DISK
    }

    fn schema(&self) -> Schema {
        Schema::new("Disks.")
            .attribute(Attribute::number("many", "How many.").default(3))
            .attribute(Attribute::string("broken", "How it fails."))
    }

    async fn list(&self, ctx: &mut ListContext) -> Result<(), Diagnostics> {
        match ctx.config.get("broken").as_str() {
            Some("fails") => return Err(Diagnostic::error("No shop").into()),
            Some("panics") => panic!("boom"),
            Some("vague") => drop(ctx.show("no id", named("a")).await),
            Some("waits") => {
                ctx.show("disk-0", Value::object([("id", "disk-0")])).await;
                ctx.cancel.cancelled().await;
            }
            Some("warns") => ctx.warn(Diagnostic::warning("One was left out")).await,
            _ => {}
        }
        for number in 0..ctx.config.read::<u32>("many")? {
            let id = format!("disk-{number}");
            if !ctx.show(&id, Value::object([("id", id.as_str())])).await {
                break;
            }
            self.seen.lock().unwrap().push(id);
        }
        self.seen.lock().unwrap().push("end".to_owned());
        Ok(())
    }
}

fn counted(count: i64) -> Value {
    Value::object([("many", count)])
}

#[tokio::test]
async fn a_list_shows_identities_and_whole_objects_where_they_are_asked_for() {
    let terraform = Terraform::new(Shop::default());
    let (found, _) = terraform.list(DISK, Value::Null, false, 100).await.unwrap();
    let names: Vec<&str> = found.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["disk-0", "disk-1", "disk-2"]);
    assert_eq!(found[1].identity.get("id").as_str(), Some("disk-1"));
    let (found, _) = terraform.list(DISK, counted(1), true, 100).await.unwrap();
    assert_eq!(found[0].object.as_ref().unwrap().get("id").as_str(), Some("disk-0"));
}

#[tokio::test]
async fn a_list_ends_at_its_limit_and_is_not_worked_out_beyond() {
    let shop = Shop::default();
    let seen = shop.seen.clone();
    let terraform = Terraform::new(shop);
    let (found, _) = terraform.list(DISK, counted(1_000_000), false, 40).await.unwrap();
    assert_eq!(found.len(), 40);
    assert_eq!(seen.lock().unwrap().len(), 39 + 1);
    let (found, _) = terraform.list(DISK, counted(70), false, 0).await.unwrap();
    assert_eq!(found.len(), 70, "no limit");
}

#[tokio::test]
async fn a_list_that_fails_says_so_and_a_warning_does_not_end_it() {
    let terraform = Terraform::new(Shop::default());
    let broken = |how: &str| Value::object([("broken", how)]);
    for (how, says) in [("fails", "No shop"), ("panics", "boom"), ("vague", "lacks id")] {
        let error = terraform.list(DISK, broken(how), false, 9).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let (found, warnings) = terraform.list(DISK, broken("warns"), false, 9).await.unwrap();
    assert_eq!((found.len(), warnings.to_string()), (3, "warning: One was left out".to_owned()));
}

#[tokio::test]
async fn a_list_ends_when_nobody_is_there_any_more() {
    let shop = Shop::default();
    let seen = shop.seen.clone();
    let terraform = Terraform::new(shop);
    let config = terraform.server.list_schema(DISK).unwrap();
    let config = config.complete(&Value::object([("broken", "waits")]));
    let ty = terraform.server.list_schema(DISK).unwrap().ty();
    let request = proto::list_resource::Request {
        type_name: DISK.to_owned(),
        config: calls::encoded(&config, &ty),
        ..Default::default()
    };
    let events = terraform.server.list_resource(tonic::Request::new(request)).await.unwrap();
    drop(events);
    while !seen.lock().unwrap().contains(&"end".to_owned()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(*seen.lock().unwrap(), ["end"], "it was told that nobody wants more");
}

#[tokio::test]
async fn a_written_configuration_has_what_a_person_would_say() {
    let terraform = Terraform::new(Shop::default());
    let mut config = named("a");
    config.set("tags", vec!["x"]);
    let disk = terraform.create(DISK, config.clone()).await.unwrap();
    let written = terraform.configuration(DISK, &disk.value).await.unwrap();
    assert_eq!(written, terraform.schema(DISK).complete(&config), "size is a default");
    assert!(terraform.plan(DISK, written, Some(&disk)).await.unwrap().is_empty());
}
