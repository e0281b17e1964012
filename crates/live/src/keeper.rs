//! Writes down what a live's room must remember, behind it.

use std::{collections::BTreeMap, time::Duration};

use haul_room::Note;
use tokio::sync::mpsc;

use crate::{Live, Services};

/// How long to leave a ledger alone that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Notes that wait for a ledger that does not answer; of more, those that come first by name are given up.
const MAX_WAITING: usize = 10_000;
/// Notes written in one transaction.
const MAX_BATCH: usize = 200;

/// Runs until the live is gone.
pub(crate) async fn run(services: Services, live: Live, mut notes: mpsc::UnboundedReceiver<Note>) {
    let mut waiting: BTreeMap<String, Option<String>> = BTreeMap::new();
    loop {
        if waiting.is_empty() {
            let Some(Note { name, text }) = notes.recv().await else { return };
            waiting.insert(name, text);
        }
        while let Ok(Note { name, text }) = notes.try_recv() {
            waiting.insert(name, text);
            if waiting.len() > MAX_WAITING {
                tracing::error!(live = %live.id(), "the ledger does not answer: a note of the room's is lost");
                waiting.pop_first();
            }
        }
        let batch: Vec<_> =
            waiting.iter().take(MAX_BATCH).map(|(name, text)| (name.clone(), text.clone())).collect();
        match services.notebook.write_notes(live.id(), &batch).await {
            Ok(()) => {
                for (name, _) in batch {
                    waiting.remove(&name);
                }
            }
            Err(error) => {
                tracing::warn!(live = %live.id(), %error, "the room's notes wait for the ledger");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}
