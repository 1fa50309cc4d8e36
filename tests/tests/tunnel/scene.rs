//! A recording of which the archive lacks 45 s, the card nothing, and what is to be true in the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sdcard_indexer::container::Container;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::artifacts::tool;
use tests::installation::{DEVICE, Files, Installation, Setup, amend, json_of};
use tests::link::{Direction, Shape};
use tests::media::{Form, Frame, Holed, Recorder, Reference, Spec, VideoCodec, frames};
use tests::naming::Naming;

/// For everything that is waited for; nothing that works comes near it.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// In media time: begins and ends inside a segment, inside a group of pictures.
const HOLE: std::ops::Range<Duration> =
    Duration::from_millis(42_400)..Duration::from_millis(87_700);
/// How long ago the recording ended.
const SETTLED: Duration = Duration::from_secs(60);

/// What the two recorders write.
#[derive(Clone, Copy, Debug)]
pub struct Containers {
    pub card: Container,
    pub archive: Container,
}

impl Containers {
    /// Both the same.
    pub const fn both(container: Container) -> Self {
        Containers { card: container, archive: container }
    }

    /// How far off a time may be played. Matroska, as everybody writes it, counts milliseconds; sound then
    /// does not meet at the seams, which are closed where they are narrower than half a packet.
    const fn rounding(self, form: Form) -> Duration {
        match (self.card, form) {
            (Container::Matroska, Form::AudioPackets) => Duration::from_micros(10_666),
            (Container::Matroska, _) => Duration::from_millis(1),
            _ => Duration::ZERO,
        }
    }
}

/// An installation with that recording.
pub struct Scene {
    pub installation: Installation,
    pub holed: Holed,
    /// All of the recording.
    pub window: TimeRange,
    /// Bytes of the frames and the sound that the archive lacks.
    pub lost_bytes: u64,
    /// As the encoder made it, in one file.
    pub reference: Reference,
    containers: Containers,
    originals: [Files; 2],
}

impl Scene {
    /// Nothing runs yet, and the link is up.
    pub async fn set_up(
        spec: Spec,
        containers: Containers,
        segment_seconds: u32,
        link: Shape,
    ) -> Scene {
        let reference = Reference::encode(spec).unwrap();
        let start = recorded_from(spec.seconds);
        let duration = Duration::from_secs(spec.seconds.into());
        let setup = Setup { naming: Naming::MediaMtx, link, expected_from: start };
        let installation = Installation::set_up(&setup).await.unwrap();
        amend(&installation.server_config(), "[archive]\nseam_margin_ms = 2000").unwrap();
        let recorder = |directory: PathBuf, container| Recorder {
            directory,
            naming: setup.naming,
            container,
            segment_seconds,
            start,
        };
        reference.write_segments(&recorder(installation.card(), containers.card)).unwrap();
        let archive = recorder(installation.archive(), containers.archive);
        let holed = reference.write_with_hole(&archive, HOLE).unwrap();
        let kept = holed.segments.iter().map(|segment| segment.path.as_path());
        let kept_bytes: u64 = kept.map(|path| media_bytes(path, spec.codec)).sum();
        let lost_bytes = media_bytes(&reference.path, spec.codec) - kept_bytes;
        let window = TimeRange::starting_at(start, duration);
        let originals = [installation.card(), installation.archive()];
        let originals = originals.map(|directory| Files::below(&directory).unwrap());
        Scene { installation, holed, window, lost_bytes, reference, containers, originals }
    }

    /// What the device has put on the link from the first connection on, arrived or not.
    pub fn sent_bytes(&self) -> u64 {
        self.installation.link.sent_bytes(Direction::ToServer)
    }

    /// Waits until the timeline is whole, and then holds everything that was promised against it.
    /// Answers the merged pieces.
    pub async fn assert_made_whole(&self) -> Vec<PathBuf> {
        let timeline = self.installation.complete(self.window, DEADLINE).await.unwrap();
        assert_eq!(timeline.completeness.archived_s, self.window.duration().as_secs_f64());
        assert_eq!(BTreeSet::from_iter(timeline.words()), BTreeSet::from(["archived"]));
        self.assert_archive_is_whole().await
    }

    /// Whatever is expected: originals are untouched, and what the archive holds plays as it was recorded. Answers
    /// the merged pieces.
    pub async fn assert_archive_is_whole(&self) -> Vec<PathBuf> {
        let pieces = self.assert_originals_untouched();
        pieces.iter().for_each(|piece| assert_clean(piece));
        self.assert_verified(pieces.len()).await;
        self.assert_plays_as_recorded().await;
        pieces
    }

    /// A merged piece, once there is one under its final name.
    pub fn any_piece(&self) -> Option<PathBuf> {
        let is_original =
            |path: &PathBuf| self.holed.segments.iter().any(|segment| segment.path == *path);
        let archive = std::fs::read_dir(self.installation.archive()).unwrap();
        let mut paths = archive.map(|entry| entry.unwrap().path());
        paths.find(|path| !is_original(path) && !is_hidden(path))
    }

    /// Answers what is beside them: the merged pieces, and no other file.
    fn assert_originals_untouched(&self) -> Vec<PathBuf> {
        let now = |directory: PathBuf| Files::below(&directory).unwrap();
        let [card, archive] = &self.originals;
        let on_card = now(self.installation.card()).added_since(card).unwrap();
        assert_eq!(on_card, [] as [PathBuf; 0]);
        let pieces = now(self.installation.archive()).added_since(archive).unwrap();
        assert!(!pieces.iter().any(|path| is_hidden(path)), "{pieces:?}");
        pieces
    }

    /// What `gapless verify` read is all there is.
    async fn assert_verified(&self, pieces: usize) {
        let verified = self.installation.gapless(["verify", "--json"]).await.unwrap();
        let report: serde_json::Value = json_of(&verified).unwrap();
        assert_eq!(report["pieces"], pieces, "{report}");
        assert_eq!(report["problems"], serde_json::json!([]), "{report}");
    }

    /// Frame by frame, none missing, none twice, each at its time.
    async fn assert_plays_as_recorded(&self) {
        let exported = self.installation.root("exported.mp4");
        let output = exported.display().to_string();
        let (from, to) = (self.window.start().to_string(), self.window.end().to_string());
        let arguments = ["export", DEVICE, "--from", &from, "--to", &to, "--output", &output];
        let done = self.installation.gapless(arguments).await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let slices = Form::Slices(self.reference.codec);
        for form in [slices, Form::AudioPackets, Form::DecodedVideo] {
            let recorded = frames(&self.reference.path, form).unwrap();
            self.assert_same(&frames(&exported, form).unwrap(), &recorded, form);
        }
        self.assert_proved(&output).await;
        std::fs::remove_file(exported).unwrap();
        std::fs::remove_file(output + ".json").unwrap();
    }

    /// What was exported holds against its manifest, by itself and beside the archive.
    async fn assert_proved(&self, output: &str) {
        let archive = self.installation.root("archive").display().to_string();
        let arguments = ["verify-export", output, "--archive", &archive, "--json"];
        let proved = self.installation.gapless(arguments).await.unwrap();
        let report: serde_json::Value = json_of(&proved).unwrap();
        assert_eq!(report["findings"], serde_json::json!([]), "{report}");
        assert_eq!((&report["intact"], &report["whole"]), (&true.into(), &true.into()), "{report}");
    }

    /// Names the first difference: whole lists would be thousands of lines.
    fn assert_same(&self, played: &[Frame], recorded: &[Frame], form: Form) {
        let rounding_ns = self.containers.rounding(form).as_nanos();
        let same = |(played, recorded): (&Frame, &Frame)| {
            let off_ns = played.shown_at.0.abs_diff(recorded.shown_at.0);
            (played.size_bytes, &played.hash) == (recorded.size_bytes, &recorded.hash)
                && u128::from(off_ns) <= rounding_ns
        };
        if let Some(at) = played.iter().zip(recorded).position(|pair| !same(pair)) {
            panic!("{form:?} {at}: {:?} was played, {:?} recorded", played[at], recorded[at]);
        }
        assert_eq!(played.len(), recorded.len(), "{form:?}");
    }
}

/// Whole microseconds, as names have them, and no whole second.
fn recorded_from(seconds: u32) -> Timestamp {
    let now = Timestamp::from_jiff(jiff::Timestamp::now());
    let start = now.saturating_sub(SETTLED + Duration::from_secs(seconds.into()));
    Timestamp::from_nanos(start.as_nanos() / 1_000_000_000 * 1_000_000_000 + 123_457_000)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn media_bytes(file: &Path, codec: VideoCodec) -> u64 {
    let of_form = |form| frames(file, form).unwrap();
    let frames = [Form::Slices(codec), Form::AudioPackets].into_iter().flat_map(of_form);
    frames.map(|frame| frame.size_bytes).sum()
}

fn assert_clean(piece: &Path) {
    let ffprobe = tool("ffprobe").unwrap();
    let output = Command::new(ffprobe)
        .args(["-v", "error", "-show_streams", "-count_frames"])
        .arg(piece)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{}: {complaint}", piece.display());
}
