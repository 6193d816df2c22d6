//! A provider that keeps nothing anywhere: what the library's tests run real Terraform against.
//!
//! `noop_thing` behaves as its `behaviour` says; `noop_plain` is as small as a resource can be.

use std::{fs, process::ExitCode, time::Duration};

use tfplugin::{
    ApplyContext, Attribute, ConfigureContext, DataSource, DataSourceContext, Diagnostic,
    Diagnostics, ImportContext, Nesting, PlanContext, Provider, ReadContext, Resource, Schema,
    Type, Validator, Value, async_trait,
    timeouts::{self, Operation},
};

#[tokio::main]
async fn main() -> ExitCode {
    tfplugin::serve("example.com/test/noop", Noop::default()).await
}

#[derive(Debug, Default)]
struct Noop {
    /// Where the end of the provider is noted, for the tests.
    end_note: std::sync::Mutex<Option<String>>,
}

#[async_trait]
impl Provider for Noop {
    fn schema(&self) -> Schema {
        Schema::new("Does nothing.")
            .attribute(Attribute::string("end_note", "File in which a graceful end is noted."))
    }

    async fn configure(&self, ctx: &ConfigureContext) -> Diagnostics {
        tracing::info!(terraform = ctx.terraform_version, "configured");
        tracing::debug!("a detail");
        let note = ctx.config.get("end_note").as_str().map(str::to_owned);
        match self.end_note.lock() {
            Ok(mut kept) => *kept = note,
            Err(_poisoned) => return Diagnostic::error("A test panicked").into(),
        }
        Diagnostics::new()
    }

    fn resources(&self) -> Vec<Box<dyn Resource>> {
        vec![Box::new(Thing), Box::new(Plain)]
    }

    fn data_sources(&self) -> Vec<Box<dyn DataSource>> {
        vec![Box::new(Echo)]
    }

    async fn on_shutdown(&self) {
        let note = self.end_note.lock().ok().and_then(|note| note.clone());
        if let Some(Err(error)) = note.map(|path| fs::write(path, "graceful")) {
            tracing::error!(%error, "the end could not be noted");
        }
    }
}

#[derive(Debug)]
struct Thing;

#[async_trait]
impl Resource for Thing {
    fn type_name(&self) -> &str {
        "noop_thing"
    }

    fn schema(&self) -> Schema {
        let nic = [
            Attribute::string("network", "Its network.").required(),
            Attribute::number("mtu", "Its MTU in bytes.").validate(Validator::range(68..=9000)),
            Attribute::string("mac", "Its address.").computed(),
        ];
        Schema::new("A thing.")
            .attribute(Attribute::string("name", "Its name.").required())
            .attribute(
                Attribute::string("behaviour", "What it does when created.")
                    .default("works")
                    .validate(Validator::one_of(["works", "waits", "panics", "fails"])),
            )
            .attribute(Attribute::number("ratio", "A fraction.").default(0.1))
            .attribute(Attribute::string("zone", "Its zone.").replace_on_change())
            .attribute(Attribute::string("secret", "A secret.").write_only())
            .attribute(Attribute::string("label", "Its label.").deprecated("Set tags instead."))
            .attribute(Attribute::set("tags", Type::String, "Its tags."))
            .attribute(Attribute::nested("nics", Nesting::List, "Its interfaces.", nic))
            .attribute(Attribute::string("id", "Its id.").computed())
            .attribute(timeouts::attribute([Operation::Create]))
    }

    async fn modify_plan(&self, ctx: &mut PlanContext) -> Result<(), Diagnostics> {
        if ctx.config.get("name").as_str() == Some("odd") {
            ctx.warn(Diagnostic::warning("An odd name").cause("the name is odd").at("name"));
        }
        Ok(())
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        let name: String = ctx.plan.read("name")?;
        let mut state = ctx.plan.clone();
        state.set("id", format!("thing-{name}"));
        let nics = state.get("nics").as_list().map_or(0, <[Value]>::len);
        for index in 0..nics {
            state.set(format!("nics[{index}].mac"), format!("02:00:00:00:00:{index:02x}"));
        }
        ctx.set_state(state);
        ctx.set_private("made_by", "create");
        match ctx.plan.get("behaviour").as_str() {
            Some("panics") => panic!("the thing broke"),
            Some("fails") => Err(Diagnostic::error("No room")
                .cause("the shelf is full")
                .remedy("clear it")
                .into()),
            Some("waits") => {
                tracing::info!("waiting");
                let limit = ctx.timeout(Duration::from_secs(600))?;
                let ended =
                    timeouts::bounded(&ctx.cancel, limit, std::future::pending::<()>()).await;
                ended.map_err(|end| end.diagnostic("waiting for the thing", ctx.operation).into())
            }
            _ => Ok(()),
        }
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        if ctx.state.get("name").is_null() {
            let id: String = ctx.state.read("id")?;
            let mut state = ctx.state.clone();
            state.set("name", id.strip_prefix("thing-").unwrap_or(&id));
            state.set("behaviour", "works");
            state.set("ratio", 0.1);
            ctx.set_state(state);
        } else {
            ctx.keep();
        }
        Ok(())
    }

    async fn update(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        if ctx.private().get_str("made_by") != Some("create") {
            return Err(Diagnostic::error("The private state is lost").into());
        }
        ctx.set_state(ctx.plan.clone());
        Ok(())
    }

    async fn delete(&self, _ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        Ok(())
    }

    async fn import(&self, ctx: &mut ImportContext) -> Result<(), Diagnostics> {
        ctx.by("id")
    }
}

#[derive(Debug)]
struct Plain;

#[async_trait]
impl Resource for Plain {
    fn type_name(&self) -> &str {
        "noop_plain"
    }

    fn schema(&self) -> Schema {
        Schema::new("A plain thing.")
            .attribute(Attribute::string("input", "Anything.").required().replace_on_change())
    }

    async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        ctx.set_state(ctx.plan.clone());
        Ok(())
    }

    async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
        ctx.keep();
        Ok(())
    }

    async fn delete(&self, _ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
        Ok(())
    }
}

#[derive(Debug)]
struct Echo;

#[async_trait]
impl DataSource for Echo {
    fn type_name(&self) -> &str {
        "noop_echo"
    }

    fn schema(&self) -> Schema {
        Schema::new("Says what it is told.")
            .attribute(Attribute::string("say", "What to say.").default("nothing"))
            .attribute(Attribute::string("said", "What was said.").computed())
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let mut state = ctx.config.clone();
        state.set("said", ctx.config.get("say").clone());
        Ok(state)
    }
}
