//! The programme as an HLS media playlist (RFC 8216, and its successor's draft for what is said of gaps).
//!
//! Pure. A discontinuity stands where the decoders are set anew, and at holes, where time stamps leap: nowhere else,
//! as all takes are put on one clock. Each take that begins a segment says when it was recorded
//! (`EXT-X-PROGRAM-DATE-TIME`), each hole what is missing (`EXT-X-DATERANGE`): so a player goes on behind it at once,
//! and who wants to know finds it.

use std::fmt::{self, Write};
use std::time::Duration;

use sdcard_indexer::time::{TimeRange, Timestamp};

use super::programme::{Edition, Programme, Segment};

/// Of `EXT-X-MAP` in playlists of fragments (RFC 8216, 7) and of what else is used here.
const VERSION: u32 = 7;
/// What holes are called in `EXT-X-DATERANGE`.
pub const HOLE_CLASS: &str = "org.gapless.hole";

/// What a playlist's paths lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reference {
    /// `ftyp` and `moov` of a chapter.
    Head(usize),
    Segment(usize),
}

impl Reference {
    /// What a path's last part, as it stands in a playlist, means.
    pub fn read(name: &str) -> Option<Reference> {
        let number = |digits: &str| digits.parse::<usize>().ok();
        let reference = match name.strip_suffix(".m4s") {
            Some(segment) => Reference::Segment(number(segment)?),
            None => Reference::Head(number(name.strip_prefix("head-")?.strip_suffix(".mp4")?)?),
        };
        (reference.to_string() == name).then_some(reference)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Head(chapter) => write!(formatter, "head-{chapter}.mp4"),
            Reference::Segment(segment) => write!(formatter, "{segment}.m4s"),
        }
    }
}

/// The playlist of a whole programme. Its paths are relative to its own: `playback/EDITION/NAME`.
pub fn playlist(programme: &Programme) -> String {
    let segments = programme.segments();
    let mut text = String::with_capacity(256 + segments.len() * 128);
    write_playlist(&mut text, programme.edition(), segments)
        .expect("writing into a string does not fail");
    text
}

fn write_playlist(text: &mut String, edition: Edition, segments: &[Segment]) -> fmt::Result {
    let longest = segments.iter().map(|segment| rounded_seconds(segment.duration)).max();
    writeln!(text, "#EXTM3U")?;
    writeln!(text, "#EXT-X-VERSION:{VERSION}")?;
    writeln!(text, "#EXT-X-TARGETDURATION:{}", longest.unwrap_or(1).max(1))?;
    writeln!(text, "#EXT-X-PLAYLIST-TYPE:VOD")?;
    writeln!(text, "#EXT-X-MEDIA-SEQUENCE:0")?;
    if segments.iter().all(|segment| segment.independent) {
        writeln!(text, "#EXT-X-INDEPENDENT-SEGMENTS")?;
    }
    let path = |reference: Reference| format!("playback/{edition}/{reference}");
    let mut before: Option<&Segment> = None;
    let mut holes = 0;
    for (number, segment) in segments.iter().enumerate() {
        let chapter = (before.map(|before| before.chapter) != Some(segment.chapter))
            .then_some(segment.chapter);
        if before.is_some() && (chapter.is_some() || segment.hole.is_some()) {
            writeln!(text, "#EXT-X-DISCONTINUITY")?;
        }
        if let Some(chapter) = chapter {
            writeln!(text, "#EXT-X-MAP:URI=\"{}\"", path(Reference::Head(chapter)))?;
        }
        if let Some(hole) = segment.hole {
            write_hole(text, holes, hole)?;
            holes += 1;
        }
        if segment.opens_take || chapter.is_some() {
            writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", millis(segment.shown_at))?;
        }
        writeln!(text, "#EXTINF:{:.6},", segment.duration.as_secs_f64())?;
        writeln!(text, "{}", path(Reference::Segment(number)))?;
        before = Some(segment);
    }
    writeln!(text, "#EXT-X-ENDLIST")
}

fn write_hole(text: &mut String, number: usize, hole: TimeRange) -> fmt::Result {
    writeln!(
        text,
        "#EXT-X-DATERANGE:ID=\"hole-{number}\",CLASS=\"{HOLE_CLASS}\",START-DATE=\"{}\",DURATION={:.3}",
        millis(hole.start()),
        hole.duration().as_secs_f64(),
    )
}

/// As playlists say instants, in milliseconds: finer ones confuse some players.
fn millis(instant: Timestamp) -> String {
    format!("{:.3}", instant.to_jiff())
}

/// `EXTINF`, rounded to whole seconds, must not be above the target duration (RFC 8216, 4.3.3.1).
fn rounded_seconds(duration: Duration) -> u64 {
    duration.saturating_add(Duration::from_millis(500)).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_nanos(1_795_426_800_000_000_000 + millis * 1_000_000)
    }

    fn segment(number: usize, begins_ms: i64, duration_ms: u64) -> Segment {
        Segment {
            fragments: number..number + 1,
            chapter: 0,
            independent: true,
            shown_at: at(begins_ms),
            duration: Duration::from_millis(duration_ms),
            opens_take: false,
            hole: None,
        }
    }

    fn playlist(segments: &[Segment]) -> String {
        let range = TimeRange::starting_at(Timestamp::from_nanos(1), Duration::from_nanos(1));
        let mut text = String::new();
        write_playlist(&mut text, Edition { range, number: 0xa }, segments).unwrap();
        text
    }

    #[test]
    fn a_playlist_marks_holes_and_settings_and_says_when_each_take_was_recorded() {
        let segments = [
            Segment { opens_take: true, ..segment(0, 0, 4_000) },
            segment(1, 4_000, 4_520),
            Segment {
                opens_take: true,
                hole: TimeRange::new(at(8_520), at(53_520)),
                ..segment(2, 53_520, 2_000)
            },
            Segment { opens_take: true, chapter: 1, ..segment(3, 55_520, 4_000) },
            Segment { opens_take: true, chapter: 1, ..segment(4, 59_520, 1_480) },
        ];
        let expected = "\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:5
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"playback/1_2_000000000000000a/head-0.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-23T09:40:00.000Z
#EXTINF:4.000000,
playback/1_2_000000000000000a/0.m4s
#EXTINF:4.520000,
playback/1_2_000000000000000a/1.m4s
#EXT-X-DISCONTINUITY
#EXT-X-DATERANGE:ID=\"hole-0\",CLASS=\"org.gapless.hole\",START-DATE=\"2026-11-23T09:40:08.520Z\",DURATION=45.000
#EXT-X-PROGRAM-DATE-TIME:2026-11-23T09:40:53.520Z
#EXTINF:2.000000,
playback/1_2_000000000000000a/2.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"playback/1_2_000000000000000a/head-1.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-23T09:40:55.520Z
#EXTINF:4.000000,
playback/1_2_000000000000000a/3.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-23T09:40:59.520Z
#EXTINF:1.480000,
playback/1_2_000000000000000a/4.m4s
#EXT-X-ENDLIST
";
        similar(&playlist(&segments), expected);
    }

    /// Lines where they differ, rather than two texts.
    fn similar(found: &str, expected: &str) {
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.lines().count(), expected.lines().count());
    }

    #[test]
    fn another_parser_reads_what_was_written() {
        let segments = [
            Segment { opens_take: true, ..segment(0, 0, 4_000) },
            Segment { hole: TimeRange::new(at(4_000), at(9_000)), ..segment(1, 9_000, 4_000) },
            Segment { independent: false, ..segment(2, 13_000, 4_000) },
        ];
        let text = playlist(&segments);
        let (_, read) = m3u8_rs::parse_media_playlist(text.as_bytes()).unwrap();
        assert_eq!((read.version, read.target_duration, read.end_list), (Some(7), 4, true));
        assert!(!read.independent_segments);
        let discontinuities: Vec<bool> =
            read.segments.iter().map(|segment| segment.discontinuity).collect();
        assert_eq!(discontinuities, [false, true, false]);
        let hole = read.segments[1].daterange.as_ref().unwrap();
        assert_eq!((hole.class.as_deref(), hole.duration), (Some(HOLE_CLASS), Some(5.0)));
    }

    #[test]
    fn a_name_reads_back_and_nothing_else_is_one() {
        for reference in [Reference::Head(0), Reference::Segment(1_207)] {
            assert_eq!(Reference::read(&reference.to_string()), Some(reference));
        }
        for name in ["", "00.m4s", "-1.m4s", "1.mp4", "head-.mp4", "head-+1.mp4", "../0.m4s"] {
            assert_eq!(Reference::read(name), None, "{name}");
        }
    }
}
