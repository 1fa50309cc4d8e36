//! The ways between devices, broker and server. Nothing on them is delivery.

use std::collections::BTreeMap;

use agent::conversation::Event;
use bytes::Bytes;
use protocol::message::ConnectionId;
use protocol::topic::Topic;
use reconciler::link::{Inbound, Outbound};

use super::agenda::{MILLISECOND, Micros, Queueing, SECOND};
use super::device::Left;
use super::faults::DevicePlan;
use super::server::ToServer;
use super::world::{Happening, World};

/// What a TCP connection takes before it is noticed that nobody is at its other end.
const BLIND_MESSAGES: u32 = 8;

#[derive(Clone, Debug)]
pub enum Packet {
    Subscribe,
    Publish { topic: Topic, payload: Bytes },
}

impl Packet {
    fn bytes(&self) -> u64 {
        match self {
            Packet::Subscribe => 60,
            Packet::Publish { payload, .. } => payload.len() as u64 + 60,
        }
    }
}

/// A device's way to the broker.
#[derive(Debug)]
pub struct Wire {
    pub is_up: bool,
    /// Counts connections and cuts: what is on its way is lost with the one it was sent on.
    pub connection: u32,
    delay: Micros,
    bytes_per_second: u64,
    free_at: Micros,
    up: Queueing,
    down: Queueing,
    sent_blindly: u32,
}

impl Wire {
    pub fn new(plan: &DevicePlan) -> Self {
        Wire {
            is_up: true,
            connection: 0,
            delay: plan.delay,
            bytes_per_second: plan.bytes_per_second,
            free_at: 0,
            up: Queueing::default(),
            down: Queueing::default(),
            sent_blindly: 0,
        }
    }
}

/// A device's session, as the broker has it.
#[derive(Debug)]
struct Session {
    connection: ConnectionId,
    wire: u32,
    subscribed: bool,
    will: Bytes,
}

#[derive(Debug, Default)]
pub struct Broker {
    sessions: BTreeMap<usize, Session>,
    retained: BTreeMap<usize, (Topic, Bytes)>,
    pub server_is_connected: bool,
    /// Counts the server's connections.
    pub server_connection: u32,
    /// To the server: by kind of topic, as these may overtake each other.
    lanes: [Queueing; 4],
    pub data_under_way: u64,
    to_broker: Queueing,
    down_until: Micros,
}

impl World {
    // ---- device to broker ------------------------------------------------------------------------------

    pub fn send_up(&mut self, number: usize, packet: Packet, left: Left) {
        let now = self.now();
        let wire = &mut self.devices[number].wire;
        let bytes = packet.bytes();
        wire.free_at = wire.free_at.max(now) + bytes * SECOND / wire.bytes_per_second;
        let (leaves, connection) = (wire.free_at, wire.connection);
        if !wire.is_up {
            wire.sent_blindly += 1;
            if wire.sent_blindly <= BLIND_MESSAGES {
                let left = Happening::LeftClient { device: number, wire: connection, left };
                self.agenda.at(leaves, left);
            }
            return;
        }
        let arrives = wire.up.arrival(leaves, wire.delay);
        self.agenda.at(leaves, Happening::LeftClient { device: number, wire: connection, left });
        let arrival = Happening::AtBroker { device: number, wire: connection, packet };
        self.agenda.at(arrives, arrival);
    }

    pub fn at_broker(&mut self, number: usize, wire: u32, packet: Packet) {
        let same = |session: &&mut Session| session.wire == wire;
        let Some(session) = self.broker.sessions.get_mut(&number).filter(same) else { return };
        match packet {
            Packet::Subscribe => session.subscribed = true,
            Packet::Publish { topic, payload } => {
                if matches!(topic, Topic::State(_)) {
                    self.broker.retained.insert(number, (topic.clone(), payload.clone()));
                }
                self.deliver_to_server(&topic, &payload);
            }
        }
    }

    // ---- connections -------------------------------------------------------------------------------------

    pub fn connects(&mut self, number: usize, life: u32) {
        let now = self.now();
        let again = self.random.between(SECOND / 4, 4 * SECOND);
        let connection = ConnectionId(self.random.number());
        let device = &mut self.devices[number];
        if device.life != life || device.connection.is_some() {
            return;
        }
        if !device.wire.is_up || now < self.broker.down_until {
            return self.agenda.after(again, Happening::Connects { device: number, life });
        }
        let Some(conversation) = &device.conversation else { return };
        let (_, will) = conversation.farewell(connection);
        device.wire.connection += 1;
        device.wire.sent_blindly = 0;
        device.wire.free_at = now;
        device.connection = Some(connection);
        let wire = device.wire.connection;
        let session = Session { connection, wire, subscribed: false, will: will.into() };
        if let Some(old) = self.broker.sessions.insert(number, session) {
            // A takeover: the old session's will comes, perhaps after the first word of the new one.
            let late = self.random.below(3 * SECOND);
            self.send_will(number, old.will, late);
        }
        self.trace.say(now, || format!("device {number} connects"));
        self.converse(number, Event::Connected { connection });
    }

    fn send_will(&mut self, number: usize, payload: Bytes, delay: Micros) {
        if !self.happens(self.plan.weather.will_never) {
            self.agenda.after(delay, Happening::Will { device: number, payload });
        }
    }

    pub fn will(&mut self, number: usize, payload: &Bytes) {
        let topic = Topic::State(self.devices[number].id.clone());
        self.broker.retained.insert(number, (topic.clone(), payload.clone()));
        self.deliver_to_server(&topic, payload);
    }

    /// The link breaks; each end notices in its own time.
    pub fn cut(&mut self, number: usize, micros: Micros) {
        self.bill.cuts += 1;
        let now = self.now();
        let device = &mut self.devices[number];
        let was_up = std::mem::replace(&mut device.wire.is_up, false);
        let life = device.life;
        self.trace.say(now, || format!("device {number}: the link is cut"));
        self.agenda.after(micros, Happening::LinkBack { device: number });
        if !was_up {
            return;
        }
        self.end_live(number);
        let notices = self.random.below(25 * SECOND).min(micros + self.random.below(SECOND));
        self.agenda.after(notices, Happening::DeviceNotices { device: number, life });
        let broker_notices = self.random.below(40 * SECOND);
        self.broker_drops_later(number, broker_notices);
    }

    pub fn broker_drops_later(&mut self, number: usize, delay: Micros) {
        if let Some(connection) =
            self.broker.sessions.get(&number).map(|session| session.connection)
        {
            self.agenda.after(delay, Happening::BrokerNotices { device: number, connection });
        }
    }

    pub fn link_back(&mut self, number: usize) {
        let device = &mut self.devices[number];
        if !std::mem::replace(&mut device.wire.is_up, true) {
            // What was sent on the old connection never arrives.
            device.wire.connection += 1;
            self.trace.say(self.agenda.now(), || format!("device {number}: the link is back"));
            self.begin_live(number);
        }
    }

    pub fn device_notices(&mut self, number: usize, life: u32) {
        let again = self.random.between(SECOND / 5, 3 * SECOND);
        let device = &mut self.devices[number];
        if device.life != life || device.connection.is_none() {
            return;
        }
        device.connection = None;
        device.wire.connection += 1;
        self.agenda.after(again, Happening::Connects { device: number, life });
        self.converse(number, Event::LinkLost);
    }

    pub fn broker_notices(&mut self, number: usize, connection: ConnectionId) {
        let same = |session: &Session| session.connection == connection;
        if self.broker.sessions.get(&number).is_some_and(same)
            && let Some(session) = self.broker.sessions.remove(&number)
        {
            self.send_will(number, session.will, 0);
        }
    }

    /// Everything that the broker knew is lost; whoever was connected notices soon.
    pub fn restart_broker(&mut self) {
        let now = self.now();
        self.trace.say(now, || "the broker restarts".to_owned());
        self.broker.down_until = now + self.random.between(SECOND / 2, 8 * SECOND);
        self.broker.sessions.clear();
        if self.random.happens(0.5) {
            self.broker.retained.clear();
        }
        for number in 0..self.devices.len() {
            let notices = self.random.below(2 * SECOND);
            let life = self.devices[number].life;
            self.agenda.after(notices, Happening::DeviceNotices { device: number, life });
        }
        self.server_link_breaks();
    }

    // ---- broker to server ----------------------------------------------------------------------------------

    fn deliver_to_server(&mut self, topic: &Topic, payload: &Bytes) {
        if !self.broker.server_is_connected {
            return;
        }
        let weather = self.plan.weather;
        let lost = if topic.qos() == 0 { weather.lost_0 } else { weather.lost_1 };
        if self.happens(lost) {
            self.bill.lost += 1;
            return;
        }
        let lane = match topic {
            Topic::Data(..) => 0,
            Topic::Tell(..) => 1,
            Topic::Coverage(_) => 2,
            _ => 3,
        };
        let copies = if self.happens(weather.repeated) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = 500 + self.random.below(weather.jitter);
            let at = self.broker.lanes[lane].arrival(self.agenda.now(), delay);
            if lane == 0 {
                self.broker.data_under_way += 1;
            }
            self.agenda.at(
                at,
                Happening::AtServer {
                    connection: self.broker.server_connection,
                    topic: topic.clone(),
                    payload: payload.clone(),
                },
            );
        }
        self.check_broker();
    }

    pub fn at_server(&mut self, connection: u32, topic: &Topic, payload: Bytes) {
        if matches!(topic, Topic::Data(..)) {
            self.broker.data_under_way -= 1;
        }
        if self.broker.server_connection != connection || !self.broker.server_is_connected {
            return;
        }
        let to_puller = matches!(topic, Topic::Data(..) | Topic::Tell(..));
        let inbound = Inbound::Message { topic: topic.to_string(), payload };
        match to_puller {
            true => self.deliver(ToServer::Transfer(inbound)),
            false => self.deliver(ToServer::Control(inbound)),
        }
    }

    pub fn server_connects(&mut self, life: u32) {
        let now = self.now();
        let again = self.random.between(SECOND / 4, 3 * SECOND);
        if self.server.as_ref().is_none_or(|server| server.life != life)
            || self.broker.server_is_connected
        {
            return;
        }
        if now < self.broker.down_until.max(self.server_cut_until) {
            return self.agenda.after(again, Happening::ServerConnects { life });
        }
        self.trace.say(now, || "the server connects".to_owned());
        self.broker.server_is_connected = true;
        self.broker.server_connection += 1;
        self.deliver(ToServer::Control(Inbound::Up));
        self.deliver(ToServer::Transfer(Inbound::Up));
        let retained: Vec<_> = self.broker.retained.values().cloned().collect();
        for (topic, payload) in retained {
            self.deliver_to_server(&topic, &payload);
        }
        let waiting = self.server.as_mut().map(|server| std::mem::take(&mut server.outbound));
        waiting.into_iter().flatten().for_each(|outbound| self.send_down(outbound));
    }

    /// The server's own way to the broker is gone.
    pub fn server_link_breaks(&mut self) {
        if std::mem::replace(&mut self.broker.server_is_connected, false)
            && let Some(server) = &self.server
        {
            let life = server.life;
            let retry = self.random.between(SECOND / 4, 2 * SECOND);
            self.agenda.after(retry, Happening::ServerConnects { life });
            self.deliver(ToServer::Control(Inbound::Down));
            self.deliver(ToServer::Transfer(Inbound::Down));
        }
    }

    // ---- server to device ------------------------------------------------------------------------------------

    pub fn publish(&mut self, outbound: Outbound) {
        match self.broker.server_is_connected {
            true => self.send_down(outbound),
            // It waits in the link's channel for the next connection.
            false => {
                if let Some(server) = &mut self.server {
                    server.outbound.push_back(outbound);
                }
            }
        }
    }

    fn send_down(&mut self, Outbound { topic, payload }: Outbound) {
        let weather = self.plan.weather;
        let lost = if topic.qos() == 0 { weather.lost_0 } else { weather.lost_1 };
        if self.happens(lost) {
            self.bill.lost += 1;
            return;
        }
        let Some(&number) = self.numbers.get(topic.device()) else { return };
        let copies = if self.happens(weather.repeated) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.broker.to_broker.arrival(self.agenda.now(), MILLISECOND);
            let payload = Bytes::from(payload.clone());
            self.agenda
                .at(at, Happening::DownAtBroker { device: number, topic: topic.clone(), payload });
        }
    }

    pub fn down_at_broker(&mut self, number: usize, topic: Topic, payload: Bytes) {
        let Some(session) = self.broker.sessions.get(&number) else { return };
        if !session.subscribed {
            return;
        }
        let wire = session.wire;
        let now = self.agenda.now();
        let way = &mut self.devices[number].wire;
        let takes = payload.len() as u64 * SECOND / way.bytes_per_second;
        let at = way.down.arrival(now, way.delay + takes);
        self.agenda.at(at, Happening::AtDevice { device: number, wire, topic, payload });
    }
}
