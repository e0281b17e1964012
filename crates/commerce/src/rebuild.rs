//! What a gate that has lost a sale is told of it: decided here, from what the ledger has.
//!
//! | the ledger has | the gate gets |
//! | --- | --- |
//! | an order SOLD | SOLD |
//! | an order that is paid in full, not yet SOLD | CAPTURED, unless its hold had ended before the money came |
//! | an order in PAYING | the hold as it was written down; where it was not, PAYING for as long as a payment may take |
//! | an order that expired | RELEASED |
//! | an order whose money goes back | LATE |
//! | a hold without an order | as it was written down; HELD past its deadline is RELEASED |
//!
//! Orders come first, since each of their steps is in the ledger before anybody is told of it. Plain holds follow the
//! gate by a few milliseconds: where they would not fit beside the rest, the ledger missed that one of them ended, and the
//! youngest are released. Whoever loses a hold that way is among [`Rebuilt::lost`].

use std::collections::HashMap;

use haul_model::{HoldId, UnixMillis};

use crate::{
    Image, Order, OrderState, Recorded, SaleMode, SaleTerms,
    book::{HoldRecord, HoldState, KEEP_ORDERED_MS},
    units::Line,
};

/// What a sale is rebuilt from, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// For the gate.
    pub image: Image,
    /// Holds that stood when they were last written down, and are RELEASED now: their buyers must be told.
    pub lost: Vec<HoldRecord>,
}

/// Makes the image of a sale as `epoch`, `now` by the gate's clock.
pub fn rebuild(recorded: Recorded, epoch: u64, now: UnixMillis) -> Rebuilt {
    let Recorded { mark: _, clock, sale, sold: _, holds, orders } = recorded;
    let terms = sale.terms;
    let now = now.max(clock);
    let mut holds: HashMap<HoldId, HoldRecord> =
        holds.into_iter().map(|record| (record.hold.clone(), record)).collect();
    let mut before: HashMap<HoldId, HoldState> = HashMap::new();
    for order in &orders {
        let known = holds.remove(&order.order.hold);
        if let Some(known) = &known {
            before.insert(known.hold.clone(), known.state);
        }
        let record = of_order(order, known, &terms, now);
        holds.insert(record.hold.clone(), record);
    }
    let mut holds: Vec<HoldRecord> = holds
        .into_values()
        .filter(|record| match record.state {
            HoldState::Released | HoldState::Late => {
                now.0 < record.deadline.0.saturating_add(KEEP_ORDERED_MS)
            }
            _ => true,
        })
        .collect();
    // What is surest comes first, and of equals the older.
    holds.sort_by(|a, b| (rank(a), a.made, &a.hold).cmp(&(rank(b), b.made, &b.hold)));
    let mut lost = Vec::new();
    let mut taken: HashMap<Line, u64> = HashMap::new();
    for record in &mut holds {
        let stood = before.get(&record.hold).copied().unwrap_or(record.state).stands();
        if record.counts_for_buyer() {
            let overdue = record.state == HoldState::Held && record.deadline <= now;
            let fits = |(line, units): (Line, u32)| {
                let stock = terms.line(line).map_or(0, |line| line.stock);
                taken.get(&line).copied().unwrap_or(0) + u64::from(units) <= u64::from(stock)
            };
            if overdue || record.takes_units() && !record.kept().all(fits) {
                record.state = HoldState::Released;
                record.deadline = now;
            } else if record.takes_units() {
                for (line, units) in record.kept() {
                    *taken.entry(line).or_default() += u64::from(units);
                }
            }
        }
        if stood && !record.counts_for_buyer() {
            lost.push(record.clone());
        }
    }
    Rebuilt { image: Image { epoch, clock: now, terms, holds }, lost }
}

/// The hold of an order: as the order says, and where that leaves it open, as it was written down.
fn of_order(order: &Order, known: Option<HoldRecord>, terms: &SaleTerms, now: UnixMillis) -> HoldRecord {
    let unreserved = terms.mode == SaleMode::FirstPaid;
    let ids = &order.order;
    let recorded = known.as_ref().map(|record| record.state);
    let mut record = known.unwrap_or_else(|| HoldRecord {
        hold: ids.hold.clone(),
        buyer: ids.buyer.clone(),
        units: ids.units(),
        made: 0,
        state: HoldState::Paying,
        deadline: UnixMillis(ids.created_at.0.saturating_add(terms.pay_ms)),
        order: None,
        extended: true,
        retaken: false,
        unreserved,
        returned: None,
        coupon: None,
    });
    record.order = Some(ids.id.clone());
    if let Some(coupon) = &ids.coupon {
        record.coupon = Some(coupon.code.clone());
    }
    let in_full = order.paid.as_ref().is_some_and(|paid| paid.amount == ids.total);
    let state = match (order.state, recorded) {
        (OrderState::Sold, _) => HoldState::Sold,
        (OrderState::RefundDue | OrderState::Refunded, _) => HoldState::Late,
        (OrderState::Paying | OrderState::Expired, Some(HoldState::Late)) => HoldState::Late,
        // Its units went back before the money came: they are taken again if there are any, when that is settled.
        (OrderState::Paying, Some(HoldState::Released)) => HoldState::Released,
        (OrderState::Paying, _) if in_full => HoldState::Captured,
        (OrderState::Paying, Some(state)) => state,
        (OrderState::Paying, None) => HoldState::Paying,
        (OrderState::Expired, Some(HoldState::Captured)) => HoldState::Captured,
        (OrderState::Expired, _) => HoldState::Released,
    };
    if state != record.state && matches!(state, HoldState::Released | HoldState::Late) {
        record.deadline = now;
    }
    record.state = state;
    record.unreserved &= !matches!(state, HoldState::Captured | HoldState::Sold);
    record.returned = order.returned.clone();
    record
}

fn rank(record: &HoldRecord) -> u8 {
    match record.state {
        HoldState::Sold => 0,
        HoldState::Captured => 1,
        HoldState::Paying => 2,
        HoldState::Held => 3,
        HoldState::Waiting => 4,
        HoldState::Released | HoldState::Late => 5,
    }
}
