//! The commands by which people look at an agent, run as they run them: the real binary, a real mosquitto
//! (`apt-get install mosquitto`), a card in a folder, and a bare MQTT client in the server's place. Some file
//! systems are mounted, which takes root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

#[cfg(feature = "support")]
mod bundle;
mod closed;
#[cfg(feature = "support")]
mod doctor;
mod questions;
mod reload;
mod rig;
#[cfg(all(feature = "support", feature = "tls"))]
mod tls;
