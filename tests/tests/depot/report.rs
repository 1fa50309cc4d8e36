//! What `gapless runs --json` says of a run.

use serde::Deserialize;
use tests::depot::Depot;

#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    pub id: String,
    pub state: String,
    pub devices: Vec<Device>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    pub device: String,
    pub seen: Option<String>,
    pub parts: u64,
    pub bytes: u64,
    pub left: Vec<Left>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Left {
    pub seconds: f64,
    pub why: String,
}

impl Run {
    pub fn device(&self, name: &str) -> &Device {
        let found = self.devices.iter().find(|device| device.device == name);
        found.unwrap_or_else(|| panic!("{name} is not in {self:#?}"))
    }

    pub fn is_open(&self) -> bool {
        self.state == "open"
    }
}

/// All of them, the first one first.
pub async fn runs(depot: &Depot) -> Vec<Run> {
    let mut runs: Vec<Run> = depot.json(&["runs"]).await.unwrap();
    runs.reverse();
    runs
}
