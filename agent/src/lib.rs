//! The agent: tells the server what a card holds, and serves ranges of it.
pub mod advertise;
pub mod bucket;
pub mod clock;
pub mod config;
pub mod serve;
