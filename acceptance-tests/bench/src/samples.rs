//! Several measurements of one thing, and what they say together.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Measurements of one thing, in one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// Takes `work`'s time, in seconds.
    pub(crate) fn time<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work()?;
        self.push(start.elapsed().as_secs_f64());
        Ok(done)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// The nearest rank; not a number where nothing was measured.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil().max(1.0) as usize;
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn least(&self) -> f64 {
        self.percentile(0.0)
    }

    pub(crate) fn most(&self) -> f64 {
        self.percentile(100.0)
    }

    /// The ratio of the medians.
    pub(crate) fn ratio_to(&self, floor: &Self) -> f64 {
        self.median() / floor.median()
    }

    /// Median and spread, with `digits` behind the point.
    pub(crate) fn show(&self, unit: &str, digits: usize) -> String {
        let (median, least, most) = (self.median(), self.least(), self.most());
        format!(
            "{median:.digits$} {unit} ({least:.digits$} to {most:.digits$}, n = {})",
            self.count()
        )
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        for value in values {
            samples.push(value);
        }
        samples
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show("s", 2))
    }
}

/// Milliseconds with their fraction.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_measurements() {
        let samples: Samples = [5.0, 1.0, 3.0, 2.0, 4.0].into_iter().collect();
        assert_eq!((samples.least(), samples.median(), samples.most()), (1.0, 3.0, 5.0));
        assert_eq!(samples.percentile(99.0), 5.0);
        assert!(Samples::default().median().is_nan());
        assert_eq!(samples.show("ms", 1), "3.0 ms (1.0 to 5.0, n = 5)");
    }
}
