//! Pulled parts become files of the archive, and nothing of them is lost, changed or doubled.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::footage::*;
use reconciler::ledger::Piece;
use reconciler::merge::{PieceRequest, Publication, Recovery, WrittenPiece, recover, write_piece};
use sdcard_indexer::layout::Layout;

fn write(archive: &Path, pulled: &Pulled) -> WrittenPiece {
    let request = PieceRequest {
        archive,
        directory: Path::new("camera/main"),
        layout: &Layout::onvif(),
        range: pulled.range,
        counter: 0,
        media: &pulled.part.needs,
        part_bytes: pulled.bytes.len() as u64,
        held_bytes: pulled.bytes.len() as u64,
    };
    write_piece(&request, &mut Cursor::new(&pulled.bytes)).unwrap()
}

/// Merged as the first of its name.
pub fn place(archive: &Path, pulled: &Pulled) -> Piece {
    match write(archive, pulled).publish().unwrap() {
        Publication::Placed(piece) => piece,
        Publication::NameTaken(piece) => panic!("the name is taken, {:?} is next", piece.piece()),
    }
}

#[test]
fn pieces_hold_every_packet_of_the_range_once_unchanged_and_in_step() {
    for encoding in PICTURES.into_iter().chain(SOUNDS) {
        let directory = tempfile::tempdir().unwrap();
        let reference = encode(directory.path(), encoding);
        let original = packets(&reference);
        for format in FORMATS {
            let what = format!("{encoding:?} {format:?}");
            let card = card(&reference, directory.path(), format);
            let archive = directory.path().join(format!("{format:?}"));
            let pulled = pull(&card, seconds(5.3, 12.7));
            let pieces: Vec<Piece> = pulled.iter().map(|pulled| place(&archive, pulled)).collect();
            let files: Vec<PathBuf> =
                pieces.iter().map(|piece| archive.join(&piece.path)).collect();
            let read: Vec<Rows> = files.iter().map(|file| packets(file)).collect();
            files.iter().for_each(|file| assert_well_formed(file));

            let video: Vec<&str> = read.iter().flat_map(|rows| hashes(&rows.video)).collect();
            assert_same(&video, &hashes(between(&original.video, 5, 13)), &what);
            assert_eq!(pieces.first().unwrap().range.start(), at(5.0), "{what}");
            assert_eq!(pieces.last().unwrap().range.end(), at(13.0), "{what}");

            let audio: Vec<&str> = read.iter().flat_map(|rows| hashes(&rows.audio)).collect();
            let Some(first) =
                original.audio.iter().position(|row| Some(&row.hash.as_str()) == audio.first())
            else {
                assert!(original.audio.is_empty(), "{what}: the sound is lost");
                continue;
            };
            let expected = &original.audio[first..first + audio.len()];
            assert_same(&audio, &hashes(expected), &what);
            let ticks: i64 = expected.iter().map(|row| row.duration).sum();
            assert!(
                ticks >= 8 * 48_000 - expected[0].duration,
                "{what}: only {ticks} ticks of sound"
            );
            let (was, is) =
                (distance(&packets(&card[1].file), &read[0]), distance(&read[0], &read[0]));
            assert!((was - is).abs() <= 1, "{what}: {was} became {is} ticks of 48 kHz");
        }
    }
}

/// How far the first picture of `piece` is from its first sound in `rows`, in ticks of the sound.
fn distance(rows: &Rows, piece: &Rows) -> i64 {
    let shown =
        |rows: &[Row], row: &Row| rows.iter().find(|found| found.hash == row.hash).unwrap().pts;
    let video_ticks_per_second = piece.video[0].duration * FRAMES_PER_SECOND as i64;
    shown(&rows.video, &piece.video[0]) * 48_000 / video_ticks_per_second
        - shown(&rows.audio, &piece.audio[0])
}

struct Desk {
    _directory: tempfile::TempDir,
    archive: PathBuf,
    pulled: Pulled,
}

/// One pulled part, and an empty archive.
fn desk() -> Desk {
    let directory = tempfile::tempdir().unwrap();
    let reference = encode(directory.path(), Encoding::H264);
    let card = card(&reference, directory.path(), Format::FragmentedMp4);
    let pulled = pull(&card, seconds(5.0, 7.0)).remove(0);
    Desk { archive: directory.path().join("archive"), _directory: directory, pulled }
}

impl Desk {
    /// A written piece whose writer then crashed: only what a ledger recorded is known of it.
    fn crashed(&self) -> Piece {
        write(&self.archive, &self.pulled).piece().clone()
    }

    fn recover(&self, piece: &Piece) -> Recovery {
        recover(&self.archive, piece).unwrap()
    }

    fn file(&self, piece: &Piece) -> PathBuf {
        self.archive.join(&piece.path)
    }

    /// All files of the archive, hidden ones too.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut directories = vec![self.archive.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { directories.push(path) } else { files.push(path) }
            }
        }
        files
    }

    /// The one file there is, which must not be visible to players.
    fn hidden_file(&self) -> PathBuf {
        let mut files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(files[0].file_name().unwrap().to_str().unwrap().starts_with('.'), "{files:?}");
        files.remove(0)
    }

    /// A file that another recorder wrote under the piece's name.
    fn take_name_of(&self, piece: &Piece) -> PathBuf {
        let file = self.file(piece);
        #[expect(clippy::disallowed_methods, reason = "nothing in a test has to survive")]
        std::fs::write(&file, b"original").unwrap();
        file
    }
}

#[test]
fn before_its_name_is_given_a_piece_is_hidden_and_can_be_written_again() {
    let desk = desk();
    let first = desk.crashed();
    let hidden = desk.hidden_file();
    assert_eq!(desk.crashed(), first);
    assert_eq!(desk.hidden_file(), hidden);
}

#[test]
fn a_crash_before_the_rename_is_finished_from_what_was_recorded() {
    let desk = desk();
    let piece = desk.crashed();
    assert_eq!(desk.recover(&piece), Recovery::Placed);
    assert_eq!(desk.files(), [desk.file(&piece)]);
    let bytes = std::fs::read(desk.file(&piece)).unwrap();
    assert_eq!(blake3::hash(&bytes), piece.digest);
    assert_eq!(bytes.len() as u64, piece.size_bytes);
}

#[test]
fn a_crash_after_the_rename_changes_nothing() {
    let desk = desk();
    let piece = desk.crashed();
    assert_eq!(desk.recover(&piece), Recovery::Placed);
    assert_eq!(desk.recover(&piece), Recovery::Placed);
    assert_eq!(desk.files(), [desk.file(&piece)]);
}

#[test]
fn a_crash_between_link_and_unlink_leaves_one_name_in_the_end() {
    let desk = desk();
    let piece = desk.crashed();
    std::fs::hard_link(desk.hidden_file(), desk.file(&piece)).unwrap();
    assert_eq!(desk.recover(&piece), Recovery::Placed);
    assert_eq!(desk.files(), [desk.file(&piece)]);
}

#[test]
fn a_damaged_temporary_file_is_removed_and_the_piece_written_again() {
    let desk = desk();
    let piece = desk.crashed();
    std::fs::File::options().write(true).open(desk.hidden_file()).unwrap().set_len(1_000).unwrap();
    assert_eq!(desk.recover(&piece), Recovery::Redo);
    assert!(desk.files().is_empty());
    assert_eq!(place(&desk.archive, &desk.pulled), piece);
}

#[test]
fn a_piece_of_which_nothing_is_left_is_written_again() {
    let desk = desk();
    let piece = desk.crashed();
    std::fs::remove_file(desk.hidden_file()).unwrap();
    assert_eq!(desk.recover(&piece), Recovery::Redo);
}

#[test]
fn a_name_that_is_taken_meanwhile_is_left_to_its_owner() {
    let desk = desk();
    let piece = write(&desk.archive, &desk.pulled);
    let taken = desk.take_name_of(piece.piece());

    let Publication::NameTaken(piece) = piece.publish().unwrap() else { panic!("replaced a file") };
    let aside = piece.piece().clone();
    assert_eq!(aside.path.file_name().unwrap(), "40-05.000001Z.0.mp4");
    let Publication::Placed(placed) = piece.publish().unwrap() else { panic!("no name is free") };
    assert_eq!(placed, aside);
    assert_eq!(std::fs::read(&taken).unwrap(), b"original");
    assert_eq!(desk.files().len(), 2);
}

#[test]
fn a_crash_after_the_name_was_taken_is_finished_under_the_next_one() {
    let desk = desk();
    let piece = write(&desk.archive, &desk.pulled);
    desk.take_name_of(piece.piece());
    let Publication::NameTaken(piece) = piece.publish().unwrap() else { panic!("replaced a file") };
    let recorded = piece.piece().clone();
    assert_eq!(desk.recover(&recorded), Recovery::Placed);
    assert!(desk.files().contains(&desk.file(&recorded)));
    assert_eq!(desk.files().len(), 2);
}

#[test]
fn the_same_part_placed_twice_is_one_file() {
    let desk = desk();
    let first = place(&desk.archive, &desk.pulled);
    assert_eq!(place(&desk.archive, &desk.pulled), first);
    assert_eq!(desk.files(), [desk.file(&first)]);
}

#[test]
fn recovery_never_replaces_a_file_that_took_the_name() {
    let desk = desk();
    let piece = desk.crashed();
    let taken = desk.take_name_of(&piece);
    assert_eq!(desk.recover(&piece), Recovery::Redo);
    assert_eq!(desk.files(), std::slice::from_ref(&taken));
    assert_eq!(std::fs::read(&taken).unwrap(), b"original");
}
