//! Numbers: Terraform's are decimals of any size, so equality is by value, not by Rust type.

use std::{cmp::Ordering, fmt, hash};

/// A Terraform number. `Int(1)`, `Float(1.0)` and `Decimal("1.0")` are equal.
#[derive(Debug, Clone)]
pub enum Number {
    Int(i64),
    Float(f64),
    /// A number as decimal text, for what neither of the others holds exactly, such as 0.1.
    Decimal(String),
}

impl Number {
    /// The value as an integer, if it is one and fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            other => other.canonical().parse().ok(),
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::Float(float) => Some(*float),
            Self::Decimal(text) => text.parse().ok(),
        }
    }

    /// Reads decimal text; `None` when it is not a number.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = canonical(text)?;
        Some(match canonical.parse() {
            Ok(int) => Self::Int(int),
            Err(_not_an_i64) => Self::Decimal(canonical),
        })
    }

    /// The one plain decimal spelling of this value: no exponent, no needless zeros.
    pub(crate) fn canonical(&self) -> String {
        match self {
            Self::Int(int) => int.to_string(),
            // Display of f64 is the shortest decimal that reads back the same, without exponent.
            Self::Float(float) => {
                canonical(&float.to_string()).unwrap_or_else(|| float.to_string())
            }
            Self::Decimal(text) => canonical(text).unwrap_or_else(|| text.clone()),
        }
    }
}

/// Longest expansion of an exponent, so that "1e999999999" is refused instead of filling memory.
const MAX_DIGITS: usize = 1024;

fn canonical(text: &str) -> Option<String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let mut all = format!("{whole}{fraction}");
    // Where the decimal point stands in `all`; may lie outside it.
    let mut point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
    if point.unsigned_abs() > MAX_DIGITS as u64 || all.len() > MAX_DIGITS {
        return None;
    }
    while point < 0 {
        all.insert(0, '0');
        point += 1;
    }
    let point = usize::try_from(point).ok()?;
    while all.len() < point {
        all.push('0');
    }
    let (whole, fraction) = all.split_at(point);
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if negative && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
    Some(match fraction {
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    })
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A total order for sorting sets; it is not the numeric order.
impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.to_string().cmp(&b.to_string()),
            (a, b) => a.canonical().cmp(&b.canonical()),
        }
    }
}

impl hash::Hash for Number {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_by_value() {
        let equal = [("1", "1.0"), ("100", "1e2"), ("-0", "0"), ("0.015", "1.5e-2"), ("007", "7")];
        for (a, b) in equal {
            assert_eq!(Number::parse(a), Number::parse(b), "{a} = {b}");
        }
        assert_eq!(Number::Float(0.1), Number::Decimal("0.10".into()));
        assert_eq!(Number::Float(3.0), Number::Int(3));
        assert_ne!(Number::Float(3.5), Number::Int(3));
        assert_eq!(Number::Float(3.0).as_i64(), Some(3));
        assert_eq!(Number::parse("18446744073709551616").unwrap().as_i64(), None);
    }

    #[test]
    fn text_that_is_no_number_is_refused() {
        for text in ["", "-", "abc", "1.2.3", "1e", "1e999999999", "0x10", "."] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }
}
