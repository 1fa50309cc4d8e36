//! An export and its manifest agree, and whatever is altered in either is found and named.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::footage::*;
use crate::merge;
use protocol::message;
use reconciler::fleet::StreamKey;
use reconciler::ledger::{PartId, PartRecord, PartState, TimelineRecord};
use reconciler::playback::{ArchivedSegment, SeamSearch, Tolerances, find_seams, view};
use reconciler::proof::{self, CannotCheck, Exporter, Finding, Manifest, Provenance, Subject};
use reconciler::timeline::{Proof, Recorder, State, Stretch};
use sdcard_indexer::container::samples;
use sdcard_indexer::identity::{SegmentId, SegmentVersion};
use sdcard_indexer::time::TimeRange;
use serde_json::{Value, json};

const TOLERANCE: Duration = Duration::from_millis(500);

/// An archive, and what ledger and index know of it.
struct Archive {
    directory: tempfile::TempDir,
    segments: Vec<ArchivedSegment>,
    parts: Vec<PartRecord>,
    timeline: Vec<Stretch>,
}

/// What was exported of it.
struct Exported {
    archive: Archive,
    clip: PathBuf,
    manifest: PathBuf,
    says: Manifest,
}

fn key() -> StreamKey {
    StreamKey { device: "camera".parse().unwrap(), stream: "main".parse().unwrap() }
}

fn live() -> State {
    State::Archived { by: Recorder::Live, proof: Proof::None, uncertainty_ns: 0 }
}

fn stretch(from: f64, to: f64, state: State) -> Stretch {
    Stretch { range: seconds(from, to), state }
}

/// Live up to 7.4 s, in the middle of a group of pictures, and from 13 s on; the card's footage between, and a second
/// more, which both hold.
fn filled() -> Archive {
    let directory = tempfile::tempdir().unwrap();
    let reference = encode(directory.path(), Encoding::H264WithBFrames);
    let root = directory.path().join("archive");
    std::fs::create_dir(&root).unwrap();
    let (before, after) = (root.join("before.mp4"), root.join("after.mp4"));
    remux(&reference, &["-t", "7.4"], Format::FragmentedMp4, &before);
    remux(&reference, &["-ss", "13"], Format::PlainMp4, &after);
    let mut segments =
        vec![segment(before, 0.0, Recorder::Live), segment(after, 13.0, Recorder::Live)];
    let card = card(&reference, directory.path(), Format::FragmentedMp4);
    let mut parts = Vec::new();
    for (number, pulled) in (1..).zip(pull(&card, seconds(7.0, 14.0))) {
        let (record, piece) = merged(&root, number, &pulled);
        segments.push(piece);
        parts.push(record);
    }
    let edge = State::Archived { by: Recorder::Edge, proof: Proof::Sealed, uncertainty_ns: 0 };
    let timeline =
        vec![stretch(0.0, 7.0, live()), stretch(7.0, 14.0, edge), stretch(14.0, 20.0, live())];
    Archive { directory, segments, parts, timeline }
}

fn merged(root: &Path, number: i64, pulled: &Pulled) -> (PartRecord, ArchivedSegment) {
    let part_bytes = pulled.bytes.len() as u64;
    let piece = merge::place(root, pulled);
    let part = message::Part {
        segment: SegmentId(number.unsigned_abs()),
        version: SegmentVersion { size_bytes: part_bytes, fingerprint: 0 },
        start: 0,
        end: part_bytes,
        range: pulled.range,
        uncertainty_ns: 40_000_000,
        media: Vec::new(),
    };
    let segment = ArchivedSegment {
        file: root.join(&piece.path),
        range: piece.range,
        by: Recorder::Edge,
        uncertainty: Duration::from_millis(40),
    };
    let record = PartRecord {
        state: PartState::Archived,
        proof: Proof::Sealed,
        digest: Some(*blake3::hash(&pulled.bytes).as_bytes()),
        piece: Some(piece),
        offset_ns: 1_000_000_000,
        ..PartRecord::located(PartId(number), key(), part, at(30.0))
    };
    (record, segment)
}

/// One live file with a hole in it from 7.4 s to 13 s, which the card had overwritten.
fn with_a_hole_inside() -> Archive {
    let directory = tempfile::tempdir().unwrap();
    let reference = encode(directory.path(), Encoding::H264);
    let (before, after) = (directory.path().join("before.mp4"), directory.path().join("after.mp4"));
    remux(&reference, &["-t", "7.4"], Format::FragmentedMp4, &before);
    remux(&reference, &["-ss", "13"], Format::FragmentedMp4, &after);
    let halves = [segment(before, 0.0, Recorder::Live), segment(after, 13.0, Recorder::Live)];
    let root = directory.path().join("archive");
    std::fs::create_dir(&root).unwrap();
    let file = root.join("live.mp4");
    let seams = Default::default();
    let runs = view(&halves, &seams, Tolerances::default());
    let output = BufWriter::new(File::create(&file).unwrap());
    reconciler::playback::export(&runs, seconds(0.0, 20.0), output).unwrap();
    let segments = vec![segment(file, 0.0, Recorder::Live)];
    let cause = "older than what the card still holds".to_owned();
    let timeline = vec![
        stretch(0.0, 7.4, live()),
        stretch(7.4, 13.0, State::Overwritten { cause }),
        stretch(13.0, 20.0, live()),
    ];
    Archive { directory, segments, parts: Vec::new(), timeline }
}

impl Archive {
    fn root(&self) -> PathBuf {
        self.directory.path().join("archive")
    }

    fn export(self, range: TimeRange) -> Exported {
        let clip = self.directory.path().join("clip.mp4");
        let manifest = self.directory.path().join("clip.mp4.json");
        let found = find_seams(&self.segments, &SeamSearch::default());
        let runs = view(&self.segments, &found.seams, Tolerances::default());
        let root = self.root();
        let provenance = Provenance::of(&root, self.parts.clone());
        let timeline = TimelineRecord { as_of: at(40.0), stretches: self.timeline.clone() };
        let key = key();
        let export = proof::Export {
            key: &key,
            asked: range,
            root: &root,
            runs: &runs,
            provenance: &provenance,
            timeline: Some(&timeline),
            join_tolerance: TOLERANCE,
            exporter: Exporter::new("a test".to_owned(), at(50.0)),
            name: "clip.mp4",
            with_sources: true,
        };
        let mut output = BufWriter::new(File::create(&clip).unwrap());
        let says = export.write(&mut output, &()).unwrap();
        output.flush().unwrap();
        let again = export.write(std::io::sink(), &()).unwrap();
        assert_eq!(again, says, "the same export twice");
        overwrite(&manifest, &says.to_json().unwrap());
        Exported { archive: self, clip, manifest, says }
    }
}

fn overwrite(path: &Path, bytes: &[u8]) {
    File::create(path).and_then(|mut file| file.write_all(bytes)).unwrap();
}

fn flip(path: &Path, offset: u64) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

impl Exported {
    fn findings(&self) -> Vec<Finding> {
        proof::check(&self.clip, &self.manifest, None, &()).unwrap().findings
    }

    fn findings_with_archive(&self) -> Vec<Finding> {
        let root = self.archive.root();
        let report = proof::check(&self.clip, &self.manifest, Some(&root), &()).unwrap();
        assert_eq!(report.sources_compared, self.says.sources.len());
        report.findings
    }

    /// Rewrites the manifest as somebody might who has no other means.
    fn forge(&self, change: impl FnOnce(&mut Value)) {
        let mut document: Value = serde_json::from_slice(&self.says.to_json().unwrap()).unwrap();
        change(&mut document);
        overwrite(&self.manifest, &serde_json::to_vec(&document).unwrap());
    }

    /// Where a frame lies in the MP4 that is shown so many seconds after its first.
    fn offset_of_frame(&self, clip_s: f64) -> u64 {
        let mut file = File::open(&self.clip).unwrap();
        let file_bytes = file.metadata().unwrap().len();
        let mut all = samples(&mut file, file_bytes).unwrap();
        let track = all.tracks().next().unwrap().clone();
        let wanted = (clip_s * 1e9) as i64;
        let mut frames = all.by_ref().map(Result::unwrap).filter(|sample| sample.track == 0);
        let frame = frames.find(|sample| sample.starts_at(&track).0 >= wanted).unwrap();
        frame.offset + u64::from(frame.size_bytes) / 2
    }
}

/// Subject, problem, and the seconds that it is about.
type Told<'a> = (String, &'a str, Option<(f64, f64)>);

fn told(findings: &[Finding]) -> Vec<Told<'_>> {
    let row = |finding: &'_ Finding| {
        let subject = match &finding.subject {
            Subject::Run { run, .. } => format!("run {run}"),
            Subject::State { state } => (*state).to_owned(),
            Subject::Source { file } => file.clone(),
            Subject::Track { track } => format!("track {track}"),
            Subject::File => "file".to_owned(),
            Subject::Manifest => "manifest".to_owned(),
        };
        let second = |instant: sdcard_indexer::time::Timestamp| {
            (instant.nanos_from(BEGINNING) as f64 / 1e7).round() / 1e2
        };
        (subject, finding.range.map(|range| (second(range.from), second(range.to))))
    };
    findings
        .iter()
        .map(|finding| {
            let (subject, range) = row(finding);
            (subject, finding.problem.as_str(), range)
        })
        .collect()
}

#[track_caller]
fn assert_told(findings: &[Finding], subject: &str, problem: &str) {
    let told = told(findings);
    let found = told.iter().any(|(of, what, _)| of == subject && what.contains(problem));
    assert!(found, "{subject}: {problem} is not in {told:#?}");
}

#[test]
fn a_manifest_tells_who_recorded_each_range_and_how_they_were_put_together() {
    let exported = filled().export(seconds(2.0, 18.0));
    let says = &exported.says;
    let by: Vec<(Recorder, u64)> = says.runs.iter().map(|run| (run.by, run.frames)).collect();
    let edge = Recorder::Edge;
    let expected =
        [(Recorder::Live, 125), (edge, 25), (edge, 100), (edge, 25), (Recorder::Live, 125)];
    assert_eq!(by, expected, "{:#?}", says.runs);
    let document = serde_json::to_value(says).unwrap();
    let seams: Vec<&Value> =
        document["seams"].as_array().unwrap().iter().map(|seam| &seam["seam"]).collect();
    assert_eq!(seams, ["exact", "succession", "succession", "exact"]);
    assert_eq!(says.holds.range(), seconds(2.0, 18.0));
    let piece = says.sources.iter().find(|source| source.by == edge).unwrap();
    let proved = piece.piece.as_ref().unwrap();
    assert_eq!((proved.proof, proved.piece_blake3), (Proof::Sealed, piece.blake3));
    assert!(proved.part_blake3.is_some());
    assert_eq!(says.runs[1].clock.added_to_device_ns, Some(1_000_000_000));
    let words: Vec<String> = says.states.iter().map(|entry| entry.known.to_string()).collect();
    let sealed = "archived from the card, as sealed";
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(words[0] == "archived live" && words[1].starts_with(sealed), "{words:?}");
    assert!(says.is_whole());
    assert_eq!(told(&exported.findings_with_archive()), []);
}

#[test]
fn all_that_is_known_is_exported_where_no_range_is_named() {
    let everything = TimeRange::ALWAYS;
    let exported = filled().export(everything);
    assert_eq!(exported.says.asked.range.range(), seconds(0.0, 20.0));
    assert_eq!(told(&exported.findings()), []);
}

#[test]
fn a_hole_in_a_live_file_is_told_and_not_claimed_as_footage() {
    let exported = with_a_hole_inside().export(seconds(1.0, 22.0));
    let says = &exported.says;
    let frames: Vec<u64> = says.runs.iter().map(|run| run.frames).collect();
    assert_eq!(frames, [160, 175], "{:#?}", says.runs);
    assert_eq!(says.runs[0].range.range(), seconds(1.0, 7.4));
    assert_eq!(says.runs[1].range.range(), seconds(13.0, 20.0));
    let words: Vec<&str> = says.states.iter().map(|entry| entry.known.word()).collect();
    assert_eq!(words, ["archived", "overwritten", "archived", "not_judged"]);
    assert_eq!(told(&exported.findings_with_archive()), []);
    assert!(!says.is_whole());
}

#[test]
fn one_altered_byte_of_media_is_found_in_its_range() {
    let exported = filled().export(seconds(2.0, 18.0));
    flip(&exported.clip, exported.offset_of_frame(8.0));
    let findings = exported.findings();
    let bytes = "the bytes of its samples in track 1 have changed";
    let [(file, digest, _), run] = &told(&findings)[..] else { panic!("{findings:#?}") };
    assert_eq!((file.as_str(), *digest), ("file", "its bytes are not those that were exported"));
    assert_eq!(*run, ("run 3".to_owned(), bytes, Some((8.0, 12.0))));
    assert!(findings.iter().all(|finding| finding.expected != finding.found));
}

#[test]
fn altered_digests_of_the_manifest_are_found_with_what_they_should_be() {
    let exported = filled().export(seconds(2.0, 18.0));
    let other = |digest: &mut Value| {
        let text = digest.as_str().unwrap();
        let first = if text.starts_with('0') { "1" } else { "0" };
        *digest = json!(format!("{first}{}", &text[1..]));
    };
    exported.forge(|document| other(&mut document["runs"][1]["tracks"][0]["blake3"]));
    let findings = exported.findings();
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    let found = exported.says.runs[1].tracks[0].blake3.to_string();
    assert_eq!(finding.found.as_ref(), Some(&found));
    assert_eq!(told(&findings)[0].0, "run 2");

    exported.forge(|document| other(&mut document["file"]["blake3"]));
    assert_told(&exported.findings(), "file", "not those that were exported");
    exported.forge(|document| other(&mut document["sources"][0]["blake3"]));
    assert_told(&exported.findings_with_archive(), "before.mp4", "not those that were exported");
    exported.forge(|document| other(&mut document["tracks"][1]["description_blake3"]));
    assert_told(&exported.findings(), "track 2", "another");
    exported.forge(|document| document["file"]["blake3"] = json!("xyz"));
    let error = proof::check(&exported.clip, &exported.manifest, None, &()).unwrap_err();
    assert!(matches!(error, CannotCheck::NotAManifest { .. }), "{error}");
}

#[test]
fn a_file_that_was_cut_off_is_found_with_the_ranges_that_it_lacks() {
    let exported = filled().export(seconds(2.0, 18.0));
    let size_bytes = exported.says.file.size_bytes;
    let file = File::options().write(true).open(&exported.clip).unwrap();
    file.set_len(size_bytes * 3 / 5).unwrap();
    let findings = exported.findings();
    assert_told(&findings, "file", "not as long as it was");
    assert_told(&findings, "file", "cut off");
    assert_told(&findings, "run 5", "not all its samples of track 1");
    assert!(!told(&findings).iter().any(|(of, ..)| of == "run 1"), "{findings:#?}");
    file.set_len(100).unwrap();
    assert_told(&exported.findings(), "file", "cannot be read as a recording");
}

#[test]
fn runs_that_were_swapped_left_out_or_told_otherwise_are_found() {
    let exported = filled().export(seconds(2.0, 18.0));
    exported.forge(|document| {
        let runs = document["runs"].as_array_mut().unwrap();
        runs.swap(1, 3);
    });
    let findings = exported.findings();
    for run in ["run 2", "run 4"] {
        assert_told(&findings, run, "it stands where another run belongs");
        assert_told(&findings, run, "the bytes of its samples");
    }
    exported.forge(|document| {
        document["runs"].as_array_mut().unwrap().remove(4);
    });
    let findings = exported.findings();
    assert_told(&findings, "track 1", "125 of its samples belong to no run");
    assert_told(&findings, "archived", "no run holds footage of it");

    exported.forge(|document| document["runs"][2]["by"] = json!("live"));
    let findings = exported.findings();
    assert_told(&findings, "run 3", "another recorder");
    assert_told(&findings, "archived", "no run holds footage of it, recorded from the card");

    exported.forge(|document| {
        for end in ["from", "to"] {
            let told: sdcard_indexer::time::Timestamp =
                document["runs"][2][end].as_str().unwrap().parse().unwrap();
            document["runs"][2][end] = json!(told.saturating_offset(60_000_000_000).to_string());
        }
    });
    assert_told(&exported.findings(), "run 3", "its place in the MP4 is not that of its time");
}

#[test]
fn states_that_were_dropped_or_told_otherwise_are_found() {
    let exported = with_a_hole_inside().export(seconds(1.0, 20.0));
    exported.forge(|document| {
        document["states"].as_array_mut().unwrap().remove(1);
    });
    let findings = exported.findings();
    let nothing = "it says nothing of the state here";
    assert_eq!(told(&findings), [("manifest".to_owned(), nothing, Some((7.4, 13.0)))]);

    exported.forge(|document| document["states"][1] = json!({
        "from": document["states"][1]["from"], "to": document["states"][1]["to"], "seconds": 5.6,
        "state": "archived", "by": "live", "proof": "none",
    }));
    let findings = exported.findings();
    let no_run = "no run holds footage of it, recorded live";
    assert_eq!(told(&findings), [("archived".to_owned(), no_run, Some((7.4, 13.0)))]);

    exported.forge(|document| {
        document["states"][0]["state"] = json!("missing");
    });
    assert_told(&exported.findings(), "missing", "run 1 holds footage of it");

    // One run over the hole, as if there were none.
    exported.forge(|document| {
        let second = document["runs"].as_array_mut().unwrap().remove(1);
        let first = &mut document["runs"][0];
        first["to"] = second["to"].clone();
        first["clip_to_s"] = second["clip_to_s"].clone();
        let frames = first["frames"].as_u64().unwrap() + second["frames"].as_u64().unwrap();
        first["frames"] = json!(frames);
        for track in [0, 1] {
            let samples = |run: &Value| run["tracks"][track]["samples"].as_u64().unwrap();
            first["tracks"][track]["samples"] = json!(samples(first) + samples(&second));
        }
    });
    let findings = exported.findings();
    assert_told(&findings, "run 1", "the MP4 shows no frame of it");
    assert_told(&findings, "overwritten", "run 1 holds footage of it");
}

#[test]
fn sources_that_changed_or_are_gone_are_found_and_one_that_grew_is_not() {
    let exported = filled().export(seconds(2.0, 18.0));
    let root = exported.archive.root();
    let after = root.join("after.mp4");
    File::options().append(true).open(&after).unwrap().write_all(b"recorded on").unwrap();
    assert_eq!(told(&exported.findings_with_archive()), []);
    flip(&after, 1_000);
    std::fs::remove_file(root.join("before.mp4")).unwrap();
    let findings = exported.findings_with_archive();
    assert_told(&findings, "after.mp4", "not those that were exported from");
    assert_told(&findings, "before.mp4", "no longer in the archive");
    assert_eq!(findings.len(), 2);
    assert_eq!(told(&exported.findings()), [], "the export itself is as it was");
}

#[test]
fn a_piece_that_was_altered_in_the_archive_is_told_by_its_manifest() {
    let archive = filled();
    let piece = archive.segments.iter().find(|segment| segment.by == Recorder::Edge).unwrap();
    let size_bytes = piece.file.metadata().unwrap().len();
    flip(&piece.file, size_bytes - 10);
    let exported = archive.export(seconds(2.0, 18.0));
    let findings = exported.findings();
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert!(finding.problem.contains("altered in the archive before it was exported"));
    assert!(matches!(&finding.subject, Subject::Source { file } if file.starts_with("camera/")));
}

#[test]
fn no_manifest_leads_out_of_the_archive() {
    let exported = filled().export(seconds(2.0, 6.0));
    let outside = exported.archive.directory.path().join("outside");
    overwrite(&outside, b"secret");
    let mut absolute = String::new();
    for path in ["../outside", "camera/../../outside", outside.to_str().unwrap()] {
        exported.forge(|document| {
            document["sources"][0]["file"] = json!(path);
            document["runs"][0]["file"] = json!(path);
        });
        let findings = exported.findings_with_archive();
        assert_told(&findings, path, "leads out of the archive");
        absolute.push_str(&format!("{findings:?}"));
    }
    let secret = blake3::hash(b"secret").to_hex();
    assert!(!absolute.contains(secret.as_str()), "it was read");
}

#[test]
fn what_is_no_manifest_or_a_newer_one_is_refused_with_what_to_do() {
    let exported = filled().export(seconds(2.0, 6.0));
    let refused =
        || proof::check(&exported.clip, &exported.manifest, None, &()).unwrap_err().to_string();
    exported.forge(|document| document["version"] = json!(2));
    assert!(refused().contains("use a newer one"));
    exported.forge(|document| document["format"] = json!("recipe"));
    assert!(refused().contains("recipe"));
    std::fs::remove_file(&exported.manifest).unwrap();
    assert!(refused().contains("--manifest"));
}
