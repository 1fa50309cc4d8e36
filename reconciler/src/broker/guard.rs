//! What rmqtt asks before it acts: the access rules put in force, and back pressure towards agents.
//!
//! It must never hold back a server (a server waiting for an agent that waits for the server would be a deadlock),
//! nor let more chunks wait for a subscriber than configured.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::session::Session;
use rmqtt::types::{
    AuthResult, ClientId, ConnectInfo, Id, LastWill, Publish, PublishAclResult, Reason, Subscribe,
    SubscribeAclResult,
};

use super::access::{self, Role};
use super::front::Peers;
use super::{BrokerCounts, SEND_TIMEOUT};

/// How often a chunk held back looks again. One chunk per agent waits, so this costs nothing that matters.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Past the time after which the subscriber itself is disconnected; a last resort against waiting for ever.
const LONGEST_WAIT: Duration = SEND_TIMEOUT.saturating_add(Duration::from_secs(3));
const LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Counters {
    refused_handshakes: AtomicU64,
    refused_connections: AtomicU64,
    refused_publishes: AtomicU64,
    refused_subscriptions: AtomicU64,
    dropped_messages: AtomicU64,
    delayed_chunks: AtomicU64,
    pub(super) not_retained: AtomicU64,
    last_logged: Mutex<HashMap<&'static str, Instant>>,
}

impl Counters {
    pub(super) fn snapshot(&self) -> BrokerCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BrokerCounts {
            refused_handshakes: read(&self.refused_handshakes),
            refused_connections: read(&self.refused_connections),
            refused_publishes: read(&self.refused_publishes),
            refused_subscriptions: read(&self.refused_subscriptions),
            dropped_messages: read(&self.dropped_messages),
            delayed_chunks: read(&self.delayed_chunks),
            not_retained: read(&self.not_retained),
        }
    }

    /// Counts always, logs at most once a minute for each kind of event.
    fn note(&self, counter: &AtomicU64, what: &'static str, client: &str, topic: &str) {
        let total = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_due(what) {
            tracing::warn!(client, topic, total, "embedded broker: {what}");
        }
    }

    /// Somebody who did not get as far as saying who it is, or was thrown out for its certificate.
    pub(super) fn refused_handshake(&self, what: &'static str, from: SocketAddr, why: &str) {
        let total = self.refused_handshakes.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_due(what) {
            tracing::warn!(%from, why, total, "embedded broker: connection refused: {what}");
        }
    }

    /// A client whose certificate is somebody else's, or who has none where one is needed.
    fn refused_identity(&self, client: &str, from: Option<SocketAddr>, subject: &str) {
        let total = self.refused_connections.fetch_add(1, Ordering::Relaxed) + 1;
        let what = "client refused (not its certificate)";
        if self.is_due(what) {
            tracing::warn!(client, ?from, subject, total, "embedded broker: {what}");
        }
    }

    fn is_due(&self, what: &'static str) -> bool {
        let now = Instant::now();
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |last: &Instant| now.duration_since(*last) < LOG_INTERVAL;
        let due = !last_logged.get(what).is_some_and(recent);
        if due {
            last_logged.insert(what, now);
        }
        due
    }
}

/// Chunks accepted for one connection and not yet written to it.
#[derive(Debug)]
struct Backlog {
    connection: Id,
    chunks: AtomicUsize,
    gone: AtomicBool,
}

/// What clients are held to where TLS stands before the broker.
#[derive(Debug)]
pub(super) struct Entrance {
    pub peers: Arc<Peers>,
    /// What the server's own link says, which needs no TLS to itself. New at each start, known to this process alone.
    pub secret: String,
}

impl Entrance {
    /// Who came through the front is who its certificate says; nobody else comes in but the server itself.
    fn admits(&self, info: &ConnectInfo, counters: &Counters) -> bool {
        let client = info.client_id();
        let Some(peer) = info.id().remote_addr.and_then(|address| self.peers.get(address)) else {
            let secret = info.password().map(|secret| blake3::hash(secret));
            let is_server = matches!(Role::of(client), Some(Role::Server));
            // Digests are compared in a time that tells nothing.
            if is_server && secret == Some(blake3::hash(self.secret.as_bytes())) {
                return true;
            }
            counters.refused_identity(client, info.id().remote_addr, "came past TLS");
            return false;
        };
        let Some(identity) = &peer.identity else { return true };
        let entitled = identity.may_be(client);
        if !entitled {
            counters.refused_identity(client, Some(peer.from), &identity.subject);
        }
        entitled
    }
}

struct State {
    context: ServerContext,
    counters: Arc<Counters>,
    max_queued_chunks: usize,
    entrance: Option<Entrance>,
    backlogs: Mutex<HashMap<ClientId, Arc<Backlog>>>,
}

#[derive(Clone)]
pub(super) struct Guard(Arc<State>);

impl Guard {
    pub(super) async fn install(
        context: &ServerContext,
        max_queued_chunks: usize,
        counters: Arc<Counters>,
        entrance: Option<Entrance>,
    ) {
        let guard = Self(Arc::new(State {
            context: context.clone(),
            counters,
            max_queued_chunks,
            entrance,
            backlogs: Mutex::default(),
        }));
        let register = context.extends.hook_mgr().register();
        for event in [
            Type::ClientAuthenticate,
            Type::ClientConnected,
            Type::ClientDisconnected,
            Type::ClientSubscribeCheckAcl,
            Type::MessagePublishCheckAcl,
            Type::MessageDelivered,
            Type::MessageDropped,
        ] {
            register.add(event, Box::new(guard.clone())).await;
        }
        register.start().await;
    }

    fn backlogs(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, Arc<Backlog>>> {
        self.0.backlogs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A last will is published without being asked about again, so it is judged here.
    fn connect(&self, info: &ConnectInfo) -> AuthResult {
        let counters = &self.0.counters;
        if self.0.entrance.as_ref().is_some_and(|entrance| !entrance.admits(info, counters)) {
            return AuthResult::NotAuthorized;
        }
        let role = Role::of(info.client_id());
        let will_allowed = |role: Role<'_>| match info.last_will() {
            None => true,
            Some(LastWill::V3(will)) => role.may_publish(&will.topic),
            Some(LastWill::V5(will)) => role.may_publish(&will.topic),
        };
        if role.is_some_and(will_allowed) {
            return AuthResult::Allow(false, None);
        }
        counters.note(
            &counters.refused_connections,
            "client refused (id or last will)",
            info.client_id(),
            "",
        );
        AuthResult::NotAuthorized
    }

    fn connected(&self, session: &Session) {
        let backlog = Backlog {
            connection: session.id.clone(),
            chunks: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
        };
        if let Some(old) = self.backlogs().insert(session.id.client_id.clone(), Arc::new(backlog)) {
            old.gone.store(true, Ordering::Relaxed);
        }
    }

    /// After a takeover the old connection may end later than the new one began: only its own entry goes.
    fn disconnected(&self, session: &Session) {
        let mut backlogs = self.backlogs();
        if let Some(backlog) = backlogs.get(&session.id.client_id)
            && is_same(&backlog.connection, &session.id)
        {
            backlog.gone.store(true, Ordering::Relaxed);
            backlogs.remove(&session.id.client_id);
        }
    }

    fn subscribe(&self, session: &Session, subscribe: &Subscribe) -> SubscribeAclResult {
        let client = &session.id.client_id;
        if Role::of(client).is_some_and(|role| role.may_subscribe(&subscribe.topic_filter)) {
            return SubscribeAclResult::new_success(subscribe.opts.qos(), None);
        }
        let counters = &self.0.counters;
        counters.note(
            &counters.refused_subscriptions,
            "subscription refused",
            client,
            &subscribe.topic_filter,
        );
        SubscribeAclResult::new_failure(rmqtt::codec::v5::SubscribeAckReason::NotAuthorized)
    }

    /// A refusal disconnects: 3.1.1 has no other way to tell the client.
    async fn publish(&self, session: &Session, publish: &Publish) -> PublishAclResult {
        let client = &session.id.client_id;
        let role = Role::of(client).filter(|role| role.may_publish(&publish.topic));
        let counters = &self.0.counters;
        match role {
            None => {
                counters.note(
                    &counters.refused_publishes,
                    "message refused",
                    client,
                    &publish.topic,
                );
                return PublishAclResult::rejected(true, None);
            }
            Some(Role::Agent { .. }) if access::is_chunk(&publish.topic) => {
                if !self.wait_for_room(session, publish).await {
                    counters.note(
                        &counters.dropped_messages,
                        "chunk dropped, no room",
                        client,
                        &publish.topic,
                    );
                    return PublishAclResult::rejected(true, None);
                }
            }
            Some(_) => {}
        }
        PublishAclResult::allow()
    }

    /// Holds the publisher's connection until every subscriber of the topic has room; false if one never has.
    async fn wait_for_room(&self, session: &Session, publish: &Publish) -> bool {
        let started = Instant::now();
        let recipients = self.recipients(session, publish).await;
        let mut delayed = false;
        for recipient in &recipients {
            while recipient.chunks.load(Ordering::Relaxed) >= self.0.max_queued_chunks
                && !recipient.gone.load(Ordering::Relaxed)
            {
                if started.elapsed() > LONGEST_WAIT {
                    return false;
                }
                if !std::mem::replace(&mut delayed, true) {
                    self.0.counters.delayed_chunks.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        for recipient in &recipients {
            recipient.chunks.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    async fn recipients(&self, session: &Session, publish: &Publish) -> Vec<Arc<Backlog>> {
        let router = self.0.context.extends.router().await;
        // An error means no route, and then nothing is queued either.
        let matches = router.matches(session.id.clone(), &publish.topic).await.unwrap_or_default();
        let backlogs = self.backlogs();
        matches
            .values()
            .flatten()
            .filter_map(|(_, client, ..)| backlogs.get(client).cloned())
            .collect()
    }

    fn left_the_queue(&self, to: &Id, publish: &Publish) {
        if !access::is_chunk(&publish.topic) {
            return;
        }
        if let Some(backlog) =
            self.backlogs().get(&to.client_id).filter(|backlog| is_same(&backlog.connection, to))
        {
            // A server may publish to a data topic too, uncounted; saturate rather than wrap.
            let _ = backlog.chunks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |chunks| {
                Some(chunks.saturating_sub(1))
            });
        }
    }

    fn dropped(&self, to: &Id, publish: &Publish, reason: &Reason) {
        self.left_the_queue(to, publish);
        tracing::debug!(client = %to.client_id, topic = %publish.topic, %reason, "message not delivered");
        let counters = &self.0.counters;
        counters.note(
            &counters.dropped_messages,
            "message not delivered",
            &to.client_id,
            &publish.topic,
        );
    }
}

/// The same connection, not only the same client id.
fn is_same(one: &Id, other: &Id) -> bool {
    one.create_time == other.create_time && one.remote_addr == other.remote_addr
}

#[async_trait::async_trait]
impl Handler for Guard {
    async fn hook(&self, event: &Parameter, so_far: Option<HookResult>) -> ReturnType {
        let result = match event {
            Parameter::ClientAuthenticate(info) => HookResult::AuthResult(self.connect(info)),
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                HookResult::SubscribeAclResult(self.subscribe(session, subscribe))
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                HookResult::PublishAclResult(self.publish(session, publish).await)
            }
            other => {
                match other {
                    Parameter::ClientConnected(session) => self.connected(session),
                    Parameter::ClientDisconnected(session, _) => self.disconnected(session),
                    Parameter::MessageDelivered(session, _, publish) => {
                        self.left_the_queue(&session.id, publish)
                    }
                    Parameter::MessageDropped(Some(to), _, publish, reason) => {
                        self.dropped(to, publish, reason)
                    }
                    _ => {}
                }
                return (true, so_far);
            }
        };
        (false, Some(result))
    }
}
