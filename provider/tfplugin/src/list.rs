//! List resources: the objects that there are, whoever made them, for `terraform query`
//! (Terraform 1.14 and later).

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    cty::Value,
    diag::{Diagnostic, Diagnostics},
    resource::ValidateContext,
    schema::Schema,
};

/// How many objects may wait for Terraform to take them.
const BACKLOG: usize = 16;

/// Lists the objects of a resource of the same name, which has an identity.
#[async_trait]
pub trait ListResource: Send + Sync + 'static {
    /// The full name of the resource, such as `shop_disk`.
    fn type_name(&self) -> &str;

    /// What may be in the `config` block of a `list` block: filters, mostly.
    fn schema(&self) -> Schema;

    /// Checks beyond the validators of the schema. Values may be unknown.
    async fn validate(&self, _ctx: &ValidateContext) -> Diagnostics {
        Diagnostics::new()
    }

    /// Hands every object that fits to [`ListContext::show`].
    async fn list(&self, ctx: &mut ListContext) -> Result<(), Diagnostics>;
}

/// What `list` gets.
#[derive(Debug)]
pub struct ListContext {
    /// The `config` block, wholly known, defaults filled in; without one, all attributes are
    /// unset.
    pub config: Value,
    /// Cancelled when the user presses Ctrl-C, and when nobody wants more.
    pub cancel: CancellationToken,
    /// How many objects are still wanted.
    left: u64,
    rows: mpsc::Sender<Row>,
}

/// What comes out of a list.
#[derive(Debug)]
pub(crate) enum Row {
    Object { name: String, state: Value },
    Warning(Diagnostic),
}

impl ListContext {
    /// `limit`: of objects; none if it is not positive.
    pub(crate) fn new(
        config: Value,
        limit: i64,
        cancel: CancellationToken,
    ) -> (Self, mpsc::Receiver<Row>) {
        let (rows, receiver) = mpsc::channel(BACKLOG);
        let left = u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        (Self { config, cancel, left, rows }, receiver)
    }

    /// Shows an object: how people call it, and its state, which its identity is a part of.
    /// Waits while Terraform is slow. Whether more are wanted: return soon if not.
    pub async fn show(&mut self, name: impl Into<String>, state: impl Into<Value>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let row = Row::Object { name: name.into(), state: state.into() };
        self.rows.send(row).await.is_ok() && self.left > 0
    }

    /// Tells the user something without failing.
    pub async fn warn(&mut self, diagnostic: Diagnostic) {
        // Nobody is left to tell when the other side is gone.
        let _ = self.rows.send(Row::Warning(diagnostic)).await;
    }
}
