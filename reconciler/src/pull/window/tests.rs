//! Each rule by itself, and what they come to on a model of a link.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const KIB: u64 = 1024;

fn at_ms(millis: u64) -> MonotonicMicros {
    MonotonicMicros(millis * 1000)
}

/// A window of 128 KiB, past its slow start, on a link with a round trip of 50 ms.
fn settled() -> Window {
    let mut window = Window::new();
    window.last_data = at_ms(1000);
    window.bytes = 128 * KIB;
    window.slow_start = false;
    window.open(false, at_ms(1000));
    window.round_trips.sample(at_ms(1), at_ms(51));
    window
}

/// Shows a window as many round trips as it is judged by, in which `came` bytes come, within three of them.
fn show(window: &mut Window, round_trip_ms: u64, came: u64) {
    let start = window.look.since.0 / 1000;
    for part in 1..=u64::from(JUDGED_SAMPLES) {
        let now = start + round_trip_ms * (6 + 3 * part) / 6;
        window.received(came / 4, at_ms(now - round_trip_ms), at_ms(now));
    }
}

#[test]
fn window_follows_the_queueing_delay() {
    // (round trip, bytes that came in three of them, window after); a step is a fourth of the window
    let table = [
        (50, 384 * KIB, 160 * KIB),
        (50, 192 * KIB, 160 * KIB),
        (50, 191 * KIB, 128 * KIB),
        (80, 384 * KIB, 144 * KIB),
        (110, 384 * KIB, 128 * KIB),
        (125, 384 * KIB, 120 * KIB),
        (170, 384 * KIB, 96 * KIB),
        (1000, 384 * KIB, 64 * KIB),
        (1000, KIB, 128 * KIB),
    ];
    for (round_trip_ms, came, expected) in table {
        let mut window = settled();
        show(&mut window, round_trip_ms, came);
        assert_eq!(window.bytes, expected, "{round_trip_ms} ms, {came} bytes");
    }
}

#[test]
fn window_doubles_until_something_queues_and_is_then_emptied_once() {
    let mut window = settled();
    (window.slow_start, window.bytes) = (true, 16 * KIB);
    show(&mut window, 50, 48 * KIB);
    assert_eq!(window.bytes, 32 * KIB);
    show(&mut window, 79, 96 * KIB);
    assert_eq!(window.bytes, 64 * KIB);
    show(&mut window, 80, 9000 * KIB);
    assert_eq!(window.bytes(), u64::from(window.chunk_bytes()));
    let Probe::Until { end, .. } = window.probe else { panic!("{:?}", window.probe) };
    window.received(KIB, end, end.after(Duration::from_millis(50)));
    // 50 of the 80 ms were the link's own.
    assert_eq!(window.bytes, 40 * KIB);
    show(&mut window, 50, 9000 * KIB);
    assert!((48 * KIB..=50 * KIB).contains(&window.bytes), "{}", window.bytes);
}

#[test]
fn a_link_that_took_many_first_windows_is_known_without_being_emptied() {
    let mut window = settled();
    window.slow_start = true;
    show(&mut window, 50, 384 * KIB);
    show(&mut window, 80, 9000 * KIB);
    assert_eq!((window.bytes, window.slow_start), (160 * KIB, false), "50 of 80 ms of 256 KiB");
    assert!(matches!(window.probe, Probe::Due(_)));
}

#[test]
fn one_short_round_trip_is_no_queue() {
    let mut window = settled();
    for (echo, now) in [(1001, 1100), (1010, 1160), (1080, 1170), (1080, 1175), (1020, 1180)] {
        window.received(90 * KIB, at_ms(echo), at_ms(now));
        assert_eq!(window.bytes, 128 * KIB, "{now} ms");
    }
    window.received(90 * KIB, at_ms(1140), at_ms(1190));
    assert_eq!(window.bytes, 160 * KIB);
}

#[test]
fn one_queue_shrinks_the_window_once() {
    let mut window = settled();
    show(&mut window, 170, 384 * KIB);
    assert_eq!(window.bytes, 96 * KIB);
    let judged = window.judge_from.0 / 1000;
    // Credit that was given before the window shrank, or just then: the same queue, seen again.
    for part in 0..=10 {
        window.received(60 * KIB, at_ms(judged - 100 + part * 10), at_ms(judged + 200 + part * 20));
    }
    assert_eq!(window.bytes, 96 * KIB);
    show(&mut window, 170, 384 * KIB);
    assert_eq!(window.bytes, 66 * KIB);
}

#[test]
fn window_stays_between_two_smallest_chunks_and_its_caps() {
    let mut window = settled();
    for _ in 0..20 {
        show(&mut window, 900, 4096 * KIB);
    }
    assert_eq!((window.bytes, window.chunk_bytes()), (4 * KIB, 2048));

    let mut window = settled();
    window.slow_start = true;
    for _ in 0..5 {
        show(&mut window, 50, 4096 * KIB);
    }
    assert_eq!((window.bytes(), window.chunk_bytes()), (MAX_WINDOW_BYTES, 64 * 1024));
    for (share, expected) in [(16, 1024 * KIB), (3, 192 * KIB), (0, 64 * KIB)] {
        window.limit_share(share);
        assert_eq!((window.bytes(), window.chunk_bytes()), (expected, 64 * 1024), "{share} chunks");
    }
}

#[test]
fn small_share_is_used_up_by_large_chunks() {
    for share in [1, 2, 5] {
        let mut window = Window::new();
        window.limit_share(share);
        window.open(false, at_ms(1000));
        for _ in 0..40 {
            assert!(window.bytes() <= u64::from(share) * u64::from(window.chunk_bytes()));
            show(&mut window, 50, 4096 * KIB);
        }
        assert_eq!(window.bytes(), u64::from(share) * 64 * KIB);
    }
}

#[test]
fn loss_halves_the_window_once_in_a_round_trip() {
    let mut window = settled();
    window.open(true, at_ms(1050));
    assert_eq!(window.bytes, 64 * KIB);
    window.open(true, at_ms(1060));
    assert_eq!(window.bytes, 64 * KIB);
    window.open(true, at_ms(1101));
    assert_eq!(window.bytes, 32 * KIB);
    window.open(false, at_ms(1500));
    assert_eq!(window.bytes, 32 * KIB);
}

#[test]
fn next_part_goes_on_and_a_pause_or_another_connection_begins_anew() {
    let known = |window: &Window| (window.bytes, window.slow_start, window.round_trips.base());
    let base = Some(Duration::from_millis(50));
    let mut window = settled();
    window.connection = Some(ConnectionId(1));
    window.connected(ConnectionId(1), u32::MAX);
    window.open(false, at_ms(3000));
    assert_eq!(known(&window), (128 * KIB, false, base));
    assert_eq!(known(&window.beside()), (FIRST_WINDOW_BYTES, true, base));
    window.open(false, at_ms(3001));
    assert_eq!(known(&window), (FIRST_WINDOW_BYTES, true, base));
    window.connected(ConnectionId(2), 10_000);
    assert_eq!(known(&window), (FIRST_WINDOW_BYTES, true, None));
    window.open(false, at_ms(3002));
    for _ in 0..5 {
        show(&mut window, 50, 4096 * KIB);
    }
    assert_eq!(window.chunk_bytes(), 10_000);
}

#[test]
fn a_link_that_is_as_it_was_is_dared_half_of_what_it_took() {
    // (round trip of the first window, since the last data in s, window after)
    let table = [
        (50, 20, 64 * KIB),
        (25, 20, 64 * KIB),
        (100, 20, 64 * KIB),
        (24, 20, FIRST_WINDOW_BYTES),
        (101, 20, FIRST_WINDOW_BYTES),
        (50, 601, FIRST_WINDOW_BYTES),
    ];
    for (round_trip_ms, pause_s, expected) in table {
        for another in [false, true] {
            let mut window = settled();
            window.connection = Some(ConnectionId(1));
            window.connected(ConnectionId(if another { 2 } else { 1 }), u32::MAX);
            let back = 1000 + pause_s * 1000;
            window.open(false, at_ms(back));
            assert_eq!(window.bytes, FIRST_WINDOW_BYTES);
            window.received(4 * KIB, at_ms(back + 1), at_ms(back + 1 + round_trip_ms));
            let named = format!("{round_trip_ms} ms, {pause_s} s, another connection: {another}");
            assert_eq!((window.bytes, window.slow_start), (expected, true), "{named}");
        }
    }
}

#[test]
fn what_was_never_found_out_is_not_dared() {
    let mut window = settled();
    window.slow_start = true;
    window.connected(ConnectionId(2), u32::MAX);
    window.open(false, at_ms(1000));
    window.received(4 * KIB, at_ms(1001), at_ms(1051));
    assert_eq!(window.bytes, FIRST_WINDOW_BYTES);
}

#[test]
fn link_is_emptied_at_whole_half_minutes() {
    let mut window = settled();
    window.received(10 * KIB, at_ms(29_900), at_ms(29_999));
    assert_eq!(window.bytes(), 128 * KIB);
    window.received(10 * KIB, at_ms(29_901), at_ms(30_001));
    assert_eq!(window.bytes(), u64::from(window.chunk_bytes()));
    window.received(10 * KIB, at_ms(30_101), at_ms(30_151));
    assert_eq!(window.bytes(), u64::from(window.chunk_bytes()));
    // 50 of 100 ms were queue: so much of the window is not let in again.
    window.received(10 * KIB, at_ms(30_151), at_ms(30_201));
    assert_eq!(window.bytes(), 64 * KIB);
}

/// A link with one slow hop: a queue in front of it, and a delay that nothing shortens.
struct Link {
    bytes_per_second: u64,
    one_way: Duration,
    /// Data is late by up to this, drawn anew each 20 ms, for a card or a radio that is busy; but it never
    /// overtakes what is before it.
    jitter: Duration,
}

struct Run {
    percent_of_rate: f64,
    /// How long chunks waited at the slow hop for those before them, in order.
    queue: Vec<Duration>,
    window: Window,
}

impl Run {
    fn queue_ms(&self, percent: usize) -> u128 {
        self.queue[(self.queue.len() * percent / 100).min(self.queue.len() - 1)].as_millis()
    }
}

impl Link {
    /// Pulls for `duration`. A device sends whatever credit it has at once, into the queue: the worst it may do.
    fn pull(&self, duration: Duration) -> Run {
        self.pull_on(Window::new(), at_ms(1000), duration)
    }

    fn pull_on(&self, mut window: Window, start: MonotonicMicros, duration: Duration) -> Run {
        let end = start.after(duration);
        let mut random = StdRng::seed_from_u64(1);
        window.open(false, start);

        // In order of arrival, as both directions are queues: (when, limit, chunk, time).
        let mut credits: VecDeque<(MonotonicMicros, u64, u32, MonotonicMicros)> = VecDeque::new();
        // (when, bytes, echo)
        let mut data: VecDeque<(MonotonicMicros, u64, MonotonicMicros)> = VecDeque::new();
        let (mut sent, mut received, mut limit) = (0, 0, window.bytes());
        let mut echo = MonotonicMicros(0);
        let mut idle_from = start.after(self.one_way);
        let (mut last_arrival, mut late_from, mut late) = (start, start, Duration::ZERO);
        let mut queue = Vec::new();
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
                    queue.push(idle_from.since(now));
                    let on_wire = Duration::from_micros(bytes * 1_000_000 / self.bytes_per_second);
                    idle_from = idle_from.max(now).after(on_wire);
                    if idle_from.since(late_from) > Duration::from_millis(20) {
                        late = self.jitter.mul_f64(random.random_range(0.0..1.0));
                        late_from = idle_from;
                    }
                    last_arrival = last_arrival.max(idle_from.after(self.one_way + late));
                    data.push_back((last_arrival, bytes, echo));
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
                    credits.push_back((now.after(self.one_way), limit, window.chunk_bytes(), now));
                }
            }
        }
        queue.sort_unstable();
        let most = self.bytes_per_second as f64 * duration.as_secs_f64();
        Run { percent_of_rate: received as f64 * 100.0 / most, queue, window }
    }
}

#[test]
fn window_fills_links_without_filling_their_queues() {
    // (kbit/s, round trip ms, jitter ms, least % of the rate in 20 s, and in 300 s, most ms of queue for 95 %)
    let table = [
        (50_000, 100, 0, 90, 95, 60),
        (20_000, 100, 0, 90, 95, 60),
        (20_000, 20, 0, 95, 95, 60),
        (5_000, 60, 0, 95, 95, 60),
        (3_000, 40, 0, 95, 95, 60),
        (2_100, 100, 0, 95, 95, 60),
        (1_000, 100, 0, 95, 95, 60),
        (1_000, 600, 0, 60, 90, 60),
        (400, 100, 0, 90, 95, 90),
        (200, 100, 0, 90, 95, 90),
        (20_000, 100, 50, 80, 95, 90),
        (20_000, 100, 100, 20, 70, 90),
        (3_000, 40, 30, 95, 95, 80),
        (3_000, 40, 100, 60, 70, 80),
    ];
    for (kilobits_per_second, round_trip_ms, jitter_ms, least_short, least_long, longest_ms) in
        table
    {
        let link = Link {
            bytes_per_second: kilobits_per_second * 125,
            one_way: Duration::from_millis(round_trip_ms / 2),
            jitter: Duration::from_millis(jitter_ms),
        };
        let short = link.pull(Duration::from_secs(20));
        let long = link.pull(Duration::from_secs(300));
        let named = format!(
            "{kilobits_per_second} kbit/s, {round_trip_ms} ms + {jitter_ms}: {:.1} and {:.1} %, queue {} {} {} ms, \
             window {} KiB, chunk {} KiB",
            short.percent_of_rate,
            long.percent_of_rate,
            long.queue_ms(50),
            long.queue_ms(95),
            long.queue_ms(100),
            long.window.bytes() / KIB,
            u64::from(long.window.chunk_bytes()) / KIB,
        );
        println!("{named}");
        assert!(short.percent_of_rate >= f64::from(least_short), "{named}");
        assert!(long.percent_of_rate >= f64::from(least_long), "{named}");
        assert!(long.queue_ms(95) <= longest_ms, "{named}");
    }
}

#[test]
fn a_link_that_comes_back_is_full_again_within_a_second() {
    let link = |kilobits_per_second: u64| Link {
        bytes_per_second: kilobits_per_second * 125,
        one_way: Duration::from_millis(50),
        jitter: Duration::ZERO,
    };
    let far = link(20_000);
    let seconds_lost = |link: &Link, window: Window| {
        let run = link.pull_on(window, at_ms(100_000), Duration::from_secs(10));
        println!("{:.1} %, queue {} ms", run.percent_of_rate, run.queue_ms(100));
        (10.0 - run.percent_of_rate / 10.0, run.queue_ms(100))
    };
    let mut known = far.pull(Duration::from_secs(60)).window;
    known.connected(ConnectionId(2), u32::MAX);
    let (anew, _) = seconds_lost(&far, Window::new());
    let (again, _) = seconds_lost(&far, known.clone());
    assert!(again < 1.0 && again < anew / 1.5, "{again} s instead of {anew} s");
    // What has a fourth of the rate and the same round trip gets no more than slow start would have given it.
    let (_, dared) = seconds_lost(&link(5_000), known);
    let (_, felt) = seconds_lost(&link(5_000), Window::new());
    assert!(dared <= felt + 150, "{dared} ms of queue instead of {felt} ms");
}
