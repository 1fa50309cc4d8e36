//! Case by case: one clock history each, and where it puts a segment.

use std::time::Duration;

use sdcard_indexer::clock::{
    Boottime, Claim, ClockJournal, ClockReading, ClockTrust, Epoch, InBand, MAX_ANCHORS,
    MAX_EPOCHS, Modified, Moment, NameZone, Named, Placement, TimeSource,
};
use sdcard_indexer::identity::BootId;
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::Timestamp;

const SECOND: Duration = Duration::from_secs(1);
const SYNCHRONISED: Option<Duration> = Some(Duration::from_millis(100));
/// When the boots of most cases begin.
const NOON: &str = "2026-11-23T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn seconds(count: i64) -> Boottime {
    Boottime::from_nanos(count * 1_000_000_000)
}

fn after(start: &str, count: i64) -> Timestamp {
    at(start).saturating_offset(seconds(count).as_nanos())
}

/// Feeds a journal: in the boot of this number, whose clock showed `shown` when it began.
struct Boot<'j> {
    journal: &'j mut ClockJournal,
    number: u8,
    shown: &'static str,
}

impl Boot<'_> {
    fn reads(&mut self, at_s: i64, synchronised: Option<Duration>) -> Moment {
        self.journal.observe(ClockReading {
            boot: BootId([self.number; 16]),
            boottime: seconds(at_s),
            realtime: after(self.shown, at_s),
            synchronised,
        })
    }

    /// As if the clock had shown this when the boot began.
    fn steps_to(&mut self, shown: &'static str) {
        self.shown = shown;
    }
}

fn boot<'j>(journal: &'j mut ClockJournal, number: u8, shown: &'static str) -> Boot<'j> {
    Boot { journal, number, shown }
}

fn strict() -> ClockJournal {
    ClockJournal::new(ClockTrust::Synchronised)
}

fn named(start: Timestamp) -> Named {
    Named { start, step: SECOND, repeats_after: None, zone: NameZone::Known }
}

/// A segment of a minute under this name.
fn minute(start: Timestamp) -> Claim {
    Claim { named: Some(named(start)), duration: Some(Duration::from_secs(60)), ..Claim::default() }
}

fn modified(at: Timestamp) -> Option<Modified> {
    Some(Modified { at, step: Duration::ZERO, zone: NameZone::Known })
}

fn fat(at: Timestamp, zone: NameZone) -> Option<Modified> {
    Some(Modified { at, step: 2 * SECOND, zone })
}

fn place(journal: &ClockJournal, claim: &Claim) -> Placement {
    let corrections = journal.corrections();
    corrections.place(&corrections.attribute(claim))
}

#[track_caller]
fn assert_placed(placement: Placement, truth: Timestamp, most: Duration, source: TimeSource) {
    assert!(
        placement.start.distance(truth) <= placement.uncertainty,
        "{placement:?} is not {truth}"
    );
    assert!(placement.uncertainty <= most, "{placement:?}");
    assert_eq!(placement.source, source, "{placement:?}");
}

#[track_caller]
fn assert_unknown(placement: Placement) {
    assert!(!placement.is_known(), "{placement:?}");
}

// Epochs.

#[test]
fn a_step_begins_an_epoch_and_the_cost_of_reading_two_clocks_does_not() {
    let table: [(&str, i64, usize); 5] = [
        ("exact", 0, 1),
        ("read late", 5_000_000, 1),
        ("stepped on", 200_000_000, 2),
        ("stepped back", -200_000_000, 2),
        ("years back", -800_000_000_000_000_000, 2),
    ];
    for (what, off_ns, epochs) in table {
        let mut journal = strict();
        boot(&mut journal, 1, NOON).reads(10, None);
        let realtime = after(NOON, 11).saturating_offset(off_ns);
        let boot = BootId([1; 16]);
        journal.observe(ClockReading { boot, boottime: seconds(11), realtime, synchronised: None });
        assert_eq!(journal.epochs().len(), epochs, "{what}");
    }
}

#[test]
fn another_boot_begins_an_epoch_though_its_clock_goes_on() {
    let mut journal = strict();
    boot(&mut journal, 1, NOON).reads(10, None);
    boot(&mut journal, 2, NOON).reads(20, None);
    assert_eq!(journal.epochs().len(), 2);
}

// Footage from before the clock was set.

#[test]
fn what_was_recorded_before_the_clock_was_set_is_placed_once_it_is() {
    for wrong in [
        "1970-01-01T00:00:00Z",
        "2000-01-01T00:00:00Z",
        "2026-03-17T09:12:00Z",
        "2038-01-19T03:14:07Z",
    ] {
        let mut journal = strict();
        let mut device = boot(&mut journal, 1, wrong);
        device.reads(5, None);
        let by = Some(device.reads(3_600, None));
        let claim = Claim { by, ..minute(after(wrong, 600)) };
        assert_unknown(place(device.journal, &claim));
        device.steps_to(NOON);
        device.reads(3_605, None);
        assert_unknown(place(device.journal, &claim));
        device.reads(3_610, SYNCHRONISED);
        let placement = place(&journal, &claim);
        assert_placed(placement, after(NOON, 600), 3 * SECOND, TimeSource::Name);
    }
}

#[test]
fn the_uncertainty_grows_with_the_distance_to_the_nearest_synchronised_reading() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, NOON);
    device.reads(0, None);
    device.reads(40_000, SYNCHRONISED);
    let uncertainty = |start_s| place(device.journal, &minute(after(NOON, start_s))).uncertainty;
    let (near, hours, far) = (uncertainty(39_900), uncertainty(30_000), uncertainty(1_000));
    assert!(near < hours && hours < far, "{near:?} {hours:?} {far:?}");
    assert!(far < 6 * SECOND, "{far:?}");
}

#[test]
fn a_boot_that_was_never_synchronised_lies_between_those_that_were() {
    let mut journal = strict();
    boot(&mut journal, 1, "2026-11-23T12:00:00Z").reads(5, SYNCHRONISED);
    boot(&mut journal, 2, "1970-01-01T00:00:00Z").reads(60, None);
    let claim = minute(at("1970-01-01T00:00:30Z"));
    let before = place(&journal, &claim);
    assert_unknown(before);
    assert!(before.earliest().distance(after(NOON, 5)) < SECOND, "{before:?}");
    boot(&mut journal, 3, "2026-11-23T18:00:00Z").reads(5, SYNCHRONISED);
    let after = place(&journal, &claim);
    assert_unknown(after);
    assert!(after.uncertainty <= Duration::from_secs(3 * 3_600 + 2), "{after:?}");
}

#[test]
fn time_services_that_contradict_each_other_are_both_covered() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, "2026-11-23T12:00:00Z");
    device.reads(60, SYNCHRONISED);
    device.steps_to("2026-11-23T12:00:20Z");
    device.reads(70, SYNCHRONISED);
    let placement = place(&journal, &minute(after(NOON, 10)));
    assert!(placement.start.distance(after(NOON, 10)) <= placement.uncertainty);
    assert!(placement.start.distance(after(NOON, 30)) <= placement.uncertainty);
}

// Names that repeat.

#[test]
fn after_a_backward_step_the_close_tells_which_of_two_times_a_name_means() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, NOON);
    device.reads(0, SYNCHRONISED);
    device.reads(1_000, SYNCHRONISED);
    // Ten minutes back: the names of 12:06 to 12:16 come twice.
    device.steps_to("2026-11-23T11:50:00Z");
    device.reads(1_001, None);
    let before_close = device.reads(1_560, None);
    let closed = device.reads(1_561, None);
    let claim = minute(after(NOON, 900));
    assert_unknown(place(&journal, &claim));
    let claim = Claim { closed: Some((before_close, closed)), ..claim };
    assert_placed(place(&journal, &claim), after(NOON, 1_500), 2 * SECOND, TimeSource::Close);
}

#[test]
fn of_two_boots_that_began_in_1970_order_or_the_close_tells_which_recorded() {
    let epoch = "1970-01-01T00:00:00Z";
    let mut journal = strict();
    let mut first = boot(&mut journal, 1, epoch);
    first.reads(1, None);
    first.reads(1_000, None);
    first.steps_to("2026-11-23T12:00:00Z");
    let end_of_first = first.reads(1_001, SYNCHRONISED);
    let mut second = boot(&mut journal, 2, epoch);
    let start_of_second = second.reads(1, None);
    let before_close = second.reads(560, None);
    let closed = second.reads(561, None);
    second.steps_to("2026-11-23T20:00:00Z");
    second.reads(1_001, SYNCHRONISED);
    let claim = minute(after(epoch, 500));
    let placement = place(&journal, &claim);
    assert_unknown(placement);
    for truth in ["2026-11-23T12:08:20Z", "2026-11-23T20:08:20Z"] {
        assert!(placement.start.distance(at(truth)) <= placement.uncertainty, "{placement:?}");
    }
    let truths =
        [("2026-11-23T12:08:20Z", TimeSource::Name), ("2026-11-23T20:08:20Z", TimeSource::Name)];
    let seen_early = Claim { by: Some(start_of_second), ..claim };
    assert_placed(place(&journal, &seen_early), at(truths[0].0), 2 * SECOND, truths[0].1);
    let seen_late = Claim { after: Some(end_of_first), ..claim };
    assert_placed(place(&journal, &seen_late), at(truths[1].0), 2 * SECOND, truths[1].1);
    let seen_closed = Claim { closed: Some((before_close, closed)), ..claim };
    let placement = place(&journal, &seen_closed);
    assert_placed(placement, at(truths[1].0), 2 * SECOND, TimeSource::Close);
}

#[test]
fn a_segment_over_a_step_is_placed_by_the_clock_that_named_it() {
    let epoch = "1970-01-01T00:00:00Z";
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, epoch);
    device.reads(10, None);
    device.reads(99, None);
    device.steps_to(NOON);
    device.reads(100, SYNCHRONISED);
    device.reads(300, SYNCHRONISED);
    let claim = Claim { modified: modified(after(NOON, 121)), ..minute(after(epoch, 60)) };
    assert_placed(place(&journal, &claim), after(NOON, 60), 2 * SECOND, TimeSource::Name);
}

#[test]
fn a_name_of_a_clock_that_nobody_saw_gives_way_to_the_time_of_change() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, NOON);
    device.reads(100, SYNCHRONISED);
    device.reads(300, SYNCHRONISED);
    let claim = minute(at("1970-01-01T00:00:10Z"));
    assert_unknown(place(&journal, &claim));
    let claim = Claim { modified: modified(after(NOON, 121)), ..claim };
    let most = Duration::from_secs(62);
    let placement = place(&journal, &claim);
    assert!(placement.start.distance(after(NOON, 60)) <= placement.uncertainty.min(most));
    assert_eq!(placement.source, TimeSource::Modified);
}

// Daylight saving time.

/// What a name of the repeated or the skipped hour in Berlin means.
fn in_berlin(name: &str) -> Named {
    let layout = Layout::new("%Y-%m-%d_%H-%M-%S.mp4", "Europe/Berlin").unwrap();
    Named::of(&layout.parse(name.as_ref()).unwrap())
}

#[test]
fn in_the_hour_that_comes_twice_the_time_of_change_decides() {
    let named = in_berlin("2026-10-25_02-30-00.mp4");
    assert_eq!(named.repeats_after, Some(Duration::from_secs(3_600)));
    for truth in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"] {
        let claim =
            Claim { named: Some(named), modified: modified(after(truth, 61)), ..minute(at(truth)) };
        let most = 2 * SECOND;
        assert_placed(place(&strict(), &claim), at(truth), most, TimeSource::Name);
        let mut journal = strict();
        let mut device = boot(&mut journal, 1, "2026-10-24T20:00:00Z");
        device.reads(1, SYNCHRONISED);
        device.reads(40_000, SYNCHRONISED);
        assert_placed(place(&journal, &claim), at(truth), most, TimeSource::Name);
    }
}

#[test]
fn in_the_hour_that_comes_twice_the_journal_decides_where_fat_cannot() {
    let truth = "2026-10-25T01:30:00Z";
    let claim = Claim {
        named: Some(in_berlin("2026-10-25_02-30-00.mp4")),
        modified: fat(after(truth, 3_660), NameZone::Unknown),
        ..minute(at(truth))
    };
    let both = place(&strict(), &claim);
    assert_unknown(both);
    for possible in ["2026-10-25T00:30:00Z", truth] {
        assert!(both.start.distance(at(possible)) <= both.uncertainty, "{both:?}");
    }
    // The device was switched on in the second of the two hours.
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, "2026-10-25T01:10:00Z");
    device.reads(1, SYNCHRONISED);
    device.reads(4_000, SYNCHRONISED);
    assert_placed(place(&journal, &claim), at(truth), 2 * SECOND, TimeSource::Name);
}

#[test]
fn a_name_in_the_hour_that_is_skipped_means_one_side_of_it() {
    let named = in_berlin("2026-03-29_02-30-00.mp4");
    for truth in ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"] {
        let claim =
            Claim { named: Some(named), modified: modified(after(truth, 60)), ..minute(at(truth)) };
        assert_placed(place(&strict(), &claim), at(truth), 2 * SECOND, TimeSource::Name);
    }
}

// Zones and FAT.

#[test]
fn a_time_of_change_on_fat_counts_once_its_zone_is_known() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, NOON);
    device.reads(1, SYNCHRONISED);
    device.reads(2_000, SYNCHRONISED);
    let in_zone = at("2026-11-23T17:46:00Z");
    for (zone, known) in
        [(NameZone::Unknown, false), (NameZone::Ahead(22), true), (NameZone::Ahead(23), true)]
    {
        let claim = Claim { named: None, modified: fat(in_zone, zone), ..minute(at(NOON)) };
        let placement = place(&journal, &claim);
        assert_eq!(placement.is_known(), known, "{zone:?} {placement:?}");
    }
    let claim =
        Claim { named: None, modified: fat(in_zone, NameZone::Ahead(22)), ..minute(at(NOON)) };
    let placement = place(&journal, &claim);
    assert!(placement.start.distance(after(NOON, 900)) <= placement.uncertainty, "{placement:?}");
}

#[test]
fn one_segment_seen_being_closed_tells_the_zone_of_a_camera() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, NOON);
    device.reads(1, SYNCHRONISED);
    let (before, closed) = (device.reads(159, None), device.reads(161, None));
    device.reads(5_000, SYNCHRONISED);
    // Names are in Kathmandu's time, UTC+5:45, and nobody knows.
    let in_zone =
        |count| Named { zone: NameZone::Unknown, ..named(after("2026-11-23T17:45:00Z", count)) };
    let anchor = Claim { named: None, closed: Some((before, closed)), ..minute(at(NOON)) };
    let by_clock = journal.corrections().attribute(&anchor);
    let zone = NameZone::learn([(in_zone(100).start, by_clock.start)], by_clock.uncertainty);
    assert_eq!(zone, Some(NameZone::Ahead(23)));
    let other = Claim { named: Some(in_zone(3_000)), ..minute(at(NOON)) };
    assert_unknown(place(&journal, &other));
    let other = Claim { named: Some(Named { zone: zone.unwrap(), ..in_zone(3_000) }), ..other };
    assert_placed(place(&journal, &other), after(NOON, 3_000), 3 * SECOND, TimeSource::Name);
}

#[test]
fn segments_that_disagree_teach_no_zone() {
    let pair = |hours: i64| (after(NOON, hours * 3_600), at(NOON));
    assert_eq!(NameZone::learn([pair(1), pair(1)], SECOND), Some(NameZone::Ahead(4)));
    assert_eq!(NameZone::learn([pair(1), pair(2)], SECOND), None);
    assert_eq!(NameZone::learn([(after(NOON, 100), at(NOON))], SECOND), None);
    assert_eq!(NameZone::learn([], SECOND), None);
}

// Time in the recording.

#[test]
fn a_recordings_own_time_counts_as_utc_only_where_it_says_that_its_clock_was_locked() {
    let epoch = "1970-01-01T00:00:00Z";
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, epoch);
    device.reads(1, None);
    device.reads(500, None);
    let start = after(epoch, 100);
    let unlocked = Claim {
        in_band: Some(InBand { start, late: Duration::ZERO, locked: false }),
        ..minute(start)
    };
    assert_unknown(place(device.journal, &unlocked));
    device.steps_to(NOON);
    device.reads(501, SYNCHRONISED);
    assert_placed(place(&journal, &unlocked), after(NOON, 100), SECOND, TimeSource::InBand);
    let locked = InBand { start: after(NOON, 7), late: Duration::ZERO, locked: true };
    let locked = Claim { in_band: Some(locked), ..minute(start) };
    assert_placed(place(&journal, &locked), after(NOON, 7), SECOND, TimeSource::InBand);
}

// Nothing but order.

#[test]
fn a_segment_without_any_time_lies_between_what_was_there_before_and_behind_it() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, NOON);
    let after_it = device.reads(100, SYNCHRONISED);
    let by = device.reads(170, SYNCHRONISED);
    let claim = Claim { named: None, after: Some(after_it), by: Some(by), ..minute(at(NOON)) };
    let placement = place(&journal, &claim);
    assert_eq!(placement.source, TimeSource::Neighbours);
    assert!(placement.start.distance(after(NOON, 105)) <= placement.uncertainty, "{placement:?}");
    assert!(placement.is_known());
}

// Clocks that nobody vouches for.

fn lenient() -> ClockJournal {
    ClockJournal::new(ClockTrust::Plausible { earliest: at("2026-01-01T00:00:00Z") })
}

#[test]
fn a_plausible_clock_is_presumed_to_be_about_right() {
    let mut journal = lenient();
    boot(&mut journal, 1, NOON).reads(100, None);
    let placement = place(&journal, &minute(after(NOON, 30)));
    assert_placed(placement, after(NOON, 30), Duration::from_secs(32), TimeSource::Name);
    let mut journal = lenient();
    boot(&mut journal, 1, "2000-01-01T00:00:00Z").reads(100, None);
    assert_unknown(place(&journal, &minute(at("2000-01-01T00:00:30Z"))));
}

#[test]
fn a_presumed_clock_is_overruled_by_a_synchronised_one() {
    let mut journal = lenient();
    let mut device = boot(&mut journal, 1, "2026-11-23T06:00:00Z");
    device.reads(100, None);
    let claim = minute(at("2026-11-23T06:00:30Z"));
    assert_eq!(place(device.journal, &claim).start, at("2026-11-23T06:00:30Z"));
    device.steps_to(NOON);
    device.reads(101, SYNCHRONISED);
    assert_placed(place(&journal, &claim), after(NOON, 30), 2 * SECOND, TimeSource::Name);
}

#[test]
fn boots_that_begin_at_the_same_time_are_presumed_of_neither() {
    let mut journal = lenient();
    boot(&mut journal, 1, "2026-03-17T09:12:00Z").reads(100, None);
    boot(&mut journal, 2, "2026-03-17T09:12:02Z").reads(100, None);
    assert_unknown(place(&journal, &minute(at("2026-03-17T09:12:50Z"))));
}

#[test]
fn without_a_journal_every_clock_is_believed() {
    let placement = place(&strict(), &minute(after(NOON, 30)));
    assert_eq!((placement.start, placement.uncertainty <= SECOND), (after(NOON, 30), true));
    assert_unknown(place(&strict(), &Claim::default()));
}

// Over a restart.

#[test]
fn a_journal_that_is_restored_places_as_the_one_that_was_kept() {
    let mut journal = strict();
    let mut kept = strict();
    let mut device = boot(&mut journal, 1, "1970-01-01T00:00:00Z");
    for at_s in 0..400 {
        if at_s == 200 {
            device.steps_to(NOON);
        }
        device.reads(at_s, SYNCHRONISED.filter(|_| at_s > 300));
        for epoch in device.journal.take_unsaved() {
            let bytes = postcard::to_stdvec(epoch).unwrap();
            kept.restore(postcard::from_bytes::<Epoch>(&bytes).unwrap());
        }
    }
    let claim = minute(at("1970-01-01T00:01:40Z"));
    let (live, restored) = (place(&journal, &claim), place(&kept, &claim));
    assert!(live.start.distance(restored.start) <= live.uncertainty + restored.uncertainty);
    assert_placed(restored, after(NOON, 100), 2 * SECOND, TimeSource::Name);
}

#[test]
fn a_day_of_readings_every_second_is_kept_in_two_thousand_bytes() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, NOON);
    let (mut writes, mut bytes) = (0, 0);
    for at_s in 0..86_400 {
        device.reads(at_s, SYNCHRONISED.filter(|_| at_s >= 30));
        let unsaved = device.journal.take_unsaved();
        writes += usize::from(!unsaved.is_empty());
        bytes += unsaved.iter().map(|one| postcard::to_stdvec(one).unwrap().len()).sum::<usize>();
    }
    assert_eq!(writes, 2 + 23);
    assert!(bytes <= 2_000, "{bytes}");
}

#[test]
fn anchors_and_epochs_are_bounded() {
    let mut journal = strict();
    let mut device = boot(&mut journal, 1, NOON);
    for turn in 0..100 {
        device.reads(turn * 1_000, SYNCHRONISED);
        device.reads(turn * 1_000 + 500, None);
    }
    assert_eq!(journal.epochs()[0].anchors.len(), MAX_ANCHORS);
    for start_s in [0, 50_250, 99_000] {
        let placement = place(&journal, &minute(after(NOON, start_s)));
        assert_placed(placement, after(NOON, start_s), Duration::from_secs(60), TimeSource::Name);
    }
    for number in 2..=200 {
        boot(&mut journal, number, NOON).reads(1, None);
        while let Some(oldest) = journal.oldest_beyond_limit() {
            journal.forget(oldest);
        }
    }
    assert_eq!(journal.epochs().len(), MAX_EPOCHS);
}

#[test]
fn a_card_put_in_takes_over_the_running_boot() {
    let mut running = strict();
    let mut device = boot(&mut running, 9, "1970-01-01T00:00:00Z");
    device.reads(1, None);
    device.reads(100, None);
    device.steps_to(NOON);
    device.reads(101, SYNCHRONISED);
    let mut on_card = strict();
    boot(&mut on_card, 1, "2026-11-20T00:00:00Z").reads(1, SYNCHRONISED);
    boot(&mut on_card, 9, "1970-01-01T00:00:00Z").reads(50, None);
    on_card.take_unsaved();
    on_card.go_on_from(&running);
    let boots: Vec<u8> = on_card.epochs().iter().map(|epoch| epoch.boot.0[0]).collect();
    assert_eq!(boots, [1, 9, 9]);
    assert_eq!(on_card.take_unsaved().len(), 2);
    let placement = place(&on_card, &minute(at("1970-01-01T00:00:30Z")));
    assert_placed(placement, after(NOON, 30), 2 * SECOND, TimeSource::Name);
}

// The word of a server.

/// One that was asked at `at_s` of a boot that truly began at `began`, and is right to within `error`.
fn told(journal: &mut ClockJournal, began: &str, at_s: i64, error: Duration) {
    journal.told(seconds(at_s), after(began, at_s), error);
}

const TWO_HOURS_LATE: &str = "2026-11-23T10:00:00Z";
const ASKED: Duration = Duration::from_millis(60);

#[test]
fn a_server_places_what_a_wrong_clock_has_named_before_and_after_it_was_asked() {
    for trust in
        [ClockTrust::Synchronised, ClockTrust::Plausible { earliest: at("2026-01-01T00:00:00Z") }]
    {
        let mut journal = ClockJournal::new(trust);
        let mut clock = boot(&mut journal, 1, TWO_HOURS_LATE);
        clock.reads(10, None);
        clock.reads(1_000, None);
        told(&mut journal, NOON, 1_000, ASKED);
        for recorded_s in [20, 900, 2_000] {
            let placement = place(&journal, &minute(after(TWO_HOURS_LATE, recorded_s)));
            // A name is exact to a second.
            assert_placed(placement, after(NOON, recorded_s), 2 * SECOND, TimeSource::Name);
        }
    }
}

#[test]
fn a_time_service_is_believed_rather_than_a_server() {
    let mut journal = strict();
    boot(&mut journal, 1, NOON).reads(10, None);
    told(&mut journal, TWO_HOURS_LATE, 10, ASKED);
    boot(&mut journal, 1, NOON).reads(20, SYNCHRONISED);
    told(&mut journal, TWO_HOURS_LATE, 20, ASKED);
    let placement = place(&journal, &minute(after(NOON, 15)));
    assert_placed(placement, after(NOON, 15), 2 * SECOND, TimeSource::Name);
}

#[test]
fn a_word_that_took_long_gives_way_to_a_quicker_one_and_a_slow_one_is_none() {
    let mut journal = strict();
    boot(&mut journal, 1, TWO_HOURS_LATE).reads(10, None);
    told(&mut journal, NOON, 10, 10 * SECOND);
    assert_unknown(place(&journal, &minute(after(TWO_HOURS_LATE, 5))));
    told(&mut journal, NOON, 10, 4 * SECOND);
    let version = journal.version();
    told(&mut journal, NOON, 12, ASKED);
    assert_ne!(journal.version(), version);
    assert_eq!(journal.epochs()[0].anchors.len(), 1);
    assert_eq!(journal.epochs()[0].anchors[0].error_ns, 60_000_000);
}

#[test]
fn a_clock_that_drifts_is_followed_within_a_bounded_number_of_stretches() {
    let (mut journal, mut truths) = (strict(), Vec::new());
    let mut most = 0;
    for minute_of_day in 0..24 * 60 {
        let at_s = 10 + 60 * minute_of_day;
        boot(&mut journal, 1, TWO_HOURS_LATE).reads(at_s, None);
        // 200 ppm fast: it shows more seconds than have passed.
        let truth = after(NOON, at_s).saturating_offset(-at_s * 200_000);
        journal.told(seconds(at_s), truth, ASKED);
        truths.push((at_s, truth));
        most = most.max(journal.epochs()[0].anchors.len());
    }
    assert_eq!(most, MAX_ANCHORS);
    let changes = journal.version();
    assert!(changes < 150, "all was placed anew {changes} times");
    for (at_s, truth) in truths.into_iter().step_by(37) {
        let placement = place(&journal, &minute(after(TWO_HOURS_LATE, at_s)));
        assert_placed(placement, truth, 15 * SECOND, TimeSource::Name);
    }
}
