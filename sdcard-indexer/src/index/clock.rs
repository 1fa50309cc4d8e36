//! The clock by which the recorders of an index name their files, as far as it has been watched.
//!
//! Keeps a [`ClockJournal`] beside the log, in a file of the log's own frames: the latest record of an epoch
//! holds. What is lost of it makes times less certain, never wrong.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::statfs::{FsType, MSDOS_SUPER_MAGIC, statfs};

use super::StreamSource;
use crate::clock::{
    Attribution, Boottime, Claim, ClockJournal, ClockReading, Corrections, Epoch, EpochId, Moment,
    NameZone, Placement, TimeSource,
};
use crate::durable::Durable;
use crate::log::record::{Record, read_frame};
use crate::segment::MODIFIED_STEP_NS;
use crate::time::Timestamp;

const FILE_NAME: &str = "clock.log";
/// The file is written anew beyond this: some 800 records, of at most 128 epochs.
const MAX_FILE_BYTES: u64 = 64 << 10;
const EXFAT_SUPER_MAGIC: FsType = FsType(0x2011_bab0);

#[derive(Debug)]
pub(super) struct Clock {
    journal: ClockJournal,
    file: Option<File>,
    /// The reading before the last.
    before: Option<Moment>,
    now: Option<Moment>,
    /// The version of the journal that segments are placed by.
    placed: u64,
}

/// Where epochs are kept.
#[derive(Debug)]
struct File {
    durable: Durable,
    folder: PathBuf,
    good_bytes: u64,
}

/// Places segments by what is known of the clock at present.
#[derive(Debug)]
pub(super) struct Placer<'a> {
    corrections: Corrections<'a>,
    pub before: Option<Moment>,
    pub now: Option<Moment>,
}

impl Placer<'_> {
    pub fn place(&self, claim: &Claim) -> Placement {
        self.corrections.place(&self.corrections.attribute(claim))
    }

    /// See [`Corrections::is_settled`].
    pub fn is_settled(&self, placement: &Placement) -> bool {
        self.corrections.is_settled(placement)
    }

    /// The instant at which the clock of an epoch showed this.
    pub fn moment(&self, epoch: EpochId, shown: Timestamp) -> Option<Moment> {
        self.corrections.moment(epoch, shown)
    }
}

impl Clock {
    pub fn new(journal: ClockJournal, folder: Option<PathBuf>, durable: &Durable) -> Self {
        let file = |folder| File { durable: durable.clone(), folder, good_bytes: 0 };
        Clock { journal, file: folder.map(file), before: None, now: None, placed: 0 }
    }

    /// Goes on from what the card's own journal says.
    pub fn load(&mut self) {
        let mut kept = ClockJournal::new(self.journal.trust());
        if let Some(file) = &mut self.file {
            file.read(|epoch| kept.restore(epoch));
        }
        kept.go_on_from(&self.journal);
        self.journal = kept;
        (self.before, self.now) = (None, self.journal.now().filter(|_| self.now.is_some()));
    }

    /// True where segments have to be placed anew.
    pub fn observe(&mut self, reading: ClockReading) -> bool {
        self.before = self.now;
        self.now = Some(self.journal.observe(reading));
        self.journal.version() != self.placed
    }

    /// What time it was, by the word of a server. Segments are placed anew with the next reading.
    pub fn told(&mut self, at: Boottime, utc: Timestamp, error: Duration) {
        // Before the first reading, the journal's last boot is another one.
        if self.now.is_some() {
            self.journal.told(at, utc, error);
        }
    }

    /// The epoch that is to be forgotten next.
    pub fn outdated(&self) -> Option<EpochId> {
        self.journal.oldest_beyond_limit()
    }

    pub fn forget(&mut self, epoch: EpochId) {
        self.journal.forget(epoch);
    }

    pub fn placer(&self) -> Placer<'_> {
        let corrections = self.journal.corrections();
        Placer { corrections, before: self.before, now: self.now }
    }

    pub fn all_is_placed(&mut self) {
        self.placed = self.journal.version();
    }

    /// True time, as far as it is known: else a time at or before it.
    pub fn utc(&self, shown: Timestamp) -> Timestamp {
        let corrections = self.journal.corrections();
        let here = |now: Moment| Attribution {
            epoch: Some(now.epoch),
            start: shown,
            uncertainty: Duration::ZERO,
            source: TimeSource::Close,
        };
        let Some(now) = self.now else { return shown };
        let placement = corrections.place(&here(now));
        match (placement.is_known(), placement.earliest()) {
            (true, _) => placement.start,
            (false, Timestamp::MIN) => shown,
            (false, earliest) => earliest,
        }
    }

    /// Keeps what is worth it. What fails is tried again with the next that is.
    pub fn save(&mut self) -> io::Result<u64> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let mut bytes = Vec::new();
        let records = |epochs: &[Epoch], bytes: &mut Vec<u8>| {
            epochs.iter().all(|epoch| Record::Epoch(epoch.clone()).write_to(bytes))
        };
        records(self.journal.take_unsaved(), &mut bytes);
        if bytes.is_empty() {
            return Ok(0);
        }
        if file.good_bytes + bytes.len() as u64 <= MAX_FILE_BYTES && file.append(&bytes).is_ok() {
            return Ok(bytes.len() as u64);
        }
        bytes.clear();
        records(self.journal.epochs(), &mut bytes);
        file.replace(&bytes).inspect_err(|_| self.journal.save_again())?;
        Ok(bytes.len() as u64)
    }
}

impl File {
    fn path(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    fn read(&mut self, mut each: impl FnMut(Epoch)) {
        // One that cannot be read is as one that is not there: the next write replaces it.
        let bytes = self.durable.disk().read(&self.path(), 2 * MAX_FILE_BYTES).unwrap_or_default();
        let mut rest = bytes.as_slice();
        while let Some((record, behind)) = read_frame(rest) {
            if let Record::Epoch(epoch) = record {
                each(epoch);
            }
            rest = behind;
        }
        self.good_bytes = (bytes.len() - rest.len()) as u64;
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.durable.create_folder(&self.folder)?;
        self.durable.append_after(&self.path(), self.good_bytes, bytes)?;
        self.good_bytes += bytes.len() as u64;
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.durable.create_folder(&self.folder)?;
        self.durable.replace(&self.path(), bytes)?;
        self.good_bytes = bytes.len() as u64;
        Ok(())
    }
}

/// How exact times of change are where a source lies, and in what zone.
pub(super) fn times_of_change(source: &StreamSource) -> (Duration, NameZone) {
    let is_fat = |kind: FsType| kind == MSDOS_SUPER_MAGIC || kind == EXFAT_SUPER_MAGIC;
    match statfs(&source.root).is_ok_and(|status| is_fat(status.filesystem_type())) {
        true => (Duration::from_secs(2), NameZone::Unknown),
        false => (Duration::from_nanos(MODIFIED_STEP_NS as u64), NameZone::Known),
    }
}
