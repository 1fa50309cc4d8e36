//! A simulated camera: records the clip to its card always, and to a central archive while the link is up.
//!
//! The picture of a wall-clock second shows that second, so that what a player shows can be checked
//! against where the footage claims to be. A second is written when it is over, as one fragment that is
//! appended to the open segment, as recorders do. Decisions are [`Schedule`]'s; this module only writes.

mod schedule;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clip::{Clip, after};
use crate::naming::Naming;

pub use schedule::{Action, Ring, Schedule};

/// Length of a segment where a test does not care.
pub const SEGMENT_SECONDS: u32 = 10;

/// One tree of segments under `root`, as one recorder writes it.
#[derive(Debug)]
pub struct Recording {
    root: PathBuf,
    naming: Naming,
    schedule: Schedule,
    open: Option<File>,
}

impl Recording {
    pub fn new(root: &Path, naming: Naming, segment_seconds: u32, ring: Ring) -> Self {
        let schedule = Schedule::new(segment_seconds, ring);
        Recording { root: root.to_owned(), naming, schedule, open: None }
    }

    /// Ten-second segments with MediaMTX's names, none ever deleted.
    pub fn plain(root: &Path) -> Self {
        Recording::new(root, Naming::MediaMtx, SEGMENT_SECONDS, Ring::Endless)
    }

    /// Writes the second that starts at `second`.
    pub fn record(&mut self, second: Timestamp) -> io::Result<()> {
        for action in self.schedule.second(second, Clip::committed().fragment_bytes(second)) {
            self.apply(action)?;
        }
        Ok(())
    }

    /// Ends the open segment where it is.
    pub fn interrupt(&mut self) {
        self.schedule.interrupt();
        self.open = None;
    }

    /// What this recorder has on its disk: the truth that an index of it is held against.
    pub fn coverage(&self) -> Coverage {
        self.schedule.coverage()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn apply(&mut self, action: Action) -> io::Result<()> {
        let clip = Clip::committed();
        match action {
            Action::Delete { segment } => fs::remove_file(self.path(segment)),
            Action::Begin { segment } => {
                let path = self.path(segment);
                fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
                let mut file = OpenOptions::new().append(true).create_new(true).open(path)?;
                file.write_all(clip.init())?;
                self.open = Some(file);
                Ok(())
            }
            Action::Append { second, position, .. } => {
                let file =
                    self.open.as_mut().expect("a schedule begins a segment before it appends");
                file.write_all(&clip.fragment(second, position))
            }
        }
    }

    fn path(&self, segment: Timestamp) -> PathBuf {
        self.root.join(self.naming.path(segment))
    }
}

/// How the camera's clock runs against the rig's.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The camera's time at `began`; a whole second.
    start: Timestamp,
    began: Instant,
    speed: u32,
}

impl Pace {
    /// The wall clock, from the next whole second on.
    pub fn real_time() -> anyhow::Result<Self> {
        let now = SystemTime::UNIX_EPOCH.elapsed().context("the clock is set before 1970")?;
        let next = Duration::from_secs(now.as_secs() + 1);
        let start = Timestamp::UNIX_EPOCH.saturating_add(next);
        Ok(Pace { start, began: Instant::now() + (next - now), speed: 1 })
    }

    /// `speed` seconds in each second, from the camera's time `start` on.
    pub fn fast(start: Timestamp, speed: u32) -> Self {
        Pace { start, began: Instant::now(), speed }
    }

    fn when_over(&self, second: u32) -> Instant {
        self.began + Duration::from_secs(u64::from(second) + 1) / self.speed
    }
}

/// A camera with a card and, where it streams, a central recorder.
#[derive(Debug)]
pub struct Camera {
    pub card: Recording,
    /// The recorder at the far end of the link; it knows nothing of the card.
    pub archive: Option<Recording>,
}

impl Camera {
    /// A camera that streams to `archive` while its link is up.
    pub fn streaming(card: Recording, archive: Recording) -> Self {
        Camera { card, archive: Some(archive) }
    }

    /// A body-worn camera: card only.
    pub fn offline(card: Recording) -> Self {
        Camera { card, archive: None }
    }

    /// Records the second that starts at `second`; the archive has it where `link_up` held throughout.
    pub fn record(&mut self, second: Timestamp, link_up: bool) -> io::Result<()> {
        self.card.record(second)?;
        match &mut self.archive {
            Some(archive) if link_up => archive.record(second),
            Some(archive) => {
                archive.interrupt();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Records every second that starts in `range`, at once.
    pub fn record_range(&mut self, range: TimeRange, link_up: bool) -> io::Result<()> {
        let seconds = (0..).map(|second| after(range.start(), second));
        for second in seconds.take_while(|&second| second < range.end()) {
            self.record(second, link_up)?;
        }
        Ok(())
    }

    /// Records at `pace` until the future is dropped; ends only where a disk fails.
    ///
    /// A second during which the link went down or came up is not in the archive: its GOP was not
    /// received from its keyframe to its end. File writes are small and done in place.
    pub async fn run(
        &mut self,
        pace: Pace,
        mut link_up: watch::Receiver<bool>,
    ) -> io::Result<std::convert::Infallible> {
        link_up.mark_unchanged();
        for second in 0.. {
            tokio::time::sleep_until(pace.when_over(second)).await;
            let steady = !link_up.has_changed().unwrap_or(false);
            let up = *link_up.borrow_and_update();
            self.record(after(pace.start, second), up && steady)?;
        }
        Err(io::Error::other("a camera's clock ran for 136 years"))
    }
}

#[cfg(test)]
mod tests {
    use crate::media::{Form, frames};

    use super::*;

    fn start() -> Timestamp {
        "2026-11-23T10:00:50Z".parse().unwrap()
    }

    fn range(from: u32, to: u32) -> TimeRange {
        TimeRange::new(after(start(), from), after(start(), to)).unwrap()
    }

    fn camera(directory: &Path) -> Camera {
        let [card, archive] = ["card", "archive"].map(|name| directory.join(name));
        Camera::streaming(Recording::plain(&card), Recording::plain(&archive))
    }

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_outage_leaves_a_hole_in_the_archive_and_none_on_the_card() {
        let directory = tempfile::tempdir().unwrap();
        let mut camera = camera(directory.path());
        camera.record_range(range(0, 13), true).unwrap();
        camera.record_range(range(13, 17), false).unwrap();
        camera.record_range(range(17, 30), true).unwrap();

        let card = [
            "2026-11-23_10-00-50-000000.mp4",
            "2026-11-23_10-01-00-000000.mp4",
            "2026-11-23_10-01-10-000000.mp4",
        ];
        assert_eq!(names(camera.card.root()), card);
        let archive = camera.archive.unwrap();
        let live = [
            "2026-11-23_10-00-50-000000.mp4",
            "2026-11-23_10-01-00-000000.mp4",
            "2026-11-23_10-01-07-000000.mp4",
            "2026-11-23_10-01-17-000000.mp4",
        ];
        assert_eq!(names(archive.root()), live);
        let missing = camera.card.coverage().difference(&archive.coverage());
        assert_eq!(missing, Coverage::from(range(13, 17)));
    }

    #[test]
    fn card_and_archive_hold_the_same_frames_of_the_same_second() {
        let directory = tempfile::tempdir().unwrap();
        let mut camera = camera(directory.path());
        camera.record_range(range(0, 12), false).unwrap();
        camera.record_range(range(12, 15), true).unwrap();
        let packets = |path: PathBuf| {
            let frames = frames(&path, Form::VideoPackets).unwrap();
            frames.into_iter().map(|frame| frame.hash).collect::<Vec<_>>()
        };
        let card = packets(camera.card.path(after(start(), 10)));
        let archive = packets(camera.archive.unwrap().path(after(start(), 12)));
        assert_eq!(archive, card[50..]);
    }

    #[test]
    fn a_full_card_loses_its_oldest_segment() {
        let directory = tempfile::tempdir().unwrap();
        let card = Recording::new(directory.path(), Naming::DayHour, 5, Ring::Segments(2));
        let mut camera = Camera::offline(card);
        camera.record_range(range(0, 12), false).unwrap();
        assert_eq!(camera.card.coverage(), Coverage::from(range(5, 12)));
        let kept = directory.path().join("2026-11-23/10");
        let expected = ["2026-11-23_10-00-55-000000.mp4", "2026-11-23_10-01-00-000000.mp4"];
        assert_eq!(names(&kept), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_camera_archives_only_whole_seconds_of_an_open_link() {
        let directory = tempfile::tempdir().unwrap();
        let mut camera = camera(directory.path());
        let (link, link_up) = watch::channel(true);
        let pace = Pace::fast(start(), 10);
        let script = async {
            for (until_ms, up) in
                [(450, false), (720, true), (780, false), (790, true), (1_050, true)]
            {
                tokio::time::sleep_until(pace.began + Duration::from_millis(until_ms)).await;
                link.send_replace(up);
            }
        };
        tokio::select! {
            failed = camera.run(pace, link_up) => panic!("{failed:?}"),
            () = script => {}
        }
        assert_eq!(camera.card.coverage(), Coverage::from(range(0, 10)));
        let live = Coverage::from(vec![range(0, 4), range(8, 10)]);
        assert_eq!(camera.archive.unwrap().coverage(), live);
    }
}
