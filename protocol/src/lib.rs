//! What device and server say to each other. Pure: no I/O, no clock, no async runtime.
//!
//! [`topic`] says where, [`message`] says what, [`frame`] carries media bytes. Everything is versioned;
//! everything from the wire is checked before it is used, and nothing from the wire becomes a path.

pub mod envelope;
pub mod frame;
pub mod message;
pub mod topic;

/// Version of every message and frame. A receiver refuses newer ones and names both versions.
pub const PROTOCOL_VERSION: u8 = 1;

/// Largest MQTT packet either side accepts, headers included.
pub const MAX_PACKET_BYTES: usize = 256 * 1024;
