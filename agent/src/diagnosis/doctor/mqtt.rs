//! As much of an MQTT client as a doctor needs, over a stream that it has opened step by step.
//!
//! It logs in as the agent does, by MQTT 3.1.1. Whether a broker takes what is published, that version does not tell;
//! version 5 does, so a second connection asks by that where the broker speaks it. rumqttc knows the packets of both.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::MAX_PACKET_BYTES;
use rumqttc::v5::mqttbytes::v5;
use rumqttc::{
    Connect, ConnectReturnCode, Packet, Publish, QoS, Subscribe, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// For the broker to answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Kinds of packets, as the first four bits tell.
const CONNACK: u8 = 2;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    #[error("the broker ended the connection")]
    Ended,
    #[error("the broker has not answered for {}s", PATIENCE.as_secs())]
    Silent,
    #[error("what answers there is no MQTT broker: {0}")]
    NoMqtt(String),
    #[error("the connection is lost")]
    Io(#[from] io::Error),
}

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub client_id: String,
    pub login: Option<(String, String)>,
}

pub struct Mqtt {
    stream: Box<dyn Stream>,
    received: BytesMut,
}

impl Mqtt {
    pub fn over(stream: Box<dyn Stream>) -> Self {
        Mqtt { stream, received: BytesMut::new() }
    }

    /// By version 3.1.1; whether the broker lets it in.
    pub async fn log_in(&mut self, who: &Credentials) -> Result<ConnectReturnCode, MqttError> {
        let mut connect = Connect::new(&who.client_id);
        connect.keep_alive = 60;
        if let Some((username, password)) = &who.login {
            connect.set_login(username, password);
        }
        self.send(&Packet::Connect(connect)).await?;
        match self.receive().await? {
            Packet::ConnAck(ack) => Ok(ack.code),
            other => Err(MqttError::NoMqtt(format!("{other:?} came in place of an answer"))),
        }
    }

    /// Which of the filters are refused.
    pub async fn subscribe(
        &mut self,
        filters: [(String, u8); 2],
    ) -> Result<Vec<String>, MqttError> {
        let names = filters.clone().map(|(filter, _)| filter);
        let quality = |qos| if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let filters = filters.map(|(filter, qos)| SubscribeFilter::new(filter, quality(qos)));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = 1;
        self.send(&Packet::Subscribe(subscribe)).await?;
        loop {
            if let Packet::SubAck(ack) = self.receive().await? {
                let refused = names.into_iter().zip(ack.return_codes);
                let refused = refused.filter(|(_, code)| *code == SubscribeReasonCode::Failure);
                return Ok(refused.map(|(filter, _)| filter).collect());
            }
        }
    }

    pub async fn publish(&mut self, topic: String, payload: Vec<u8>) -> Result<(), MqttError> {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.pkid = 2;
        self.send(&Packet::Publish(publish)).await
    }

    /// The next message to the device.
    pub async fn message(&mut self) -> Result<Publish, MqttError> {
        loop {
            if let Packet::Publish(publish) = self.receive().await? {
                return Ok(publish);
            }
        }
    }

    pub async fn disconnect(&mut self) {
        // It ends either way.
        let _ = self.send(&Packet::Disconnect).await;
        let _ = self.stream.shutdown().await;
    }

    /// By version 5; false where the broker does not speak it, or lets nobody in.
    pub async fn log_in_by_5(&mut self, who: &Credentials) -> Result<bool, MqttError> {
        let connect = v5::Connect {
            keep_alive: 60,
            client_id: who.client_id.clone(),
            clean_start: true,
            properties: None,
        };
        let login = who.login.as_ref();
        let login = login.map(|(username, password)| v5::Login::new(username, password));
        let mut bytes = BytesMut::new();
        connect.write(&None, &login, &mut bytes).map_err(malformed)?;
        self.write(&bytes).await?;
        let (header, frame) = self.frame_of(CONNACK).await?;
        let ack = v5::ConnAck::read(header, frame).map_err(malformed)?;
        Ok(ack.code == v5::ConnectReturnCode::Success)
    }

    /// Whether the broker takes it. By version 5.
    pub async fn may_publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<bool, MqttError> {
        let quality = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
        let mut publish = v5::Publish::new(topic, quality, payload, None);
        publish.pkid = 3;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).map_err(malformed)?;
        self.write(&bytes).await?;
        let (header, frame) = self.frame_of(PUBACK).await?;
        let ack = v5::PubAck::read(header, frame).map_err(malformed)?;
        Ok(matches!(
            ack.reason,
            v5::PubAckReason::Success | v5::PubAckReason::NoMatchingSubscribers
        ))
    }

    /// Whether the broker lets it listen there. By version 5.
    pub async fn may_subscribe(&mut self, filter: &str) -> Result<bool, MqttError> {
        let quality = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
        let mut subscribe = v5::Subscribe::new(v5::Filter::new(filter, quality), None);
        subscribe.pkid = 4;
        let mut bytes = BytesMut::new();
        subscribe.write(&mut bytes).map_err(malformed)?;
        self.write(&bytes).await?;
        let (header, frame) = self.frame_of(SUBACK).await?;
        let ack = v5::SubAck::read(header, frame).map_err(malformed)?;
        Ok(ack.return_codes.iter().all(|code| matches!(code, v5::SubscribeReasonCode::Success(_))))
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), MqttError> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, MAX_PACKET_BYTES).map_err(malformed)?;
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), MqttError> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        Ok(tokio::time::timeout(PATIENCE, writing).await.map_err(|_| MqttError::Silent)??)
    }

    async fn receive(&mut self) -> Result<Packet, MqttError> {
        let (_, frame) = self.frame().await?;
        let mut frame = BytesMut::from(&frame[..]);
        Packet::read(&mut frame, MAX_PACKET_BYTES).map_err(malformed)
    }

    /// The next packet of a kind; others are passed over.
    async fn frame_of(&mut self, kind: u8) -> Result<(v5::FixedHeader, Bytes), MqttError> {
        loop {
            let (header, frame) = self.frame().await?;
            if frame.first().is_some_and(|first| first >> 4 == kind) {
                return Ok((header, frame));
            }
        }
    }

    /// The next packet, whichever version it is of: both begin alike.
    async fn frame(&mut self) -> Result<(v5::FixedHeader, Bytes), MqttError> {
        use rumqttc::v5::mqttbytes::Error::InsufficientBytes;
        loop {
            match v5::check(self.received.iter(), Some(MAX_PACKET_BYTES as u32)) {
                Ok(header) => {
                    let frame = self.received.split_to(header.frame_length()).freeze();
                    return Ok((header, frame));
                }
                Err(InsufficientBytes(_)) => {
                    let reading = self.stream.read_buf(&mut self.received);
                    let read = tokio::time::timeout(PATIENCE, reading).await;
                    if read.map_err(|_| MqttError::Silent)?? == 0 {
                        return Err(MqttError::Ended);
                    }
                }
                Err(error) => return Err(malformed(error)),
            }
        }
    }
}

fn malformed(error: impl std::fmt::Display) -> MqttError {
    MqttError::NoMqtt(error.to_string())
}
