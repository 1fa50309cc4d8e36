//! gapless: the server that finds the gaps of central recordings and closes them.
//!
//! In the order of the data: [`fleet`] says who is there and what they hold, [`archive`] what is here,
//! [`timeline`] what every instant's state is, [`plan`] what to do about it, [`pull`] gets it into the
//! [`spool`], [`merge`] puts it into the archive, [`playback`] shows it. [`reconcile`] ties these
//! together, [`ledger`] remembers, [`link`] and [`broker`] are the way to the devices, [`server`] starts
//! all of it, [`api`] takes orders, [`access`] says whose, [`http`] brings them over TCP, [`page`] and [`cli`] are
//! how people give them. [`authority`] issues what devices, server and broker show each other, [`tls`] reads it.

pub mod access;
pub mod api;
pub mod archive;
pub mod authority;
pub mod bandwidth;
pub mod board;
pub mod broker;
pub mod cli;
pub mod config;
mod durable;
#[cfg(test)]
mod examples;
pub mod fleet;
pub mod forecast;
pub mod horizon;
pub mod http;
pub mod job;
pub mod ledger;
pub mod link;
pub mod merge;
pub mod mode;
pub mod offset;
pub mod order;
pub mod page;
pub mod plan;
pub mod playback;
pub mod policy;
pub mod proof;
pub mod pull;
pub mod queue;
pub mod rate;
pub mod reconcile;
pub mod recut;
pub mod resolution;
pub mod retry;
pub mod rfc3339;
pub mod run;
mod schema;
pub mod seam;
pub mod server;
pub mod spool;
pub mod tally;
pub mod time;
pub mod timeline;
pub mod tls;
