//! How many bytes a device may have under way, and in chunks of which size (PROTOCOL.md, "A transfer").
//!
//! TCP below fills whatever buffer the slowest link has, and control messages wait behind it. So the
//! window grows only while data does not queue: while its round trips stay near the shortest of the last
//! minute. Round trips are taken from data alone: a device echoes the time of the last credit it saw.
//!
//! Pure. It must never trust an echo further than to believe that its own link is slow.

use std::collections::VecDeque;
use std::time::Duration;

use super::MonotonicMicros;

/// Most bytes a window grants, whatever the link.
pub const MAX_WINDOW_BYTES: u64 = 1 << 20;

const MAX_CHUNK_BYTES: u32 = 64 * 1024;
/// A device that claims to take less is given this much: below it the frame outweighs the payload.
const MIN_CHUNK_BYTES: u32 = 1024;
/// Before the rate is known.
const FIRST_CHUNK_BYTES: u32 = 32 * 1024;
const FIRST_WINDOW_CHUNKS: u32 = 2;

/// From which rate on a chunk size is used, fastest first. None is more than about 250 ms of its rate.
const CHUNKS_BY_RATE: [(u64, u32); 4] = [
    (kilobits(32_000), MAX_CHUNK_BYTES),
    (kilobits(2_000), FIRST_CHUNK_BYTES),
    (kilobits(500), 16 * 1024),
    (kilobits(250), 8 * 1024),
];
const SLOWEST_CHUNK_BYTES: u32 = 4 * 1024;

/// Bytes per second of a rate in kbit/s.
const fn kilobits(per_second: u64) -> u64 {
    per_second * 1000 / 8
}

const LOOK_EVERY: Duration = Duration::from_millis(200);
const QUEUE_SHORT: Duration = Duration::from_millis(100);
const QUEUE_FAIR: Duration = Duration::from_millis(200);
const QUEUE_LONG: Duration = Duration::from_millis(300);

/// How often the link is emptied to see its own round trip again. Without it a standing queue would,
/// once the minimum's memory has passed, be taken for the link, and the next queue stand on top of it.
const PROBE_EVERY: Duration = Duration::from_secs(30);

/// The credit window of one transfer. What it learned of a link is worth handing on to the next part.
#[derive(Debug, Clone)]
pub struct Window {
    bytes: u64,
    chunk_bytes: u32,
    device_chunk_bytes: u32,
    share_chunks: u32,
    rate: Rate,
    round_trips: RoundTrips,
    look: Look,
    /// Round trips begun earlier tell of a window that is no more.
    judge_from: MonotonicMicros,
    probe: Probe,
}

/// What was seen since the window was last changed.
#[derive(Debug, Clone, Default)]
struct Look {
    since: MonotonicMicros,
    bytes: u64,
    /// The shortest, as the longer ones may be one slow moment: a queue that stands shows in all.
    shortest: Option<Duration>,
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
            bytes: u64::from(FIRST_CHUNK_BYTES * FIRST_WINDOW_CHUNKS),
            chunk_bytes: FIRST_CHUNK_BYTES,
            device_chunk_bytes: MAX_CHUNK_BYTES,
            share_chunks: u32::MAX,
            rate: Rate::default(),
            round_trips: RoundTrips::default(),
            look: Look::default(),
            judge_from: MonotonicMicros::default(),
            probe: Probe::Due(MonotonicMicros::default()),
        }
    }

    /// The largest chunk the device takes, by its own word.
    pub fn limit_chunk(&mut self, max_chunk_bytes: u32) {
        self.device_chunk_bytes = max_chunk_bytes.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES);
        self.chunk_bytes = self.chunk_bytes.min(self.device_chunk_bytes);
    }

    /// This transfer's part of the chunks that may be outstanding at the broker; at least one.
    pub fn limit_share(&mut self, chunks: u32) {
        self.share_chunks = chunks.max(1);
        self.clamp();
    }

    /// A transfer is opened: two chunks again, at the rate last seen. `new_link` where the device came
    /// back on another connection, whose round trips are its own.
    pub fn start_over(&mut self, new_link: bool, now: MonotonicMicros) {
        if new_link {
            self.round_trips = RoundTrips::default();
        }
        self.bytes = u64::from(self.chunk_bytes * FIRST_WINDOW_CHUNKS);
        self.clamp();
        self.rate.pause();
        self.look = Look { since: now, ..Look::default() };
        self.judge_from = now;
        self.probe = Probe::Due(now.after(PROBE_EVERY));
    }

    /// Data arrived: its length, and the credit's time that it echoes (0: none was seen yet).
    pub fn received(&mut self, bytes: u64, echo: MonotonicMicros, now: MonotonicMicros) {
        self.look.bytes += bytes;
        if let Some(round_trip) = self.round_trips.sample(echo, now)
            && echo >= self.judge_from
        {
            let shortest = self.look.shortest.map_or(round_trip, |least| least.min(round_trip));
            self.look.shortest = Some(shortest);
        }
        match self.probe {
            Probe::Until { end, .. } if now < end => return,
            Probe::Until { full, .. } => self.end_probe(full, now),
            Probe::Due(_) => {}
        }
        self.rate.received(bytes, now);
        self.look(now);
        self.choose_chunk(now);
        if let Probe::Due(at) = self.probe
            && now >= at
        {
            self.start_probe(now);
        }
    }

    /// Bytes that may be under way now: whole chunks, as a device fills up what it is granted.
    pub fn bytes(&self) -> u64 {
        match self.probe {
            Probe::Due(_) => self.bytes - self.bytes % u64::from(self.chunk_bytes),
            Probe::Until { .. } => u64::from(self.chunk_bytes),
        }
    }

    pub fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// The last round trip of data, queueing included; `None` before the first.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trips.last
    }

    /// Of what arrived, in bytes per second; `None` until it is known.
    pub fn rate_bytes_per_second(&self) -> Option<u64> {
        self.rate.estimate
    }

    fn look(&mut self, now: MonotonicMicros) {
        let (Some(shortest), Some(least)) = (self.look.shortest, self.round_trips.least()) else {
            return;
        };
        let elapsed = now.since(self.look.since);
        if elapsed < LOOK_EVERY {
            return;
        }
        let before = self.bytes;
        let queueing = shortest.saturating_sub(least);
        if queueing < QUEUE_SHORT {
            if self.is_limit(shortest, elapsed) {
                self.bytes += self.bytes / 4;
            }
        } else if queueing < QUEUE_FAIR {
            self.bytes += u64::from(self.chunk_bytes / 2);
        } else if queueing > QUEUE_LONG {
            self.bytes = self.bytes / 4 * 3;
        }
        self.clamp();
        if self.bytes != before {
            self.judge_from = now;
        }
        self.look = Look { since: now, ..Look::default() };
    }

    /// Whether it is the window that held the device back: a window's worth came in each round trip,
    /// give or take the half that credit by whole chunks leaves unused.
    fn is_limit(&self, round_trip: Duration, elapsed: Duration) -> bool {
        let came = u128::from(self.look.bytes) * round_trip.as_micros() * 2;
        came >= u128::from(self.bytes) * elapsed.as_micros()
    }

    fn choose_chunk(&mut self, now: MonotonicMicros) {
        let Some(rate) = self.rate.estimate else { return };
        let chunk = chunk_for(rate).min(self.device_chunk_bytes);
        if chunk < self.chunk_bytes {
            self.chunk_bytes = chunk;
            // The shortest round trip so far carried more than this chunk.
            self.round_trips.forget_least();
            self.start_probe(now);
        } else {
            // A rate at the border must not make the size flutter.
            let certain = chunk_for(rate / 5 * 4).min(self.device_chunk_bytes);
            self.chunk_bytes = self.chunk_bytes.max(certain);
        }
        self.clamp();
    }

    /// What is under way drains within one round trip, and the next one is the link's own.
    fn start_probe(&mut self, now: MonotonicMicros) {
        let full = self.round_trips.last.unwrap_or(LOOK_EVERY);
        let end = now.after(full * 2);
        self.probe = Probe::Until { end, full };
        self.judge_from = end;
        self.rate.pause();
    }

    /// The window goes on from what the empty link holds: let in at once, all of it would queue.
    fn end_probe(&mut self, full: Duration, now: MonotonicMicros) {
        if let Some(least) = self.round_trips.least()
            && least < full
        {
            let held = u128::from(self.bytes) * least.as_micros() / full.as_micros();
            self.bytes = u64::try_from(held).unwrap_or(self.bytes);
            self.clamp();
        }
        self.probe = Probe::Due(now.after(PROBE_EVERY));
        self.look = Look { since: now, ..Look::default() };
    }

    fn clamp(&mut self) {
        let chunk = u64::from(self.chunk_bytes);
        let most = MAX_WINDOW_BYTES.min(chunk * u64::from(self.share_chunks));
        let least = chunk * u64::from(FIRST_WINDOW_CHUNKS);
        self.bytes = self.bytes.max(least).min(most);
    }
}

fn chunk_for(rate_bytes_per_second: u64) -> u32 {
    CHUNKS_BY_RATE
        .iter()
        .find(|(from, _)| rate_bytes_per_second >= *from)
        .map_or(SLOWEST_CHUNK_BYTES, |(_, chunk)| *chunk)
}

/// Bytes per second over half a second or more at a time, each as heavy as all before it.
#[derive(Debug, Clone, Default)]
struct Rate {
    estimate: Option<u64>,
    since: Option<MonotonicMicros>,
    bytes: u64,
}

impl Rate {
    const MEASURED_OVER: Duration = Duration::from_millis(500);

    fn received(&mut self, bytes: u64, now: MonotonicMicros) {
        let Some(since) = self.since else {
            // When the first bytes set out is not known: they only start the clock.
            self.since = Some(now);
            return;
        };
        self.bytes += bytes;
        let elapsed = now.since(since);
        if elapsed >= Self::MEASURED_OVER {
            let measured = u128::from(self.bytes) * 1_000_000 / elapsed.as_micros();
            let measured = u64::try_from(measured).unwrap_or(u64::MAX);
            self.estimate = Some(self.estimate.map_or(measured, |old| old / 2 + measured / 2));
            self.since = Some(now);
            self.bytes = 0;
        }
    }

    /// What comes next is not held back by the link, and is no measure of it.
    fn pause(&mut self) {
        self.since = None;
        self.bytes = 0;
    }
}

/// Round trips of the last minute, as the shortest of each ten seconds.
#[derive(Debug, Clone, Default)]
struct RoundTrips {
    last: Option<Duration>,
    last_echo: MonotonicMicros,
    /// (number of ten seconds since the clock's origin, shortest); at most [`Self::SLICES`].
    shortest: VecDeque<(u64, Duration)>,
}

impl RoundTrips {
    const SLICE_MICROS: u64 = 10_000_000;
    const SLICES: u64 = 6;

    /// Only the first data with a given echo tells a round trip: the later ones waited for no credit.
    fn sample(&mut self, echo: MonotonicMicros, now: MonotonicMicros) -> Option<Duration> {
        if echo <= self.last_echo || echo > now {
            return None;
        }
        self.last_echo = echo;
        let round_trip = now.since(echo);
        self.last = Some(round_trip);
        let slice = now.0 / Self::SLICE_MICROS;
        match self.shortest.back_mut() {
            Some((current, shortest)) if *current == slice => *shortest = round_trip.min(*shortest),
            _ => self.shortest.push_back((slice, round_trip)),
        }
        while self.shortest.front().is_some_and(|(old, _)| old + Self::SLICES <= slice) {
            self.shortest.pop_front();
        }
        Some(round_trip)
    }

    fn least(&self) -> Option<Duration> {
        self.shortest.iter().map(|(_, shortest)| *shortest).min()
    }

    fn forget_least(&mut self) {
        self.shortest.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const KIB: u64 = 1024;

    fn at_ms(millis: u64) -> MonotonicMicros {
        MonotonicMicros(millis * 1000)
    }

    /// A window of 128 KiB whose shortest round trip is 50 ms, about to be looked at.
    fn window_with_round_trip_of_50_ms() -> Window {
        let mut window = Window::new();
        window.start_over(true, at_ms(1000));
        window.bytes = 128 * KIB;
        window.round_trips.sample(at_ms(1000), at_ms(1050));
        window
    }

    #[test]
    fn window_follows_the_queueing_delay() {
        // (round trip, bytes that came in the 200 ms, window after)
        let table = [
            (50, 800 * KIB, 160 * KIB),
            (149, 800 * KIB, 160 * KIB),
            (50, 10 * KIB, 128 * KIB),
            (150, 800 * KIB, 144 * KIB),
            (249, 10 * KIB, 144 * KIB),
            (250, 800 * KIB, 128 * KIB),
            (350, 800 * KIB, 128 * KIB),
            (351, 800 * KIB, 96 * KIB),
            (5000, 10 * KIB, 96 * KIB),
        ];
        for (round_trip_ms, came, expected) in table {
            let mut window = window_with_round_trip_of_50_ms();
            let now = at_ms(1100 + round_trip_ms);
            window.look.since = MonotonicMicros(now.0 - 200_000);
            window.received(came, at_ms(1100), now);
            assert_eq!(window.bytes, expected, "{round_trip_ms} ms, {came} bytes");
        }
    }

    #[test]
    fn window_is_looked_at_every_200_ms_only() {
        let mut window = window_with_round_trip_of_50_ms();
        window.received(800 * KIB, at_ms(1100), at_ms(1150));
        assert_eq!(window.bytes(), 128 * KIB);
        window.received(800 * KIB, at_ms(1150), at_ms(1200));
        assert_eq!(window.bytes(), 160 * KIB);
    }

    #[test]
    fn one_queue_shrinks_the_window_once() {
        let mut window = window_with_round_trip_of_50_ms();
        window.received(800 * KIB, at_ms(1100), at_ms(1500));
        assert_eq!(window.bytes, 96 * KIB);
        // Credit that was given before the window shrank: the same queue, seen again.
        window.received(800 * KIB, at_ms(1400), at_ms(1800));
        assert_eq!(window.bytes, 96 * KIB);
        window.received(800 * KIB, at_ms(1600), at_ms(2000));
        assert_eq!(window.bytes, 72 * KIB);
    }

    #[test]
    fn window_stays_between_two_chunks_and_its_caps() {
        let mut window = window_with_round_trip_of_50_ms();
        for round in 0..20 {
            window.received(800 * KIB, at_ms(2000 + round * 1000), at_ms(2900 + round * 1000));
        }
        assert_eq!(window.bytes(), 2 * u64::from(window.chunk_bytes()));

        let mut window = window_with_round_trip_of_50_ms();
        for round in 0..100 {
            window.received(4096 * KIB, at_ms(2000 + round * 200), at_ms(2050 + round * 200));
        }
        assert_eq!(window.bytes(), MAX_WINDOW_BYTES);
        window.limit_share(3);
        assert_eq!(window.bytes(), 3 * u64::from(window.chunk_bytes()));
        window.limit_share(0);
        assert_eq!(window.bytes(), u64::from(window.chunk_bytes()));
    }

    #[test]
    fn chunks_follow_the_rate_and_the_device() {
        let table = [
            (100, 4),
            (249, 4),
            (250, 8),
            (499, 8),
            (500, 16),
            (1_999, 16),
            (2_000, 32),
            (31_999, 32),
            (32_000, 64),
            (10_000_000, 64),
        ];
        for (kilobits_per_second, expected_kib) in table {
            let chunk = chunk_for(kilobits(kilobits_per_second));
            assert_eq!(chunk, expected_kib * 1024, "{kilobits_per_second} kbit/s");
        }

        let mut window = Window::new();
        window.limit_chunk(10_000);
        assert_eq!(window.chunk_bytes(), 10_000);
        window.limit_chunk(0);
        assert_eq!(window.chunk_bytes(), MIN_CHUNK_BYTES);
        window.limit_chunk(u32::MAX);
        for round in 1..100 {
            window.received(100 * KIB, MonotonicMicros(0), at_ms(round * 10));
        }
        assert_eq!(window.chunk_bytes(), MAX_CHUNK_BYTES);
    }

    #[test]
    fn echoes_that_cannot_be_true_are_no_round_trips() {
        let mut round_trips = RoundTrips::default();
        assert_eq!(round_trips.sample(at_ms(0), at_ms(10)), None);
        assert_eq!(round_trips.sample(at_ms(20), at_ms(10)), None);
        assert_eq!(round_trips.sample(at_ms(5), at_ms(10)), Some(Duration::from_millis(5)));
        assert_eq!(round_trips.sample(at_ms(5), at_ms(11)), None);
        assert_eq!(round_trips.sample(at_ms(4), at_ms(11)), None);
    }

    #[test]
    fn shortest_round_trip_is_forgotten_after_a_minute() {
        let mut round_trips = RoundTrips::default();
        round_trips.sample(at_ms(100), at_ms(110));
        for second in 1..=59 {
            round_trips.sample(at_ms(second * 1000), at_ms(second * 1000 + 90));
        }
        assert_eq!(round_trips.least(), Some(Duration::from_millis(10)));
        round_trips.sample(at_ms(60_000), at_ms(60_090));
        assert_eq!(round_trips.least(), Some(Duration::from_millis(90)));
    }

    /// A link with one slow hop: a queue in front of it, and a delay that nothing shortens.
    struct Link {
        bytes_per_second: u64,
        one_way: Duration,
    }

    struct Run {
        share_of_rate: f64,
        /// Longest that a chunk waited at the slow hop for those before it.
        longest_queue: Duration,
        window: Window,
    }

    impl Link {
        /// Pulls for `duration`; the queue is judged from `settled` on. A device sends whatever credit it
        /// has at once, into the queue: the worst it may do.
        fn pull(&self, duration: Duration, settled: Duration) -> Run {
            let start = at_ms(1000);
            let end = start.after(duration);
            let mut window = Window::new();
            window.start_over(true, start);

            // In order of arrival, as both directions are queues: (when, limit, chunk, time).
            let mut credits: VecDeque<(MonotonicMicros, u64, u32, MonotonicMicros)> =
                VecDeque::new();
            // (when, bytes, echo)
            let mut data: VecDeque<(MonotonicMicros, u64, MonotonicMicros)> = VecDeque::new();
            let (mut sent, mut received, mut limit) = (0, 0, window.bytes());
            let mut echo = MonotonicMicros(0);
            let mut idle_from = start.after(self.one_way);
            let mut longest_queue = Duration::ZERO;
            credits.push_back((idle_from, limit, window.chunk_bytes(), echo));

            loop {
                let credit_first = match (credits.front(), data.front()) {
                    (Some((credit, ..)), Some((arrival, ..))) => credit <= arrival,
                    (credit, _) => credit.is_some(),
                };
                if credit_first {
                    let Some((now, granted, chunk, time)) = credits.pop_front() else { break };
                    echo = time;
                    while sent < granted {
                        let bytes = u64::from(chunk).min(granted - sent);
                        sent += bytes;
                        let on_wire =
                            Duration::from_micros(bytes * 1_000_000 / self.bytes_per_second);
                        if now > start.after(settled) {
                            longest_queue = longest_queue.max(idle_from.since(now));
                        }
                        idle_from = idle_from.max(now).after(on_wire);
                        data.push_back((idle_from.after(self.one_way), bytes, echo));
                    }
                } else {
                    let Some((now, bytes, echo)) = data.pop_front() else { break };
                    if now > end {
                        break;
                    }
                    received += bytes;
                    window.received(bytes, echo, now);
                    let target = received + window.bytes();
                    if target >= limit + u64::from(window.chunk_bytes()) {
                        limit = target;
                        credits.push_back((
                            now.after(self.one_way),
                            limit,
                            window.chunk_bytes(),
                            now,
                        ));
                    }
                }
            }
            let share_of_rate =
                received as f64 / (self.bytes_per_second as f64 * duration.as_secs_f64());
            Run { share_of_rate, longest_queue, window }
        }
    }

    #[test]
    fn window_fills_links_without_filling_their_queues() {
        // (kbit/s, round trip ms, least share of the rate in 20 s, longest queue ms)
        let table = [
            (50_000, 100, 0.90, 200),
            (20_000, 100, 0.90, 300),
            (20_000, 20, 0.90, 300),
            (5_000, 60, 0.90, 300),
            (2_100, 100, 0.90, 400),
            (1_000, 100, 0.90, 400),
            (1_000, 600, 0.60, 700),
            (400, 100, 0.90, 400),
            (200, 100, 0.90, 400),
        ];
        for (kilobits_per_second, round_trip_ms, least_share, longest_queue_ms) in table {
            let link = Link {
                bytes_per_second: kilobits(kilobits_per_second),
                one_way: Duration::from_millis(round_trip_ms / 2),
            };
            let short = link.pull(Duration::from_secs(20), Duration::from_secs(15));
            let long = link.pull(Duration::from_secs(300), Duration::from_secs(15));
            println!(
                "{kilobits_per_second:>6} kbit/s {round_trip_ms:>4} ms: {:.1} % in 20 s, {:.1} % in 300 s, \
                 queue at most {} and {} ms, window {} KiB, chunk {} KiB",
                short.share_of_rate * 100.0,
                long.share_of_rate * 100.0,
                short.longest_queue.as_millis(),
                long.longest_queue.as_millis(),
                long.window.bytes() / KIB,
                u64::from(long.window.chunk_bytes()) / KIB,
            );
            let named = format!("{kilobits_per_second} kbit/s, {round_trip_ms} ms");
            assert!(short.share_of_rate >= least_share, "{named}: {}", short.share_of_rate);
            assert!(long.share_of_rate >= 0.90, "{named}: {}", long.share_of_rate);
            let longest = short.longest_queue.max(long.longest_queue);
            assert!(longest <= Duration::from_millis(longest_queue_ms), "{named}: {longest:?}");
        }
    }
}
