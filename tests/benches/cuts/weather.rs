//! A link that keeps going away, by the clock.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use tests::link::{Cut, Direction, Link};

/// Far above what any of the rivals takes.
const LONGEST: Duration = Duration::from_secs(3600);

/// There for `up`, away for `down`, and so on.
#[derive(Debug)]
pub struct Weather {
    pub up: Duration,
    pub down: Duration,
    pub cut: Cut,
}

/// What some work over such a link took.
#[derive(Debug)]
pub struct Ran {
    pub took: Duration,
    /// Of it, while the link was there.
    pub up: Duration,
    pub cuts: u32,
    /// Put on the line from the device.
    pub sent_bytes: u64,
}

impl Weather {
    /// Does `work` in this weather, which begins with the link there.
    pub async fn over(
        &self,
        link: &Link,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Ran> {
        let mut work = pin!(work);
        let (began, sent) = (Instant::now(), link.sent_bytes(Direction::ToServer));
        let (mut up, mut cuts) = (Duration::ZERO, 0);
        while began.elapsed() < LONGEST {
            let there = Instant::now();
            let done = tokio::time::timeout(self.up, &mut work).await;
            up += there.elapsed();
            if let Ok(done) = done {
                done?;
                let sent_bytes = link.sent_bytes(Direction::ToServer) - sent;
                return Ok(Ran { took: began.elapsed(), up, cuts, sent_bytes });
            }
            link.cut(self.cut);
            cuts += 1;
            let away = tokio::time::timeout(self.down, &mut work).await;
            link.restore();
            if let Ok(done) = away {
                done?;
                let sent_bytes = link.sent_bytes(Direction::ToServer) - sent;
                return Ok(Ran { took: began.elapsed(), up, cuts, sent_bytes });
            }
        }
        anyhow::bail!("it was not done within {LONGEST:?}")
    }
}
