//! How large a chunk is: small enough to pass for a moment's jitter, large enough to be worth its frame.
//!
//! A device hands a chunk to its network in one go, so a chunk is the burst that a live stream finds in
//! front of it, whatever the window. Sizes are powers of two, and far enough apart not to flutter.

use std::time::Duration;

/// What the wire carries at most in one message.
pub(super) const MAX_CHUNK_BYTES: u32 = 64 * 1024;
/// Frame, topic and credit of a chunk take some 150 bytes: below this they would be a tenth.
pub(super) const SMALLEST_CHUNK_BYTES: u32 = 2 * 1024;
/// A device that claims to take less is given this much.
const MIN_DEVICE_CHUNK_BYTES: u32 = 1024;

/// A window has at least so many: with fewer it moves in leaps, and comes in bursts.
const CHUNKS_IN_WINDOW: u64 = 4;
/// A chunk takes no longer than this at the measured rate.
const LONGEST_CHUNK: Duration = Duration::from_millis(25);

/// Chunk size of one transfer, and what bounds it from outside.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    bytes: u32,
    device_bytes: u32,
    share: u32,
}

impl Chunk {
    /// For a window of `window_bytes` on a link of unknown rate.
    pub(super) fn new(window_bytes: u64) -> Self {
        let mut chunk =
            Chunk { bytes: SMALLEST_CHUNK_BYTES, device_bytes: MAX_CHUNK_BYTES, share: u32::MAX };
        chunk.bytes = chunk.largest(window_bytes, None);
        chunk
    }

    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The largest that the device takes, by its own word.
    pub(super) fn limit_device(&mut self, max_chunk_bytes: u32) {
        self.device_bytes = max_chunk_bytes.clamp(MIN_DEVICE_CHUNK_BYTES, MAX_CHUNK_BYTES);
    }

    /// How many may be outstanding; at least one.
    pub(super) fn limit_share(&mut self, chunks: u32) {
        self.share = chunks.max(1);
    }

    /// A window beyond this could not be made of as many chunks as may be outstanding.
    pub(super) fn most_window_bytes(&self) -> u64 {
        u64::from(self.device_bytes) * u64::from(self.share)
    }

    /// Follows the window and the measured rate: down at once, up once there is room to spare.
    pub(super) fn follow(&mut self, window_bytes: u64, rate_bytes_per_second: Option<u64>) {
        let largest = self.largest(window_bytes, rate_bytes_per_second);
        let certain =
            self.largest(window_bytes / 5 * 4, rate_bytes_per_second.map(|rate| rate / 5 * 4));
        self.bytes = self.bytes.max(certain).min(largest).max(self.needed(window_bytes));
    }

    fn largest(&self, window_bytes: u64, rate_bytes_per_second: Option<u64>) -> u32 {
        let power = step_bytes(window_bytes, rate_bytes_per_second)
            .checked_ilog2()
            .map_or(0, |exponent| 1 << exponent.min(31));
        power.clamp(SMALLEST_CHUNK_BYTES, MAX_CHUNK_BYTES).min(self.device_bytes)
    }

    /// Where few chunks may be outstanding, they are as large as the window then needs.
    fn needed(&self, window_bytes: u64) -> u32 {
        let needed = window_bytes.div_ceil(u64::from(self.share)).next_power_of_two();
        u32::try_from(needed).map_or(self.device_bytes, |needed| needed.min(self.device_bytes))
    }
}

/// What is a small part of the window and a short time of the rate: a chunk, before it is rounded.
pub(super) fn step_bytes(window_bytes: u64, rate_bytes_per_second: Option<u64>) -> u64 {
    let by_rate = rate_bytes_per_second
        .map_or(u64::MAX, |rate| rate.saturating_mul(LONGEST_CHUNK.as_millis() as u64) / 1000);
    (window_bytes / CHUNKS_IN_WINDOW).min(by_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn chunk_kib(window_kib: u64, kilobits_per_second: Option<u64>) -> u32 {
        let mut chunk = Chunk::new(16 * KIB);
        chunk.follow(window_kib * KIB, kilobits_per_second.map(|rate| rate * 125));
        chunk.bytes / 1024
    }

    #[test]
    fn chunks_are_a_small_part_of_the_window_and_a_short_time_of_the_rate() {
        let table = [
            (4, None, 2),
            (16, None, 4),
            (40, None, 8),
            (1024, None, 64),
            (1024, Some(250), 2),
            (1024, Some(3_300), 8),
            (1024, Some(20_000), 32),
            (1024, Some(30_000), 64),
            (1024, Some(10_000_000), 64),
            (40, Some(10_000_000), 8),
        ];
        for (window_kib, kilobits_per_second, expected_kib) in table {
            let found = chunk_kib(window_kib, kilobits_per_second);
            assert_eq!(found, expected_kib, "{window_kib} KiB, {kilobits_per_second:?} kbit/s");
        }
    }

    #[test]
    fn chunks_do_not_flutter_with_a_window_at_a_border() {
        let mut chunk = Chunk::new(16 * KIB);
        for window_kib in [32, 39, 32, 36] {
            chunk.follow(window_kib * KIB, None);
            assert_eq!(chunk.bytes(), 4096, "{window_kib} KiB");
        }
        chunk.follow(40 * KIB, None);
        assert_eq!(chunk.bytes(), 8192);
        chunk.follow(33 * KIB, None);
        assert_eq!(chunk.bytes(), 8192);
        chunk.follow(31 * KIB, None);
        assert_eq!(chunk.bytes(), 4096);
    }

    #[test]
    fn device_and_share_bound_the_size() {
        let mut chunk = Chunk::new(16 * KIB);
        chunk.limit_device(10_000);
        chunk.follow(1024 * KIB, None);
        assert_eq!(chunk.bytes(), 10_000);
        chunk.limit_device(0);
        chunk.follow(1024 * KIB, None);
        assert_eq!(chunk.bytes(), MIN_DEVICE_CHUNK_BYTES);
        chunk.limit_device(u32::MAX);
        chunk.limit_share(0);
        assert_eq!(chunk.most_window_bytes(), 64 * KIB);
        chunk.follow(50 * KIB, Some(1));
        assert_eq!(chunk.bytes(), MAX_CHUNK_BYTES);
        chunk.limit_share(3);
        chunk.follow(48 * KIB, Some(1));
        assert_eq!(chunk.bytes(), 16 * 1024);
    }
}
