//! Re-cut: where it is asked for (`[archive] recut = true`), the last live recording before a hole ends where the
//! card's piece begins, so that a recorder's own playback, which plays one file after the other, shows no frame twice.
//!
//! **This is the one place where an original changes its name**, only where that is asked for, and never its bytes.
//! A shorter copy is written beside it and proved, sample by sample; then the two exchange their names in one step,
//! and the original stands in `.gapless-originals` beside, where no recorder and no index looks. Nothing is deleted.
//! `gapless originals list` tells of them, `gapless originals restore` puts one back, bit for bit. Gapless' own
//! playback and exports go on reading the original: what is known of its seams rests on frames that it holds.
//!
//! Safe, and done, only where
//! - the recorder has closed the file: a later one of its own stands in the archive, and nothing has been written to
//!   this one for a minute. Whoever has it open still, against all that, writes on into the original: an exchange
//!   moves names, not files. That is seen by the digest, and the names are exchanged back;
//! - the seam is exact: the first frame that is left out of the copy is the piece's first, slice by slice;
//! - the piece begins with a keyframe that nothing before it is needed to show (no open group of pictures);
//! - all that is left out lies in the piece: the live recording does not go on behind the hole in the same file;
//! - it is an MP4, which is written as all merged pieces are, with the time stamps it had. A shorter MPEG-TS or
//!   Matroska file would have to be written by rules that this program has no writer for: those are left alone;
//! - the file system can exchange two names (ext4, XFS, Btrfs, tmpfs can; NFS and FAT cannot). Two renames one after
//!   the other would leave an instant without any file, which an index or a player may see.
//!
//! What a recorder's own playback still shows twice: behind the hole, the piece goes on up to a group of pictures and
//! the seam margin into the next live recording, of which nothing is cut. No hole below a group of pictures remains.
//!
//! | recorded in the ledger | on disk after a crash | at the next start |
//! |---|---|---|
//! | nothing | the original under its name, at most a hidden copy | the copy is written again |
//! | `written` | the same, or both with exchanged names | told by digest: exchanged, and kept |
//! | `kept` | the copy under the name, the original beside | nothing |
//! | `restoring` | either | the person asks again |

mod copy;
mod place;
mod places;
mod task;

use std::path::{Path, PathBuf};

use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fleet::StreamKey;
use crate::merge::Source;

pub use copy::{Copied, CopyError, copy_of};
pub use place::{Cut, Left, place_of};
pub use places::{Exchanged, Places, PlacesError, RestoreRefused, exchange, restore, set_ready};
pub use task::{Task, run};

/// Beside the file whose original lies in it.
pub const FOLDER: &str = ".gapless-originals";

/// One file, by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bytes {
    pub size_bytes: u64,
    pub blake3: [u8; 32],
}

/// How far a re-cut has come. Each step is recorded before the next one begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecutState {
    /// The copy is whole and proved; names are about to be exchanged, or already are.
    Written,
    /// The copy has the name, the original is kept.
    Kept,
    /// Somebody asked for the original back.
    Restoring,
    /// It has its name again; nothing is re-cut there any more.
    Restored,
    /// The original was changed or deleted before the names were exchanged: nothing was done.
    Abandoned,
}

impl RecutState {
    pub const fn word(self) -> &'static str {
        match self {
            RecutState::Written => "written",
            RecutState::Kept => "kept",
            RecutState::Restoring => "restoring",
            RecutState::Restored => "restored",
            RecutState::Abandoned => "abandoned",
        }
    }
}

/// One re-cut, as the ledger remembers it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recut {
    pub key: StreamKey,
    /// The live recording, relative to the archive's root.
    pub path: PathBuf,
    /// The piece that begins where the copy ends.
    pub piece: PathBuf,
    pub state: RecutState,
    pub original: Bytes,
    pub copy: Bytes,
    /// Of the leading track; those that were left out follow.
    pub kept_frames: u64,
    pub left_out_frames: u64,
    pub made: Timestamp,
}

/// What was recorded under a name of the archive: the original, where a re-cut has taken its name. `range` is the
/// file's own; it becomes the original's.
pub fn as_recorded(file: PathBuf, range: TimeRange) -> (PathBuf, TimeRange) {
    let Some(original) = kept_beside(&file).filter(|original| original.is_file()) else {
        return (file, range);
    };
    match Source::open(&original) {
        Ok(source) => {
            let range = TimeRange::starting_at(range.start(), source.summary().duration);
            (original, range)
        }
        Err(error) => {
            let original = original.display();
            tracing::warn!(%original, %error, "cannot be read: its re-cut is played instead");
            (file, range)
        }
    }
}

/// Where a file's original is kept.
pub fn kept_beside(file: &Path) -> Option<PathBuf> {
    Some(file.parent()?.join(FOLDER).join(file.file_name()?))
}
