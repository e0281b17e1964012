//! Orders, their events, and providers' callbacks.

use haul_commerce::{
    Callback, CallbackState, LedgerError, NewOrder, Order, OrderLine, OrderState, Paid, Totals,
    buyers::Details,
};
use haul_model::{LiveId, OrderId, PaymentId, UnixMillis};

use super::{
    SqlLedger,
    change::{Change, Writer},
    coupons,
    db::{query, query_scalar},
    details, lines,
    outbox::tell_order,
    refunds,
    row::{self, STATES, kind_text, number, sql, state_text},
};

/// Which moves of an order the ledger allows.
fn may_become(from: OrderState, to: OrderState) -> bool {
    use OrderState::{Expired, Paying, RefundDue, Refunded, Sold};
    matches!((from, to), (Paying | Expired, Sold | RefundDue) | (Paying, Expired) | (RefundDue, Refunded))
}

impl SqlLedger {
    pub(super) async fn start_order(
        &self,
        order: &NewOrder,
        details: &Details,
    ) -> Result<Order, LedgerError> {
        let other_currency = |line: &OrderLine| line.total.currency != order.total.currency;
        if order.unit_price.currency != order.total.currency || order.lines.iter().any(other_currency) {
            return Err(LedgerError::Conflict(format!("the order {} has two currencies", order.id)));
        }
        let mut change = self.write.begin().await?;
        let inserted = query(
            "INSERT INTO orders (id, merchant_id, live_id, sale_id, product_id, hold_id, payment_id, provider,
                                 buyer_id, buyer_name, quantity, unit_price_minor, total_minor, currency, state,
                                 created_at, updated_at, variant_id, units, coupon, coupon_minor)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17, $18, $19, $20)
             ON CONFLICT (hold_id) DO NOTHING",
        )
        .bind(order.id.as_str())
        .bind(order.merchant.as_str())
        .bind(order.live.as_str())
        .bind(order.sale.as_str())
        .bind(order.product.as_str())
        .bind(order.hold.as_str())
        .bind(order.payment.as_str())
        .bind(&order.provider)
        .bind(order.buyer.as_str())
        .bind(&order.buyer_name)
        .bind(order.quantity)
        .bind(order.unit_price.amount_minor)
        .bind(order.total.amount_minor)
        .bind(order.total.currency.code())
        .bind(state_text(OrderState::Paying))
        .bind(sql(order.created_at.0))
        .bind(order.lines.first().and_then(|line| line.variant.as_ref()).map(|variant| variant.as_str()))
        .bind((!order.units().is_plain()).then(|| order.units().to_string()))
        .bind(order.coupon.as_ref().map(|coupon| coupon.code.as_str()))
        .bind(order.coupon.as_ref().map(|coupon| coupon.amount.amount_minor))
        .execute(&mut change)
        .await?;
        if inserted == 1 {
            lines::put_order_lines(&mut change, order).await?;
            coupons::count(&mut change, order, None, OrderState::Paying).await?;
            add_event(&mut change, order, state_text(OrderState::Paying), None, order.created_at).await?;
        }
        let found = query("SELECT * FROM orders WHERE hold_id = $1")
            .bind(order.hold.as_str())
            .try_map(|row| row::order(&row))
            .fetch_one(&mut change)
            .await?;
        let may = found.state == OrderState::Paying && found.order.merchant == order.merchant;
        if may && *details != Details::default() {
            details::replace(&mut change, order, details).await?;
        }
        change.commit().await?;
        if found.order.merchant != order.merchant {
            return Err(LedgerError::Conflict(format!("the hold {} is another merchant's", order.hold)));
        }
        // What was inserted just now has the lines that it was asked for with.
        Ok(self.with_lines(vec![found]).await?.remove(0))
    }

    pub(super) async fn order(&self, order: &OrderId) -> Result<Option<Order>, LedgerError> {
        let found = query("SELECT * FROM orders WHERE id = $1")
            .bind(order.as_str())
            .try_map(|row| row::order(&row))
            .fetch_optional(&self.read)
            .await?;
        self.with_its_lines(found).await
    }

    pub(super) async fn order_of_payment(&self, payment: &PaymentId) -> Result<Option<Order>, LedgerError> {
        let found = query("SELECT * FROM orders WHERE payment_id = $1")
            .bind(payment.as_str())
            .try_map(|row| row::order(&row))
            .fetch_optional(&self.read)
            .await?;
        self.with_its_lines(found).await
    }

    pub(super) async fn orders(
        &self,
        live: &LiveId,
        states: &[OrderState],
        limit: u32,
    ) -> Result<Vec<Order>, LedgerError> {
        // One statement for every choice: a state that isn't wanted is bound as the empty text, which none is.
        let wanted = STATES.map(|state| match states.is_empty() || states.contains(&state) {
            true => state_text(state),
            false => "",
        });
        let orders = query(
            "SELECT * FROM orders WHERE live_id = $1 AND state IN ($2, $3, $4, $5, $6)
             ORDER BY created_at DESC, id DESC LIMIT $7",
        )
        .bind(live.as_str())
        .bind(wanted[0])
        .bind(wanted[1])
        .bind(wanted[2])
        .bind(wanted[3])
        .bind(wanted[4])
        .bind(limit)
        .try_map(|row| row::order(&row))
        .fetch_all(&self.read)
        .await?;
        self.with_lines(orders).await
    }

    pub(super) async fn totals(&self, live: &LiveId) -> Result<Totals, LedgerError> {
        let sums = query(
            "SELECT currency, COUNT(*) AS orders, CAST(SUM(quantity) AS BIGINT) AS units,
                    CAST(SUM(total_minor - refunded_minor) AS BIGINT) AS revenue
             FROM orders WHERE live_id = $1 AND state = 'sold' GROUP BY currency ORDER BY currency",
        )
        .bind(live.as_str())
        .try_map(|row| {
            Ok((number::<u64>(&row, "orders")?, number::<u64>(&row, "units")?, row::money(&row, "revenue")?))
        })
        .fetch_all(&self.read)
        .await?;
        let mut totals = Totals::default();
        for (orders, units, revenue) in sums {
            totals.orders += orders;
            totals.units += units;
            totals.revenue.push(revenue);
        }
        Ok(totals)
    }

    pub(super) async fn record_paid(&self, order: &OrderId, paid: &Paid) -> Result<Order, LedgerError> {
        let mut change = self.write.begin().await?;
        let first = query(
            "UPDATE orders SET paid_event = $1, paid_minor = $2, paid_currency = $3
             WHERE id = $4 AND paid_event IS NULL",
        )
        .bind(&paid.event)
        .bind(paid.amount.amount_minor)
        .bind(paid.amount.currency.code())
        .bind(order.as_str())
        .execute(&mut change)
        .await?;
        if first == 1 {
            refunds::adopt(&mut change, order).await?;
        }
        change.commit().await?;
        self.order(order).await?.ok_or_else(|| LedgerError::NotFound(format!("the order {order}")))
    }

    pub(super) async fn move_order(
        &self,
        order: &OrderId,
        to: OrderState,
        at: UnixMillis,
    ) -> Result<Order, LedgerError> {
        match to {
            OrderState::Sold => self.confirmations.confirm(order, at).await,
            _ => move_alone(&self.write, order, to, at).await,
        }
    }

    pub(super) async fn record_callback(
        &self,
        callback: &Callback,
        details: Option<&Details>,
    ) -> Result<CallbackState, LedgerError> {
        let Callback { provider, event, received_at } = callback;
        let mut change = self.write.begin().await?;
        let merchant: Option<String> =
            query_scalar("SELECT merchant_id FROM orders WHERE payment_id = $1 AND provider = $2")
                .bind(event.payment.as_str())
                .bind(provider)
                .fetch_optional(&mut change)
                .await?;
        let Some(merchant) = merchant else {
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
        if let Some(details) = details.filter(|_| inserted == 1) {
            details::fill_in(&mut change, &event.payment, details, *received_at).await?;
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

    pub(super) async fn finish_callback(&self, provider: &str, event: &str) -> Result<(), LedgerError> {
        let finished = query("UPDATE callbacks SET finished = TRUE WHERE provider = $1 AND event_id = $2")
            .bind(provider)
            .bind(event)
            .execute(&self.write)
            .await?;
        match finished {
            0 => Err(LedgerError::NotFound(format!("an event {event} of {provider}"))),
            _ => Ok(()),
        }
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

/// Moves one order in a change of its own.
pub(super) async fn move_alone(
    write: &Writer,
    order: &OrderId,
    to: OrderState,
    at: UnixMillis,
) -> Result<Order, LedgerError> {
    let mut change = write.begin().await?;
    let found = find(&mut change, order).await?;
    if found.state == to {
        change.commit().await?;
        return Ok(found);
    }
    let (from_text, to_text) = (state_text(found.state), state_text(to));
    if !may_become(found.state, to) {
        return Err(LedgerError::Conflict(format!(
            "the order {order} is {from_text} and cannot become {to_text}"
        )));
    }
    let moved = query("UPDATE orders SET state = $1, updated_at = $2 WHERE id = $3 AND state = $4")
        .bind(to_text)
        .bind(sql(at.0))
        .bind(order.as_str())
        .bind(from_text)
        .execute(&mut change)
        .await?;
    if moved != 1 {
        return Err(LedgerError::Unavailable(format!("the order {order} was moved at the same time")));
    }
    let Order { order, state, paid, returned, refunded_minor, dispute, .. } = found;
    if to == OrderState::Sold {
        lines::sell(&mut change, std::iter::once(&order)).await?;
    }
    coupons::count(&mut change, &order, Some(state), to).await?;
    add_event(&mut change, &order, to_text, None, at).await?;
    change.commit().await?;
    Ok(Order { order, state: to, paid, returned, refunded_minor, dispute, updated_at: at })
}

/// An order, whole, as the change finds it.
pub(super) async fn find(change: &mut Change, order: &OrderId) -> Result<Order, LedgerError> {
    let found = query("SELECT * FROM orders WHERE id = $1")
        .bind(order.as_str())
        .try_map(|row| row::order(&row))
        .fetch_optional(&mut *change)
        .await?;
    let mut found = found.ok_or_else(|| LedgerError::NotFound(format!("the order {order}")))?;
    lines::fill(change, &mut found).await?;
    Ok(found)
}

/// Writes down what happened to an order, and tells its merchant. `detail`: what it is about in particular.
pub(super) async fn add_event(
    change: &mut Change,
    order: &NewOrder,
    state: &str,
    detail: Option<&str>,
    at: UnixMillis,
) -> Result<(), LedgerError> {
    let number: i64 = query(
        "INSERT INTO order_events (merchant_id, order_id, number, state, detail, at)
         VALUES ($1, $2, (SELECT COALESCE(MAX(number), 0) + 1 FROM order_events WHERE order_id = $2), $3, $4, $5)
         RETURNING number",
    )
    .bind(order.merchant.as_str())
    .bind(order.id.as_str())
    .bind(state)
    .bind(detail)
    .bind(sql(at.0))
    .try_map(|row| row.try_get("number"))
    .fetch_one(&mut *change)
    .await?;
    tell_order(change, order.id.as_str(), order.merchant.as_str(), number, state, detail, at).await
}
