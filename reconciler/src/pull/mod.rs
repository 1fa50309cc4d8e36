//! Fetching parts from devices: which bytes to ask for, how fast, and what to do when they do not come.
//!
//! [`engine`] is one part's transfer as a state machine, [`window`] decides how many bytes may be
//! under way. Both are pure: they take events and a `now` and return actions, know neither sockets
//! nor files nor a clock, and so can be run through thousands of simulated failures.

pub mod driver;
pub mod engine;
pub mod puller;
#[cfg(test)]
mod simulation;
pub mod spooler;
pub mod window;

pub use crate::time::MonotonicMicros;
