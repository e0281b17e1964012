//! Writes down what a live's room must remember, behind it.

use std::{collections::BTreeMap, time::Duration};

use haul_room::Note;
use tokio::sync::{mpsc, oneshot};

use crate::{Live, Services};

/// How long to leave a ledger alone that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Notes that wait for a ledger that does not answer; of more, those that come first by name are given up.
const MAX_WAITING: usize = 10_000;
/// Notes written in one transaction.
const MAX_BATCH: usize = 200;

/// What the keeper is asked.
#[derive(Debug)]
pub(crate) enum Keep {
    /// Write this down.
    Note(Note),
    /// Say when all before is written down.
    Written(oneshot::Sender<()>),
}

/// Runs until the live is gone.
pub(crate) async fn run(services: Services, live: Live, mut asked: mpsc::UnboundedReceiver<Keep>) {
    let mut waiting: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut awaited: Vec<oneshot::Sender<()>> = Vec::new();
    loop {
        if waiting.is_empty() {
            for done in awaited.drain(..) {
                let _ = done.send(());
            }
            match asked.recv().await {
                Some(Keep::Note(Note { name, text })) => drop(waiting.insert(name, text)),
                Some(Keep::Written(done)) => awaited.push(done),
                None => return,
            }
        }
        while let Ok(keep) = asked.try_recv() {
            match keep {
                Keep::Note(Note { name, text }) => drop(waiting.insert(name, text)),
                Keep::Written(done) => awaited.push(done),
            }
            if waiting.len() > MAX_WAITING {
                tracing::error!(live = %live.id(), "the ledger does not answer: a note of the room's is lost");
                waiting.pop_first();
            }
        }
        if waiting.is_empty() {
            continue;
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
