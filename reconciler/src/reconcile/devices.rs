//! Hearing devices and asking them: presence, coverage, places.

use std::time::Duration;

use protocol::dropped::Cause;
use protocol::envelope;
use protocol::message::{
    Ask, AskBody, CoverageReport, DeviceId, Located, Presence, Refusable, RefusedReason,
    ServerTime, Tell,
};
use protocol::topic::Topic;
use sdcard_indexer::time::TimeRange;

use super::asks::{Answered, Question};
use super::stream::Stream;
use super::{ASK_EXPIRY, Action, Core, Event};
use crate::fleet::{Change, Holding, MOST_STREAMS, Session, StreamKey};
use crate::ledger::{DeviceRecord, Entry, PartId, PartRecord};
use crate::link::{Inbound, Outbound};
use crate::offset::Basis;
use crate::pull::puller::PullCommand;

/// A device places all that it holds anew, and reports it, within this of being told the time.
const TAKES_TIME_OVER: Duration = Duration::from_secs(5);

impl Core {
    pub(super) fn hear(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Up => {
                tracing::info!("connected to the broker");
                self.link_is_up = true;
            }
            Inbound::Down => {
                self.link_is_up = false;
                let changes = self.fleet.forget_sessions();
                self.follow(changes);
            }
            Inbound::Message { topic, payload } => {
                if let Some(topic) = self.unusable.address(&topic) {
                    self.hear_message(&topic, &payload);
                }
            }
        }
    }

    fn hear_message(&mut self, topic: &Topic, payload: &[u8]) {
        match topic {
            Topic::State(device) => {
                if let Some(presence) = self.unusable.decode::<Presence>(topic, payload) {
                    self.hear_presence(device, presence);
                }
            }
            Topic::Coverage(device) => {
                if let Some(report) = self.unusable.decode::<CoverageReport>(topic, payload) {
                    let key = StreamKey { device: device.clone(), stream: report.stream.clone() };
                    self.hear_how_sure(&key, report.uncertainty_ns);
                    let report = match self.streams.get(&key) {
                        Some(stream) => stream.offsets.report_to_archive(report),
                        None => report,
                    };
                    let changes = self.fleet.coverage(device, &report, self.now);
                    self.follow(changes);
                }
            }
            topic => self.unusable.drop(Cause::Address, topic, &"not for this server"),
        }
    }

    fn hear_presence(&mut self, device: &DeviceId, presence: Presence) {
        if !self.admits(device) {
            let topic = Topic::State(device.clone());
            self.unusable.drop(Cause::Address, &topic, &"a device that is not admitted");
            return;
        }
        let streams = match &presence {
            Presence::Online(online) => online.streams.iter().take(MOST_STREAMS).cloned().collect(),
            Presence::Offline { .. } => Vec::new(),
        };
        let change = self.fleet.presence(device, presence, self.now);
        for stream in streams {
            self.admit(&StreamKey { device: device.clone(), stream }, self.now.wall);
        }
        self.follow(change);
    }

    pub(super) fn follow(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::CameOnline(device) => {
                    tracing::info!(%device, "online");
                    self.is_present(&device);
                    self.tell_time(&device);
                    self.asks.want_coverage(&device);
                    self.say(Event::Online(device));
                }
                Change::StillOnline(device) => {
                    self.tell_time(&device);
                    let session = self.fleet.session(&device).cloned();
                    self.command(PullCommand::Session { device, session });
                }
                Change::WentOffline(device) => {
                    tracing::info!(%device, "offline");
                    self.is_present(&device);
                    self.say(Event::Offline(device));
                }
                Change::CoverageLost(device) => self.asks.want_coverage(&device),
                Change::Holding(key) => self.hold(&key),
            }
        }
    }

    /// The device is on another connection than before, or on none.
    fn is_present(&mut self, device: &DeviceId) {
        let session = self.fleet.session(device).cloned();
        self.asks.forget(device);
        let record = DeviceRecord {
            device: device.clone(),
            online: session.is_some(),
            agent_version: self.fleet.agent_version(device).to_owned(),
            last_heard: self.fleet.last_heard(device),
        };
        self.command(PullCommand::Session { device: device.clone(), session });
        self.record(Entry::Device(record));
        self.queueing.changed();
    }

    fn hold(&mut self, key: &StreamKey) {
        let is_heard = |stream: &Stream| self.fleet.fresh_holding(&stream.key).is_some();
        if self.streams_of(&key.device).all(is_heard) {
            self.asks.covered(&key.device);
        }
        if let (Some(holding), Some(stream)) = (self.fleet.holding(key), self.streams.get_mut(key))
        {
            let held = Entry::Holding { key: key.clone(), holding: holding.clone() };
            let reopened = stream.reopen(holding).then(|| stream.verdicts_entry());
            self.record(held);
            reopened.into_iter().for_each(|entry| self.record(entry));
        }
        self.evaluate(key);
    }

    /// Who left while no server ran has not been heard to leave.
    pub(super) fn record_all_offline(&mut self, devices: Vec<DeviceRecord>) {
        let known = devices.iter().filter(|record| self.fleet.knows(&record.device));
        for record in known.collect::<Vec<_>>() {
            self.fleet.recall(&record.device, record.agent_version.clone(), record.last_heard);
        }
        for record in devices.into_iter().filter(|record| record.online) {
            self.record(Entry::Device(DeviceRecord { online: false, ..record }));
        }
    }

    pub(super) fn ask(&mut self, question: Question) {
        let (device, body) = match question {
            Question::Coverage { device } => (device, AskBody::Coverage),
            Question::Locate { request, key, range } => {
                let range = self.by_device(&key, range);
                (key.device, AskBody::Locate { request, stream: key.stream, range })
            }
            Question::List { request, key, range } => {
                let range = self.by_device(&key, range);
                (key.device, AskBody::List { request, stream: key.stream, range })
            }
        };
        self.order(device, body);
    }

    /// How sure a device is of its time tells whether it is the one of which something was learned.
    fn hear_how_sure(&mut self, key: &StreamKey, uncertainty_ns: u64) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.rests_on(Basis::of(uncertainty_ns)) {
            tracing::info!(stream = %key, "the device has another idea of its time now");
            let offsets = stream.offsets.clone();
            self.record(Entry::Offsets { key: key.clone(), offsets });
            self.asks.want_coverage(&key.device);
        }
    }

    /// True of a device that has been told the time a moment ago and will say anew what it holds: its clock may be off
    /// by hours, and its word for what it holds with it.
    pub(super) fn is_about_to_know_better(&self, key: &StreamKey) -> bool {
        let presumes = |stream: &Stream| stream.basis == Some(Basis::Presumed);
        let told = self.fleet.session(&key.device).map(Session::told_at);
        self.streams.get(key).is_some_and(presumes)
            && told.is_some_and(|told| self.now.monotonic.since(told) < TAKES_TIME_OVER)
    }

    /// As the device's own clock has it.
    fn by_device(&self, key: &StreamKey, range: TimeRange) -> TimeRange {
        self.streams.get(key).map_or(range, |stream| stream.offsets.range_to_device(range))
    }

    /// A device whose clock nobody has set learns from it when it recorded what.
    fn tell_time(&mut self, device: &DeviceId) {
        let Some(session) = self.fleet.session(device) else { return };
        let time = ServerTime { sampled: session.clock().boottime, utc: self.now.wall };
        self.order(device.clone(), AskBody::Time(time));
    }

    fn order(&mut self, device: DeviceId, body: AskBody) {
        let Some(session) = self.fleet.session(&device) else { return };
        let ask = Ask {
            server: self.config.server.id.clone(),
            connection: session.connection,
            expires: session.expiry(self.now.monotonic, ASK_EXPIRY),
            body,
        };
        match envelope::encode(&ask) {
            Ok(payload) => {
                let topic = Topic::Ask(device);
                self.actions.push(Action::Publish(Outbound { topic, payload }));
            }
            Err(error) => tracing::error!(%device, %error, "a question that cannot be sent"),
        }
    }

    pub(super) fn see_answer(&mut self, device: &DeviceId, tell: Tell) {
        match tell {
            Tell::Located(mut located) => {
                let key = StreamKey { device: device.clone(), stream: located.stream.clone() };
                if let Some(part) = located.parts.first() {
                    self.hear_how_sure(&key, part.uncertainty_ns);
                }
                if let Some(Stream { offsets, .. }) = self.streams.get(&key) {
                    located.next = located.next.map(|next| offsets.to_archive(next));
                    for part in &mut located.parts {
                        let error_ns = offsets.at(part.range.start()).map(|known| known.error_ns);
                        let error_ns = error_ns.map_or(u64::MAX, i64::unsigned_abs);
                        part.uncertainty_ns = part.uncertainty_ns.min(error_ns);
                        part.range = offsets.range_to_archive(part.range);
                    }
                }
                self.see_located(device, &located);
            }
            // The question stays out, and is asked again.
            Tell::Refused { what: Refusable::Request(_), reason: RefusedReason::Busy } => {}
            Tell::Refused { what: Refusable::Request(request), .. }
                if self.search_refused(request) => {}
            Tell::Refused { what: Refusable::Request(request), reason } => {
                tracing::warn!(%device, ?reason, "the device refused to say where");
                let answered = self.asks.refused(device, request);
                self.note_not_found(answered);
            }
            // Of a transfer that nobody here knows any more.
            Tell::Refused { .. } | Tell::Accepted { .. } | Tell::End { .. } => {}
            Tell::Listed(mut listed) => {
                let key = StreamKey { device: device.clone(), stream: listed.stream.clone() };
                if let Some(Stream { offsets, .. }) = self.streams.get(&key) {
                    listed.next = listed.next.map(|next| offsets.to_archive(next));
                    for segment in &mut listed.segments {
                        segment.range = offsets.range_to_archive(segment.range);
                    }
                }
                self.see_listed(&key, listed);
            }
        }
    }

    fn see_located(&mut self, device: &DeviceId, located: &Located) {
        if !self.asks.expects(device, located.request) {
            return;
        }
        let key = StreamKey { device: device.clone(), stream: located.stream.clone() };
        for part in &located.parts {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            stream.was_found(part.range);
            let Some(answered) = self.asks.answers(located.request, part) else {
                let topic = Topic::Tell(device.clone(), self.config.server.id.clone());
                self.unusable.drop(Cause::Malformed, &topic, &"a part that answers no question");
                continue;
            };
            if stream.has(part, answered) {
                continue;
            }
            self.last_part += 1;
            let id = PartId(self.last_part);
            tracing::info!(stream = %key, part = id.0, range = %part.range, bytes = part.end - part.start, "located");
            let by_device = stream.offsets.to_device(part.range.start());
            let offset_ns = part.range.start().nanos_from(by_device);
            let record = PartRecord::located(id, key.clone(), part.clone(), self.now.wall);
            let record = PartRecord { offset_ns, ..record };
            self.queueing.located(&record);
            self.update(record);
        }
        let answered = self.asks.located(device, located);
        self.note_not_found(answered);
        self.plan_pulls();
        self.evaluate(&key);
    }

    fn note_not_found(&mut self, answered: Option<Answered>) {
        let Some(Answered { key, wanted, not_found }) = answered else { return };
        // A guess from names that did not come true is no failure: a better report follows.
        if !self.fleet.holding(&key).is_some_and(Holding::is_certain) {
            return;
        }
        // Of a sliver that was asked for by itself, nothing was found at all.
        let not_found = match not_found.covers(wanted) {
            true => not_found,
            false => not_found.without_slivers(self.config.archive.join_tolerance()),
        };
        if let Some(stream) = self.streams.get_mut(&key) {
            for range in not_found {
                stream.was_not_found(range, self.now.monotonic);
            }
        }
    }
}
