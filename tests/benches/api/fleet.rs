//! Devices with a month of one-minute segments each, and holes of which some were filled, some are lost, some open.

use std::time::Duration;

use protocol::message::Part;
use reconciler::archive::Archived;
use reconciler::fleet::{Holding, StreamKey};
use reconciler::ledger::{
    PartId, PartRecord, PartState, Piece, PieceSeam, StreamRecord, TimelineRecord,
};
use reconciler::offset::Offsets;
use reconciler::seam::{Edge, Seam};
use reconciler::timeline::{EdgePiece, Facts, Proof, State, Stretch};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::{SegmentId, SegmentVersion};
use sdcard_indexer::time::{TimeRange, Timestamp};

const MINUTE: i64 = 60_000_000_000;

/// The recording of one stream; that of every device is alike.
pub struct Month {
    whole: TimeRange,
    holes: Vec<TimeRange>,
}

impl Month {
    pub fn new(days: i64, holes: i64) -> Month {
        let end = Timestamp::from_jiff(jiff::Timestamp::now());
        let start = end.saturating_offset(-days * 24 * 60 * MINUTE);
        let apart = (days * 24 * 60 / holes.max(1)).max(2);
        let hole = |number: i64| {
            let at = start.saturating_offset((number * apart + 1) * MINUTE);
            TimeRange::starting_at(at, Duration::from_secs(5 + (number % 7) as u64 * 7))
        };
        let whole = TimeRange::new(start, end).expect("time goes on");
        Month { whole, holes: (0..holes).map(hole).collect() }
    }

    /// `from=&to=` of the newest hours.
    pub fn last(&self, hours: i64) -> String {
        let from = self.whole.end().saturating_offset(-hours * 60 * MINUTE);
        format!("from={from}&to={}", self.whole.end())
    }

    pub fn stretches(&self) -> usize {
        self.facts().timeline().len()
    }

    pub fn timeline(&self) -> TimelineRecord {
        TimelineRecord { as_of: self.whole.end(), stretches: self.facts().timeline() }
    }

    /// Two of three holes were filled.
    fn is_filled(number: usize) -> bool {
        number % 3 != 2
    }

    pub fn archived(&self) -> Archived {
        let open = self.holes.iter().enumerate().filter(|(number, _)| !Self::is_filled(*number));
        let open: Coverage = open.map(|(_, hole)| *hole).collect();
        Archived { held: Coverage::from(self.whole).difference(&open), removed: Coverage::new() }
    }

    /// Of what is open, a half is lost.
    fn verdicts(&self) -> Vec<Stretch> {
        let lost = self.holes.iter().enumerate().filter(|(number, _)| number % 6 == 2);
        let state = || State::NeverRecorded { cause: "the card has a hole there too".into() };
        lost.map(|(_, hole)| Stretch { range: *hole, state: state() }).collect()
    }

    fn facts(&self) -> Facts {
        let filled = self.holes.iter().enumerate().filter(|(number, _)| Self::is_filled(*number));
        let piece = |(_, range): (usize, &TimeRange)| EdgePiece {
            range: *range,
            proof: Proof::Digest,
            uncertainty_ns: 0,
        };
        Facts {
            expected: self.whole.into(),
            live: self.archived().held,
            edge: filled.map(piece).collect(),
            verdicts: self.verdicts(),
            held: self.whole.into(),
            join_tolerance: Duration::from_millis(500),
            ..Facts::default()
        }
    }

    /// What a server finds of such a stream; `first` is the number of its first part.
    pub fn record(&self, key: StreamKey, first: i64) -> StreamRecord {
        let filled = self.holes.iter().enumerate().filter(|(number, _)| Self::is_filled(*number));
        let parts = (first..).zip(filled).map(|(id, (_, hole))| part(&key, id, *hole)).collect();
        let holding = Holding {
            held: self.whole.into(),
            horizon: Some(self.whole.start()),
            final_until: self.whole.end(),
            tier: 1,
            ..Holding::default()
        };
        StreamRecord {
            expected_from: self.whole.start(),
            holding: Some(holding),
            offsets: Offsets::default(),
            verdicts: self.verdicts(),
            parts,
            key,
        }
    }
}

fn part(key: &StreamKey, id: i64, range: TimeRange) -> PartRecord {
    let part = Part {
        segment: SegmentId(7),
        version: SegmentVersion { size_bytes: 9_000_000, fingerprint: 1 },
        start: 0,
        end: 9_000_000,
        range,
        uncertainty_ns: 0,
        media: Vec::new(),
    };
    let seam = Seam::Exact { offset_ns: -3, error_ns: 1, equal_frames: 4 };
    let seams = vec![PieceSeam { edge: Edge::Opening, seam }];
    let path = format!("{key}/{id}.mp4").into();
    PartRecord {
        state: PartState::Archived,
        proof: Proof::Digest,
        piece: Some(Piece { path, digest: [0; 32], size_bytes: 9_000_000, range, seams }),
        ..PartRecord::located(PartId(id), key.clone(), part, range.end())
    }
}
