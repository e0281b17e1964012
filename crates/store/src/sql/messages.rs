//! What merchants' webhooks are told, written in the transaction in which it becomes true.

use std::collections::{BTreeSet, HashSet};

use haul_commerce::{
    LedgerError, Line, Order, OrderLine, Refund,
    outbox::{Endpoint, Message},
};
use haul_model::{BuyerId, MerchantId, MessageId, Money, UnixMillis};
use serde_json::{Value, json};

use super::{
    change::Change,
    db::{given, query, query_scalar},
    lines,
    notices::Notice,
    outbox::{endpoints, read_endpoint},
    refunds,
    row::{sql, state_text},
};

/// Tells a merchant what happened to an order, in the transaction in which it happens. `number`: of the order's event.
/// Where the merchant has no endpoint, nothing is written.
pub(super) async fn tell_order(
    change: &mut Change,
    order: &str,
    merchant: &str,
    number: i64,
    state: &str,
    detail: Option<&str>,
    at: UnixMillis,
) -> Result<(), LedgerError> {
    let endpoints = endpoints(merchant, &mut *change).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let mut found = query("SELECT * FROM orders WHERE id = $1")
        .bind(order)
        .try_map(|row| super::row::order(&row))
        .fetch_one(&mut *change)
        .await?;
    lines::fill(change, &mut found).await?;
    let refund = match detail {
        Some(refund) => refunds::find_refund(refund, &mut *change).await?,
        None => None,
    };
    let message = order_message(&found, number, state, refund.as_ref(), at)?;
    put_messages(change, &[(message, number)], &endpoints).await
}

/// The same of many orders that have come to their states, each with the number of its event.
pub(super) async fn tell_orders<'a>(
    change: &mut Change,
    moved: impl Iterator<Item = (&'a Order, i64)> + Clone,
) -> Result<(), LedgerError> {
    let merchants: BTreeSet<_> = moved.clone().map(|(order, _)| [order.order.merchant.as_str()]).collect();
    let endpoints = given!(
        change,
        &merchants,
        "SELECT webhooks.* FROM " " CROSS JOIN webhooks WHERE webhooks.merchant_id = given.value ->> 0
         ORDER BY webhooks.created_at, webhooks.id"
    )
    .try_map(|row| read_endpoint(&row))
    .fetch_all(&mut *change)
    .await?;
    let listens = |merchant: &MerchantId| endpoints.iter().any(|endpoint| endpoint.merchant == *merchant);
    let messages: Vec<_> = moved
        .filter(|(order, _)| listens(&order.order.merchant))
        .map(|(order, number)| {
            let state = state_text(order.state);
            Ok((order_message(order, number, state, None, order.updated_at)?, number))
        })
        .collect::<Result<_, LedgerError>>()?;
    put_messages(change, &messages, &endpoints).await
}

/// What a merchant is told of an order's event.
fn order_message(
    found: &Order,
    number: i64,
    state: &str,
    refund: Option<&Refund>,
    at: UnixMillis,
) -> Result<Message, LedgerError> {
    let kind = match (state, refund) {
        ("refund_due", Some(_)) => "refund.created".to_owned(),
        ("refund_failed", _) => "refund.failed".to_owned(),
        (state, _) => format!("order.{state}"),
    };
    let mut data = order_data(found);
    if let Some(refund) = refund {
        data["refund_id"] = json!(refund.refund.id);
        data["refund"] = refund_data(refund);
    }
    let body = json!({ "type": kind, "timestamp": at, "data": data }).to_string();
    let order = found.order.id.as_str();
    // Named by what it tells, so that it is one message however often that is written.
    let id = format!("msg_{}.{number}", order.trim_start_matches("order_"));
    let Ok(id) = id.parse::<MessageId>() else {
        return Err(LedgerError::Conflict(format!("the order {order} has an id that no message can have")));
    };
    Ok(Message { id, merchant: found.order.merchant.clone(), subject: order.to_owned(), kind, body, at })
}

/// Tells a merchant's webhooks what a notice says, under the notice's id, in the transaction in which it becomes true.
pub(super) async fn tell_notice(
    change: &mut Change,
    id: MessageId,
    notice: &Notice,
) -> Result<(), LedgerError> {
    let endpoints = endpoints(&notice.merchant, &mut *change).await?;
    if endpoints.is_empty() {
        return Ok(());
    }
    let Ok(merchant) = notice.merchant.parse() else {
        return Err(LedgerError::Conflict(format!("{} is no merchant", notice.merchant)));
    };
    let kind = notice.kind.to_owned();
    let body = json!({ "type": kind, "timestamp": notice.at, "data": notice.body }).to_string();
    // Numbered apart from the messages about an order, whose numbers are those of its events.
    let subject = format!("{kind}:{}", notice.subject);
    let message = Message { id, merchant, subject, kind, body, at: notice.at };
    put_message(change, message, &endpoints).await
}

/// Takes a buyer's name out of messages that are kept, delivered or not.
pub(super) async fn forget_name(
    change: &mut Change,
    merchant: &MerchantId,
    buyer: &BuyerId,
) -> Result<(), LedgerError> {
    let told: Vec<(String, String)> = query(
        "SELECT id, body FROM outbox WHERE merchant_id = $1
             AND subject IN (SELECT id FROM orders WHERE merchant_id = $1 AND buyer_id = $2)",
    )
    .bind(merchant.as_str())
    .bind(buyer.as_str())
    .try_map(|row| Ok((row.try_get("id")?, row.try_get("body")?)))
    .fetch_all(&mut *change)
    .await?;
    for (id, body) in told {
        let Ok(mut body) = serde_json::from_str::<Value>(&body) else { continue };
        let Some(name) = body.pointer_mut("/data/buyer_name") else { continue };
        *name = json!("");
        query("UPDATE outbox SET body = $1 WHERE id = $2")
            .bind(body.to_string())
            .bind(id)
            .execute(&mut *change)
            .await?;
    }
    Ok(())
}

/// A refund, as merchants read it.
fn refund_data(Refund { refund, state, .. }: &Refund) -> Value {
    json!({
        "id": refund.id,
        "order_id": refund.order,
        "amount": refund.amount,
        "lines": refund.parts.iter().map(|(line, part)| part_data(line, part, refund.amount)).collect::<Vec<_>>(),
        "state": refunds::refund_state_text(*state),
        "of_order": refund.of_order,
    })
}

/// How much of a refund is of a line.
fn part_data(line: Line, amount_minor: i64, whole: Money) -> Value {
    json!({ "line": line, "amount": Money { amount_minor, ..whole } })
}

/// An order, as merchants read it. Its lines must be there.
fn order_data(found: &Order) -> Value {
    let Order { order, refunded_minor, dispute, .. } = found;
    let refunded = json!({ "amount_minor": refunded_minor, "currency": order.total.currency });
    let lines: Vec<_> = order.lines.iter().map(line_data).collect();
    let coupon = order.coupon.as_ref();
    json!({
        "id": order.id,
        "live_id": order.live,
        "sale_id": order.sale,
        "product_id": order.product,
        "hold_id": order.hold,
        "payment_id": order.payment,
        "buyer_id": order.buyer,
        "buyer_name": order.buyer_name,
        "quantity": order.quantity,
        "lines": lines,
        "total": order.total,
        "coupon": coupon.map(|coupon| json!({ "code": coupon.code, "amount": coupon.amount })),
        "refunded": refunded,
        "state": found.standing().name(),
        "dispute": dispute.map(refunds::dispute_text),
        "created_at": order.created_at,
    })
}

/// One line of an order; `variant_id` where the sale was of one form of the product.
fn line_data(bought: &OrderLine) -> Value {
    let OrderLine { line, product, variant, quantity, unit_price, total } = bought;
    let mut data = json!({
        "line": line,
        "product_id": product,
        "quantity": quantity,
        "unit_price": unit_price,
        "total": total,
    });
    if let Some(variant) = variant {
        data["variant_id"] = json!(variant);
    }
    data
}

/// Writes a message and its deliveries, unless it is there. Its number is the next one about its subject.
pub(super) async fn put_message(
    change: &mut Change,
    message: Message,
    endpoints: &[Endpoint],
) -> Result<(), LedgerError> {
    let next = query_scalar(
        "SELECT CAST(COALESCE(MAX(number), 0) + 1 AS BIGINT) FROM outbox WHERE merchant_id = $1 AND subject = $2",
    )
    .bind(message.merchant.as_str())
    .bind(&message.subject)
    .fetch_one(&mut *change)
    .await?;
    put_messages(change, &[(message, next)], endpoints).await
}

/// Writes messages with their numbers, and the deliveries of each, unless it is there. `endpoints`: of all their merchants.
async fn put_messages(
    change: &mut Change,
    messages: &[(Message, i64)],
    endpoints: &[Endpoint],
) -> Result<(), LedgerError> {
    if messages.is_empty() {
        return Ok(());
    }
    let rows = messages.iter().map(|(message, number)| {
        let Message { id, merchant, subject, kind, body, at } = message;
        (id, merchant, subject, number, kind, body, sql(at.0))
    });
    let put: HashSet<String> = given!(
        change,
        &rows.collect::<Vec<_>>(),
        "INSERT INTO outbox (id, merchant_id, subject, number, kind, body, created_at)
         SELECT given.value ->> 0, given.value ->> 1, given.value ->> 2, CAST(given.value ->> 3 AS BIGINT),
                given.value ->> 4, given.value ->> 5, CAST(given.value ->> 6 AS BIGINT)
         FROM " " WHERE TRUE ON CONFLICT (id) DO NOTHING RETURNING id"
    )
    .try_map(|row| row.try_get(0))
    .fetch_all(&mut *change)
    .await?
    .into_iter()
    .collect();
    let new = messages.iter().filter(|(message, _)| put.contains(message.id.as_str()));
    let deliveries: Vec<_> = new
        .flat_map(|(message, number)| {
            let goes = |endpoint: &&Endpoint| {
                endpoint.merchant == message.merchant
                    && endpoint.disabled.is_none()
                    && endpoint.wants(&message.kind)
            };
            endpoints
                .iter()
                .filter(goes)
                .map(move |endpoint| (&endpoint.id, &message.id, &message.subject, number, sql(message.at.0)))
        })
        .collect();
    if deliveries.is_empty() {
        return Ok(());
    }
    given!(
        change,
        &deliveries,
        "INSERT INTO deliveries (webhook_id, message_id, subject, number, state, next_attempt_at, created_at)
         SELECT given.value ->> 0, given.value ->> 1, given.value ->> 2, CAST(given.value ->> 3 AS BIGINT), 'pending',
                CAST(given.value ->> 4 AS BIGINT), CAST(given.value ->> 4 AS BIGINT)
         FROM " ""
    )
    .execute(&mut *change)
    .await
    .map(|_| ())
}
