//! UTC in the media itself, as ffmpeg, its bitstream filters and MediaMTX leave it there.

use std::time::{SystemTime, UNIX_EPOCH};

use sdcard_indexer::container::{InBandKind, InBandTime, MediaTime};
use sdcard_indexer::time::Timestamp;

use crate::ffmpeg::Source;
use crate::fixtures::{self, in_box, with_box_changed};
use crate::summary_of;

fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_nanos(since_1970.as_nanos() as i64)
}

#[test]
fn a_producer_reference_time_is_that_of_the_first_frame() {
    let before = now();
    let recording = Source::H264BFrames.muxed("-movflags cmaf+frag_keyframe -write_prft wallclock");
    let found = summary_of(&recording.bytes).unwrap().in_band.unwrap();
    assert_eq!((found.media, found.kind), (MediaTime(0), InBandKind::ProducerReference));
    assert!(before <= found.utc && found.utc <= now(), "{found:?}");

    // ffmpeg can also take what it has as presentation time for UTC: here, the time of the first frame.
    let recording = Source::H264BFrames.made(
        "-i SOURCE -c copy -output_ts_offset 1577934245 -movflags cmaf+frag_keyframe -write_prft pts",
        "mp4",
    );
    let found = summary_of(&recording.bytes).unwrap().in_band.unwrap();
    assert_eq!((found.media, found.kind), (MediaTime(0), InBandKind::ProducerReference));
    let second = 1_577_934_245_000_000_000;
    assert!((second..second + 250_000_000).contains(&found.utc.as_nanos()), "{found:?}");
}

#[test]
fn a_reference_time_of_a_track_that_is_not_there_is_none() {
    let recording = Source::H264.muxed("-movflags cmaf+frag_keyframe -write_prft wallclock");
    let track = with_box_changed(&recording.bytes, &["prft"], |prft| prft[15] = 9);
    assert_eq!(summary_of(&track).unwrap().in_band, None);
    let written = with_box_changed(&recording.bytes, &["prft"], |prft| prft[11] = 4);
    assert_eq!(summary_of(&written).unwrap().in_band, None);
    let cut_off = with_box_changed(&recording.bytes, &["prft"], |prft| prft.truncate(20));
    assert_eq!(summary_of(&cut_off).unwrap().in_band, None);
}

/// 2020-01-02T03:04:05.678901Z.
const UTC: Timestamp = Timestamp::from_nanos(1_577_934_245_678_901_000);

/// Puts `identifier` and the time in place of what was left there for them, of equal length.
fn with_time_stamps(file: &[u8], place: &[u8; 28], identifier: &[u8; 16], status: u8) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h] = (UTC.as_nanos() / 1000).to_be_bytes();
    let time = [status, a, b, 0xff, c, d, 0xff, e, f, 0xff, g, h];
    let mut stamped = file.to_vec();
    while let Some(at) = stamped.windows(28).position(|bytes| bytes == place) {
        stamped[at..at + 16].copy_from_slice(identifier);
        stamped[at + 16..at + 28].copy_from_slice(&time);
    }
    assert!(stamped != file, "ffmpeg left a message to be changed");
    stamped
}

/// ffmpeg puts in the identifier and text, which cannot hold 0xff: the time comes in its place afterwards. Its
/// filter for H.265 cannot do so yet: there the message in which x265 names itself is changed.
#[test]
fn a_precision_time_stamp_of_h264_and_h265_is_that_of_the_frame_it_comes_with() {
    let h264 = "-c copy -bsf:v h264_metadata=sei_user_data=4d495350-6d69-6372-6f73-656374696d65+in-its-place";
    let h265 = "-c:a copy -c:v libx265 -x265-params log-level=none:info=1:repeat-headers=1";
    let x265 = b"\x2c\xa2\xde\x09\xb5\x17\x47\xdb\xbb\x55\xa4\xfe\x7f\xc2\xfc\x4ex265 (build ";
    let identifier = b"\xa8\x68\x7d\xd4\xd7\x59\x37\x58\xa5\xce\xf0\x33\x8b\x65\x45\xf1";
    let expected =
        InBandTime { media: MediaTime(0), utc: UTC, kind: InBandKind::PrecisionTimeStamp };
    for (source, coded, place, identifier) in [
        (Source::H264BFrames, h264, b"MISPmicrosectimein-its-place", b"MISPmicrosectime"),
        (Source::H265OpenGop, h265, x265, identifier),
    ] {
        for options in ["", "-movflags frag_keyframe+empty_moov+default_base_moof", "-f mpegts"] {
            let file = source.made(&format!("-i SOURCE {coded} {options}"), "mp4").bytes;
            let stamped = with_time_stamps(&file, place, identifier, 0x1f);
            assert_eq!(summary_of(&stamped).unwrap().in_band, Some(expected), "{source:?}");
            let unlocked = with_time_stamps(&file, place, identifier, 0x9f);
            assert_eq!(summary_of(&unlocked).unwrap().in_band, None, "{source:?}");
        }
    }
}

#[test]
fn what_mediamtx_leaves_in_moov_is_the_time_of_tick_zero() {
    let file = fixtures::H264_AAC_FRAGMENTED;
    let info = |ntp: i64| {
        let fields = [7_u64.to_be_bytes(), 90_000_u64.to_be_bytes(), (ntp as u64).to_be_bytes()];
        let mtxi = in_box(b"mtxi", &[&[0; 4], &[0xab; 16][..], &fields.concat()].concat());
        with_box_changed(file, &["moov"], |moov| moov.extend(in_box(b"udta", &mtxi)))
    };
    let found = summary_of(&info(UTC.as_nanos())).unwrap();
    let kind = InBandKind::SegmentInfo;
    assert_eq!(found.in_band, Some(InBandTime { media: MediaTime(0), utc: UTC, kind }));
    assert_eq!(found.duration, summary_of(file).unwrap().duration);
    assert_eq!(summary_of(&info(0)).unwrap().in_band, None);
    let nonsense = with_box_changed(file, &["moov"], |moov| moov.extend(in_box(b"udta", &[9; 40])));
    assert_eq!(summary_of(&nonsense).unwrap().in_band, None);
}
