//! Recordings on a disk: what is held, when exactly, and where its keyframes are.
//!
//! The same code reads a camera's card and a server's archive; a gap is the difference of two of its
//! answers. It knows no network and no async runtime, opens recordings for reading only, and trusts
//! no byte of them.
//!
//! In the order of the data: [`layout`] tells a time from a name, [`container`] tells what a file holds,
//! [`recordings`] is where they lie ([`scan`] walks a disk), [`clock`] places in UTC what a wrong clock has named,
//! [`index`] keeps the answers (and [`log`] keeps them over a restart),
//! [`watch`] says where to look again, [`coverage`] is what is held, [`cut`] is how a range of it is taken,
//! [`digest`] proves that it is what was recorded.

pub mod checksum;
pub mod clock;
pub mod container;
pub mod coverage;
pub mod cut;
pub mod digest;
pub mod durable;
pub mod identity;
pub mod index;
pub mod layout;
pub mod log;
pub mod readable;
pub mod recordings;
pub mod scan;
pub mod segment;
pub mod time;
pub mod watch;
