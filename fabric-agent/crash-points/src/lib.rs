//! Named points at which a test may have the agent die, or wait while something else dies: one at
//! every durable write and every step.
//!
//! Without the feature `enabled` a point is nothing. With it, two variables of the environment say
//! what happens:
//!
//! - `WEFT_CRASH_LOG=FILE`: the name of each point that is passed is appended to the file, a line
//!   each, so that a driver learns which there are;
//! - `WEFT_CRASH_AT=NAME[:NTH][,...]`: the process aborts when it passes the point for the nth time
//!   (unset: the first), as it does when it is killed: no destructor runs, nothing is flushed. Of
//!   several the one that it comes to first counts; its last words say which;
//! - `WEFT_PAUSE_AT=NAME[:NTH][,...]`: there the process stops, as by SIGSTOP, until it is sent SIGCONT;
//!   once, at the first of them that it comes to, which it says on standard error.

#[cfg(feature = "enabled")]
mod plan;

/// Passes a point.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(feature = "enabled")]
    plan::pass(name);
    #[cfg(not(feature = "enabled"))]
    let _ = name;
}

/// Passes a point whose name is only known here; it is not even made where nobody wants it.
#[inline]
pub fn point_with(name: impl FnOnce() -> String) {
    #[cfg(feature = "enabled")]
    plan::pass(&name());
    #[cfg(not(feature = "enabled"))]
    let _ = name;
}
