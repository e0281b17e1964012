//! Writes down behind the gate what it has said: every hold that anybody was told of, and how far its history is.
//!
//! Nobody who buys waits for it. What the gate says is gathered while one write is under way and goes with the next, so
//! that the ledger follows by the time of one write: a few milliseconds. Where the ledger must not be behind (an order is
//! about to be written, a gate is about to be rebuilt), [`Recorder::flush`] waits for it.
//!
//! What that lag means: a gate that has lost something is noticed for sure while this process lives, which remembers how
//! far it has seen it. If this process and the gate end together, the gate's last few milliseconds may be neither in its
//! restored copy nor here; plain holds made then are gone without anybody noticing, and never more than those, since a
//! payment starts only after the ledger has all that was said before it.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use haul_commerce::{Applied, HoldNotes, Ledger, LedgerError, Mark, book::HoldRecord};
use haul_model::{HoldId, LiveId, SaleId, UnixMillis};
use tokio::sync::{Notify, watch};

use crate::metrics::Metrics;

/// Holds of a live that wait to be written while the ledger does not answer. More are not written down, and counted: if
/// the gate loses them too, they are over.
const MAX_UNWRITTEN: usize = 100_000;
/// How long to leave a ledger alone that did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Where the gate's words are left. Clones are the same.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Shared>);

struct Shared {
    live: LiveId,
    /// A lock, since whoever has asked the gate leaves its answer here; held to merge it or to take all.
    unwritten: Mutex<Unwritten>,
    wake: Notify,
    /// What became of the writing; for those who flush.
    written: watch::Sender<Written>,
    metrics: Metrics,
}

#[derive(Default)]
struct Unwritten {
    sales: BTreeMap<SaleId, Notes>,
    /// Of all sales.
    holds: usize,
    /// Counts the words left here.
    noted: u64,
}

#[derive(Default)]
struct Notes {
    mark: Mark,
    clock: UnixMillis,
    holds: HashMap<HoldId, (Mark, HoldRecord)>,
}

#[derive(Debug, Clone, Default)]
struct Written {
    /// Words up to this are in the ledger.
    up_to: u64,
    /// Counts attempts that failed, and says why the last one did.
    failures: u64,
    error: Option<LedgerError>,
}

impl Recorder {
    /// Its other end must be run.
    pub(crate) fn new(live: LiveId, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            live,
            unwritten: Mutex::default(),
            wake: Notify::new(),
            written: watch::Sender::new(Written::default()),
            metrics,
        }))
    }

    /// The gate has said this. Words may come in any order: of each hold, the latest counts.
    pub(crate) fn note(&self, sale: &SaleId, applied: &Applied) {
        {
            let mut unwritten = self.unwritten();
            unwritten.noted += 1;
            let holds = applied.holds.iter().map(|record| (applied.mark, record.clone()));
            let dropped = unwritten.add(sale, applied.mark, applied.now, holds);
            self.0.metrics.holds_unrecorded(dropped);
        }
        self.0.wake.notify_one();
    }

    /// Waits until all that was noted before is in the ledger; an error where the ledger does not take it now.
    pub(crate) async fn flush(&self) -> Result<(), LedgerError> {
        let up_to = self.unwritten().noted;
        let mut written = self.0.written.subscribe();
        let failures = written.borrow().failures;
        let gone = |_| LedgerError::Unavailable("the live is closing".to_owned());
        let done = |written: &Written| written.up_to >= up_to || written.failures > failures;
        let end = written.wait_for(done).await.map_err(gone)?.clone();
        match end.error {
            Some(error) if end.failures > failures => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes until the process ends, as its live lives.
    pub(crate) async fn run(self, ledger: Arc<dyn Ledger>) {
        loop {
            self.0.wake.notified().await;
            while !self.write(&*ledger).await {
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Writes what has gathered, until nothing has; false where the ledger failed.
    async fn write(&self, ledger: &dyn Ledger) -> bool {
        loop {
            let (up_to, sales) = {
                let mut unwritten = self.unwritten();
                unwritten.holds = 0;
                (unwritten.noted, mem::take(&mut unwritten.sales))
            };
            if sales.is_empty() {
                return true;
            }
            let notes: Vec<HoldNotes> = sales
                .into_iter()
                .map(|(sale, Notes { mark, clock, holds })| HoldNotes {
                    live: self.0.live.clone(),
                    sale,
                    mark,
                    clock,
                    holds: holds.into_values().collect(),
                })
                .collect();
            match ledger.record_holds(&notes).await {
                Ok(()) => self.0.written.send_modify(|written| {
                    written.up_to = up_to;
                    written.error = None;
                }),
                Err(error) => {
                    let again = matches!(error, LedgerError::Unavailable(_));
                    tracing::warn!(live = %self.0.live, %error, again, "what the gate has said is not written down");
                    if again {
                        let mut unwritten = self.unwritten();
                        for HoldNotes { sale, mark, clock, holds, .. } in notes {
                            let dropped = unwritten.add(&sale, mark, clock, holds.into_iter());
                            self.0.metrics.holds_unrecorded(dropped);
                        }
                    }
                    self.0.written.send_modify(|written| {
                        if !again {
                            // It will never be written: nobody shall wait for it.
                            written.up_to = up_to;
                        }
                        written.failures += 1;
                        written.error = Some(error);
                    });
                    return !again;
                }
            }
        }
    }

    fn unwritten(&self) -> std::sync::MutexGuard<'_, Unwritten> {
        // A map that is merged into is whole whatever panicked while it was held.
        self.0.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unwritten {
    /// Takes a word in and gives how many holds there was no room for.
    fn add(
        &mut self,
        sale: &SaleId,
        mark: Mark,
        clock: UnixMillis,
        holds: impl Iterator<Item = (Mark, HoldRecord)>,
    ) -> usize {
        let notes = match self.sales.get_mut(sale) {
            Some(notes) => notes,
            None => self.sales.entry(sale.clone()).or_default(),
        };
        notes.mark = notes.mark.max(mark);
        notes.clock = notes.clock.max(clock);
        let mut dropped = 0;
        for (at, record) in holds {
            match notes.holds.get_mut(&record.hold) {
                Some(known) if known.0 <= at => *known = (at, record),
                Some(_) => {}
                None if self.holds < MAX_UNWRITTEN => {
                    self.holds += 1;
                    notes.holds.insert(record.hold.clone(), (at, record));
                }
                None => dropped += 1,
            }
        }
        dropped
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let unwritten = self.unwritten.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !unwritten.sales.is_empty() {
            tracing::warn!(live = %self.live, holds = unwritten.holds, "the gate's last words are not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use haul_commerce::{Counts, book::HoldState};

    use super::*;

    fn applied(sequence: u64, holds: &[(u32, HoldState)]) -> Applied {
        let record = |(number, state): &(u32, HoldState)| HoldRecord {
            hold: format!("hold_{number}").parse().unwrap(),
            buyer: "ann".parse().unwrap(),
            units: 1.into(),
            made: 1,
            state: *state,
            deadline: UnixMillis(1),
            order: None,
            extended: false,
            retaken: false,
            unreserved: false,
            returned: None,
            coupon: None,
        };
        Applied {
            now: UnixMillis(sequence),
            mark: Mark { epoch: 1, sequence },
            outcomes: Vec::new(),
            released: Vec::new(),
            offered: Vec::new(),
            holds: holds.iter().map(record).collect(),
            counts: Counts::default(),
            lines: Vec::new(),
            next_deadline: None,
        }
    }

    fn recorder() -> (Recorder, SaleId) {
        (Recorder::new("demo".parse().unwrap(), Metrics::default()), "sale_1".parse().unwrap())
    }

    #[test]
    fn of_each_hold_the_latest_word_counts_in_whatever_order_they_come() {
        let (recorder, sale) = recorder();
        recorder.note(&sale, &applied(7, &[(1, HoldState::Released)]));
        recorder.note(&sale, &applied(6, &[(1, HoldState::Held), (2, HoldState::Held)]));
        let unwritten = recorder.unwritten();
        let notes = &unwritten.sales[&sale];
        let state = |number: u32| {
            let hold: HoldId = format!("hold_{number}").parse().unwrap();
            notes.holds[&hold].1.state
        };
        assert_eq!((notes.mark.sequence, notes.clock), (7, UnixMillis(7)));
        assert_eq!((state(1), state(2), unwritten.holds), (HoldState::Released, HoldState::Held, 2));
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out_but_not_how_far_the_gate_is() {
        let (recorder, sale) = recorder();
        recorder.unwritten().holds = MAX_UNWRITTEN - 1;
        recorder.note(&sale, &applied(5, &[(1, HoldState::Held), (2, HoldState::Held)]));
        let unwritten = recorder.unwritten();
        let notes = &unwritten.sales[&sale];
        assert_eq!((notes.holds.len(), notes.mark.sequence, unwritten.holds), (1, 5, MAX_UNWRITTEN));
    }
}
