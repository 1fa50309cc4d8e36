//! Writes the seeds that are not recordings: `make-seeds.sh` runs it.

use std::error::Error;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use sdcard_indexer::clock::{Anchor, Boottime, Epoch, EpochId, Placement, TimeSource, Voucher};
use sdcard_indexer::container::{Hole, MediaTime};
use sdcard_indexer::cut::{CutLimits, cut};
use sdcard_indexer::identity::{BootId, SegmentId, SegmentVersion};
use sdcard_indexer::index::KnownHoles;
use sdcard_indexer::log::Record;
use sdcard_indexer::log::record::{
    ChangedRecord, DigestRecord, GoneRecord, HolesRecord, RemovedRecord, SegmentRecord,
};
use sdcard_indexer::time::{TimeRange, Timestamp};

fn main() -> Result<(), Box<dyn Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    parts(&seeds)?;
    logs(&seeds.join("log"))
}

/// The description of the first part of each recording.
fn parts(seeds: &Path) -> Result<(), Box<dyn Error>> {
    for kind in ["fragmented_mp4", "matroska", "mpegts", "plain_mp4"] {
        for recording in fs::read_dir(seeds.join(kind))? {
            let recording = recording?;
            let file = fs::read(recording.path())?;
            let wanted = MediaTime(0)..MediaTime(i64::MAX);
            let limits = CutLimits::default();
            let parts = cut(&mut Cursor::new(&file), file.len() as u64, wanted, &limits)?;
            let part = parts.first().ok_or("a recording without a part")?;
            fs::write(seeds.join("part").join(recording.file_name()), part.needs.encode())?;
        }
    }
    Ok(())
}

fn logs(seeds: &Path) -> Result<(), Box<dyn Error>> {
    let start = Timestamp::from_unix_seconds(1_577_934_245);
    let held =
        TimeRange::new(start, Timestamp::from_unix_seconds(1_577_934_305)).ok_or("a range")?;
    let segment = Record::Segment(SegmentRecord {
        stream: "main",
        path: b"2020-01-02/03-04-05.mp4",
        size_bytes: 30_000_000,
        modified_ns: 1_577_934_305_000_000_000,
        fingerprint: 0x0123_4567_89ab_cdef,
        held: true,
        named: start,
        duration_ns: 60_000_000_000,
        usable_bytes: 29_999_000,
        placement: Some(Placement {
            start,
            uncertainty: Duration::from_secs(1),
            source: TimeSource::Close,
            epoch: Some(EpochId(1)),
        }),
    });
    let removed = Record::Removed(RemovedRecord {
        stream: "main",
        path: b"03-04-05.mp4",
        held,
        seen_at: start,
    });
    let gone = Record::Gone(GoneRecord { stream: "sub", gone: held.into() });
    let digest = Record::Digest(DigestRecord {
        stream: "main",
        path: b"03-04-05.mp4",
        size_bytes: 2_000_000,
        modified_ns: 1_577_934_305_000_000_000,
        fingerprint: 7,
        whole: [7; 32],
        blocks: &[9; 32],
    });
    let changed = Record::Changed(ChangedRecord {
        segment: SegmentId(0x0123_4567_89ab_cdef),
        version: SegmentVersion { size_bytes: 2_000_000, fingerprint: 8 },
        modified_ns: 1_577_934_305_000_000_000,
        intact_bytes: 1_048_576,
    });
    let epoch = Record::Epoch(Epoch {
        id: EpochId(1),
        boot: BootId(*b"0123456789abcdef"),
        offset_ns: 1_577_934_000_000_000_000,
        first: Boottime::from_nanos(20_000_000_000),
        last: Boottime::from_nanos(900_000_000_000),
        anchors: vec![Anchor {
            first: Boottime::from_nanos(30_000_000_000),
            last: Boottime::from_nanos(900_000_000_000),
            by: Voucher::TimeService,
            behind_ns: 0,
            error_ns: 1_000_000,
        }],
    });
    let holes = KnownHoles {
        inside: vec![Hole { start: MediaTime(1), end: MediaTime(64) }],
        behind: Some(Hole { start: MediaTime(65), end: MediaTime(66) }),
        filled_ns: 2,
    };
    let holes = Record::Holes(HolesRecord { stream: "main", path: b"a.mp4", holes });
    let records = [
        ("segment", segment),
        ("removed", removed),
        ("gone", gone),
        ("digest", digest),
        ("changed", changed),
        ("epoch", epoch),
        ("holes", holes),
    ];
    let mut day = Vec::new();
    for (name, record) in records {
        let mut frame = Vec::new();
        if !record.write_to(&mut frame) {
            return Err("a record too long".into());
        }
        // Also without length and checksum, as the target seals it.
        let sealed = frame.get(4..frame.len() - 4).ok_or("a short frame")?;
        fs::write(seeds.join(name), sealed)?;
        day.extend(frame);
    }
    fs::write(seeds.join("day"), day)?;
    Ok(())
}
