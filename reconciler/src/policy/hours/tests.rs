use proptest::prelude::*;

use super::*;
use crate::policy::zone::Zone;

fn hours(lines: &[&str]) -> WeeklyHours {
    WeeklyHours::new(lines.iter().map(|line| line.parse().unwrap()).collect()).unwrap()
}

fn zone(name: &str) -> TimeZone {
    name.parse::<Zone>().unwrap().time_zone().clone()
}

fn range(start: &str, end: &str) -> TimeRange {
    TimeRange::new(start.parse().unwrap(), end.parse().unwrap()).unwrap()
}

fn ranges(pairs: &[(&str, &str)]) -> Coverage {
    pairs.iter().map(|(start, end)| range(start, end)).collect()
}

#[test]
fn working_hours_are_those_of_the_zone() {
    // A Friday and a Saturday.
    let days = range("2026-11-20T00:00:00+01:00", "2026-11-22T00:00:00+01:00");
    assert_eq!(
        hours(&["Mon-Fri 06:00-22:00"]).coverage(days, &zone("Europe/Berlin")),
        ranges(&[("2026-11-20T05:00:00Z", "2026-11-20T21:00:00Z")])
    );
}

#[test]
fn hours_across_midnight_belong_to_the_day_on_which_they_begin() {
    let week = range("2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
    assert_eq!(
        hours(&["Sat,Sun 22:00-02:00"]).coverage(week, &TimeZone::UTC),
        ranges(&[
            // Of the Sunday before.
            ("2026-11-23T00:00:00Z", "2026-11-23T02:00:00Z"),
            ("2026-11-28T22:00:00Z", "2026-11-29T02:00:00Z"),
            ("2026-11-29T22:00:00Z", "2026-11-30T00:00:00Z"),
        ])
    );
}

#[test]
fn hours_that_touch_or_overlap_are_one_range() {
    let days = range("2026-11-23T12:00:00Z", "2026-11-25T12:00:00Z");
    for lines in [
        &["Mon-Sun 00:00-24:00"][..],
        &["Mon-Sun 06:00-18:00", "Mon-Sun 18:00-06:00"],
        &["Mon-Sun 00:00-13:00", "Mon-Sun 12:00-00:00"],
        &["Mon-Thu 00:00-24:00", "Fri-Sun 00:00-24:00"],
    ] {
        assert_eq!(hours(lines).coverage(days, &TimeZone::UTC), Coverage::from(days), "{lines:?}");
    }
}

#[test]
fn hours_that_spring_skips_never_come() {
    // In Berlin, 02:00 is followed by 03:00 on this Sunday.
    let day = range("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00");
    let berlin = zone("Europe/Berlin");
    assert_eq!(
        hours(&["Sun 01:30-03:30"]).coverage(day, &berlin),
        ranges(&[("2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00")])
    );
    assert_eq!(hours(&["Sun 01:30-03:30"]).coverage(day, &berlin).total().as_secs(), 3_600);
    assert!(hours(&["Sun 02:00-03:00"]).coverage(day, &berlin).is_empty());
    assert_eq!(
        hours(&["Sun 02:30-04:00"]).coverage(day, &berlin),
        ranges(&[("2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00")])
    );
}

#[test]
fn hours_that_autumn_repeats_come_twice() {
    // In New York, 01:59 EDT is followed by 01:00 EST on this Sunday.
    let day = range("2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00");
    let new_york = zone("America/New_York");
    assert_eq!(
        hours(&["Sun 01:15-01:45"]).coverage(day, &new_york),
        ranges(&[
            ("2026-11-01T01:15:00-04:00", "2026-11-01T01:45:00-04:00"),
            ("2026-11-01T01:15:00-05:00", "2026-11-01T01:45:00-05:00"),
        ])
    );
    assert_eq!(
        hours(&["Sun 00:30-02:30"]).coverage(day, &new_york),
        ranges(&[("2026-11-01T00:30:00-04:00", "2026-11-01T02:30:00-05:00")])
    );
}

#[test]
fn all_the_time_there_is_can_be_asked_for() {
    let always =
        hours(&["Mon-Sun 00:00-24:00"]).coverage(TimeRange::ALWAYS, &zone("Europe/Berlin"));
    assert_eq!(always, Coverage::from(TimeRange::ALWAYS));
    let nights =
        hours(&["Mon-Sun 22:00-06:00"]).coverage(TimeRange::ALWAYS, &zone("Europe/Berlin"));
    assert!((210_000..220_000).contains(&nights.ranges().len()), "{}", nights.ranges().len());
    let nothing = TimeRange::new(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).unwrap();
    assert!(hours(&["Mon-Sun 22:00-06:00"]).coverage(nothing, &TimeZone::UTC).is_empty());
}

#[test]
fn lines_are_printed_in_one_way() {
    for (written, printed) in [
        ("Mon-Fri 06:00-22:00", "Mon-Fri 06:00-22:00"),
        ("sun,SAT 6:00-7:05", "Sat,Sun 06:00-07:05"),
        ("Monday, wednesday 06:00-24:00", "Mon,Wed 06:00-24:00"),
        ("Fri-Mon 22:00-0:00", "Mon,Fri-Sun 22:00-00:00"),
        ("Mon-Sun  22:00-02:00 ", "Mon-Sun 22:00-02:00"),
    ] {
        let line: HoursLine = written.parse().unwrap();
        assert_eq!(line.to_string(), printed);
        assert_eq!(printed.parse::<HoursLine>().unwrap(), line);
    }
}

#[test]
fn what_are_no_hours_is_named() {
    for (line, named) in [
        ("", "weekly hours"),
        ("Mon-Fri", "weekly hours"),
        ("06:00-22:00", "weekly hours"),
        ("Mon-Fri 06:00", "weekly hours"),
        ("Mo-Fri 06:00-22:00", "`Mo`"),
        ("Mon-Fri- 06:00-22:00", "`Fri-`"),
        ("Mon,,Fri 06:00-22:00", "``"),
        ("Mon 6-22", "`6`"),
        ("Mon 06:00-25:00", "`25:00`"),
        ("Mon 06:00-24:01", "`24:01`"),
        ("Mon 06:60-07:00", "`06:60`"),
        ("Mon +6:00-07:00", "`+6:00`"),
        ("Mon 24:00-02:00", "`24:00`"),
        ("Mon 06:00-06:00", "00:00-24:00"),
    ] {
        let error = line.parse::<HoursLine>().unwrap_err().to_string();
        assert!(error.contains(named), "{line}: {error}");
    }
    assert!(WeeklyHours::new(Vec::new()).is_err());
}

/// Whether a clock on the wall shows a time within the line, by its text alone.
fn shown(line: &str, wall: jiff::civil::DateTime) -> bool {
    let (days, hours) = line.split_once(' ').unwrap();
    let (from, until) = hours.split_once('-').unwrap();
    let time = format!("{:02}:{:02}", wall.hour(), wall.minute());
    let name = |date: jiff::civil::Date| DAYS[date.weekday().to_monday_zero_offset() as usize];
    let begins_on = |date| days.split(',').any(|day| day == name(date));
    if from < until {
        return begins_on(wall.date()) && from <= &time[..] && &time[..] < until;
    }
    let yesterday = wall.date().yesterday().unwrap();
    (begins_on(wall.date()) && from <= &time[..]) || (begins_on(yesterday) && &time[..] < until)
}

fn a_line() -> impl Strategy<Value = String> {
    let days = proptest::sample::subsequence(DAYS.to_vec(), 1..=7);
    (days, 0_u16..DAY_MINUTES, 0_u16..DAY_MINUTES)
        .prop_filter("not empty", |(_, from, until)| from != until)
        .prop_map(|(days, from, until)| {
            let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            format!("{} {}-{}", days.join(","), time(from), time(until))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn coverage_is_what_a_clock_on_the_wall_shows_minute_by_minute(
        lines in proptest::collection::vec(a_line(), 1..4),
        name in proptest::sample::select(vec![
            "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo",
        ]),
        // Around the changes of these zones' clocks in 2026, and where there is none.
        day in proptest::sample::select(vec![60, 90, 95, 180, 276, 296, 302]),
        days in 1_i64..9,
    ) {
        let zone = zone(name);
        let year = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_nanos() / 1_000_000_000;
        let start_s = year + day * 86_400;
        let range = crate::examples::seconds(start_s, start_s + days * 86_400);
        let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
        let minutes = (0..days * 1_440).map(|minute| start_s + minute * 60).filter(|second| {
            let wall = zone.to_datetime(Timestamp::from_unix_seconds(*second).to_jiff());
            lines.iter().any(|line| shown(line, wall))
        });
        let brute: Coverage = minutes.map(|s| crate::examples::seconds(s, s + 60)).collect();
        prop_assert_eq!(hours(&texts).coverage(range, &zone), brute);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,40}", near in "[A-Za-z,-]{0,12} [0-9:]{0,6}-[0-9:]{0,6}") {
        let _ = (text.parse::<HoursLine>(), near.parse::<HoursLine>());
    }
}
