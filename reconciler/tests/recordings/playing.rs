//! What players get over HTTP, as HLS and as one MP4, is what was recorded.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use m3u8_rs::MediaPlaylist;
use reconciler::playback::{
    ArchivedSegment, Programme, Projector, Seams, SeekableFile, Tolerances, reels, view,
};
use reconciler::timeline::Recorder;
use sdcard_indexer::time::TimeRange;

use crate::footage::*;
use crate::playback::{edge, live_with_hole, starts, steps};
use crate::screen::{Screen, query};

/// Runs ffmpeg beside the server that it reads from.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn frames_at(url: String) -> Rows {
    beside(move || frames(Path::new(&url))).await
}

async fn packets_at(url: String) -> Rows {
    beside(move || packets(Path::new(&url))).await
}

async fn playlist(screen: &Screen, range: TimeRange) -> MediaPlaylist {
    let (status, headers, body) = screen.get(&format!("playback.m3u8?{}", query(range)), &[]).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    assert_eq!(headers["content-type"], "application/vnd.apple.mpegurl");
    let (rest, playlist) = m3u8_rs::parse_media_playlist(&body).unwrap();
    assert!(rest.is_empty());
    playlist
}

/// All of a presentation, one chapter after the other: each with its head, as a file of its own.
async fn chapters(screen: &Screen, playlist: &MediaPlaylist) -> Vec<Vec<u8>> {
    let mut chapters: Vec<Vec<u8>> = Vec::new();
    for segment in &playlist.segments {
        if let Some(map) = &segment.map {
            let (status, headers, head) = screen.get(&map.uri, &[]).await;
            assert_eq!(
                (status, &headers["content-type"]),
                (StatusCode::OK, &"video/mp4".parse().unwrap())
            );
            chapters.push(head.to_vec());
        }
        let (status, headers, media) = screen.get(&segment.uri, &[]).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["content-length"], media.len().to_string());
        chapters.last_mut().unwrap().extend(media);
    }
    chapters
}

fn store(file: &Path, bytes: &[u8]) {
    File::create(file).unwrap().write_all(bytes).unwrap();
}

/// No time stamp runs backwards or leaps.
fn assert_even(rows: &Rows, what: &str) {
    for rows in [&rows.video, &rows.audio] {
        let expected: Vec<i64> = (0..rows.len() as i64).collect();
        assert_same(&steps(rows), &expected, what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_and_mp4_across_seams_cannot_be_told_from_a_recording_without_one() {
    for encoding in PICTURES {
        let home = tempfile::tempdir().unwrap();
        let reference = encode(home.path(), encoding);
        let (original, original_frames) = (packets(&reference), frames(&reference));
        for (live, on_card) in [(FORMATS[0], FORMATS[1]), (Format::MpegTs, FORMATS[1])] {
            let what = format!("{encoding:?}, live {live:?}, card {on_card:?}");
            let directory = tempfile::tempdir().unwrap();
            let mut segments = live_with_hole(&reference, directory.path(), live);
            segments.extend(edge(&reference, directory.path(), on_card, seconds(7.0, 13.0)));
            let screen = Screen::show(&segments).await;
            let range = query(seconds(0.0, 20.0));

            let playlist = playlist(&screen, seconds(0.0, 20.0)).await;
            let discontinuities = playlist.segments.iter().filter(|it| it.discontinuity).count();
            assert_eq!(discontinuities, 0, "{what}: the frames on both sides are known");
            assert!(playlist.end_list && playlist.version >= Some(7));
            let length: f32 = playlist.segments.iter().map(|segment| segment.duration).sum();
            assert!((length - SECONDS as f32).abs() < 0.001, "{what}: {length} s");
            assert!(playlist.segments.iter().all(|segment| segment.duration <= 6.0), "{what}");

            for path in ["playback.m3u8", "playback.mp4"] {
                let what = format!("{what}, {path}");
                let url = screen.url(&format!("{path}?{range}"));
                let played = frames_at(url.clone()).await;
                assert_same(&hashes(&played.video), &hashes(&original_frames.video), &what);
                assert_even(&played, &what);
                let played = packets_at(url).await;
                assert_same(&hashes(&played.audio), &hashes(&original.audio), &what);
                assert_even(&Rows { video: Vec::new(), ..played }, &what);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_untouched_where_all_of_it_is_mp4() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264WithBFrames);
    let original = packets(&reference);
    let mut segments = live_with_hole(&reference, home.path(), Format::FragmentedMp4);
    segments.extend(edge(&reference, home.path(), Format::PlainMp4, seconds(7.0, 13.0)));
    let screen = Screen::show(&segments).await;
    for path in ["playback.m3u8", "playback.mp4"] {
        let url = screen.url(&format!("{path}?{}", query(seconds(0.0, 20.0))));
        let played = packets_at(url).await;
        assert_same(&hashes(&played.video), &hashes(&original.video), path);
        assert_same(&starts(&played.audio), &starts(&original.audio), path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_marked_and_the_time_behind_it_is_known() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264);
    let original = frames(&reference);
    let segments = live_with_hole(&reference, home.path(), Format::FragmentedMp4);
    let screen = Screen::show(&segments).await;
    let playlist = playlist(&screen, seconds(0.0, 20.0)).await;

    let behind = playlist.segments.iter().position(|segment| segment.discontinuity).unwrap();
    let others = playlist.segments.iter().filter(|segment| segment.discontinuity).count();
    assert_eq!(others, 1);
    let first = &playlist.segments[behind];
    let hole = first.daterange.as_ref().unwrap();
    let millis = |second: f64| at(second).as_nanos() / 1_000_000;
    assert_eq!(hole.class.as_deref(), Some(reconciler::playback::HOLE_CLASS));
    assert_eq!(hole.start_date.timestamp_millis(), millis(7.4));
    assert!((hole.duration.unwrap() - 5.6).abs() < 0.001);
    let recorded =
        |segment: &m3u8_rs::MediaSegment| segment.program_date_time.map(|it| it.timestamp_millis());
    assert_eq!(recorded(&playlist.segments[0]), Some(millis(0.0)));
    assert_eq!(recorded(first), Some(millis(13.0)));
    assert!(first.map.is_none(), "the decoders are as they were");

    let outside: Vec<Row> =
        original.video[..185].iter().chain(&original.video[325..]).cloned().collect();
    for path in ["playback.m3u8", "playback.mp4"] {
        let url = screen.url(&format!("{path}?{}", query(seconds(0.0, 20.0))));
        let played = frames_at(url).await;
        assert_same(&hashes(&played.video), &hashes(&outside), path);
        let shown: Vec<Row> = relative(&played.video);
        let frame = shown[1].pts;
        assert_eq!(shown[185].pts, 325 * frame, "{path}: the hole keeps its length");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_encoder_settings_are_a_new_head_in_hls_and_named_for_one_file() {
    let home = tempfile::tempdir().unwrap();
    let (one_home, two_home) = (home.path().join("1"), home.path().join("2"));
    std::fs::create_dir_all(&one_home).unwrap();
    std::fs::create_dir_all(&two_home).unwrap();
    let one = encode(&one_home, Encoding::H264);
    let two = encode(&two_home, Encoding::H264WithBFrames);
    let originals = [packets(&one), packets(&two)];
    let segments =
        [segment(one, 0.0, Recorder::Live), segment(two, SECONDS as f64, Recorder::Live)];
    let screen = Screen::show(&segments).await;
    let range = seconds(0.0, 2.0 * SECONDS as f64);
    let playlist = playlist(&screen, range).await;
    let changes: Vec<usize> =
        (0..playlist.segments.len()).filter(|&at| playlist.segments[at].discontinuity).collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(playlist.segments[changes[0]].map.is_some());

    let chapters = chapters(&screen, &playlist).await;
    assert_eq!(chapters.len(), 2);
    for (number, (chapter, original)) in chapters.iter().zip(&originals).enumerate() {
        let file = home.path().join(format!("chapter-{number}.mp4"));
        store(&file, chapter);
        let (played, what) = (packets(&file), format!("chapter {number}"));
        assert_same(&hashes(&played.video), &hashes(&original.video), &what);
        // Of two files' sound at one instant, the later one's is left out.
        let lacking = original.audio.len() - played.audio.len();
        assert!(lacking <= 2 * number, "{what}: {lacking} packets of sound are missing");
        assert_same(&hashes(&played.audio), &hashes(&original.audio[lacking..]), &what);
    }

    let (status, _, problem) = screen.get(&format!("playback.mp4?{}", query(range)), &[]).await;
    let problem = String::from_utf8(problem.to_vec()).unwrap();
    assert_eq!(status, StatusCode::CONFLICT);
    let change = at(SECONDS as f64).to_string();
    assert!(problem.contains(change.trim_end_matches('Z')), "{problem}");
}

/// The same recording again and again: an hour of it.
fn hour(reference: &Path) -> Vec<ArchivedSegment> {
    (0..180)
        .map(|number| segment(reference.to_owned(), (number * SECONDS) as f64, Recorder::Live))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_seeks_reads_only_what_lies_there() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264);
    let original = frames(&reference);
    let screen = Screen::show(&hour(&reference)).await;
    let path = format!("playback.mp4?{}", query(seconds(0.0, 3_600.0)));
    let (status, headers, _) = screen.ask("HEAD", &path, &[]).await;
    assert_eq!(status, StatusCode::OK);
    let all: u64 = headers["content-length"].to_str().unwrap().parse().unwrap();
    screen.bytes_sent();

    let url = screen.url(&path);
    let seek = move || {
        let options = ["-ss", "3001", "-i", &url, "-map", "0:v", "-frames:v", "25", "-vsync"];
        rows(&ffmpeg(&[&options, ["passthrough", "-f", "framemd5", "-"].as_slice()].concat()))
    };
    let played = beside(seek).await;
    // The sound begins a packet earlier than the picture, which so begins behind second zero.
    assert_same(&hashes(&played.video), &hashes(&original.video[25..50]), "one second in");
    let sent = screen.bytes_sent();
    assert!(sent < all / 10, "{sent} of {all} bytes were sent for a second of the hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_is_sent_as_it_is_read_and_nobody_is_read_for_who_takes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264);
    let screen = Screen::show(&hour(&reference)).await;
    let path = format!("playback.mp4?{}", query(seconds(0.0, 3_600.0)));
    screen.bytes_sent();
    let response = screen.open("GET", &path, &[]).await;
    let all: u64 = response.headers()["content-length"].to_str().unwrap().parse().unwrap();

    // Another answer, made from beginning to end, while the first is not taken.
    let (status, _, body) = screen.get(&path, &[("range", "bytes=0-999999")]).await;
    assert_eq!((status, body.len()), (StatusCode::PARTIAL_CONTENT, 1_000_000));
    let ahead = screen.bytes_sent() - 1_000_000;
    assert!(ahead < all / 3, "{ahead} of {all} bytes were made for nobody");

    use http_body_util::BodyExt;
    let (mut body, mut taken, mut largest) = (response.into_body(), 0u64, 0);
    while let Some(frame) = body.frame().await {
        let bytes = frame.unwrap().into_data().unwrap().len();
        (taken, largest) = (taken + bytes as u64, largest.max(bytes));
    }
    assert_eq!(taken, all);
    assert!(largest < 1_000_000, "{largest} bytes at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_makes_room_for_others() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264);
    let screen = Screen::show(&hour(&reference)).await;
    let path = format!("playback.mp4?{}", query(seconds(0.0, 3_600.0)));
    let mut open = Vec::new();
    let refused = loop {
        let response = screen.open("GET", &path, &[]).await;
        match response.status() {
            StatusCode::OK => open.push(response),
            status => break status,
        }
        assert!(open.len() < 1_000, "as many as anybody likes");
    };
    assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    drop(open);
    let again = async {
        while screen.open("GET", &path, &[]).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("there is room again");
}

#[test]
fn whatever_stretch_is_asked_for_has_the_same_bytes() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H265);
    let mut segments = live_with_hole(&reference, home.path(), Format::MpegTs);
    segments.extend(edge(&reference, home.path(), Format::FragmentedMp4, seconds(7.0, 13.0)));
    let seams = Seams::default();
    let runs = view(&segments, &seams, Tolerances::default());
    let plan = || std::sync::Arc::new(Programme::plan(&runs, seconds(1.5, 18.5)).unwrap());
    let (programme, again) = (plan(), plan());
    assert_eq!(programme.edition(), again.edition());
    assert_eq!(programme.segments(), again.segments());
    let read = |programme: &std::sync::Arc<Programme>, range: std::ops::Range<u64>| {
        let (mut projector, reels) = (Projector::new(programme.clone(), range), reels());
        let mut bytes = Vec::new();
        while let Some(chunk) = projector.next_chunk(&reels).unwrap() {
            bytes.extend(chunk);
        }
        bytes
    };
    let all = read(&programme, 0..u64::MAX);
    assert_eq!(all.len() as u64, programme.media_bytes());
    let length = all.len();
    let mut from = 0;
    for step in 1.. {
        let to = (from + step * 1_237).min(length);
        let part = read(&again, from as u64..to as u64);
        assert!(part == all[from..to], "{from}..{to}");
        if to == length {
            break;
        }
        // Stretches overlap, and begin anywhere.
        from = to - step;
    }
    let segments = (0..programme.segments().len()).map(|it| programme.segment_bytes(it).unwrap());
    let put_together: Vec<u8> = segments.flat_map(|range| read(&programme, range)).collect();
    assert!(put_together == all);

    let file = SeekableFile::of(&programme).unwrap();
    let (head, media) = file.stretch(0..file.bytes());
    assert_eq!(media, 0..length as u64);
    let path = home.path().join("whole.mp4");
    store(&path, &[&head, all.as_slice()].concat());
    assert_eq!(file.stretch(7..9), (head.slice(7..9), 0..0));
    assert_eq!(file.stretch(9..head.len() as u64 + 5), (head.slice(9..), 0..5));
    let rows =
        run("ffprobe", &["-v", "warning", "-show_packets", "-of", "csv", path.to_str().unwrap()]);
    assert!(rows.lines().count() > 17 * FRAMES_PER_SECOND);
}

#[test]
fn a_recording_that_has_become_another_is_not_played_as_what_was_planned() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264);
    let file = home.path().join("live.mp4");
    std::fs::copy(&reference, &file).unwrap();
    let segments = [segment(file.clone(), 0.0, Recorder::Live)];
    let seams = Seams::default();
    let runs = view(&segments, &seams, Tolerances::default());
    let programme = std::sync::Arc::new(Programme::plan(&runs, seconds(0.0, 20.0)).unwrap());
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(encode(other.path(), Encoding::H264WithOpus), &file).unwrap();
    let error = Projector::new(programme, 0..10).next_chunk(&reels()).unwrap_err();
    assert!(error.to_string().contains("live.mp4"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edition_is_played_to_its_end_though_the_archive_has_come_to_hold_more() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264);
    let mut screen =
        Screen::show(&live_with_hole(&reference, home.path(), Format::FragmentedMp4)).await;
    let range = seconds(0.0, 20.0);
    let before = playlist(&screen, range).await;
    let file = format!("playback.mp4?{}", query(range));
    let (_, headers, whole) = screen.get(&file, &[]).await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    for piece in edge(&reference, home.path(), Format::FragmentedMp4, seconds(7.0, 13.0)) {
        screen.add(&piece).await;
    }
    let after = playlist(&screen, range).await;
    assert_ne!(before.segments[0].uri, after.segments[0].uri);
    assert!(after.segments.iter().all(|segment| !segment.discontinuity));
    assert_eq!(chapters(&screen, &before).await.len(), 1, "all of it is still there");

    let part = [("range", "bytes=5000-5999")];
    let (status, _, body) = screen.get(&file, &[part[0], ("if-range", tag.as_str())]).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert!(body == whole[5000..6000], "the rest of another file");
    let (status, headers, _) = screen.get(&file, &[part[0], ("if-range", "\"1_2_0\"")]).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(headers["etag"].to_str().unwrap(), tag);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_still_is_the_keyframe_before_an_instant() {
    let home = tempfile::tempdir().unwrap();
    for encoding in [Encoding::H264WithBFrames, Encoding::H265] {
        let reference = encode(home.path(), encoding);
        let original = frames(&reference);
        let screen = Screen::show(&[segment(reference.clone(), 0.0, Recorder::Live)]).await;
        let played = frames_at(screen.url(&format!("still.mp4?at={}", at(7.7)))).await;
        assert_same(&hashes(&played.video), &hashes(&original.video[175..176]), "the frame at 7 s");
        assert!(played.audio.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_told_from_others_and_given_in_parts() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264WithoutSound);
    let screen = Screen::show(&[segment(reference, 0.0, Recorder::Live)]).await;
    let path = format!("playback.mp4?{}", query(seconds(2.0, 12.0)));
    let (status, headers, whole) = screen.get(&path, &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["accept-ranges"], "bytes");
    let tag = headers["etag"].to_str().unwrap().to_owned();
    let (status, headers, nothing) = screen.ask("HEAD", &path, &[]).await;
    assert_eq!((status, nothing.len()), (StatusCode::OK, 0));
    assert_eq!(headers["content-length"], whole.len().to_string());

    let last = whole.len() - 1;
    for (range, from, to) in [
        ("bytes=0-99".to_owned(), 0, 99),
        ("bytes=100-70000".to_owned(), 100, 70_000),
        ("bytes=-10".to_owned(), last - 9, last),
        (format!("bytes={last}-"), last, last),
    ] {
        let (status, headers, part) = screen.get(&path, &[("range", &range)]).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(headers["content-range"], format!("bytes {from}-{to}/{}", whole.len()));
        assert!(part == whole[from..=to], "{range}");
    }
    let beyond = format!("bytes={}-", whole.len());
    let (status, headers, _) = screen.get(&path, &[("range", &beyond)]).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(headers["content-range"], format!("bytes */{}", whole.len()));
    let (status, _, nothing) = screen.get(&path, &[("if-none-match", &tag)]).await;
    assert_eq!((status, nothing.len()), (StatusCode::NOT_MODIFIED, 0));
    let (_, headers, _) = screen.ask("HEAD", &format!("{path}&download=clip"), &[]).await;
    assert_eq!(headers["content-disposition"], "attachment; filename=\"clip.mp4\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_played_is_refused_with_what_is_near() {
    let home = tempfile::tempdir().unwrap();
    let reference = encode(home.path(), Encoding::H264);
    let screen =
        Screen::show(&live_with_hole(&reference, home.path(), Format::FragmentedMp4)).await;
    let in_hole = query(seconds(8.0, 12.0));
    let day = query(seconds(0.0, 86_400.0));
    let empty = query(seconds(3.0, 3.0));
    let known = playlist(&screen, seconds(0.0, 20.0)).await.segments[0].uri.clone();
    let unknown = known.replace("/0.m4s", "/99.m4s");
    let other = known.rsplit_once('_').unwrap().0.to_owned() + "_0123456789abcdef/0.m4s";
    for (path, expected, word) in [
        (
            format!("playback.m3u8?{in_hole}"),
            StatusCode::NOT_FOUND,
            "begins at 2026-11-23T09:40:13",
        ),
        (format!("playback.mp4?{in_hole}"), StatusCode::NOT_FOUND, "ends at 2026-11-23T09:40:07.4"),
        (
            format!("still.mp4?at={}", at(9.0)),
            StatusCode::NOT_FOUND,
            "begins at 2026-11-23T09:40:13",
        ),
        (format!("playback.m3u8?{day}"), StatusCode::UNPROCESSABLE_ENTITY, "12h"),
        (format!("playback.mp4?{empty}"), StatusCode::UNPROCESSABLE_ENTITY, "empty"),
        (
            "playback.m3u8?from=yesterday&to=now".to_owned(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "yesterday",
        ),
        (unknown, StatusCode::NOT_FOUND, "99.m4s"),
        (other, StatusCode::NOT_FOUND, "load the playlist anew"),
        ("playback/1_2_3/..%2f..%2fledger.db".to_owned(), StatusCode::NOT_FOUND, "no playlist"),
    ] {
        let (status, headers, body) = screen.get(&path, &[]).await;
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(status, expected, "{path}: {body}");
        assert_eq!(headers["content-type"], "application/problem+json", "{path}");
        assert!(body.contains(word), "{path}: {body}");
    }
}
