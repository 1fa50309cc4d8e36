//! A server that wants everything at once and keeps nothing: it pulls a card over and over, as fast as it comes.
//!
//! Behind each part the kernel is to forget its file, so that every round comes from the disk.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use protocol::envelope;
use protocol::frame::Data;
use protocol::message::{
    Ask, AskBody, BootMillis, ConnectionId, CoverageReport, Credit, Open, Part, Presence,
    RequestId, ServerId, Tell, TransferId,
};
use protocol::topic::{Topic, server_client_id, server_subscriptions};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::recordings::OpenRecording;
use sdcard_indexer::time::TimeRange;
use tests::installation::{DEVICE, Installation, STREAM};
use tokio::time::{Instant, timeout, timeout_at};

use crate::pulling::PATIENCE;

const CHUNK_BYTES: u32 = 65_536;
/// Under way at once; more credit is given whenever half of it has come.
const WINDOW_BYTES: u64 = 2 << 20;
/// Between two recordings.
const ROUNDING: Duration = Duration::from_millis(50);

pub struct Puller {
    client: AsyncClient,
    events: EventLoop,
    server: ServerId,
    connection: ConnectionId,
    /// Each with the file that it lies in.
    parts: Vec<(Part, PathBuf)>,
    transfers: u64,
    next_part: usize,
}

enum Heard {
    Online(ConnectionId),
    Coverage(CoverageReport),
    Tell(Tell),
    Data { transfer: TransferId, bytes: u64 },
    Else,
}

impl Puller {
    /// Waits for the agent to have read its card, and asks what it has in `range`, which `files` hold in their order.
    pub async fn meet(
        installation: &Installation,
        range: TimeRange,
        files: &[PathBuf],
    ) -> anyhow::Result<Puller> {
        let server: ServerId = "depot".parse()?;
        let broker = installation.mosquitto.address();
        let id = server_client_id(&server);
        let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
        options.set_max_packet_size(protocol::MAX_PACKET_BYTES, protocol::MAX_PACKET_BYTES);
        let (client, events) = AsyncClient::new(options, 64);
        for (filter, quality) in server_subscriptions(&server) {
            client.subscribe(filter, rumqttc::qos(quality)?).await?;
        }
        let connection = ConnectionId(0);
        let parts = Vec::new();
        let mut puller =
            Puller { client, events, server, connection, parts, transfers: 0, next_part: 0 };
        timeout(PATIENCE, puller.find(range, files)).await.context("the agent tells nothing")??;
        Ok(puller)
    }

    async fn find(&mut self, range: TimeRange, files: &[PathBuf]) -> anyhow::Result<()> {
        let mut held = Coverage::new();
        loop {
            match self.hear().await? {
                Heard::Online(connection) => {
                    self.connection = connection;
                    // It may have told before anybody listened.
                    self.ask(AskBody::Coverage).await?;
                }
                Heard::Coverage(report) if report.connection == self.connection => {
                    // Of a window each.
                    held = held.union(&report.held);
                    if held.clone().joined(ROUNDING).covers(range) {
                        break;
                    }
                }
                _ => {}
            }
        }
        let mut from = range.start();
        loop {
            let range = TimeRange::new(from, range.end()).context("there is more")?;
            let (request, stream) = (RequestId(self.transfers), STREAM.parse()?);
            self.transfers += 1;
            self.ask(AskBody::Locate { request, stream, range }).await?;
            let located = loop {
                match self.hear().await? {
                    Heard::Tell(Tell::Located(located)) if located.request == request => {
                        break located;
                    }
                    _ => {}
                }
            };
            self.parts.extend(located.parts.into_iter().map(|part| (part, PathBuf::new())));
            match located.next {
                Some(next) => from = next,
                None => break,
            }
        }
        ensure!(self.parts.len() == files.len(), "{} parts of {files:?}", self.parts.len());
        for ((_, path), file) in self.parts.iter_mut().zip(files) {
            path.clone_from(file);
        }
        Ok(())
    }

    /// For so long; answers how many bytes came.
    pub async fn pull(&mut self, length: Duration) -> anyhow::Result<u64> {
        let end = Instant::now() + length;
        let mut received = 0;
        loop {
            let (part, path) = &self.parts[self.next_part % self.parts.len()];
            let (part, path) = (part.clone(), path.clone());
            self.next_part += 1;
            let transfer = TransferId(self.transfers);
            self.transfers += 1;
            let whole = self.pull_part(&part, transfer, end, &mut received).await?;
            File::open(path)?.forget_cached()?;
            if !whole {
                self.ask(AskBody::Cancel { transfer }).await?;
                return Ok(received);
            }
        }
    }

    /// False: the time was over before.
    async fn pull_part(
        &mut self,
        part: &Part,
        transfer: TransferId,
        end: Instant,
        received: &mut u64,
    ) -> anyhow::Result<bool> {
        let (mut position, mut limit, mut sequence) = (part.start, part.start + WINDOW_BYTES, 0);
        self.ask(AskBody::Open(Open {
            transfer,
            segment: part.segment,
            version: part.version,
            start: part.start,
            end: part.end,
            from: part.start,
            credit_limit: limit,
            chunk_bytes: CHUNK_BYTES,
            rate_bytes_per_second: 0,
            priority: 0,
        }))
        .await?;
        while position < part.end {
            match timeout_at(end, self.hear()).await {
                Err(_) => return Ok(false),
                Ok(Ok(Heard::Data { transfer: of, bytes })) if of == transfer => {
                    position += bytes;
                    *received += bytes;
                }
                Ok(Ok(Heard::Tell(Tell::Refused { what, reason }))) => {
                    bail!("{what:?} was refused: {reason:?}")
                }
                Ok(heard) => drop(heard?),
            }
            if limit < part.end && limit - position < WINDOW_BYTES / 2 {
                (limit, sequence) = (position + WINDOW_BYTES, sequence + 1);
                let credit = Credit {
                    transfer,
                    sequence,
                    limit,
                    durable: position,
                    chunk_bytes: CHUNK_BYTES,
                    rate_bytes_per_second: 0,
                    time: 0,
                };
                self.say("credit", envelope::encode(&credit)?).await?;
            }
        }
        Ok(true)
    }

    async fn ask(&self, body: AskBody) -> anyhow::Result<()> {
        let (server, connection) = (self.server.clone(), self.connection);
        let ask = Ask { server, connection, expires: BootMillis(u64::MAX), body };
        self.say("ask", envelope::encode(&ask)?).await
    }

    async fn say(&self, leaf: &str, payload: Vec<u8>) -> anyhow::Result<()> {
        let topic = format!("gapless/1/{DEVICE}/{leaf}");
        Ok(self.client.publish(topic, QoS::AtLeastOnce, false, payload).await?)
    }

    /// Cancel safe.
    async fn hear(&mut self) -> anyhow::Result<Heard> {
        loop {
            let Event::Incoming(Incoming::Publish(message)) = self.events.poll().await? else {
                continue;
            };
            let payload = &message.payload[..];
            return Ok(match message.topic.parse()? {
                Topic::State(_) => match envelope::decode(payload)? {
                    Presence::Online(online) => Heard::Online(online.connection),
                    Presence::Offline { .. } => Heard::Else,
                },
                Topic::Coverage(_) => Heard::Coverage(envelope::decode(payload)?),
                Topic::Tell(..) => Heard::Tell(envelope::decode(payload)?),
                Topic::Data(..) => {
                    let data = Data::decode(payload)?;
                    Heard::Data { transfer: data.transfer, bytes: data.payload.len() as u64 }
                }
                _ => Heard::Else,
            });
        }
    }
}
