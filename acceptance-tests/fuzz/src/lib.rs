//! Fuzzers: good input, spoiled at random, against whatever reads what strangers send.
//!
//! They are tests in modules that are called `fuzz`, beside what they try; by that name `make fuzz` and
//! `make test` find them. Each tries a bounded number of cases, or goes on for `WEFT_FUZZ_SECONDS`,
//! where that is set (`make test`: 20, `make fuzz`: 600). What is found is shrunk, printed, and kept
//! in `proptest-regressions`, which every later run tries first.

use std::panic::Location;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseResult, TestRunner};

/// How long each fuzzer goes on, in seconds.
pub const VARIABLE: &str = "WEFT_FUZZ_SECONDS";
/// Tried between two looks at the clock.
const ROUND: u32 = 64;

/// Tries `usual` inputs, or as many as the time lets, and panics with the least of those that fail.
///
/// # Panics
/// When `test` fails or panics.
#[track_caller]
#[expect(clippy::print_stdout, reason = "make fuzz shows how much was tried")]
pub fn fuzz<S: Strategy>(usual: u32, input: S, test: impl Fn(S::Value) -> TestCaseResult) {
    let source_file = Some(Location::caller().file());
    let seconds = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    let Some(seconds) = seconds.map(Duration::from_secs) else {
        return round(usual, source_file, &input, &test);
    };
    let begun = Instant::now();
    let mut cases = 0_u64;
    while begun.elapsed() < seconds {
        round(ROUND, source_file, &input, &test);
        cases += u64::from(ROUND);
    }
    println!("{cases} cases in {} s", begun.elapsed().as_secs());
}

#[track_caller]
fn round<S: Strategy>(
    cases: u32,
    source_file: Option<&'static str>,
    input: &S,
    test: &impl Fn(S::Value) -> TestCaseResult,
) {
    let config = ProptestConfig { cases, source_file, ..ProptestConfig::default() };
    if let Err(found) = TestRunner::new(config).run(input, test) {
        panic!("{found}");
    }
}

/// One thing done to bytes.
#[derive(Clone, Debug)]
enum Spoil {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

impl Spoil {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Set(at, value) => bytes[at.index(length)] = *value,
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << (bit % 8),
            Self::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Self::Repeat(at, count) => {
                let at = at.index(length);
                let part = bytes[at..length.min(at + count)].to_vec();
                bytes.splice(at..at, part);
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
        }
    }
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let at = any::<Index>;
    // Lengths and counts are where parsers go wrong.
    let value = prop_oneof![Just(0), Just(1), Just(0x7f), Just(0xc0), Just(0xff), any::<u8>()];
    prop_oneof![
        3 => (at(), value).prop_map(|(at, value)| Spoil::Set(at, value)),
        3 => (at(), any::<u8>()).prop_map(|(at, bit)| Spoil::Flip(at, bit)),
        1 => (at(), vec(any::<u8>(), 1..40)).prop_map(|(at, more)| Spoil::Insert(at, more)),
        1 => (at(), 1..40_usize).prop_map(|(at, count)| Spoil::Remove(at, count)),
        1 => (at(), 1..200_usize).prop_map(|(at, count)| Spoil::Repeat(at, count)),
        1 => at().prop_map(Spoil::Cut),
    ]
}

/// One of `good`, spoiled at up to eight places; sometimes not at all, and sometimes noise.
pub fn hostile(good: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let spoiled =
        (proptest::sample::select(good), vec(spoil(), 0..8)).prop_map(|(mut bytes, spoils)| {
            spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
            bytes
        });
    prop_oneof![9 => spoiled, 1 => vec(any::<u8>(), 0..700)]
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn good_input_is_spoiled_and_also_left_alone() {
        let (same, other) = (Cell::new(0), Cell::new(0));
        round(500, None, &hostile(vec![b"good".to_vec()]), &|bytes: Vec<u8>| {
            let seen = if bytes == b"good" { &same } else { &other };
            seen.set(seen.get() + 1);
            Ok(())
        });
        assert!(same.get() > 10 && other.get() > 100, "{} and {}", same.get(), other.get());
    }
}
