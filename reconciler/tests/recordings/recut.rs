//! A live recording is cut where a piece begins, and its original is kept, where that is safe.

use std::path::PathBuf;
use std::time::Duration;

use crate::footage::*;
use crate::merge;
use reconciler::fleet::StreamKey;
use reconciler::playback::{ArchivedSegment, SeamSearch, Tolerances, export, find_seams, view};
use reconciler::recut::{
    Cut, Exchanged, Left, Places, Recut, RecutState, as_recorded, copy_of, exchange, place_of,
    restore,
};
use reconciler::seam::{Edge, FramePlace, Handover};
use reconciler::timeline::Recorder;
use sdcard_indexer::container::{Sample, samples};

/// An archive with a live recording that breaks off at 7.4 s, the card's piece from 7 s on, and the live one from 13 s.
struct Scene {
    directory: tempfile::TempDir,
    reference: PathBuf,
    live: PathBuf,
    segments: Vec<ArchivedSegment>,
}

impl Scene {
    fn of(encoding: Encoding, live: Format, cut: &[&str]) -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let reference = encode(directory.path(), encoding);
        let root = directory.path().join("archive");
        std::fs::create_dir_all(root.join("camera/main")).unwrap();
        let (before, after) =
            (root.join("camera/main/before.mp4"), root.join("camera/main/after.mp4"));
        remux(&reference, cut, live, &before);
        remux(&reference, &["-ss", "13"], Format::FragmentedMp4, &after);
        let mut segments = vec![
            segment(before.clone(), 0.0, Recorder::Live),
            segment(after, 13.0, Recorder::Live),
        ];
        let card = card(&reference, directory.path(), Format::FragmentedMp4);
        for pulled in pull(&card, seconds(7.0, 13.0)) {
            let piece = merge::place(&root, &pulled);
            segments.push(ArchivedSegment {
                file: root.join(piece.path),
                range: piece.range,
                by: Recorder::Edge,
                uncertainty: Duration::ZERO,
            });
        }
        Scene { directory, reference, live: before, segments }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("archive")
    }

    /// The piece that meets the live recording's end, and how.
    fn met(&self) -> (PathBuf, Handover) {
        let found = find_seams(&self.segments, &SeamSearch::default());
        let mut openings = found
            .seams
            .iter()
            .filter(|(edge, live, ..)| *edge == Edge::Opening && *live == self.live);
        let (_, _, piece, meeting) = openings.next().unwrap();
        (piece.to_owned(), meeting.handover)
    }

    fn cut(&self) -> Result<Cut, Left> {
        let (piece, handover) = self.met();
        place_of(&self.live, &piece, &handover)
    }

    /// Everything up to the exchange.
    fn written(&self) -> Recut {
        let path = self.live.strip_prefix(self.root()).unwrap().to_owned();
        let places = Places::of(&self.root(), &path).unwrap();
        let cut = self.cut().unwrap();
        let copied = copy_of(&self.live, cut.kept_frames, &places.hidden).unwrap();
        let key = StreamKey { device: "camera".parse().unwrap(), stream: "main".parse().unwrap() };
        Recut {
            key,
            path,
            piece: self.met().0,
            state: RecutState::Written,
            original: copied.original,
            copy: copied.copy,
            kept_frames: cut.kept_frames as u64,
            left_out_frames: cut.left_out_frames as u64,
            made: at(0.0),
        }
    }

    /// What Gapless plays.
    fn exported(&self) -> (Rows, usize) {
        let segments: Vec<ArchivedSegment> = self.segments.iter().cloned().map(recorded).collect();
        let found = find_seams(&segments, &SeamSearch::default());
        let runs = view(&segments, &found.seams, Tolerances::default());
        let file = self.directory.path().join("exported.mp4");
        let output = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
        let exported = export(&runs, seconds(0.0, 20.0), output).unwrap();
        (packets(&file), exported.seams.len())
    }
}

fn recorded(segment: ArchivedSegment) -> ArchivedSegment {
    let (file, range) = as_recorded(segment.file.clone(), segment.range);
    ArchivedSegment { file, range, ..segment }
}

const BREAKS_OFF: &[&str] = &["-t", "7.4"];

#[test]
fn a_recorders_own_playback_shows_each_frame_once_at_the_beginning_of_a_piece() {
    for encoding in [Encoding::H264, Encoding::H264WithBFrames, Encoding::H264WithoutSound] {
        for format in FORMATS {
            let what = format!("{encoding:?} {format:?}");
            let scene = Scene::of(encoding, format, BREAKS_OFF);
            let (original, before) = (std::fs::read(&scene.live).unwrap(), packets(&scene.live));
            let modified = scene.live.metadata().unwrap().modified().unwrap();
            let recut = scene.written();
            let left_out = before.video.len() as u64 - 175;
            assert_eq!((recut.kept_frames, recut.left_out_frames), (175, left_out), "{what}");
            assert_eq!(std::fs::read(&scene.live).unwrap(), original, "{what}: touched");

            assert_eq!(exchange(&scene.root(), &recut).unwrap(), Exchanged::Kept);
            assert_well_formed(&scene.live);
            assert_eq!(scene.live.metadata().unwrap().modified().unwrap(), modified, "{what}");
            let played = packets(&scene.live);
            assert_same(&relative(&played.video), &relative(&before.video)[..175], &what);
            let sound = hashes(&before.audio);
            assert_same(&hashes(&played.audio), &sound[..played.audio.len()], &what);
            // Each file after the other, as a recorder's playback has them.
            let mut files: Vec<&ArchivedSegment> = scene.segments.iter().collect();
            files.sort_by_key(|segment| segment.range);
            let one_by_one: Vec<Rows> = files.iter().map(|of| packets(&of.file)).collect();
            let frames: Vec<&str> =
                one_by_one.iter().flat_map(|rows| hashes(&rows.video)).collect();
            assert_same(&frames, &hashes(&packets(&scene.reference).video), &what);

            restore(&scene.root(), &recut).unwrap();
            assert_eq!(std::fs::read(&scene.live).unwrap(), original, "{what}: bit for bit");
        }
    }
}

#[test]
fn gapless_plays_the_original_and_its_seams_stay_exact() {
    let scene = Scene::of(Encoding::H264WithBFrames, Format::FragmentedMp4, BREAKS_OFF);
    let (before, seams) = scene.exported();
    let recut = scene.written();
    assert_eq!(exchange(&scene.root(), &recut).unwrap(), Exchanged::Kept);
    let (after, seams_after) = scene.exported();
    assert_eq!((after, seams_after), (before, seams));
}

#[test]
fn a_recording_that_goes_on_behind_the_hole_is_left_as_it_is() {
    let mut scene = Scene::of(Encoding::H264, Format::FragmentedMp4, BREAKS_OFF);
    let (runs, seams) = (scene.segments.clone(), Default::default());
    let live: Vec<ArchivedSegment> =
        runs.into_iter().filter(|segment| segment.by == Recorder::Live).collect();
    let runs = view(&live, &seams, Tolerances::default());
    let whole = scene.root().join("camera/main/whole.mp4");
    let output = std::io::BufWriter::new(std::fs::File::create(&whole).unwrap());
    export(&runs, seconds(0.0, 20.0), output).unwrap();
    scene.segments.retain(|segment| segment.by == Recorder::Edge);
    scene.segments.push(segment(whole.clone(), 0.0, Recorder::Live));
    scene.live = whole;
    assert!(matches!(scene.cut(), Err(Left::GoesOn)), "{:?}", scene.cut());
}

#[test]
fn pictures_that_need_what_comes_before_the_piece_are_not_cut_off_from_it() {
    let scene = Scene::of(Encoding::H265, Format::FragmentedMp4, BREAKS_OFF);
    assert!(matches!(scene.cut(), Err(Left::LeadingPictures)), "{:?}", scene.cut());
}

#[test]
fn a_recording_that_ends_with_the_piece_or_is_no_mp4_is_left_as_it_is() {
    let scene = Scene::of(Encoding::H264, Format::MpegTs, BREAKS_OFF);
    assert!(matches!(scene.cut(), Err(Left::NotMp4)), "{:?}", scene.cut());
    let scene = Scene::of(Encoding::H264, Format::FragmentedMp4, BREAKS_OFF);
    let (piece, handover) = scene.met();
    let by_time = Handover { to_the_frame: false, ..handover };
    assert!(matches!(place_of(&scene.live, &piece, &by_time), Err(Left::NotExact)));
    let mut live = std::fs::File::open(&scene.live).unwrap();
    let bytes = live.metadata().unwrap().len();
    let frames = samples(&mut live, bytes).unwrap().map(Result::unwrap);
    let frames: Vec<Sample> = frames.filter(|sample| sample.track == 0).collect();
    let number = handover.live.number_in(frames.iter());
    let before = FramePlace::numbered(number - 1, frames.iter());
    assert_eq!(before.number_in(frames.iter()), number - 1);
    let elsewhere = Handover { live: before, ..handover };
    assert!(matches!(place_of(&scene.live, &piece, &elsewhere), Err(Left::NotEqual)));
    let at_the_end = Handover { live: FramePlace::END, ..handover };
    assert!(matches!(place_of(&scene.live, &piece, &at_the_end), Err(Left::NothingToCut)));
}
