//! Where segments are placed in time when clocks are wrong: case by case, and against random histories.

#![expect(clippy::unwrap_used, reason = "what a test cannot set up is a failure")]

mod cases;
mod simulation;
mod world;
