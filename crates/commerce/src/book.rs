//! The book of one sale: the state machine that defines what every gate answers.
//!
//! ```text
//! AVAILABLE ─Hold→ HELD ─StartPayment→ PAYING ─Capture→ CAPTURED ─Settle→ SOLD
//!                    ↑──PaymentFailed──┘
//!           HELD/PAYING ─deadline | Cancel→ RELEASED ─Capture→ CAPTURED (taken again), or LATE where it can't be
//! ```
//!
//! A gate carries this out wherever its state lives; this one lives in memory, takes the time as an argument, and says
//! after each call what must be written down so that the same book can be opened again.
//!
//! - Due holds are released before anything is decided, at most [`MAX_SWEEP`] in a call; a due hold that an operation
//!   names is released in any case. Where more are due, `next_deadline` is already past: sweep again.
//! - A hold that is over stays in the book, so that its retry is told [`Outcome::Released`] (a new attempt takes a new
//!   key) and money that comes late for it is recognised. [`Outcome::Late`] is final: once it was said, a refund is due.
//! - A step on a hold that is further on answers with where the hold is, and changes nothing.
//! - Refusals are not remembered: a hold that was refused may be granted when it is asked for again.
//! - The clock never goes back behind what the book last wrote down, which is at most [`CLOCK_MARK_MS`] ago.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use haul_model::{BuyerId, HoldId, OrderId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{
    Applied, Counts, Op, Outcome, Refusal, Released, SaleTerms, Standing, TermsError,
    sale::{MAX_PER_BUYER, MAX_STOCK},
};

/// The most due holds that one call releases. It bounds how long a call may keep a store from its other callers.
pub const MAX_SWEEP: usize = 1024;
/// A call that changes nothing writes the clock down where it is this much ahead of what was written last.
pub const CLOCK_MARK_MS: u64 = 1_000;
/// The most holds that [`SaleBook::standing`] tells: all of a buyer's, since no sale allows one buyer more units.
pub const MAX_STANDING: usize = MAX_PER_BUYER as usize;
/// The most holds in one piece of a [`SaleBook::snapshot`].
pub const SNAPSHOT_PIECE: usize = 1_000;

/// Where a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Set aside until its deadline.
    Held,
    /// Its buyer is at the payment provider; set aside until its deadline.
    Paying,
    /// Paid; the ledger is not yet written. Has no deadline.
    Captured,
    /// Paid and written.
    Sold,
    /// Over: its units went back.
    Released,
    /// Over, and paid afterwards when its units could not be had again.
    Late,
}

impl HoldState {
    /// Whether a deadline ends it.
    fn has_deadline(self) -> bool {
        matches!(self, HoldState::Held | HoldState::Paying)
    }

    /// Whether its units are set aside for its buyer.
    fn stands(self) -> bool {
        matches!(self, HoldState::Held | HoldState::Paying | HoldState::Captured)
    }

    /// Whether its units count towards its buyer's limit.
    fn takes_units(self) -> bool {
        self.stands() || self == HoldState::Sold
    }
}

/// A hold as the book keeps it and as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// Its id.
    pub hold: HoldId,
    /// Whose it is.
    pub buyer: BuyerId,
    /// Units.
    pub quantity: u32,
    /// The book's sequence when it was made: which of a buyer's holds is older.
    pub made: u64,
    /// Where it stands.
    pub state: HoldState,
    /// When its units go back while it is HELD or PAYING; its last deadline afterwards.
    pub deadline: UnixMillis,
    /// The order that it is paid by, from the first step that names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderId>,
    /// Whether payment has extended the deadline, which it does once.
    #[serde(default)]
    pub extended: bool,
    /// Whether it was released and its units were taken again when the money came.
    #[serde(default)]
    pub retaken: bool,
}

/// What was sold before this book began, as one hold of nobody's: it is written down and counted like any other. Ids
/// derived from a request never look like these.
fn sold_before(sold: u32, made: u64, now: UnixMillis) -> HoldRecord {
    HoldRecord {
        hold: "sold-before".parse().expect("letters and a dash are an id"),
        buyer: "sold-before".parse().expect("letters and a dash are an id"),
        quantity: sold,
        made,
        state: HoldState::Sold,
        deadline: now,
        order: None,
        extended: false,
        retaken: false,
    }
}

impl HoldRecord {
    /// What a retry of `Hold` is answered.
    fn outcome(&self) -> Outcome {
        let &Self { deadline, retaken, .. } = self;
        match self.state {
            HoldState::Held => Outcome::Held { deadline },
            HoldState::Paying => Outcome::Paying { deadline },
            HoldState::Captured => Outcome::Captured { retaken },
            HoldState::Sold => Outcome::Sold,
            HoldState::Released | HoldState::Late => Outcome::Released,
        }
    }

    fn is_due(&self, now: UnixMillis) -> bool {
        self.state.has_deadline() && self.deadline <= now
    }
}

/// What a call changed: enough, in order, to open the same book again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// How often the book was rebuilt from the ledger, counted from 1.
    pub epoch: u64,
    /// The book's sequence after the change.
    pub sequence: u64,
    /// The book's clock after the change.
    pub clock: UnixMillis,
    /// The sale's terms, where they are new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<SaleTerms>,
    /// The holds that changed, as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldRecord>,
}

/// Why a written [`Change`] can't be right. Whoever wrote it, or kept it, is defective.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Its sequence or epoch is behind the book's.
    #[error("the change is older than the book: epoch {epoch}, sequence {sequence}")]
    Older {
        /// The change's epoch.
        epoch: u64,
        /// The change's sequence.
        sequence: u64,
    },
    /// It has holds, and the sale's terms were never written.
    #[error("the sale has holds but no terms")]
    NoTerms,
    /// More units would be held and sold than there are.
    #[error("{held} units held and {sold} sold are more than the stock of {stock}")]
    Oversold {
        /// Units held.
        held: u64,
        /// Units sold.
        sold: u64,
        /// Units there are.
        stock: u32,
    },
}

/// One sale's stock and holds. A new book knows no terms and refuses everything with [`Refusal::UnknownSale`].
#[derive(Debug, Clone)]
pub struct SaleBook {
    /// `None` until the sale is made known.
    terms: Option<SaleTerms>,
    /// Raised when the book is rebuilt, so that words about the old one are recognised.
    epoch: u64,
    /// Counts every change.
    sequence: u64,
    /// The latest time written down; decisions are never made at an earlier one.
    clock: UnixMillis,
    /// Units of HELD, PAYING and CAPTURED holds. With `sold` never more than the stock; wide, so that adding up a
    /// damaged book can't wrap.
    held: u64,
    /// Units of SOLD holds.
    sold: u64,
    /// Every hold there ever was: retries and late money are recognised by it.
    holds: HashMap<HoldId, HoldRecord>,
    /// Units each buyer holds or bought, for the limit. No zeros.
    buyers: HashMap<BuyerId, u64>,
    /// Deadlines of HELD and PAYING holds, earliest first; at one instant by the hold's id, as Redis sorts them.
    deadlines: BTreeSet<(UnixMillis, HoldId)>,
    /// HELD, PAYING and CAPTURED holds by buyer and the number they were made with, so oldest first.
    standing: BTreeMap<(BuyerId, u64), HoldId>,
    /// What the latest call changed.
    changed: Changed,
}

/// What the latest call changed; cleared by the next, so it is bounded by one batch and one sweep.
#[derive(Debug, Clone, Default)]
struct Changed {
    clock: bool,
    terms: bool,
    holds: BTreeSet<HoldId>,
}

impl Default for SaleBook {
    fn default() -> Self {
        Self {
            terms: None,
            epoch: 1,
            sequence: 0,
            clock: UnixMillis::default(),
            held: 0,
            sold: 0,
            holds: HashMap::new(),
            buyers: HashMap::new(),
            deadlines: BTreeSet::new(),
            standing: BTreeMap::new(),
            changed: Changed::default(),
        }
    }
}

impl SaleBook {
    /// A book of a sale that is not known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the sale known, with `sold` units sold before (by a gate that has lost it); of a known sale, changes
    /// `opens_at` and `closes_at` only. Releases nothing.
    pub fn put_terms(
        &mut self,
        terms: &SaleTerms,
        sold: u32,
        now: UnixMillis,
    ) -> Result<Applied, TermsError> {
        terms.check_bounds()?;
        let (now, before) = self.begin(now);
        let wanted = match &self.terms {
            None => terms.clone(),
            Some(known) => {
                SaleTerms { opens_at: terms.opens_at, closes_at: terms.closes_at, ..known.clone() }
            }
        };
        let is_new = self.terms.is_none();
        if self.terms.as_ref() != Some(&wanted) {
            self.terms = Some(wanted);
            self.changed.terms = true;
            self.sequence += 1;
        }
        if is_new && sold > 0 {
            self.change_hold(sold_before(sold.min(terms.stock), self.sequence, now));
        }
        self.end(now, before);
        Ok(self.report(now, Vec::new(), Vec::new()))
    }

    /// Carries out `ops` in order. With none, releases due holds and reports.
    pub fn apply(&mut self, ops: &[Op], now: UnixMillis) -> Applied {
        let (now, before) = self.begin(now);
        let Some(terms) = self.terms.clone() else {
            let outcomes = ops.iter().map(|_| Outcome::Refused(Refusal::UnknownSale)).collect();
            return self.report(now, outcomes, Vec::new());
        };
        let mut released = Vec::new();
        self.sweep(now, &mut released);
        let outcomes = ops.iter().map(|op| self.carry_out(&terms, op, now, &mut released)).collect();
        self.end(now, before);
        self.report(now, outcomes, released)
    }

    /// What the latest call changed and must be written down before it is answered; `None` where that is nothing.
    pub fn change(&self) -> Option<Change> {
        let Changed { clock, terms, holds } = &self.changed;
        if !clock {
            return None;
        }
        Some(Change {
            epoch: self.epoch,
            sequence: self.sequence,
            clock: self.clock,
            terms: if *terms { self.terms.clone() } else { None },
            holds: holds.iter().filter_map(|hold| self.holds.get(hold)).cloned().collect(),
        })
    }

    /// The whole book as changes of at most [`SNAPSHOT_PIECE`] holds, to be restored in order.
    pub fn snapshot(&self) -> impl Iterator<Item = Change> + '_ {
        let mut records = self.holds.values();
        let mut first = true;
        std::iter::from_fn(move || {
            let holds: Vec<_> = records.by_ref().take(SNAPSHOT_PIECE).cloned().collect();
            if !first && holds.is_empty() {
                return None;
            }
            let terms = if first { self.terms.clone() } else { None };
            first = false;
            Some(Change { epoch: self.epoch, sequence: self.sequence, clock: self.clock, terms, holds })
        })
    }

    /// Makes a written change again.
    pub fn restore(&mut self, change: Change) -> Result<(), RestoreError> {
        let Change { epoch, sequence, clock, terms, holds } = change;
        if (epoch, sequence) < (self.epoch, self.sequence) {
            return Err(RestoreError::Older { epoch, sequence });
        }
        (self.epoch, self.sequence, self.clock) = (epoch, sequence, self.clock.max(clock));
        self.terms = terms.or(self.terms.take());
        for record in holds {
            self.file(record);
        }
        let stock = match &self.terms {
            Some(terms) => terms.stock,
            None if self.holds.is_empty() => 0,
            None => return Err(RestoreError::NoTerms),
        };
        if self.held + self.sold > u64::from(stock) {
            return Err(RestoreError::Oversold { held: self.held, sold: self.sold, stock });
        }
        Ok(())
    }

    /// A buyer's HELD, PAYING and CAPTURED holds at `now`, oldest first, at most [`MAX_STANDING`]. Changes nothing: a
    /// hold past its deadline is left out, and released by the next [`SaleBook::apply`].
    pub fn standing(&self, buyer: &BuyerId, now: UnixMillis) -> Vec<Standing> {
        let now = now.max(self.clock);
        self.standing
            .range((buyer.clone(), 0)..)
            .take_while(|((theirs, _), _)| theirs == buyer)
            .filter_map(|(_, hold)| self.holds.get(hold))
            .filter(|record| !record.is_due(now))
            .take(MAX_STANDING)
            .map(|record| Standing {
                hold: record.hold.clone(),
                quantity: record.quantity,
                outcome: record.outcome(),
                order: record.order.clone(),
            })
            .collect()
    }

    /// Where the units are.
    pub fn counts(&self) -> Counts {
        let stock = self.terms.as_ref().map_or(0, |terms| u64::from(terms.stock));
        // At most MAX_STOCK each, and never more together than the stock: `restore` and `carry_out` see to it.
        Counts {
            available: (stock - self.held - self.sold) as u32,
            held: self.held as u32,
            sold: self.sold as u32,
        }
    }

    /// The book's clock: the latest time it has written down.
    pub fn clock(&self) -> UnixMillis {
        self.clock
    }

    /// A hold, if there ever was one of this id.
    pub fn hold(&self, hold: &HoldId) -> Option<&HoldRecord> {
        self.holds.get(hold)
    }

    /// Forgets what the last call changed, and gives the time to decide at and the sequence before.
    fn begin(&mut self, now: UnixMillis) -> (UnixMillis, u64) {
        self.changed = Changed::default();
        (now.max(self.clock), self.sequence)
    }

    fn end(&mut self, now: UnixMillis, before: u64) {
        if self.sequence != before || now.0 >= self.clock.0 + CLOCK_MARK_MS {
            self.clock = now;
            self.changed.clock = true;
        }
    }

    fn report(&self, now: UnixMillis, outcomes: Vec<Outcome>, released: Vec<Released>) -> Applied {
        Applied {
            now,
            sequence: self.sequence,
            outcomes,
            released,
            counts: self.counts(),
            next_deadline: self.deadlines.first().map(|(deadline, _)| *deadline),
        }
    }

    fn sweep(&mut self, now: UnixMillis, released: &mut Vec<Released>) {
        for _ in 0..MAX_SWEEP {
            match self.deadlines.first() {
                Some((deadline, hold)) if *deadline <= now => {
                    let hold = hold.clone();
                    self.expire(&hold, now, released);
                }
                _ => return,
            }
        }
    }

    /// Releases and reports a hold if it is past its deadline.
    fn expire(&mut self, hold: &HoldId, now: UnixMillis, released: &mut Vec<Released>) {
        let Some(record) = self.holds.get(hold) else { return };
        if !record.is_due(now) {
            return;
        }
        let HoldRecord { hold, buyer, quantity, order, .. } = record.clone();
        self.change_hold(HoldRecord { state: HoldState::Released, ..record.clone() });
        released.push(Released { hold, buyer, quantity, order });
    }

    fn carry_out(
        &mut self,
        terms: &SaleTerms,
        op: &Op,
        now: UnixMillis,
        released: &mut Vec<Released>,
    ) -> Outcome {
        let (hold, asked_by, order) = match op {
            Op::Hold { hold, buyer, quantity } => {
                self.expire(hold, now, released);
                return self.make_hold(terms, hold, buyer, *quantity, now);
            }
            Op::Cancel { hold, buyer } => (hold, Some(buyer), None),
            Op::StartPayment { hold, buyer, order } => (hold, Some(buyer), Some(order)),
            Op::PaymentFailed { hold, order } | Op::Capture { hold, order } | Op::Settle { hold, order } => {
                (hold, None, Some(order))
            }
        };
        self.expire(hold, now, released);
        let Some(record) = self.holds.get(hold).cloned() else {
            return Outcome::Refused(Refusal::UnknownHold);
        };
        if asked_by.is_some_and(|buyer| *buyer != record.buyer) {
            return Outcome::Refused(Refusal::UnknownHold);
        }
        if order.is_some() && record.order.is_some() && order != record.order.as_ref() {
            return Outcome::Refused(Refusal::KeyReused);
        }
        self.step(terms, op, record, order, now)
    }

    fn make_hold(
        &mut self,
        terms: &SaleTerms,
        hold: &HoldId,
        buyer: &BuyerId,
        quantity: u32,
        now: UnixMillis,
    ) -> Outcome {
        if let Some(record) = self.holds.get(hold) {
            if record.buyer != *buyer || record.quantity != quantity {
                return Outcome::Refused(Refusal::KeyReused);
            }
            return record.outcome();
        }
        let Counts { available, held, .. } = self.counts();
        if !(1..=MAX_STOCK).contains(&quantity) {
            return Outcome::Refused(Refusal::BadQuantity);
        }
        if now < terms.opens_at {
            return Outcome::Refused(Refusal::NotOpen { opens_at: terms.opens_at });
        }
        if now >= terms.closes_at {
            return Outcome::Refused(Refusal::Closed);
        }
        if available == 0 && held == 0 {
            return Outcome::Refused(Refusal::SoldOut);
        }
        if !self.within_limit(terms, buyer, quantity) {
            return Outcome::Refused(Refusal::BuyerLimit { per_buyer: terms.per_buyer });
        }
        if quantity > available {
            return Outcome::Refused(Refusal::NotEnough { available });
        }
        let deadline = UnixMillis(now.0 + terms.hold_ms);
        self.change_hold(HoldRecord {
            hold: hold.clone(),
            buyer: buyer.clone(),
            quantity,
            made: self.sequence + 1,
            state: HoldState::Held,
            deadline,
            order: None,
            extended: false,
            retaken: false,
        });
        Outcome::Held { deadline }
    }

    /// Any operation but `Hold`, on a hold that may be asked for it.
    fn step(
        &mut self,
        terms: &SaleTerms,
        op: &Op,
        mut record: HoldRecord,
        order: Option<&OrderId>,
        now: UnixMillis,
    ) -> Outcome {
        use HoldState::{Captured, Held, Late, Paying, Released, Sold};
        let outcome = match (op, record.state) {
            (_, Sold) => return Outcome::Sold,
            (Op::Settle { .. }, Captured) => {
                record.state = Sold;
                Outcome::Sold
            }
            (_, Captured) => return Outcome::Captured { retaken: record.retaken },
            (Op::Capture { .. }, Late) => return Outcome::Late,
            (Op::Capture { .. }, Released)
                if record.quantity <= self.counts().available
                    && self.within_limit(terms, &record.buyer, record.quantity) =>
            {
                record.state = Captured;
                record.retaken = true;
                Outcome::Captured { retaken: true }
            }
            (Op::Capture { .. }, Released) => {
                record.state = Late;
                Outcome::Late
            }
            (_, Released | Late) => return Outcome::Released,
            (Op::Capture { .. }, Held | Paying) => {
                record.state = Captured;
                Outcome::Captured { retaken: false }
            }
            (Op::Cancel { .. }, Held | Paying) => {
                record.state = Released;
                Outcome::Released
            }
            (Op::StartPayment { .. }, Held) => {
                if !record.extended {
                    record.deadline = record.deadline.max(UnixMillis(now.0 + terms.pay_ms));
                    record.extended = true;
                }
                record.state = Paying;
                Outcome::Paying { deadline: record.deadline }
            }
            (Op::StartPayment { .. }, Paying) => return Outcome::Paying { deadline: record.deadline },
            (Op::PaymentFailed { .. }, Paying) => {
                record.state = Held;
                Outcome::Restored { deadline: record.deadline }
            }
            (Op::PaymentFailed { .. }, Held) if record.order.is_some() => {
                return Outcome::Restored { deadline: record.deadline };
            }
            // Failing or settling what was never paid for. (`Hold` doesn't come here.)
            (Op::PaymentFailed { .. } | Op::Settle { .. } | Op::Hold { .. }, Held | Paying) => {
                return Outcome::Refused(Refusal::WrongState);
            }
        };
        if let Some(order) = order {
            record.order = Some(order.clone());
        }
        self.change_hold(record);
        outcome
    }

    fn within_limit(&self, terms: &SaleTerms, buyer: &BuyerId, quantity: u32) -> bool {
        let used = self.buyers.get(buyer).copied().unwrap_or(0);
        used + u64::from(quantity) <= u64::from(terms.per_buyer)
    }

    fn change_hold(&mut self, record: HoldRecord) {
        self.sequence += 1;
        self.changed.holds.insert(record.hold.clone());
        self.file(record);
    }

    /// Puts a hold in its place, new or in another state.
    fn file(&mut self, record: HoldRecord) {
        if let Some(before) = self.holds.insert(record.hold.clone(), record.clone()) {
            self.count_out(&before);
        }
        self.count_in(record);
    }

    fn count_in(&mut self, record: HoldRecord) {
        let HoldRecord { hold, buyer, made, state, deadline, .. } = record;
        let units = u64::from(record.quantity);
        if state.takes_units() {
            *self.buyers.entry(buyer.clone()).or_default() += units;
        }
        if state.has_deadline() {
            self.deadlines.insert((deadline, hold.clone()));
        }
        if state.stands() {
            self.held += units;
            self.standing.insert((buyer, made), hold);
        } else if state == HoldState::Sold {
            self.sold += units;
        }
    }

    /// Undoes `count_in`, to the letter.
    fn count_out(&mut self, record: &HoldRecord) {
        let HoldRecord { hold, buyer, made, state, deadline, .. } = record;
        let units = u64::from(record.quantity);
        if state.takes_units()
            && let Some(used) = self.buyers.get_mut(buyer)
        {
            *used -= units;
            if *used == 0 {
                self.buyers.remove(buyer);
            }
        }
        if state.has_deadline() {
            self.deadlines.remove(&(*deadline, hold.clone()));
        }
        if state.stands() {
            self.held -= units;
            self.standing.remove(&(buyer.clone(), *made));
        } else if *state == HoldState::Sold {
            self.sold -= units;
        }
    }
}
