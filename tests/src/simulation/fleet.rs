//! A depot at night: thirty body-worn cameras with eight hours each, pulled in one scheduled window.
//!
//! Of full size in time and in messages, and small in bytes: every rate, and with it every size, is divided by
//! [`SCALE`], so that a chunk of 4 KiB stands for a mebibyte.

use std::fmt::Write;

use reconciler::timeline::State;
use sdcard_indexer::coverage::Coverage;

use super::agenda::{MILLISECOND, Micros, SECOND, micros, wall};
use super::card::Habit;
use super::faults::{DevicePlan, Fault, Kind, Plan, Random, Times, Weather};
use super::merger::length;
use super::world::World;

/// By how much all bytes are fewer than they would be.
pub const SCALE: u64 = 256;

const HOUR: Micros = 3_600 * SECOND;
const DEVICES: usize = 30;
/// Worlds begin at noon in Berlin: the run is at 23:00.
const RUN: Micros = 11 * HOUR;
const SHIFT: Micros = 8 * HOUR;
const WINDOW: Micros = 6 * HOUR;
/// It dies in the middle of the run.
const DYING: usize = 7;
/// It lies in its dock and records on, though its card is full.
const RECORDING: usize = 12;
/// Its clock is set only after the run has begun.
const WRONG_CLOCK: usize = 21;

/// Bytes per second of a line or a stream, in the scale of this world.
const fn scaled(megabits: u64) -> u64 {
    megabits * 1_000_000 / 8 / SCALE
}

fn plan(random: &mut Random) -> Plan {
    let frame = 66_667;
    let device = |number: usize| DevicePlan {
        kind: Kind::Scheduled,
        habit: Habit {
            frame,
            frames_per_gop: 30,
            frame_bytes: scaled(4) * frame / SECOND,
            gops_per_segment: 60,
            gops_per_part: 60,
            most_segments: if number == RECORDING { 242 } else { 1_000 },
            reuses_names: false,
            most_parts_in_answer: 64,
        },
        streams: 1,
        delay: 3 * MILLISECOND,
        bytes_per_second: scaled(150),
        card_bytes_per_second: scaled(320),
        card_latency: MILLISECOND,
        max_open_transfers: 4,
        max_chunk_bytes: 65_536,
        configured: false,
        lies: false,
    };
    let mut faults = Vec::new();
    for _ in 0..60 {
        let device = random.below(DEVICES as u64) as usize;
        let micros = random.between(SECOND, 120 * SECOND);
        faults.push((random.between(RUN, RUN + HOUR), Fault::Cut { device, micros }));
    }
    faults.push((RUN + 1_200 * SECOND, Fault::Dies { device: DYING }));
    Plan {
        devices: (0..DEVICES).map(device).collect(),
        weather: Weather { lost_0: 0.0001, lost_1: 0.0001, ..Weather::default() },
        faults,
        quiet_at: RUN + WINDOW,
        settle_s: 15,
        seam_margin_ms: 2_000,
        open_gap_s: 60,
        max_active_parts: 16,
        max_active_parts_per_device: 2,
        max_devices: 0,
        schedule: Times {
            cron: "0 23 * * *",
            time_zone: "Europe/Berlin",
            window_s: WINDOW / SECOND,
        },
        kbit_per_second: 1_000_000 / SCALE,
        begins_at: RUN - HOUR / 2,
    }
}

/// Lets the night pass, and tells what came of it.
pub fn night(seed: u64) -> Result<String, String> {
    let mut random = Random::new(seed);
    let plan = plan(&mut random);
    let mut world = World::of(plan, random, false);
    for (number, device) in world.devices.iter_mut().enumerate() {
        for ring in &mut device.rings {
            ring.clock_is(number != WRONG_CLOCK);
            if number != RECORDING {
                ring.stop(SHIFT + number as Micros * SECOND, 0);
            }
        }
    }
    world.set_clock_at(WRONG_CLOCK, RUN + HOUR / 2);
    let mut done = Vec::new();
    while world.now() < RUN + WINDOW && done.len() < DEVICES - 1 {
        for _ in 0..30 {
            world.pass_second();
        }
        if let Some(violation) = world.violation {
            return Err(violation);
        }
        for number in 0..DEVICES {
            let is_known = done.iter().any(|(known, _)| *known == number);
            if world.now() > RUN && !is_known && world.is_pulled(number) {
                done.push((number, world.now()));
            }
        }
    }
    Ok(report(&mut world, &done))
}

impl World {
    /// What the card held when the run began is archived, or lost.
    fn is_pulled(&self, number: usize) -> bool {
        let ring = &self.devices[number].rings[0];
        let shift = ring.recorded.clip(super::card::between(0, RUN));
        let key = &self.keys_of(number)[0];
        let Some(stream) = self.ledger.streams.get(key) else { return false };
        let settled: Coverage = stream.verdicts.iter().map(|verdict| verdict.range).collect();
        let there = self.archive.streams.get(key).map(|archive| archive.held()).unwrap_or_default();
        let rest = shift.difference(&there.union(&settled));
        rest.without_slivers(self.config.archive.join_tolerance()).is_empty()
    }
}

fn report(world: &mut World, done: &[(usize, Micros)]) -> String {
    let mut text = String::new();
    let clock = |at: Micros| {
        let minutes = at / SECOND / 60 + 12 * 60;
        format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
    };
    let (mut archived, mut lost) = (0, 0);
    for number in 0..DEVICES {
        let key = world.keys_of(number)[0].clone();
        let held =
            world.archive.streams.get(&key).map(|archive| archive.held()).unwrap_or_default();
        archived += held.total().as_secs();
        let until = done.iter().find(|(known, _)| *known == number);
        let when =
            until.map_or("not whole".to_owned(), |(_, at)| format!("whole at {}", clock(*at)));
        let _ =
            write!(text, "{key}: {:.2} h archived, {when}", held.total().as_secs_f64() / 3_600.0);
        let Some(stream) = world.ledger.streams.get(&key) else { continue };
        for verdict in &stream.verdicts {
            lost += length(verdict.range) / SECOND;
            let _ = write!(text, "; {} s {}", length(verdict.range) / SECOND, verdict.state);
        }
        let open = stream.timeline.iter().flat_map(|timeline| &timeline.stretches);
        let open = open.filter(|s| !s.state.is_settled() && micros(s.range.start()) < RUN);
        for stretch in open.filter(|s| !matches!(s.state, State::Failed { .. })) {
            let _ = write!(text, "; {} s {}", length(stretch.range) / SECOND, stretch.state);
        }
        text.push('\n');
    }
    let last = done.iter().map(|(_, at)| *at).max().unwrap_or_default();
    let gigabytes = |bytes: u64| (bytes * SCALE) as f64 / 1e9;
    let bill = &world.bill;
    let _ = write!(
        text,
        "\n{} of {DEVICES} cameras are whole, the last at {} ({}); {:.1} h archived, {lost} s lost\n\
         {:.1} GB merged in {} pieces, {:.1} GB sent, {:.2} GB of that again; {} cuts, {} messages lost, \
         {} turns of the cores\n",
        done.len(),
        clock(last),
        wall(last),
        archived as f64 / 3_600.0,
        gigabytes(bill.merged_bytes),
        bill.pieces,
        gigabytes(bill.sent_bytes),
        gigabytes(bill.resent_bytes),
        bill.cuts,
        bill.lost,
        world.turns,
    );
    text
}
