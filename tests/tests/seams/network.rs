//! A live recorder that gets the stream as RTP over UDP, from ffmpeg to ffmpeg, and is not there all the time.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::artifacts::tool;
use tests::media::Form;
use tests::media::frames;

use crate::encoder::{Encoder, FRAMES_PER_SECOND, MOVING, encode, text};
use crate::recorders::{Format, archived, copy, pull};
use crate::scene::{codec, merge};

const SECONDS: u32 = 14;
const PICTURES: i64 = SECONDS as i64 * FRAMES_PER_SECOND;

/// A child process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &str) -> Process {
    let mut command = Command::new(tool("ffmpeg").unwrap());
    command.args(["-hide_banner", "-loglevel", "fatal", "-nostdin", "-y"]);
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null());
    Process(command.spawn().unwrap())
}

/// Sends the pictures as a camera does, as they are shown.
fn camera(made: &Path, port: u16) -> Process {
    let to = format!("rtp://127.0.0.1:{port}?pkt_size=1200");
    start(&format!("-re -i {} -map 0:v -c copy -f rtp {to}", text(made)))
}

/// What is sent, for who receives it.
fn description(made: &Path, port: u16, directory: &Path) -> PathBuf {
    let file = directory.join("camera.sdp");
    let to = format!("rtp://127.0.0.1:{port}");
    let arguments =
        format!("-i {} -map 0:v -c copy -t 0 -f rtp -sdp_file {} {to}", text(made), text(&file));
    let mut sent = start(&arguments);
    assert!(sent.0.wait().unwrap().success());
    file
}

/// How a recorder stamps what it receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stamps {
    /// As the camera has stamped it.
    Camera,
    /// With the time at which it arrives.
    Arrival,
}

/// Records from now on, for as long as `pictures` take.
fn record(description: &Path, stamps: Stamps, pictures: i64, to: &Path) -> Process {
    let stamps = match stamps {
        Stamps::Camera => "",
        Stamps::Arrival => "-use_wallclock_as_timestamps 1",
    };
    start(&format!(
        "{stamps} -protocol_whitelist file,udp,rtp -reorder_queue_size 0 -analyzeduration 200000 -i {} -c copy -copyinkf \
         -frames:v {pictures} -f mp4 -movflags +frag_keyframe+empty_moov+default_base_moof {}",
        text(description),
        text(to)
    ))
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // RTP goes by even ports, RTCP by the odd ones behind them.
    socket.local_addr().unwrap().port() & !1
}

fn a_recording_over_rtp_is_whole_again(encoder: Encoder, stamps: Stamps) {
    let home = tempfile::tempdir().unwrap();
    let made = encode(home.path(), encoder, MOVING, SECONDS, FRAMES_PER_SECOND, 25);
    let card = home.path().join("card");
    copy(&made, 0..PICTURES, 0..0, Format::FragmentedMp4, &card, FRAMES_PER_SECOND);
    let port = free_port();
    let description = description(&made, port, home.path());
    let [before, behind] = ["before.mp4", "behind.mp4"].map(|name| home.path().join(name));

    let mut first = record(&description, stamps, 110, &before);
    let mut camera = camera(&made, port);
    assert!(first.0.wait().unwrap().success());
    // The network is away: two seconds by the camera's own pace.
    std::thread::sleep(Duration::from_secs(2));
    let mut second = record(&description, stamps, 1_000, &behind);
    assert!(camera.0.wait().unwrap().success());
    interrupt(&mut second);

    let (first, second) = (pictures(&before, encoder), pictures(&behind, encoder));
    let whole = frames(&made, Form::Slices(codec(encoder))).unwrap();
    let place = |hash: &str| whole.iter().position(|frame| frame.hash == hash).unwrap();
    let (begins, until) = (place(&first[0]), place(&first[first.len() - 1]) + 1);
    let resumes = place(&second[0]);
    println!("{encoder:?}: live has {begins}..{until} and {resumes}..");
    assert!(until < resumes, "nothing is missing: {until}, {resumes}");

    let second_of = |picture: usize| picture as f64 / FRAMES_PER_SECOND as f64;
    let names = Duration::from_secs(1);
    let mut segments = vec![
        archived(before, second_of(begins) + 0.8, names),
        archived(behind, second_of(resumes) - 0.7, names),
    ];
    let wanted = second_of(until) - 0.4..second_of(resumes) + 0.6;
    segments.extend(pull(&card, wanted, 2.6, Duration::from_secs(3), &home.path().join("archive")));
    let merged = merge(&segments, home.path());
    let reasons: Vec<String> = merged.reasons().collect();
    assert_eq!(merged.exact_seams(), 2, "{:?}, {reasons:?}", merged.exported.seams);

    // A recorder that begins within a group of pictures has nothing to show before the next one.
    let played: Vec<String> = pictures(&merged.file, encoder);
    let from = place(&played[0]);
    let until = from + played.len();
    assert!(until > resumes + 25, "{from}, {until}");
    let made: Vec<&str> = whole[from..until].iter().map(|frame| frame.hash.as_str()).collect();
    let differs = played.iter().zip(&made).position(|(played, made)| played != made);
    assert_eq!(differs, None, "{encoder:?}");
}

fn pictures(file: &Path, encoder: Encoder) -> Vec<String> {
    let listed = frames(file, Form::Slices(codec(encoder))).unwrap();
    listed.into_iter().map(|frame| frame.hash).collect()
}

/// As a person ends a recording: the file is closed.
fn interrupt(process: &mut Process) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(process.0.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    process.0.wait().unwrap();
}

#[test]
fn h264_over_rtp_is_whole_again() {
    a_recording_over_rtp_is_whole_again(Encoder::H264, Stamps::Camera);
}

#[test]
fn h264_with_b_frames_over_rtp_is_whole_again() {
    a_recording_over_rtp_is_whole_again(Encoder::H264WithBFrames, Stamps::Camera);
}

#[test]
fn h265_over_rtp_is_whole_again() {
    a_recording_over_rtp_is_whole_again(Encoder::H265, Stamps::Camera);
}

#[test]
fn frames_that_are_stamped_when_they_arrive_are_found_all_the_same() {
    a_recording_over_rtp_is_whole_again(Encoder::H264, Stamps::Arrival);
}
