//! The gate's and the ledger's words in the channel's.

use std::time::Duration;

use haul_commerce::{
    Dispute, GateError, Order, OrderLine, Outcome, Product, Refusal, Units, ledger::Standing,
};
use haul_model::{CouponCode, HoldId, Money, SaleId, UnixMillis};
use haul_wire::{
    Code, Failure, HoldState, HoldView, LineUnits, OrderLineView, OrderStateView, OrderView, ProductView,
    Why, coupon::CouponOff,
};

pub(crate) fn hold_view(
    hold: HoldId,
    sale: SaleId,
    units: &Units,
    coupon: Option<CouponCode>,
    outcome: &Outcome,
) -> Option<HoldView> {
    let (state, deadline) = match outcome {
        Outcome::Held { deadline } | Outcome::Restored { deadline } => (HoldState::Held, Some(*deadline)),
        Outcome::Paying { deadline } => (HoldState::Paying, Some(*deadline)),
        Outcome::Waiting { .. } => (HoldState::Waiting, None),
        Outcome::Entered => (HoldState::Entered, None),
        Outcome::Captured { .. } => (HoldState::Captured, None),
        Outcome::Sold => (HoldState::Sold, None),
        Outcome::Released => (HoldState::Released, None),
        Outcome::Late | Outcome::Restocked | Outcome::Refused(_) => return None,
    };
    let (quantity, lines) = (units.quantity(), line_units(units));
    let position = match outcome {
        Outcome::Waiting { position } => Some(*position),
        _ => None,
    };
    Some(HoldView { id: hold, sale_id: sale, quantity, lines, state, deadline, position, coupon })
}

/// Units line by line, where they are not of the first alone.
pub(crate) fn line_units(units: &Units) -> Vec<LineUnits> {
    if units.is_plain() {
        return Vec::new();
    }
    units.iter().map(|(line, quantity)| LineUnits { line, quantity }).collect()
}

/// An order, as its buyer and the host see it.
pub fn order_view(found: &Order) -> OrderView {
    let Order { order, returned, refunded_minor, dispute, .. } = found;
    let total = order.total;
    OrderView {
        id: order.id.clone(),
        hold_id: order.hold.clone(),
        sale_id: order.sale.clone(),
        product_id: order.product.clone(),
        buyer_name: order.buyer_name.clone(),
        quantity: order.quantity,
        returned: returned.as_ref().map_or(0, Units::quantity),
        lines: order.lines.iter().map(order_line_view).collect(),
        total: order.total,
        coupon: order
            .coupon
            .as_ref()
            .map(|coupon| CouponOff { code: coupon.code.clone(), amount: coupon.amount }),
        state: match found.standing() {
            Standing::Paying => OrderStateView::Paying,
            Standing::Sold => OrderStateView::Sold,
            Standing::Expired => OrderStateView::Expired,
            Standing::RefundDue => OrderStateView::RefundDue,
            Standing::PartlyRefunded => OrderStateView::PartlyRefunded,
            Standing::Refunded => OrderStateView::Refunded,
        },
        refunded: Money { amount_minor: *refunded_minor, currency: total.currency },
        disputed: *dispute == Some(Dispute::Open),
        created_at: order.created_at,
    }
}

fn order_line_view(bought: &OrderLine) -> OrderLineView {
    let OrderLine { line, product, variant, quantity, unit_price, total } = bought;
    OrderLineView {
        line: *line,
        product_id: product.clone(),
        variant_id: variant.clone(),
        quantity: *quantity,
        unit_price: *unit_price,
        total: *total,
    }
}

/// A product, as everybody sees it.
pub fn product_view(product: &Product) -> ProductView {
    ProductView {
        id: product.id.clone(),
        title: product.title.clone(),
        subtitle: product.subtitle.clone(),
        image_url: product.image_url.clone(),
        list_price: product.list_price,
    }
}

pub(crate) fn refused(refusal: Refusal, server_time: UnixMillis) -> Failure {
    match refusal {
        Refusal::NotOpen { opens_at } => Failure::new(Code::SaleNotOpen, "the sale is not open yet")
            .retry_after(millis(opens_at.saturating_since(server_time))),
        Refusal::Closed => Failure::new(Code::SaleClosed, "the sale is over"),
        Refusal::SoldOut => Failure::new(Code::SoldOut, "sold out"),
        Refusal::NotEnough { available: 0, .. } => {
            Failure::new(Code::NotEnough, "all units are set aside for others; some may come back")
                .retry_after(2_000)
        }
        Refusal::NotEnough { available, .. } => {
            Failure::new(Code::NotEnough, format!("only {available} units are free; some may come back"))
                .retry_after(2_000)
        }
        Refusal::BuyerLimit { per_buyer, .. } => {
            Failure::new(Code::BuyerLimit, format!("at most {per_buyer} units a buyer"))
        }
        Refusal::KeyReused => {
            Failure::new(Code::KeyReused, "this key was used for another request: take a new key")
        }
        Refusal::UnknownHold => Failure::new(Code::UnknownHold, "you have no such hold"),
        Refusal::WrongState => Failure::new(Code::WrongState, "that is not possible any more"),
        Refusal::LineFull => {
            Failure::new(Code::NoLine, "too many are waiting in line already").retry_after(5_000)
        }
        Refusal::NoLine => Failure::new(Code::NoLine, "this sale has no line to wait in"),
        Refusal::CouponNotYet { valid_from } => {
            Failure::new(Code::CouponInvalid, "this coupon is not valid yet")
                .because(Why::NotYet)
                .retry_after(millis(valid_from.saturating_since(server_time)))
        }
        Refusal::CouponOver => {
            Failure::new(Code::CouponInvalid, "this coupon is not valid any more").because(Why::Over)
        }
        Refusal::CouponUsedUp => Failure::new(Code::CouponUsedUp, "this coupon is used up"),
        Refusal::CouponLimit { per_buyer: 1 } => {
            Failure::new(Code::CouponUsedUp, "you have used this coupon already")
        }
        Refusal::CouponLimit { per_buyer } => {
            Failure::new(Code::CouponUsedUp, format!("a buyer may use this coupon {per_buyer} times"))
        }
        Refusal::OtherCoupon => {
            Failure::new(Code::CouponInvalid, "a coupon comes with the hold or with its first checkout")
        }
        // The stage knows the coupon, and tells the gate now.
        Refusal::UnknownCoupon => unavailable(),
        Refusal::OneEntry => Failure::new(Code::BuyerLimit, "one entry a buyer"),
        Refusal::UnknownLine => Failure::new(Code::BadRequest, "lines: the sale has no such line"),
        Refusal::Paused => {
            Failure::new(Code::SalePaused, "the sale is paused for the moment").retry_after(2_000)
        }
        Refusal::BadQuantity => Failure::new(Code::BadRequest, "quantity: expected at least 1"),
        // The stage knows the sale and the gate does not: it has lost it, and nothing can be sold for the moment.
        Refusal::UnknownSale => unavailable(),
    }
}

pub(crate) fn gate_failed(error: &GateError) -> Failure {
    match error {
        GateError::Unavailable(_) => unavailable(),
        GateError::Unknown(_) => {
            Failure::new(Code::Pending, "the outcome is not known yet: ask again with the same key")
                .retry_after(500)
        }
        GateError::Stale { .. } | GateError::ClockJumped { .. } => frozen(),
        GateError::Corrupt(_) => Failure::new(Code::Internal, "the server could not do it"),
    }
}

/// The gate has lost something, or its clock is wrong. What it had promised is known, and the same key will find it again.
pub(crate) fn frozen() -> Failure {
    Failure::new(Code::Pending, "the sale is being restored after a failure: ask again with the same key")
        .retry_after(500)
}

/// A key was used for another sale before.
pub(crate) fn other_sale() -> Failure {
    Failure::new(Code::KeyReused, "key: another sale was made with it")
}

pub(crate) fn unavailable() -> Failure {
    Failure::new(Code::Unavailable, "selling is not available for the moment, nothing was taken: try again")
        .retry_after(1_000)
}

/// Rounded up, so that who waits exactly that long is not refused again.
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_micros().div_ceil(1_000) as u64
}
