//! Runs code of the provider so that a panic in it becomes a message, not the end of the process.

use std::future::Future;

use tracing::{Instrument, info_span};

use crate::diag::Diagnostic;

/// Runs `work` in a task of its own; `what` names it, such as "creating shop_disk".
///
/// The task goes on when the caller goes away (Terraform was killed, say): an effect that has
/// begun is not cut in the middle.
pub(super) async fn guard<T: Send + 'static>(
    what: &str,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Diagnostic> {
    match tokio::spawn(work.instrument(info_span!("call", call = what))).await {
        Ok(output) => Ok(output),
        Err(ended) => {
            let message = panic_message(ended);
            tracing::error!(what, panic = message, "the provider panicked");
            Err(Diagnostic::provider_bug(
                format!("The provider failed while {what}"),
                format!("It panicked: {message}"),
            ))
        }
    }
}

fn panic_message(ended: tokio::task::JoinError) -> String {
    let Ok(payload) = ended.try_into_panic() else {
        return "the task was aborted".to_owned();
    };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_message() {
        let diagnostic = guard("creating x", async { panic!("index {}", 7) }).await;
        let Err(diagnostic) = diagnostic.map(|(): ()| ()) else { panic!("no diagnostic") };
        assert_eq!(diagnostic.summary, "The provider failed while creating x");
        assert!(diagnostic.detail.contains("index 7"), "{}", diagnostic.detail);
    }
}
