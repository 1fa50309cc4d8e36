//! Export with proof: what an exported MP4 holds, said so that it can be checked elsewhere.
//!
//! In the order of the data: `witness` looks on while [`crate::playback`] writes the MP4 and takes digests of what
//! each run puts into it, `states` says of every instant that was asked for what the archive knows of it, `prove`
//! puts both into a `manifest`; `check` holds an MP4 against a manifest, with no server, ledger or configuration.
//!
//! A manifest proves what it names against whatever alters one of the two files. Who alters both together is found
//! out by the manifest's own digest alone, which is printed at the export, to be noted elsewhere, and told to whoever
//! keeps an audit log. It is not signed: a key that lies on the exporting machine would prove no more than that.
//! Never claims footage that the MP4 does not hold: what is called archived is counted from frames that were written.

mod check;
mod clip;
mod manifest;
mod prove;
mod sources;
mod states;
mod witness;

pub use check::{CannotCheck, Finding, Report, Subject, check};
pub use manifest::{
    Asked, Blake3, Clock, FORMAT, Known, Manifest, PieceProof, RunEntry, SeamEntry, SourceEntry,
    StateEntry, TrackEntry, TrackRun, VERSION,
};
pub use prove::{Export, Exporter, ProveError, Provenance};
pub(crate) use sources::digest_of;

/// Who wants to know how far it is. Bytes, of whatever is read.
pub trait Progress {
    /// There is so much more to do than was known.
    fn more(&self, bytes: u64);
    fn done(&self, bytes: u64);
}

/// Nobody does.
impl Progress for () {
    fn more(&self, _: u64) {}
    fn done(&self, _: u64) {}
}
