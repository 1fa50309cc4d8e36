//! Names: the copy takes the original's, and gives it back.
//!
//! All is told by digests, so that every step can be taken up again after a crash, and nothing is moved that is not
//! what the ledger says. An original is only ever moved; what is removed is a copy of ours.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::copy::bytes_of;
use super::{Bytes, FOLDER, Recut};
use crate::durable::{self, DurableError};

#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    #[error(transparent)]
    Durable(#[from] DurableError),
    #[error("{} has no name below the archive's root", path.display())]
    NoName { path: PathBuf },
    #[error("{} is taken by another file, which is left alone", path.display())]
    Taken { path: PathBuf },
}

/// Why an original cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreRefused {
    #[error(transparent)]
    Places(#[from] PlacesError),
    #[error(
        "{} is not the original that was kept: its bytes have changed; look at it, and move it by hand if it is \
         what you want",
        kept.display()
    )]
    NotTheOriginal { kept: PathBuf },
    #[error(
        "{} is neither the re-cut nor the original: somebody has written it anew; move it away first",
        name.display()
    )]
    NameTaken { name: PathBuf },
}

/// What came of giving a copy its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Exchanged {
    Kept,
    /// The original is not what was copied any more: nothing has changed its name.
    Abandoned,
}

/// The names of one re-cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// The recorder's, that players and indexes see.
    pub name: PathBuf,
    /// Where the copy is written: never an original.
    pub writing: PathBuf,
    /// Where the whole copy waits, and the original is for an instant.
    pub hidden: PathBuf,
    /// Where the original is kept.
    pub kept: PathBuf,
}

impl Places {
    /// Of a live recording, relative to the archive's root.
    pub fn of(root: &Path, path: &Path) -> Result<Places, PlacesError> {
        let name = root.join(path);
        let (Some(directory), Some(file_name)) = (name.parent(), name.file_name()) else {
            return Err(PlacesError::NoName { path: path.to_owned() });
        };
        let kept = directory.join(FOLDER).join(file_name);
        let hidden = durable::hidden_beside(&kept);
        Ok(Places { writing: durable::hidden_beside(&hidden), hidden, kept, name })
    }
}

/// Has a whole copy wait for its turn. Something may lie there of which the ledger knows nothing, as where an older
/// one was put back: that may be an original, and is left alone.
pub fn set_ready(places: &Places) -> Result<(), PlacesError> {
    match durable::publish(&places.writing, &places.hidden)? {
        durable::Publication::Done => Ok(()),
        durable::Publication::NameTaken => {
            durable::remove(&places.writing)?;
            Err(PlacesError::Taken { path: places.hidden.clone() })
        }
    }
}

/// Has the copy take the name and the original be kept; `recut` is recorded as written.
pub fn exchange(root: &Path, recut: &Recut) -> Result<Exchanged, PlacesError> {
    let places = Places::of(root, &recut.path)?;
    let Places { name, hidden, kept, .. } = &places;
    let (original, copy) = (&recut.original, &recut.copy);
    if holds(name, copy)? && holds(kept, original)? {
        return Ok(Exchanged::Kept);
    }
    if holds(hidden, copy)? {
        if !holds(name, original)? {
            durable::remove(hidden)?;
            return Ok(Exchanged::Abandoned);
        }
        if kept.exists() {
            durable::remove(hidden)?;
            return Err(PlacesError::Taken { path: kept.clone() });
        }
        if let Err(error) = durable::exchange(name, hidden) {
            durable::remove(hidden)?;
            return Err(error.into());
        }
        if !holds(hidden, original)? {
            // Written to in this very moment: it goes back under its name, with all that is in it.
            durable::exchange(name, hidden)?;
            durable::remove(hidden)?;
            return Ok(Exchanged::Abandoned);
        }
    }
    if !holds(hidden, original)? {
        return Ok(Exchanged::Abandoned);
    }
    match durable::publish(hidden, kept)? {
        durable::Publication::Done => Ok(Exchanged::Kept),
        durable::Publication::NameTaken => {
            durable::exchange(name, hidden)?;
            durable::remove(hidden)?;
            Err(PlacesError::Taken { path: kept.clone() })
        }
    }
}

/// Gives an original its name back, and removes the copy. Where the name is free, as after its owner's retention has
/// deleted it, the original stands there again all the same: a person has asked for it.
pub fn restore(root: &Path, recut: &Recut) -> Result<(), RestoreRefused> {
    let Places { name, kept, .. } = Places::of(root, &recut.path)?;
    let places = |error| RestoreRefused::Places(PlacesError::Durable(error));
    let is = |path: &Path, bytes: &Bytes| holds(path, bytes).map_err(places);
    if is(&name, &recut.original)? {
        if is(&kept, &recut.copy)? {
            durable::remove(&kept).map_err(places)?;
        }
        return Ok(());
    }
    if !is(&kept, &recut.original)? {
        return Err(RestoreRefused::NotTheOriginal { kept });
    }
    if !name.exists() {
        return match durable::publish(&kept, &name).map_err(places)? {
            durable::Publication::Done => Ok(()),
            durable::Publication::NameTaken => Err(RestoreRefused::NameTaken { name }),
        };
    }
    if !is(&name, &recut.copy)? {
        return Err(RestoreRefused::NameTaken { name });
    }
    durable::exchange(&name, &kept).map_err(places)?;
    if !is(&kept, &recut.copy)? {
        durable::exchange(&name, &kept).map_err(places)?;
        return Err(RestoreRefused::NameTaken { name });
    }
    durable::remove(&kept).map_err(places)
}

/// True where a file stands at `path` that is these bytes.
pub(super) fn holds(path: &Path, bytes: &Bytes) -> Result<bool, DurableError> {
    let size = File::open(path).and_then(|file| file.metadata()).map(|metadata| metadata.len());
    match size {
        Ok(size_bytes) if size_bytes == bytes.size_bytes => Ok(bytes_of(path)? == *bytes),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DurableError::at("open", path)(error)),
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests prepare directories that nothing has to survive"
)]
mod tests {
    use std::fs;

    use super::*;
    use crate::examples::{at, key};
    use crate::recut::RecutState;

    const ORIGINAL: &[u8] = b"the whole recording";
    const COPY: &[u8] = b"the whole";

    fn bytes(content: &[u8]) -> Bytes {
        Bytes { size_bytes: content.len() as u64, blake3: blake3::hash(content).into() }
    }

    fn recut() -> Recut {
        Recut {
            key: key(),
            path: "camera/main/a.mp4".into(),
            piece: "camera/main/b.mp4".into(),
            state: RecutState::Written,
            original: bytes(ORIGINAL),
            copy: bytes(COPY),
            kept_frames: 2,
            left_out_frames: 1,
            made: at(1),
        }
    }

    /// A copy that is written, and an original under its name.
    fn desk() -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        let places = Places::of(root.path(), &recut().path).unwrap();
        fs::create_dir_all(places.hidden.parent().unwrap()).unwrap();
        fs::write(&places.name, ORIGINAL).unwrap();
        fs::write(&places.hidden, COPY).unwrap();
        (root, places)
    }

    /// Under the name, hidden, and kept.
    fn content(places: &Places) -> [Option<Vec<u8>>; 3] {
        [&places.name, &places.hidden, &places.kept].map(|path| fs::read(path).ok())
    }

    fn kept() -> [Option<Vec<u8>>; 3] {
        [Some(COPY.to_vec()), None, Some(ORIGINAL.to_vec())]
    }

    fn untouched() -> [Option<Vec<u8>>; 3] {
        [Some(ORIGINAL.to_vec()), None, None]
    }

    #[test]
    fn the_copy_takes_the_name_the_original_is_kept_and_comes_back_bit_for_bit() {
        let (root, places) = desk();
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Kept);
        assert_eq!(content(&places), kept());
        assert_eq!(super::super::kept_beside(&places.name), Some(places.kept.clone()));
        restore(root.path(), &recut()).unwrap();
        assert_eq!(content(&places), untouched());
        restore(root.path(), &recut()).unwrap();
        assert_eq!(content(&places), untouched());
    }

    #[test]
    fn a_crash_at_any_step_is_taken_up_and_loses_no_original() {
        // Before the exchange, behind it, and with everything done.
        let (root, places) = desk();
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Kept);
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Kept);
        assert_eq!(content(&places), kept());

        let (root, places) = desk();
        durable::exchange(&places.name, &places.hidden).unwrap();
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Kept);
        assert_eq!(content(&places), kept());

        // Behind the exchange back, before the copy is removed.
        durable::exchange(&places.name, &places.kept).unwrap();
        restore(root.path(), &recut()).unwrap();
        assert_eq!(content(&places), untouched());
    }

    #[test]
    fn an_original_that_was_written_to_or_deleted_meanwhile_is_left_alone() {
        let (root, places) = desk();
        fs::write(&places.name, b"the whole recording and more").unwrap();
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Abandoned);
        assert_eq!(content(&places), [Some(b"the whole recording and more".to_vec()), None, None]);

        let (root, places) = desk();
        fs::remove_file(&places.name).unwrap();
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Abandoned);
        assert_eq!(content(&places), [None, None, None]);

        let (root, places) = desk();
        fs::write(&places.hidden, b"half a cop").unwrap();
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Abandoned);
        assert_eq!(content(&places)[0], Some(ORIGINAL.to_vec()));
    }

    #[test]
    fn an_original_that_is_kept_already_is_never_replaced() {
        let (root, places) = desk();
        fs::write(&places.kept, b"an earlier original").unwrap();
        let error = exchange(root.path(), &recut()).unwrap_err();
        assert!(matches!(error, PlacesError::Taken { .. }), "{error}");
        let earlier = Some(b"an earlier original".to_vec());
        assert_eq!(content(&places), [Some(ORIGINAL.to_vec()), None, earlier.clone()]);

        // The same, found after a crash behind the exchange.
        let (root, places) = desk();
        fs::write(&places.kept, b"an earlier original").unwrap();
        durable::exchange(&places.name, &places.hidden).unwrap();
        exchange(root.path(), &recut()).unwrap_err();
        assert_eq!(content(&places), [Some(ORIGINAL.to_vec()), None, earlier]);
    }

    #[test]
    fn what_the_ledger_does_not_know_of_is_not_written_over() {
        let (_root, places) = desk();
        fs::write(&places.hidden, ORIGINAL).unwrap();
        fs::write(&places.writing, COPY).unwrap();
        let error = set_ready(&places).unwrap_err();
        assert!(matches!(&error, PlacesError::Taken { path } if *path == places.hidden), "{error}");
        assert_eq!(fs::read(&places.hidden).unwrap(), ORIGINAL);
        fs::remove_file(&places.hidden).unwrap();
        fs::write(&places.writing, COPY).unwrap();
        set_ready(&places).unwrap();
        assert_eq!(fs::read(&places.hidden).unwrap(), COPY);
    }

    #[test]
    fn what_stands_under_the_name_by_somebody_elses_hand_is_not_replaced() {
        let (root, places) = desk();
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Kept);
        fs::write(&places.name, b"something else").unwrap();
        let refused = restore(root.path(), &recut()).unwrap_err();
        assert!(matches!(refused, RestoreRefused::NameTaken { .. }), "{refused}");
        fs::remove_file(&places.name).unwrap();
        restore(root.path(), &recut()).unwrap();
        assert_eq!(content(&places), untouched());

        let (root, places) = desk();
        assert_eq!(exchange(root.path(), &recut()).unwrap(), Exchanged::Kept);
        fs::write(&places.kept, b"rotten").unwrap();
        let refused = restore(root.path(), &recut()).unwrap_err();
        assert!(matches!(refused, RestoreRefused::NotTheOriginal { .. }), "{refused}");
        assert_eq!(fs::read(&places.name).unwrap(), COPY);
    }
}
