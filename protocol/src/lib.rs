//! What device and server say to each other. Pure: no I/O, no clock, no async runtime.
//!
//! [`topic`] says where, [`message`] says what, [`envelope`] makes bytes of it, [`frame`] carries media
//! bytes, [`dropped`] counts what could not be used. Everything is versioned; everything from the wire
//! is checked before it is used, and nothing from the wire becomes a path.

pub mod dropped;
pub mod envelope;
pub mod frame;
pub mod message;
pub mod topic;

/// Version of every message and frame. A receiver refuses any other and names both versions.
pub const PROTOCOL_VERSION: u8 = 3;

/// Largest MQTT packet either side accepts, headers included.
pub const MAX_PACKET_BYTES: usize = 256 * 1024;

/// Largest message or frame: what a packet holds beside its header and topic (at most 160 bytes).
pub const MAX_MESSAGE_BYTES: usize = MAX_PACKET_BYTES - 1024;
