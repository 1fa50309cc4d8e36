//! How many bytes a device may have under way (PROTOCOL.md, "A transfer").
//!
//! Live first: a camera's own stream leaves through the same uplink, and TCP below would fill whatever
//! buffer that has. So the window keeps to LEDBAT (RFC 6817), which aims at a small queue and makes way for
//! everybody else's. Where the rules are from:
//!
//! | rule | source |
//! |---|---|
//! | at first 16 KiB, as TCP | RFC 6928, section 2 |
//! | twice as much each time, until something queues | slow start: RFC 6817, section 2.4.1 |
//! | then by `GAIN * off_target * acked * chunk / window` | RFC 6817, section 2.4.2 |
//! | `off_target = (TARGET - queueing) / TARGET` | RFC 6817, section 2.4.2 |
//! | queueing: the least of the last round trips, less that of the empty link | RFC 6817, section 3.1 |
//! | no growth while something else than the window is the limit | RFC 6817, section 3.2.1 |
//! | down by half at most, and by half on a loss, once in a round trip | RFC 6817, section 3.2.2 |
//! | emptied after a short slow start and every half minute, to see the link without a queue | "slowdown" of LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus) |
//! | anew after a pause, or on another connection | RFC 5681, section 4.1 |
//! | then, where the round trip is as it was, at once at half of what was under way | "careful resume" (draft-ietf-tsvwg-careful-resume) |
//!
//! It differs in that the window is judged once for each of its values, by round trips that began under it.
//! Feedback then never speaks of the past, and steps can be as large as a chunk instead of a packet.
//!
//! Pure. It must never trust an echo further than to believe that its own link is slow.

mod chunk;
mod past;
mod rate;
mod round_trips;

use std::time::Duration;

use protocol::message::ConnectionId;

use self::chunk::{Chunk, SMALLEST_CHUNK_BYTES, step_bytes};
use self::past::Past;
use self::rate::Rate;
use self::round_trips::RoundTrips;
use super::MonotonicMicros;

/// Most bytes a window grants, whatever the link.
pub const MAX_WINDOW_BYTES: u64 = 1 << 20;

/// The queue that is aimed at, in time. RFC 6817 (section 2.5) allows no more than 100 ms; LEDBAT++ has 60 ms.
/// Less than the jitter of a link, and a pull would crawl there; more, and a live stream would feel it.
pub const TARGET: Duration = Duration::from_millis(60);

/// With which a transfer to an unknown link begins.
pub const FIRST_WINDOW_BYTES: u64 = 16 * 1024;
/// Beside a window like this, the first one is no part of a round trip that matters.
const FIRST_WINDOW_IS_LITTLE: u64 = 8 * FIRST_WINDOW_BYTES;
/// `MIN_CWND` of RFC 6817.
const MIN_WINDOW_BYTES: u64 = 2 * SMALLEST_CHUNK_BYTES as u64;

/// Slow start ends once half the target queues. Less is within the jitter of many a link.
const SIGN_OF_QUEUEING: Duration = Duration::from_millis(TARGET.as_millis() as u64 / 2);

/// `CURRENT_FILTER` of RFC 6817: of all samples in a round trip, but of no fewer than these, the shortest
/// counts. A queue that stands shows in all of them; a burst, or a card that was busy, in some.
const JUDGED_SAMPLES: u32 = 4;

/// After so long without data what a link can take is as good as unknown.
const KNOWN_FOR: Duration = Duration::from_secs(2);

/// How often the link is emptied to see its own round trip again. Without it a standing queue would,
/// once the minimum's memory has passed, be taken for the link, and the next queue stand on top of it.
/// It happens when the server's clock shows a multiple: all its transfers leave a link that they share at once.
const PROBE_EVERY: Duration = Duration::from_secs(30);

/// The credit window of one transfer. What it learned of a link is worth handing on to the next part.
#[derive(Debug, Clone)]
pub struct Window {
    connection: Option<ConnectionId>,
    bytes: u64,
    chunk: Chunk,
    slow_start: bool,
    rate: Rate,
    round_trips: RoundTrips,
    look: Look,
    /// Round trips begun by then tell of a window that is no more, or of the first chunk under a new one.
    judge_from: MonotonicMicros,
    halved_at: MonotonicMicros,
    last_data: MonotonicMicros,
    probe: Probe,
    /// What the link was like before the window began anew.
    past: Option<Past>,
}

/// What was seen since the window was last judged.
#[derive(Debug, Clone, Default)]
struct Look {
    since: MonotonicMicros,
    bytes: u64,
    samples: u32,
    /// When the first of the samples came.
    sampled_from: MonotonicMicros,
    shortest: Option<Duration>,
}

impl Look {
    fn sample(&mut self, round_trip: Duration, now: MonotonicMicros) {
        if self.samples == 0 {
            self.sampled_from = now;
        }
        self.samples += 1;
        self.shortest = Some(self.shortest.map_or(round_trip, |least| least.min(round_trip)));
    }
}

#[derive(Debug, Clone, Copy)]
enum Probe {
    /// The next one starts then.
    Due(MonotonicMicros),
    /// One chunk is under way at a time until `end`; with the window open, a round trip took `full`.
    Until { end: MonotonicMicros, full: Duration },
}

impl Default for Window {
    fn default() -> Self {
        Window::new()
    }
}

impl Window {
    pub fn new() -> Self {
        Window {
            connection: None,
            bytes: FIRST_WINDOW_BYTES,
            chunk: Chunk::new(FIRST_WINDOW_BYTES),
            slow_start: true,
            rate: Rate::default(),
            round_trips: RoundTrips::default(),
            look: Look::default(),
            judge_from: MonotonicMicros::default(),
            halved_at: MonotonicMicros::default(),
            last_data: MonotonicMicros::default(),
            probe: Probe::Due(MonotonicMicros::default()),
            past: None,
        }
    }

    /// One that starts while this one is in use, on the same link: by itself it would take this one's queue
    /// for a part of the link (RFC 6817, section 4.4).
    pub fn beside(&self) -> Self {
        Window {
            connection: self.connection,
            round_trips: self.round_trips.clone(),
            ..Window::new()
        }
    }

    /// The device is there, on this connection; on another one than before, what was learned is only a guess.
    /// By its own word it takes chunks of so many bytes.
    pub fn connected(&mut self, connection: ConnectionId, max_chunk_bytes: u32) {
        if self.connection != Some(connection) {
            let (chunk, past) = (self.chunk.clone(), self.past());
            *self = Window { connection: Some(connection), chunk, past, ..Window::new() };
        }
        self.chunk.limit_device(max_chunk_bytes);
        self.clamp();
    }

    /// This transfer's part of the chunks that may be outstanding at the broker; at least one.
    pub fn limit_share(&mut self, chunks: u32) {
        self.chunk.limit_share(chunks);
        self.clamp();
    }

    /// A transfer is opened: again, where an opening before it was `lost`.
    pub fn open(&mut self, lost: bool, now: MonotonicMicros) {
        if now.since(self.last_data) > KNOWN_FOR {
            self.past = self.past();
            self.bytes = FIRST_WINDOW_BYTES;
            self.slow_start = true;
        } else if lost && now.since(self.halved_at) > self.round_trips.last().unwrap_or_default() {
            self.bytes /= 2;
            self.slow_start = false;
            self.halved_at = now;
        }
        self.clamp();
        self.rate.pause();
        self.look = Look { since: now, ..Look::default() };
        self.judge_from = now;
        self.probe = Probe::Due(next_probe(now));
    }

    /// Data arrived: its length, and the credit's time that it echoes (0: none was seen yet).
    pub fn received(&mut self, bytes: u64, echo: MonotonicMicros, now: MonotonicMicros) {
        self.last_data = now;
        self.look.bytes += bytes;
        if let Some(round_trip) = self.round_trips.sample(echo, now)
            && echo > self.judge_from
        {
            self.look.sample(round_trip, now);
            self.resume(round_trip, now);
        }
        match self.probe {
            Probe::Until { end, .. } if now < end => return,
            Probe::Until { full, .. } => self.end_probe(full, now),
            Probe::Due(_) => {}
        }
        self.rate.received(bytes, now);
        self.judge(now);
        self.clamp();
        if let Probe::Due(at) = self.probe
            && now >= at
        {
            self.start_probe(now);
        }
    }

    /// Bytes that may be under way now: whole chunks, as a device fills up what it is granted.
    pub fn bytes(&self) -> u64 {
        let chunk = u64::from(self.chunk.bytes());
        match self.probe {
            Probe::Due(_) => (self.bytes - self.bytes % chunk).max(chunk),
            Probe::Until { .. } => chunk,
        }
    }

    pub fn chunk_bytes(&self) -> u32 {
        self.chunk.bytes()
    }

    /// The last round trip of data, queueing included; `None` before the first.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trips.last()
    }

    /// Of what arrived, in bytes per second; `None` until it is known.
    pub fn rate_bytes_per_second(&self) -> Option<u64> {
        self.rate.bytes_per_second()
    }

    /// What is worth remembering of the link, before it is begun anew.
    fn past(&self) -> Option<Past> {
        let learned = (!self.slow_start)
            .then_some(())
            .and_then(|()| Past::of(self.bytes, &self.round_trips, self.last_data));
        learned.or(self.past)
    }

    /// The first round trip of a window that began anew says whether the link is the one it was.
    fn resume(&mut self, round_trip: Duration, now: MonotonicMicros) {
        let Some(past) = self.past.take().filter(|_| self.slow_start) else { return };
        if let Some(bytes) = past.worth(round_trip, now).filter(|bytes| *bytes > self.bytes) {
            self.bytes = bytes;
            self.look = Look { since: now, ..Look::default() };
            self.judge_from = now;
            self.clamp();
        }
    }

    fn judge(&mut self, now: MonotonicMicros) {
        let Some(shortest) = self.look.shortest else { return };
        let sampled_for = now.since(self.look.sampled_from);
        if self.look.samples < JUDGED_SAMPLES || sampled_for < shortest {
            return;
        }
        let before = self.bytes;
        if self.is_limit(shortest, now.since(self.look.since)) {
            let base = self.round_trips.base().unwrap_or(shortest);
            let queueing = shortest.saturating_sub(base);
            let acked = self.look.bytes.min(self.bytes);
            if !self.slow_start {
                let moved = self.bytes.saturating_add_signed(self.step(queueing, acked));
                self.bytes = moved.max(self.bytes / 2);
            } else if queueing < SIGN_OF_QUEUEING {
                self.bytes += acked;
            } else {
                self.slow_start = false;
                // What was taken for an empty link may have had the first window in it.
                if self.bytes < FIRST_WINDOW_IS_LITTLE {
                    return self.start_probe(now);
                }
                self.fit(shortest);
            }
        }
        self.clamp();
        if self.bytes != before {
            self.judge_from = now;
        }
        self.look = Look { since: now, ..Look::default() };
    }

    /// By how many bytes `acked` of them, with such a queue in front of them, move the window. `GAIN` is 1.
    fn step(&self, queueing: Duration, acked: u64) -> i64 {
        let micros = |duration: Duration| i128::try_from(duration.as_micros()).unwrap_or(i128::MAX);
        let found = micros(queueing.min(Duration::from_secs(3600)) + self.burst());
        let off_target = micros(TARGET) - found;
        let step = step_bytes(self.bytes, self.rate.bytes_per_second());
        let moved = off_target * i128::from(acked) * i128::from(step);
        let moved = moved / micros(TARGET) / i128::from(self.bytes);
        i64::try_from(moved).unwrap_or(i64::MIN)
    }

    /// How long a chunk takes, as it goes out in one go: who comes behind it waits for that too, and the
    /// shortest round trip does not show it.
    fn burst(&self) -> Duration {
        let rate = self.rate.bytes_per_second().unwrap_or(u64::MAX).max(1);
        Duration::from_micros(u64::from(self.chunk.bytes()) * 1_000_000 / rate).min(TARGET / 4)
    }

    /// Whether it is the window that held the device back: a window's worth came in each round trip,
    /// give or take the half that credit by whole chunks leaves unused.
    fn is_limit(&self, round_trip: Duration, elapsed: Duration) -> bool {
        let came = u128::from(self.look.bytes) * round_trip.as_micros() * 2;
        came >= u128::from(self.bytes) * elapsed.as_micros()
    }

    /// What is under way drains within one round trip, and the next one is the link's own.
    fn start_probe(&mut self, now: MonotonicMicros) {
        let Some(full) = self.look.shortest.or(self.round_trips.last()) else { return };
        let end = now.after(full * 2);
        self.probe = Probe::Until { end, full };
        self.judge_from = end;
        self.rate.pause();
    }

    /// The window goes on from what the empty link holds: let in at once, all of it would queue.
    fn end_probe(&mut self, full: Duration, now: MonotonicMicros) {
        self.fit(full);
        self.probe = Probe::Due(next_probe(now));
        self.look = Look { since: now, ..Look::default() };
        self.judge_from = now;
    }

    /// To what the empty link holds, where a round trip took `full` with all of the window under way.
    fn fit(&mut self, full: Duration) {
        if let Some(base) = self.round_trips.base()
            && base < full
        {
            let held = u128::from(self.bytes) * base.as_micros() / full.as_micros();
            self.bytes = u64::try_from(held).unwrap_or(self.bytes);
        }
    }

    fn clamp(&mut self) {
        let most = MAX_WINDOW_BYTES.min(self.chunk.most_window_bytes());
        self.bytes = self.bytes.max(MIN_WINDOW_BYTES).min(most);
        self.chunk.follow(self.bytes, self.rate.bytes_per_second());
    }
}

fn next_probe(now: MonotonicMicros) -> MonotonicMicros {
    let every = PROBE_EVERY.as_micros() as u64;
    MonotonicMicros((now.0 / every + 1) * every)
}

#[cfg(test)]
mod tests;
