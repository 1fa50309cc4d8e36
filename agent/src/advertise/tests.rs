use proptest::prelude::*;

use sdcard_indexer::segment::Tier;

use super::*;

fn id() -> StreamId {
    "main".parse().unwrap()
}

fn range(start: i64, end: i64) -> TimeRange {
    TimeRange::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end)).unwrap()
}

fn view(held: &[(i64, i64)], final_until: i64) -> StreamView {
    StreamView {
        held: held.iter().map(|(start, end)| range(*start, *end)).collect(),
        gone: Coverage::new(),
        horizon: held.first().map(|first| Timestamp::from_nanos(first.0)),
        final_until: Timestamp::from_nanos(final_until),
        present: true,
        tier: Tier::Extent,
        uncertain: Vec::new(),
    }
}

fn views(view: StreamView) -> Views {
    [(id(), Standing { view, overwriting: None })].into_iter().collect()
}

fn connected(view: StreamView) -> Advertise {
    let mut advertise = Advertise::default();
    advertise.update(BootMillis(0), &views(view));
    advertise.connected(ConnectionId(1));
    while advertise.next_report(BootMillis(0)).is_some() {}
    advertise
}

/// The server's side of the contract.
#[derive(Default)]
struct Listener {
    held: Coverage,
    gone: Coverage,
    final_until: Timestamp,
    generation: u64,
}

impl Listener {
    fn hear(&mut self, report: CoverageReport) {
        assert_eq!(report.generation, self.generation, "a report went missing");
        self.generation += 1;
        self.held.remove(report.window);
        self.held = self.held.union(&report.held);
        self.gone.remove(report.window);
        self.gone = self.gone.union(&report.gone);
        self.final_until = report.final_until;
    }
}

#[test]
fn nothing_is_said_before_there_is_a_connection() {
    let mut advertise = Advertise::default();
    advertise.update(BootMillis(0), &views(view(&[(0, 10)], 10)));
    assert_eq!(advertise.next_report(BootMillis(9_999)), None);
    assert_eq!(advertise.deadline(), None);
}

#[test]
fn a_connection_hears_all_of_every_stream_from_generation_zero() {
    let mut advertise = connected(view(&[(0, 10), (20, 30)], 30));
    advertise.link_lost();
    advertise.connected(ConnectionId(2));
    let report = advertise.next_report(BootMillis(5)).unwrap();
    assert_eq!((report.connection, report.generation), (ConnectionId(2), 0));
    assert_eq!(report.window, all_of_time());
    assert_eq!(report.held, view(&[(0, 10), (20, 30)], 30).held);
    assert_eq!(report.final_until, Timestamp::from_nanos(30));
    assert_eq!(advertise.next_report(BootMillis(5)), None);
}

#[test]
fn a_change_is_told_after_it_settled_and_only_its_window() {
    let mut advertise = connected(view(&[(0, 10)], 10));
    advertise.update(BootMillis(5_000), &views(view(&[(0, 12)], 10)));
    assert_eq!(advertise.deadline(), Some(BootMillis(5_500)));
    assert_eq!(advertise.next_report(BootMillis(5_499)), None);
    let report = advertise.next_report(BootMillis(5_500)).unwrap();
    assert_eq!((report.window, report.generation), (range(10, 12), 1));
    assert_eq!(report.held.ranges(), [range(10, 12)]);
    assert_eq!(advertise.deadline(), None);
}

#[test]
fn constant_change_is_told_every_two_seconds() {
    let mut advertise = connected(view(&[(0, 10)], 10));
    let mut told_at = Vec::new();
    for tick in 1..=100_u64 {
        let now = BootMillis(10_000 + tick * 100);
        advertise.update(now, &views(view(&[(0, 10 + tick as i64)], 10)));
        told_at.extend(advertise.next_report(now).map(|_| now.0));
    }
    assert_eq!(told_at, [12_100, 14_200, 16_300, 18_400]);
}

#[test]
fn overwriting_the_oldest_while_the_newest_grows_tells_two_small_windows() {
    let mut advertise = connected(view(&[(0, 1_000)], 1_000));
    advertise.update(BootMillis(5_000), &views(view(&[(60, 1_060)], 1_000)));
    let windows: Vec<TimeRange> = std::iter::from_fn(|| advertise.next_report(BootMillis(5_500)))
        .map(|report| report.window)
        .collect();
    assert_eq!(windows, [range(0, 60), range(1_000, 1_060)]);
}

#[test]
fn edges_that_move_alone_are_told_every_ten_seconds_with_an_empty_window() {
    let mut advertise = connected(view(&[(0, 10)], 10));
    advertise.update(BootMillis(1_000), &views(view(&[(0, 10)], 11)));
    assert_eq!(advertise.next_report(BootMillis(9_999)), None);
    assert_eq!(advertise.deadline(), Some(BootMillis(10_000)));
    let report = advertise.next_report(BootMillis(10_000)).unwrap();
    assert!(report.window.is_empty() && report.held.is_empty());
    assert_eq!(report.final_until, Timestamp::from_nanos(11));
}

#[test]
fn a_large_coverage_comes_in_pages_and_nothing_untold_looks_absent_for_good() {
    let count = 5_000;
    let many: Vec<(i64, i64)> = (0..count).map(|n| (n * 10, n * 10 + 5)).collect();
    let truth = view(&many, count * 10);
    let mut advertise = Advertise::default();
    advertise.update(BootMillis(0), &views(truth.clone()));
    advertise.connected(ConnectionId(1));
    let mut listener = Listener::default();
    let mut pages = 0;
    while let Some(report) = advertise.next_report(BootMillis(0)) {
        pages += 1;
        assert!(report.held.ranges().len() <= MAX_RANGES);
        listener.hear(report);
        let decided = range(0, listener.final_until.as_nanos());
        assert_eq!(listener.held.clip(decided), truth.held.clip(decided));
    }
    assert_eq!(pages, 3);
    assert_eq!(listener.held, truth.held);
    assert_eq!(listener.final_until, truth.final_until);
}

#[test]
fn asking_tells_all_again_at_once() {
    let mut advertise = connected(view(&[(0, 10)], 10));
    advertise.report_all();
    let report = advertise.next_report(BootMillis(1)).unwrap();
    assert_eq!((report.window, report.generation), (all_of_time(), 1));
}

fn coverage() -> impl Strategy<Value = Coverage> {
    prop::collection::vec((0..400_i64, 1..30_i64), 0..60).prop_map(|ranges| {
        ranges.into_iter().map(|(start, len)| range(start, start + len)).collect()
    })
}

proptest! {
    #[test]
    fn whoever_applies_every_report_knows_what_the_card_holds(
        steps in prop::collection::vec((coverage(), coverage(), 0..3_000_u64, any::<bool>()), 1..20)
    ) {
        let mut advertise = connected(view(&[], 0));
        let mut listener = Listener { generation: 1, ..Listener::default() };
        let mut now = BootMillis(0);
        let mut truth = view(&[], 0);
        for (held, gone, wait_ms, ask) in steps {
            truth = StreamView { held, gone, ..truth };
            advertise.update(now, &views(truth.clone()));
            if ask {
                advertise.report_all();
            }
            now.0 += wait_ms;
            // The link takes one message at a time.
            advertise.next_report(now).into_iter().for_each(|report| listener.hear(report));
        }
        while let Some(due) = advertise.deadline() {
            now = now.max(due);
            let report = advertise.next_report(now).expect("it was due");
            listener.hear(report);
        }
        prop_assert_eq!(listener.held, truth.held);
        prop_assert_eq!(listener.gone, truth.gone);
        prop_assert_eq!(listener.final_until, truth.final_until);
    }
}
