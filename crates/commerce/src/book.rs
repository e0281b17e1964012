//! The book of one sale: the state machine that defines what every gate answers.
//!
//! ```text
//! AVAILABLE ─Hold→ HELD ─StartPayment→ PAYING ─Capture→ CAPTURED ─Settle→ SOLD
//!                    ↑──PaymentFailed──┘
//!           HELD/PAYING ─deadline | Cancel→ RELEASED ─Capture→ CAPTURED (taken again), or LATE where it can't be
//!           SOLD ─Restock→ AVAILABLE, so many units of it
//! ```
//!
//! A sale has one line or several, each a SKU with its own stock and its own limit for a buyer. A hold is of one or several
//! of them, and gets all that it asks for or nothing.
//!
//! A gate carries this out wherever its state lives; this one lives in memory, takes the time as an argument, and says
//! after each call what must be written down so that the same book can be opened again.
//!
//! - Due holds are released before anything is decided, at most [`MAX_SWEEP`] in a call; a due hold that an operation
//!   names is released in any case. Where more are due, `next_deadline` is already past: sweep again.
//! - A hold that is over stays in the book, so that its retry is told [`Outcome::Released`] (a new attempt takes a new
//!   key) and money that comes late for it is recognised. [`Outcome::Late`] is final: once it was said, a refund is due.
//! - A step on a hold that is further on answers with where the hold is, and changes nothing.
//! - It stays for [`KEEP_RELEASED_MS`] after its end, or [`KEEP_ORDERED_MS`] if it had an order, and is forgotten then: the
//!   book holds what a sale did in its last hour, however long it lasts.
//! - A caller says how far it has seen the book ([`Mark`]). A book that is behind that has been lost in part: it refuses
//!   everything until it is rebuilt ([`SaleBook::begin_rebuild`], [`SaleBook::rebuild`]) as a new epoch.
//! - In a sale of first paid, first served, a hold sets nothing aside: `Capture` takes its units, or says `Late`.
//! - Where a sale has a line to wait in, who waits for units of one of its lines comes before everybody new: what comes
//!   back is offered to the first, for a while, then to the next. Nobody overtakes; who waits for more than can still come
//!   back is told that it is over, and so are all when the sale closes.
//! - In a sale that is drawn, holds are entries until the draw, which is a line in the order of their tickets: who is served
//!   gets its units, who finds too few is told at once that it is over, and the sale goes on as any other.
//! - A use of a coupon is set aside with the hold and counts as long as the hold counts for its buyer; the [`Desk`] says what
//!   other sales of the live use of it.
//! - Refusals are not remembered: a hold that was refused may be granted when it is asked for again.
//! - The clock never goes back behind what the book last wrote down, which is at most [`CLOCK_MARK_MS`] ago.

mod line;
mod records;
mod step;

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
};

use haul_model::{BuyerId, CouponCode, HoldId, UnixMillis, millis};
use serde::{Deserialize, Serialize};

use self::records::{Place, Records, Touch};
pub use crate::hold::{HoldRecord, HoldState};
use crate::{
    Applied, Counts, Image, Mark, Op, Outcome, Rebuild, Refusal, Released, SaleTerms, Standing, TermsError,
    coupon::{Desk, NoCoupons, Uses},
    sale::MAX_PER_BUYER,
    units::Line,
};

/// The most due holds that one call releases. It bounds how long a call may keep a store from its other callers.
pub const MAX_SWEEP: usize = 1024;
/// A call that changes nothing writes the clock down where it is this much ahead of what was written last.
pub const CLOCK_MARK_MS: u64 = 1_000;
/// The most who wait in line in one sale.
pub const MAX_WAITING: usize = 10_000;
/// The most entries in one draw.
pub const MAX_ENTRIES: usize = 100_000;
/// The most in line who are served by one call, of a draw [`MAX_SWEEP`]; the next call goes on.
pub const MAX_OFFERS: usize = 64;
/// The most holds that [`SaleBook::standing`] tells: all of a buyer's, since no sale allows one buyer more units.
pub const MAX_STANDING: usize = MAX_PER_BUYER as usize;
/// The most holds in one piece of a [`SaleBook::snapshot`].
pub const SNAPSHOT_PIECE: usize = 1_000;

/// How long a hold that is over is remembered: so long, a retry of its key is told that it is over.
pub const KEEP_RELEASED_MS: u64 = 3_600_000;
/// The same where it had an order: so long, late money finds it and takes its units again if there are any.
pub const KEEP_ORDERED_MS: u64 = 24 * 3_600_000;
/// The most holds that one call forgets beside those that it names. More than a call can make, so that forgetting keeps
/// up with any sale.
pub const MAX_FORGET: usize = 2 * MAX_SWEEP;
/// A rebuild that has not gone on for this long may be begun by somebody else.
pub const TAKEOVER_MS: u64 = 5_000;

/// What a call changed: enough, in order, to open the same book again. Its holds are borrowed from the book where it is only
/// to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<R = HoldRecord> {
    /// How often the book was rebuilt from the ledger, counted from 1.
    pub epoch: u64,
    /// The book's sequence after the change.
    pub sequence: u64,
    /// The book's clock after the change.
    #[serde(with = "millis")]
    pub clock: UnixMillis,
    /// The sale's terms, where they are new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<SaleTerms>,
    /// When the rebuild that the book waits for last went on, if it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<UnixMillis>,
    /// The holds that changed, as they are now.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<R>,
}

impl<R: Borrow<HoldRecord>> Change<R> {
    /// With holds of its own.
    pub fn into_owned(self) -> Change {
        let Self { epoch, sequence, clock, terms, frozen, holds } = self;
        let holds = holds.iter().map(|record| record.borrow().clone()).collect();
        Change { epoch, sequence, clock, terms, frozen, holds }
    }
}

/// The book is behind what was seen of it, or waits to be rebuilt, and did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the book is only at {0}")]
pub struct Behind(pub Mark);

/// Why a sale is not put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Its terms are out of bounds.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The book is behind.
    #[error(transparent)]
    Behind(#[from] Behind),
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
    /// More units of a line would be held and sold than there are.
    #[error("{held} units held and {sold} sold of line {line} are more than the stock of {stock}")]
    Oversold {
        /// Which line.
        line: Line,
        /// Units held.
        held: u64,
        /// Units sold.
        sold: u64,
        /// Units there are.
        stock: u32,
    },
}

/// One sale's stock and holds. A new book knows no terms and refuses everything with [`Refusal::UnknownSale`].
#[derive(Debug, Clone, Default)]
pub struct SaleBook {
    /// `None` until the sale is made known.
    terms: Option<SaleTerms>,
    /// 1 from the first terms on; raised when the book is rebuilt, so that words about the old one are recognised.
    epoch: u64,
    /// When its rebuild last went on, while it waits for that: it refuses everything else.
    frozen: Option<UnixMillis>,
    /// Counts every change.
    sequence: u64,
    /// The latest time written down; decisions are never made at an earlier one.
    clock: UnixMillis,
    /// Where the units of each line are. Lines whose units were never touched may be missing at the end.
    shelves: Vec<Shelf>,
    /// Every hold that stands or is sold, and what ended lately: retries and late money are recognised by it.
    holds: Records,
    /// Uses of each coupon by holds that count for their buyer. No zeros.
    coupons: HashMap<CouponCode, u64>,
    /// The same by buyer.
    coupons_of: HashMap<(BuyerId, CouponCode), u64>,
    /// WAITING holds by line and the number they were made with, so in their order. Two tickets may be the same number.
    waiting: BTreeSet<(Line, u64, HoldId)>,
    /// Whether somebody in line must hear something as soon as the next call comes.
    serve_soon: bool,
    /// What the latest call changed.
    changed: Changed,
}

/// The units of one line. Together never more than its stock; wide, so that adding up a damaged book can't wrap.
#[derive(Debug, Clone, Copy, Default)]
struct Shelf {
    /// Set aside: of HELD, PAYING and CAPTURED holds.
    held: u64,
    /// Of SOLD holds, without what has come back.
    sold: u64,
}

/// What the latest call changed besides holds; cleared by the next.
#[derive(Debug, Clone, Copy, Default)]
struct Changed {
    clock: bool,
    terms: bool,
}

impl SaleBook {
    /// A book of a sale that is not known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the sale known; of a known sale, changes what [`SaleTerms::changed_to`] does. Releases nothing.
    pub fn put_terms(&mut self, terms: &SaleTerms, seen: Mark, now: UnixMillis) -> Result<Applied, PutError> {
        terms.check_bounds()?;
        let (now, before) = self.begin(now);
        self.check(seen)?;
        let wanted = self.terms.as_ref().map_or_else(|| terms.clone(), |known| known.changed_to(terms));
        if self.terms.as_ref() != Some(&wanted) {
            self.terms = Some(wanted);
            self.changed.terms = true;
            self.epoch = self.epoch.max(1);
            self.sequence += 1;
        }
        // More stock, another closing time, going on after a pause: a sweep finds out what that means to those in line.
        self.serve_soon = !self.waiting.is_empty();
        self.end(now, before);
        Ok(self.report(now, Vec::new(), Vec::new()))
    }

    /// [`SaleBook::apply_with`] where there are no coupons.
    pub fn apply(&mut self, ops: &[Op], seen: Mark, now: UnixMillis) -> Result<Applied, Behind> {
        self.apply_with(ops, &NoCoupons, seen, now)
    }

    /// Carries out `ops` in order. With none, releases due holds and reports.
    pub fn apply_with(
        &mut self,
        ops: &[Op],
        desk: &dyn Desk,
        seen: Mark,
        now: UnixMillis,
    ) -> Result<Applied, Behind> {
        let (now, before) = self.begin(now);
        self.check(seen)?;
        let Some(terms) = self.terms.clone() else {
            let outcomes = ops.iter().map(|_| Outcome::Refused(Refusal::UnknownSale)).collect();
            return Ok(self.report(now, outcomes, Vec::new()));
        };
        let mut released = Vec::new();
        self.sweep(now, &mut released);
        self.forget_old(now);
        let outcomes = ops.iter().map(|op| self.carry_out(&terms, desk, op, now, &mut released)).collect();
        let offered = self.serve_line(&terms, now, &mut released);
        self.end(now, before);
        Ok(Applied { offered, ..self.report(now, outcomes, released) })
    }

    /// Empties and freezes the book to be rebuilt as the next epoch, unless it is not behind, or somebody was at it less
    /// than [`TAKEOVER_MS`] ago.
    pub fn begin_rebuild(&mut self, seen: Mark, now: UnixMillis) -> Rebuild {
        let (now, _) = self.begin(now);
        match self.frozen {
            None if self.terms.is_some() && self.mark() >= seen => return Rebuild::NotNeeded,
            Some(since) if now.0 < since.0 + TAKEOVER_MS => return Rebuild::Busy,
            _ => {}
        }
        *self = Self {
            epoch: self.epoch.max(seen.epoch) + 1,
            sequence: self.sequence.max(seen.sequence) + 1,
            clock: now,
            frozen: Some(now),
            ..Self::default()
        };
        self.changed.clock = true;
        Rebuild::Begun { epoch: self.epoch }
    }

    /// Puts holds back into a book that was emptied for it. A rebuild may come in pieces, each with the terms; the `last`
    /// lets the sale go on. A piece that comes again changes nothing.
    pub fn rebuild(
        &mut self,
        image: &Image,
        holds: &[HoldRecord],
        last: bool,
        now: UnixMillis,
    ) -> Result<Applied, PutError> {
        image.terms.check_bounds()?;
        let (now, before) = self.begin(now.max(image.clock));
        if self.epoch != image.epoch {
            return Err(Behind(self.mark()).into());
        }
        if self.frozen.is_none() {
            self.serve_soon = !self.waiting.is_empty();
            return Ok(self.report(now, Vec::new(), Vec::new()));
        }
        self.terms = Some(image.terms.clone());
        self.changed.terms = true;
        for record in holds {
            if self.holds.find(&record.hold).is_none() {
                self.change_hold(record.clone());
            }
        }
        self.frozen = (!last).then_some(now);
        self.serve_soon = !self.waiting.is_empty();
        self.sequence += 1;
        self.end(now, before);
        Ok(self.report(now, Vec::new(), Vec::new()))
    }

    /// What the latest call changed and must be written down before it is answered; `None` where that is nothing.
    pub fn change(&self) -> Option<Change<&HoldRecord>> {
        let Changed { clock, terms } = self.changed;
        clock.then(|| self.change_of(terms, self.holds.touched(Touch::Changed).collect()))
    }

    fn change_of<R>(&self, terms: bool, holds: Vec<R>) -> Change<R> {
        let terms = if terms { self.terms.clone() } else { None };
        Change {
            epoch: self.epoch,
            sequence: self.sequence,
            clock: self.clock,
            terms,
            frozen: self.frozen,
            holds,
        }
    }

    /// The whole book as changes of at most [`SNAPSHOT_PIECE`] holds, to be restored in order.
    pub fn snapshot(&self) -> impl Iterator<Item = Change<&HoldRecord>> {
        let mut records = self.holds.all();
        let mut first = true;
        std::iter::from_fn(move || {
            let holds: Vec<_> = records.by_ref().take(SNAPSHOT_PIECE).collect();
            let terms = std::mem::take(&mut first);
            (terms || !holds.is_empty()).then(|| self.change_of(terms, holds))
        })
    }

    /// Makes a written change again.
    pub fn restore(&mut self, change: Change) -> Result<(), RestoreError> {
        let Change { epoch, sequence, clock, terms, frozen, holds } = change;
        if (epoch, sequence) < (self.epoch, self.sequence) {
            return Err(RestoreError::Older { epoch, sequence });
        }
        if epoch > self.epoch {
            // Rebuilt: what was before does not count.
            *self = Self { clock: self.clock, ..Self::default() };
        }
        (self.epoch, self.sequence, self.clock) = (epoch, sequence, self.clock.max(clock));
        self.frozen = frozen;
        self.terms = terms.or(self.terms.take());
        for record in holds {
            self.file(record);
        }
        // What had been forgotten by then; one that is not forgotten yet though it may be is none either.
        while let Some(places) = self.holds.forgettable(self.clock) {
            places.into_iter().for_each(|place| self.holds.remove(place));
        }
        self.holds.begin();
        if self.terms.is_none() && !self.holds.is_empty() {
            return Err(RestoreError::NoTerms);
        }
        for (line, &Shelf { held, sold }) in (0..).zip(&self.shelves) {
            let stock = self.terms.as_ref().and_then(|terms| terms.line(line)).map_or(0, |line| line.stock);
            if held + sold > u64::from(stock) {
                return Err(RestoreError::Oversold { line, held, sold, stock });
            }
        }
        Ok(())
    }

    /// A buyer's HELD, PAYING, CAPTURED and WAITING holds at `now`, oldest first, at most [`MAX_STANDING`]. Changes nothing: a
    /// hold past its deadline is left out, and released by the next [`SaleBook::apply`].
    pub fn standing(&self, buyer: &BuyerId, seen: Mark, now: UnixMillis) -> Result<Vec<Standing>, Behind> {
        self.check(seen)?;
        let now = now.max(self.clock);
        let mut holds: Vec<&HoldRecord> = self
            .holds
            .of_buyer(buyer)
            .filter(|record| record.state.stands() && !record.is_due(now))
            .collect();
        holds.sort_unstable_by_key(|record| record.made);
        holds.truncate(MAX_STANDING);
        let standing = |record: &HoldRecord| Standing {
            hold: record.hold.clone(),
            units: record.units.clone(),
            outcome: record.outcome(self.position(record)),
            order: record.order.clone(),
            coupon: record.coupon.clone(),
        };
        Ok(holds.into_iter().map(standing).collect())
    }

    /// Units of a line that a buyer holds or bought, for the limit.
    fn used(&self, buyer: &BuyerId, line: Line) -> u64 {
        let kept = self.holds.of_buyer(buyer).flat_map(HoldRecord::kept);
        kept.filter(|(of, _)| *of == line).map(|(_, units)| u64::from(units)).sum()
    }

    /// Where the units of all lines are.
    pub fn counts(&self) -> Counts {
        self.lines().into_iter().fold(Counts::default(), |sum, line| Counts {
            available: sum.available + line.available,
            held: sum.held + line.held,
            sold: sum.sold + line.sold,
        })
    }

    /// Where the units of each line are.
    pub fn lines(&self) -> Vec<Counts> {
        let lines = self.terms.iter().flat_map(SaleTerms::lines);
        (0..).zip(lines).map(|(line, terms)| self.counts_of(line, terms.stock)).collect()
    }

    fn counts_of(&self, line: Line, stock: u32) -> Counts {
        let Shelf { held, sold } = self.shelf(line);
        // At most MAX_STOCK each, and never more together than the stock: `restore` and `carry_out` see to it.
        Counts { available: (u64::from(stock) - held - sold) as u32, held: held as u32, sold: sold as u32 }
    }

    fn shelf(&self, line: Line) -> Shelf {
        self.shelves.get(usize::from(line)).copied().unwrap_or_default()
    }

    /// How often a coupon is used here.
    pub fn coupon_uses(&self, code: &CouponCode, buyer: &BuyerId) -> Uses {
        let of_buyer = self.coupons_of.get(&(buyer.clone(), code.clone()));
        Uses { all: self.coupons.get(code).copied().unwrap_or(0), by_buyer: of_buyer.copied().unwrap_or(0) }
    }

    /// The sale's terms, once it is known.
    pub fn terms(&self) -> Option<&SaleTerms> {
        self.terms.as_ref()
    }

    /// How far the book's history is.
    pub fn mark(&self) -> Mark {
        Mark { epoch: self.epoch, sequence: self.sequence }
    }

    /// Whether nothing in it can matter any more: it closed at least `ms` ago, and nobody holds anything.
    pub fn is_over_since(&self, ms: u64, now: UnixMillis) -> bool {
        let closed = self.terms.as_ref().is_some_and(|terms| terms.closes_at.0.saturating_add(ms) <= now.0);
        closed
            && self.frozen.is_none()
            && self.waiting.is_empty()
            && self.shelves.iter().all(|shelf| shelf.held == 0)
    }

    /// How many holds it remembers.
    pub fn remembered(&self) -> usize {
        self.holds.len()
    }

    /// The book's clock: the latest time it has written down.
    pub fn clock(&self) -> UnixMillis {
        self.clock
    }

    /// A hold, if there ever was one of this id.
    pub fn hold(&self, hold: &HoldId) -> Option<&HoldRecord> {
        self.holds.get(hold)
    }

    fn check(&self, seen: Mark) -> Result<(), Behind> {
        if self.frozen.is_some() || self.mark() < seen { Err(Behind(self.mark())) } else { Ok(()) }
    }

    /// Forgets what the last call changed, and gives the time to decide at and the sequence before.
    fn begin(&mut self, now: UnixMillis) -> (UnixMillis, u64) {
        self.changed = Changed::default();
        self.holds.begin();
        (now.max(self.clock), self.sequence)
    }

    fn end(&mut self, now: UnixMillis, before: u64) {
        if self.sequence != before || now.0 >= self.clock.0 + CLOCK_MARK_MS {
            self.clock = now;
            self.changed.clock = true;
        }
    }

    fn report(&self, now: UnixMillis, outcomes: Vec<Outcome>, released: Vec<Released>) -> Applied {
        let mut told: Vec<&HoldRecord> = self.holds.touched(Touch::Named).collect();
        told.sort_unstable_by(|a, b| a.hold.cmp(&b.hold));
        Applied {
            now,
            mark: self.mark(),
            outcomes,
            released,
            offered: Vec::new(),
            holds: told.into_iter().cloned().collect(),
            counts: self.counts(),
            lines: if self.terms.as_ref().is_some_and(|terms| !terms.more.is_empty()) {
                self.lines()
            } else {
                Vec::new()
            },
            next_deadline: self.next_deadline(now),
        }
    }

    fn sweep(&mut self, now: UnixMillis, released: &mut Vec<Released>) {
        let mut left = MAX_SWEEP;
        while left > 0
            && let Some(mut due) = self.holds.due(now)
        {
            due.truncate(left);
            left -= due.len();
            due.into_iter().for_each(|place| self.expire(place, now, released));
        }
    }

    /// Releases and reports a hold if it is past its deadline.
    fn expire(&mut self, place: Place, now: UnixMillis, released: &mut Vec<Released>) {
        let record = self.holds.at(place);
        if !record.is_due(now) {
            return;
        }
        let record = record.clone();
        let HoldRecord { hold, buyer, units, order, .. } = record.clone();
        self.change_hold(HoldRecord { state: HoldState::Released, deadline: now, ..record });
        released.push(Released { hold, buyer, units, order });
    }

    /// Forgets what has been over for long, at most [`MAX_FORGET`] holds.
    fn forget_old(&mut self, now: UnixMillis) {
        let mut left = MAX_FORGET;
        while left > 0
            && let Some(mut old) = self.holds.forgettable(now)
        {
            old.truncate(left);
            left -= old.len();
            for place in old {
                self.forget(place, now);
            }
        }
    }

    /// Forgets a hold that has been over for long. No change of the sale, but the clock is written down: it must not be
    /// remembered again. Gives whether it did.
    fn forget(&mut self, place: Place, now: UnixMillis) -> bool {
        let is_old = self.holds.at(place).forget_at().is_some_and(|at| at <= now);
        if is_old {
            self.holds.remove(place);
            self.changed.clock = true;
            self.clock = now;
        }
        is_old
    }

    /// The hold that an operation names, if there is one, with what its time does to it done.
    fn named(&mut self, hold: &HoldId, now: UnixMillis, released: &mut Vec<Released>) -> Option<&HoldRecord> {
        let place = self.holds.find(hold)?;
        self.expire(place, now, released);
        if self.forget(place, now) {
            return None;
        }
        self.holds.touch(place, Touch::Named);
        Some(self.holds.at(place))
    }

    fn change_hold(&mut self, record: HoldRecord) {
        self.sequence += 1;
        let place = self.file(record);
        self.holds.touch(place, Touch::Changed);
    }

    /// Puts a hold in its place, new or in another state.
    fn file(&mut self, record: HoldRecord) -> Place {
        self.count_in(&record);
        let (place, before) = self.holds.put(record);
        if let Some(before) = before {
            self.count_out(&before);
        }
        place
    }

    fn count_in(&mut self, record: &HoldRecord) {
        if !record.counts_for_buyer() {
            return;
        }
        for (line, units) in record.kept() {
            let shelf = self.shelf_mut(line);
            if record.is_aside() {
                shelf.held += u64::from(units);
            } else if record.state == HoldState::Sold {
                shelf.sold += u64::from(units);
            }
        }
        if let Some(coupon) = &record.coupon {
            *self.coupons.entry(coupon.clone()).or_default() += 1;
            *self.coupons_of.entry((record.buyer.clone(), coupon.clone())).or_default() += 1;
        }
        if record.state == HoldState::Waiting {
            self.waiting.insert((line_of(record), record.made, record.hold.clone()));
        }
    }

    /// Undoes `count_in`, to the letter.
    fn count_out(&mut self, record: &HoldRecord) {
        if !record.counts_for_buyer() {
            return;
        }
        for (line, units) in record.kept() {
            let shelf = self.shelf_mut(line);
            if record.is_aside() {
                shelf.held -= u64::from(units);
            } else if record.state == HoldState::Sold {
                shelf.sold -= u64::from(units);
            }
        }
        if let Some(coupon) = &record.coupon {
            take_one(&mut self.coupons, coupon);
            take_one(&mut self.coupons_of, &(record.buyer.clone(), coupon.clone()));
        }
        if record.state == HoldState::Waiting {
            self.waiting.remove(&(line_of(record), record.made, record.hold.clone()));
        }
    }

    fn shelf_mut(&mut self, line: Line) -> &mut Shelf {
        let line = usize::from(line);
        if self.shelves.len() <= line {
            self.shelves.resize(line + 1, Shelf::default());
        }
        &mut self.shelves[line]
    }
}

/// Takes one use back.
fn take_one<K: std::hash::Hash + Eq>(uses: &mut HashMap<K, u64>, of: &K) {
    if let Some(count) = uses.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            uses.remove(of);
        }
    }
}

/// The line of a hold that waits: it has one only.
fn line_of(record: &HoldRecord) -> Line {
    record.units.iter().next().map_or(0, |(line, _)| line)
}
