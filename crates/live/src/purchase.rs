//! The steps of a purchase that wait for stores: each idempotent, none with state of its own.

use haul_commerce::{
    Applied, Checkout, GateError, LedgerError, NewOrder, OrderCoupon, OrderLine, OrderState, PaymentError,
    PaymentRequest, PriceError, Sale, SaleMove, Units, order_id, payment_id, price,
};
use haul_model::{BuyerId, CouponCode, HoldId, Money, OrderId, SaleId, UnixMillis};
use haul_wire::{Code, Failure};

use crate::{
    Live, Services,
    chores::Chore,
    stage::{self, CheckedOut, Payer, misfit, unavailable},
};

/// Writes a sale down, then lets the gate know it: a sale that the gate sells is always in the ledger. Once it is
/// written down it stands, and the gate is told of it as soon as it answers.
pub(crate) async fn put_sale(
    services: &Services,
    live: &Live,
    sale: Sale,
) -> Result<(Sale, Applied), Failure> {
    can_be_paid(services, &sale)?;
    services.ledger.put_sale(&sale).await.map_err(|error| ledger_failed(live, &error))?;
    tell_of_sale(live, sale).await
}

/// Nothing is sold at a price that nobody could pay.
fn can_be_paid(services: &Services, sale: &Sale) -> Result<(), Failure> {
    let prices = std::iter::once(sale.unit_price).chain(sale.more.iter().map(|line| line.unit_price));
    prices.into_iter().try_for_each(|price| {
        let told = services.provider.collects(price);
        told.map_err(|error| Failure::new(Code::BadRequest, format!("price_minor: {error}")))
    })
}

/// The same for a sale that is made under a key: if it was made before, nothing is changed, and it is told as it is.
pub(crate) async fn make_sale(
    services: &Services,
    live: &Live,
    sale: Sale,
) -> Result<(Sale, Applied), Failure> {
    can_be_paid(services, &sale)?;
    let made = services.ledger.make_sale(&sale).await.map_err(|error| ledger_failed(live, &error))?;
    if !made.is_offer_of(&sale) {
        return Err(stage::other_sale());
    }
    tell_of_sale(live, made).await
}

/// Writes down what changes of a sale, then lets the gate know it.
pub(crate) async fn move_sale(
    services: &Services,
    live: &Live,
    sale: &SaleId,
    to: &SaleMove,
) -> Result<(Sale, Applied), Failure> {
    let moved = services.ledger.move_sale(live.id(), sale, to).await;
    tell_of_sale(live, moved.map_err(|error| ledger_failed(live, &error))?).await
}

/// Lets the gate know a sale that is written down.
pub(crate) async fn tell_of_sale(live: &Live, sale: Sale) -> Result<(Sale, Applied), Failure> {
    match live.gate().put_sale(&sale.id, &sale.terms).await {
        Ok(applied) => {
            tracing::info!(live = %live.id(), sale = %sale.id, stock = sale.terms.stock, "sale put");
            Ok((sale, applied))
        }
        Err(error) => {
            tracing::warn!(live = %live.id(), sale = %sale.id, %error, "a sale waits for the gate");
            live.chore(Chore::Sale(Box::new(sale)));
            Err(Failure::new(
                Code::Pending,
                "this is written down and happens as soon as the stock store answers: it need not be asked for again, \
                 and under the same key it may be",
            ))
        }
    }
}

/// Who pays for what: the gate has just moved the hold to PAYING.
pub(crate) struct Purchase {
    pub(crate) payer: Payer,
    pub(crate) sale: Sale,
    pub(crate) hold: HoldId,
    pub(crate) deadline: UnixMillis,
    pub(crate) server_time: UnixMillis,
}

/// Commits the order, and only then asks the provider for a payment. Asked again for the same hold, it finds the same
/// order and the same payment.
pub(crate) async fn check_out(
    services: &Services,
    live: &Live,
    purchase: Purchase,
) -> Result<CheckedOut, Failure> {
    let Purchase { payer: Payer { viewer, details }, sale, hold, deadline, server_time } = purchase;
    let standing = live
        .gate()
        .standing(&sale.id, &viewer.id)
        .await
        .map_err(|error| gate_failed(live, &error))?
        .into_iter()
        .find(|standing| standing.hold == hold)
        .ok_or_else(|| Failure::new(Code::HoldOver, "this hold is over and its units went back"))?;
    let priced = sale.order_lines(&standing.units).and_then(|lines| Ok((price::sum(&lines)?, lines)));
    let (sum, lines) = priced.map_err(|error: PriceError| {
        tracing::error!(live = %live.id(), sale = %sale.id, %error, "a sale with an impossible price");
        Failure::new(Code::Internal, "the server could not do it")
    })?;
    let coupon = match &standing.coupon {
        Some(code) => Some(coupon_of(services, live, code, &sale, &lines).await?),
        None => None,
    };
    let off = coupon.as_ref().map_or(0, |coupon| coupon.amount.amount_minor);
    let total = Money { amount_minor: sum.amount_minor - off, ..sum };
    let order = NewOrder {
        id: order_id(&hold),
        payment: payment_id(&hold),
        provider: services.provider.name().to_owned(),
        merchant: live.merchant().clone(),
        live: live.id().clone(),
        sale: sale.id.clone(),
        product: lines[0].product.clone(),
        hold,
        buyer: viewer.id,
        buyer_name: viewer.name,
        quantity: standing.units.quantity(),
        unit_price: lines[0].unit_price,
        total,
        coupon,
        lines,
        created_at: server_time,
    };
    details.validate(total).map_err(|error| Failure::new(Code::BadRequest, error.to_string()))?;
    // An order is never ahead of what the gate has said: whatever a gate loses that has to do with money is noticed.
    live.gate().written().await.map_err(|error| ledger_failed(live, &error))?;
    let order = services.ledger.start_order(&order, &details).await.map_err(|error| match error {
        // The ledger's own constraint: the gate has given more uses than there are.
        LedgerError::Conflict(reason) if order.coupon.is_some() => {
            tracing::error!(live = %live.id(), order = %order.id, reason, "the ledger refused a use of a coupon");
            Failure::new(Code::CouponUsedUp, "this coupon is used up: give the hold up and try again without it")
        }
        error => ledger_failed(live, &error),
    })?;
    if order.state != OrderState::Paying {
        return Err(Failure::new(Code::WrongState, "this order is over"));
    }
    // The hold may have ended between the look at it and the commit, when there was no order yet to be closed.
    let still = live.gate().standing(&sale.id, &order.order.buyer).await;
    if still.is_ok_and(|holds| !holds.iter().any(|standing| standing.hold == order.order.hold)) {
        let expired = services.ledger.move_order(&order.order.id, OrderState::Expired, server_time).await;
        expired.map_err(|error| ledger_failed(live, &error))?;
        return Err(Failure::new(Code::HoldOver, "this hold is over and its units went back"));
    }
    let known =
        services.refunds.checkout(&order.order.payment).await.map_err(|error| ledger_failed(live, &error))?;
    if let Some(Checkout { url: Some(pay_url), .. }) = known {
        return Ok(CheckedOut { order, pay_url, deadline });
    }
    let request = PaymentRequest {
        payment: order.order.payment.clone(),
        attempt: known.map_or(0, |ended| ended.attempt + 1),
        order: order.order.id.clone(),
        live: live.id().clone(),
        buyer: order.order.buyer.clone(),
        amount: order.order.total,
        description: format!("{} × {}", order.order.quantity, order.order.product),
        expires_at: deadline,
    };
    let session = services.provider.start(&request).await.map_err(|error: PaymentError| {
        tracing::warn!(live = %live.id(), order = %request.order, %error, "no payment could be started");
        if let PaymentError::Refused(_) = error {
            let message = "the payment provider does not take this order: only the shop can mend that";
            return Failure::new(Code::WrongState, message);
        }
        Failure::new(
            Code::Unavailable,
            "the payment provider cannot be reached: your units stay reserved, try again",
        )
        .retry_after(2_000)
    })?;
    if let Some(name) = session.session {
        let checkout = Checkout {
            payment: request.payment.clone(),
            attempt: request.attempt,
            url: Some(session.url.clone()),
            session: Some(name),
            failures: 0,
        };
        // Not written down, it can't be ended early: what is paid in it too late goes back.
        if let Err(error) = services.refunds.put_checkout(&checkout, server_time).await {
            tracing::warn!(live = %live.id(), order = %request.order, %error, "a session was not written down");
        }
    }
    tracing::info!(live = %live.id(), order = %request.order, total = %request.amount, "payment started");
    Ok(CheckedOut { order, pay_url: session.url, deadline })
}

/// What an order gets off by the coupon of its hold.
async fn coupon_of(
    services: &Services,
    live: &Live,
    code: &CouponCode,
    sale: &Sale,
    lines: &[OrderLine],
) -> Result<OrderCoupon, Failure> {
    let known = services.ledger.coupon(live.id(), code).await.map_err(|error| ledger_failed(live, &error))?;
    let coupon = known.map(|known| known.coupon).ok_or_else(|| {
        tracing::error!(live = %live.id(), %code, "a hold has a coupon that is not written down");
        Failure::new(Code::Internal, "the server could not do it")
    })?;
    let amount = coupon.off(&sale.id, lines).map_err(misfit)?;
    Ok(OrderCoupon { code: code.clone(), amount })
}

/// The units of a hold that stands.
pub(crate) async fn units_of_hold(
    live: &Live,
    sale: &SaleId,
    buyer: &BuyerId,
    hold: &HoldId,
) -> Result<Units, Failure> {
    let standing = live.gate().standing(sale, buyer).await.map_err(|error| gate_failed(live, &error))?;
    let found = standing.into_iter().find(|standing| standing.hold == *hold);
    found
        .map(|standing| standing.units)
        .ok_or_else(|| Failure::new(Code::HoldOver, "this hold is over and its units went back"))
}

/// A hold ended, perhaps while it was being paid: its order is closed. An error where the ledger can't be reached now: it is
/// to be tried again.
pub(crate) async fn expire_order(
    services: &Services,
    live: &Live,
    order: &OrderId,
    server_time: UnixMillis,
) -> Result<(), LedgerError> {
    match services.ledger.move_order(order, OrderState::Expired, server_time).await {
        Ok(order) => live.order_moved(order, None),
        // The hold was given up before it was paid for.
        Err(LedgerError::NotFound(_)) => {}
        // Paid in the same moment: the callback decides.
        Err(LedgerError::Conflict(reason)) => {
            tracing::info!(live = %live.id(), %order, reason, "an order did not expire");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn gate_failed(live: &Live, error: &GateError) -> Failure {
    tracing::warn!(live = %live.id(), %error, "the gate gave no answer");
    stage::gate_failed(error)
}

pub(crate) fn ledger_failed(live: &Live, error: &LedgerError) -> Failure {
    tracing::warn!(live = %live.id(), %error, "the ledger gave no answer");
    unavailable()
}
