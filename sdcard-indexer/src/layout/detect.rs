//! Which recorder a directory is of, guessed from the names in it.
//!
//! Pure: its caller lists a directory, and decides what to do with a guess. Nothing is ever taken for
//! certain: a guess says how many files speak for it, and which other layout could have been meant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::field::{Field, Fields};
use super::template::Template;
use super::{LayoutConfig, Preset, civil, unix_nanos};
use crate::time::Timestamp;

/// Files that are weighed at once; what each such batch says is added up.
const BATCH: usize = 4_096;

/// Cameras that are told of one layout.
const MAX_CAMERAS: usize = 64;

/// A layout's names may begin so many directories below the one that was listed.
const MAX_ROOT_DEPTH: usize = 6;

/// Pairs of preset and root that are kept, those with most files.
const MAX_CANDIDATES: usize = 64;

/// What else may be a recording; other files speak neither for nor against a layout.
const MEDIA_EXTENSIONS: [&str; 7] = ["mp4", "ts", "mkv", "mov", "m4v", "m2ts", "avi"];

/// A name may be so far ahead of now: a camera in local time at UTC+14, or a clock that is a little fast.
const FUTURE_TOLERANCE: Duration = Duration::from_secs(15 * 3_600);

/// A lesser number, as in `06-30.mp4`, is rather taken for something else than Unix seconds.
const MIN_UNIX_SECONDS: i64 = 100_000_000;

/// All offsets of time zones are multiples of this.
const OFFSET_STEP_MINUTES: usize = 15;
const OFFSETS_MINUTES: std::ops::RangeInclusive<i32> = -12 * 60..=14 * 60;

/// FAT keeps modification times in steps of 2 s.
const MODIFIED_EARLY: Duration = Duration::from_secs(3);
/// A recorder may begin its next file before it has closed the last one.
const MODIFIED_LATE: Duration = Duration::from_secs(120);

/// A file of the directory whose layout is sought, given in the order in which a walk comes by.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Relative to that directory.
    pub path: PathBuf,
    /// As the file system has it; on FAT a local time, read as if it were UTC.
    pub modified: Option<Timestamp>,
}

/// A layout that a directory may have.
#[derive(Clone, PartialEq, Debug)]
pub struct Guess {
    pub preset: Preset,
    /// Where the layout's names begin, relative to the directory that was listed.
    pub root: PathBuf,
    /// The cameras in it, where the layout tells them apart; each is a stream.
    pub cameras: Vec<String>,
    /// Files of this layout, out of those under the root that look like recordings and are not of a
    /// layout that begins further down.
    pub matched: usize,
    pub of: usize,
    /// Names that lie in the future.
    pub future: usize,
    /// Names that tell the same instant, of the same camera, as another.
    pub repeated: usize,
    /// How far the names are ahead of UTC, as far as the files' modification times tell, and tell the same
    /// all along. Not every way of copying a card keeps these times.
    pub utc_offset_minutes: Option<i32>,
    /// Other presets that are at least as convincing below the same root.
    pub rivals: Vec<Preset>,
}

impl Guess {
    /// 0 to 100. The share of files that match, times the share of these with a time of their own that has
    /// come already, times n / (n + 1) for n files, so that few files convince little.
    pub fn confidence(&self) -> u8 {
        let good = self.matched.saturating_sub(self.future + self.repeated);
        let percent = 100 * good * self.matched / (self.of.max(1) * (self.matched + 1));
        u8::try_from(percent).unwrap_or(100)
    }

    /// What speaks for the guess, and what against it, in a few words for people.
    pub fn reason(&self) -> String {
        let mut reason = format!("{} of {} recordings are named so", self.matched, self.of);
        let mut add = |count: usize, what: &str| {
            if count > 0 {
                reason.push_str(&format!(", {count} {what}"));
            }
        };
        add(self.future, "of them in the future");
        add(self.repeated, "of them like another");
        match self.utc_offset_minutes {
            Some(0) => reason.push_str("; they are in UTC, by the files' modification times"),
            Some(minutes) => reason.push_str(&format!(
                "; they are at UTC{}, by the files' modification times",
                offset_text(minutes)
            )),
            None => {}
        }
        if !self.rivals.is_empty() {
            let rivals: Vec<_> = self.rivals.iter().map(|preset| preset.name()).collect();
            reason.push_str(&format!("; could as well be {}", rivals.join(" or ")));
        }
        reason
    }

    /// Takes in what another batch of the same files says.
    fn merge(&mut self, other: Guess) {
        self.matched += other.matched;
        self.of += other.of;
        self.future += other.future;
        self.repeated += other.repeated;
        if self.utc_offset_minutes != other.utc_offset_minutes {
            self.utc_offset_minutes = None;
        }
        self.cameras.extend(other.cameras);
        self.cameras.sort_unstable();
        self.cameras.dedup();
        self.cameras.truncate(MAX_CAMERAS);
    }

    fn rivals_in(&self, guesses: &[Guess]) -> Vec<Preset> {
        let as_good = |other: &&Guess| {
            other.root == self.root
                && other.preset != self.preset
                && other.confidence() >= self.confidence()
        };
        guesses.iter().filter(as_good).map(|rival| rival.preset).collect()
    }

    /// One layout for each camera, or one where there is but one; with the time zone if it is known.
    pub fn configs(&self) -> Vec<LayoutConfig> {
        let time_zone = match self.utc_offset_minutes {
            _ if self.preset.is_always_utc() => None,
            offset => offset.map(|minutes| match minutes {
                0 => "UTC".to_owned(),
                _ => offset_text(minutes),
            }),
        };
        let config =
            LayoutConfig { layout: Some(self.preset), time_zone, ..LayoutConfig::default() };
        if self.cameras.is_empty() {
            return vec![config];
        }
        let of_camera = |camera| LayoutConfig { camera: Some(camera), ..config.clone() };
        self.cameras.iter().cloned().map(of_camera).collect()
    }
}

/// The layouts that a directory may have, most convincing first; none where no name fits any.
///
/// A directory may well be of several: a recording of each encoder output below a root of its own.
pub fn detect(samples: impl IntoIterator<Item = Sample>, now: Timestamp) -> Vec<Guess> {
    let presets = Preset::ALL.map(Candidate::new);
    let mut samples = samples.into_iter().filter(|sample| is_media(&sample.path));
    let mut guesses: Vec<Guess> = Vec::new();
    loop {
        let batch: Vec<Sample> = samples.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        for guess in weigh_batch(&presets, &batch, now) {
            let alike =
                |known: &&mut Guess| (known.preset, &known.root) == (guess.preset, &guess.root);
            match guesses.iter_mut().find(alike) {
                Some(known) => known.merge(guess),
                None => guesses.push(guess),
            }
        }
        guesses.sort_by_key(|guess| Reverse(guess.matched));
        guesses.truncate(MAX_CANDIDATES);
    }
    let rivals: Vec<Vec<Preset>> = guesses.iter().map(|guess| guess.rivals_in(&guesses)).collect();
    for (guess, rivals) in guesses.iter_mut().zip(rivals) {
        guess.rivals = rivals;
    }
    guesses.sort_by(|one, other| {
        let weight = |guess: &Guess| (guess.confidence(), guess.matched);
        weight(other).cmp(&weight(one)).then_with(|| one.root.cmp(&other.root))
    });
    guesses
}

fn weigh_batch(presets: &[Candidate], samples: &[Sample], now: Timestamp) -> Vec<Guess> {
    let mut found: BTreeMap<(&Path, Preset), Vec<Match<'_>>> = BTreeMap::new();
    let mut deepest: Vec<Option<usize>> = vec![None; samples.len()];
    for ((index, sample), deepest) in samples.iter().enumerate().zip(&mut deepest) {
        for candidate in presets {
            let Some((root, named)) = candidate.find(sample, index) else { continue };
            *deepest = (*deepest).max(Some(root.components().count()));
            found.entry((root, candidate.preset)).or_default().push(named);
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, matches)| Reverse(matches.len()));
    found.truncate(MAX_CANDIDATES);
    let weigh = |((root, preset), matches): ((&Path, Preset), Vec<Match<'_>>)| {
        let depth = Some(root.components().count());
        let matching: BTreeSet<usize> = matches.iter().map(|found| found.index).collect();
        let of = samples.iter().zip(&deepest).enumerate().filter(|(index, (sample, deepest))| {
            matching.contains(index) || sample.path.starts_with(root) && **deepest <= depth
        });
        weigh(preset, root, of.count(), matches, now)
    };
    found.into_iter().map(weigh).collect()
}

fn is_media(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        MEDIA_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

struct Candidate {
    preset: Preset,
    templates: Vec<Template>,
}

/// A sample that is of a layout.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Match<'a> {
    camera: Option<&'a str>,
    /// What the name tells, read as if it were UTC.
    start: Timestamp,
    modified: Option<Timestamp>,
    /// Unix seconds: no time zone can be told from it.
    is_unix: bool,
    index: usize,
}

impl Candidate {
    fn new(preset: Preset) -> Candidate {
        let templates = preset.templates().iter().map(|text| Template::of_any_camera(text));
        let templates = templates.collect::<Result<_, _>>().expect("presets are well-formed");
        Candidate { preset, templates }
    }

    /// With the root that is nearest to the top.
    fn find<'a>(&self, sample: &'a Sample, index: usize) -> Option<(&'a Path, Match<'a>)> {
        let path = sample.path.to_str()?;
        let ends = std::iter::once(0).chain(path.match_indices('/').map(|(slash, _)| slash + 1));
        ends.take(MAX_ROOT_DEPTH + 1).find_map(|begin| {
            let (root, name) = path.split_at_checked(begin)?;
            let mut templates = self.templates.iter();
            let (fields, camera) =
                templates.find_map(|template| template.read_camera(name.as_bytes()))?;
            let camera = camera.and_then(|camera| std::str::from_utf8(camera).ok());
            let (start, is_unix) =
                (start_in_utc(&fields)?, fields.get(Field::UnixSeconds).is_some());
            let modified = sample.modified;
            let root = Path::new(root.trim_end_matches('/'));
            Some((root, Match { camera, start, modified, is_unix, index }))
        })
    }
}

fn start_in_utc(fields: &Fields) -> Option<Timestamp> {
    let nanos = match fields.get(Field::UnixSeconds) {
        Some(seconds) if seconds < MIN_UNIX_SECONDS => return None,
        Some(seconds) => unix_nanos(seconds, fields)?,
        None => {
            let zoned = civil(fields)?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
            i64::try_from(zoned.timestamp().as_nanosecond()).ok()?
        }
    };
    Some(Timestamp::from_nanos(nanos))
}

fn weigh(
    preset: Preset,
    root: &Path,
    of: usize,
    mut matches: Vec<Match<'_>>,
    now: Timestamp,
) -> Guess {
    matches.sort_unstable();
    let latest = now.saturating_add(FUTURE_TOLERANCE);
    let pairs = || matches.iter().zip(matches.iter().skip(1));
    let alike = |(one, next): &(&Match<'_>, &Match<'_>)| {
        (one.camera, one.start) == (next.camera, next.start)
    };
    let cameras: BTreeSet<_> = matches.iter().filter_map(|found| found.camera).collect();
    Guess {
        preset,
        root: root.to_owned(),
        cameras: cameras.into_iter().take(MAX_CAMERAS).map(str::to_owned).collect(),
        matched: matches.len(),
        of,
        future: matches.iter().filter(|found| found.start > latest).count(),
        repeated: pairs().filter(alike).count(),
        utc_offset_minutes: utc_offset_minutes(&matches),
        rivals: Vec::new(),
    }
}

/// The one offset at which nearly all files were modified between their own start and the next one's. For
/// files that are longer than the step between offsets there are several: then the one at which they were
/// modified last when the next one began; for clips with pauses between them, soon after their own start.
fn utc_offset_minutes(matches: &[Match<'_>]) -> Option<i32> {
    let neighbours: Vec<[Timestamp; 3]> = matches
        .iter()
        .zip(matches.iter().skip(1))
        .filter(|(one, next)| one.camera == next.camera && !one.is_unix)
        .filter_map(|(one, next)| Some([one.start, one.modified?, next.start]))
        .collect();
    let the_only_one = |fits: fn([Timestamp; 3]) -> bool| {
        let nearly_all = |minutes: &i32| {
            let offset_ns = i64::from(*minutes) * 60_000_000_000;
            let fits = neighbours.iter().filter(|[start, modified, next]| {
                fits([*start, modified.saturating_offset(offset_ns), *next])
            });
            4 * fits.count() >= 3 * neighbours.len()
        };
        let mut fitting = OFFSETS_MINUTES.step_by(OFFSET_STEP_MINUTES).filter(nearly_all);
        fitting.next().filter(|_| fitting.next().is_none())
    };
    if neighbours.is_empty() {
        return None;
    }
    [written_between, written_until_next, written_soon].into_iter().find_map(the_only_one)
}

fn written_between([start, modified, next]: [Timestamp; 3]) -> bool {
    start.saturating_sub(MODIFIED_EARLY) <= modified
        && modified <= next.saturating_add(MODIFIED_LATE)
}

fn written_until_next([start, modified, next]: [Timestamp; 3]) -> bool {
    written_between([start, modified, next]) && modified.distance(next) <= MODIFIED_LATE
}

fn written_soon([start, modified, next]: [Timestamp; 3]) -> bool {
    written_between([start, modified, next]) && modified.distance(start) <= MODIFIED_LATE
}

/// `+02:00`, as [`LayoutConfig::time_zone`] takes it.
fn offset_text(minutes: i32) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.abs();
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}
