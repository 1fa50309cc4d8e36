//! The support archive: all that somebody who helps from afar wants to see, and no secret.
//!
//! Everything in it passes [`Secrets`]. What cannot be had is told in its place: an archive is wanted most when
//! something does not work.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::doctor::{self, within};
use super::question::{Question, Wanted};
use super::secrets::Secrets;
use super::{DiagnosisError, Site, answered, told};
use crate::clock;
use crate::config::Config;
use crate::index_command;

/// For each part that may have to wait for the card.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of each file.
const MAX_BYTES: usize = 1 << 20;
const MAX_SEGMENTS: usize = 2_000;
/// Lines of the kernel's log that tell of a card, or of a process that was ended for want of memory.
const KERNEL_WORDS: [&str; 9] =
    ["mmc", "FAT", "exfat", "EXT4", "F2FS", "I/O error", "blk_", "emory", "gapless"];
const MAX_KERNEL_RECORDS: usize = 8_192;
const MAX_KERNEL_LINES: usize = 500;
/// What the kernel tells of the machine. Not among these, as it may hold secrets: `/proc/cmdline`.
const SYSTEM: [&str; 13] = [
    "/etc/os-release",
    "/etc/resolv.conf",
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/mounts",
    "/proc/partitions",
    "/proc/diskstats",
    "/proc/net/dev",
    "/proc/net/route",
    "/proc/net/wireless",
];
const OF_PROCESS: [&str; 4] = ["status", "limits", "io", "cgroup"];

pub fn run(site: &Arc<Site>, output: Option<PathBuf>) -> Result<bool, DiagnosisError> {
    let device = site.config.as_ref().map_or("device", |config| config.device.as_str());
    let made = clock::realtime().to_string();
    let made: String = made.chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    let name = format!("{device}-{made}");
    let path = output.unwrap_or_else(|| format!("{name}.tar").into());
    let failed = |source| DiagnosisError::Bundle { path: path.clone(), source };
    if path == Path::new("-") {
        return pack(site, &name, io::stdout().lock()).map(|_| true).map_err(failed);
    }
    // Whoever reads it sees what the device holds.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.map_err(failed)?;
    let file = pack(site, &name, file).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    println!("{}: look into it before you send it", path.display());
    Ok(true)
}

fn pack<W: Write>(site: &Arc<Site>, folder: &str, out: W) -> io::Result<W> {
    let secrets = Secrets::of(site.config_path());
    let mut archive = Archive { out, folder: folder.to_owned(), secrets };
    archive.add("about.txt", &about(site))?;
    archive.add("config.toml", &configuration(site))?;
    for (name, wanted, as_json) in [
        ("status.txt", Wanted::Status, false),
        ("status.json", Wanted::Status, true),
        ("coverage.txt", Wanted::Coverage, false),
        ("coverage.json", Wanted::Coverage, true),
        ("segments.json", Wanted::Segments, true),
        ("log.txt", Wanted::Log, false),
    ] {
        archive.add(name, &asked(site, wanted, as_json))?;
    }
    let of = site.clone();
    archive.add(
        "doctor.txt",
        &waited(move |out| {
            doctor::examine(&of, false, false, out).map(drop).map_err(|error| told(&error))
        }),
    )?;
    if let Ok(Config { card, .. }) = &site.config {
        let (root, config) = (card.root.clone(), site.config_path().to_owned());
        archive.add(
            "index-check.txt",
            &waited(move |out| index_command::check(&root, &config, out)),
        )?;
    }
    archive.add("kernel.txt", &kernel_log())?;
    for path in SYSTEM {
        archive.add(&format!("system{path}"), &contents(Path::new(path)))?;
    }
    if let Some(pid) = doctor::running_process(site.config_path()) {
        for what in OF_PROCESS {
            let text = contents(Path::new(&format!("/proc/{pid}/{what}")));
            archive.add(&format!("agent/{what}"), &text)?;
        }
    }
    archive.end()
}

/// A tar as POSIX has it (`ustar`).
struct Archive<W: Write> {
    out: W,
    folder: String,
    secrets: Secrets,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let text = self.secrets.left_out_of(text);
        let seconds = clock::realtime().as_nanos().max(0) / 1_000_000_000;
        self.out.write_all(&header(&self.folder, name, text.len(), seconds))?;
        self.out.write_all(text.as_bytes())?;
        let padding = text.len().next_multiple_of(BLOCK) - text.len();
        self.out.write_all(&[0; BLOCK][..padding])
    }

    fn end(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

const BLOCK: usize = 512;

/// Of a file that everybody may read, and nobody in particular owns. Names end where their fields do.
fn header(folder: &str, name: &str, bytes: usize, seconds: i64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |field: Range<usize>, text: &str| {
        let field = header.iter_mut().skip(field.start).take(field.len());
        field.zip(text.bytes()).for_each(|(to, byte)| *to = byte);
    };
    put(0..100, name);
    put(100..108, "0000644");
    put(108..116, "0000000");
    put(116..124, "0000000");
    put(124..136, &format!("{bytes:011o}"));
    put(136..148, &format!("{seconds:011o}"));
    // What the sum counts in its own place.
    put(148..156, "        ");
    put(156..157, "0");
    put(257..265, "ustar\x0000");
    put(345..500, folder);
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    let written = format!("{sum:06o}\0 ");
    header.iter_mut().skip(148).zip(written.bytes()).for_each(|(to, byte)| *to = byte);
    header
}

fn about(site: &Site) -> String {
    let tls = if cfg!(feature = "tls") { "with TLS" } else { "without TLS" };
    format!(
        "Made by gapless-agent bundle, version {}, built {tls} for {}, at {} by the device's clock.\n\
         Configuration: {}\n\
         Passwords and keys are left out, here and in every file; no recording is in it.\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        clock::realtime(),
        site.config_path().display(),
    )
}

/// As it is understood, every default filled in: what stands in the file besides, nobody reads.
fn configuration(site: &Site) -> String {
    let config = match &site.config {
        Ok(config) => config,
        Err(error) => {
            return format!("# It cannot be used:\n# {}\n", told(error).replace('\n', "\n# "));
        }
    };
    let mut text = config.effective();
    let broker = &config.broker;
    let tls = broker.tls.as_ref();
    let client = tls.and_then(|tls| tls.client.as_ref());
    let files = [
        broker.password_file.as_ref(),
        tls.map(|tls| &tls.ca_file),
        client.map(|client| &client.cert_file),
        client.map(|client| &client.key_file),
    ];
    for path in files.into_iter().flatten() {
        let said = match fs::metadata(path) {
            Ok(file) => format!(
                "{} bytes, mode {:o}, of user {} and group {}",
                file.len(),
                file.mode() & 0o7777,
                file.uid(),
                file.gid()
            ),
            Err(error) => error.to_string(),
        };
        text.push_str(&format!("# {}: {said}\n", path.display()));
    }
    text
}

fn asked(site: &Arc<Site>, wanted: Wanted, as_json: bool) -> String {
    let mut question = Question { as_json, ..Question::of(wanted) };
    question.limit = MAX_SEGMENTS;
    let site = site.clone();
    waited(move |out| answered(&site, &question, out).map(drop).map_err(|error| told(&error)))
}

/// What is written, and why no more of it.
fn waited(write: impl FnOnce(&mut dyn Write) -> Result<(), String> + Send + 'static) -> String {
    let written = within(PATIENCE, move || {
        let mut out = Vec::new();
        if let Err(error) = write(&mut out) {
            out.extend_from_slice(format!("{error}\n").as_bytes());
        }
        out
    });
    match written {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => format!("not had within {}s: the card hangs\n", PATIENCE.as_secs()),
    }
}

fn contents(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_BYTES as u64).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("{error}\n"),
    }
}

/// The last lines that concern us; each read gives one record, `number,...;text`.
fn kernel_log() -> String {
    let flags = OFlag::O_NONBLOCK.bits();
    let mut log = match OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg") {
        Ok(log) => log,
        Err(error) => return format!("/dev/kmsg: {error}\n"),
    };
    let (mut lines, mut record) = (std::collections::VecDeque::new(), [0; 8_192]);
    for _ in 0..MAX_KERNEL_RECORDS {
        let bytes = match log.read(&mut record) {
            Ok(count) if count > 0 => record.get(..count).unwrap_or_default(),
            // Overwritten while it was read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => continue,
            _ => break,
        };
        let text = String::from_utf8_lossy(bytes);
        if KERNEL_WORDS.iter().any(|word| text.contains(word)) {
            if lines.len() == MAX_KERNEL_LINES {
                lines.pop_front();
            }
            lines.push_back(text.lines().next().unwrap_or_default().to_owned());
        }
    }
    lines.into_iter().fold(String::new(), |text, line| text + &line + "\n")
}
