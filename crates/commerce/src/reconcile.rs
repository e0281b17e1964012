//! Compares what the gate holds, what the ledger has written down and what providers have said about one sale.
//!
//! In a sale that is going on, steps are always under way: a payment that was captured and is not yet sold, a hold that
//! ended and whose order is not yet closed. What is younger than [`GRACE_MS`] is therefore not called a difference where
//! the next step explains it. Sums and limits must be right at any time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use haul_model::{BuyerId, CouponCode, HoldId, OrderId, RefundId, UnixMillis};

use crate::{
    Callback, Counts, CouponUse, Dispute, Mark, Order, OrderState, PaymentEventKind, Recorded, Refund,
    RefundState, SaleMove,
    hold::{HoldRecord, HoldState},
    units::{Line, Units},
};

/// How long a step may be under way before it is called a difference.
pub const GRACE_MS: u64 = 60_000;

/// What a gate has of a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How far its history is.
    pub mark: Mark,
    /// When it opens and closes there, and whether it is paused: all of it is said.
    pub terms: SaleMove,
    /// The sums it answers with, for each line.
    pub lines: Vec<Counts>,
    /// Every hold it remembers.
    pub holds: Vec<HoldRecord>,
}

/// Something that does not agree. Its text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The gate does not know the sale, though the ledger has written that it did.
    GateHasLost(Mark),
    /// The gate is behind what the ledger has written of it.
    GateIsBehind {
        /// How far the gate is.
        gate: Mark,
        /// How far the ledger saw it.
        ledger: Mark,
    },
    /// The gate sells at other times than the ledger says, or does not pause as it says.
    Terms {
        /// The gate's.
        gate: SaleMove,
        /// The ledger's.
        ledger: SaleMove,
    },
    /// Units do not add up to the stock.
    Sum {
        /// Of which line.
        line: Line,
        /// What they are.
        counts: Counts,
        /// What they must add up to, or be.
        expected: Counts,
    },
    /// A buyer has more of a line than the sale allows.
    BuyerLimit {
        /// Who.
        buyer: BuyerId,
        /// Of which line.
        line: Line,
        /// How many units.
        units: u64,
    },
    /// More units of a line are sold than there is stock, or than the sale's counter says.
    LedgerSold {
        /// Of which line.
        line: Line,
        /// Units of SOLD orders.
        orders: u64,
        /// The sale's own counter.
        counter: u64,
        /// The stock.
        stock: u32,
    },
    /// An order and its hold do not agree.
    Order {
        /// Which order.
        order: OrderId,
        /// Where it stands.
        state: OrderState,
        /// Where its hold stands at the gate; `None` where there is none.
        hold: Option<HoldState>,
    },
    /// Other units of an order have come back by the ledger than by the gate.
    Returned {
        /// Which order.
        order: OrderId,
        /// What has come back by the ledger.
        ledger: Option<Units>,
        /// What has come back by the gate.
        gate: Option<Units>,
    },
    /// An order and its hold have not the same coupon.
    Coupon {
        /// Which order.
        order: OrderId,
        /// The order's.
        ledger: Option<CouponCode>,
        /// The hold's.
        gate: Option<CouponCode>,
    },
    /// A coupon's counter is not what its orders use, or more than its limit.
    CouponUses {
        /// Which coupon.
        code: CouponCode,
        /// Uses of orders that are being paid or sold.
        orders: u64,
        /// The ledger's counter.
        counter: u64,
        /// Uses that there are.
        limit: u32,
    },
    /// Units are taken for good, and no order says for whom.
    NoOrder(HoldId),
    /// A hold stands at the gate, and the ledger has not written it down.
    NotWritten(HoldId),
    /// The ledger has written that a hold stands, and at the gate it does not.
    NotHeld(HoldId),
    /// More money went back for an order than came for it.
    TooMuchBack {
        /// Which order.
        order: OrderId,
        /// How much more, in minor units.
        amount_minor: i64,
    },
    /// Money came for an order that is neither sold nor refunded.
    Money {
        /// Which order.
        order: OrderId,
        /// The provider's event.
        event: String,
        /// Where the order stands.
        state: OrderState,
    },
    /// A provider's word that is not carried out.
    Unfinished {
        /// The provider's event.
        event: String,
    },
    /// Money that must go back and has not yet.
    RefundDue(OrderId),
    /// A refund that has not arrived.
    Refund {
        /// Which refund.
        refund: RefundId,
        /// Where it stands.
        state: RefundState,
    },
    /// An order does not say of itself what its refunds amount to.
    RefundSum {
        /// Which order.
        order: OrderId,
        /// What the order says went back, in minor units.
        order_minor: i64,
        /// What its refunds amount to.
        refunds_minor: i64,
    },
    /// More money came for a payment than what it bought and what goes back.
    MoneyKept {
        /// Which order.
        order: OrderId,
        /// The provider's latest event about it.
        event: String,
        /// How much is unaccounted for, in minor units.
        amount_minor: i64,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GateHasLost(ledger) => {
                write!(f, "the gate does not know the sale; it was at {ledger} before")
            }
            Self::GateIsBehind { gate, ledger } => {
                write!(f, "the gate is at {gate}, behind {ledger} where the ledger saw it")
            }
            Self::Terms { gate, ledger } => {
                let text = |terms: &SaleMove| {
                    let at = |at: Option<UnixMillis>| at.map_or("?".to_owned(), |at| at.to_string());
                    let paused = if terms.paused == Some(true) { ", and is paused" } else { "" };
                    format!("is open from {} to {}{paused}", at(terms.opens_at), at(terms.closes_at))
                };
                write!(f, "the sale {} at the gate, and {} by the ledger", text(gate), text(ledger))
            }
            Self::Sum { line, counts, expected } => {
                write!(f, "the gate: {counts} on line {line}, expected {expected}")
            }
            Self::BuyerLimit { buyer, line, units } => {
                write!(f, "buyer {buyer} has {units} units of line {line}, more than is allowed")
            }
            Self::LedgerSold { line, orders, counter, stock } => write!(
                f,
                "the ledger has {orders} units of line {line} in sold orders, counts {counter} as sold, of a stock of \
                 {stock}"
            ),
            Self::Returned { order, ledger, gate } => {
                let text = |units: &Option<Units>| {
                    units.as_ref().map_or_else(|| "none".to_owned(), Units::to_string)
                };
                let (ledger, gate) = (text(ledger), text(gate));
                write!(f, "of order {order}, {ledger} units have come back by the ledger, {gate} by the gate")
            }
            Self::Coupon { order, ledger, gate } => {
                let text = |code: &Option<CouponCode>| {
                    code.as_ref().map_or("none".to_owned(), |code| code.to_string())
                };
                let (ledger, gate) = (text(ledger), text(gate));
                write!(f, "order {order} has the coupon {ledger} by the ledger, {gate} by the gate")
            }
            Self::CouponUses { code, orders, counter, limit } => write!(
                f,
                "orders use the coupon {code} {orders} times, {counter} are counted, of {limit} there may be"
            ),
            Self::Order { order, state, hold: Some(hold) } => {
                write!(f, "order {order} is {state:?} and its hold is {hold:?}")
            }
            Self::Order { order, state, hold: None } => {
                write!(f, "order {order} is {state:?} and the gate has no hold for it")
            }
            Self::NoOrder(hold) => write!(f, "hold {hold} is paid, and the ledger has no order for it"),
            Self::NotWritten(hold) => write!(f, "hold {hold} stands, and the ledger has not written it down"),
            Self::NotHeld(hold) => {
                write!(f, "hold {hold} stands by what the ledger has written, and not at the gate")
            }
            Self::Money { order, event, state } => {
                write!(f, "money came for order {order} (event {event}), and it is {state:?}")
            }
            Self::Unfinished { event } => write!(f, "the provider's event {event} is not carried out"),
            Self::RefundDue(order) => write!(f, "the money of order {order} has not gone back yet"),
            Self::Refund { refund, state } => write!(f, "the refund {refund} is {state:?}"),
            Self::RefundSum { order, order_minor, refunds_minor } => write!(
                f,
                "order {order} says that {order_minor} went back, and its refunds amount to {refunds_minor}"
            ),
            Self::TooMuchBack { order, amount_minor } => {
                write!(f, "for order {order}, {amount_minor} more went back than had come")
            }
            Self::MoneyKept { order, event, amount_minor } => write!(
                f,
                "of the money that came for order {order} (event {event}), {amount_minor} bought nothing and does \
                 not go back"
            ),
        }
    }
}

/// Everything about one sale that does not agree. `callbacks`: each with whether it was carried out to the end.
pub fn reconcile(
    recorded: &Recorded,
    callbacks: &[(Callback, bool)],
    gate: Option<&Held>,
    now: UnixMillis,
) -> Vec<Difference> {
    let mut found = Vec::new();
    ledger(recorded, &mut found);
    payments(recorded, callbacks, now, &mut found);
    match gate {
        Some(gate) if gate.mark < recorded.mark => {
            found.push(Difference::GateIsBehind { gate: gate.mark, ledger: recorded.mark });
        }
        Some(gate) => held(recorded, gate, now, &mut found),
        None if recorded.mark > Mark::default() => found.push(Difference::GateHasLost(recorded.mark)),
        None => {}
    }
    found
}

fn ledger(recorded: &Recorded, found: &mut Vec<Difference>) {
    let mut orders: BTreeMap<Line, u64> = BTreeMap::new();
    for order in recorded.orders.iter().filter(|order| order.state == OrderState::Sold) {
        for line in &order.order.lines {
            *orders.entry(line.line).or_default() += u64::from(order.kept(line));
        }
    }
    for (line, terms) in (0..).zip(recorded.sale.terms.lines()) {
        let counter = recorded.sold.get(usize::from(line)).copied().unwrap_or(0);
        let (orders, counter) = (orders.get(&line).copied().unwrap_or(0), u64::from(counter));
        if orders != counter || counter > u64::from(terms.stock) {
            found.push(Difference::LedgerSold { line, orders, counter, stock: terms.stock });
        }
    }
}

fn payments(
    recorded: &Recorded,
    callbacks: &[(Callback, bool)],
    now: UnixMillis,
    found: &mut Vec<Difference>,
) {
    let by_payment: HashMap<_, _> =
        recorded.orders.iter().map(|order| (&order.order.payment, order)).collect();
    for (Callback { event, received_at, .. }, finished) in callbacks {
        let Some(order) = by_payment.get(&event.payment) else { continue };
        if !finished {
            if is_old(*received_at, now) {
                found.push(Difference::Unfinished { event: event.event.clone() });
            }
        } else if event.kind == PaymentEventKind::Paid
            && (matches!(order.state, OrderState::Paying | OrderState::Expired) || order.paid.is_none())
        {
            found.push(Difference::Money {
                order: order.order.id.clone(),
                event: event.event.clone(),
                state: order.state,
            });
        }
    }
    for order in &recorded.orders {
        if order.state == OrderState::RefundDue && is_old(order.updated_at, now) {
            found.push(Difference::RefundDue(order.order.id.clone()));
        }
    }
}

/// Coupons whose counter is not what their orders use.
pub fn coupons(uses: &[CouponUse]) -> Vec<Difference> {
    let differs = |known: &&CouponUse| {
        let orders = known.paying + known.sold;
        orders != known.counted || orders > u64::from(known.coupon.terms.limit)
    };
    uses.iter()
        .filter(differs)
        .map(|known| Difference::CouponUses {
            code: known.coupon.code.clone(),
            orders: known.paying + known.sold,
            counter: known.counted,
            limit: known.coupon.terms.limit,
        })
        .collect()
}

/// Everything about money that goes back which does not agree, for some orders with all their callbacks and refunds.
///
/// A refund that failed is one, for somebody must try it again, unless all that was paid for its order has gone back otherwise.
pub fn refunds(
    orders: &[Order],
    callbacks: &[(Callback, bool)],
    refunds: &[Refund],
    now: UnixMillis,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let all_back = |order: &&Order| {
        order.paid.as_ref().is_some_and(|paid| order.refunded_minor >= paid.amount.amount_minor)
    };
    let settled: HashSet<_> = orders.iter().filter(all_back).map(|order| &order.order.id).collect();
    for Refund { refund, state, updated_at, .. } in refunds {
        let under_way = matches!(state, RefundState::Due | RefundState::Asked);
        let failed = *state == RefundState::Failed && !(refund.of_order && settled.contains(&refund.order));
        if failed || under_way && is_old(*updated_at, now) {
            found.push(Difference::Refund { refund: refund.id.clone(), state: *state });
        }
    }
    for order in orders {
        let id = &order.order.id;
        let of_order = |refund: &&Refund| refund.refund.order == *id;
        let sum = |wanted: &dyn Fn(&Refund) -> bool| -> i64 {
            refunds
                .iter()
                .filter(of_order)
                .filter(|refund| wanted(refund))
                .map(|refund| refund.refund.amount.amount_minor)
                .sum()
        };
        let done = sum(&|refund| refund.refund.of_order && refund.state == RefundState::Done);
        if done != order.refunded_minor {
            let (order_minor, refunds_minor) = (order.refunded_minor, done);
            found.push(Difference::RefundSum { order: id.clone(), order_minor, refunds_minor });
        }
        let paid = |(callback, finished): &&(Callback, bool)| {
            *finished
                && callback.event.kind == PaymentEventKind::Paid
                && callback.event.payment == order.order.payment
        };
        let came: i64 =
            callbacks.iter().filter(paid).map(|(callback, _)| callback.event.amount.amount_minor).sum();
        // What a lost dispute took went back as well.
        let disputed = match (order.dispute, &order.paid) {
            (Some(Dispute::Lost), Some(paid)) => paid.amount.amount_minor,
            _ => 0,
        };
        let more = sum(&|refund| refund.state == RefundState::Done) + disputed - came;
        let settled = |refund: &&Refund| is_old(refund.updated_at, now);
        if more > 0 && refunds.iter().filter(of_order).all(|refund| settled(&refund)) {
            found.push(Difference::TooMuchBack { order: id.clone(), amount_minor: more });
        }
        let Some((last, _)) = callbacks.iter().rfind(|callback| paid(callback)) else { continue };
        // What a sold order was paid with is its price; all the rest must be on its way back, or be back.
        let bought = match order.state {
            OrderState::Sold => order.order.total.amount_minor,
            _ => 0,
        };
        let back = match order.state {
            OrderState::Sold => sum(&|refund| !refund.refund.of_order),
            _ => sum(&|_| true),
        };
        let amount_minor = came - bought - back;
        if amount_minor > 0 && is_old(last.received_at, now) {
            let event = last.event.event.clone();
            found.push(Difference::MoneyKept { order: id.clone(), event, amount_minor });
        }
    }
    found
}

fn held(recorded: &Recorded, gate: &Held, now: UnixMillis, found: &mut Vec<Difference>) {
    let terms = &recorded.sale.terms;
    let written = SaleMove::all_of(terms);
    if gate.terms != written {
        found.push(Difference::Terms { gate: gate.terms, ledger: written });
    }
    let mut sums: BTreeMap<Line, Counts> = BTreeMap::new();
    let mut by_buyer: BTreeMap<(&BuyerId, Line), u64> = BTreeMap::new();
    for record in gate.holds.iter().filter(|record| record.counts_for_buyer()) {
        for (line, units) in record.kept() {
            let sums = sums.entry(line).or_default();
            if record.is_aside() {
                sums.held += units;
            } else if record.state == HoldState::Sold {
                sums.sold += units;
            }
            *by_buyer.entry((&record.buyer, line)).or_default() += u64::from(units);
        }
    }
    for (line, of) in (0..).zip(terms.lines()) {
        let counts = gate.lines.get(usize::from(line)).copied().unwrap_or_default();
        let mut expected = sums.get(&line).copied().unwrap_or_default();
        expected.available = of.stock.saturating_sub(expected.held + expected.sold);
        if expected != counts || counts.available + counts.held + counts.sold != of.stock {
            found.push(Difference::Sum { line, counts, expected });
        }
    }
    for ((buyer, line), units) in by_buyer {
        if units > terms.line(line).map_or(0, |line| u64::from(line.per_buyer)) {
            found.push(Difference::BuyerLimit { buyer: buyer.clone(), line, units });
        }
    }

    let holds: HashMap<&HoldId, &HoldRecord> =
        gate.holds.iter().map(|record| (&record.hold, record)).collect();
    let mut orders: HashMap<&HoldId, &Order> = HashMap::new();
    for order in &recorded.orders {
        orders.insert(&order.order.hold, order);
        let hold = holds.get(&order.order.hold).map(|record| record.state);
        if !agree(order, hold, now) {
            found.push(Difference::Order { order: order.order.id.clone(), state: order.state, hold });
        }
        if matches!(order.state, OrderState::Paying | OrderState::Sold)
            && let Some(record) = holds.get(&order.order.hold)
        {
            let ledger = order.order.coupon.as_ref().map(|coupon| coupon.code.clone());
            if record.counts_for_buyer() && record.coupon != ledger {
                let (order, gate) = (order.order.id.clone(), record.coupon.clone());
                found.push(Difference::Coupon { order, ledger, gate });
            }
        }
        let returned = holds.get(&order.order.hold).and_then(|record| record.returned.clone());
        if hold == Some(HoldState::Sold) && returned != order.returned && is_old(order.updated_at, now) {
            let (order, ledger) = (order.order.id.clone(), order.returned.clone());
            found.push(Difference::Returned { order, ledger, gate: returned });
        }
    }
    // The gate may have moved on since the ledger was read, by as much as its mark says.
    let moving = gate.mark > recorded.mark;
    let written: HashMap<&HoldId, &HoldRecord> =
        recorded.holds.iter().map(|record| (&record.hold, record)).collect();
    for record in &gate.holds {
        let ordered = orders.contains_key(&record.hold);
        if matches!(record.state, HoldState::Captured | HoldState::Sold) && !ordered {
            found.push(Difference::NoOrder(record.hold.clone()));
        } else if record.state.stands() && !ordered && !moving && !written.contains_key(&record.hold) {
            found.push(Difference::NotWritten(record.hold.clone()));
        }
    }
    for record in &recorded.holds {
        let known = holds.get(&record.hold);
        let stands = known.is_some_and(|known| known.counts_for_buyer());
        // What has ended at the gate and is remembered there has not been lost: the process that heard of its end has ended
        // before it wrote it down. A gate remembers a hold's end for longer than any hold stands.
        let ended = known.is_some() || record.deadline <= now;
        let explained = record.state != HoldState::Captured && ended;
        if record.state.stands() && !stands && !explained && !moving {
            found.push(Difference::NotHeld(record.hold.clone()));
        }
    }
}

/// Whether an order and its hold say the same, or the step between them is under way.
fn agree(order: &Order, hold: Option<HoldState>, now: UnixMillis) -> bool {
    use HoldState as H;
    let settled = match (order.state, hold) {
        (OrderState::Paying, hold) => matches!(hold, Some(H::Held | H::Paying)),
        (OrderState::Sold, hold) => hold == Some(H::Sold),
        (OrderState::Expired | OrderState::RefundDue | OrderState::Refunded, hold) => {
            matches!(hold, None | Some(H::Released | H::Late))
        }
    };
    let under_way = match (order.state, hold) {
        (OrderState::Paying, hold) => matches!(hold, Some(H::Captured | H::Released | H::Late)),
        (OrderState::Sold, hold) => hold == Some(H::Captured),
        (OrderState::Expired, hold) => hold == Some(H::Captured),
        (OrderState::RefundDue, _) => true,
        (OrderState::Refunded, _) => false,
    };
    settled || under_way && !is_old(order.updated_at, now)
}

fn is_old(since: UnixMillis, now: UnixMillis) -> bool {
    now.0 >= since.0.saturating_add(GRACE_MS)
}
