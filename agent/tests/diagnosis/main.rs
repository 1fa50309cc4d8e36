//! The commands by which people look at an agent, run as they run them: the real binary, a real mosquitto
//! (`apt-get install mosquitto`), a card in a folder, and a bare MQTT client in the server's place. Some file
//! systems are mounted, which takes root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod bundle;
mod closed;
mod doctor;
mod questions;
mod reload;
mod rig;
#[cfg(feature = "tls")]
mod tls;
