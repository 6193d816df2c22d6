//! Logs as Terraform's plugin host wants them: one hclog JSON object per line on stderr.
//!
//! Source: `log_entry.go` of hashicorp/go-plugin. `@level` and `@message` must be strings, and
//! `@timestamp` must have exactly six fractional digits, else the line counts as raw text.

use std::{
    fmt,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use serde_json::{Map, Value as Json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Longest value of one field, in bytes. The host cuts lines at 64 KiB.
const MAX_FIELD_BYTES: usize = 8 * 1024;
/// Longest line, in bytes; fields beyond it are dropped.
const MAX_LINE_BYTES: usize = 60 * 1024;

/// A tracing layer that writes hclog JSON lines, with the fields of the spans around the event.
pub struct HclogLayer<W> {
    out: Mutex<W>,
}

impl HclogLayer<io::Stderr> {
    /// Lines for Terraform, which reads stderr.
    pub fn stderr() -> Self {
        Self::new(io::stderr())
    }
}

impl<W: Write> HclogLayer<W> {
    pub fn new(out: W) -> Self {
        Self { out: Mutex::new(out) }
    }
}

impl<W> fmt::Debug for HclogLayer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HclogLayer").finish_non_exhaustive()
    }
}

/// The level that the user asked for: `TF_LOG_PROVIDER`, else `TF_LOG`, else `unset`.
pub(crate) fn level(variable: impl Fn(&str) -> Option<String>, unset: LevelFilter) -> LevelFilter {
    let asked = ["TF_LOG_PROVIDER", "TF_LOG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    match asked.map(|level| level.to_ascii_uppercase()).as_deref() {
        None => unset,
        Some("OFF") => LevelFilter::OFF,
        Some("ERROR") => LevelFilter::ERROR,
        Some("WARN") => LevelFilter::WARN,
        Some("INFO") => LevelFilter::INFO,
        Some("DEBUG") => LevelFilter::DEBUG,
        // "JSON" means trace, and so does what Terraform itself does not know.
        Some(_) => LevelFilter::TRACE,
    }
}

/// The fields of a span, kept until its events are written.
struct SpanFields(Map<String, Json>);

impl<S, W> Layer<S> for HclogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(SpanFields(fields.0));
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(kept) = span.extensions_mut().get_mut::<SpanFields>() {
            kept.0.append(&mut fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in ctx.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(kept) = span.extensions().get::<SpanFields>() {
                fields.0.extend(kept.0.clone());
            }
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = line(*metadata.level(), metadata.target(), jiff::Timestamp::now(), fields.0);
        // There is nobody to tell when stderr is gone.
        drop(self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()));
    }
}

fn line(level: Level, module: &str, at: jiff::Timestamp, mut fields: Map<String, Json>) -> String {
    let message = fields.remove("message").unwrap_or_else(|| Json::from(""));
    let level = match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warn",
        Level::ERROR => "error",
    };
    let mut entry = Map::new();
    entry.insert("@level".into(), level.into());
    entry.insert("@message".into(), message);
    entry.insert("@module".into(), module.into());
    entry.insert("@timestamp".into(), format!("{at:.6}").into());
    let mut length = 512 + entry["@message"].as_str().map_or(0, escaped_length);
    for (name, value) in fields {
        length += name.len() + 8 + value.as_str().map_or(24, escaped_length);
        if length > MAX_LINE_BYTES {
            entry.insert("log_truncated".into(), true.into());
            break;
        }
        entry.insert(name, value);
    }
    let mut line = Json::Object(entry).to_string();
    line.push('\n');
    line
}

fn escaped_length(text: &str) -> usize {
    Json::from(text).to_string().len()
}

#[derive(Default)]
struct Fields(Map<String, Json>);

impl Fields {
    fn put(&mut self, field: &Field, mut text: String) {
        if text.len() > MAX_FIELD_BYTES {
            let end = (0..=MAX_FIELD_BYTES).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or_default());
            text.push_str("...");
        }
        self.0.insert(field.name().to_owned(), text.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(emit: impl FnOnce()) -> Vec<Json> {
        let buffer = Buffer::default();
        let layer = HclogLayer::new(buffer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), emit);
        let bytes = buffer.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|line| {
                assert!(line.len() < 64 * 1024);
                serde_json::from_str(line).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_line_has_what_the_host_needs_and_the_fields_of_its_span() {
        let lines = written(|| {
            let _span = tracing::info_span!("create", disk.id = "d-1").entered();
            tracing::warn!(attempt = 2, ok = false, "slow");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["@level"], "warn");
        assert_eq!(lines[0]["@message"], "slow");
        assert_eq!(lines[0]["disk.id"], "d-1");
        assert_eq!(lines[0]["attempt"], 2);
        let at = lines[0]["@timestamp"].as_str().unwrap();
        let fraction = at.split_once('.').unwrap().1;
        assert_eq!(fraction.trim_end_matches('Z').len(), 6, "{at}");
    }

    #[test]
    fn a_long_event_stays_one_line_below_64_kib() {
        let long = "\u{1}é".repeat(200_000);
        let lines = written(|| {
            tracing::error!(a = %long, b = %long, c = %long, d = %long, "{long}");
        });
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn the_provider_variable_goes_before_the_general_one() {
        let of = |pairs: &'static [(&str, &str)]| {
            let get = move |name: &str| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            };
            level(get, LevelFilter::OFF)
        };
        assert_eq!(of(&[]), LevelFilter::OFF);
        assert_eq!(of(&[("TF_LOG", "debug")]), LevelFilter::DEBUG);
        assert_eq!(of(&[("TF_LOG", "TRACE"), ("TF_LOG_PROVIDER", "WARN")]), LevelFilter::WARN);
        assert_eq!(of(&[("TF_LOG", "JSON")]), LevelFilter::TRACE);
    }
}
