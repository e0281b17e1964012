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

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, text: &str) -> Note {
        Note { name: name.to_owned(), text: Some(text.to_owned()) }
    }

    fn intent(number: u64) -> Keep {
        Keep::Write { number, note: note(&format!("intent/{number:020}"), "{}") }
    }

    #[test]
    fn what_is_void_is_not_written_and_nobody_hears_that_it_is() {
        let mut waiting = Waiting::default();
        let (done, _written) = oneshot::channel();
        for keep in [Keep::Note(note("rules", "1")), intent(7), Keep::Written(done), Keep::Discard] {
            assert!(waiting.take(keep));
        }
        assert!(waiting.notes.is_empty(), "who owns the room now has written it, or not");
        assert_eq!(waiting.upto, None, "what waits for it must not be made here");
        assert_eq!(waiting.awaited.len(), 1, "there is nothing left to wait for: they are told so");
        // The room comes back to this server.
        assert!(waiting.take(intent(9)));
        assert_eq!((waiting.notes.len(), waiting.upto), (1, Some(9)));
    }

    #[test]
    fn what_is_noted_last_counts_also_that_it_is_gone() {
        let mut waiting = Waiting::default();
        for keep in [
            Keep::Note(note("poll", "1")),
            intent(7),
            Keep::Note(note("poll", "2")),
            Keep::Note(Note { name: format!("intent/{:020}", 7), text: None }),
            intent(8),
        ] {
            waiting.take(keep);
        }
        let notes: Vec<_> =
            waiting.notes.iter().map(|(name, text)| (name.as_str(), text.as_deref())).collect();
        assert_eq!(
            notes,
            [
                ("intent/00000000000000000007", None),
                ("intent/00000000000000000008", Some("{}")),
                ("poll", Some("2"))
            ]
        );
        assert_eq!(waiting.upto, Some(8));
    }

    #[test]
    fn where_too_much_waits_it_is_no_intent_that_is_lost() {
        let mut waiting = Waiting::default();
        assert!(waiting.take(intent(1)));
        for n in 1..MAX_WAITING {
            assert!(waiting.take(Keep::Note(note(&format!("log/{n:09}"), "{}"))));
        }
        assert!(!waiting.take(Keep::Note(note("log/999999999", "{}"))), "and it is said that something is");
        assert!(!waiting.take(intent(2)));
        assert_eq!(waiting.notes.len(), MAX_WAITING);
        assert!(waiting.notes.keys().take(2).all(|name| is_intent(name)));
        assert!(!waiting.notes.contains_key("log/000000001") && !waiting.notes.contains_key("log/000000002"));
    }
}
