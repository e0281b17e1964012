//! Orders for this crate's tests.

use haul_model::{HoldId, MerchantId, Money, UnixMillis};

use crate::{
    Line, NewOrder, NewRefund, Order, OrderState, Paid, Parts, Refund, RefundOrigin, RefundState,
    ledger::OrderLine, order_id, payment_id,
};

/// An order of `quantity` lamps in the live `demo`, for `total` in all.
pub(crate) fn order(hold: &str, buyer: &str, quantity: u32, total: Money, at: UnixMillis) -> NewOrder {
    let hold: HoldId = hold.parse().unwrap();
    NewOrder {
        id: order_id(&hold),
        payment: payment_id(&hold),
        provider: "sandbox".to_owned(),
        merchant: MerchantId::main(),
        live: "demo".parse().unwrap(),
        sale: "sale_1".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        lines: vec![OrderLine::only("lamp".parse().unwrap(), quantity, total, total)],
        hold,
        buyer: buyer.parse().unwrap(),
        buyer_name: buyer.to_owned(),
        quantity,
        unit_price: total,
        total,
        coupon: None,
        created_at: at,
    }
}

/// The same, sold.
pub(crate) fn sold(order: NewOrder) -> Order {
    Order {
        updated_at: order.created_at,
        order,
        state: OrderState::Sold,
        paid: None,
        returned: None,
        refunded_minor: 0,
        dispute: None,
    }
}

/// A sold order of these lines (which, units, price of all), paid with so many cents.
pub(crate) fn sold_order(lines: &[(Line, u32, i64)], paid: i64) -> Order {
    let money = |amount_minor| Money { amount_minor, currency: "EUR".parse().unwrap() };
    let mut order =
        order("hold_1", "ann", lines.iter().map(|(_, units, _)| units).sum(), money(paid), UnixMillis(1));
    order.lines = lines
        .iter()
        .map(|(line, units, price)| OrderLine {
            line: *line,
            ..OrderLine::only("lamp".parse().unwrap(), *units, money(*price), money(*price))
        })
        .collect();
    Order { paid: Some(Paid { event: "evt_1".to_owned(), amount: money(paid) }), ..sold(order) }
}

/// Money of an order's that goes back.
pub(crate) fn refund(order: &Order, amount_minor: i64, parts: Parts, state: RefundState) -> Refund {
    let at = order.updated_at;
    Refund {
        refund: NewRefund {
            id: "refund_1".parse().unwrap(),
            order: order.order.id.clone(),
            amount: Money { amount_minor, currency: order.order.total.currency },
            parts,
            origin: RefundOrigin::Merchant,
            of_order: true,
            payment_reference: None,
            reason: String::new(),
            at,
        },
        merchant: order.order.merchant.clone(),
        live: order.order.live.clone(),
        payment: order.order.payment.clone(),
        provider: order.order.provider.clone(),
        state,
        attempts: 0,
        next_attempt_at: at,
        reference: None,
        error: None,
        updated_at: at,
    }
}
