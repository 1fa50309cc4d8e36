//! What the algebra of coverage costs, beside the two crates that one would otherwise take for it.
//!
//! `cargo bench -p sdcard-indexer --bench algebra [-- RANGES]`, 10 million by default, in 3 GB. Every operation
//! is done by all three one after the other and must have the same answer. Results are sets of each crate's
//! own kind, as further algebra needs them; dropping them is not counted. What a crate does not offer is
//! put together from what it does, or left out where that would take a pass over the whole set.

use std::env;
use std::hint::black_box;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use range_set_blaze::{CheckSortedDisjoint, RangeSetBlaze};
use rangemap::RangeSet;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

const TOLERANCE: i64 = 40;
const QUESTIONS: usize = 1_000_000;
const CHANGES: usize = 100_000;
const FEW: usize = 1_000;
/// The machine is not ours alone: the fastest of so many counts.
const RUNS: usize = 3;
/// How this program asks a process of its own for a set's size.
const RESIDENT: &str = "--resident";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let ranges = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(10_000_000);
    match arguments.first().map(String::as_str) {
        Some(RESIDENT) => print!("{}", resident_bytes_a_range(&arguments[1], ranges)),
        _ if arguments.iter().any(|argument| argument == "--bench") => measure(ranges),
        _ => println!("measures only under `cargo bench -p sdcard-indexer --bench algebra`"),
    }
}

fn measure(ranges: usize) {
    let input = Input::new(ranges);
    println!("| {ranges} ranges | Coverage, ns | rangemap | range-set-blaze |");
    println!("|---|---|---|---|");
    let mut coverage = Sets::<Coverage>::new(&input);
    let mut map = Sets::<RangeSet<i64>>::new(&input);
    let mut blaze = Sets::<RangeSetBlaze<i64>>::new(&input);
    for operation in Operation::ALL {
        let (label, items) = operation.describe(ranges);
        let mut ours = coverage.run(operation, &input).expect("coverage offers all of them");
        let mut others = [map.run(operation, &input), blaze.run(operation, &input)];
        for _ in 1..RUNS {
            ours = ours.min(coverage.run(operation, &input).expect("it did before"));
            others[0] = others[0].min(map.run(operation, &input));
            others[1] = others[1].min(blaze.run(operation, &input));
        }
        let (ours, answer) = ours;
        let others = others.map(|other| {
            other.map_or("-".to_owned(), |(took, same)| {
                assert_eq!(same, answer, "{label}: one of them is wrong");
                let ratio = took.as_secs_f64() / ours.as_secs_f64();
                if ratio < 1.0 { format!("{ratio:.3}") } else { format!("{ratio:.1}") }
            })
        });
        let nanos = ours.as_nanos() as f64 / items as f64;
        println!("| {label} | {nanos:.1} | {} | {} |", others[0], others[1]);
    }
    drop((coverage, map, blaze));
    let resident = [Coverage::NAME, RangeSet::NAME, RangeSetBlaze::NAME].map(|name| {
        let program = env::current_exe().expect("a running program has a path");
        let child = Command::new(program).args([RESIDENT, name, &ranges.to_string()]).output();
        String::from_utf8(child.expect("it runs").stdout).expect("it prints a number")
    });
    let ours: f64 = resident[0].parse().expect("a number");
    let [_, map, blaze] = resident.map(|bytes| bytes.parse::<f64>().expect("a number") / ours);
    println!("| resident bytes a range | {ours:.1} | {map:.1} | {blaze:.1} |");
}

/// In a process of its own: what an allocator keeps of earlier sets cannot be told from these.
fn resident_bytes_a_range(name: &str, ranges: usize) -> f64 {
    fn grown<S: Set>(ranges: usize) -> f64 {
        let input = Input::sorted(ranges, 1);
        let before = resident_bytes();
        let set = black_box(S::build_sorted(&input));
        let after = resident_bytes();
        (after - before) / set.count() as f64
    }
    match name {
        Coverage::NAME => grown::<Coverage>(ranges),
        RangeSet::NAME => grown::<RangeSet<i64>>(ranges),
        _ => grown::<RangeSetBlaze<i64>>(ranges),
    }
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line for it");
    let kib = line.split_whitespace().nth(1).expect("a number in it");
    kib.parse::<f64>().expect("a number") * 1024.0
}

#[derive(Clone, Copy)]
enum Operation {
    BuildSorted,
    BuildUnsorted,
    Union,
    UnionWithFew,
    Intersection,
    IntersectionWithFew,
    Difference,
    DifferenceOfFew,
    Gaps,
    GapsInShortWindow,
    Join,
    Contains,
    Covers,
    InsertOneByOne,
    RemoveOneByOne,
    Append,
    Extend,
}

impl Operation {
    const ALL: [Operation; 17] = [
        Operation::BuildSorted,
        Operation::BuildUnsorted,
        Operation::Union,
        Operation::UnionWithFew,
        Operation::Intersection,
        Operation::IntersectionWithFew,
        Operation::Difference,
        Operation::DifferenceOfFew,
        Operation::Gaps,
        Operation::GapsInShortWindow,
        Operation::Join,
        Operation::Contains,
        Operation::Covers,
        Operation::InsertOneByOne,
        Operation::RemoveOneByOne,
        Operation::Append,
        Operation::Extend,
    ];

    /// What it is, and how many ranges or questions its time is divided by.
    fn describe(self, ranges: usize) -> (String, usize) {
        let few = FEW.min(ranges);
        let (label, items) = match self {
            Operation::BuildSorted => ("build, sorted", ranges),
            Operation::BuildUnsorted => ("build, shuffled", ranges),
            Operation::Union => ("union with as many", 2 * ranges),
            Operation::UnionWithFew => ("union with 1,000", ranges),
            Operation::Intersection => ("intersection with as many", 2 * ranges),
            Operation::IntersectionWithFew => ("intersection with 1,000", few),
            Operation::Difference => ("difference from as many", 2 * ranges),
            Operation::DifferenceOfFew => ("1,000 without these", few),
            Operation::Gaps => ("gaps in all", ranges),
            Operation::GapsInShortWindow => ("gaps in a window of 1,000", few),
            Operation::Join => ("join with a tolerance", ranges),
            Operation::Contains => ("contains, random", QUESTIONS),
            Operation::Covers => ("covers, random", QUESTIONS),
            Operation::InsertOneByOne => ("insert 100,000 at random into a tenth", CHANGES),
            Operation::RemoveOneByOne => ("remove 100,000 at random from a tenth", CHANGES),
            Operation::Append => ("insert 100,000 behind a tenth", CHANGES),
            Operation::Extend => ("extend a tenth by 100,000 at once", CHANGES),
        };
        (label.to_owned(), items)
    }
}

/// The same for all three.
struct Input {
    sorted: Vec<Range<i64>>,
    shuffled: Vec<Range<i64>>,
    other: Vec<Range<i64>>,
    few: Vec<Range<i64>>,
    tenth: Vec<Range<i64>>,
    all: Range<i64>,
    window: Range<i64>,
    questions: Vec<Range<i64>>,
    changes: Vec<Range<i64>>,
    behind: Vec<Range<i64>>,
}

impl Input {
    fn new(ranges: usize) -> Input {
        let sorted = Input::sorted(ranges, 1);
        let mut random = Random(2);
        let mut shuffled = sorted.clone();
        for last in (1..shuffled.len()).rev() {
            shuffled.swap(last, random.below(last as i64 + 1) as usize);
        }
        let tenth: Vec<_> = sorted.iter().take(ranges / 10).cloned().collect();
        let [end, tenth_end] = [&sorted, &tenth].map(|all| all.last().map_or(0, |last| last.end));
        let mut anywhere = |count: usize, end: i64| -> Vec<Range<i64>> {
            let range = |_| {
                let start = random.below(end);
                start..start + 1 + random.below(100)
            };
            (0..count).map(range).collect()
        };
        let mut few = anywhere(FEW, end);
        few.sort_unstable_by_key(|range| range.start);
        Input {
            other: Input::sorted(ranges, 3),
            few,
            all: -1000..end + 1000,
            window: sorted[ranges / 2].start..sorted[ranges / 2 + FEW].start,
            questions: anywhere(QUESTIONS, end),
            changes: anywhere(CHANGES, tenth_end),
            behind: (0..CHANGES as i64)
                .map(|index| tenth_end + 100 * index + 1..tenth_end + 100 * index + 50)
                .collect(),
            sorted,
            shuffled,
            tenth,
        }
    }

    /// Short holes, and now and then a long one.
    fn sorted(ranges: usize, seed: u64) -> Vec<Range<i64>> {
        let mut random = Random(seed);
        let mut end = 0;
        let range = |_| {
            let longest = if random.below(64) == 0 { 10_000 } else { 80 };
            let start = end + 2 + random.below(longest);
            end = start + 1 + random.below(100);
            start..end
        };
        (0..ranges).map(range).collect()
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as i64
    }
}

struct Sets<S> {
    large: S,
    other: S,
    few: S,
    tenth: S,
}

impl<S: Set> Sets<S> {
    fn new(input: &Input) -> Self {
        Sets {
            large: S::build_sorted(&input.sorted),
            other: S::build_sorted(&input.other),
            few: S::build(&input.few),
            tenth: S::build_sorted(&input.tenth),
        }
    }

    /// How long it takes, and a number that depends on the answer; `None` where it is not offered.
    fn run(&mut self, operation: Operation, input: &Input) -> Option<(Duration, usize)> {
        let Sets { large, other, few, tenth } = self;
        Some(match operation {
            Operation::BuildSorted => timed_set(|| S::build_sorted(&input.sorted)),
            Operation::BuildUnsorted => timed_set(|| S::build(&input.shuffled)),
            Operation::Union => timed_set(|| large.union(other)),
            Operation::UnionWithFew => timed_set(|| large.union(few)),
            Operation::Intersection => timed_set(|| large.intersection(other)),
            Operation::IntersectionWithFew => timed_set(|| large.intersection(few)),
            Operation::Difference => timed_set(|| large.difference(other)),
            Operation::DifferenceOfFew => timed_set(|| few.difference(large)),
            Operation::Gaps => timed_set(|| large.gaps(&input.all)),
            Operation::GapsInShortWindow => timed_set(|| large.gaps(&input.window)),
            Operation::Join => {
                let copy = large.clone();
                timed_set(|| copy.joined(TOLERANCE))
            }
            Operation::Contains => {
                timed(|| input.questions.iter().filter(|range| large.contains(range.start)).count())
            }
            Operation::Covers => {
                large.covers(&input.all)?;
                timed(|| {
                    let covered = |range: &&Range<i64>| large.covers(range) == Some(true);
                    input.questions.iter().filter(covered).count()
                })
            }
            Operation::InsertOneByOne => {
                let mut copy = tenth.clone();
                timed_set(|| {
                    input.changes.iter().for_each(|range| copy.insert(range));
                    copy
                })
            }
            Operation::RemoveOneByOne => {
                let mut copy = tenth.clone();
                copy.remove(&(-1..0)).then(|| {
                    timed_set(|| {
                        input.changes.iter().for_each(|range| {
                            copy.remove(range);
                        });
                        copy
                    })
                })?
            }
            Operation::Append => {
                let mut copy = tenth.clone();
                timed_set(|| {
                    input.behind.iter().for_each(|range| copy.insert(range));
                    copy
                })
            }
            Operation::Extend => {
                let mut copy = tenth.clone();
                timed_set(|| {
                    copy.extend(&input.changes);
                    copy
                })
            }
        })
    }
}

fn timed_set<S: Set>(work: impl FnOnce() -> S) -> (Duration, usize) {
    let started = Instant::now();
    let set = black_box(work());
    (started.elapsed(), set.count())
}

fn timed(work: impl FnOnce() -> usize) -> (Duration, usize) {
    let started = Instant::now();
    let answer = black_box(work());
    (started.elapsed(), answer)
}

/// What is asked of each.
trait Set: Clone {
    const NAME: &'static str;

    /// Sorted, none touching the next.
    fn build_sorted(ranges: &[Range<i64>]) -> Self;
    fn build(ranges: &[Range<i64>]) -> Self;
    /// Of ranges.
    fn count(&self) -> usize;
    fn union(&self, other: &Self) -> Self;
    fn intersection(&self, other: &Self) -> Self;
    fn difference(&self, other: &Self) -> Self;
    fn gaps(&self, window: &Range<i64>) -> Self;
    fn joined(self, tolerance: i64) -> Self;
    fn contains(&self, instant: i64) -> bool;
    fn covers(&self, range: &Range<i64>) -> Option<bool>;
    fn insert(&mut self, range: &Range<i64>);
    /// False where it cannot.
    fn remove(&mut self, range: &Range<i64>) -> bool;
    fn extend(&mut self, ranges: &[Range<i64>]);
}

fn time_range(range: &Range<i64>) -> TimeRange {
    TimeRange::new(Timestamp::from_nanos(range.start), Timestamp::from_nanos(range.end))
        .expect("no range runs backwards")
}

impl Set for Coverage {
    const NAME: &'static str = "coverage";

    fn build_sorted(ranges: &[Range<i64>]) -> Self {
        ranges.iter().map(time_range).collect()
    }

    fn build(ranges: &[Range<i64>]) -> Self {
        Self::build_sorted(ranges)
    }

    fn count(&self) -> usize {
        self.ranges().len()
    }

    fn union(&self, other: &Self) -> Self {
        Coverage::union(self, other)
    }

    fn intersection(&self, other: &Self) -> Self {
        Coverage::intersection(self, other)
    }

    fn difference(&self, other: &Self) -> Self {
        Coverage::difference(self, other)
    }

    fn gaps(&self, window: &Range<i64>) -> Self {
        Coverage::gaps(self, time_range(window))
    }

    fn joined(self, tolerance: i64) -> Self {
        Coverage::joined(self, Duration::from_nanos(tolerance as u64))
    }

    fn contains(&self, instant: i64) -> bool {
        Coverage::contains(self, Timestamp::from_nanos(instant))
    }

    fn covers(&self, range: &Range<i64>) -> Option<bool> {
        Some(Coverage::covers(self, time_range(range)))
    }

    fn insert(&mut self, range: &Range<i64>) {
        Coverage::insert(self, time_range(range));
    }

    fn remove(&mut self, range: &Range<i64>) -> bool {
        Coverage::remove(self, time_range(range));
        true
    }

    fn extend(&mut self, ranges: &[Range<i64>]) {
        Extend::extend(self, ranges.iter().map(time_range));
    }
}

impl Set for RangeSet<i64> {
    const NAME: &'static str = "rangemap";

    fn build_sorted(ranges: &[Range<i64>]) -> Self {
        ranges.iter().cloned().collect()
    }

    fn build(ranges: &[Range<i64>]) -> Self {
        ranges.iter().cloned().collect()
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn union(&self, other: &Self) -> Self {
        self | other
    }

    fn intersection(&self, other: &Self) -> Self {
        self & other
    }

    fn difference(&self, other: &Self) -> Self {
        match (self.first(), self.last()) {
            (Some(first), Some(last)) => self & &Set::gaps(other, &(first.start..last.end)),
            _ => RangeSet::new(),
        }
    }

    fn gaps(&self, window: &Range<i64>) -> Self {
        RangeSet::gaps(self, window).collect()
    }

    fn joined(self, tolerance: i64) -> Self {
        joined(self.into_iter(), tolerance).collect()
    }

    fn contains(&self, instant: i64) -> bool {
        RangeSet::contains(self, &instant)
    }

    fn covers(&self, range: &Range<i64>) -> Option<bool> {
        Some(self.get(&range.start).is_some_and(|held| range.end <= held.end))
    }

    fn insert(&mut self, range: &Range<i64>) {
        RangeSet::insert(self, range.clone());
    }

    fn remove(&mut self, range: &Range<i64>) -> bool {
        RangeSet::remove(self, range.clone());
        true
    }

    fn extend(&mut self, ranges: &[Range<i64>]) {
        Extend::extend(self, ranges.iter().cloned());
    }
}

impl Set for RangeSetBlaze<i64> {
    const NAME: &'static str = "range-set-blaze";

    fn build_sorted(ranges: &[Range<i64>]) -> Self {
        let ranges = ranges.iter().map(|range| range.start..=range.end - 1);
        RangeSetBlaze::from_sorted_disjoint(CheckSortedDisjoint::new(ranges))
    }

    fn build(ranges: &[Range<i64>]) -> Self {
        ranges.iter().map(|range| range.start..=range.end - 1).collect()
    }

    fn count(&self) -> usize {
        self.ranges_len()
    }

    fn union(&self, other: &Self) -> Self {
        self | other
    }

    fn intersection(&self, other: &Self) -> Self {
        self & other
    }

    fn difference(&self, other: &Self) -> Self {
        self - other
    }

    fn gaps(&self, window: &Range<i64>) -> Self {
        &RangeSetBlaze::from(window.start..=window.end - 1) - self
    }

    fn joined(self, tolerance: i64) -> Self {
        let ranges = self.into_ranges().map(|range| *range.start()..*range.end() + 1);
        let ranges = joined(ranges, tolerance).map(|range| range.start..=range.end - 1).fuse();
        RangeSetBlaze::from_sorted_disjoint(CheckSortedDisjoint::new(ranges))
    }

    fn contains(&self, instant: i64) -> bool {
        RangeSetBlaze::contains(self, instant)
    }

    fn covers(&self, _: &Range<i64>) -> Option<bool> {
        None
    }

    fn insert(&mut self, range: &Range<i64>) {
        self.ranges_insert(range.start..=range.end - 1);
    }

    fn remove(&mut self, _: &Range<i64>) -> bool {
        false
    }

    fn extend(&mut self, ranges: &[Range<i64>]) {
        Extend::extend(self, ranges.iter().map(|range| range.start..=range.end - 1));
    }
}

/// Sorted ranges with every hole closed that is no longer than `tolerance`.
fn joined(
    ranges: impl Iterator<Item = Range<i64>>,
    tolerance: i64,
) -> impl Iterator<Item = Range<i64>> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let mut joined = ranges.next()?;
        while let Some(next) = ranges.next_if(|next| next.start - joined.end <= tolerance) {
            joined.end = next.end;
        }
        Some(joined)
    })
}
