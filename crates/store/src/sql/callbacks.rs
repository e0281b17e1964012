//! What providers have said of payments, recorded before it is answered and finished when it is carried out.

use std::collections::{HashMap, HashSet};

use haul_commerce::{Callback, CallbackState, LedgerError, Order, Paid, PaymentEventKind, buyers::Details};
use haul_model::{LiveId, OrderId};

use super::{
    SqlLedger,
    change::{Change, Writer},
    db::{given, query},
    details, reported,
    row::{self, kind_text, sql},
    sets::Kind,
};

/// A callback, and what it tells of whoever paid.
pub(super) type Recorded = (Callback, Option<Details>);
/// A provider and its event.
pub(super) type Finished = (String, String);

/// [`haul_commerce::Ledger::record_callback`].
pub(super) struct Record;

impl Kind for Record {
    type Item = Recorded;
    type Answer = CallbackState;

    async fn together(
        mut change: Change,
        set: &[Recorded],
    ) -> Result<Vec<Option<CallbackState>>, LedgerError> {
        // Told twice in one set, the second is told again.
        let mut seen = HashSet::new();
        let plain: Vec<&Callback> = set
            .iter()
            .filter(|(callback, details)| details.is_none() && seen.insert(name(callback)))
            .map(|(callback, _)| callback)
            .collect();
        let row = |callback: &&Callback| {
            let Callback { provider, event, received_at } = callback;
            (
                provider.clone(),
                event.event.clone(),
                event.payment.clone(),
                kind_text(event.kind),
                event.amount.amount_minor,
                event.amount.currency.code().to_owned(),
                sql(received_at.0),
                event.refund.clone(),
                event.reference.clone(),
            )
        };
        let rows: Vec<_> = plain.iter().map(row).collect();
        // Money of which some went back before it was heard of is for a change of its own.
        let mut new: HashSet<(String, String)> = given!(
            change,
            &rows,
            "INSERT INTO callbacks (provider, event_id, merchant_id, payment_id, kind, amount_minor, currency, received_at,
                                    refund_id, reference)
             SELECT orders.provider, given.value ->> 1, orders.merchant_id, orders.payment_id, given.value ->> 3,
                    CAST(given.value ->> 4 AS BIGINT), given.value ->> 5, CAST(given.value ->> 6 AS BIGINT),
                    given.value ->> 7, given.value ->> 8
             FROM " " CROSS JOIN orders
             WHERE orders.payment_id = given.value ->> 2 AND orders.provider = given.value ->> 0
                 AND NOT EXISTS (SELECT 1 FROM refunds WHERE refunds.order_id = orders.id)
             ON CONFLICT (provider, event_id) DO NOTHING RETURNING provider, event_id"
        )
        .try_map(|row| Ok((row.try_get("provider")?, row.try_get("event_id")?)))
        .fetch_all(&mut change)
        .await?
        .into_iter()
        .collect();
        // Each once, as the first to bring money.
        let paid: HashMap<_, _> = plain
            .iter()
            .rev()
            .filter(|callback| callback.event.kind == PaymentEventKind::Paid && new.contains(&name(callback)))
            .map(|callback| (&callback.event.payment, &callback.event))
            .collect();
        if !paid.is_empty() {
            let row = |event: &&haul_commerce::PaymentEvent| {
                let amount = event.amount;
                (
                    event.payment.clone(),
                    event.event.clone(),
                    amount.amount_minor,
                    amount.currency.code().to_owned(),
                )
            };
            let rows: Vec<_> = paid.values().map(row).collect();
            given!(
                change,
                &rows,
                "UPDATE orders SET paid_event = given.value ->> 1, paid_minor = CAST(given.value ->> 2 AS BIGINT),
                                   paid_currency = given.value ->> 3
                 FROM " " WHERE orders.payment_id = given.value ->> 0 AND orders.paid_event IS NULL"
            )
            .execute(&mut change)
            .await?;
        }
        change.commit().await?;
        // Who tells more of the same event has that to be written down.
        let answer = |(callback, details): &Recorded| {
            (details.is_none() && new.remove(&name(callback))).then_some(CallbackState::New)
        };
        Ok(set.iter().map(answer).collect())
    }

    async fn alone(write: Writer, (callback, details): Recorded) -> Result<CallbackState, LedgerError> {
        let Callback { provider, event, received_at } = &callback;
        let mut change = write.begin().await?;
        let order = query("SELECT id, merchant_id FROM orders WHERE payment_id = $1 AND provider = $2")
            .bind(event.payment.as_str())
            .bind(provider)
            .try_map(|row| Ok((row::parsed::<OrderId>(&row, "id")?, row.try_get::<String>("merchant_id")?)))
            .fetch_optional(&mut change)
            .await?;
        let Some((order, merchant)) = order else {
            return Err(LedgerError::NotFound(format!("an order paid by {} at {provider}", event.payment)));
        };
        let inserted = query(
            "INSERT INTO callbacks (provider, event_id, merchant_id, payment_id, kind, amount_minor, currency, received_at,
                                    refund_id, reference)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (provider, event_id) DO NOTHING",
        )
        .bind(provider)
        .bind(&event.event)
        .bind(merchant)
        .bind(event.payment.as_str())
        .bind(kind_text(event.kind))
        .bind(event.amount.amount_minor)
        .bind(event.amount.currency.code())
        .bind(sql(received_at.0))
        .bind(event.refund.as_ref().map(|refund| refund.as_str()))
        .bind(&event.reference)
        .execute(&mut change)
        .await?;
        if inserted == 1 {
            if event.kind == PaymentEventKind::Paid {
                pay(&mut change, &order, &Paid { event: event.event.clone(), amount: event.amount }).await?;
            }
            if let Some(details) = &details {
                details::fill_in(&mut change, &event.payment, details, *received_at).await?;
            }
        }
        let (known, finished) = query("SELECT * FROM callbacks WHERE provider = $1 AND event_id = $2")
            .bind(provider)
            .bind(&event.event)
            .try_map(|row| Ok((row::callback(&row)?, row.try_get("finished")?)))
            .fetch_one(&mut change)
            .await?;
        change.commit().await?;
        if known.event != *event {
            return Err(LedgerError::Conflict(format!(
                "{provider} said something else as event {} before",
                event.event
            )));
        }
        Ok(match (inserted, finished) {
            (1, _) => CallbackState::New,
            (_, false) => CallbackState::Unfinished,
            (_, true) => CallbackState::Done,
        })
    }
}

fn name(callback: &Callback) -> (String, String) {
    (callback.provider.clone(), callback.event.event.clone())
}

/// An order's money is there, unless it was before.
async fn pay(change: &mut Change, order: &OrderId, paid: &Paid) -> Result<(), LedgerError> {
    let first = query(
        "UPDATE orders SET paid_event = $1, paid_minor = $2, paid_currency = $3
         WHERE id = $4 AND paid_event IS NULL",
    )
    .bind(&paid.event)
    .bind(paid.amount.amount_minor)
    .bind(paid.amount.currency.code())
    .bind(order.as_str())
    .execute(&mut *change)
    .await?;
    if first == 1 {
        reported::adopt(change, order).await?;
    }
    Ok(())
}

/// [`haul_commerce::Ledger::finish_callback`].
pub(super) struct Finish;

impl Kind for Finish {
    type Item = Finished;
    type Answer = ();

    async fn together(mut change: Change, set: &[Finished]) -> Result<Vec<Option<()>>, LedgerError> {
        let finished: HashSet<Finished> = given!(
            change,
            set,
            "UPDATE callbacks SET finished = TRUE
             FROM " " WHERE callbacks.provider = given.value ->> 0 AND callbacks.event_id = given.value ->> 1
             RETURNING callbacks.provider, callbacks.event_id"
        )
        .try_map(|row| Ok((row.try_get("provider")?, row.try_get("event_id")?)))
        .fetch_all(&mut change)
        .await?
        .into_iter()
        .collect();
        change.commit().await?;
        Ok(set.iter().map(|callback| finished.contains(callback).then_some(())).collect())
    }

    async fn alone(write: Writer, (provider, event): Finished) -> Result<(), LedgerError> {
        let finished = query("UPDATE callbacks SET finished = TRUE WHERE provider = $1 AND event_id = $2")
            .bind(&provider)
            .bind(&event)
            .execute(&write)
            .await?;
        match finished {
            0 => Err(LedgerError::NotFound(format!("an event {event} of {provider}"))),
            _ => Ok(()),
        }
    }
}

impl SqlLedger {
    pub(super) async fn record_paid(&self, order: &OrderId, paid: &Paid) -> Result<Order, LedgerError> {
        let mut change = self.write.begin().await?;
        pay(&mut change, order, paid).await?;
        change.commit().await?;
        self.order(order).await?.ok_or_else(|| LedgerError::NotFound(format!("the order {order}")))
    }

    pub(super) async fn callbacks(&self, live: &LiveId) -> Result<Vec<(Callback, bool)>, LedgerError> {
        query(
            "SELECT callbacks.* FROM callbacks JOIN orders ON orders.payment_id = callbacks.payment_id
             WHERE orders.live_id = $1 ORDER BY callbacks.received_at, callbacks.event_id",
        )
        .bind(live.as_str())
        .try_map(|row| Ok((row::callback(&row)?, row.try_get("finished")?)))
        .fetch_all(&self.read)
        .await
    }

    pub(super) async fn unfinished_callbacks(&self, limit: u32) -> Result<Vec<Callback>, LedgerError> {
        query("SELECT * FROM callbacks WHERE NOT finished ORDER BY received_at, event_id LIMIT $1")
            .bind(limit)
            .try_map(|row| row::callback(&row))
            .fetch_all(&self.read)
            .await
    }
}
