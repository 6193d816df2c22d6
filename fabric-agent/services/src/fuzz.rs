//! Hostile bytes: valid packets, spoiled at random, against all that parses what guests send.
//!
//! A bounded number of cases in each run of the tests; `WEFT_FUZZ_CASES` sets another one. What
//! must hold: no panic, and no word about, or in the name of, anybody but the guest that asks.

mod dhcp;
mod dns;
mod http;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// How often each fuzzer tries.
pub(crate) fn config(usual: u32) -> ProptestConfig {
    let asked = std::env::var("WEFT_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(usual), ..ProptestConfig::default() }
}

/// One thing done to a packet.
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

/// One of `packets`, spoiled at up to eight places; sometimes not at all, and sometimes noise.
fn hostile(packets: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let spoiled =
        (proptest::sample::select(packets), vec(spoil(), 0..8)).prop_map(|(mut packet, spoils)| {
            spoils.iter().for_each(|spoil| spoil.apply(&mut packet));
            packet
        });
    prop_oneof![9 => spoiled, 1 => vec(any::<u8>(), 0..700)]
}
