//! Waiting in line.

use std::sync::LazyLock;

use haul_model::{HoldId, UnixMillis};

use super::{HoldRecord, HoldState, MAX_OFFERS, MAX_SWEEP, SaleBook, line_of};
use crate::{Counts, Offered, Released, SaleTerms, units::Line};

/// No hold's id is smaller: where a range begins.
static FIRST: LazyLock<HoldId> = LazyLock::new(|| "-".parse().expect("a dash is an id"));

impl SaleBook {
    /// Serves those in line: who waits for what is free now gets it, who waits in vain is told so. At most [`MAX_OFFERS`]
    /// in a call, and [`MAX_SWEEP`] when the sale has closed.
    pub(super) fn serve_line(
        &mut self,
        terms: &SaleTerms,
        now: UnixMillis,
        released: &mut Vec<Released>,
    ) -> Vec<Offered> {
        self.serve_soon = false;
        let mut offered = Vec::new();
        let mut served = 0;
        if now >= terms.closes_at {
            while let Some(record) = self.first_waiting(0) {
                if served == MAX_SWEEP {
                    self.serve_soon = true;
                    break;
                }
                served += 1;
                self.end_waiting(record, now, released);
            }
            return offered;
        }
        if terms.paused || terms.draws_at().is_some_and(|draws_at| now < draws_at) {
            return offered;
        }
        let drawn = terms.draw.is_some();
        let most = if drawn { MAX_SWEEP } else { MAX_OFFERS };
        let mut from = 0;
        while let Some(record) = self.first_waiting(from) {
            let line = line_of(&record);
            let wanted = record.units.of(line);
            let Counts { available, held, .. } =
                self.counts_of(line, terms.line(line).map_or(0, |line| line.stock));
            if !drawn && wanted <= available + held && wanted > available {
                // Nobody overtakes the first of a line.
                match line.checked_add(1) {
                    Some(next) => from = next,
                    None => break,
                }
                continue;
            }
            if served == most {
                self.serve_soon = true;
                break;
            }
            served += 1;
            if wanted > available {
                self.end_waiting(record, now, released);
                continue;
            }
            let deadline = UnixMillis(now.0 + terms.offer_ms.unwrap_or(terms.hold_ms));
            let HoldRecord { hold, buyer, units, .. } = record.clone();
            self.change_hold(HoldRecord { state: HoldState::Held, deadline, ..record });
            offered.push(Offered { hold, buyer, units, deadline });
        }
        offered
    }

    /// The first who waits, of lines from this one on.
    fn first_waiting(&self, from: Line) -> Option<HoldRecord> {
        let (_, _, hold) = self.waiting.range((from, 0, FIRST.clone())..).next()?;
        self.holds.get(hold).cloned()
    }

    fn end_waiting(&mut self, record: HoldRecord, now: UnixMillis, released: &mut Vec<Released>) {
        let HoldRecord { hold, buyer, units, order, .. } = record.clone();
        self.change_hold(HoldRecord { state: HoldState::Released, deadline: now, ..record });
        released.push(Released { hold, buyer, units, order });
    }

    /// Whether somebody waits for units of this line: then nobody new gets any.
    pub(super) fn has_waiting(&self, line: Line) -> bool {
        let first = self.waiting.range((line, 0, FIRST.clone())..).next();
        first.is_some_and(|(waiting, _, _)| *waiting == line)
    }

    /// Where a hold is in its line; 0 where it does not wait.
    pub(super) fn position(&self, record: &HoldRecord) -> u32 {
        if record.state != HoldState::Waiting || record.is_entry() {
            return 0;
        }
        let line = line_of(record);
        // At most MAX_WAITING.
        self.waiting.range((line, 0, FIRST.clone())..=(line, record.made, record.hold.clone())).count() as u32
    }

    /// When to sweep next.
    pub(super) fn next_deadline(&self, now: UnixMillis) -> Option<UnixMillis> {
        if self.serve_soon {
            return Some(now);
        }
        let deadline = self.holds.next_deadline();
        let terms = self.terms.as_ref().filter(|_| !self.waiting.is_empty());
        let closes_at = terms.map(|terms| terms.closes_at);
        let draws_at = terms.and_then(SaleTerms::draws_at).filter(|draws_at| now < *draws_at);
        deadline.into_iter().chain(closes_at).chain(draws_at).min()
    }
}
