//! When the footage of a stream will be overwritten, as it is told: what follows from an index's forecasts for
//! the horizon, rounded, and standing still for as long as nothing happens. Pure.
//!
//! Of a ring that is full, the oldest footage may go "at any moment", all the time. That is told as the
//! moment at which the horizon came to stand where it stands: what lies further ahead is then forecast early
//! by what the recorder deletes at once, at most, instead of late by it, and the forecast moves only when
//! the horizon does, which is told anyway.

use protocol::message::{BootMillis, Overwriting};
use sdcard_indexer::index::{Basis, Forecast};
use sdcard_indexer::time::Timestamp;

/// While the horizon stands still, a forecast is made so often: it looks at every segment.
const RENEW_EVERY_MS: u64 = 60_000;
/// The same where nothing could be said yet.
const TRY_EVERY_MS: u64 = 10_000;

/// Of a ring, and of a card once it is full: footage goes as fast as time does.
const AS_TIME_DOES: u32 = 1_000;

#[derive(Debug, Default)]
pub struct Outlook {
    horizon: Option<Timestamp>,
    renewed_at: Option<BootMillis>,
    /// When the horizon came to stand where it stands; `None` where deletions are not what the forecast
    /// rests on.
    moved_at: Option<Timestamp>,
    overwriting: Option<Overwriting>,
}

impl Outlook {
    /// What to tell of a stream with this horizon. `forecast` is asked for that of an instant where the last
    /// one is outdated.
    pub fn of(
        &mut self,
        now: BootMillis,
        horizon: Option<Timestamp>,
        forecast: impl FnOnce(Timestamp) -> Option<Forecast>,
    ) -> Option<Overwriting> {
        let moved = self.horizon != horizon;
        let holds_ms = if self.overwriting.is_some() { RENEW_EVERY_MS } else { TRY_EVERY_MS };
        let holds = |renewed_at: BootMillis| now.0.saturating_sub(renewed_at.0) < holds_ms;
        if moved || !self.renewed_at.is_some_and(holds) {
            self.horizon = horizon;
            self.renewed_at = Some(now);
            if moved {
                self.moved_at = None;
            }
            self.overwriting = horizon.and_then(forecast).map(|forecast| self.told(&forecast));
        }
        self.overwriting
    }

    fn told(&mut self, forecast: &Forecast) -> Overwriting {
        let (goes_at, ms_per_second) = match forecast.basis {
            Basis::Deletions(speed) => {
                let moved_at = *self.moved_at.get_or_insert(forecast.at);
                (moved_at, (speed.per_second() * 1_000.0) as u32)
            }
            Basis::FreeSpace { .. } => {
                self.moved_at = None;
                (forecast.at, AS_TIME_DOES)
            }
        };
        Overwriting {
            horizon_goes_at: whole_seconds(goes_at),
            horizon_ms_per_second: rounded(ms_per_second.max(1)),
        }
    }
}

fn whole_seconds(instant: Timestamp) -> Timestamp {
    Timestamp::from_nanos(
        instant.as_nanos().div_euclid(1_000_000_000).saturating_mul(1_000_000_000),
    )
}

/// To three digits.
fn rounded(number: u32) -> u32 {
    let mut step = 1;
    while number / step >= 1_000 {
        step *= 10;
    }
    number / step * step
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::message::ConnectionId;
    use sdcard_indexer::coverage::Coverage;
    use sdcard_indexer::identity::StreamId;
    use sdcard_indexer::index::{HorizonSpeed, StreamView};
    use sdcard_indexer::segment::Tier;
    use sdcard_indexer::time::TimeRange;

    use super::*;
    use crate::advertise::{Advertise, Standing, Views};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds as i64)
    }

    fn boot(seconds: u64) -> BootMillis {
        BootMillis(seconds * 1_000)
    }

    fn deletions(now: u64, footage_ms: u64) -> Forecast {
        let speed = HorizonSpeed {
            footage: Duration::from_millis(footage_ms),
            within: Duration::from_secs(1),
        };
        Forecast { at: at(now), basis: Basis::Deletions(speed) }
    }

    fn free_space(goes_at: u64) -> Forecast {
        let basis = Basis::FreeSpace { free_bytes: 1, bytes_per_second: 1.0 };
        Forecast { at: at(goes_at), basis }
    }

    fn told(goes_at: u64, horizon_ms_per_second: u32) -> Option<Overwriting> {
        Some(Overwriting { horizon_goes_at: at(goes_at), horizon_ms_per_second })
    }

    #[test]
    fn a_ring_tells_when_its_horizon_last_moved_and_how_fast_it_moves() {
        let mut outlook = Outlook::default();
        assert_eq!(
            outlook.of(boot(0), Some(at(1)), |_| Some(deletions(500, 1_004))),
            told(500, 1_000)
        );
        let unasked = |_| panic!("nothing has moved");
        assert_eq!(outlook.of(boot(59), Some(at(1)), unasked), told(500, 1_000));
        assert_eq!(
            outlook.of(boot(60), Some(at(1)), |_| Some(deletions(560, 900))),
            told(500, 900)
        );
        assert_eq!(
            outlook.of(boot(61), Some(at(61)), |_| Some(deletions(561, 900))),
            told(561, 900)
        );
    }

    #[test]
    fn a_card_that_fills_tells_when_it_will_be_full() {
        let mut outlook = Outlook::default();
        assert_eq!(
            outlook.of(boot(0), Some(at(1)), |_| Some(free_space(9_000))),
            told(9_000, 1_000)
        );
        assert_eq!(
            outlook.of(boot(60), Some(at(1)), |_| Some(free_space(9_030))),
            told(9_030, 1_000)
        );
        assert_eq!(
            outlook.of(boot(120), Some(at(1)), |_| Some(deletions(600, 500))),
            told(600, 500)
        );
    }

    #[test]
    fn nothing_is_told_where_nothing_is_held_or_nothing_can_be_said() {
        let mut outlook = Outlook::default();
        assert_eq!(outlook.of(boot(0), Some(at(1)), |_| None), None);
        assert_eq!(outlook.of(boot(9), Some(at(1)), |_| panic!("it is too early")), None);
        assert_eq!(outlook.of(boot(10), Some(at(1)), |_| Some(free_space(9))), told(9, 1_000));
        assert_eq!(outlook.of(boot(11), None, |_| panic!("there is no horizon")), None);
    }

    #[test]
    fn numbers_are_rounded_and_a_speed_is_never_zero() {
        for (number, expected) in [(1, 1), (999, 999), (1_234, 1_230), (98_765, 98_700)] {
            assert_eq!(rounded(number), expected);
        }
        assert_eq!(rounded(u32::MAX), 4_290_000_000);
        let forecast = Forecast { at: Timestamp::from_nanos(7_999_999_999), ..deletions(0, 0) };
        assert_eq!(Outlook::default().of(boot(0), Some(at(1)), |_| Some(forecast)), told(7, 1));
        let instant = deletions(3, u64::MAX);
        let told = Outlook::default().of(boot(0), Some(at(1)), |_| Some(instant)).unwrap();
        assert_eq!(told.horizon_ms_per_second, 4_290_000_000);
    }

    fn stream() -> StreamId {
        "main".parse().unwrap()
    }

    fn view(from: u64, to: u64) -> StreamView {
        let held = TimeRange::new(at(from), at(to)).unwrap();
        StreamView {
            present: true,
            held: held.into(),
            gone: Coverage::from(TimeRange::new(at(0), at(from)).unwrap()),
            horizon: Some(at(from)),
            final_until: at(to),
            tier: Tier::Extent,
            uncertain: Vec::new(),
        }
    }

    /// Reports in `seconds`, of a stream that shows `view` and of which `forecast` is forecast, if anything is;
    /// both by the second, and looked at every other one.
    fn reports(
        seconds: u64,
        view: impl Fn(u64) -> StreamView,
        forecast: Option<&dyn Fn(u64) -> Forecast>,
    ) -> usize {
        let (mut advertise, mut outlook) = (Advertise::default(), Outlook::default());
        advertise.connected(ConnectionId(1));
        let mut reports = 0;
        for second in (0..seconds).step_by(2) {
            let view = view(second);
            let forecast = |_| forecast.map(|forecast| forecast(second));
            let overwriting = outlook.of(boot(second), view.horizon, forecast);
            let views: Views = [(stream(), Standing { view, overwriting })].into_iter().collect();
            advertise.update(boot(second), &views);
            reports += std::iter::from_fn(|| advertise.next_report(boot(second))).count();
        }
        reports
    }

    #[test]
    fn a_ring_that_is_recorded_to_steadily_is_told_no_oftener_than_without_any_forecast() {
        // Its speed is measured now a little higher, now a little lower.
        let forecast = |second: u64| deletions(90_000 + second, 1_000 + second * 7 % 40);
        for (length, growth) in [(60, 1), (60, 60), (300, 1), (300, 300), (3_600, 3_600)] {
            let view =
                |second: u64| view(second / length * length, 90_000 + second / growth * growth);
            let without = reports(20_000, view, None);
            assert_eq!(reports(20_000, view, Some(&forecast)), without, "{length} {growth}");
        }
    }

    #[test]
    fn a_card_that_fills_steadily_is_told_no_oftener_than_without_any_forecast() {
        // Full in three days, but for how well the rate is known.
        let forecast = |second: u64| free_space(90_000 + 259_200 + second * 7_919 % 10_000);
        let view = |second: u64| view(0, 90_000 + second / 60 * 60);
        assert_eq!(reports(20_000, view, Some(&forecast)), reports(20_000, view, None));
    }

    #[test]
    fn a_recorder_that_has_stopped_is_told_of_less_and_less_often() {
        let day = 86_400;
        // The card has room for five minutes more, whenever that is asked.
        let room = |second: u64| free_space(90_000 + second + 300);
        let told = reports(3 * day, |_| view(0, 90_000), Some(&room));
        let later = told - reports(2 * day, |_| view(0, 90_000), Some(&room));
        assert!(told < 170 && later < 10, "{told} in three days, {later} in the last");
        // A ring that stands still: its speed fades.
        let fading = |second: u64| deletions(90_000 + second, 3_840_000 / (3_840 + second));
        let told = reports(3 * day, |_| view(0, 90_000), Some(&fading));
        assert!(told < 100, "{told}");
    }
}
