//! What TCP makes of a bottleneck: how much it has under way, which is more until something is lost.
//!
//! The loopback below loses nothing, so that a real TCP would fill any buffer and stay there. This is the
//! window of CUBIC (RFC 9438), which Linux has where nothing else is set, with its slow start. What the
//! model leaves out speaks for TCP: a loss is known at once, and costs no second way and no wait of what
//! is behind it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const SEGMENT_BYTES: f64 = 1460.0;
/// RFC 6928, section 2.
const INITIAL_BYTES: f64 = 10.0 * SEGMENT_BYTES;
const LEAST_BYTES: f64 = 2.0 * SEGMENT_BYTES;
/// `C` and `beta_cubic` of RFC 9438, section 5.
const C: f64 = 0.4;
const BETA: f64 = 0.7;
/// What Reno gains in a round trip, in segments, to be as fast in spite of [`BETA`] (RFC 9438, section 4.3).
const RENO: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The congestion window of one direction of a connection, and what is under way in it. Pure.
#[derive(Debug)]
pub(super) struct Congestion {
    window_bytes: f64,
    under_way: VecDeque<UnderWay>,
    under_way_bytes: usize,
    /// Since the last loss; `None` in slow start.
    epoch: Option<Epoch>,
}

#[derive(Debug)]
struct UnderWay {
    sent: Instant,
    acknowledged: Instant,
    bytes: usize,
    /// The window was what kept the sender from sending more.
    limited: bool,
}

#[derive(Debug)]
struct Epoch {
    start: Instant,
    /// The window before the loss, to which it is to return, in segments.
    most: f64,
    /// What Reno's window would be by now, in segments.
    reno: f64,
}

impl Congestion {
    pub(super) fn new() -> Congestion {
        Congestion {
            window_bytes: INITIAL_BYTES,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            epoch: None,
        }
    }

    /// `None` where `bytes` may be sent now; else from when on they may be.
    pub(super) fn wait(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        while self.under_way.front().is_some_and(|oldest| oldest.acknowledged <= now) {
            let Some(oldest) = self.under_way.pop_front() else { break };
            self.under_way_bytes -= oldest.bytes;
            self.acknowledged(now, &oldest);
        }
        let fits = (self.under_way_bytes + bytes) as f64 <= self.window_bytes;
        self.under_way.front().filter(|_| !fits).map(|oldest| oldest.acknowledged)
    }

    /// So much was sent, and will be known to have arrived at `acknowledged`.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize, acknowledged: Instant) {
        self.under_way_bytes += bytes;
        let limited = self.under_way_bytes as f64 * 2.0 >= self.window_bytes;
        self.under_way.push_back(UnderWay { sent: now, acknowledged, bytes, limited });
    }

    /// There was no room in the buffer. However much is lost at once, it is one loss (RFC 9438, section 4.6).
    pub(super) fn lost(&mut self, now: Instant) {
        let newest = self
            .under_way
            .back()
            .map_or(Duration::ZERO, |newest| newest.acknowledged - newest.sent);
        if self.epoch.as_ref().is_some_and(|epoch| now - epoch.start < newest) {
            return;
        }
        let window = self.window_bytes / SEGMENT_BYTES;
        let most = match &self.epoch {
            // Others have come: leave them more (fast convergence, RFC 9438, section 4.7).
            Some(last) if window < last.most => window * (1.0 + BETA) / 2.0,
            _ => window,
        };
        self.window_bytes = (self.window_bytes * BETA).max(LEAST_BYTES);
        self.epoch = Some(Epoch { start: now, most, reno: self.window_bytes / SEGMENT_BYTES });
    }

    fn acknowledged(&mut self, now: Instant, what: &UnderWay) {
        if !what.limited {
            return;
        }
        let Some(epoch) = &mut self.epoch else {
            self.window_bytes += what.bytes as f64;
            return;
        };
        let window = self.window_bytes / SEGMENT_BYTES;
        let acknowledged = what.bytes as f64 / SEGMENT_BYTES;
        epoch.reno += RENO * acknowledged / window;
        let until_most = (epoch.most * (1.0 - BETA) / C).cbrt();
        let round_trip = what.acknowledged - what.sent;
        let since = (now - epoch.start + round_trip).as_secs_f64() - until_most;
        let cubic = (epoch.most + C * since.powi(3)).clamp(window, window * 1.5);
        let gained = (cubic - window) * acknowledged / window;
        self.window_bytes = (window + gained).max(epoch.reno) * SEGMENT_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::{Lane, Line};
    use super::*;

    /// What came of sending without end for a minute.
    struct Minute {
        share_of_rate: f64,
        /// How long chunks waited in the buffer, in order.
        waits: Vec<Duration>,
        losses: usize,
    }

    fn greedy(lane: Lane) -> Minute {
        let start = Instant::now();
        let (mut line, mut congestion) = (Line::new(lane), Congestion::new());
        let (mut now, mut bytes, mut waits, mut losses) = (start, 0, Vec::new(), 0);
        let chunk = lane.chunk_bytes();
        while now < start + Duration::from_secs(60) {
            if let Some(at) = congestion.wait(now, chunk) {
                now = at;
                continue;
            }
            waits.push(line.waits(now));
            match line.send(now, chunk) {
                Ok(arrives) => {
                    bytes += chunk;
                    congestion.sent(now, chunk, arrives + lane.delay);
                }
                Err(full) => {
                    losses += 1;
                    congestion.lost(now);
                    now = full.room_at;
                }
            }
        }
        waits.sort_unstable();
        let most = lane.rate_bits_per_s.unwrap() as f64 / 8.0 * 60.0;
        Minute { share_of_rate: bytes as f64 / most, waits, losses }
    }

    #[test]
    fn greed_fills_the_line_and_most_of_its_buffer() {
        for buffer_bytes in [64 * 1024, 256 * 1024] {
            let lane = Lane { buffer_bytes, ..Lane::new(20, 4_000_000) };
            let minute = greedy(lane);
            let whole = Duration::from_secs_f64(buffer_bytes as f64 / 500_000.0);
            let rarely_less = minute.waits[minute.waits.len() / 20];
            assert!(rarely_less > whole / 2, "{rarely_less:?} of {whole:?}");
            assert!(minute.share_of_rate > 0.99, "{}", minute.share_of_rate);
            assert!((5..50).contains(&minute.losses), "{}", minute.losses);
        }
    }

    #[test]
    fn a_small_buffer_before_a_long_line_runs_empty() {
        let minute = greedy(Lane::new(50, 20_000_000));
        assert!((0.85..0.99).contains(&minute.share_of_rate), "{}", minute.share_of_rate);
    }

    #[test]
    fn nothing_waits_for_a_window_that_is_not_full() {
        let start = Instant::now();
        let mut congestion = Congestion::new();
        let acknowledged = start + Duration::from_secs(1);
        congestion.sent(start, 10_000, acknowledged);
        assert_eq!(congestion.wait(start, 4_600), None);
        assert_eq!(congestion.wait(start, 4_601), Some(acknowledged));
        congestion.lost(start);
        assert_eq!(congestion.wait(start, 1_000), Some(acknowledged));
        assert_eq!(congestion.wait(acknowledged, 10_000), None);
    }
}
