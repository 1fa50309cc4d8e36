//! What befalls a world, and what people want of it.

use std::time::Duration;

use reconciler::job::JobState;
use reconciler::order::Order;

use super::agenda::{Micros, SECOND, wall};
use super::card::between;
use super::faults::Fault;
use super::server::ToServer;
use super::world::{Happening, World};

impl World {
    pub fn befall(&mut self, fault: Fault) {
        let now = self.now();
        self.trace.say(now, || format!("{fault:?}"));
        match fault {
            Fault::Cut { device, micros } => self.cut(device, self.until_quiet(micros)),
            Fault::Restart { device, power } => self.restart_device(device, power),
            Fault::Dies { device } => {
                self.stop_agent(device);
                self.broker_drops_later(device, 30 * SECOND);
            }
            Fault::BrokerRestart => self.restart_broker(),
            Fault::ServerCut { micros } => {
                self.server_cut_until = now + micros;
                self.server_link_breaks();
            }
            Fault::Crash { power, deeds } => self.crash_after = Some((deeds, power)),
            Fault::ClockStep { seconds } => self.clock_offset_s = seconds,
            Fault::DiskFull { micros } => self.disk.full_until = now + micros,
            Fault::MergesFail { micros } => self.merges_fail_until = now + micros,
            Fault::Unreadable { device, micros } => {
                let random = &mut self.random;
                let rings = &mut self.devices[device].rings;
                rings.iter_mut().for_each(|ring| ring.make_unreadable(random));
                self.agenda.after(micros, Happening::CardHeals { device });
            }
            Fault::Alter { device } => {
                let random = &mut self.random;
                self.devices[device].rings.iter_mut().for_each(|ring| ring.alter(random));
            }
            Fault::LoseIndex { device } => {
                let random = &mut self.random;
                self.devices[device].rings.iter_mut().for_each(|ring| ring.lose_index(now, random));
            }
            Fault::CardAway { device, micros } => {
                let until = now + self.until_quiet(micros);
                self.devices[device].rings.iter_mut().for_each(|ring| ring.be_absent(until));
            }
            Fault::Lie { device, micros } => {
                let start = self.random.below(now);
                let claimed = between(start, start + self.random.between(SECOND, 30 * SECOND));
                let rings = &mut self.devices[device].rings;
                rings.iter_mut().for_each(|ring| ring.lie.insert(claimed));
                self.agenda.after(micros, Happening::LieEnds { device });
            }
            Fault::RecorderPause { device, micros } => {
                self.end_live(device);
                self.devices[device].rings.iter_mut().for_each(|ring| ring.stop(now, 0));
                self.agenda.after(self.until_quiet(micros), Happening::RecorderStarts { device });
            }
            Fault::OwnerDeletes { device } => self.delete_in_archive(device),
            Fault::WrongClock { device, micros } => {
                // It shows from the next start on.
                self.devices[device].rings.iter_mut().for_each(|ring| ring.clock_is(false));
                self.restart_device(device, true);
                let micros = self.until_quiet(micros + 20 * SECOND);
                self.agenda.after(micros, Happening::ClockIsSet { device });
            }
            Fault::Pull { device } => self.order_pull(device),
            Fault::CancelJob => {
                let open = self.ledger.jobs.values().filter(|job| job.state == JobState::Open);
                let open: Vec<_> = open.map(|job| job.id).collect();
                if !open.is_empty() {
                    let chosen = open[self.random.below(open.len() as u64) as usize];
                    self.order(Order::CancelJob(chosen));
                }
            }
            Fault::Search { device } => {
                let keys = self.keys_of(device);
                let range = self.some_range(40 * SECOND);
                keys.into_iter().for_each(|key| self.order(Order::Search { key, range }));
            }
            Fault::Work => {
                self.order(Order::Work);
                self.order(Order::Jobs { before: None, most: usize::MAX });
                self.order(Order::OpenRuns);
            }
        }
    }

    /// Nothing lasts into the quiet.
    fn until_quiet(&self, micros: Micros) -> Micros {
        micros.min(self.plan.quiet_at.saturating_sub(self.now()))
    }

    fn some_range(&mut self, longest: Micros) -> sdcard_indexer::time::TimeRange {
        let start = self.random.below(self.now());
        between(start, start + self.random.between(SECOND, longest))
    }

    fn order_pull(&mut self, device: usize) {
        let range = self.some_range(60 * SECOND);
        let patience = Duration::from_secs(self.random.between(20, 600));
        let deadline = self.server_wall().saturating_add(patience);
        for key in self.keys_of(device) {
            self.order(Order::Pull { key, range, deadline });
        }
    }

    pub fn order(&mut self, order: Order) {
        self.last_order += 1;
        let number = self.last_order;
        self.trace.say(self.agenda.now(), || format!("a person asks: {order:?}"));
        self.deliver(ToServer::Order { number, order });
    }

    fn restart_device(&mut self, number: usize, power: bool) {
        let now = self.now();
        if self.devices[number].conversation.is_none() {
            return;
        }
        self.stop_agent(number);
        let notices = self.random.below(40 * SECOND);
        self.broker_drops_later(number, notices);
        let down = match power {
            true => self.random.between(2 * SECOND, 30 * SECOND),
            false => self.random.between(SECOND / 10, 3 * SECOND),
        };
        if power {
            self.end_live(number);
            let lost_frames = self.random.below(2);
            let rings = &mut self.devices[number].rings;
            rings.iter_mut().for_each(|ring| ring.stop(now, lost_frames));
            let down = self.until_quiet(down);
            self.agenda.after(down, Happening::RecorderStarts { device: number });
        }
        let down = self.until_quiet(down);
        self.agenda.after(down, Happening::AgentStarts { device: number, boot: power });
    }

    pub fn set_clock_at(&mut self, device: usize, at: Micros) {
        self.agenda.at(at, Happening::ClockIsSet { device });
    }

    pub fn start_recorder(&mut self, number: usize) {
        let now = self.now();
        if self.is_quiet && self.devices[number].plan.kind != super::faults::Kind::Online {
            return;
        }
        self.devices[number].rings.iter_mut().for_each(|ring| ring.start(now));
        self.begin_live(number);
    }

    pub fn end_lie(&mut self, number: usize) {
        self.devices[number].rings.iter_mut().for_each(|ring| ring.lie = Default::default());
    }

    fn delete_in_archive(&mut self, number: usize) {
        self.write_live();
        let now = self.now();
        let range = self.some_range(20 * SECOND);
        // Nobody deletes what is being recorded.
        let past = between(0, now.saturating_sub(20 * SECOND));
        let Some(range) = range.intersection(&past) else { return };
        for key in self.keys_of(number) {
            if let Some(stream) = self.archive.streams.get_mut(&key) {
                stream.delete(range);
            }
        }
        self.trace.say(now, || format!("deleted in the archive: {range} at {}", wall(now)));
    }
}
