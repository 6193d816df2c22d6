//! Hostile bytes: valid packets, spoiled at random, against all that parses what guests send.
//!
//! What must hold: no panic, and no word about, or in the name of, anybody but the guest that asks.

mod dhcp;
mod dns;
mod http;

use weft_fuzz::{fuzz, hostile};
