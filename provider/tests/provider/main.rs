//! The provider against a fake agent, through the encoding of the plugin protocol.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod actions;
mod bad_input;
mod captures;
mod data_sources;
mod documents;
mod failures;
mod fetches;
mod functions;
mod guards;
mod instance_types;
mod lifecycle;
mod lists;
mod lookups;
mod plans;
mod references;
mod room;
mod samples;
mod sessions;
mod support;
mod uploads;
mod volumes;
mod write_only;
