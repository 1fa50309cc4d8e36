//! What it costs to know a card: a first scan and a warm start, beside what people use for it today.
//!
//! `cargo bench -p sdcard-indexer --bench scan [-- FILES [ROUNDS]]`, 35,000 by default, in 600 MB; needs ffmpeg,
//! and valgrind for the instructions. The other ways are `find`, which learns no more than names, sizes and times; a
//! bare loop that lists the card and reads as many bytes of each file's head and tail as the scan does; and one
//! `ffprobe` a file, judged by a sample. All are measured in turn on one card, round by round, so that the
//! ratios stand whatever the machine is and does besides; with a cold page cache too where the kernel lets us drop it.

use std::env;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sdcard_indexer::container;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::index::{Index, IndexConfig, StreamSource, Sweep};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::Timestamp;

const TEMPLATE: &str = "%Y-%m-%d/%H/%M-%S.%fZ.{counter}.mp4";
/// How this program asks a process of its own what a scan takes.
const RESIDENT: &str = "--resident";
/// Recorded between the log's last entry and the first warm start.
const NEW_FILES: u64 = 10;
/// Files that ffprobe is shown, and that valgrind is.
const SAMPLE: usize = 20;
const COUNTED_FILES: u64 = 1_000;
/// The machine is not ours alone: what is told is the median of so many, and a ratio that of the ratios.
const ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let files = numbers.next().unwrap_or(35_000);
    let rounds = numbers.next().map_or(ROUNDS, |rounds| rounds as usize);
    match arguments.first().map(String::as_str) {
        Some(RESIDENT) => resident(&arguments[1], arguments.get(2).map(PathBuf::from)),
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            measure(&Footage::of_seconds(2), files, rounds);
            measure(&Footage::of_seconds(60), files / 70, rounds);
            let (first, warm) = instructions_a_segment();
            println!("instructions a segment: first scan {first}, warm start {warm}");
        }
        _ => println!("measures only under `cargo bench -p sdcard-indexer --bench scan`"),
    }
}

/// One recording, a fragment a second.
struct Footage {
    bytes: Vec<u8>,
    length: Duration,
}

impl Footage {
    fn of_seconds(seconds: u64) -> Footage {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("recording.mp4");
        let options = "-v error -f lavfi -i testsrc=size=160x120:rate=10 -pix_fmt yuv420p -c:v libx264 \
            -preset ultrafast -g 10 -movflags frag_keyframe+empty_moov+default_base_moof -t";
        let seconds_text = seconds.to_string();
        let options = options.split_whitespace().chain([seconds_text.as_str()]);
        run(Command::new("ffmpeg").args(options).arg(&path));
        let bytes = fs::read(path).expect("ffmpeg has written it");
        Footage { bytes, length: Duration::from_secs(seconds) }
    }
}

/// A card of nothing but whole segments, back to back.
struct Card<'a> {
    folder: tempfile::TempDir,
    footage: &'a Footage,
    /// When the next segment starts.
    end: Timestamp,
    paths: Vec<PathBuf>,
}

impl<'a> Card<'a> {
    fn record(footage: &'a Footage, files: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("gapless-scan-").tempdir();
        let folder = folder.expect("a temporary folder");
        let end = "2026-01-01T00:00:00Z".parse().expect("an instant");
        let mut card = Card { folder, footage, end, paths: Vec::new() };
        card.go_on(files);
        card
    }

    fn go_on(&mut self, files: u64) {
        let layout = layout();
        for _ in 0..files {
            let path = self.root().join(layout.path_for(self.end, 0));
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder is made");
            let mut file = File::create(&path).expect("a file is made");
            file.write_all(&self.footage.bytes).expect("a file is written");
            self.paths.push(path);
            self.end = self.end.saturating_add(self.footage.length);
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("card")
    }

    fn find(&self) {
        let mut find = Command::new("find");
        run(find.arg(self.root()).args(["-printf", r"%s %T@ %p\n"]));
    }

    /// Lists everything, and reads so many bytes of each file in two pieces.
    fn bare_loop(&self, bytes_a_file: usize) {
        let mut folders = vec![self.root()];
        let mut buffer = vec![0; bytes_a_file];
        let (head, tail) = buffer.split_at_mut(bytes_a_file.min(4_096));
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                    continue;
                }
                let file = File::open(entry.path()).expect("a file");
                let size_bytes = file.metadata().expect("a size").len();
                file.read_at(head, 0).expect("its head");
                if !tail.is_empty() {
                    let from = size_bytes.saturating_sub(tail.len() as u64);
                    file.read_at(tail, from).expect("its tail");
                }
            }
        }
    }

    /// Everything an agent does until it knows the card.
    fn sweep(&self, state_dir: Option<PathBuf>) -> (Index, Sweep) {
        let mut index = open(self.root(), state_dir);
        let sweep = index.sweep(self.end);
        assert!(sweep.problems.is_empty() && sweep.unread == 0, "a whole card: {sweep:?}");
        (index, sweep)
    }

    /// The keyframes of every file.
    fn keyframes(&self) -> usize {
        let of = |path: &PathBuf| {
            let file = File::open(path).expect("a file");
            let size_bytes = file.metadata().expect("a size").len();
            let mut reader = BufReader::with_capacity(4_096, file);
            container::keyframes(&mut reader, size_bytes).expect("a recording").len()
        };
        self.paths.iter().map(of).sum()
    }

    fn probe(&self, path: &Path) {
        let options = "-v error -show_entries format=start_time,duration -of csv=p=0";
        run(Command::new("ffprobe").args(options.split(' ')).arg(path));
    }
}

fn measure(footage: &Footage, files: u64, rounds: usize) {
    let mut card = Card::record(footage, files);
    println!(
        "\n{files} segments of {} s, {:.0} MB, {rounds} rounds",
        footage.length.as_secs(),
        (card.paths.len() * footage.bytes.len()) as f64 / 1e6
    );
    println!("| page cache | | s | / find | / bare loop | reads a file | bytes a file |");
    println!("|---|---|---|---|---|---|---|");
    measure_with(&mut card, "warm", rounds, || {});
    match forget_page_cache() {
        Ok(()) => measure_with(&mut card, "cold", rounds, || {
            forget_page_cache().expect("it could be dropped a moment ago");
        }),
        Err(error) => println!("page cache cold: not measured, it cannot be dropped ({error})"),
    }
    let (index, _) = card.sweep(Some(card.folder.path().join("flash")));
    let written = index.written();
    println!(
        "log: {} bytes written, {} per 1,000 segments",
        written.total_bytes(),
        written.bytes_per_1000_segments().unwrap_or(0)
    );
    let program = env::current_exe().expect("a running program has a path");
    let child = Command::new(program).arg(RESIDENT).arg(card.root()).output().expect("it runs");
    println!("{}", String::from_utf8_lossy(&child.stdout).trim());
}

fn measure_with(card: &mut Card<'_>, cache: &str, rounds: usize, prepare: impl Fn()) {
    const FIND: usize = 0;
    const BARE: usize = 1;
    let state = card.folder.path().join(cache);
    card.sweep(Some(state.clone()));
    card.go_on(NEW_FILES);
    let card = &*card;
    let files = card.paths.len();
    let read_bytes = Cost::of(&mut || drop(card.sweep(None))).read_bytes;
    let bytes_a_file = read_bytes as usize / files;
    let shown: Vec<&PathBuf> = card.paths.iter().step_by((files / SAMPLE).max(1)).collect();
    let all_shown = files as f64 / shown.len() as f64;
    let judged = format!("ffprobe of each, judged by {}", shown.len());
    let ways: [(&str, f64, &dyn Fn()); 6] = [
        (r"find -printf '%s %T@ %p\n'", 1.0, &|| card.find()),
        ("bare loop over heads and tails", 1.0, &|| card.bare_loop(bytes_a_file)),
        ("first scan, T1", 1.0, &|| assert_eq!(card.sweep(None).1.read, files)),
        ("keyframes of every file, T2", 1.0, &|| assert!(card.keyframes() > files)),
        ("warm start from the log", 1.0, &|| drop(card.sweep(Some(state.clone())))),
        (&judged, all_shown, &|| shown.iter().for_each(|path| card.probe(path))),
    ];
    let round = |_| {
        let costs = ways.iter().map(|(_, times, work)| {
            prepare();
            Cost { times: *times, ..Cost::of(&mut &**work) }
        });
        costs.collect()
    };
    let rounds: Vec<Vec<Cost>> = (0..rounds).map(round).collect();
    for (way, (what, ..)) in ways.iter().enumerate() {
        let over = |other: usize| {
            spread(rounds.iter().map(|costs| costs[way].seconds() / costs[other].seconds()))
        };
        let seconds = median(rounds.iter().map(|costs| costs[way].seconds()));
        // Of programs other than this one, they are not counted.
        let each =
            |count: fn(&Cost) -> u64| match median(rounds.iter().map(|costs| count(&costs[way]))) {
                few if (few as usize) < files => String::new(),
                count => format!("{:.1}", count as f64 / files as f64),
            };
        println!(
            "| {cache} | {what} | {seconds:.3} | {} | {} | {} | {} |",
            over(FIND),
            over(BARE),
            each(|cost| cost.read_calls),
            each(|cost| cost.read_bytes),
        );
    }
}

fn median<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|one, other| one.partial_cmp(other).expect("times are numbers"));
    values[values.len() / 2]
}

/// The median, and the least and the greatest.
fn spread(values: impl Iterator<Item = f64> + Clone) -> String {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let most = values.clone().fold(0.0, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", median(values))
}

/// In a process of its own: what an index adds to the memory that is resident.
fn resident(root: &str, state_dir: Option<PathBuf>) {
    let before = status_kib("VmRSS");
    let mut index = open(PathBuf::from(root), state_dir);
    let sweep = index.sweep("2027-01-01T00:00:00Z".parse().expect("an instant"));
    let (after, most) = (status_kib("VmRSS"), status_kib("VmHWM"));
    let each = |kib: u64| (kib - before) as f64 * 1_024.0 / sweep.added as f64;
    println!("RSS: {:.1} bytes a segment, {:.1} at most during the scan", each(after), each(most));
}

fn status_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number of KiB")
}

/// Of a first scan, and of a warm start; counted by callgrind as the difference between two cards.
fn instructions_a_segment() -> (u64, u64) {
    let footage = Footage::of_seconds(2);
    let counted = |files| {
        let card = Card::record(&footage, files);
        let state = card.folder.path().join("state");
        let count = || {
            let program = env::current_exe().expect("a running program has a path");
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
            valgrind.arg(program).arg(RESIDENT).arg(card.root()).arg(&state);
            let output = valgrind.output().expect("valgrind is needed: apt-get install valgrind");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let count = said.lines().find_map(|line| line.split("Collected : ").nth(1));
            count.and_then(|count| count.trim().parse::<u64>().ok()).expect("callgrind counts")
        };
        (count(), count())
    };
    let (few, many) = (counted(COUNTED_FILES), counted(2 * COUNTED_FILES));
    ((many.0 - few.0) / COUNTED_FILES, (many.1 - few.1) / COUNTED_FILES)
}

fn open(root: PathBuf, state_dir: Option<PathBuf>) -> Index {
    let source = StreamSource { stream: stream(), root, layout: layout() };
    Index::open(IndexConfig::new(vec![source], state_dir)).expect("one stream")
}

fn stream() -> StreamId {
    "main".parse().expect("an id")
}

fn layout() -> Layout {
    Layout::new(TEMPLATE, "UTC").expect("a template")
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.expect("ffmpeg, ffprobe and find are needed: apt-get install ffmpeg");
    assert!(status.success(), "{command:?} failed");
}

struct Cost {
    elapsed: Duration,
    /// So many times as much is to be told.
    times: f64,
    /// `read` and its kin, of this process alone.
    read_calls: u64,
    read_bytes: u64,
}

impl Cost {
    fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64() * self.times
    }

    fn of(work: &mut dyn FnMut()) -> Cost {
        let (before, began) = (counters(), Instant::now());
        work();
        let elapsed = began.elapsed();
        let after = counters();
        // A handful of them are those of looking at the counters themselves.
        Cost { elapsed, times: 1.0, read_calls: after.0 - before.0, read_bytes: after.1 - before.1 }
    }
}

fn counters() -> (u64, u64) {
    let io = fs::read_to_string("/proc/self/io").expect("proc is mounted");
    let counter = |name: &str| {
        let count = io.lines().find_map(|line| line.strip_prefix(name));
        count.and_then(|count| count.trim().parse().ok()).expect("a counter")
    };
    (counter("syscr:"), counter("rchar:"))
}

fn forget_page_cache() -> std::io::Result<()> {
    // Only what is clean can be dropped.
    nix::unistd::sync();
    File::options().write(true).open("/proc/sys/vm/drop_caches")?.write_all(b"3")
}
