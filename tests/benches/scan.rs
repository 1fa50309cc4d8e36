//! How long it takes to know a card: a first scan and a warm start, beside what people use for it today.
//!
//! `cargo bench -p tests --bench scan [-- --files N]`. The other ways are `find`, which learns no more than
//! names, sizes and times, and one `ffprobe` per file, measured on a sample. All are measured in one run on
//! one tree, so that the ratios stand whatever the machine is; with a cold page cache too where the kernel
//! lets us drop it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use sdcard_indexer::index::{Index, IndexConfig, StreamSource, Sweep};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::Timestamp;
use tests::artifacts;
use tests::cards::Card;
use tests::naming::Naming;

/// Recorded between the log's last entry and a warm start.
const NEW_FILES: u32 = 10;
const NAMING: Naming = Naming::DayHour;

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// Short segments, of one or two fragments
    #[arg(long, default_value_t = 35_000)]
    files: u32,
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Segments of a minute, of sixty fragments
    #[arg(long, default_value_t = 500)]
    long_files: u32,
    /// Files that ffprobe is shown
    #[arg(long, default_value_t = 50)]
    sample: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        println!("measures only under `cargo bench -p tests --bench scan`");
        return Ok(());
    }
    Tree::record(options.files, options.seconds)?.measure(options.sample)?;
    Tree::record(options.long_files, 60)?.measure(options.sample)
}

/// A card of nothing but whole segments, back to back.
struct Tree {
    card: Card,
    /// When the next segment starts.
    end: Timestamp,
    segment_seconds: u32,
    paths: Vec<PathBuf>,
    directory: tempfile::TempDir,
}

impl Tree {
    fn record(files: u32, segment_seconds: u32) -> anyhow::Result<Tree> {
        let directory = tempfile::Builder::new().prefix("gapless-scan-").tempdir()?;
        let card = Card::new(&directory.path().join("card"), NAMING);
        let end = "2026-01-01T00:00:00Z".parse()?;
        let mut tree = Tree { card, end, segment_seconds, paths: Vec::new(), directory };
        let began = Instant::now();
        tree.go_on(files)?;
        let bytes = tree.paths.iter().map(|path| Ok(fs::metadata(path)?.len()));
        let bytes = bytes.sum::<std::io::Result<u64>>()?;
        println!(
            "\n{files} segments of {segment_seconds} s, {:.0} MB, written in {:.1} s",
            bytes as f64 / 1e6,
            began.elapsed().as_secs_f64()
        );
        Ok(tree)
    }

    /// The recorder writes `files` more segments.
    fn go_on(&mut self, files: u32) -> anyhow::Result<()> {
        for _ in 0..files {
            self.paths.push(self.card.root().join(NAMING.path(self.end)));
            self.end = self.card.segment(self.end, self.segment_seconds)?.end();
        }
        Ok(())
    }

    fn measure(mut self, sample: usize) -> anyhow::Result<()> {
        self.measure_with("warm", || Ok(()), sample)?;
        match forget_page_cache() {
            Ok(()) => self.measure_with("cold", forget_page_cache, sample),
            Err(error) => {
                println!("page cache cold: not measured, it cannot be dropped ({error})");
                Ok(())
            }
        }
    }

    fn measure_with(
        &mut self,
        cache: &str,
        prepare: fn() -> anyhow::Result<()>,
        sample: usize,
    ) -> anyhow::Result<()> {
        prepare()?;
        let (find, ()) = measured(|| self.find())?;
        prepare()?;
        let (scan, swept) = measured(|| self.sweep(None))?;
        ensure!(swept.read == self.paths.len(), "a cold scan reads every file: {swept:?}");

        let state = self.directory.path().join("state");
        self.sweep(Some(&state))?;
        self.go_on(NEW_FILES)?;
        prepare()?;
        let (warm, restarted) = measured(|| self.sweep(Some(&state)))?;

        let every = (self.paths.len() / sample.max(1)).max(1);
        let shown: Vec<&PathBuf> = self.paths.iter().step_by(every).take(sample).collect();
        prepare()?;
        let (probes, ()) = measured(|| shown.iter().try_for_each(|path| probe(path)))?;
        let files = self.paths.len() as f64;
        let probe_all = probes.elapsed.mul_f64(files / shown.len() as f64);

        println!(
            "  {:<40}{:>9}{:>9}{:>11}{:>12}{:>12}",
            format!("page cache {cache}"),
            "s",
            "/ find",
            "ffprobe /",
            "files read",
            "reads each"
        );
        let row = |name: &str, elapsed: Duration, reads: String| {
            let seconds = elapsed.as_secs_f64();
            println!(
                "  {name:<40}{seconds:>9.3}{:>9.2}{:>11.0}{reads}",
                seconds / find.elapsed.as_secs_f64(),
                probe_all.as_secs_f64() / seconds,
            );
        };
        let reads = |cost: &Cost, sweep: &Sweep| {
            format!("{:>12}{:>12.2}", sweep.read, cost.read_calls as f64 / sweep.read as f64)
        };
        row("find -printf '%s %T@ %p\\n'", find.elapsed, String::new());
        row("first scan, without a log", scan.elapsed, reads(&scan, &swept));
        row("warm start, with one", warm.elapsed, reads(&warm, &restarted));
        let name = format!("ffprobe of each, judged by {}", shown.len());
        row(&name, probe_all, String::new());
        Ok(())
    }

    fn find(&self) -> anyhow::Result<()> {
        let arguments = [self.card.root().as_os_str(), "-printf".as_ref(), r"%s %T@ %p\n".as_ref()];
        run("find", arguments)
    }

    /// Everything an agent does until it knows the card.
    fn sweep(&self, state_dir: Option<&Path>) -> anyhow::Result<Sweep> {
        let source = StreamSource {
            stream: "main".parse()?,
            root: self.card.root().to_owned(),
            layout: Layout::new(NAMING.template(), "UTC")?,
        };
        let config = IndexConfig::new(vec![source], state_dir.map(Path::to_owned));
        let sweep = Index::open(config)?.sweep(self.end);
        ensure!(sweep.problems.is_empty() && sweep.unread == 0, "a whole card: {sweep:?}");
        Ok(sweep)
    }
}

fn probe(path: &Path) -> anyhow::Result<()> {
    let options = "-v error -show_entries format=start_time,duration -of csv=p=0";
    run("ffprobe", options.split(' ').map(OsStr::new).chain([path.as_os_str()]))
}

fn run<'a>(tool: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> anyhow::Result<()> {
    let mut command = Command::new(artifacts::tool(tool)?);
    let status = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("{tool} cannot be run"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

struct Cost {
    elapsed: Duration,
    /// `read` and its kin, of this process alone.
    read_calls: u64,
}

fn measured<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Cost, T)> {
    let (began, before) = (Instant::now(), read_calls()?);
    let outcome = work()?;
    let elapsed = began.elapsed();
    // A handful of them are those of looking at the counter itself.
    Ok((Cost { elapsed, read_calls: read_calls()? - before }, outcome))
}

fn read_calls() -> anyhow::Result<u64> {
    let counters = fs::read_to_string("/proc/self/io").context("reading /proc/self/io")?;
    let calls = counters.lines().find_map(|line| line.strip_prefix("syscr: "));
    Ok(calls.context("/proc/self/io has no syscr")?.parse()?)
}

fn forget_page_cache() -> anyhow::Result<()> {
    // Only what is clean can be dropped.
    nix::unistd::sync();
    File::options().write(true).open("/proc/sys/vm/drop_caches")?.write_all(b"3")?;
    Ok(())
}
