mod actions;
mod ephemeral;
mod functions;
mod identities;
mod lists;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;

use super::*;
use crate::{
    ApplyContext, Attribute, Diagnostic, IdentitySchema, ImportContext, ListResource, MoveSource,
    PlanContext, ReadContext, Resource, Type, resource::DestroyPlanContext, timeouts,
};

/// A resource whose behaviour its `name` chooses.
struct Disk {
    seen: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Resource for Disk {
    fn type_name(&self) -> &str {
        "shop_disk"
    }

    fn schema(&self) -> Schema {
        Schema::new("A disk.")
            .version(2)
            .attribute(Attribute::string("name", "Name.").required())
            .attribute(Attribute::number("size", "Size.").default(8))
            .attribute(Attribute::string("pool", "Pool.").optional().replace_on_change())
            .attribute(Attribute::string("secret", "Secret.").write_only())
            .attribute(Attribute::set("tags", Type::String, "Tags."))
            .attribute(Attribute::string("id", "Id.").computed())
            .attribute(Attribute::string("started", "Start.").computed())
            .attribute(timeouts::attribute([timeouts::Operation::Create]))
    }

    fn identity(&self) -> Option<IdentitySchema> {
        Some(IdentitySchema::new().version(1).required("id", "Id.").optional("pool", "Pool."))
    }

    async fn upgrade_identity(
        &self,
        from: i64,
        identity: serde_json::Value,
    ) -> Result<Value, Diagnostics> {
        assert_eq!(from, 0);
        Ok(Value::object([("id", identity["number"].as_str().map(|n| format!("disk-{n}")))]))
    }

    async fn moved_from(&self, source: &MoveSource) -> Result<Option<Value>, Diagnostics> {
        if source.type_name != "shop_crate" {
            return Ok(None);
        }
        let number = source.state["number"].as_str().unwrap_or_default();
        Ok(Some(Value::object([("id", format!("disk-{number}"))])))
    }

    async fn modify_plan(&self, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        if ctx.changes("size") {
            ctx.mark_unknown("started");
        }
        match ctx.config.get("name").as_str() {
            Some("liar") => ctx.set("size", 99),
            Some("refused") => return Err(Diagnostic::error("Refused").at("name").into()),
            Some("warned") => ctx.warn(Diagnostic::warning("Careful")),
            _ => {}
        }
        Ok(())
    }

    async fn plan_destroy(&self, ctx: &mut DestroyPlanContext) -> Result<(), Diagnostics> {
        match ctx.prior.get("name").as_str() {
            Some("protected") => Err(Diagnostic::error("Protected").into()),
            _ => Ok(()),
        }
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let name: String = ctx.plan.read("name")?;
        if let Some(secret) = ctx.config.get("secret").as_str() {
            self.seen.lock().unwrap().push(secret.to_owned());
        }
        let mut state = ctx.plan.clone();
        state.set("id", format!("disk-{name}"));
        ctx.set_state(state.clone());
        ctx.set_private("key", "kept");
        match name.as_str() {
            "fails" => return Err(Diagnostic::error("No space").into()),
            "panics" => panic!("boom"),
            "waits" => {
                let limit = ctx.timeout(Duration::from_secs(3600))?;
                let ready = std::future::pending::<()>();
                timeouts::bounded(&ctx.cancel, limit, ready)
                    .await
                    .map_err(|end| end.diagnostic("waiting for the disk", ctx.operation))?;
            }
            "vague" => return Ok(()),
            "unfaithful" => state.set("size", 7),
            _ => {}
        }
        state.set("started", "now");
        ctx.set_state(state);
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        assert!(ctx.state.get("name").is_null() || ctx.private().get_str("key") == Some("kept"));
        match ctx.state.get("id").as_str() {
            Some("disk-gone") => ctx.gone(),
            Some("disk-other") => {
                let mut state = ctx.state.clone();
                state.set("id", "disk-another");
                ctx.set_state(state);
            }
            Some("disk-7") => {
                let mut state = ctx.state.clone();
                state.set("name", "seven");
                state.set("size", 8);
                ctx.set_state(state);
            }
            _ => ctx.keep(),
        }
        Ok(())
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        if ctx.plan.get("name").as_str() == Some("fails") {
            return Err(Diagnostic::error("No space").into());
        }
        let mut state = ctx.plan.clone();
        if ctx.changes("started") {
            state.set("started", "later");
        }
        ctx.set_state(state);
        Ok(())
    }

    async fn delete(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        match ctx.prior.get("name").as_str() {
            Some("stuck") => Err(Diagnostic::error("Busy").into()),
            _ => Ok(()),
        }
    }

    async fn import(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        ctx.by("id")
    }

    async fn upgrade(&self, from: i64, state: serde_json::Value) -> Result<Value, Diagnostics> {
        assert_eq!(from, 1);
        Ok(Value::object([("name", state["title"].as_str().unwrap_or_default())]))
    }
}

#[derive(Default)]
struct Shop {
    seen: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Provider for Shop {
    fn schema(&self) -> Schema {
        Schema::new("The shop.").attribute(Attribute::string("url", "Where.").default("unix:/x"))
    }
    async fn configure(&self, ctx: &crate::ConfigureContext) -> Diagnostics {
        self.seen.lock().unwrap().push(ctx.config.get("url").to_string());
        Diagnostics::new()
    }
    fn resources(&self) -> Vec<Box<dyn Resource>> {
        vec![Box::new(Disk { seen: self.seen.clone() })]
    }
    fn list_resources(&self) -> Vec<Box<dyn ListResource>> {
        vec![Box::new(lists::Disks { seen: self.seen.clone() })]
    }
    async fn on_shutdown(&self) {
        self.seen.lock().unwrap().push("shutdown".to_owned());
    }
}

const DISK: &str = "shop_disk";

fn named(name: &str) -> Value {
    Value::object([("name", name)])
}

async fn created(terraform: &Terraform, name: &str) -> State {
    terraform.create(DISK, named(name)).await.unwrap()
}

#[tokio::test]
async fn a_created_resource_plans_nothing_and_can_be_destroyed() {
    let terraform = Terraform::new(Shop::default());
    let mut config = named("a");
    config.set("tags", vec!["y", "x"]);
    let disk = terraform.create(DISK, config.clone()).await.unwrap();
    assert_eq!(disk.get("id").as_str(), Some("disk-a"));
    let refreshed = terraform.refresh(&disk).await.unwrap().unwrap();
    assert!(terraform.plan(DISK, config, Some(&refreshed)).await.unwrap().is_empty());
    terraform.destroy(&refreshed).await.unwrap();
}

#[tokio::test]
async fn an_update_keeps_all_that_the_hook_does_not_mark() {
    let terraform = Terraform::new(Shop::default());
    let disk = created(&terraform, "a").await;
    let plan = terraform.plan(DISK, named("b"), Some(&disk)).await.unwrap();
    assert_eq!((plan.action, plan.planned.get("started").as_str()), (Action::Update, Some("now")));
    let mut bigger = named("a");
    bigger.set("size", 9);
    let disk = terraform.update(&disk, bigger).await.unwrap();
    assert_eq!(disk.get("started").as_str(), Some("later"));
}

#[tokio::test]
async fn a_replacing_attribute_replaces() {
    let terraform = Terraform::new(Shop::default());
    let disk = created(&terraform, "a").await;
    let mut config = named("a");
    config.set("pool", "fast");
    let plan = terraform.plan(DISK, config, Some(&disk)).await.unwrap();
    assert_eq!((plan.action, plan.replaced_by.as_slice()), (Action::Replace, &["pool".into()][..]));
    assert!(plan.planned.get("id").is_unknown());
    assert!(!plan.private().is_empty(), "what the first plan keeps reaches the second");
    assert!(terraform.apply(plan).await.into_result().unwrap().is_some());
}

#[tokio::test]
async fn a_failed_creation_is_saved_as_tainted_however_it_failed() {
    let terraform = Terraform::new(Shop::default());
    for (name, says) in
        [("fails", "No space"), ("panics", "boom"), ("vague", "started is still unknown")]
    {
        let plan = terraform.plan(DISK, named(name), None).await.unwrap();
        let applied = terraform.apply(plan).await;
        assert!(applied.diagnostics.to_string().contains(says), "{}", applied.diagnostics);
        let disk = applied.state.unwrap();
        assert!(disk.tainted, "{name}");
        assert_eq!(disk.get("id").as_str(), Some(format!("disk-{name}").as_str()));
        let again = terraform.plan(DISK, named("a"), Some(&disk)).await.unwrap();
        assert_eq!(again.action, Action::Replace);
    }
}

#[tokio::test]
async fn a_failed_update_or_deletion_keeps_the_prior_state() {
    let terraform = Terraform::new(Shop::default());
    let disk = created(&terraform, "stuck").await;
    let plan = terraform.plan(DISK, named("fails"), Some(&disk)).await.unwrap();
    assert_eq!(terraform.apply(plan).await.state, Some(disk.clone()));
    let plan = terraform.plan_destroy(&disk).await.unwrap();
    let applied = terraform.apply(plan).await;
    assert!(applied.diagnostics.has_errors());
    assert_eq!(applied.state, Some(disk));
}

#[tokio::test]
async fn ctrl_c_ends_the_waiting_and_saves_what_exists() {
    let terraform = Terraform::new(Shop::default());
    let plan = terraform.plan(DISK, named("waits"), None).await.unwrap();
    let other = terraform.clone();
    let interrupt = async {
        tokio::task::yield_now().await;
        other.interrupt().await;
    };
    let (applied, ()) = tokio::join!(terraform.apply(plan), interrupt);
    assert!(applied.diagnostics.to_string().contains("Cancelled while waiting for the disk"));
    assert!(applied.state.unwrap().tainted);
    // The next run begins afresh.
    terraform.configure(Value::Null).await.unwrap();
    created(&terraform, "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_user_ends_the_waiting() {
    let terraform = Terraform::new(Shop::default());
    let mut config = named("waits");
    config.set("timeouts.create", "90s");
    let plan = terraform.plan(DISK, config.clone(), None).await.unwrap();
    let applied = terraform.apply(plan).await;
    assert!(
        applied.diagnostics.to_string().contains("longer than 1m30s"),
        "{}",
        applied.diagnostics
    );
    config.set("timeouts.create", "soon");
    let error = terraform.plan(DISK, config, None).await.unwrap_err();
    assert_eq!(error.iter().next().unwrap().path, Some("timeouts".into()));
    assert!(error.to_string().contains("Attribute: timeouts.create"));
}

#[tokio::test]
async fn write_only_values_reach_create_and_nothing_else() {
    let shop = Shop::default();
    let seen = shop.seen.clone();
    let terraform = Terraform::new(shop);
    let mut config = named("a");
    config.set("secret", "s3cret");
    let disk = terraform.create(DISK, config).await.unwrap();
    assert!(disk.get("secret").is_null());
    assert_eq!(*seen.lock().unwrap(), ["s3cret"]);
}

#[tokio::test]
async fn a_terraform_that_would_store_write_only_values_is_refused_them() {
    let terraform = Terraform::new(Shop::default()).without_write_only();
    let mut config = named("a");
    terraform.validate(DISK, config.clone()).await.unwrap();
    config.set("secret", "s3cret");
    let error = terraform.validate(DISK, config).await.unwrap_err();
    assert!(error.to_string().contains("secret is write-only"), "{error}");
    assert!(!error.to_string().contains("s3cret"));
}

#[tokio::test]
async fn plan_hooks_refuse_warn_and_are_held_to_the_configuration() {
    let terraform = Terraform::new(Shop::default());
    let error = terraform.plan(DISK, named("refused"), None).await.unwrap_err();
    assert_eq!(error.iter().next().unwrap().path, Some("name".into()));
    let plan = terraform.plan(DISK, named("warned"), None).await.unwrap();
    assert_eq!(plan.warnings.to_string(), "warning: Careful");
    let mut liar = named("liar");
    liar.set("size", 8);
    let error = terraform.plan(DISK, liar, None).await.unwrap_err();
    assert!(error.to_string().contains("departs from the configuration at size"), "{error}");
    let disk = created(&terraform, "protected").await;
    assert!(terraform.destroy(&disk).await.is_err());
}

#[tokio::test]
#[should_panic(
    expected = "inconsistent result: the new state of shop_disk departs at size: planned 8, now 7"
)]
async fn a_provider_that_breaks_its_plan_fails_the_test() {
    created(&Terraform::new(Shop::default()), "unfaithful").await;
}

#[tokio::test]
async fn import_reads_what_is_there() {
    let terraform = Terraform::new(Shop::default());
    let disk = terraform.import(DISK, "disk-7").await.unwrap().unwrap();
    assert_eq!(disk.get("name").as_str(), Some("seven"));
    assert_eq!(terraform.import(DISK, "disk-gone").await.unwrap(), None);
    assert!(terraform.import(DISK, "").await.is_err());
}

#[tokio::test]
async fn stored_states_are_read_upgraded_or_refused() {
    let terraform = Terraform::new(Shop::default());
    let same = terraform.upgrade(DISK, 2, &json!({ "name": "a" })).await.unwrap();
    assert_eq!(same.get("name").as_str(), Some("a"));
    let old = terraform.upgrade(DISK, 1, &json!({ "title": "b" })).await.unwrap();
    assert_eq!(old.get("name").as_str(), Some("b"));
    let lost = json!({ "name": "a", "colour": "red" });
    assert_eq!(terraform.upgrade(DISK, 2, &lost).await.unwrap(), same);
    let error = terraform.upgrade(DISK, 2, &json!({ "name": ["a"] })).await.unwrap_err();
    assert!(error.to_string().contains("name: a string is needed"), "{error}");
    let error = terraform.upgrade(DISK, 3, &json!({})).await.unwrap_err();
    assert!(error.to_string().contains("too new"), "{error}");
}

#[tokio::test]
async fn settings_have_their_defaults_and_the_end_is_told() {
    let shop = Shop::default();
    let seen = shop.seen.clone();
    let terraform = Terraform::new(shop);
    terraform.configure(Value::Null).await.unwrap();
    terraform.shutdown().await;
    assert_eq!(*seen.lock().unwrap(), ["\"unix:/x\"", "shutdown"]);
}
