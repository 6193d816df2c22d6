//! Prometheus' text format: families of samples with labels. Pure.
//!
//! Source: "Exposition formats", text-based format 0.0.4, in the Prometheus documentation.

use std::fmt::Write as _;

/// The media type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only rises, but for beginning anew.
    Counter,
    /// A level.
    Gauge,
}

/// A name with its samples.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

impl Family {
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        debug_assert!(name.ends_with("_total"), "{name}");
        Self { name, kind: Kind::Counter, help, samples: Vec::new() }
    }

    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help, samples: Vec::new() }
    }

    /// Adds a sample; label values may be any text.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.samples.push((labels, value));
    }
}

/// As floating point, which all values of the format are.
#[expect(clippy::cast_precision_loss, reason = "the format has no integers beyond 2^53")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// Families as a page; those without samples are left out.
pub(super) fn page(families: &[Family]) -> String {
    let mut page = String::new();
    for Family { name, kind, help, samples } in families.iter().filter(|it| !it.samples.is_empty())
    {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing into a String cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(page, "{name}{labels} {value}");
        }
    }
    page
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_prometheus_text_and_a_label_may_be_any_text() {
        let mut bytes = Family::counter("weft_bytes_total", "Bytes.\nAll of them.");
        bytes.add(&[("name", "a \"b\"\\\nc"), ("id", "i-1")], number(1 << 40));
        bytes.add(&[], 0.5);
        let empty = Family::gauge("weft_nothing", "Nothing.");
        let want = "# HELP weft_bytes_total Bytes.\\nAll of them.\n\
                    # TYPE weft_bytes_total counter\n\
                    weft_bytes_total{name=\"a \\\"b\\\"\\\\\\nc\",id=\"i-1\"} 1099511627776\n\
                    weft_bytes_total 0.5\n";
        assert_eq!(page(&[bytes, empty]), want);
    }
}
