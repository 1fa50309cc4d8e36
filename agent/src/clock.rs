//! The device's clocks, and the boot they belong to: the only module that asks for the time.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use protocol::message::{BootId, BootMillis, ClockSample};
use sdcard_indexer::clock::{Boottime, ClockReading, ClockTrust, STEP};
use sdcard_indexer::segment::FileStamp;
use sdcard_indexer::time::Timestamp;

use crate::config::Believe;

/// A mark of synchronisation holds for so long: systemd-timesyncd asks every 34 minutes at the latest, busybox's
/// ntpd calls its script every 11.
const MARK_HOLDS: Duration = Duration::from_secs(3_600);
/// How far a clock with such a mark is off at most: what timesyncd slews, and what has drifted since.
const MARKED_ERROR: Duration = Duration::from_millis(500);
/// Two readings of one clock around one of the other may lie this far apart; else they are read again.
const PAIR_WITHIN: Duration = Duration::from_millis(1);
const PAIR_TRIES: usize = 8;
/// When this was written: a clock that reads less is wrong.
const WRITTEN: Timestamp = Timestamp::from_unix_seconds(1_793_491_200);

/// `CLOCK_BOOTTIME`: never steps, and counts suspended time too.
pub fn boottime() -> BootMillis {
    let since_boot = read(ClockId::CLOCK_BOOTTIME);
    BootMillis(u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX))
}

/// `CLOCK_REALTIME`: may be wrong, and may step.
pub fn realtime() -> Timestamp {
    Timestamp::UNIX_EPOCH.saturating_add(read(ClockId::CLOCK_REALTIME))
}

pub fn sample() -> ClockSample {
    ClockSample { realtime: realtime(), boottime: boottime() }
}

/// `/proc/sys/kernel/random/boot_id`.
pub fn boot_id() -> io::Result<BootId> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse_boot_id(text.trim()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is not a UUID", text.trim()))
    })
}

fn parse_boot_id(text: &str) -> Option<BootId> {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 32).then_some(BootId(number.to_be_bytes()))
}

/// Whether a clock that shows this may be right.
pub fn is_plausible(shown: Timestamp) -> bool {
    shown >= WRITTEN
}

/// Which clocks an index is to believe; `None` where it is not to be told of any.
pub fn trust(believe: Believe) -> Option<ClockTrust> {
    match believe {
        Believe::Names => None,
        Believe::Plausible => Some(ClockTrust::Plausible { earliest: WRITTEN }),
        Believe::Synchronised => Some(ClockTrust::Synchronised),
    }
}

/// Reads both clocks together, and says whether somebody vouches for the one that can be wrong.
///
/// The kernel knows (`adjtimex`, `STA_UNSYNC`), but no safe interface tells, and busybox's ntpd leaves the flag set.
/// So what counts is the time of change of a file that a time service touches each time it has the time.
#[derive(Debug)]
pub struct Watch {
    boot: BootId,
    mark: PathBuf,
    /// `REALTIME - BOOTTIME` when last read.
    offset_ns: Option<i64>,
    /// The mark as it was when the clock was last stepped: it speaks of another time.
    stale: Option<i64>,
}

impl Watch {
    pub fn new(mark: PathBuf) -> io::Result<Self> {
        Ok(Watch { boot: boot_id()?, mark, offset_ns: None, stale: None })
    }

    pub fn read(&mut self) -> ClockReading {
        let (boottime, realtime) = pair();
        let marked = fs::metadata(&self.mark).ok().map(|mark| FileStamp::of(&mark).modified_ns);
        ClockReading {
            boot: self.boot,
            boottime,
            realtime,
            synchronised: self.synchronised(boottime, realtime, marked),
        }
    }

    fn synchronised(
        &mut self,
        boottime: Boottime,
        realtime: Timestamp,
        marked_ns: Option<i64>,
    ) -> Option<Duration> {
        let offset_ns = realtime.as_nanos().saturating_sub(boottime.as_nanos());
        let before_ns = self.offset_ns.replace(offset_ns).unwrap_or(offset_ns);
        if u128::from(offset_ns.abs_diff(before_ns)) > STEP.as_nanos() {
            self.stale = marked_ns;
        }
        let marked = marked_ns.filter(|_| marked_ns != self.stale).map(Timestamp::from_nanos)?;
        let holds = marked <= realtime && realtime.since(marked) <= MARK_HOLDS;
        holds.then_some(MARKED_ERROR)
    }
}

/// Both clocks at one instant, or as near as the scheduler allows.
fn pair() -> (Boottime, Timestamp) {
    let mut tightest: Option<(Duration, Duration, Timestamp)> = None;
    for _ in 0..PAIR_TRIES {
        let before = read(ClockId::CLOCK_BOOTTIME);
        let shown = realtime();
        let apart = read(ClockId::CLOCK_BOOTTIME).saturating_sub(before);
        let between = before.saturating_add(apart / 2);
        if tightest.is_none_or(|(least, ..)| apart < least) {
            tightest = Some((apart, between, shown));
        }
        if apart <= PAIR_WITHIN {
            break;
        }
    }
    let (_, between, shown) = tightest.unwrap_or_default();
    (Boottime::from_nanos(i64::try_from(between.as_nanos()).unwrap_or(i64::MAX)), shown)
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("Linux has both clocks since 2.6.39").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_of_a_clock_that_nobody_steps_differ_by_less_than_a_step() {
        let mut watch = Watch::new(PathBuf::from("/nonexistent")).unwrap();
        let offset =
            |reading: ClockReading| reading.realtime.as_nanos() - reading.boottime.as_nanos();
        let (first, second) = (watch.read(), watch.read());
        assert_eq!(first.boot, second.boot);
        assert!(u128::from(offset(first).abs_diff(offset(second))) <= STEP.as_nanos());
        assert_eq!(second.synchronised, None);
    }

    #[test]
    fn a_mark_counts_while_it_is_fresh_and_was_made_by_the_clock_as_it_runs_now() {
        let mut watch = Watch::new(PathBuf::from("/nonexistent")).unwrap();
        let second = |count: i64| count * 1_000_000_000;
        let mut is = |boottime_s: i64, realtime_s: i64, marked_s: Option<i64>| {
            let boottime = Boottime::from_nanos(second(boottime_s));
            let realtime = Timestamp::from_unix_seconds(realtime_s);
            watch.synchronised(boottime, realtime, marked_s.map(second)).is_some()
        };
        assert!(!is(10, 1_010, None));
        assert!(is(20, 1_020, Some(1_015)));
        assert!(!is(30, 1_030, Some(1_031)), "made in the future");
        assert!(is(3_600, 4_600, Some(1_015)));
        assert!(!is(3_700, 4_700, Some(1_015)), "too old");
        assert!(!is(3_710, 5_710, Some(5_000)), "made before the step");
        assert!(is(3_720, 5_720, Some(5_715)));
    }

    #[test]
    fn a_boot_id_is_the_sixteen_bytes_of_a_uuid() {
        let id = parse_boot_id("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(id.0[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(id.0[15], 0xff);
        assert!(parse_boot_id("").is_none());
        assert!(parse_boot_id("00112233").is_none());
        assert!(boot_id().is_ok());
    }
}
