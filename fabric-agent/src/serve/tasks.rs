//! Tasks that run until they are told to end.

use anyhow::Context as _;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

type Ended = Result<anyhow::Result<()>, JoinError>;

/// Some that are told together.
pub(super) struct Tasks {
    running: JoinSet<anyhow::Result<()>>,
    end: CancellationToken,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { running: JoinSet::new(), end: CancellationToken::new() }
    }

    /// Starts one; what it is given tells it to end.
    pub(super) fn spawn<Work>(&mut self, task: impl FnOnce(CancellationToken) -> Work)
    where
        Work: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.running.spawn(task(self.end.clone()));
    }

    /// Waits for one that ends by itself, for ever where there is none. Cancel safe.
    pub(super) async fn one_ended(&mut self) -> anyhow::Result<()> {
        match self.running.join_next().await {
            Some(ended) => outcome(ended),
            None => std::future::pending().await,
        }
    }

    /// Tells all to end, and waits until they have.
    pub(super) async fn end(&mut self) {
        self.end.cancel();
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = outcome(ended) {
                tracing::warn!(error = format!("{error:#}"), "while the agent ended");
            }
        }
    }
}

fn outcome(ended: Ended) -> anyhow::Result<()> {
    ended.context("a task of the agent panicked").flatten()
}
