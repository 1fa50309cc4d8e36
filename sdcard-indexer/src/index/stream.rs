//! One stream: looks into its directories and files, and tells its table what it sees.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock::{self, Placer};
use super::problem::{ProblemKind, Told};
use super::read::{ReadError, Recording, SegmentReader};
use super::row::Key;
use super::seals::Seals;
use super::table::{Extent, Reading, Table};
use super::view::StreamView;
use super::{IndexConfig, StreamSource};
use crate::clock::{
    Claim, EpochId, InBand, Modified, Moment, NameZone, Named, Placement, TimeSource,
};
use crate::container::{self, Container, ContainerError, FileClock, Hole, InBandTime, Summary};
use crate::digest::SealedBytes;
use crate::identity::{FINGERPRINT_BYTES, SegmentId, SegmentVersion};
use crate::layout::NamedTime;
use crate::recordings::{Listed, Recordings};
use crate::scan::UnlistedReason;
use crate::segment::{Content, FileStamp, Segment, path_bytes};
use crate::time::{TimeRange, Timestamp};
use crate::watch::Hint;

#[derive(Debug)]
pub(super) struct Stream {
    pub source: StreamSource,
    pub recordings: Box<dyn Recordings>,
    pub table: Table,
    join_tolerance: Duration,
    /// See [`IndexConfig::holes_within`].
    holes_within: bool,
    /// As of the end of the last call, or of the last portion that was worth it.
    pub view: StreamView,
    /// What the view was made of; `None` where it is to be made anew.
    viewed: Option<u64>,
    /// Files read since the view was made.
    read_since: usize,
    /// Its folder could be listed when that was last tried.
    pub present: bool,
    /// What was there at the start has been read: what is sealed from here on is sealed before our eyes.
    pub caught_up: bool,
    /// How exact they are, and in what zone.
    times_of_change: (Duration, NameZone),
    /// The last look did not show everything.
    incomplete: bool,
    /// When all of it was last looked at, as far as that succeeded.
    surveyed: Option<Moment>,
    /// What this process saw of segments that are not placed for good, the first of them.
    sightings: HashMap<SegmentId, Sighting>,
    /// Of those in the log, the one that was recorded last: its epoch, and its end by that epoch's clock.
    newest_logged: Option<(EpochId, Timestamp)>,
}

/// What was seen of a segment that its file does not tell.
#[derive(Clone, Copy, Debug, Default)]
struct Sighting {
    /// Its file was not there yet.
    after: Option<Moment>,
    closed: Option<(Moment, Moment)>,
    /// It was read as it was then, when nobody knew yet that it would stay so.
    read: Option<(FileStamp, Moment)>,
}

/// What looking inside a recording shows.
struct Inside {
    reading: Reading,
    problem: Option<ProblemKind>,
    in_band: Option<InBandTime>,
    holes: Vec<Hole>,
    clock: Option<FileClock>,
}

/// A recorder may write so much later than it says, and FAT's clock be so much behind.
const WRITE_SLACK: Duration = Duration::from_secs(4);

/// Sightings that are kept; of further segments, names have to tell.
const MAX_SIGHTINGS: usize = 4_096;

/// Files whose places are looked up at once.
const PORTION: usize = 256;
/// While many files are read, the view is made anew after so many parts of them.
const PARTS: usize = 16;

/// Names are no finer than their resolution, nor are the holes between successive segments.
fn blank_table(source: &StreamSource, join_tolerance: Duration) -> Table {
    let join = join_tolerance.saturating_add(source.layout.resolution());
    Table::new(source.stream.clone(), source.layout.clone(), join)
}

/// What looking needs besides the stream.
pub(super) struct Look<'a> {
    sources: &'a [StreamSource],
    state_dir: Option<&'a Path>,
    told: &'a mut Told,
    placer: &'a Placer<'a>,
    now: Timestamp,
}

impl<'a> Look<'a> {
    pub fn new(
        config: &'a IndexConfig,
        told: &'a mut Told,
        placer: &'a Placer<'a>,
        now: Timestamp,
    ) -> Self {
        let state_dir = config.state_dir.as_deref();
        Look { sources: &config.sources, state_dir, told, placer, now }
    }

    /// Streams may share a root: a file is foreign only where no layout knows it.
    fn is_foreign(&self, path: &Path) -> bool {
        !self.sources.iter().any(|source| {
            path.strip_prefix(&source.root).is_ok_and(|path| source.layout.parse(path).is_some())
        })
    }
}

impl Stream {
    pub fn new(
        source: StreamSource,
        recordings: Box<dyn Recordings>,
        config: &IndexConfig,
    ) -> Self {
        let IndexConfig { join_tolerance, holes_within, .. } = *config;
        Stream {
            table: blank_table(&source, join_tolerance),
            join_tolerance,
            holes_within,
            source,
            recordings,
            view: StreamView::absent(),
            viewed: None,
            read_since: 0,
            present: false,
            caught_up: false,
            times_of_change: (Duration::ZERO, NameZone::Known),
            incomplete: false,
            surveyed: None,
            sightings: HashMap::new(),
            newest_logged: None,
        }
    }

    /// What the recorder's own clock said when it began this recording.
    pub fn time_of(&self, name: &Path) -> Option<NamedTime> {
        self.recordings.time_of(name, &self.source.layout)
    }

    pub fn open(&self, name: &Path) -> io::Result<Recording> {
        Recording::new(self.recordings.open(name)?)
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.table = blank_table(&self.source, self.join_tolerance);
        self.viewed = None;
        self.caught_up = false;
        self.surveyed = None;
        self.sightings.clear();
        self.newest_logged = None;
    }

    /// Brings the view up to date, and says in which window what is held or gone has changed.
    pub fn renew_view(&mut self, now: Timestamp) -> Option<TimeRange> {
        if !self.present {
            self.viewed = None;
            return self.show(StreamView { gone: self.view.gone.clone(), ..StreamView::absent() });
        }
        let version = Some(self.table.version());
        if self.viewed == version {
            self.view.final_until = self.table.final_until(now);
            return None;
        }
        self.viewed = version;
        self.read_since = 0;
        self.show(self.table.view(now))
    }

    /// As [`Stream::renew_view`], but not before a good part of the table has been read: a card is read for
    /// the first time in many small portions.
    pub fn renew_view_in_portions(&mut self, now: Timestamp) -> Option<TimeRange> {
        let worth_it = self.read_since * PARTS >= self.table.len();
        if worth_it || self.table.unread() == 0 { self.renew_view(now) } else { None }
    }

    fn show(&mut self, view: StreamView) -> Option<TimeRange> {
        let window = self.view.change_to(&view);
        self.view = view;
        window
    }

    /// Looks at all directories. Returns how many segments have gone.
    pub fn survey(&mut self, look: &mut Look<'_>) -> usize {
        self.table.begin_survey(true);
        self.present = true;
        self.viewed = None;
        self.times_of_change = clock::times_of_change(&self.source);
        let gone = self.look_into(Path::new(""), look);
        self.surveyed = look.placer.now.filter(|_| self.present && !self.incomplete);
        gone
    }

    /// Looks at what may have changed. Returns how many segments have gone.
    pub fn refresh(&mut self, hints: &[Hint], look: &mut Look<'_>) -> usize {
        self.table.begin_survey(false);
        let mut gone = 0;
        for path in self.table.open_paths() {
            gone += self.look_into(&path, look);
        }
        let own = self.recordings.hints();
        for hint in own.iter().chain(hints) {
            let Some(path) = hint.path() else {
                gone += self.look_into(Path::new(""), look);
                continue;
            };
            let Ok(path) = path.strip_prefix(&self.source.root) else { continue };
            gone += self.look_into(path, look);
            if let (Hint::Sealed(_), Some(named)) = (hint, self.time_of(path)) {
                self.table.seal(named, path);
                let closed = look.placer.before.zip(look.placer.now);
                self.sight(path, |sighting| sighting.closed = closed);
            }
        }
        gone
    }

    /// Lists what stands under this name and below. Returns how many segments have gone.
    fn look_into(&mut self, under: &Path, look: &mut Look<'_>) -> usize {
        let own = look.state_dir.and_then(|folder| folder.strip_prefix(&self.source.root).ok());
        let (source, recordings, table) = (&self.source, &*self.recordings, &mut self.table);
        let (unlisted, new) = (Vec::new(), Vec::new());
        let after = self.surveyed;
        let mut listing = Listing { source, recordings, table, own, look, after, unlisted, new };
        recordings.list(under, &mut |listed| listing.take(listed));
        let Listing { unlisted: reasons, new, .. } = listing;
        if after.is_some() {
            new.iter().for_each(|name| self.sight(name, |sighting| sighting.after = after));
        }
        self.incomplete = !reasons.is_empty();
        let mut unlisted = Vec::new();
        for (name, reason) in reasons {
            self.unlisted(&name, reason, look);
            unlisted.push(name);
        }
        self.table.bury_unseen(under, self.time_of(under), &unlisted, look.now)
    }

    fn sight(&mut self, name: &Path, see: impl FnOnce(&mut Sighting)) {
        let id = SegmentId::of(&self.source.stream, path_bytes(name));
        if self.sightings.len() < MAX_SIGHTINGS || self.sightings.contains_key(&id) {
            see(self.sightings.entry(id).or_default());
        }
    }

    /// A root that is not there is no loss as long as nothing has ever been recorded.
    fn unlisted(&mut self, path: &Path, reason: UnlistedReason, look: &mut Look<'_>) {
        if let (true, UnlistedReason::Io(_)) = (path.as_os_str().is_empty(), &reason) {
            let not_begun = reason.is_not_found() && self.table.is_blank();
            self.present = not_begun;
            if not_begun {
                return;
            }
        }
        look.told.tell(&self.source.stream, path, ProblemKind::Unlisted(reason));
    }

    /// Returns how many segments are new.
    pub fn settle(&mut self, seal_after: Duration, look: &mut Look<'_>) -> usize {
        let added = self.table.settle(look.now, seal_after);
        for segment in self.table.future() {
            look.told.tell(&self.source.stream, &segment.path, ProblemKind::Future);
        }
        added
    }

    /// What is to be read; nothing as long as it cannot be seen whether the files are there.
    pub fn to_read(&self) -> impl Iterator<Item = Key> {
        self.present.then(|| self.table.to_read()).into_iter().flatten()
    }

    pub fn unread(&self) -> usize {
        if self.present { self.table.unread() } else { 0 }
    }

    /// Opens at most `limit` files, and returns how many.
    pub fn read_unread(
        &mut self,
        limit: usize,
        seals: &mut Seals,
        told: &mut Told,
        placer: &Placer<'_>,
    ) -> usize {
        let mut read = 0;
        while read < limit {
            let portion: Vec<Key> = self.to_read().take(PORTION.min(limit - read)).collect();
            if portion.is_empty() {
                break;
            }
            portion.iter().for_each(|key| self.read_one(*key, seals, told, placer));
            read += portion.len();
        }
        self.read_since += read;
        read
    }

    fn read_one(&mut self, key: Key, seals: &mut Seals, told: &mut Told, placer: &Placer<'_>) {
        let Some(segment) = self.table.segment(key) else { return };
        let walk = self.table.is_doubted(key);
        match self.look_inside(&segment, walk, seals) {
            Ok(Inside { reading, problem, in_band, holes, clock }) => {
                if segment.sealed && self.caught_up && reading.held.is_some() {
                    seals.enqueue(segment.id);
                }
                if let Some(kind) = problem {
                    told.tell(&self.source.stream, &segment.path, kind);
                }
                if self.table.read(key, reading) {
                    self.table.set_holes(key, holes);
                    self.place(key, in_band, told, placer);
                    if let Some(clock) = clock {
                        self.table.follow_clock(key, clock, self.join_tolerance);
                        // Later, a segment that is read again would seem to have been sealed just now.
                        if !self.caught_up {
                            self.table.doubt_border(key);
                        }
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.table.unreadable(key, true);
            }
            Err(error) => {
                let kind = ProblemKind::Unreadable(error);
                told.tell(&self.source.stream, &segment.path, kind);
                self.table.unreadable(key, false);
            }
        }
    }

    /// Tier T1 of one recording, from its head and tail or, where these left a doubt, from all of it. What is
    /// wrong with it is told of a sealed one only: one that is being written may well be without its index, or
    /// torn. One with fewer bytes than its fingerprint covers is not used yet, because these would change. Of
    /// one that was altered since it was sealed, nothing behind the first altered block is looked at.
    fn look_inside(&self, segment: &Segment, walk: bool, seals: &mut Seals) -> io::Result<Inside> {
        let mut recording = self.open(&segment.path)?;
        seals.judge_head(&self.source.stream, segment, &recording);
        let intact_bytes = seals.intact_bytes(segment.id, recording.sealed_bytes());
        let (stamp, fingerprint) = (recording.stamp, recording.fingerprint);
        let size_bytes = stamp.size_bytes;
        let good_bytes = intact_bytes.unwrap_or(size_bytes);
        let mut walked = walk || intact_bytes.is_some();
        let mut in_band = None;
        let summary = match walked {
            true => container::summarise(&mut recording, good_bytes),
            false => container::extent(&mut recording, size_bytes),
        };
        let summary = match summary {
            Ok(extent) if self.is_searched(segment, extent.container) => {
                walked = true;
                self.search(segment, &mut recording, good_bytes)
            }
            summary => summary.map(|summary| (summary, Vec::new())),
        };
        let (mut holes, mut clock) = (Vec::new(), None);
        let (held, problem) = match summary {
            Ok((summary, found)) => {
                (in_band, holes, clock) = (summary.in_band, found, Some(summary.clock));
                let usable_bytes = summary.whole_bytes;
                let torn = ProblemKind::Torn { usable_bytes, size_bytes };
                let problem = summary.torn.then_some(torn);
                (Some(Extent { duration: summary.duration, usable_bytes }), problem)
            }
            Err(ContainerError::Io(error)) => return Err(error),
            Err(ContainerError::Empty) => (None, Some(ProblemKind::Empty)),
            Err(error) => (None, Some(ProblemKind::Malformed(error))),
        };
        let altered = |intact_bytes| ProblemKind::Altered { intact_bytes, size_bytes };
        let problem = intact_bytes.map(altered).or(problem);
        let sealed = segment.sealed;
        let steady = |held: &Extent| sealed || held.usable_bytes >= FINGERPRINT_BYTES as u64;
        let reading = Reading { stamp, fingerprint, held: held.filter(steady), walked };
        Ok(Inside { reading, problem: problem.filter(|_| sealed), in_band, holes, clock })
    }

    /// All of MPEG-TS is read for its times: while it is being written, that would be too often.
    fn is_searched(&self, segment: &Segment, container: Container) -> bool {
        self.holes_within && (segment.sealed || container != Container::MpegTs)
    }

    /// Looks for holes inside. What the recorder's clock showed from the segment's beginning until its file was
    /// changed last bounds how long it can be.
    fn search(
        &self,
        segment: &Segment,
        recording: &mut Recording,
        good_bytes: u64,
    ) -> Result<(Summary, Vec<Hole>), ContainerError> {
        let changed = Timestamp::from_nanos(recording.stamp.modified_ns);
        let slack = WRITE_SLACK.saturating_add(self.source.layout.resolution());
        let most = changed.since(segment.named).saturating_add(slack);
        container::summarise_with_holes(recording, good_bytes, self.join_tolerance, most)
    }

    fn place(
        &mut self,
        key: Key,
        in_band: Option<InBandTime>,
        told: &mut Told,
        placer: &Placer<'_>,
    ) {
        let Some(segment) = self.table.segment(key) else { return };
        if !segment.sealed {
            let read = placer.now.map(|now| (segment.stamp, now));
            self.sight(&segment.path, |sighting| sighting.read = read);
        }
        let placement = self.placement(&segment, in_band, placer);
        if segment.sealed && !placement.is_known() {
            told.tell(&self.source.stream, &segment.path, ProblemKind::Unplaced);
        }
        self.table.place_one(key, placement);
    }

    /// Places every segment anew that can be placed better by what is known of the clock now.
    pub fn place_all(&mut self, placer: &Placer<'_>) {
        let settled = |placement: Placement| placer.is_settled(&placement);
        for key in self.table.keys() {
            if self.table.placement(key).is_some_and(settled) {
                continue;
            }
            if let Some(segment) = self.table.segment(key) {
                self.table.place_one(key, self.placement(&segment, None, placer));
            }
        }
        let known = |id: &SegmentId| {
            self.table
                .find(*id)
                .is_some_and(|segment| !segment.sealed || !segment.placement.is_known())
        };
        self.sightings.retain(|id, _| known(id));
    }

    /// Those of this epoch stay where they are, whatever becomes known.
    pub fn settle_epoch(&mut self, epoch: EpochId) {
        for key in self.table.keys() {
            let placement = self.table.placement(key);
            if let Some(placed) = placement.filter(|placed| placed.epoch == Some(epoch)) {
                let for_good = Placement { epoch: Some(EpochId::FORGOTTEN), ..placed };
                self.table.place_one(key, for_good);
            }
        }
    }

    fn placement(
        &self,
        segment: &Segment,
        in_band: Option<InBandTime>,
        placer: &Placer<'_>,
    ) -> Placement {
        let known = segment.placement;
        let for_good = known.epoch == Some(EpochId::FORGOTTEN)
            || known.source == TimeSource::InBand && known.epoch.is_none();
        if for_good && in_band.is_none() {
            return known;
        }
        let sighting = self.sightings.get(&segment.id).copied().unwrap_or_default();
        let read = sighting.read.filter(|(stamp, _)| *stamp == segment.stamp).map(|(_, at)| at);
        let (step, zone) = self.times_of_change;
        let claim = Claim {
            in_band: in_band.as_ref().and_then(InBand::of),
            closed: sighting.closed,
            named: self.time_of(&segment.path).as_ref().map(Named::of),
            modified: Some(Modified {
                at: Timestamp::from_nanos(segment.stamp.modified_ns),
                step,
                zone,
            }),
            after: sighting.after,
            by: read.or(placer.now).filter(|_| segment.sealed),
            epoch: known.epoch,
            duration: (segment.content == Content::Held).then_some(segment.duration),
        };
        let placement = placer.place(&claim);
        if placement.is_known() || claim.after.is_some() {
            return placement;
        }
        // What the log has was recorded before what it has not.
        let logged = self.newest_logged.and_then(|(epoch, end)| placer.moment(epoch, end));
        placer.place(&Claim { after: logged, ..claim })
    }

    /// The log has this segment.
    pub fn note_logged(&mut self, placement: Placement, end_by_clock: Timestamp) {
        let logged = placement.epoch.filter(|epoch| *epoch != EpochId::FORGOTTEN);
        self.newest_logged = self.newest_logged.max(logged.map(|epoch| (epoch, end_by_clock)));
    }

    pub fn path_of(&self, id: SegmentId) -> Option<PathBuf> {
        self.table.find(id).map(|segment| self.source.root.join(&segment.path))
    }

    /// See [`super::Index::open_segment`].
    pub fn open_segment(
        &mut self,
        id: SegmentId,
        version: SegmentVersion,
        seals: &Seals,
    ) -> Result<SegmentReader, ReadError> {
        let segment = self.table.find(id).ok_or(ReadError::Gone)?;
        let recording = self.open(&segment.path)?;
        if !recording.holds(version) {
            self.table.mistrust(id);
            return Err(ReadError::Changed);
        }
        let bytes = SealedBytes { version, ..recording.sealed_bytes() };
        let stream = &self.source.stream;
        let sealed = segment.sealed.then(|| seals.find(stream, &segment, bytes)).flatten();
        Ok(recording.into_reader(version, sealed))
    }
}

/// What a store lists, on its way into the table.
struct Listing<'a, 'b> {
    source: &'a StreamSource,
    recordings: &'a dyn Recordings,
    table: &'a mut Table,
    /// The index's own folder, where it lies among the recordings.
    own: Option<&'a Path>,
    look: &'a mut Look<'b>,
    /// What is new was not there then.
    after: Option<Moment>,
    unlisted: Vec<(PathBuf, UnlistedReason)>,
    new: Vec<PathBuf>,
}

impl Listing<'_, '_> {
    fn take(&mut self, listed: Listed) {
        match listed {
            Listed::Recording { name, .. } | Listed::Directory(name) | Listed::Other(name)
                if self.own.is_some_and(|own| name.starts_with(own)) => {}
            Listed::Recording { name, stamp, sealed } => self.recording(&name, stamp, sealed),
            Listed::Directory(name) => {
                if self.time_of(&name).is_some() {
                    self.tell(&name, ProblemKind::NotAFile);
                }
            }
            Listed::Other(name) => {
                let named_so = self.time_of(&name).is_some();
                let kind = if named_so { ProblemKind::NotAFile } else { ProblemKind::Foreign };
                self.tell(&name, kind);
            }
            Listed::Unlisted(name, reason) => self.unlisted.push((name, reason)),
        }
    }

    fn recording(&mut self, name: &Path, stamp: FileStamp, sealed: bool) {
        if !sealed && self.table.observe_next(name, stamp, self.look.now) {
            return;
        }
        if let Some(named) = self.time_of(name) {
            let (placer, after) = (self.look.placer, self.after);
            let claim = Claim { named: Some(Named::of(&named)), after, ..Claim::default() };
            let place = || placer.place(&claim);
            if self.table.observe(name, named, stamp, self.look.now, place) && after.is_some() {
                self.new.push(name.to_owned());
            }
            if sealed {
                self.table.seal_once(named, name);
            }
        } else if !is_end_of_span(name, stamp) && self.look.is_foreign(&self.source.root.join(name))
        {
            self.tell(name, ProblemKind::Foreign);
        }
    }

    fn time_of(&self, name: &Path) -> Option<NamedTime> {
        self.recordings.time_of(name, &self.source.layout)
    }

    fn tell(&mut self, name: &Path, kind: ProblemKind) {
        self.look.told.tell(&self.source.stream, name, kind);
    }
}

/// The ONVIF object storage format closes a run of segments with an empty object `…_end`.
fn is_end_of_span(path: &Path, stamp: FileStamp) -> bool {
    stamp.size_bytes == 0 && path_bytes(path).ends_with(b"_end")
}
