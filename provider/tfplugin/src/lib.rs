//! Write Terraform providers in Rust: plugin protocol 6, without Go and without protoc.
//!
//! # The parts
//!
//! | you write | you get |
//! |---|---|
//! | [`Provider`] | settings, [`Provider::configure`], [`Provider::on_shutdown`] (graceful end only) |
//! | [`Resource`] | plan, create, read, update, delete, import, upgrade, move |
//! | [`IdentitySchema`] | which attributes an object is known by: import by identity |
//! | [`DataSource`] | read |
//! | [`EphemeralResource`] | open, renew, close: values that are in no plan and no state |
//! | [`Action`] | plan, invoke: what is done once and has no state |
//! | [`Function`] | what it takes and gives, the result |
//! | [`ListResource`] | what there is, for `terraform query`; [`Resource::configuration`] writes it down |
//! | [`Schema`], [`Attribute`], [`Validator`] | types, defaults, checks, replacement, docs |
//!
//! `main` is one call: [`serve`]`("example.com/you/name", provider).await`.
//!
//! # Values
//!
//! [`Value`] is what Terraform sends. `value.read::<u32>("root_volume.size_gib")?` reads one
//! attribute, [`object!`] makes a struct that is read and written whole. `?` works in functions
//! that return [`Diagnostics`]. [`Known<T>`] reads what may still be unknown.
//!
//! # How a plan is made
//!
//! [`plan`] holds all rules. From configuration and prior state, in this order:
//! 1. what is configured is planned; unset attributes get their default;
//! 2. an unset computed attribute is unknown on creation and **keeps its prior value** on update;
//! 3. [`Resource::modify_plan`] may look and change: [`PlanContext::set`],
//!    [`PlanContext::mark_unknown`], [`PlanContext::replace`], warnings, errors;
//! 4. attributes with [`Attribute::replace_on_change`] that differ replace the resource;
//!    write-only attributes become null.
//!
//! # How a change is made
//!
//! `create`, `update` and `delete` get an [`ApplyContext`]: `config`, `plan`, `prior`, the
//! cancellation token `cancel`, private state, and [`ApplyContext::timeout`]. They hand back the
//! new state with [`ApplyContext::set_state`], **as soon as something exists** and as often as
//! they like: if they then return an error, panic, or are cancelled, that partial state is
//! what Terraform saves (a failed creation as tainted).
//!
//! ```no_run
//! use tfplugin::*;
//!
//! #[derive(Debug)]
//! struct Disk;
//!
//! #[async_trait]
//! impl Resource for Disk {
//!     fn type_name(&self) -> &str {
//!         "shop_disk"
//!     }
//!     fn schema(&self) -> Schema {
//!         Schema::new("A disk.")
//!             .attribute(Attribute::string("name", "Its name.").required())
//!             .attribute(Attribute::string("id", "Its id.").computed())
//!             .attribute(timeouts::attribute([timeouts::Operation::Create]))
//!     }
//!     async fn create(&self, ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
//!         let name: String = ctx.plan.read("name")?;
//!         let mut state = ctx.plan.clone();
//!         state.set("id", format!("disk-{name}"));
//!         ctx.set_state(state);
//!         Ok(())
//!     }
//!     async fn read(&self, ctx: &mut ReadContext) -> Result<(), Diagnostics> {
//!         ctx.keep(); // or ctx.set_state(value), or ctx.gone()
//!         Ok(())
//!     }
//!     async fn delete(&self, _ctx: &mut ApplyContext) -> Result<(), Diagnostics> {
//!         Ok(())
//!     }
//! }
//!
//! #[derive(Debug)]
//! struct Shop;
//!
//! #[async_trait]
//! impl Provider for Shop {
//!     fn schema(&self) -> Schema {
//!         Schema::new("The shop.")
//!     }
//!     fn resources(&self) -> Vec<Box<dyn Resource>> {
//!         vec![Box::new(Disk)]
//!     }
//! }
//!
//! # async fn main_() -> std::process::ExitCode {
//! tfplugin::serve("example.com/acme/shop", Shop).await
//! # }
//! ```
//!
//! # Tests and documents
//!
//! [`testing::Terraform`] runs a provider in the test's own process through the same encoding as
//! the wire, and fails loudly where Terraform would. [`docs`] renders `docs/*.md`.
//!
//! # Extending
//!
//! One file per family of calls lies in `src/server/`. Ephemeral resources
//! are in the `.proto` and answer "unimplemented" (or an empty list)
//! until a file for them is added there.

mod action;
mod convert;
mod cty;
mod data_source;
mod diag;
pub mod docs;
mod ephemeral;
mod function;
mod identity;
mod list;
mod log;
pub mod plan;
mod plugin;
mod private;
mod provider;
mod resource;
mod schema;
mod server;
pub mod testing;
pub mod timeouts;

pub use action::{Action, ActionContext, ActionPlanContext};
pub use async_trait::async_trait;
pub use convert::{ConvertError, FromValue, Known, ToValue};
pub use cty::{DecodeError, InvalidType, Number, Path, Step, Type, Value};
pub use data_source::{DataSource, DataSourceContext};
pub use diag::{Diagnostic, Diagnostics, Severity};
pub use ephemeral::{EphemeralContext, EphemeralResource, Opened};
pub use function::{Arguments, Function, FunctionError, Parameter, Signature};
pub use identity::IdentitySchema;
pub use list::{ListContext, ListResource};
pub use log::HclogLayer;
pub use plugin::serve;
pub use private::Private;
pub use provider::{ClientCapabilities, ConfigureContext, Provider};
pub use resource::{
    ApplyContext, DestroyPlanContext, ImportContext, MoveSource, PlanContext, ReadContext,
    Resource, ValidateContext,
};
pub use schema::{Attribute, InvalidSchema, Mode, Nesting, Schema, Validator};
pub use tokio_util::sync::CancellationToken;

/// The messages of `proto/tfplugin6.proto`.
pub(crate) mod proto {
    #![expect(clippy::allow_attributes, reason = "which of these apply is up to the generator")]
    #![allow(dead_code, missing_debug_implementations, unreachable_pub, reason = "generated")]
    tonic::include_proto!("tfplugin6");
}
