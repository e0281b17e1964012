//! Orders and their events.

use haul_commerce::{LedgerError, NewOrder, Order, OrderState, Totals};
use haul_model::{LiveId, OrderId, PaymentId, UnixMillis};

use super::{
    SqlLedger,
    change::{Change, Writer},
    coupons,
    db::query,
    lines,
    messages::tell_order,
    row::{self, STATES, number, sql, state_text},
    under_way,
};

/// Which moves of an order the ledger allows.
fn may_become(from: OrderState, to: OrderState) -> bool {
    use OrderState::{Expired, Paying, RefundDue, Refunded, Sold};
    matches!((from, to), (Paying | Expired, Sold | RefundDue) | (Paying, Expired) | (RefundDue, Refunded))
}

impl SqlLedger {
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

    pub(super) async fn move_order(
        &self,
        order: &OrderId,
        to: OrderState,
        at: UnixMillis,
    ) -> Result<Order, LedgerError> {
        match to {
            OrderState::Sold => self.confirmations.put((order.clone(), at)).await,
            _ => move_alone(&self.write, order, to, at).await,
        }
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
    under_way::moved(&mut change, std::iter::once(&order), to).await?;
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
