//! Writes down what a live's room must remember, behind it.

use std::{collections::BTreeMap, time::Duration};

use haul_room::{Note, intents::is_intent};
use tokio::sync::{mpsc, oneshot};

use crate::{Live, Services, stage::Input};

/// How long to leave a ledger alone that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Notes that wait for a ledger that does not answer; of more, those that come first by name are given up. Of intents there
/// are few, and somebody waits for each: they stay.
const MAX_WAITING: usize = 10_000;

/// What the keeper is asked.
#[derive(Debug)]
pub(crate) enum Keep {
    /// Write this down.
    Note(Note),
    /// The same, and say that it is done, and all before it.
    Write { number: u64, note: Note },
    /// Say when all before is written down.
    Written(oneshot::Sender<()>),
    /// Let go of what is not written yet.
    Discard,
}

/// What is to be written. All of it is, in one transaction: what was noted later never stands without what was noted before.
#[derive(Default)]
struct Waiting {
    notes: BTreeMap<String, Option<String>>,
    /// The highest number of those that somebody waits for.
    upto: Option<u64>,
    awaited: Vec<oneshot::Sender<()>>,
}

impl Waiting {
    /// False where something is lost.
    fn take(&mut self, keep: Keep) -> bool {
        match keep {
            Keep::Note(Note { name, text }) => drop(self.notes.insert(name, text)),
            Keep::Write { number, note: Note { name, text } } => {
                self.notes.insert(name, text);
                self.upto = Some(number);
            }
            Keep::Written(done) => self.awaited.push(done),
            Keep::Discard => (self.notes, self.upto) = (BTreeMap::new(), None),
        }
        if self.notes.len() <= MAX_WAITING {
            return true;
        }
        let first = self.notes.keys().find(|name| !is_intent(name)).cloned();
        first.is_none_or(|first| self.notes.remove(&first).is_none())
    }
}

/// Runs until the live is gone.
pub(crate) async fn run(services: Services, live: Live, mut asked: mpsc::UnboundedReceiver<Keep>) {
    let mut waiting = Waiting::default();
    loop {
        if waiting.notes.is_empty() {
            for done in waiting.awaited.drain(..) {
                let _ = done.send(());
            }
            match asked.recv().await {
                Some(keep) => drop(waiting.take(keep)),
                None => return,
            }
        }
        while let Ok(keep) = asked.try_recv() {
            if !waiting.take(keep) {
                tracing::error!(live = %live.id(), "the ledger does not answer: a note of the room's is lost");
            }
        }
        if waiting.notes.is_empty() {
            continue;
        }
        let batch: Vec<_> = waiting.notes.iter().map(|(name, text)| (name.clone(), text.clone())).collect();
        match services.notebook.write_notes(live.id(), &batch).await {
            Ok(()) => {
                waiting.notes.clear();
                if let Some(upto) = waiting.upto.take() {
                    live.input(Input::Written { upto });
                }
            }
            Err(error) => {
                tracing::warn!(live = %live.id(), %error, "the room's notes wait for the ledger");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}
