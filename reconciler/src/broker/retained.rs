//! The retained messages: each device's latest `state`, in memory.
//!
//! It must never keep any other topic, nor more devices than [`MOST_STATES`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rmqtt::retain::{DefaultRetainStorage, RetainStorage};
use rmqtt::types::{Retain, TopicFilter, TopicName};

use super::access;
use super::guard::Counters;

/// A bound against made-up device names; far above any installation one machine can record.
const MOST_STATES: isize = 4096;

/// rmqtt's own tree of topics; its `set` and `get` do nothing, so they are given here.
pub(super) struct RetainedStates {
    tree: DefaultRetainStorage,
    counters: Arc<Counters>,
}

impl RetainedStates {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { tree: DefaultRetainStorage::new(), counters }
    }
}

#[async_trait::async_trait]
impl RetainStorage for RetainedStates {
    fn enable(&self) -> bool {
        true
    }

    async fn set(
        &self,
        topic: &TopicName,
        retain: Retain,
        _: Option<Duration>,
    ) -> rmqtt::Result<()> {
        let full = self.tree.count().await >= MOST_STATES && !retain.publish.payload.is_empty();
        if !access::is_state(topic) || (full && self.tree.get_message(topic).await?.is_empty()) {
            self.counters.not_retained.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.tree.set_with_timeout(topic, retain, None).await
    }

    async fn get(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        self.tree.get_message(filter).await
    }

    async fn count(&self) -> isize {
        self.tree.count().await
    }

    async fn max(&self) -> isize {
        self.tree.max().await
    }
}
