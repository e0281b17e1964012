//! Writes down what somebody did, also where the ledger can't take it at once: what has happened is in the log in the end.

use std::{sync::Arc, time::Duration};

use haul_commerce::audit::{Audit, Entry};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

/// Entries that wait for the ledger; of more, only the server's own log knows.
const MAX_LATE: usize = 10_000;
/// Entries that are tried again at once.
const TOGETHER: usize = 500;
/// How long the ledger is left alone after it did not take them.
const RETRY: Duration = Duration::from_secs(1);

/// Takes entries of the audit log.
pub(crate) struct Clerk {
    log: Arc<dyn Audit>,
    late: mpsc::Sender<Entry>,
    /// How many wait for the ledger.
    waiting: Arc<watch::Sender<usize>>,
    lost: Counter,
}

impl Clerk {
    /// Starts to try again what was not taken at once, too.
    pub(crate) fn start(log: Arc<dyn Audit>) -> Self {
        let (late, arrived) = mpsc::channel(MAX_LATE);
        let waiting = Arc::new(watch::Sender::new(0));
        tokio::spawn(write_late(log.clone(), arrived, waiting.clone()));
        Self { log, late, waiting, lost: Counter::default() }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "haul_audit_entries_lost",
            "Entries of the audit log that only the server's own log has",
            self.lost.clone(),
        );
    }

    /// Written when this returns, or else tried again until it is.
    pub(crate) async fn write(&self, entry: Entry) {
        let Err(error) = self.log.record(std::slice::from_ref(&entry)).await else { return };
        self.waiting.send_modify(|waiting| *waiting += 1);
        if let Err(refused) = self.late.try_send(entry) {
            self.waiting.send_modify(|waiting| *waiting -= 1);
            self.lost.inc();
            let entry = refused.into_inner();
            tracing::error!(%error, ?entry, "an entry of the audit log was not written, nor will it be");
        }
    }

    /// Waits until nothing waits.
    pub(crate) async fn written(&self) {
        // Fails only where the sender is gone, which is ours.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting == 0).await;
    }
}

async fn write_late(
    log: Arc<dyn Audit>,
    mut arrived: mpsc::Receiver<Entry>,
    waiting: Arc<watch::Sender<usize>>,
) {
    let mut late = Vec::new();
    while arrived.recv_many(&mut late, TOGETHER).await > 0 {
        while let Err(error) = log.record(&late).await {
            tracing::warn!(%error, entries = late.len(), "entries of the audit log wait for the ledger");
            sleep(RETRY).await;
        }
        waiting.send_modify(|waiting| *waiting -= late.len());
        late.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use haul_commerce::{LedgerError, audit::AuditFilter, ledger::Answer};
    use haul_model::{MerchantId, UnixMillis};

    use super::*;

    /// A log that takes nothing for so many times.
    #[derive(Default)]
    struct Log {
        refuses: AtomicU32,
        entries: Mutex<Vec<String>>,
    }

    impl Audit for Log {
        fn record<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()> {
            Box::pin(async move {
                let less = |times: u32| times.checked_sub(1);
                if self.refuses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
                    return Err(LedgerError::Unavailable("no turn to write".to_owned()));
                }
                self.entries.lock().unwrap().extend(entries.iter().map(|entry| entry.id.clone()));
                Ok(())
            })
        }

        fn audit<'a>(&'a self, _: &'a MerchantId, _: &'a AuditFilter, _: u32) -> Answer<'a, Vec<Entry>> {
            unreachable!("nobody reads")
        }
    }

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.to_owned(),
            merchant: MerchantId::main(),
            at: UnixMillis(1),
            role: "key".to_owned(),
            actor: "key_1".to_owned(),
            action: "POST".to_owned(),
            target: "/v1/products:batch".to_owned(),
            live: None,
            address: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_ledger_does_not_take_is_written_once_it_does() {
        let log = Arc::new(Log::default());
        let clerk = Clerk::start(log.clone());
        clerk.write(entry("a")).await;
        log.refuses.store(4, Ordering::Relaxed);
        clerk.write(entry("b")).await;
        clerk.write(entry("c")).await;
        assert_eq!(*log.entries.lock().unwrap(), ["a"], "nobody waits for a ledger that is away");
        clerk.written().await;
        assert_eq!(*log.entries.lock().unwrap(), ["a", "b", "c"]);
        assert_eq!(clerk.lost.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_can_wait_are_counted() {
        let log = Arc::new(Log { refuses: AtomicU32::new(u32::MAX), ..Log::default() });
        let clerk = Clerk::start(log);
        // One more is in the hands of who tries again.
        for number in 0..MAX_LATE + TOGETHER + 1 {
            clerk.write(entry(&number.to_string())).await;
        }
        assert!(clerk.lost.get() > 0);
    }
}
