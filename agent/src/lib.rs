//! The agent: tells the server what a card holds, and serves ranges of it.
pub mod bucket;
pub mod clock;
pub mod serve;
