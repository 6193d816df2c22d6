//! Chance that can be repeated: the seed tells all.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (xorshift64).
pub(crate) struct Dice(u64);

impl Dice {
    /// With the seed in `WEFT_SEED`, or a new one; says which.
    pub(crate) fn new() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let seed = match std::env::var("WEFT_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => u64::from(now()) | 1,
        };
        println!("WEFT_SEED={seed}");
        // Neighbouring seeds begin alike.
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.roll(2);
        }
        dice
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % sides
    }

    /// True in one of `n` cases.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}
