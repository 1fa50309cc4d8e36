//! What waits for the MQTT client: control before data, and little of it in the client at once. Pure.

use std::collections::VecDeque;

use protocol::topic::Topic;

/// Control messages handed to the client at once: what data has to wait for.
pub const MAX_IN_CLIENT: usize = 4;
/// Answers that may wait for the client; servers ask again for what is dropped beyond it.
const MAX_QUEUED: usize = 64;

/// What is to be handed to the client next.
#[derive(Debug, PartialEq, Eq)]
pub enum Outgoing {
    Control { topic: Topic, payload: Vec<u8> },
    Chunk { topic: Topic, frame: Vec<u8> },
}

#[derive(Debug, Default)]
pub struct Outbox {
    control: VecDeque<(Topic, Vec<u8>)>,
    chunk: Option<(Topic, Vec<u8>)>,
    in_client: usize,
    unsaid: u64,
}

impl Outbox {
    /// Queues a control message; over the limit it is dropped and counted.
    pub fn say(&mut self, topic: Topic, payload: Vec<u8>) {
        if self.control.len() < MAX_QUEUED {
            self.control.push_back((topic, payload));
        } else {
            self.unsaid = self.unsaid.saturating_add(1);
        }
    }

    /// Queues a chunk behind all control; the one before it has left.
    pub fn send(&mut self, topic: Topic, frame: Vec<u8>) {
        self.chunk = Some((topic, frame));
    }

    /// A subscription was handed to the client, which counts as control.
    pub fn subscribed(&mut self) {
        self.in_client += 1;
    }

    pub fn control_sent(&mut self) {
        self.in_client = self.in_client.saturating_sub(1);
    }

    /// So little waits that one more would be handed out at once.
    pub fn has_room(&self) -> bool {
        self.in_client + self.control.len() < MAX_IN_CLIENT
    }

    /// What the client has room for: control first, and data only once no control waits.
    pub fn next(&mut self) -> Option<Outgoing> {
        if self.in_client < MAX_IN_CLIENT {
            if let Some((topic, payload)) = self.control.pop_front() {
                self.in_client += 1;
                return Some(Outgoing::Control { topic, payload });
            }
        }
        if !self.control.is_empty() {
            return None;
        }
        self.chunk.take().map(|(topic, frame)| Outgoing::Chunk { topic, frame })
    }

    /// All is lost; says how many messages had been dropped because too many waited.
    pub fn link_lost(&mut self) -> u64 {
        std::mem::take(self).unsaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        Topic::State("cam-7".parse().unwrap())
    }

    fn handed_out(outbox: &mut Outbox) -> Vec<u8> {
        std::iter::from_fn(|| outbox.next())
            .map(|outgoing| match outgoing {
                Outgoing::Control { payload, .. } => payload[0],
                Outgoing::Chunk { frame, .. } => frame[0],
            })
            .collect()
    }

    #[test]
    fn control_goes_in_order_and_data_behind_all_of_it() {
        let mut outbox = Outbox::default();
        outbox.send(topic(), vec![99]);
        outbox.subscribed();
        for number in 1..=4 {
            outbox.say(topic(), vec![number]);
        }
        assert!(!outbox.has_room());
        assert_eq!(handed_out(&mut outbox), [1, 2, 3]);
        outbox.control_sent();
        assert_eq!(handed_out(&mut outbox), [4, 99]);
        assert!(!outbox.has_room());
        outbox.control_sent();
        assert!(outbox.has_room());
    }

    #[test]
    fn what_is_over_the_limit_is_dropped_and_counted_once() {
        let mut outbox = Outbox::default();
        for number in 0..=MAX_QUEUED {
            outbox.say(topic(), vec![number as u8]);
        }
        assert_eq!(outbox.link_lost(), 1);
        assert_eq!(outbox.link_lost(), 0);
        assert!(outbox.next().is_none() && outbox.has_room());
    }
}
