//! Whether the work goes on: what a supervisor's watchdog is fed by.
//!
//! The agent's task and the card's thread each say so whenever they go round, which both do though nothing is to
//! be done. Only where both have is a supervisor to hear of it. So what it finds out is a card that lets go of
//! nobody, or a wait that never ends; no link is nothing of the kind: trying to connect is work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The task goes round at least so often, the card's thread much oftener. A watchdog that bites is to have four
/// times as much patience; what one look at a large, slow card takes comes on top.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);

/// One of these is listened to by one supervisor.
#[derive(Debug, Default)]
pub struct Heartbeat {
    task: AtomicBool,
    card: AtomicBool,
}

impl Heartbeat {
    pub(crate) fn task_goes_on(&self) {
        self.task.store(true, Ordering::Relaxed);
    }

    pub(crate) fn card_goes_on(&self) {
        self.card.store(true, Ordering::Relaxed);
    }

    /// True where both have gone round since it last was.
    pub fn went_on(&self) -> bool {
        let both = self.task.load(Ordering::Relaxed) && self.card.load(Ordering::Relaxed);
        if both {
            self.task.store(false, Ordering::Relaxed);
            self.card.store(false, Ordering::Relaxed);
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use sdcard_indexer::recordings::{Listed, OpenRecording, Recordings};

    use crate::{Config, Stores, Vitals};

    use super::*;

    /// Far above what any wait takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A medium that lets go of nobody while the gate is shut.
    #[derive(Clone, Debug, Default)]
    struct Hanging {
        shut: Arc<AtomicBool>,
        hangs: Arc<AtomicBool>,
    }

    impl Recordings for Hanging {
        fn is_there(&self) -> bool {
            while self.shut.load(Ordering::SeqCst) {
                self.hangs.store(true, Ordering::SeqCst);
                std::thread::yield_now();
            }
            true
        }

        fn list(&self, _: &Path, _: &mut dyn FnMut(Listed)) {}

        fn open(&self, _: &Path) -> io::Result<Box<dyn OpenRecording>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// Nobody listens at its broker's.
    fn config(card: &Path) -> Config {
        let text = format!(
            "device = \"cam-7\"\nbroker.url = \"mqtt://127.0.0.1:9\"\n\
             [card]\nroot = {card:?}\nrequire_mount = false\n\
             [[stream]]\nid = \"main\"\npath = \"\"\nlayout = \"mediamtx\"\ntime_zone = \"UTC\"\n"
        );
        toml::from_str(&text).unwrap()
    }

    async fn until(what: &str, mut reached: impl FnMut() -> bool) {
        let polled = async {
            let mut poll = tokio::time::interval(Duration::from_millis(5));
            while !reached() {
                poll.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, polled).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    #[tokio::test]
    async fn it_is_heard_without_a_link_and_not_while_the_card_hangs() {
        let card = tempfile::tempdir().unwrap();
        let medium = Hanging::default();
        let of_stream = medium.clone();
        let stores: Stores = Box::new(move |_| Some(Box::new(of_stream.clone())));
        let vitals = Vitals::default();
        let heartbeat = vitals.heartbeat.clone();
        let agent = crate::run_with(config(card.path()), stores, std::future::pending(), &vitals);
        let watching = async {
            for _ in 0..3 {
                until("it goes on", || heartbeat.went_on()).await;
            }
            medium.shut.store(true, Ordering::SeqCst);
            until("the card hangs", || medium.hangs.load(Ordering::SeqCst)).await;
            // What was said before.
            heartbeat.card.store(false, Ordering::Relaxed);
            for _ in 0..3 {
                heartbeat.task.store(false, Ordering::Relaxed);
                until("the task goes on", || heartbeat.task.load(Ordering::Relaxed)).await;
                assert!(!heartbeat.went_on(), "the card hangs");
            }
            medium.shut.store(false, Ordering::SeqCst);
            until("it goes on again", || heartbeat.went_on()).await;
        };
        tokio::select! {
            ended = agent => panic!("{ended:?}"),
            () = watching => {}
        }
    }

    #[test]
    fn one_half_alone_is_not_heard() {
        let heartbeat = Heartbeat::default();
        assert!(!heartbeat.went_on());
        heartbeat.task_goes_on();
        assert!(!heartbeat.went_on());
        heartbeat.card_goes_on();
        assert!(heartbeat.went_on());
        heartbeat.card_goes_on();
        assert!(!heartbeat.went_on(), "the task has not gone round since");
        heartbeat.task_goes_on();
        assert!(heartbeat.went_on());
    }
}
