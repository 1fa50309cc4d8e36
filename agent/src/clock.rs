//! The device's clocks, and the boot they belong to: the only module that asks for the time.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use protocol::message::{BootId, BootMillis, ClockSample};
use sdcard_indexer::time::Timestamp;

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

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("Linux has both clocks since 2.6.39").into()
}

#[cfg(test)]
mod tests {
    use super::*;

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
