//! What a provider says of money that went back: whose refund it is, and what follows.

use haul_commerce::{
    LedgerError, NewRefund, Parts, PaymentEvent, PaymentEventKind, Refund, RefundOrigin, RefundState,
    RefundStep, Refunded, refund, refund_id,
};
use haul_model::{OrderId, UnixMillis};

use super::{
    change::Change,
    db::{query, query_scalar},
    orders::add_event,
    refunds::{find_refund, gone, insert, read_refund, select_refund, take_step, with_order},
    row,
};

/// An order's money has come: what was heard of it going back before that is the order's after all.
pub(super) async fn adopt(change: &mut Change, order: &OrderId) -> Result<(), LedgerError> {
    let early: Vec<Refund> = query(select_refund!(
        "WHERE refunds.order_id = $1 AND refunds.currency = orders.paid_currency AND refunds.origin = 'provider' AND refunds.state = 'done' AND NOT refunds.of_order
         ORDER BY refunds.created_at, refunds.id"
    ))
    .bind(order.as_str())
    .try_map(|row| read_refund(&row))
    .fetch_all(&mut *change)
    .await?;
    for mut refund in early {
        query("UPDATE refunds SET of_order = TRUE WHERE id = $1")
            .bind(refund.refund.id.as_str())
            .execute(&mut *change)
            .await?;
        refund.refund.of_order = true;
        let at = refund.refund.at;
        gone(change, &mut refund, at).await?;
    }
    Ok(())
}

/// Whether it was told before that the refund of which an event says that it arrived failed after that.
async fn has_failed_since(change: &mut Change, event: &PaymentEvent) -> Result<bool, LedgerError> {
    let Some(name) = event.event.strip_prefix("refunded.") else { return Ok(false) };
    query_scalar(
        "SELECT EXISTS (SELECT 1 FROM callbacks WHERE payment_id = $1 AND kind = 'refund_failed' AND event_id = $2)",
    )
    .bind(event.payment.as_str())
    .bind(format!("refund_failed.{name}"))
    .fetch_one(change)
    .await
}

/// The refund of ours that a word may be about which names none.
async fn asked_for(change: &mut Change, event: &PaymentEvent) -> Result<Option<Refund>, LedgerError> {
    query(select_refund!(
        "WHERE refunds.payment_id = $1 AND refunds.amount_minor = $2
             AND (refunds.state = 'asked' OR refunds.state = 'due' AND refunds.attempts > 0)
         ORDER BY refunds.created_at, refunds.id LIMIT 1"
    ))
    .bind(event.payment.as_str())
    .bind(event.amount.amount_minor)
    .try_map(|row| read_refund(&row))
    .fetch_optional(change)
    .await
}

/// The refund that somebody made at the provider, which calls it so; it was told of under this name.
async fn made_at_provider(
    change: &mut Change,
    event: &PaymentEvent,
    name: &str,
) -> Result<Option<Refund>, LedgerError> {
    let provider = query_scalar("SELECT provider FROM orders WHERE payment_id = $1")
        .bind(event.payment.as_str())
        .fetch_optional(&mut *change)
        .await?;
    let Some(provider): Option<String> = provider else { return Ok(None) };
    let id = refund_id(&provider, &format!("refunded.{name}"));
    find_refund(id.as_str(), change).await
}

pub(super) async fn heard(
    change: &mut Change,
    event: &PaymentEvent,
    at: UnixMillis,
) -> Result<Option<Refunded>, LedgerError> {
    let mut named = match (&event.refund, refund::failed_refund(event)) {
        (Some(refund), _) => find_refund(refund.as_str(), &mut *change).await?,
        (None, Some(name)) => made_at_provider(change, event, name).await?,
        (None, None) => None,
    };
    let is_refund = event.kind != PaymentEventKind::DisputeLost;
    if named.is_none() && event.refund.is_none() && is_refund {
        named = asked_for(change, event).await?;
    }
    if event.kind == PaymentEventKind::Refunded && has_failed_since(change, event).await? {
        // The word that it arrived was overtaken by the word that it came back.
        return match named {
            Some(refund) => with_order(change, refund, false).await.map(Some),
            None => Ok(None),
        };
    }
    let fits = |refund: &Refund| refund.payment == event.payment && refund.refund.amount == event.amount;
    let named = named.filter(fits);
    let step = match (event.kind, &named) {
        (PaymentEventKind::RefundFailed, None) => return Ok(None),
        (PaymentEventKind::RefundFailed, Some(known)) => {
            let error = "the provider says that the refund failed".to_owned();
            match refund::has_come_back(event, known.reference.as_deref()) {
                true => RefundStep::CameBack { error },
                false => RefundStep::Failed { error },
            }
        }
        // The provider's own name of it, where its answer has not told it yet.
        (_, Some(Refund { reference: None, .. })) => {
            RefundStep::Done { reference: event.event.strip_prefix("refunded.").map(str::to_owned) }
        }
        _ => RefundStep::Done { reference: None },
    };
    if let Some(refund) = named {
        return take_step(change, refund, &step, at).await.map(Some);
    }
    // Somebody has sent money back at the provider.
    let order = query("SELECT * FROM orders WHERE payment_id = $1")
        .bind(event.payment.as_str())
        .try_map(|row| row::order(&row))
        .fetch_optional(&mut *change)
        .await?;
    let Some(order) = order else {
        return Err(LedgerError::NotFound(format!("an order paid by {}", event.payment)));
    };
    let id = refund_id(&order.order.provider, &event.event);
    if let Some(known) = find_refund(id.as_str(), &mut *change).await? {
        return with_order(change, known, false).await.map(Some);
    }
    // It has gone, whatever else was asked for and may yet be refused.
    let left = match &order.paid {
        Some(paid) if paid.amount.currency == event.amount.currency => {
            paid.amount.amount_minor - order.refunded_minor
        }
        _ => 0,
    };
    let new = NewRefund {
        id: id.clone(),
        order: order.order.id.clone(),
        amount: event.amount,
        parts: Parts::default(),
        origin: RefundOrigin::Provider,
        of_order: left > 0,
        payment_reference: event.reference.clone(),
        reason: if is_refund { String::new() } else { "dispute".to_owned() },
        at,
    };
    insert(change, &new, &order, RefundState::Done).await?;
    let mut refund = find_refund(id.as_str(), &mut *change)
        .await?
        .ok_or_else(|| LedgerError::NotFound(format!("the refund {id}")))?;
    gone(change, &mut refund, at).await?;
    with_order(change, refund, true).await.map(Some)
}

/// A dispute over a part was lost: the part is a refund of the provider's, and the rest is nobody's but the order's.
pub(super) async fn lost_in_part(
    change: &mut Change,
    event: &PaymentEvent,
    at: UnixMillis,
) -> Result<Refunded, LedgerError> {
    let heard = heard(change, event, at).await?;
    let refunded =
        heard.ok_or_else(|| LedgerError::NotFound(format!("an order paid by {}", event.payment)))?;
    if !refunded.news {
        return Ok(refunded);
    }
    query("UPDATE orders SET dispute = NULL WHERE id = $1")
        .bind(refunded.order.order.id.as_str())
        .execute(&mut *change)
        .await?;
    add_event(change, &refunded.order.order, "dispute_lost", Some(refunded.refund.refund.id.as_str()), at)
        .await?;
    Ok(Refunded { news: true, ..with_order(change, refunded.refund, true).await? })
}

/// Whether a dispute over a part of an order was lost: the event names the part's refund.
pub(super) async fn was_lost_in_part(change: &mut Change, order: &OrderId) -> Result<bool, LedgerError> {
    query_scalar(
        "SELECT EXISTS (SELECT 1 FROM order_events WHERE order_id = $1 AND state = 'dispute_lost' AND detail IS NOT NULL)",
    )
    .bind(order.as_str())
    .fetch_one(change)
    .await
}
