//! Metering: how long things were there, exactly, whatever happens to agent, host and clock. Pure.
//!
//! ```text
//!   a thing begins ─▶ Meter (open, durable) ── advance, relabel, end ─▶ Entry ─▶ DailySum
//!                      since = the moment up to which it is counted              │
//!                                                       Usage of a range ◀───────┘
//! ```
//!
//! A second is counted when a meter's `since` is moved over it, and moving it and adding what was
//! moved over to the sums is one transaction of the store: so none is counted twice or lost, at
//! whatever moment the agent dies. Lengths are differences of the machine's monotonic clock
//! ([`Moment`]); the wall clock only says on which day a second is put.

mod day;
mod meter;
mod moment;
mod price;
mod report;
mod sum;

pub use day::{Day, InvalidDay, lay};
pub use meter::{Entry, Item, Labels, Meter, Run, Sent};
pub use moment::Moment;
pub use price::{HOURS_PER_MONTH, InvalidPrices, Money, Prices};
pub use report::{Filter, GroupBy, InvalidGroupBy, Row, Usage, usage};
pub use sum::{DailySum, SumKey};
