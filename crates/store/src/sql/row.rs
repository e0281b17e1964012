//! Between rows and the ledger's types. What a row says is checked like anything that comes from outside.

use std::{error::Error, str::FromStr};

use haul_commerce::{
    Callback, Draw, EarlyAccess, LiveRecord, Mark, NewOrder, Order, OrderLine, OrderState, Paid,
    PaymentEvent, PaymentEventKind, Product, Sale, SaleMode, SaleTerms, Units,
    book::{HoldRecord, HoldState},
};
use haul_model::{Currency, Money, ProductId, UnixMillis};

use super::db::Row;

pub(super) type Read<T> = Result<T, sqlx::Error>;

pub(super) fn live(row: &Row) -> Read<LiveRecord> {
    Ok(LiveRecord {
        id: parsed(row, "id")?,
        merchant: parsed(row, "merchant_id")?,
        title: row.try_get("title")?,
        public: row.try_get("public")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn product(row: &Row) -> Read<Product> {
    Ok(Product {
        id: parsed(row, "id")?,
        merchant: parsed(row, "merchant_id")?,
        title: row.try_get("title")?,
        subtitle: row.try_get("subtitle")?,
        image_url: row.try_get("image_url")?,
        list_price: money(row, "amount_minor")?,
    })
}

pub(super) fn sale(row: &Row) -> Read<Sale> {
    Ok(Sale {
        id: parsed(row, "id")?,
        merchant: parsed(row, "merchant_id")?,
        live: parsed(row, "live_id")?,
        product: parsed(row, "product_id")?,
        variant: parsed_if(row, "variant_id")?,
        unit_price: money(row, "unit_price_minor")?,
        more: Vec::new(),
        terms: SaleTerms {
            stock: number(row, "stock")?,
            per_buyer: number(row, "per_buyer")?,
            hold_ms: number(row, "hold_ms")?,
            pay_ms: number(row, "pay_ms")?,
            opens_at: time(row, "opens_at")?,
            closes_at: time(row, "closes_at")?,
            more: Vec::new(),
            paused: row.try_get("paused")?,
            mode: sale_mode(row)?,
            early: early(row)?,
            offer_ms: row.try_get::<Option<i64>>("offer_ms")?.map(|ms| ms.unsigned_abs()),
            draw: draw(row)?,
        },
    })
}

pub(super) fn order(row: &Row) -> Read<Order> {
    let (product, quantity) = (parsed(row, "product_id")?, number(row, "quantity")?);
    let (unit_price, total) = (money(row, "unit_price_minor")?, money(row, "total_minor")?);
    let coupon = super::coupons::of_order(row)?;
    // Of its lines, before the coupon.
    let whole = Money {
        amount_minor: total.amount_minor + coupon.as_ref().map_or(0, |coupon| coupon.amount.amount_minor),
        ..total
    };
    let (variant, units) = (parsed_if(row, "variant_id")?, parsed_if::<Units>(row, "units")?);
    Ok(Order {
        order: NewOrder {
            id: parsed(row, "id")?,
            payment: parsed(row, "payment_id")?,
            provider: row.try_get("provider")?,
            merchant: parsed(row, "merchant_id")?,
            live: parsed(row, "live_id")?,
            sale: parsed(row, "sale_id")?,
            // Of others, they are in a table of their own.
            lines: match units {
                None => vec![OrderLine {
                    variant,
                    ..OrderLine::only(ProductId::clone(&product), quantity, unit_price, whole)
                }],
                Some(_) => Vec::new(),
            },
            product,
            hold: parsed(row, "hold_id")?,
            buyer: parsed(row, "buyer_id")?,
            buyer_name: row.try_get("buyer_name")?,
            quantity,
            unit_price,
            total,
            coupon,
            created_at: time(row, "created_at")?,
        },
        state: order_state(row, "state")?,
        paid: paid(row)?,
        returned: parsed_if(row, "returned")?,
        refunded_minor: row.try_get("refunded_minor")?,
        dispute: super::refunds::dispute(row)?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(super) fn mark(row: &Row) -> Read<Mark> {
    Ok(Mark { epoch: number(row, "gate_epoch")?, sequence: number(row, "gate_sequence")? })
}

pub(super) fn hold(row: &Row) -> Read<HoldRecord> {
    let text: &str = row.try_get("state")?;
    let state = HOLD_STATES.into_iter().find(|state| hold_state_text(*state) == text);
    let order: Option<&str> = row.try_get("order_id")?;
    Ok(HoldRecord {
        hold: parsed(row, "id")?,
        buyer: parsed(row, "buyer_id")?,
        units: match parsed_if(row, "units")? {
            Some(units) => units,
            None => number::<u32>(row, "quantity")?.into(),
        },
        made: number(row, "made")?,
        state: state.ok_or_else(|| bad("state", "no known state"))?,
        deadline: time(row, "deadline")?,
        order: order.map(str::parse).transpose().map_err(|error| bad("order_id", error))?,
        extended: row.try_get("extended")?,
        retaken: row.try_get("retaken")?,
        unreserved: row.try_get("unreserved")?,
        returned: parsed_if(row, "returned")?,
        coupon: parsed_if(row, "coupon")?,
    })
}

const HOLD_STATES: [HoldState; 7] = [
    HoldState::Held,
    HoldState::Paying,
    HoldState::Captured,
    HoldState::Sold,
    HoldState::Waiting,
    HoldState::Released,
    HoldState::Late,
];

pub(super) fn hold_state_text(state: HoldState) -> &'static str {
    match state {
        HoldState::Held => "held",
        HoldState::Paying => "paying",
        HoldState::Captured => "captured",
        HoldState::Sold => "sold",
        HoldState::Waiting => "waiting",
        HoldState::Released => "released",
        HoldState::Late => "late",
    }
}

fn paid(row: &Row) -> Read<Option<Paid>> {
    let Some(event) = row.try_get("paid_event")? else { return Ok(None) };
    let amount = Money { amount_minor: row.try_get("paid_minor")?, currency: parsed(row, "paid_currency")? };
    Ok(Some(Paid { event, amount }))
}

pub(super) fn callback(row: &Row) -> Read<Callback> {
    let text: &str = row.try_get("kind")?;
    let kind = KINDS.into_iter().find(|kind| kind_text(*kind) == text);
    let kind = kind.ok_or_else(|| bad("kind", "no known kind"))?;
    Ok(Callback {
        provider: row.try_get("provider")?,
        event: PaymentEvent {
            event: row.try_get("event_id")?,
            payment: parsed(row, "payment_id")?,
            kind,
            amount: money(row, "amount_minor")?,
            refund: parsed_if(row, "refund_id")?,
            reference: row.try_get("reference")?,
        },
        received_at: time(row, "received_at")?,
    })
}

/// All of them.
pub(super) const STATES: [OrderState; 5] =
    [OrderState::Paying, OrderState::Sold, OrderState::Expired, OrderState::RefundDue, OrderState::Refunded];

const KINDS: [PaymentEventKind; 7] = [
    PaymentEventKind::Paid,
    PaymentEventKind::Failed,
    PaymentEventKind::Refunded,
    PaymentEventKind::RefundFailed,
    PaymentEventKind::Disputed,
    PaymentEventKind::DisputeWon,
    PaymentEventKind::DisputeLost,
];

pub(super) fn state_text(state: OrderState) -> &'static str {
    match state {
        OrderState::Paying => "paying",
        OrderState::Sold => "sold",
        OrderState::Expired => "expired",
        OrderState::RefundDue => "refund_due",
        OrderState::Refunded => "refunded",
    }
}

pub(super) fn kind_text(kind: PaymentEventKind) -> &'static str {
    match kind {
        PaymentEventKind::Paid => "paid",
        PaymentEventKind::Failed => "failed",
        PaymentEventKind::Refunded => "refunded",
        PaymentEventKind::RefundFailed => "refund_failed",
        PaymentEventKind::Disputed => "disputed",
        PaymentEventKind::DisputeWon => "dispute_won",
        PaymentEventKind::DisputeLost => "dispute_lost",
    }
}

fn order_state(row: &Row, column: &str) -> Read<OrderState> {
    let text: &str = row.try_get(column)?;
    STATES.into_iter().find(|state| state_text(*state) == text).ok_or_else(|| bad(column, "no known state"))
}

/// An id, units, or a currency.
pub(super) fn parsed<T: FromStr<Err: Error + Send + Sync + 'static>>(row: &Row, column: &str) -> Read<T> {
    row.try_get::<&str>(column)?.parse().map_err(|error| bad(column, error))
}

pub(super) fn text<'r>(row: &'r Row, column: &str) -> Read<&'r str> {
    row.try_get(column)
}

/// The same where there may be none.
pub(super) fn parsed_if<T: FromStr<Err: Error + Send + Sync + 'static>>(
    row: &Row,
    column: &str,
) -> Read<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(str::parse).transpose().map_err(|error| bad(column, error))
}

fn draw(row: &Row) -> Read<Option<Draw>> {
    let ms: Option<i64> = row.try_get("draw_ms")?;
    let Some(ms) = ms else { return Ok(None) };
    Ok(Some(Draw { ms: ms.unsigned_abs(), seed: text(row, "draw_seed")?.to_owned() }))
}

fn sale_mode(row: &Row) -> Read<SaleMode> {
    let text: &str = row.try_get("mode")?;
    let mode = [SaleMode::HoldInCart, SaleMode::FirstPaid].into_iter().find(|mode| mode_text(*mode) == text);
    mode.ok_or_else(|| bad("mode", "no known mode"))
}

pub(super) fn mode_text(mode: SaleMode) -> &'static str {
    match mode {
        SaleMode::HoldInCart => "hold_in_cart",
        SaleMode::FirstPaid => "first_paid",
    }
}

fn early(row: &Row) -> Read<Vec<EarlyAccess>> {
    let text: &str = row.try_get("early")?;
    let one = |one: &str| {
        let (tier, ms) = one.split_once('=').ok_or_else(|| bad("early", "expected tier=ms"))?;
        let tier = tier.parse().map_err(|error| bad("early", error))?;
        Ok(EarlyAccess { tier, ms: ms.parse().map_err(|error| bad("early", error))? })
    };
    text.split(',').filter(|one| !one.is_empty()).map(one).collect()
}

/// No id has a comma or an equals sign.
pub(super) fn early_text(early: &[EarlyAccess]) -> String {
    early.iter().map(|one| format!("{}={}", one.tier, one.ms)).collect::<Vec<_>>().join(",")
}

pub(super) fn number<T: TryFrom<i64, Error: Error + Send + Sync + 'static>>(
    row: &Row,
    column: &str,
) -> Read<T> {
    T::try_from(row.try_get::<i64>(column)?).map_err(|error| bad(column, error))
}

pub(super) fn time(row: &Row, column: &str) -> Read<UnixMillis> {
    number(row, column).map(UnixMillis)
}

/// The amount in `column`, in the row's currency.
pub(super) fn money(row: &Row, column: &str) -> Read<Money> {
    Ok(Money { amount_minor: row.try_get(column)?, currency: currency(row)? })
}

/// Of a row; it may be one that is not in use any more.
pub(super) fn currency(row: &Row) -> Read<Currency> {
    Currency::kept(row.try_get("currency")?).map_err(|error| bad("currency", error))
}

pub(super) fn bad(column: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() }
}

/// A number as SQL has them. Times and durations end centuries before the range does.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
