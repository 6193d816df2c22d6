//! Logs on standard error: text for a terminal, JSON lines for a log collector.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

/// The environment variable with a filter such as `debug` or `fabric_agent=debug,info`.
const VARIABLE: &str = "WEFT_LOG";
const DEFAULT: &str = "info";

/// Starts logging.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    match std::io::stderr().is_terminal() {
        true => registry.with(layer).init(),
        false => registry.with(layer.json().flatten_event(true).with_span_list(false)).init(),
    }
}

/// Says why the process ends.
pub(crate) fn last_words(text: &str) -> ExitCode {
    // With standard error gone there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "fabric-agent: {text}");
    ExitCode::FAILURE
}
