//! What each operation does to a book.

use haul_model::{BuyerId, CouponCode, HoldId, OrderId, TierId, UnixMillis};

use super::{HoldRecord, HoldState, MAX_ENTRIES, MAX_WAITING, SaleBook};
use crate::{
    Counts, Op, Outcome, Refusal, Released, SaleMode, SaleTerms,
    coupon::Desk,
    sale::MAX_STOCK,
    units::{Line, Units},
};

/// What somebody asks for, under one key.
struct Wish<'a> {
    hold: &'a HoldId,
    buyer: &'a BuyerId,
    units: &'a Units,
    tier: Option<&'a TierId>,
    coupon: Option<&'a CouponCode>,
    ticket: Option<u64>,
}

impl SaleBook {
    pub(super) fn carry_out(
        &mut self,
        terms: &SaleTerms,
        desk: &dyn Desk,
        op: &Op,
        now: UnixMillis,
        released: &mut Vec<Released>,
    ) -> Outcome {
        let (hold, asked_by, order) = match op {
            Op::Hold { hold, buyer, units, tier, coupon, ticket } => {
                let (tier, coupon) = (tier.as_ref(), coupon.as_ref());
                let wish = Wish { hold, buyer, units, tier, coupon, ticket: *ticket };
                return self.make_hold(terms, desk, &wish, false, now, released);
            }
            Op::Wait { hold, buyer, units, tier } => {
                let wish = Wish { hold, buyer, units, tier: tier.as_ref(), coupon: None, ticket: None };
                return self.make_hold(terms, desk, &wish, true, now, released);
            }
            Op::Cancel { hold, buyer } => (hold, Some(buyer), None),
            Op::StartPayment { hold, buyer, order, coupon: _ } => (hold, Some(buyer), Some(order)),
            Op::PaymentFailed { hold, order }
            | Op::Capture { hold, order }
            | Op::Settle { hold, order }
            | Op::Restock { hold, order, .. } => (hold, None, Some(order)),
        };
        let Some(record) = self.named(hold, now, released).cloned() else {
            return Outcome::Refused(Refusal::UnknownHold);
        };
        if asked_by.is_some_and(|buyer| *buyer != record.buyer) {
            return Outcome::Refused(Refusal::UnknownHold);
        }
        if order.is_some() && record.order.is_some() && order != record.order.as_ref() {
            return Outcome::Refused(Refusal::KeyReused);
        }
        self.step(terms, desk, op, record, order, now)
    }

    fn make_hold(
        &mut self,
        terms: &SaleTerms,
        desk: &dyn Desk,
        wish: &Wish<'_>,
        waits: bool,
        now: UnixMillis,
        released: &mut Vec<Released>,
    ) -> Outcome {
        if let Some(record) = self.named(wish.hold, now, released).cloned() {
            // Of a hold that is being paid, the coupon may have come with the checkout.
            let other_coupon =
                wish.coupon != record.coupon.as_ref() && (wish.coupon.is_some() || record.order.is_none());
            if record.buyer != *wish.buyer || record.units != *wish.units || other_coupon {
                return Outcome::Refused(Refusal::KeyReused);
            }
            return record.outcome(self.position(&record));
        }
        let drawn_later = terms.draws_at().filter(|draws_at| now < *draws_at);
        let may = match drawn_later {
            Some(draws_at) => match self.may_enter(terms, wish, draws_at, now) {
                Ok(ticket) => return self.enter(wish, ticket, now),
                refused => refused.map(|_| ()),
            },
            None => self.may_hold(terms, wish, now),
        };
        let may = may.and_then(|()| match wish.coupon {
            Some(coupon) => self.may_use(desk, coupon, wish.buyer, now),
            None => Ok(()),
        });
        match may {
            Ok(()) => {}
            Err(Refusal::NotEnough { .. }) if waits => return self.wait(terms, wish, now),
            Err(refusal) => return Outcome::Refused(refusal),
        }
        let deadline = UnixMillis(now.0 + terms.hold_ms);
        let unreserved = terms.mode == SaleMode::FirstPaid;
        self.change_hold(HoldRecord { unreserved, ..self.new_hold(wish, HoldState::Held, deadline) });
        Outcome::Held { deadline }
    }

    fn new_hold(&self, wish: &Wish<'_>, state: HoldState, deadline: UnixMillis) -> HoldRecord {
        HoldRecord {
            hold: wish.hold.clone(),
            buyer: wish.buyer.clone(),
            units: wish.units.clone(),
            made: self.sequence + 1,
            state,
            deadline,
            order: None,
            extended: false,
            retaken: false,
            unreserved: false,
            returned: None,
            coupon: wish.coupon.cloned(),
        }
    }

    /// Whether units of this sale can be asked for now at all.
    fn is_open(&self, terms: &SaleTerms, wish: &Wish<'_>, now: UnixMillis) -> Result<(), Refusal> {
        let units = wish.units;
        for (line, quantity) in units.iter() {
            if usize::from(line) > terms.more.len() {
                return Err(Refusal::UnknownLine);
            }
            if !(1..=MAX_STOCK).contains(&quantity) {
                return Err(Refusal::BadQuantity);
            }
        }
        let opens_at = terms.opens_for(wish.tier);
        if now < opens_at {
            return Err(Refusal::NotOpen { opens_at });
        }
        if now >= terms.closes_at {
            return Err(Refusal::Closed);
        }
        if terms.paused {
            return Err(Refusal::Paused);
        }
        Ok(())
    }

    fn may_hold(&self, terms: &SaleTerms, wish: &Wish<'_>, now: UnixMillis) -> Result<(), Refusal> {
        let units = wish.units;
        self.is_open(terms, wish, now)?;
        self.not_sold_out(terms, units)?;
        self.within_limit(terms, wish.buyer, units)?;
        match units.iter().find(|(line, _)| self.has_waiting(*line)) {
            Some((line, _)) => Err(Refusal::NotEnough { line, available: 0 }),
            None => self.fits(terms, units),
        }
    }

    /// Whether somebody may enter the draw, and with which ticket.
    fn may_enter(
        &self,
        terms: &SaleTerms,
        wish: &Wish<'_>,
        draws_at: UnixMillis,
        now: UnixMillis,
    ) -> Result<u64, Refusal> {
        self.is_open(terms, wish, now)?;
        // Without a ticket nobody can be drawn: they may come when it goes on.
        let Some(ticket) = wish.ticket else { return Err(Refusal::NotOpen { opens_at: draws_at }) };
        if wish.units.iter().count() > 1 {
            return Err(Refusal::BadQuantity);
        }
        if wish.coupon.is_some() {
            return Err(Refusal::OtherCoupon);
        }
        if self.holds.of_buyer(wish.buyer).flat_map(HoldRecord::kept).any(|(_, units)| units > 0) {
            return Err(Refusal::OneEntry);
        }
        self.within_limit(terms, wish.buyer, wish.units)?;
        if self.waiting.len() >= MAX_ENTRIES {
            return Err(Refusal::LineFull);
        }
        Ok(ticket)
    }

    fn enter(&mut self, wish: &Wish<'_>, ticket: u64, now: UnixMillis) -> Outcome {
        let record = HoldRecord { made: ticket, ..self.new_hold(wish, HoldState::Waiting, now) };
        let outcome = record.outcome(0);
        self.change_hold(record);
        outcome
    }

    /// Refuses where a coupon can't be used by somebody who has not used it for this before.
    fn may_use(
        &self,
        desk: &dyn Desk,
        coupon: &CouponCode,
        buyer: &BuyerId,
        now: UnixMillis,
    ) -> Result<(), Refusal> {
        let terms = desk.terms(coupon).ok_or(Refusal::UnknownCoupon)?;
        if now < terms.valid_from {
            return Err(Refusal::CouponNotYet { valid_from: terms.valid_from });
        }
        if terms.closed || now >= terms.valid_until {
            return Err(Refusal::CouponOver);
        }
        self.coupon_left(desk, coupon, buyer)
    }

    /// Refuses where a coupon is used as often as it may be. One that is not known limits nothing: the ledger does.
    fn coupon_left(&self, desk: &dyn Desk, coupon: &CouponCode, buyer: &BuyerId) -> Result<(), Refusal> {
        let Some(terms) = desk.terms(coupon) else { return Ok(()) };
        let (here, there) = (self.coupon_uses(coupon, buyer), desk.elsewhere(coupon, buyer));
        if here.all + there.all >= u64::from(terms.limit) {
            return Err(Refusal::CouponUsedUp);
        }
        if here.by_buyer + there.by_buyer >= u64::from(terms.per_buyer) {
            return Err(Refusal::CouponLimit { per_buyer: terms.per_buyer });
        }
        Ok(())
    }

    /// Puts somebody at the end of a line.
    fn wait(&mut self, terms: &SaleTerms, wish: &Wish<'_>, now: UnixMillis) -> Outcome {
        if terms.offer_ms.is_none() {
            return Outcome::Refused(Refusal::NoLine);
        }
        let mut lines = wish.units.iter();
        let (Some((line, quantity)), None) = (lines.next(), lines.next()) else {
            return Outcome::Refused(Refusal::BadQuantity);
        };
        let Counts { available, held, .. } = self.stock_of(terms, line);
        if quantity > available + held {
            return Outcome::Refused(Refusal::NotEnough { line, available: 0 });
        }
        if self.waiting.len() >= MAX_WAITING {
            return Outcome::Refused(Refusal::LineFull);
        }
        let record = self.new_hold(wish, HoldState::Waiting, now);
        self.change_hold(record.clone());
        Outcome::Waiting { position: self.position(&record) }
    }

    /// Any operation but `Hold`, on a hold that may be asked for it.
    fn step(
        &mut self,
        terms: &SaleTerms,
        desk: &dyn Desk,
        op: &Op,
        mut record: HoldRecord,
        order: Option<&OrderId>,
        now: UnixMillis,
    ) -> Outcome {
        use HoldState::{Captured, Held, Late, Paying, Released, Sold, Waiting};
        let outcome = match (op, record.state) {
            (Op::Restock { returned, .. }, Sold) => {
                if !record.units.contains(returned) {
                    return Outcome::Refused(Refusal::BadQuantity);
                }
                let all =
                    record.returned.as_ref().map_or_else(|| returned.clone(), |known| known.most(returned));
                if record.returned.as_ref() == Some(&all) {
                    return Outcome::Restocked;
                }
                record.returned = Some(all);
                Outcome::Restocked
            }
            (_, Sold) => return Outcome::Sold,
            (Op::Cancel { .. }, Waiting) => {
                record.state = Released;
                record.deadline = now;
                Outcome::Released
            }
            (_, Waiting) => return Outcome::Refused(Refusal::WrongState),
            (Op::Restock { .. }, Held | Paying | Captured) => {
                return Outcome::Refused(Refusal::WrongState);
            }
            (Op::Settle { .. }, Captured) => {
                record.state = Sold;
                Outcome::Sold
            }
            (_, Captured) => return Outcome::Captured { retaken: record.retaken },
            (Op::Capture { .. }, Late) => return Outcome::Late,
            (Op::Capture { .. }, Released)
                if self.within_limit(terms, &record.buyer, &record.units).is_ok()
                    && self.fits(terms, &record.units).is_ok()
                    && record
                        .coupon
                        .as_ref()
                        .is_none_or(|coupon| self.coupon_left(desk, coupon, &record.buyer).is_ok()) =>
            {
                record.state = Captured;
                record.retaken = true;
                record.unreserved = false;
                Outcome::Captured { retaken: true }
            }
            (Op::Capture { .. }, Released) => {
                record.state = Late;
                record.deadline = now;
                Outcome::Late
            }
            (_, Released | Late) => return Outcome::Released,
            (Op::Capture { .. }, Held | Paying)
                if record.unreserved && self.fits(terms, &record.units).is_err() =>
            {
                record.state = Late;
                record.deadline = now;
                Outcome::Late
            }
            (Op::Capture { .. }, Held | Paying) => {
                record.state = Captured;
                record.unreserved = false;
                Outcome::Captured { retaken: false }
            }
            (Op::Cancel { .. }, Held | Paying) => {
                record.state = Released;
                record.deadline = now;
                Outcome::Released
            }
            (Op::StartPayment { coupon: Some(coupon), .. }, Held | Paying)
                if record.coupon.as_ref() != Some(coupon)
                    && (record.coupon.is_some() || record.order.is_some()) =>
            {
                return Outcome::Refused(Refusal::OtherCoupon);
            }
            (Op::StartPayment { coupon, .. }, Held) => {
                if record.unreserved
                    && let Err(refusal) = self.may_pay(terms, &record.units)
                {
                    return Outcome::Refused(refusal);
                }
                if let Some(coupon) = coupon.as_ref().filter(|_| record.coupon.is_none()) {
                    if let Err(refusal) = self.may_use(desk, coupon, &record.buyer, now) {
                        return Outcome::Refused(refusal);
                    }
                    record.coupon = Some(coupon.clone());
                }
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
            // Failing or settling what was never paid for. (`Hold` and `Wait` don't come here.)
            (
                Op::PaymentFailed { .. } | Op::Settle { .. } | Op::Hold { .. } | Op::Wait { .. },
                Held | Paying,
            ) => {
                return Outcome::Refused(Refusal::WrongState);
            }
        };
        if let Some(order) = order {
            record.order = Some(order.clone());
        }
        self.change_hold(record);
        outcome
    }

    /// Whether it makes sense to begin paying for units that nobody has set aside.
    fn may_pay(&self, terms: &SaleTerms, units: &Units) -> Result<(), Refusal> {
        if terms.paused {
            return Err(Refusal::Paused);
        }
        self.not_sold_out(terms, units)?;
        self.fits(terms, units)
    }

    /// Refuses where all is sold of a line that is asked for.
    fn not_sold_out(&self, terms: &SaleTerms, units: &Units) -> Result<(), Refusal> {
        let all_sold = |line| {
            let Counts { available, held, .. } = self.stock_of(terms, line);
            available == 0 && held == 0
        };
        if units.iter().any(|(line, _)| all_sold(line)) { Err(Refusal::SoldOut) } else { Ok(()) }
    }

    /// Refuses where too few are available of a line that is asked for.
    fn fits(&self, terms: &SaleTerms, units: &Units) -> Result<(), Refusal> {
        for (line, quantity) in units.iter() {
            let Counts { available, .. } = self.stock_of(terms, line);
            if quantity > available {
                return Err(Refusal::NotEnough { line, available });
            }
        }
        Ok(())
    }

    /// Refuses where a buyer would have more of a line than one may.
    fn within_limit(&self, terms: &SaleTerms, buyer: &BuyerId, units: &Units) -> Result<(), Refusal> {
        for (line, quantity) in units.iter() {
            let used = self.used(buyer, line);
            let per_buyer = terms.line(line).map_or(0, |line| line.per_buyer);
            if used + u64::from(quantity) > u64::from(per_buyer) {
                return Err(Refusal::BuyerLimit { line, per_buyer });
            }
        }
        Ok(())
    }

    fn stock_of(&self, terms: &SaleTerms, line: Line) -> Counts {
        terms.line(line).map_or_else(Counts::default, |of| self.counts_of(line, of.stock))
    }
}
