//! Random clock histories of which the truth is known: every placement must lie within its stated
//! uncertainty of it, at every moment of the history and however much became known later.

use std::time::Duration;

use sdcard_indexer::clock::{
    Attribution, Claim, ClockJournal, ClockTrust, Corrections, InBand, Modified, Moment, NameZone,
    Named,
};
use sdcard_indexer::time::Timestamp;

use super::world::{Boot, SECOND, Segment, World, Zone};

/// What the agent has come to know of one segment.
struct Known {
    boot: usize,
    segment: usize,
    claim: Claim,
    first: Option<Attribution>,
}

/// An agent that lives through a history.
struct Agent<'w> {
    world: &'w World,
    journal: ClockJournal,
    /// What outlives a power cut.
    disk: ClockJournal,
    /// Its index is lost with each restart too.
    forgetful: bool,
    known: Vec<Known>,
    learned: NameZone,
    seed: u64,
}

/// Segments as they are placed at the end of their history.
#[derive(Default, Debug)]
struct Tally {
    within_1_s: usize,
    within_10_s: usize,
    within_1_min: usize,
    unknown: usize,
    /// Seen being closed, in a boot whose clock was synchronised while it was watched.
    well_known: usize,
    /// Of these.
    unknown_all_the_same: usize,
}

impl<'w> Agent<'w> {
    fn new(world: &'w World, trust: ClockTrust, seed: u64) -> Self {
        Agent {
            world,
            journal: ClockJournal::new(trust),
            disk: ClockJournal::new(trust),
            forgetful: seed % 4 == 0,
            known: Vec::new(),
            learned: NameZone::Unknown,
            seed,
        }
    }

    fn live(&mut self) {
        for index in 0..self.world.boots.len() {
            for watch in 0..self.world.boots[index].watched.len() {
                self.journal = self.disk.clone();
                self.watch(index, watch);
                self.learn();
                self.check();
            }
        }
    }

    fn observe(&mut self, boot: &Boot, boottime: i64) -> Moment {
        let moment = self.journal.observe(boot.reading(boottime));
        for epoch in self.journal.take_unsaved().to_vec() {
            self.disk.restore(epoch);
        }
        moment
    }

    /// One run of the agent's process.
    fn watch(&mut self, index: usize, watch: usize) {
        let boot = &self.world.boots[index];
        let (begun, over) = boot.watched[watch];
        let mut looks: Vec<i64> = (begun..over).step_by(300 * SECOND as usize).collect();
        // The agent looks often; only the looks around something that happens matter.
        let files = boot.segments.iter().flat_map(|one| [Some(one.created), one.closed]).flatten();
        looks.extend(boot.events().chain(files).flat_map(|event| [event - 1, event + SECOND / 5]));
        looks.retain(|look| (begun..over).contains(look));
        looks.sort_unstable();
        looks.dedup();
        let newest_logged = self.known.iter().rev().find_map(|known| known.claim.closed);
        let mut before: Option<Moment> = None;
        for look in looks {
            let now = self.observe(boot, look);
            let earlier = 0..index;
            let old = earlier.flat_map(|boot| self.world.boots[boot].segments.iter().enumerate());
            let new = boot.segments.iter().enumerate().filter(|(_, one)| one.created <= look);
            // Files of earlier boots are all there from the first look on.
            let old = old.filter(|_| before.is_none());
            for (at_segment, segment) in old.chain(new).collect::<Vec<_>>() {
                let after = match before {
                    Some(before) => Some(before),
                    None if self.forgetful => None,
                    None => newest_logged.map(|(from, _)| from),
                };
                self.see(segment, at_segment, now, before, after);
            }
            before = Some(now);
        }
    }

    fn see(
        &mut self,
        segment: &Segment,
        at_segment: usize,
        now: Moment,
        before: Option<Moment>,
        after: Option<Moment>,
    ) {
        let same = |known: &&mut Known| known.boot == segment.boot && known.segment == at_segment;
        let (world, step) = (self.world, self.world.device.modified_step() as u64);
        let is_running = self
            .journal
            .epochs()
            .last()
            .is_some_and(|epoch| epoch.boot == world.boots[segment.boot].id);
        let look = now.boottime.as_nanos();
        let done = !is_running || segment.closed.is_some_and(|closed| closed <= look);
        let zone = match world.device.zone {
            Zone::Known(_) => NameZone::Known,
            Zone::Unknown(_) => NameZone::Unknown,
        };
        let known = match self.known.iter_mut().rev().find(same) {
            Some(known) => known,
            None => {
                let named = Some(Named { zone, ..segment.named });
                let claim = Claim { named, after, ..Claim::default() };
                self.known.push(Known {
                    boot: segment.boot,
                    segment: at_segment,
                    claim,
                    first: None,
                });
                self.known.last_mut().unwrap()
            }
        };
        if known.claim.duration.is_some() || !done {
            return;
        }
        known.claim.by = Some(now);
        known.claim.duration = Some(Duration::from_nanos((segment.ends - segment.begins) as u64));
        known.claim.in_band =
            segment.in_band.map(|start| InBand { start, late: Duration::ZERO, locked: false });
        known.claim.modified = Some(Modified {
            at: segment.modified,
            step: Duration::from_nanos(step),
            zone: if world.device.fat { NameZone::Unknown } else { NameZone::Known },
        });
        if let (Some(closed), Some(before)) = (segment.closed, before) {
            if is_running && before.boottime.as_nanos() < closed {
                known.claim.closed = Some((before, now));
            }
        }
        known.first = Some(self.journal.corrections().attribute(&known.claim));
    }

    /// The zone of names, by the segments that were seen being closed.
    fn learn(&mut self) {
        let corrections = self.journal.corrections();
        let pairs: Vec<(Timestamp, Timestamp)> = self
            .known
            .iter()
            .filter(|known| known.claim.closed.is_some())
            .filter_map(|known| {
                let nameless = Claim { named: None, in_band: None, ..known.claim };
                let by_clock = corrections.attribute(&nameless);
                by_clock.epoch?;
                Some((known.claim.named?.start, by_clock.start))
            })
            .collect();
        self.learned = NameZone::learn(pairs, Duration::from_secs(60)).unwrap_or(NameZone::Unknown);
    }

    fn check(&self) {
        let corrections = self.journal.corrections();
        for known in &self.known {
            let fresh = corrections.attribute(&self.claim(known));
            self.check_one(known, &corrections, &fresh);
            if let Some(first) = known.first {
                self.check_one(known, &corrections, &first);
            }
        }
    }

    fn check_one(&self, known: &Known, corrections: &Corrections<'_>, attribution: &Attribution) {
        let boot = &self.world.boots[known.boot];
        let segment = &boot.segments[known.segment];
        let placement = corrections.place(attribution);
        let start = Timestamp::from_nanos(boot.utc(segment.begins));
        let most = placement.uncertainty;
        let off = |placed: Timestamp, truth: Timestamp| placed.distance(truth);
        let context = || {
            format!(
                "seed {}\n{:?}\n{:?}\nboot {} {:?}\n{:?}\n{attribution:?}\n{placement:?}\ntruth {start} {:?}",
                self.seed,
                self.world.device,
                self.journal.epochs(),
                known.boot,
                known.claim,
                segment,
                (&boot.watched, boot.events().collect::<Vec<_>>())
            )
        };
        assert!(off(placement.start, start) <= most, "start is off: {}", context());
        if let Some(duration) = known.claim.duration.filter(|_| placement.is_known()) {
            let end = Timestamp::from_nanos(boot.utc(segment.ends));
            let placed = placement.start.saturating_add(duration);
            assert!(off(placed, end) <= most, "end is off: {}", context());
        }
    }

    /// As it stands at the end of the history.
    fn count(&self, tally: &mut Tally) {
        let corrections = self.journal.corrections();
        for known in &self.known {
            let placement = corrections.place(&corrections.attribute(&self.claim(known)));
            let boot = &self.world.boots[known.boot];
            let well_known =
                known.claim.closed.is_some() && boot.was_ever_synchronised_while_watched();
            tally.well_known += usize::from(well_known);
            match placement.uncertainty.as_secs_f64() {
                ..=1.0 => tally.within_1_s += 1,
                ..=10.0 => tally.within_10_s += 1,
                ..=60.0 => tally.within_1_min += 1,
                _ => {
                    tally.unknown += 1;
                    tally.unknown_all_the_same += usize::from(well_known);
                }
            }
        }
    }

    /// What is known of a segment, with the zone that others have taught.
    fn claim(&self, known: &Known) -> Claim {
        let named = known.claim.named.map(|named| match named.zone {
            NameZone::Unknown => Named { zone: self.learned, ..named },
            _ => named,
        });
        Claim { named, ..known.claim }
    }
}

fn run(honest: bool, trust: ClockTrust) -> Tally {
    let histories = std::env::var("CLOCK_HISTORIES").ok();
    let histories = histories.map_or(300, |text| text.parse().expect("a number of histories"));
    let mut tally = Tally::default();
    for seed in 0..histories {
        let world = World::new(seed, honest);
        let mut agent = Agent::new(&world, trust, seed);
        agent.live();
        agent.count(&mut tally);
    }
    println!("{histories} histories: {tally:?}");
    tally
}

/// `CLOCK_HISTORIES` says how many, if not 300.
#[test]
fn every_placement_lies_within_its_uncertainty_of_the_truth() {
    let tally = run(false, ClockTrust::Synchronised);
    assert_eq!(tally.unknown_all_the_same, 0, "{tally:?}");
    assert!(
        tally.within_10_s > tally.within_1_min && tally.well_known > tally.unknown,
        "{tally:?}"
    );
}

#[test]
fn a_clock_that_nobody_vouches_for_is_right_to_what_is_presumed_where_it_is_honest() {
    let earliest: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let tally = run(true, ClockTrust::Plausible { earliest });
    let known = tally.within_1_s + tally.within_10_s + tally.within_1_min;
    assert!(known > 10 * tally.unknown, "{tally:?}");
}
