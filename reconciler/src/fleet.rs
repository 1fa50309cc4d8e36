//! The fleet: which devices are there, and what each says it holds.
//!
//! Pure. Presence follows PROTOCOL's rule that a word about an older connection is no word at all: a last
//! will can arrive after the device has long come back.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::time::Duration;

use protocol::message::{
    BootId, BootMillis, ClockSample, ConnectionId, CoverageReport, DeviceId, DeviceLimits, Network,
    Online, Overwriting, Presence,
};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::horizon::Horizon;
use crate::time::{MonotonicMicros, Now};

/// A device says that it is online every 60 s; one that misses two of them is taken for gone.
pub const SILENT_AFTER: Duration = Duration::from_secs(150);

/// The first `Online` that is heard of a connection may be a retained one, and older by as much as lies between
/// two of them; so is its clock sample then.
const OLDEST_RETAINED: Duration = Duration::from_secs(60);

/// What is taken of the label that a device gives its network.
pub const MOST_LINK_CHARACTERS: usize = 64;

/// Streams of one device; further ones are ignored.
pub const MOST_STREAMS: usize = 16;

/// One stream of one device: what a timeline is kept for.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct StreamKey {
    #[schema(value_type = crate::schema::Id)]
    pub device: DeviceId,
    #[schema(value_type = crate::schema::Id)]
    pub stream: StreamId,
}

impl StreamKey {
    /// In their order, what stands before every stream of a device.
    pub fn first_of(device: &DeviceId) -> StreamKey {
        let stream = "-".parse().expect("an id of the least character that ids may have");
        StreamKey { device: device.clone(), stream }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.device, self.stream)
    }
}

/// What a device says of one stream, as last heard.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holding {
    pub held: Coverage,
    /// Was on the card and is gone, by the device's own word.
    pub gone: Coverage,
    /// Was in an earlier report and is not in the newest: kept here, since a card forgets.
    pub once_held: Coverage,
    pub horizon: Option<Timestamp>,
    /// What is absent before this instant will not appear later.
    pub final_until: Timestamp,
    /// 0: `held` is guessed from names alone, while the card is still being read.
    pub tier: u8,
    pub uncertainty_ns: u64,
    /// When its oldest footage goes, by the device's own reckoning.
    #[serde(default)]
    pub overwriting: Option<Overwriting>,
}

impl Default for Holding {
    fn default() -> Self {
        Holding {
            held: Coverage::new(),
            gone: Coverage::new(),
            once_held: Coverage::new(),
            horizon: None,
            final_until: Timestamp::MIN,
            tier: 0,
            uncertainty_ns: 0,
            overwriting: None,
        }
    }
}

impl Holding {
    /// Applies a report: within its window the device holds exactly what it says.
    pub fn apply(&mut self, report: &CoverageReport) {
        let outside = |kept: &Coverage| kept.difference(&report.window.into());
        let held = outside(&self.held).union(&report.held);
        if self.is_certain() {
            self.once_held = self.once_held.union(&self.held);
        }
        self.once_held = self.once_held.difference(&held);
        self.gone = outside(&self.gone).union(&report.gone).difference(&held);
        self.held = held;
        self.horizon = report.horizon;
        self.final_until = report.final_until;
        self.tier = report.tier;
        self.uncertainty_ns = report.uncertainty_ns;
        self.overwriting = report.overwriting;
    }

    /// How what it holds will be overwritten, where the device could tell.
    pub fn moving_horizon(&self) -> Option<Horizon> {
        Some(Horizon::new(self.horizon?, self.overwriting?, &self.held))
    }

    /// Files were looked into: what is held is no guess.
    pub const fn is_certain(&self) -> bool {
        self.tier >= 1
    }

    /// The card is known to have dropped footage: it records in a ring, and the horizon moves.
    pub fn has_lost_footage(&self) -> bool {
        !self.gone.is_empty() || !self.once_held.is_empty()
    }
}

/// A device that is connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    pub connection: ConnectionId,
    pub boot: BootId,
    pub limits: DeviceLimits,
    /// Over what it reaches the broker; its label no longer than [`MOST_LINK_CHARACTERS`].
    pub network: Network,
    clock: ClockSample,
    /// When the clock sample arrived.
    sampled_at: MonotonicMicros,
    /// How old it may have been by then.
    sample_age: Duration,
    heard_at: MonotonicMicros,
}

impl Session {
    /// An instant on the device's never-stepping clock, at least `ahead` from now.
    pub fn expiry(&self, now: MonotonicMicros, ahead: Duration) -> BootMillis {
        let since = now.since(self.sampled_at).saturating_add(self.sample_age);
        let since = since.saturating_add(ahead);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        BootMillis(self.clock.boottime.0.saturating_add(millis))
    }

    /// When it last said what its clocks show, upon which it is told the time.
    pub fn told_at(&self) -> MonotonicMicros {
        self.sampled_at
    }

    /// What the device's clocks showed when it last said so.
    pub fn clock(&self) -> ClockSample {
        self.clock
    }
}

/// What has changed, for whoever acts on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A new connection: everything asked of the old one is void, and its coverage is on the way.
    CameOnline(DeviceId),
    /// The same connection, heard of once more: its clock is known anew.
    StillOnline(DeviceId),
    WentOffline(DeviceId),
    Holding(StreamKey),
    /// A report was missed: ask for all of it again.
    CoverageLost(DeviceId),
}

#[derive(Debug, Default)]
struct Device {
    session: Option<Session>,
    agent_version: String,
    last_heard: Option<Timestamp>,
    streams: BTreeMap<StreamId, Reported>,
}

#[derive(Debug, Default)]
struct Reported {
    holding: Holding,
    /// Connection and generation of the newest report: none since the server started where absent.
    newest: Option<(ConnectionId, u64)>,
}

/// Everything that devices have said. Devices are capped by whoever admits them.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: BTreeMap<DeviceId, Device>,
}

impl Fleet {
    /// What was known before a restart. Nothing of it counts as heard on a connection.
    pub fn remember(&mut self, key: &StreamKey, holding: Holding) {
        let device = self.devices.entry(key.device.clone()).or_default();
        device.streams.insert(key.stream.clone(), Reported { holding, newest: None });
    }

    /// When and as what a device was last heard, before a restart.
    pub fn recall(&mut self, id: &DeviceId, agent_version: String, heard: Option<Timestamp>) {
        let device = self.devices.entry(id.clone()).or_default();
        device.agent_version = agent_version;
        device.last_heard = heard;
    }

    /// A device that may not have spoken yet.
    pub fn know(&mut self, device: &DeviceId) {
        self.devices.entry(device.clone()).or_default();
    }

    pub fn knows(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    pub fn devices(&self) -> impl ExactSizeIterator<Item = &DeviceId> {
        self.devices.keys()
    }

    /// In their order, those behind one.
    pub fn devices_after(&self, after: Option<&DeviceId>) -> impl Iterator<Item = &DeviceId> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.devices.range::<DeviceId, _>((after, Bound::Unbounded)).map(|(device, _)| device)
    }

    pub fn session(&self, device: &DeviceId) -> Option<&Session> {
        self.devices.get(device)?.session.as_ref()
    }

    pub fn agent_version(&self, device: &DeviceId) -> &str {
        self.devices.get(device).map_or("", |device| &device.agent_version)
    }

    pub fn last_heard(&self, device: &DeviceId) -> Option<Timestamp> {
        self.devices.get(device)?.last_heard
    }

    pub fn holding(&self, key: &StreamKey) -> Option<&Holding> {
        self.devices.get(&key.device)?.streams.get(&key.stream).map(|reported| &reported.holding)
    }

    /// What the device holds by a report of its present connection: the only word to act on.
    pub fn fresh_holding(&self, key: &StreamKey) -> Option<&Holding> {
        let device = self.devices.get(&key.device)?;
        let session = device.session.as_ref()?;
        let reported = device.streams.get(&key.stream)?;
        let (connection, _) = reported.newest?;
        (connection == session.connection).then_some(&reported.holding)
    }

    pub fn presence(&mut self, id: &DeviceId, presence: Presence, now: Now) -> Option<Change> {
        let device = self.devices.entry(id.clone()).or_default();
        device.last_heard = Some(now.wall);
        match presence {
            Presence::Online(online) => {
                let is_new = device.online(online, now.monotonic);
                let change = if is_new { Change::CameOnline } else { Change::StillOnline };
                Some(change(id.clone()))
            }
            Presence::Offline { connection } => {
                let current = device.session.as_ref().is_some_and(|s| s.connection == connection);
                current.then(|| {
                    device.session = None;
                    Change::WentOffline(id.clone())
                })
            }
        }
    }

    pub fn coverage(&mut self, id: &DeviceId, report: &CoverageReport, now: Now) -> Vec<Change> {
        let Some(device) = self.devices.get_mut(id) else { return Vec::new() };
        let Some(session) = &mut device.session else { return Vec::new() };
        if session.connection != report.connection {
            return Vec::new();
        }
        session.heard_at = now.monotonic;
        device.last_heard = Some(now.wall);
        let Some(reported) = device.streams.get_mut(&report.stream) else { return Vec::new() };
        // A report from the beginning of time starts the count; any other must follow the one before it.
        let follows = match reported.newest {
            Some((connection, newest)) if connection == report.connection => {
                report.generation <= newest.saturating_add(1)
            }
            _ => false,
        };
        if !follows && report.window.start() != Timestamp::MIN {
            // Nothing of the stream is fresh until all of it has been told again.
            reported.newest = None;
            return vec![Change::CoverageLost(id.clone())];
        }
        reported.newest = Some((report.connection, report.generation));
        reported.holding.apply(report);
        vec![Change::Holding(StreamKey { device: id.clone(), stream: report.stream.clone() })]
    }

    /// Devices that fell silent without a last will.
    pub fn tick(&mut self, now: MonotonicMicros) -> Vec<Change> {
        let silent = |device: &Device| {
            device.session.as_ref().is_some_and(|s| now.since(s.heard_at) > SILENT_AFTER)
        };
        self.devices
            .iter_mut()
            .filter(|(_, device)| silent(device))
            .map(|(id, device)| {
                device.session = None;
                Change::WentOffline(id.clone())
            })
            .collect()
    }

    /// The connection to the broker is gone, and with it every word about who is there.
    pub fn forget_sessions(&mut self) -> Vec<Change> {
        self.devices
            .iter_mut()
            .filter_map(|(id, device)| {
                device.session.take().map(|_| Change::WentOffline(id.clone()))
            })
            .collect()
    }
}

impl Device {
    /// True where this is a new connection.
    fn online(&mut self, online: Online, now: MonotonicMicros) -> bool {
        let known = self.session.as_ref().filter(|s| s.connection == online.connection);
        let is_new = known.is_none();
        let (clock, sampled_at, sample_age) = match known {
            None => (online.clock, now, OLDEST_RETAINED),
            // Later than the first that was heard: it has come as it was said.
            Some(known) if online.clock.boottime > known.clock.boottime => {
                (online.clock, now, Duration::ZERO)
            }
            Some(known) => (known.clock, known.sampled_at, known.sample_age),
        };
        self.agent_version = online.agent_version;
        self.session = Some(Session {
            connection: online.connection,
            boot: online.boot,
            limits: online.limits,
            network: Network {
                link: online.network.link.chars().take(MOST_LINK_CHARACTERS).collect(),
                address: online.network.address,
            },
            clock,
            sampled_at,
            sample_age,
            heard_at: now,
        });
        for stream in online.streams.into_iter().take(MOST_STREAMS) {
            self.streams.entry(stream).or_default();
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use sdcard_indexer::time::TimeRange;

    use super::*;
    use crate::examples::{at, camera, key, now, seconds};

    fn online(connection: u64) -> Presence {
        Presence::Online(Online {
            connection: ConnectionId(connection),
            boot: BootId([7; 16]),
            agent_version: "0.1.0".into(),
            limits: DeviceLimits {
                max_chunk_bytes: 65_536,
                max_open_transfers: 4,
                max_bytes_per_second: 0,
            },
            clock: ClockSample { realtime: at(1_000), boottime: BootMillis(5_000) },
            streams: vec!["main".parse().unwrap()],
            network: Network::default(),
        })
    }

    fn report(
        connection: u64,
        generation: u64,
        window: TimeRange,
        held: TimeRange,
    ) -> CoverageReport {
        CoverageReport {
            connection: ConnectionId(connection),
            stream: "main".parse().unwrap(),
            generation,
            window,
            held: held.into(),
            gone: Coverage::new(),
            horizon: Some(held.start()),
            final_until: held.end(),
            tier: 1,
            uncertainty_ns: 0,
            overwriting: None,
        }
    }

    fn always() -> TimeRange {
        TimeRange::new(Timestamp::MIN, Timestamp::MAX).unwrap()
    }

    #[test]
    fn the_last_will_of_an_older_connection_is_ignored() {
        let mut fleet = Fleet::default();
        fleet.presence(&camera(), online(1), now(0));
        assert_eq!(
            fleet.presence(&camera(), online(2), now(1)),
            Some(Change::CameOnline(camera()))
        );
        let old_will = Presence::Offline { connection: ConnectionId(1) };
        assert_eq!(fleet.presence(&camera(), old_will, now(2)), None);
        assert!(fleet.session(&camera()).is_some());
    }

    #[test]
    fn a_repeated_online_is_not_a_new_connection() {
        let mut fleet = Fleet::default();
        assert!(fleet.presence(&camera(), online(1), now(0)).is_some());
        let still = Some(Change::StillOnline(camera()));
        assert_eq!(fleet.presence(&camera(), online(1), now(2)), still);
    }

    #[test]
    fn a_report_of_a_window_replaces_only_that_window() {
        let mut fleet = Fleet::default();
        fleet.presence(&camera(), online(1), now(0));
        fleet.coverage(&camera(), &report(1, 0, always(), seconds(0, 100)), now(1));
        fleet.coverage(&camera(), &report(1, 1, seconds(90, 200), seconds(95, 150)), now(2));
        let holding = fleet.fresh_holding(&key()).unwrap();
        assert_eq!(holding.held, [seconds(0, 90), seconds(95, 150)].into_iter().collect());
        assert_eq!(holding.once_held, seconds(90, 95).into());
    }

    #[test]
    fn what_was_only_guessed_from_names_was_never_held() {
        let mut holding = Holding::default();
        let guess = CoverageReport { tier: 0, ..report(1, 0, always(), seconds(0, 100)) };
        holding.apply(&guess);
        holding.apply(&report(1, 1, always(), seconds(0, 60)));
        assert!(holding.once_held.is_empty());
        holding.apply(&report(1, 2, always(), seconds(50, 60)));
        assert_eq!(holding.once_held, seconds(0, 50).into());
    }

    #[test]
    fn a_missed_report_is_noticed_and_nothing_is_believed_of_a_part() {
        let mut fleet = Fleet::default();
        fleet.presence(&camera(), online(1), now(0));
        let lost = [Change::CoverageLost(camera())];
        let late = report(1, 3, seconds(90, 200), seconds(95, 150));
        assert_eq!(fleet.coverage(&camera(), &late, now(1)), lost);
        assert!(fleet.fresh_holding(&key()).is_none());
        fleet.coverage(&camera(), &report(1, 4, always(), seconds(0, 100)), now(2));
        assert!(fleet.fresh_holding(&key()).is_some());
        let jump = report(1, 6, seconds(90, 200), seconds(95, 150));
        assert_eq!(fleet.coverage(&camera(), &jump, now(3)), lost);
        assert!(fleet.fresh_holding(&key()).is_none());
    }

    #[test]
    fn an_expiry_is_not_over_though_the_clock_was_told_by_a_retained_message() {
        let boottime = |millis: u64| match online(1) {
            Presence::Online(online) => Presence::Online(Online {
                clock: ClockSample { boottime: BootMillis(millis), ..online.clock },
                ..online
            }),
            offline => offline,
        };
        let mut fleet = Fleet::default();
        let ahead = Duration::from_secs(10);
        // Said 50 s before it is heard: the device's own clock shows 55,000 by now.
        fleet.presence(&camera(), boottime(5_000), now(100));
        let expiry = |fleet: &Fleet, at| {
            fleet.session(&camera()).map(|s| s.expiry(now(at).monotonic, ahead).0)
        };
        assert!(expiry(&fleet, 100) >= Some(65_000));
        // The same message once more tells nothing new, a later one all.
        fleet.presence(&camera(), boottime(5_000), now(105));
        assert!(expiry(&fleet, 105) >= Some(70_000));
        let still = Some(Change::StillOnline(camera()));
        assert_eq!(fleet.presence(&camera(), boottime(65_000), now(110)), still);
        assert_eq!(expiry(&fleet, 110), Some(75_000));
    }

    #[test]
    fn what_was_known_before_a_restart_is_remembered_but_not_fresh() {
        let mut fleet = Fleet::default();
        fleet.remember(&key(), Holding { held: seconds(0, 10).into(), ..Holding::default() });
        fleet.presence(&camera(), online(1), now(0));
        assert!(fleet.holding(&key()).is_some());
        assert!(fleet.fresh_holding(&key()).is_none());
    }

    #[test]
    fn the_streams_of_a_device_follow_on_the_first_that_there_could_be() {
        let of = |device: &str, stream: &str| StreamKey {
            device: device.parse().unwrap(),
            stream: stream.parse().unwrap(),
        };
        let first = StreamKey::first_of(&"b".parse().unwrap());
        for stream in ["-", "--", "0", "A", "_", "a"] {
            assert!(first <= of("b", stream), "{stream}");
        }
        assert!(of("a", "zz") < first && of("b-", "-") > first);
    }

    #[test]
    fn a_silent_device_goes_offline() {
        let mut fleet = Fleet::default();
        fleet.presence(&camera(), online(1), now(0));
        assert_eq!(fleet.tick(now(149).monotonic), []);
        assert_eq!(fleet.tick(now(151).monotonic), [Change::WentOffline(camera())]);
        assert_eq!(fleet.tick(now(152).monotonic), []);
    }
}
