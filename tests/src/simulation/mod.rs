//! Whole systems in simulated time: the real cores of server and agents against everything that can go wrong.
//!
//! `reconcile::Core` and `Puller` with their engines, and the `Conversation` of each agent, run in one thread
//! against models of clocks, cards, links, a broker, a spool, a ledger, a merger and a central recorder. Nothing
//! here sleeps, nothing is written, and all that happens follows from one seed: a world that fails fails again.
//!
//! `agenda` is the order of what happens, `faults` what a world is made of and what befalls it, `happen` how that
//! is done; `card` and `device` are a camera, `network` its way and the broker, `server`, `disk` and `merger` the
//! server; `invariants` says what must hold.

mod agenda;
mod card;
mod device;
mod disk;
mod faults;
pub mod fleet;
mod happen;
mod invariants;
mod merger;
mod network;
mod server;
mod trace;
mod world;

pub use agenda::SECOND;
pub use world::{Bill, Violation};

/// A world that is not settled this long after the last fault is stuck.
const PATIENCE: agenda::Micros = 1_200 * SECOND;

/// Runs the world of this seed to its end.
pub fn run(seed: u64, verbose: bool) -> Result<Bill, Violation> {
    world::World::new(seed, verbose).run(PATIENCE)
}
