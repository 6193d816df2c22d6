//! Files by HTTP: one request for what comes from an offset on, with every way it can fail named.
//!
//! Knows nothing of images: what is fetched, where it is kept and how often it is tried is the
//! caller's.

mod client;
mod error;
mod mirror;
#[cfg(feature = "testing")]
pub mod testing;

pub use client::{Answer, FetchOptions, Fetcher, Resume};
pub use error::FetchError;
