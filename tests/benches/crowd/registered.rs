//! How far the server has come with a fleet, by its own ledger.

use std::path::Path;
use std::time::{Duration, Instant};

use reconciler::fleet::StreamKey;
use reconciler::ledger::{Ledger, SqliteLedger};
use tokio::time::sleep;

use super::devices::{Device, stream};

const POLL: Duration = Duration::from_millis(50);
/// If nothing new has come for so long, nothing will.
const GIVE_UP: Duration = Duration::from_secs(45);

/// When the last of them had come, since the first message, and how many have not.
#[derive(Debug)]
pub struct Progress {
    pub last: Duration,
    pub missing: usize,
}

#[derive(Debug)]
pub struct Registered {
    pub held: Progress,
    pub judged: Progress,
}

impl Registered {
    /// Returns once all devices are known and have a timeline, or nothing changes any more.
    pub async fn follow(ledger: &Path, count: usize, began: Instant) -> anyhow::Result<Registered> {
        let ledger = SqliteLedger::open_read_only(ledger).await?;
        let keys: Vec<StreamKey> = (0..count)
            .map(|number| StreamKey { device: Device::new(number, 0).id, stream: stream() })
            .collect();
        let held = until(&keys, began, async |key| Ok(ledger.holding(key).await?.is_some()));
        let judged = until(&keys, began, async |key| Ok(ledger.timeline(key).await?.is_some()));
        let (held, judged) = tokio::try_join!(held, judged)?;
        Ok(Registered { held, judged })
    }
}

/// Asks about those that are left, and stops at the first few that have not come.
async fn until(
    keys: &[StreamKey],
    began: Instant,
    has_come: impl AsyncFn(&StreamKey) -> anyhow::Result<bool>,
) -> anyhow::Result<Progress> {
    const LOOK_AHEAD: usize = 32;
    let mut left: Vec<&StreamKey> = keys.iter().collect();
    let mut last = began.elapsed();
    while !left.is_empty() && (began.elapsed() - last) < GIVE_UP {
        let (mut still, mut looked) = (Vec::new(), 0);
        for key in &left {
            if still.len() >= LOOK_AHEAD {
                break;
            }
            looked += 1;
            if !has_come(key).await? {
                still.push(*key);
            }
        }
        if still.len() < looked {
            last = began.elapsed();
        }
        // Those that were not there go to the end: one that never comes must not hide the others.
        left.rotate_left(looked);
        left.truncate(left.len() - looked);
        left.extend(still);
        sleep(if looked > LOOK_AHEAD { Duration::ZERO } else { POLL }).await;
    }
    Ok(Progress { last, missing: left.len() })
}
