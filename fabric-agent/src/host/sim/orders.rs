//! What tests order from a simulated host: steps that come late, fail or hang.
//!
//! `sim-orders.json` in the state directory is read again before each step, so it can be written
//! while the agent runs, and holds after the agent was killed. See docs/testing-modules.md.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reality::Reality;
use crate::host::{Check, CheckResult, HostError};

/// The file in the state directory.
const FILE: &str = "sim-orders.json";
/// How often a step that hangs looks whether it still has to.
const HANG_POLL: Duration = Duration::from_millis(50);

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderFile {
    orders: Vec<Order>,
}

/// One order: which steps, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// The step's name, such as `start_guest`; `*` stands for any text.
    step: String,
    /// An id or a name that the step is about; `*` stands for any text.
    #[serde(default = "anything")]
    on: String,
    /// The first step of those that match that it is for, counted from 1.
    #[serde(default = "first")]
    from: u64,
    /// How many it is for; unset: all from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    /// Wait so long before the step.
    #[serde(default)]
    delay_ms: u64,
    /// Do not begin the step while this order stands.
    #[serde(default)]
    hang: bool,
    /// Fail with this text instead of taking the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    fail: Option<String>,
    /// Whether the failure is one that may pass.
    #[serde(default = "yes")]
    retryable: bool,
}

fn anything() -> String {
    "*".to_owned()
}

fn first() -> u64 {
    1
}

fn yes() -> bool {
    true
}

impl Order {
    fn matches(&self, step: &str, subjects: &[String]) -> bool {
        let about = self.on == "*" || subjects.iter().any(|subject| glob(&self.on, subject));
        about && glob(&self.step, step)
    }

    fn is_for(&self, nth: u64) -> bool {
        let past = self.times.is_some_and(|times| nth >= self.from.saturating_add(times));
        nth >= self.from && !past
    }

    /// Why it cannot be meant.
    fn defect(&self) -> Option<&'static str> {
        match self {
            Self { step, .. } if step.is_empty() => Some("\"step\" is empty"),
            Self { from: 0, .. } => Some("\"from\" counts from 1"),
            Self { times: Some(0), .. } => Some("\"times\" is 0: remove the order"),
            Self { delay_ms: 0, hang: false, fail: None, .. } => {
                Some("it orders nothing: give \"delay_ms\", \"hang\" or \"fail\"")
            }
            _ => None,
        }
    }
}

/// Why the file is not obeyed.
#[derive(Debug, thiserror::Error)]
enum OrdersError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not valid: {source}", path.display())]
    Form { path: PathBuf, source: serde_json::Error },
    #[error("{}: order {nth} is not valid: {what}", path.display())]
    Order { path: PathBuf, nth: usize, what: &'static str },
}

/// The orders' file.
#[derive(Debug)]
pub(super) struct Orders {
    path: PathBuf,
    /// What was wrong with it when it was last read: each complaint is logged once.
    complaint: Mutex<Option<String>>,
}

impl Orders {
    pub(super) fn of(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE), complaint: Mutex::default() }
    }

    fn read(&self) -> Result<Vec<Order>, OrdersError> {
        let path = || self.path.clone();
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(OrdersError::Read { path: path(), source }),
        };
        let file: OrderFile = serde_json::from_slice(&text)
            .map_err(|source| OrdersError::Form { path: path(), source })?;
        for (index, order) in file.orders.iter().enumerate() {
            if let Some(what) = order.defect() {
                return Err(OrdersError::Order { path: path(), nth: index + 1, what });
            }
        }
        Ok(file.orders)
    }

    /// The orders as they are now; none, and a line in the log, where the file is not valid.
    fn standing(&self) -> Vec<Order> {
        let (orders, complaint) = match self.read() {
            Ok(orders) => (orders, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let mut last = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = complaint.as_ref().filter(|error| last.as_ref() != Some(*error)) {
            tracing::error!(error, "the orders of the simulated host are not obeyed");
        }
        *last = complaint;
        orders
    }

    /// Does to the step called `step` what is ordered, in the order of the file.
    ///
    /// # Errors
    /// The step is to fail.
    pub(super) async fn obey(
        &self,
        step: &str,
        subjects: &[String],
        counts: &Reality,
    ) -> Result<(), HostError> {
        let orders = self.standing();
        for order in orders.into_iter().filter(|order| order.matches(step, subjects)) {
            let text = serde_json::to_string(&order)
                .map_err(|error| HostError::new("count an order", false).caused_by(error))?;
            let nth = counts.count_match(text).await?;
            if !order.is_for(nth) {
                continue;
            }
            tracing::info!(step, nth, ?order, "obeying an order");
            tokio::time::sleep(Duration::from_millis(order.delay_ms)).await;
            while order.hang && self.standing().contains(&order) {
                tokio::time::sleep(HANG_POLL).await;
            }
            if let Some(text) = order.fail {
                return Err(HostError::new(text, order.retryable));
            }
        }
        Ok(())
    }

    /// Whether an order has `work` hang, which is no step of the agent's but goes on by itself.
    pub(super) fn hold_up(&self, work: &str, subjects: &[String]) -> bool {
        self.standing().iter().any(|order| order.hang && order.matches(work, subjects))
    }

    /// What `weft doctor` says: nothing where there is no file.
    pub(super) fn check(&self) -> Option<Check> {
        let (result, finding, remedy) = match self.read() {
            Ok(orders) if orders.is_empty() => return None,
            Ok(orders) => (
                CheckResult::Warning,
                format!("{} orders make steps late, fail or hang", orders.len()),
                format!("remove {} when the test is over", self.path.display()),
            ),
            Err(error) => (
                CheckResult::Failed,
                error.to_string(),
                "mend the file, or remove it; no order is obeyed".to_owned(),
            ),
        };
        Some(Check { name: "sim-orders", result, finding, remedy })
    }
}

/// Whether `text` is what `pattern` describes; `*` stands for any text, also none.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        #[rustfmt::skip]
        let cases = [
            ("web",      "web",      true),
            ("web",      "web-1",    false),
            ("web-*",    "web-1",    true),
            ("*-1",      "web-1",    true),
            ("*",        "",         true),
            ("w*b*1",    "web-1",    true),
            ("w*b*1",    "web-2",    false),
            ("ab*ba",    "aba",      false),
            ("*guest*",  "end_guest", true),
        ];
        for (pattern, text, want) in cases {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }

    fn order(json: &str) -> Order {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_order_is_for_the_steps_that_it_counts() {
        let order =
            order(r#"{"step": "start_guest", "on": "web-*", "from": 2, "times": 2, "fail": "no"}"#);
        assert!(order.matches("start_guest", &["i-1".to_owned(), "web-1".to_owned()]));
        assert!(!order.matches("start_guest", &["db".to_owned()]));
        assert!(!order.matches("end_guest", &["web-1".to_owned()]));
        let served: Vec<u64> = (1..6).filter(|nth| order.is_for(*nth)).collect();
        assert_eq!(served, [2, 3]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let orders = Orders::of(dir.path());
        let refusal = |text: &str| {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            orders.read().unwrap_err().to_string()
        };
        let said = refusal(r#"{"orders": [{"step": "write_seed", "fails": "x"}]}"#);
        assert!(said.contains("sim-orders.json") && said.contains("fails"), "{said}");
        let said = refusal(r#"{"orders": [{"step": "write_seed", "hang": true}, {"step": "*"}]}"#);
        assert!(said.contains("order 2") && said.contains("delay_ms"), "{said}");
        assert_eq!(orders.check().unwrap().result, CheckResult::Failed);
        assert!(orders.standing().is_empty());
        assert!(orders.complaint.lock().unwrap().is_some());
    }
}
