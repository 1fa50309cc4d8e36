//! A device: the real conversation of an agent, a card that takes its time, a MQTT client that sends one
//! message after the other.

use std::collections::{BTreeMap, VecDeque};

use agent::conversation::{
    Action, Asker, Conversation, Event, PartBytes, PartHandle, Profile, Question, Standing, Views,
    Wanted,
};
use protocol::message::{
    BootId, BootMillis, ClockSample, ConnectionId, DeviceId, DeviceLimits, Network, RefusedReason,
};
use protocol::topic::Topic;
use sdcard_indexer::identity::StreamId;

use super::agenda::{MILLISECOND, Micros, SECOND, wall};
use super::card::{Cursor, Ring};
use super::faults::DevicePlan;
use super::network::{Packet, Wire};
use super::world::{Happening, World};

/// How often the index looks at its card.
const LOOK: Micros = SECOND;

#[derive(Debug)]
pub enum CardCommand {
    Ask { asker: Asker, question: Question },
    Read { handle: PartHandle, part: PartBytes, length_bytes: u64, keep: bool },
}

/// What has left the MQTT client.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    Control,
    Chunk,
}

#[derive(Debug)]
pub struct Device {
    pub id: DeviceId,
    pub plan: DevicePlan,
    pub rings: Vec<Ring>,
    pub wire: Wire,
    /// `None` while its agent does not run.
    pub conversation: Option<Conversation>,
    /// As the device itself has it.
    pub connection: Option<ConnectionId>,
    /// Starts of the agent; what was meant for an earlier one finds nobody.
    pub life: u32,
    boot: u64,
    booted: Micros,
    cursors: BTreeMap<PartHandle, Cursor>,
    commands: VecDeque<CardCommand>,
    card_is_busy: bool,
    wakes_at: Option<Micros>,
    pub views: Views,
}

impl Device {
    pub fn new(id: DeviceId, plan: DevicePlan, seed: u64) -> Self {
        let names = ["main", "sub"];
        let rings = names.iter().take(plan.streams).enumerate().map(|(number, name)| {
            let stream: StreamId = name.parse().expect("a valid id");
            let seed = seed ^ ((number as u64 + 1) << 56);
            Ring::new(stream, plan.habit, seed)
        });
        Device {
            id,
            rings: rings.collect(),
            wire: Wire::new(&plan),
            plan,
            conversation: None,
            connection: None,
            life: 0,
            boot: 0,
            booted: 0,
            cursors: BTreeMap::new(),
            commands: VecDeque::new(),
            card_is_busy: false,
            wakes_at: None,
            views: Views::new(),
        }
    }

    fn clock(&self, now: Micros) -> ClockSample {
        ClockSample { realtime: wall(now), boottime: BootMillis((now - self.booted) / 1_000) }
    }
}

impl World {
    /// The agent starts; with `boot`, after the whole device.
    pub fn start_agent(&mut self, number: usize, boot: bool) {
        let now = self.now();
        let seed = self.random.number();
        let device = &mut self.devices[number];
        device.life += 1;
        if boot {
            device.boot = seed;
            device.booted = now.saturating_sub(3 * SECOND);
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&device.boot.to_le_bytes());
        let profile = Profile {
            device: device.id.clone(),
            boot: BootId(id),
            agent_version: "simulated".to_owned(),
            limits: DeviceLimits {
                max_chunk_bytes: device.plan.max_chunk_bytes,
                max_open_transfers: device.plan.max_open_transfers,
                max_bytes_per_second: 0,
            },
            permit: Default::default(),
            streams: device.rings.iter().map(|ring| ring.stream.clone()).collect(),
        };
        device.conversation = Some(Conversation::new(profile, device.clock(now).boottime));
        device.connection = None;
        device.cursors.clear();
        device.commands.clear();
        device.card_is_busy = false;
        device.wakes_at = None;
        device.views.clear();
        let life = device.life;
        self.agenda.after(200 * MILLISECOND, Happening::CardLooks { device: number, life });
        self.agenda.after(50 * MILLISECOND, Happening::Connects { device: number, life });
    }

    /// The agent ends at once, and says nothing.
    pub fn stop_agent(&mut self, number: usize) {
        let device = &mut self.devices[number];
        device.life += 1;
        device.conversation = None;
        device.connection = None;
    }

    pub fn card_looks(&mut self, number: usize, life: u32) {
        let now = self.now();
        let device = &mut self.devices[number];
        if device.life != life {
            return;
        }
        let mut changed = false;
        for ring in &mut device.rings {
            let standing = Standing { view: ring.look(now), overwriting: ring.overwriting(now) };
            if device.views.get(&ring.stream) != Some(&standing) {
                device.views.insert(ring.stream.clone(), standing);
                changed = true;
            }
        }
        self.agenda.after(LOOK, Happening::CardLooks { device: number, life });
        if changed {
            let views = self.devices[number].views.clone();
            self.converse(number, Event::Views(&views));
        }
    }

    pub fn converse(&mut self, number: usize, event: Event<'_>) {
        let now = self.now();
        let device = &mut self.devices[number];
        let clock = device.clock(now);
        let Some(conversation) = &mut device.conversation else { return };
        self.turns += 1;
        let actions = conversation.handle(clock, event);
        for action in actions {
            self.obey_agent(number, action);
        }
        self.wake_agent(number);
    }

    /// Sees to it that the conversation is called at its deadline.
    fn wake_agent(&mut self, number: usize) {
        let now = self.now();
        let device = &mut self.devices[number];
        let deadline = device.conversation.as_ref().and_then(Conversation::deadline);
        let Some(BootMillis(due)) = deadline else { return };
        let at = (device.booted + due * 1_000).max(now + MILLISECOND);
        if device.wakes_at.is_none_or(|known| at < known || known <= now) {
            device.wakes_at = Some(at);
            let life = device.life;
            self.agenda.at(at, Happening::AgentWakes { device: number, life });
        }
    }

    /// One that an earlier deadline has taken the place of wakes nobody: it would lead to another, for ever.
    pub fn agent_wakes(&mut self, number: usize, life: u32) {
        let now = self.now();
        let device = &mut self.devices[number];
        if device.life == life && device.wakes_at.is_some_and(|at| at <= now) {
            device.wakes_at = None;
            self.converse(number, Event::Tick);
        }
    }

    fn obey_agent(&mut self, number: usize, action: Action) {
        match action {
            Action::Subscribe(_) => self.send_up(number, Packet::Subscribe, Left::Control),
            Action::Publish { topic, payload } => {
                self.trace.say(self.agenda.now(), || format!("{topic} <- device {number}"));
                self.send_up(
                    number,
                    Packet::Publish { topic, payload: payload.into() },
                    Left::Control,
                );
            }
            Action::SendChunk { topic, frame } => {
                self.bill.sent_bytes += frame.len() as u64;
                self.send_up(number, Packet::Publish { topic, payload: frame.into() }, Left::Chunk);
            }
            Action::LookAtNetwork => self.converse(number, Event::Network(Network::default())),
            Action::Ask { asker, question } => {
                self.hand_to_card(number, CardCommand::Ask { asker, question });
            }
            Action::Read { handle, part, length_bytes, keep } => {
                self.hand_to_card(number, CardCommand::Read { handle, part, length_bytes, keep });
            }
            Action::Close { handle } => drop(self.devices[number].cursors.remove(&handle)),
            // A simulated card is told by the world when its clock is right.
            Action::LearnTime(told) => {
                self.trace.say(self.agenda.now(), || format!("device {number}: {told:?}"));
            }
            Action::Note(fact) => {
                self.trace.say(self.agenda.now(), || format!("device {number}: {fact:?}"));
            }
        }
    }

    // ---- the card --------------------------------------------------------------------------------------

    fn hand_to_card(&mut self, number: usize, command: CardCommand) {
        self.devices[number].commands.push_back(command);
        self.card_works(number);
    }

    /// One command after the other.
    fn card_works(&mut self, number: usize) {
        let device = &mut self.devices[number];
        let Some(command) = device.commands.front().filter(|_| !device.card_is_busy) else {
            return;
        };
        device.card_is_busy = true;
        let takes = match command {
            CardCommand::Ask { .. } => device.plan.card_latency * 5,
            CardCommand::Read { length_bytes, .. } => {
                device.plan.card_latency + length_bytes * SECOND / device.plan.card_bytes_per_second
            }
        };
        let life = device.life;
        self.agenda.after(takes, Happening::CardDone { device: number, life });
    }

    pub fn card_done(&mut self, number: usize, life: u32) {
        let now = self.now();
        let fails = self.happens(self.plan.weather.busy_card * 0.02);
        let device = &mut self.devices[number];
        if device.life != life {
            return;
        }
        device.card_is_busy = false;
        let Some(command) = device.commands.pop_front() else { return };
        match command {
            CardCommand::Ask { asker, question } => {
                let Question { wanted, stream, range } = question;
                let ring = device.rings.iter().find(|ring| ring.stream == stream);
                let outcome = ring.map(|ring| match wanted {
                    Wanted::Parts => ring.locate(range, now),
                    Wanted::Segments => ring.list(range, now),
                });
                let outcome = outcome.ok_or(RefusedReason::Malformed);
                self.converse(number, Event::Answered { asker, outcome });
            }
            CardCommand::Read { handle, part, length_bytes, keep } => {
                let mut cursor =
                    device.cursors.remove(&handle).unwrap_or_else(|| Cursor::new(part));
                let mut reads = device
                    .rings
                    .iter_mut()
                    .map(|ring| ring.read(&mut cursor, length_bytes, keep, now));
                let outcome = reads.find_map(|read| read);
                drop(reads);
                let outcome = match outcome {
                    _ if fails => Err(RefusedReason::CardError),
                    None => Err(RefusedReason::Gone),
                    Some(outcome) => outcome,
                };
                device.cursors.insert(handle, cursor);
                self.converse(number, Event::Read { handle, outcome });
            }
        }
        self.card_works(number);
    }

    pub fn left_client(&mut self, number: usize, wire: u32, left: Left) {
        if self.devices[number].wire.connection == wire {
            self.converse(
                number,
                match left {
                    Left::Control => Event::ControlSent,
                    Left::Chunk => Event::ChunkSent,
                },
            );
        }
    }

    pub fn device_hears(&mut self, number: usize, wire: u32, topic: &Topic, payload: &[u8]) {
        let device = &self.devices[number];
        if device.wire.connection == wire && device.wire.is_up && device.connection.is_some() {
            self.converse(number, Event::Message { topic: &topic.to_string(), payload });
        }
    }
}
