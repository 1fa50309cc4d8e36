//! What the server is told of the card's coverage, and when.
//!
//! Pure: it takes views of the index and a `now`, and hands out reports one by one, when asked for one.
//! For each stream it keeps the windows of time in which the server may know something else than the
//! view: all of time after connecting, and then what changed. A report takes the first of them.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::message::{BootMillis, ConnectionId, CoverageReport, Overwriting};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::index::StreamView;
use sdcard_indexer::time::{TimeRange, Timestamp};

/// A change waits so long for a further one.
const DEBOUNCE_MS: u64 = 500;
/// Under constant change a stream is reported so often.
const CHANGE_EVERY_MS: u64 = 2_000;
/// What moves at the edges alone, as the horizon or `final_until`, is reported so often.
const EDGES_EVERY_MS: u64 = 10_000;
/// Ranges in one report, which is then about 40 KB.
const MAX_RANGES: usize = 2_000;
/// Windows kept apart; more are reported as one.
const MAX_WINDOWS: usize = 16;

/// What is overwritten when is told anew once it has moved so far: by the larger of these, of what is ahead.
const OVERWRITING_MOVED: Duration = Duration::from_secs(60);
const OVERWRITING_MOVED_PERCENT: u32 = 5;

/// What is told of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub view: StreamView,
    pub overwriting: Option<Overwriting>,
}

/// All that is told of the card: how each of its streams stands.
pub type Views = BTreeMap<StreamId, Standing>;

#[derive(Debug, Default)]
pub struct Advertise {
    connection: Option<ConnectionId>,
    streams: BTreeMap<StreamId, Stream>,
}

impl Advertise {
    /// The server knows nothing of this connection yet: all is reported.
    pub fn connected(&mut self, connection: ConnectionId) {
        self.connection = Some(connection);
        for stream in self.streams.values_mut() {
            stream.generation = 0;
            stream.report_all();
        }
    }

    pub fn link_lost(&mut self) {
        self.connection = None;
    }

    /// The server asked for all.
    pub fn report_all(&mut self) {
        self.streams.values_mut().for_each(Stream::report_all);
    }

    pub fn update(&mut self, now: BootMillis, views: &Views) {
        for (id, standing) in views {
            match self.streams.get_mut(id) {
                Some(stream) => stream.update(now, standing),
                None => {
                    self.streams.insert(id.clone(), Stream::new(standing.clone()));
                }
            }
        }
    }

    /// The next report that is due, if any. Ask again until there is none.
    pub fn next_report(&mut self, now: BootMillis) -> Option<CoverageReport> {
        let connection = self.connection?;
        let (id, stream) = self.streams.iter_mut().find(|(_, stream)| stream.is_due(now))?;
        Some(stream.report(now, connection, id.clone()))
    }

    /// When a report is due at the latest; `None` while nothing changed, or nobody listens.
    pub fn deadline(&self) -> Option<BootMillis> {
        self.connection?;
        self.streams.values().filter_map(Stream::due_at).min()
    }
}

#[derive(Debug)]
struct Stream {
    view: StreamView,
    overwriting: Option<Overwriting>,
    /// As the last report said.
    told_overwriting: Option<Overwriting>,
    generation: u64,
    /// Where the server may know something else than the view says.
    unsent: Coverage,
    /// The unsent windows are due, whatever the clock says: they were asked for, or are being sent.
    urgent: bool,
    first_change: Option<BootMillis>,
    last_change: BootMillis,
    edges_moved: bool,
    /// `None` before the first report of a connection.
    sent_at: Option<BootMillis>,
}

impl Stream {
    fn new(standing: Standing) -> Self {
        let Standing { view, overwriting } = standing;
        Stream {
            view,
            overwriting,
            told_overwriting: None,
            generation: 0,
            unsent: all_of_time().into(),
            urgent: true,
            first_change: None,
            last_change: BootMillis(0),
            edges_moved: false,
            sent_at: None,
        }
    }

    fn report_all(&mut self) {
        self.unsent = all_of_time().into();
        self.urgent = true;
    }

    fn update(&mut self, now: BootMillis, standing: &Standing) {
        let Standing { view, overwriting } = standing;
        let changed = changed_windows(&self.view.held, &view.held)
            .union(&changed_windows(&self.view.gone, &view.gone));
        if !changed.is_empty() {
            self.first_change.get_or_insert(now);
            self.last_change = now;
            self.unsent = self.unsent.union(&changed);
            if let (true, Some(hull)) =
                (self.unsent.ranges().len() > MAX_WINDOWS, self.unsent.hull())
            {
                self.unsent = hull.into();
            }
        }
        let overwriting_moved = match (&self.told_overwriting, overwriting) {
            (Some(told), Some(new)) => has_moved(told, new, view),
            (told, new) => told != new,
        };
        self.edges_moved |= edges(&self.view) != edges(view) || overwriting_moved;
        self.view = view.clone();
        self.overwriting = *overwriting;
    }

    fn due_at(&self) -> Option<BootMillis> {
        if self.urgent {
            return Some(BootMillis(0));
        }
        let since_sent = |ms| BootMillis(self.sent_at.map_or(0, |sent| sent.0.saturating_add(ms)));
        let change = self.first_change.map(|first| {
            let settled = self.last_change.0.saturating_add(DEBOUNCE_MS);
            let patience = first.0.saturating_add(CHANGE_EVERY_MS);
            BootMillis(settled.min(patience)).max(since_sent(CHANGE_EVERY_MS))
        });
        let edges = self.edges_moved.then(|| since_sent(EDGES_EVERY_MS));
        change.into_iter().chain(edges).min()
    }

    fn is_due(&self, now: BootMillis) -> bool {
        self.due_at().is_some_and(|due| due <= now)
    }

    fn report(
        &mut self,
        now: BootMillis,
        connection: ConnectionId,
        id: StreamId,
    ) -> CoverageReport {
        let view = &self.view;
        let window = match self.unsent.ranges().first() {
            Some(first) => leading_page(*first, view),
            // Nothing but the edges moved: an empty window says nothing of what is held.
            None => TimeRange::starting_at(view.final_until, Duration::ZERO),
        };
        self.unsent.remove(window);
        let unsent_from = self.unsent.hull().map(|hull| hull.start());
        let uncertainty = match window.is_empty() {
            true => view.uncertainty(),
            false => view.uncertainty_in(window),
        };
        let report = CoverageReport {
            connection,
            stream: id,
            generation: self.generation,
            window,
            held: view.held.clip(window),
            gone: view.gone.clip(window),
            horizon: view.horizon,
            // What the server was not told yet must not look absent for good to it.
            final_until: unsent_from.map_or(view.final_until, |from| from.min(view.final_until)),
            tier: view.tier as u8,
            uncertainty_ns: u64::try_from(uncertainty.as_nanos()).unwrap_or(u64::MAX),
            overwriting: self.overwriting,
        };
        self.told_overwriting = self.overwriting;
        self.generation += 1;
        self.urgent = !self.unsent.is_empty();
        self.edges_moved = false;
        self.first_change = None;
        self.sent_at = Some(now);
        report
    }
}

fn all_of_time() -> TimeRange {
    TimeRange::new(Timestamp::MIN, Timestamp::MAX).expect("MIN lies before MAX")
}

fn changed_windows(before: &Coverage, after: &Coverage) -> Coverage {
    before.difference(after).union(&after.difference(before))
}

fn edges(view: &StreamView) -> impl PartialEq + use<> {
    (view.horizon, view.final_until, view.tier, view.uncertainty())
}

/// Far enough to be told for that alone: the further ahead something is, the less exact it can be known.
fn has_moved(told: &Overwriting, new: &Overwriting, view: &StreamView) -> bool {
    let (before, after) = (told.horizon_ms_per_second, new.horizon_ms_per_second);
    let speed_moved = u64::from(before.abs_diff(after)) * 100
        > u64::from(before) * u64::from(OVERWRITING_MOVED_PERCENT);
    let newest = view.held.hull().map_or(new.horizon_goes_at, |hull| hull.end());
    let ahead = new.horizon_goes_at.since(newest);
    let allowed = (ahead * OVERWRITING_MOVED_PERCENT / 100).max(OVERWRITING_MOVED);
    speed_moved || told.horizon_goes_at.distance(new.horizon_goes_at) > allowed
}

/// As much of `window`, from its start, as one report carries.
fn leading_page(window: TimeRange, view: &StreamView) -> TimeRange {
    let starts = |coverage: &Coverage| {
        let clipped = coverage.clip(window);
        clipped.iter().take(MAX_RANGES + 1).map(|range| range.start()).collect::<Vec<_>>()
    };
    let mut starts = [starts(&view.held), starts(&view.gone)].concat();
    starts.sort_unstable();
    // Every range before the first one that is too many starts before it: a cut there fits.
    let cut = starts.get(MAX_RANGES).copied().filter(|cut| *cut > window.start());
    cut.and_then(|cut| TimeRange::new(window.start(), cut)).unwrap_or(window)
}

#[cfg(test)]
mod tests;
