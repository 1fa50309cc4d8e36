//! gapless: the server that finds the gaps of central recordings and closes them.
//!
//! In the order of the data: [`fleet`] says who is there and what they hold, [`archive`] what is here,
//! [`timeline`] what every instant's state is, [`plan`] what to do about it, [`pull`] gets it through
//! [`spool`], [`merge`] puts it into the archive, [`playback`] shows it, [`ledger`] remembers, and
//! [`reconcile`] ties all of it together.

pub mod durable;
pub mod fleet;
pub mod ledger;
pub mod merge;
pub mod plan;
pub mod playback;
pub mod seam;
pub mod timeline;
