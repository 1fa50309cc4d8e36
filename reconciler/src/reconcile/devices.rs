//! Hearing devices and asking them: presence, coverage, places.

use protocol::dropped::Cause;
use protocol::envelope;
use protocol::message::{
    Ask, AskBody, CoverageReport, DeviceId, Located, Presence, Refusable, RefusedReason, Tell,
};
use protocol::topic::Topic;

use super::asks::{Answered, Question};
use super::{ASK_EXPIRY, Event, Reconciler, now};
use crate::fleet::{Change, Holding, MOST_STREAMS, StreamKey};
use crate::ledger::{DeviceRecord, LedgerError, PartRecord};
use crate::link::{Inbound, Outbound};
use crate::pull::driver::PullCommand;

impl Reconciler {
    pub(super) async fn hear(&mut self, inbound: Inbound) -> Result<(), LedgerError> {
        match inbound {
            Inbound::Up => {
                tracing::info!("connected to the broker");
                Ok(())
            }
            Inbound::Down => {
                let changes = self.fleet.forget_sessions();
                self.follow(changes).await
            }
            Inbound::Message { topic, payload } => match self.unusable.address(&topic) {
                Some(topic) => self.hear_message(&topic, &payload).await,
                None => Ok(()),
            },
        }
    }

    async fn hear_message(&mut self, topic: &Topic, payload: &[u8]) -> Result<(), LedgerError> {
        match topic {
            Topic::State(device) => match self.unusable.decode::<Presence>(topic, payload) {
                Some(presence) => self.hear_presence(device, presence).await,
                None => Ok(()),
            },
            Topic::Coverage(device) => match self.unusable.decode::<CoverageReport>(topic, payload)
            {
                Some(report) => self.hear_coverage(device, &report).await,
                None => Ok(()),
            },
            topic => {
                self.unusable.drop(Cause::Address, topic, &"not for this server");
                Ok(())
            }
        }
    }

    async fn hear_presence(
        &mut self,
        device: &DeviceId,
        presence: Presence,
    ) -> Result<(), LedgerError> {
        if !self.admits(device) {
            let topic = Topic::State(device.clone());
            self.unusable.drop(Cause::Address, &topic, &"a device that is not admitted");
            return Ok(());
        }
        let streams = match &presence {
            Presence::Online(online) => online.streams.iter().take(MOST_STREAMS).cloned().collect(),
            Presence::Offline { .. } => Vec::new(),
        };
        let change = self.fleet.presence(device, presence, now());
        for stream in streams {
            self.admit(&StreamKey { device: device.clone(), stream }, now()).await?;
        }
        self.follow(change).await
    }

    async fn hear_coverage(
        &mut self,
        device: &DeviceId,
        report: &CoverageReport,
    ) -> Result<(), LedgerError> {
        let changes = self.fleet.coverage(device, report, now());
        self.follow(changes).await
    }

    pub(super) async fn follow(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), LedgerError> {
        for change in changes {
            match change {
                Change::CameOnline(device) => {
                    tracing::info!(%device, "online");
                    self.asks.forget(&device);
                    self.asks.want_coverage(&device);
                    self.tell_puller(&device).await;
                    self.record_device(&device).await?;
                    self.say(Event::Online(device));
                }
                Change::WentOffline(device) => {
                    tracing::info!(%device, "offline");
                    self.asks.forget(&device);
                    self.tell_puller(&device).await;
                    self.record_device(&device).await?;
                    self.say(Event::Offline(device));
                }
                Change::CoverageLost(device) => self.asks.want_coverage(&device),
                Change::Holding(key) => self.hold(&key).await?,
            }
        }
        Ok(())
    }

    async fn hold(&mut self, key: &StreamKey) -> Result<(), LedgerError> {
        let of_device = |known: &&StreamKey| known.device == key.device;
        if self.streams.keys().filter(of_device).all(|key| self.fleet.fresh_holding(key).is_some())
        {
            self.asks.covered(&key.device);
        }
        if let (Some(holding), Some(stream)) = (self.fleet.holding(key), self.streams.get_mut(key))
        {
            self.ledger.put_holding(key, holding).await?;
            if stream.reopen(holding) {
                self.ledger.put_verdicts(key, &stream.verdicts).await?;
            }
        }
        self.evaluate(key).await
    }

    async fn tell_puller(&mut self, device: &DeviceId) {
        let session = self.fleet.session(device).cloned();
        self.command(PullCommand::Session { device: device.clone(), session }).await;
    }

    async fn record_device(&mut self, device: &DeviceId) -> Result<(), LedgerError> {
        let record = DeviceRecord {
            device: device.clone(),
            online: self.fleet.session(device).is_some(),
            agent_version: self.fleet.agent_version(device).to_owned(),
            last_heard: self.fleet.last_heard(device),
        };
        self.ledger.put_device(&record).await
    }

    /// Who left while no server ran has not been heard to leave.
    pub(super) async fn record_all_offline(&self) -> Result<(), LedgerError> {
        for record in self.ledger.devices().await?.into_iter().filter(|record| record.online) {
            self.ledger.put_device(&DeviceRecord { online: false, ..record }).await?;
        }
        Ok(())
    }

    pub(super) async fn ask(&mut self, question: Question) {
        let (device, body) = match question {
            Question::Coverage { device } => (device, AskBody::Coverage),
            Question::Locate { request, key, range } => {
                (key.device, AskBody::Locate { request, stream: key.stream, range })
            }
        };
        let Some(session) = self.fleet.session(&device) else { return };
        let ask = Ask {
            server: self.config.server.id.clone(),
            connection: session.connection,
            expires: session.expiry(now(), ASK_EXPIRY),
            body,
        };
        let payload = match envelope::encode(&ask) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(%device, %error, "a question that cannot be sent");
                return;
            }
        };
        let topic = Topic::Ask(device);
        // Nobody is there any more only when the server ends.
        let _ = self.ports.outbound.send(Outbound { topic, payload }).await;
    }

    pub(super) async fn see_answer(
        &mut self,
        device: &DeviceId,
        tell: Tell,
    ) -> Result<(), LedgerError> {
        match tell {
            Tell::Located(located) => self.see_located(device, located).await,
            // The question stays out, and is asked again.
            Tell::Refused { what: Refusable::Request(_), reason: RefusedReason::Busy } => Ok(()),
            Tell::Refused { what: Refusable::Request(request), reason } => {
                tracing::warn!(%device, ?reason, "the device refused to say where");
                let answered = self.asks.refused(device, request);
                self.note_not_found(answered);
                Ok(())
            }
            // Of a transfer that nobody here knows any more.
            Tell::Refused { .. } | Tell::Accepted { .. } | Tell::End { .. } => Ok(()),
            Tell::Listed(_) => Ok(()),
        }
    }

    async fn see_located(
        &mut self,
        device: &DeviceId,
        located: Located,
    ) -> Result<(), LedgerError> {
        if !self.asks.expects(device, located.request) {
            return Ok(());
        }
        let key = StreamKey { device: device.clone(), stream: located.stream.clone() };
        for part in &located.parts {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            stream.was_found(part.range);
            if !self.asks.is_plausible(located.request, part) {
                let topic = Topic::Tell(device.clone(), self.config.server.id.clone());
                self.unusable.drop(Cause::Malformed, &topic, &"a part that answers no question");
                continue;
            }
            if stream.has(part) {
                continue;
            }
            let created = now();
            let id = self.ledger.add_part(&key, part, created).await?;
            tracing::info!(stream = %key, part = id.0, range = %part.range, bytes = part.end - part.start, "located");
            stream.parts.insert(id, PartRecord::located(id, key.clone(), part.clone(), created));
        }
        let answered = self.asks.located(device, &located);
        self.note_not_found(answered);
        self.start_parts().await;
        self.evaluate(&key).await
    }

    fn note_not_found(&mut self, answered: Option<Answered>) {
        let Some(Answered { key, not_found, .. }) = answered else { return };
        // A guess from names that did not come true is no failure: a better report follows.
        if !self.fleet.holding(&key).is_some_and(Holding::is_certain) {
            return;
        }
        if let Some(stream) = self.streams.get_mut(&key) {
            for range in not_found.without_slivers(self.config.archive.join_tolerance()) {
                stream.was_not_found(range, now());
            }
        }
    }
}
