//! The agent: tells the server what a card holds, and serves ranges of it.
//!
//! In the order of the data: `card` owns the index and reads, with `courtesy` to the recorder, `advertise` decides what of its coverage is
//! told when, [`permit`] what servers may have, `serve` which bytes are sent next, and [`conversation`] makes of
//! these all that a device says and does; it is pure. `session` connects it to the card and the `link`, and `agent`
//! makes one link after the other; [`heartbeat`] is fed as they go round. It never writes to the card outside the
//! index's folder. [`diagnosis`] lets people see all of that, of a running agent and of a dead one; [`index_command`]
//! needs none of these: it answers questions about a card by itself.

mod advertise;
mod agent;
pub mod backoff;
mod bucket;
mod card;
mod clock;
pub mod config;
pub mod conversation;
mod courtesy;
pub mod diagnosis;
pub mod heartbeat;
pub mod index_command;
mod link;
mod listing;
mod network;
mod outlook;
pub mod permit;
mod serve;
mod session;
#[cfg(feature = "tls")]
mod tls;

pub use agent::{AgentError, Seen, Status, Stores, Vitals, run, run_seen, run_watched, run_with};
pub use config::Config;
