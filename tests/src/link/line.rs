//! The bottleneck of one direction: a queue of bounded length, and a line that takes one thing after the other.

use std::time::Duration;

use tokio::time::Instant;

/// The modem's queue, where a lane says nothing else.
pub const BUFFER_BYTES: usize = 64 * 1024;

const LARGEST_CHUNK_BYTES: usize = 64 * 1024;
/// A full Ethernet frame's worth of TCP.
pub(super) const SMALLEST_CHUNK_BYTES: usize = 1460;

/// How one direction behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lane {
    /// One way.
    pub delay: Duration,
    /// `None` is as fast as the loopback.
    pub rate_bits_per_s: Option<u64>,
    /// How much waits before the bottleneck, of all connections and datagrams together, what is on its way out
    /// included; nothing more is taken. Without a rate nothing waits.
    pub buffer_bytes: usize,
}

impl Lane {
    /// No delay, no limit.
    pub const CLEAR: Lane =
        Lane { delay: Duration::ZERO, rate_bits_per_s: None, buffer_bytes: BUFFER_BYTES };

    pub const fn new(delay_ms: u64, rate_bits_per_s: u64) -> Lane {
        Lane {
            delay: Duration::from_millis(delay_ms),
            rate_bits_per_s: Some(rate_bits_per_s),
            buffer_bytes: BUFFER_BYTES,
        }
    }

    /// How much of a connection is put on the line at once: some 5 ms of the rate and a small part of the
    /// buffer, so that others get in between.
    pub(super) fn chunk_bytes(&self) -> usize {
        let rate = self.rate_bits_per_s.unwrap_or(u64::MAX);
        let chunk = usize::try_from(rate / 8 / 200).unwrap_or(usize::MAX);
        chunk.min(self.buffer_bytes / 8).clamp(SMALLEST_CHUNK_BYTES, LARGEST_CHUNK_BYTES)
    }

    fn duration(&self, bytes: usize) -> Duration {
        match self.rate_bits_per_s {
            Some(rate) => Duration::from_secs_f64(bytes as f64 * 8.0 / rate.max(1) as f64),
            None => Duration::ZERO,
        }
    }
}

/// Something did not fit into the buffer any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full {
    /// From when on it would.
    pub(super) room_at: Instant,
}

/// When what is sent arrives at the far end. Pure: first come, first served, and the last are dropped.
#[derive(Debug)]
pub(super) struct Line {
    lane: Lane,
    free_at: Option<Instant>,
}

impl Line {
    pub(super) fn new(lane: Lane) -> Line {
        Line { lane, free_at: None }
    }

    /// When `bytes` that are sent now arrive.
    pub(super) fn send(&mut self, now: Instant, bytes: usize) -> Result<Instant, Full> {
        let waits = self.waits(now);
        let taken = self.lane.duration(bytes);
        let too_long = (waits + taken).saturating_sub(self.lane.duration(self.lane.buffer_bytes));
        // An idle line takes what its buffer could not.
        if !waits.is_zero() && !too_long.is_zero() {
            return Err(Full { room_at: now + too_long.min(waits) });
        }
        let end = now + waits + taken;
        self.free_at = Some(end);
        Ok(end + self.lane.delay)
    }

    /// How long what is sent now waits for what was sent before.
    pub(super) fn waits(&self, now: Instant) -> Duration {
        self.free_at.map_or(Duration::ZERO, |free_at| free_at.duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(lane: Lane) -> (Line, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Line::new(lane), move |ms| start + Duration::from_millis(ms))
    }

    #[test]
    fn a_line_takes_one_thing_after_the_other() {
        let (mut line, at) = line(Lane::new(100, 8_000));
        assert_eq!(line.send(at(0), 500), Ok(at(600)));
        assert_eq!(line.send(at(0), 250), Ok(at(850)));
        assert_eq!(line.send(at(2_000), 10), Ok(at(2_110)), "an idle line saves nothing up");
    }

    #[test]
    fn what_does_not_fit_into_the_buffer_is_not_taken() {
        let (mut line, at) = line(Lane { buffer_bytes: 1_000, ..Lane::new(100, 8_000) });
        assert_eq!(line.send(at(0), 600), Ok(at(700)));
        assert_eq!(line.send(at(100), 501), Err(Full { room_at: at(101) }));
        assert_eq!(line.send(at(100), 500), Ok(at(1_200)));
        assert_eq!(line.send(at(101), 501), Err(Full { room_at: at(601) }));
        assert_eq!(line.send(at(601), 501), Ok(at(1_701)));
        assert_eq!(line.send(at(602), 3_000), Err(Full { room_at: at(1_601) }));
        assert_eq!(line.send(at(1_601), 3_000), Ok(at(4_701)), "an idle line takes anything");
    }

    #[test]
    fn a_lane_without_a_rate_is_never_full() {
        let (mut line, at) = line(Lane { delay: Duration::from_millis(7), ..Lane::CLEAR });
        for _ in 0..3 {
            assert_eq!(line.send(at(0), usize::MAX), Ok(at(7)));
        }
    }
}
