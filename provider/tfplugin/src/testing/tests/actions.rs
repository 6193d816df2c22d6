//! Actions, as Terraform invokes them.

use super::*;
use crate::{Action as _, ActionContext, ActionPlanContext, InvalidSchema};

/// Wipes a disk the way its `how` says.
struct Wipe;

#[async_trait]
impl crate::Action for Wipe {
    fn type_name(&self) -> &str {
        "shop_disk_wipe"
    }

    fn schema(&self) -> Schema {
        Schema::new("Wipes a disk.")
            .attribute(Attribute::string("disk", "Which.").required())
            .attribute(Attribute::string("how", "How.").default("well"))
            .attribute(Attribute::string("timeout", "How long."))
    }

    async fn plan(&self, ctx: &mut ActionPlanContext) -> Result<(), Diagnostics> {
        match ctx.config.get("disk").as_str() {
            Some("root") => Err(Diagnostic::error("Not the root disk").at("disk").into()),
            _ => {
                ctx.warn(Diagnostic::warning("It will be empty"));
                Ok(())
            }
        }
    }

    async fn invoke(&self, ctx: &mut ActionContext) -> Result<(), Diagnostics> {
        ctx.progress("wiping");
        ctx.duration("timeout", Duration::from_secs(1))?;
        match ctx.config.get("how").as_str() {
            Some("well") => ctx.progress("wiped"),
            Some("badly") => {
                ctx.warn(Diagnostic::warning("Half of it"));
                return Err(Diagnostic::error("It broke").into());
            }
            Some("slowly") => {
                ctx.cancel.cancelled().await;
                return Err(Diagnostic::error("Cancelled").into());
            }
            _ => panic!("the disk broke"),
        }
        Ok(())
    }
}

/// A shop that only wipes.
struct Wiper;

impl Provider for Wiper {
    fn schema(&self) -> Schema {
        Schema::new("Wipes.")
    }
    fn actions(&self) -> Vec<Box<dyn crate::Action>> {
        vec![Box::new(Wipe)]
    }
}

const WIPE: &str = "shop_disk_wipe";

fn how(how: &str) -> Value {
    Value::object([("disk", "data"), ("how", how)])
}

#[tokio::test]
async fn an_action_tells_its_progress_and_ends() {
    let terraform = Terraform::new(Wiper);
    let config = Value::object([("disk", "data")]);
    let plan = terraform.plan_action(WIPE, config.clone()).await.unwrap();
    assert_eq!(plan.to_string(), "warning: It will be empty");
    let done = terraform.invoke(WIPE, config).await;
    assert_eq!(done.progress, ["wiping", "wiped"]);
    assert!(done.diagnostics.is_empty());
}

#[tokio::test]
async fn a_plan_refuses_and_unknown_values_are_planned() {
    let terraform = Terraform::new(Wiper);
    let root = Value::object([("disk", "root")]);
    assert!(terraform.plan_action(WIPE, root).await.unwrap_err().has_errors());
    let unknown = Value::object([("disk", Value::Unknown)]);
    assert!(terraform.plan_action(WIPE, unknown.clone()).await.is_ok());
    let error = terraform.invoke(WIPE, unknown).await.diagnostics;
    assert!(error.to_string().contains("not known yet"), "{error}");
}

#[tokio::test]
async fn errors_warnings_and_panics_come_at_the_end() {
    let terraform = Terraform::new(Wiper);
    let done = terraform.invoke(WIPE, how("badly")).await;
    assert_eq!(done.diagnostics.to_string(), "warning: Half of it\nerror: It broke");
    let done = terraform.invoke(WIPE, how("wrongly")).await;
    assert_eq!(done.progress, ["wiping"]);
    assert!(done.diagnostics.to_string().contains("the disk broke"), "{}", done.diagnostics);
    let late = Value::object([("disk", "data"), ("timeout", "soon")]);
    let done = terraform.invoke(WIPE, late).await;
    assert!(done.diagnostics.to_string().contains("is not a duration"), "{}", done.diagnostics);
}

#[tokio::test]
async fn ctrl_c_cancels_an_action() {
    let terraform = Terraform::new(Wiper);
    let invoking = tokio::spawn({
        let terraform = terraform.clone();
        async move { terraform.invoke(WIPE, how("slowly")).await }
    });
    // It may come before the action has begun: then the action sees it at once.
    terraform.interrupt().await;
    assert_eq!(invoking.await.unwrap().diagnostics.to_string(), "error: Cancelled");
}

#[test]
fn an_action_has_nothing_computed_and_no_secret_to_keep() {
    struct Odd(Attribute);
    #[async_trait]
    impl crate::Action for Odd {
        fn type_name(&self) -> &str {
            "shop_odd"
        }
        fn schema(&self) -> Schema {
            Schema::new("Odd.").attribute(self.0.clone())
        }
        async fn invoke(&self, _: &mut ActionContext) -> Result<(), Diagnostics> {
            Ok(())
        }
    }
    let refused = |attribute: Attribute| -> Option<InvalidSchema> {
        let odd = Odd(attribute);
        crate::server::check_action(odd.type_name(), &odd.schema()).err()
    };
    assert!(refused(Attribute::string("id", "i").computed()).is_some());
    assert!(refused(Attribute::string("id", "i").write_only()).is_some());
    assert!(refused(Attribute::string("id", "i").replace_on_change()).is_some());
    assert!(refused(Attribute::string("id", "i").default("x")).is_none());
}
