use proptest::prelude::*;

use super::*;

fn schedule(cron: &str, zone: &str) -> Schedule {
    let time_zone = zone.parse().unwrap();
    Schedule { cron: cron.parse().unwrap(), time_zone, window: Duration::from_secs(6 * 3_600) }
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The runs after `from`, as a clock on the wall and its distance from UTC show them.
fn runs(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = schedule(cron, zone);
    let local = |run: Timestamp| {
        let zoned = run.to_jiff().to_zoned(schedule.time_zone.time_zone().clone());
        zoned.strftime("%m-%d %H:%M %:z").to_string()
    };
    schedule.upcoming(instant(from), count).into_iter().map(local).collect()
}

#[test]
fn every_night_has_one_run_also_where_clocks_are_changed() {
    assert_eq!(
        runs("0 23 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3),
        ["10-24 23:00 +02:00", "10-25 23:00 +01:00", "10-26 23:00 +01:00"]
    );
    assert_eq!(
        runs("0 23 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2),
        ["03-07 23:00 -05:00", "03-08 23:00 -04:00"]
    );
}

#[test]
fn a_time_that_spring_skips_runs_at_the_first_instant_after_the_skip() {
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        ["03-28 02:30 +01:00", "03-29 03:00 +02:00", "03-30 02:30 +02:00"]
    );
    assert_eq!(
        runs("30 2 * * *", "America/New_York", "2026-03-07T00:00:00Z", 3),
        ["03-07 02:30 -05:00", "03-08 03:00 -04:00", "03-09 02:30 -04:00"]
    );
    // Several that are skipped are one run, together with one that is due then anyway.
    assert_eq!(
        runs("*/20 1-3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 5),
        [
            "03-29 01:40 +01:00",
            "03-29 03:00 +02:00",
            "03-29 03:20 +02:00",
            "03-29 03:40 +02:00",
            "03-30 01:00 +02:00"
        ]
    );
    assert_eq!(
        runs("0 2,14 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2),
        ["03-29 03:00 +02:00", "03-29 14:00 +02:00"]
    );
}

#[test]
fn a_skipped_midnight_runs_at_the_first_instant_of_the_day() {
    // In Cairo, 23:59 is followed by 01:00.
    assert_eq!(
        runs("0 0 * * *", "Africa/Cairo", "2026-04-22T12:00:00Z", 3),
        ["04-23 00:00 +02:00", "04-24 01:00 +03:00", "04-25 00:00 +03:00"]
    );
}

#[test]
fn a_time_that_autumn_repeats_runs_once_the_first_time() {
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["10-25 02:30 +02:00", "10-26 02:30 +01:00"]
    );
    assert_eq!(
        runs("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2),
        ["11-01 01:30 -04:00", "11-02 01:30 -05:00"]
    );
    assert_eq!(
        runs("*/30 2,3 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
        ["10-25 02:30 +02:00", "10-25 03:00 +01:00", "10-25 03:30 +01:00"]
    );
    // Asked between the two.
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
        ["10-26 02:30 +01:00"]
    );
}

#[test]
fn an_interval_goes_on_through_both_changes_without_a_pause() {
    for (zone, change) in [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-03-08T07:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
    ] {
        let start = instant(change).saturating_sub(Duration::from_secs(2 * 3_600));
        let quarters = schedule("*/15 * * * *", zone).upcoming(start, 20);
        let steps = quarters.windows(2).map(|pair| pair[1].since(pair[0]).as_secs());
        assert_eq!(steps.collect::<Vec<_>>(), [900; 19], "{zone} {change}");
    }
    assert_eq!(
        runs("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
        ["10-25 02:30 +02:00", "10-25 02:30 +01:00", "10-25 03:30 +01:00"]
    );
    assert_eq!(
        runs("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2),
        ["03-29 01:30 +01:00", "03-29 03:30 +02:00"]
    );
    // Even hours: 02:00 is skipped, and not made up for.
    assert_eq!(
        runs("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:00:00Z", 2),
        ["03-29 04:00 +02:00", "03-29 06:00 +02:00"]
    );
}

#[test]
fn a_window_is_open_from_its_run_on_for_as_long_as_it_says() {
    let night = schedule("0 23 * * *", "Europe/Berlin");
    let open = |text: &str| night.window_open_at(instant(text)).map(|window| window.start());
    let run = instant("2026-11-23T22:00:00Z");
    assert_eq!(open("2026-11-23T21:59:59.999Z"), None);
    assert_eq!(open("2026-11-23T22:00:00Z"), Some(run));
    assert_eq!(open("2026-11-24T03:59:59.999Z"), Some(run));
    assert_eq!(open("2026-11-24T04:00:00Z"), None);
    assert_eq!(night.window_of(run).end(), instant("2026-11-24T04:00:00Z"));
}

#[test]
fn of_windows_that_overlap_the_latest_wins() {
    let hourly = schedule("0 * * * *", "Europe/Berlin");
    let window = hourly.window_open_at(instant("2026-11-23T12:34:56.7Z")).unwrap();
    assert_eq!(window.start(), instant("2026-11-23T12:00:00Z"));
    assert_eq!(window.duration(), hourly.window);
}

#[test]
fn the_latest_run_is_known_within_repeated_hours_and_after_a_skip() {
    let latest =
        |cron: &str, text: &str| schedule(cron, "Europe/Berlin").latest_by(instant(text)).unwrap();
    // In the second 02:10, the run was at the first 02:30.
    let run = instant("2026-10-25T02:30:00+02:00");
    assert_eq!(latest("30 2 * * *", "2026-10-25T02:10:00+01:00"), run);
    assert_eq!(latest("30 2 * * *", "2026-10-25T02:50:00+01:00"), run);
    let before = instant("2026-10-24T02:30:00+02:00");
    assert_eq!(latest("30 2 * * *", "2026-10-25T02:10:00+02:00"), before);
    let skipped = instant("2026-03-29T03:00:00+02:00");
    assert_eq!(latest("30 2 * * *", "2026-03-29T03:00:00+02:00"), skipped);
    assert_eq!(latest("30 2 * * *", "2026-03-29T03:29:00+02:00"), skipped);
    let second = instant("2026-10-25T02:00:00+01:00");
    assert_eq!(latest("*/15 * * * *", "2026-10-25T02:10:00+01:00"), second);
}

#[test]
fn rare_days_are_found_and_those_that_never_come_are_refused() {
    let leap = schedule("0 3 29 2 *", "Europe/Berlin");
    assert_eq!(
        leap.next_after(instant("2097-01-01T00:00:00Z")),
        Some(instant("2104-02-29T02:00:00Z"))
    );
    assert_eq!(
        leap.latest_by(instant("2103-12-01T00:00:00Z")),
        Some(instant("2096-02-29T02:00:00Z"))
    );
    // On a Sunday as well, and every hour, which is searched from change to change of the clocks.
    let rare = schedule("0 * 29 2 +SUN", "Europe/Berlin");
    assert_eq!(
        rare.next_after(instant("2089-01-01T00:00:00Z")),
        Some(instant("2128-02-28T23:00:00Z"))
    );
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        let error = never.parse::<CronPattern>().unwrap_err().to_string();
        assert!(error.contains(never) && error.contains("never"), "{error}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_and_told_how_one_looks() {
    let too_long = "*/15 * * * *".repeat(20);
    for text in [
        "",
        "23:00",
        "0 23 * *",
        "0 0 23 * * *",
        "60 * * * *",
        "*/0 * * * *",
        "0 24 * * *",
        "0 23 * * Foo",
        "@never",
        "0 0 23 * * * 2026",
        &too_long,
    ] {
        let error = text.parse::<CronPattern>().unwrap_err().to_string();
        assert!(error.contains("cron pattern"), "{text}: {error}");
    }
    for text in ["@daily", "0 23 * * MON-FRI", " 5,35 6-20/2 L * 1#2 ", "0 12 15W * *"] {
        assert_eq!(text.parse::<CronPattern>().unwrap().as_str(), text.trim());
    }
}

#[test]
fn the_ends_of_time_have_no_runs_and_no_panic() {
    for cron in ["0 23 * * *", "*/15 * * * *", "0 0 29 2 *"] {
        let schedule = schedule(cron, "Europe/Berlin");
        for end in [Timestamp::MIN, Timestamp::MAX] {
            let near = (schedule.next_after(end), schedule.latest_by(end));
            assert!(near.0.is_none_or(|next| next > end) && near.1.is_none_or(|last| last <= end));
            let _ = (schedule.upcoming(end, 3), schedule.window_open_at(end));
        }
        assert_eq!(schedule.next_after(Timestamp::MAX), None);
        assert_eq!(schedule.latest_by(Timestamp::MIN), None);
    }
    let all = schedule("* * * * *", "UTC").upcoming(Timestamp::UNIX_EPOCH, usize::MAX);
    assert_eq!(all.len(), MOST_UPCOMING);
}

/// Patterns over minutes and hours only, with the times of the day that they mean.
fn a_daily_pattern() -> impl Strategy<Value = (String, Vec<u8>, Vec<u8>)> {
    let minutes = proptest::sample::subsequence((0..60).collect::<Vec<u8>>(), 1..5);
    let hours = proptest::sample::subsequence((0..24).collect::<Vec<u8>>(), 1..6);
    (minutes, proptest::option::of(hours)).prop_map(|(minutes, hours)| {
        let list = |numbers: &[u8]| numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        let named = hours.as_deref().map_or("*".to_owned(), list);
        let cron = format!("{} {named} * * *", list(&minutes));
        (cron, minutes, hours.unwrap_or_default())
    })
}

/// Every run in `range`, found minute by minute on a clock on the wall.
fn brute_force(zone: &Zone, minutes: &[u8], hours: &[u8], range: TimeRange) -> Vec<Timestamp> {
    let zone = zone.time_zone();
    let wall = |second: i64| zone.to_datetime(Timestamp::from_unix_seconds(second).to_jiff());
    let matches = |wall: DateTime| {
        let hour = hours.is_empty() || hours.contains(&(wall.hour() as u8));
        hour && minutes.contains(&(wall.minute() as u8))
    };
    let second_of = |instant: Timestamp| instant.as_nanos() / 1_000_000_000;
    let (start, end) = (second_of(range.start()), second_of(range.end()));
    // A clock that was put back by up to three hours has shown nothing new until it shows what it did before.
    let mut shown = wall(start - 3 * 3_600);
    let mut found = Vec::new();
    for second in (start - 3 * 3_600..end).step_by(60) {
        let now = wall(second);
        let is_due = if hours.is_empty() {
            matches(now)
        } else {
            let mut passed = shown;
            let mut any = false;
            while passed < now {
                passed = passed.checked_add(jiff::SignedDuration::from_mins(1)).unwrap();
                any |= matches(passed);
            }
            any
        };
        shown = shown.max(now);
        if is_due && second >= start {
            found.push(Timestamp::from_unix_seconds(second));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn runs_are_those_that_a_clock_on_the_wall_calls_for_minute_by_minute(
        (cron, minutes, hours) in a_daily_pattern(),
        zone in proptest::sample::select(vec![
            "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo",
        ]),
        // Days before changes of these zones' clocks in 2026, and one without any.
        day in proptest::sample::select(vec![65, 86, 92, 112, 180, 275, 296, 300, 303]),
    ) {
        let schedule = schedule(&cron, zone);
        let year = instant("2026-01-01T00:00:00Z").as_nanos() / 1_000_000_000;
        let range = crate::examples::seconds(year + day * 86_400, year + (day + 4) * 86_400);
        let expected = brute_force(&schedule.time_zone, &minutes, &hours, range);
        let just_before = range.start().saturating_offset(-1);
        let mut runs = schedule.upcoming(just_before, MOST_UPCOMING);
        runs.retain(|run| *run < range.end());
        prop_assert_eq!(&runs, &expected);
        // Backward, the same ones are found from between them.
        for pair in expected.windows(2) {
            let between = pair[0].saturating_add(pair[1].since(pair[0]) / 2);
            for instant in [pair[0], between, pair[1].saturating_offset(-1)] {
                prop_assert_eq!(schedule.latest_by(instant), Some(pair[0]));
            }
        }
    }

    #[test]
    fn runs_strictly_follow_each_other_and_are_found_backward_too(
        minute in "(\\*|\\*/7|[0-5]?[0-9]|3,33)",
        hour in "(\\*|\\*/5|1?[0-9]|0-4/2)",
        day in "(\\*|L|15W|31|1-7)",
        month in "(\\*|2|3,10)",
        week in "(\\*|SUN|5#L|\\+1-5)",
        zone in proptest::sample::select(vec!["Europe/Berlin", "America/New_York", "Pacific/Apia"]),
        from_s in 1_300_000_000_i64..4_000_000_000,
        nanos in 0_i64..1_000_000_000,
    ) {
        let Ok(cron) = format!("{minute} {hour} {day} {month} {week}").parse::<CronPattern>() else {
            return Ok(());
        };
        let schedule = Schedule { cron, ..schedule("0 0 * * *", zone) };
        let from = Timestamp::from_unix_seconds(from_s).saturating_offset(nanos);
        let mut last = from;
        for run in schedule.upcoming(from, 20) {
            prop_assert!(run > last);
            prop_assert_eq!(schedule.latest_by(run), Some(run));
            prop_assert_eq!(schedule.latest_by(run.saturating_offset(1)), Some(run));
            prop_assert!(schedule.latest_by(run.saturating_offset(-1)).is_none_or(|before| before <= last));
            last = run;
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,40}", near in "[-0-9*/,#LW+A-Z@ ]{0,30}") {
        let _ = (text.parse::<CronPattern>(), near.parse::<CronPattern>());
    }
}
