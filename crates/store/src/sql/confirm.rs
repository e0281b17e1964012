//! Orders that are paid become SOLD, many at a time ([`super::sets`]).
//!
//! A set has only orders that may simply become SOLD. What is anything else (unknown, sold before, on its way back, with a
//! coupon that must be counted anew) has a change of its own.

use std::collections::{BTreeSet, HashMap};

use haul_commerce::{LedgerError, Order, OrderState};
use haul_model::{OrderId, UnixMillis};

use super::{
    change::{Change, Writer},
    db::given,
    lines, messages, orders,
    row::{self, number, parsed, sql, state_text},
    sets::Kind,
    under_way,
};

/// An order, and when it is confirmed.
pub(super) type Confirmation = (OrderId, UnixMillis);

/// [`haul_commerce::Ledger::move_order`] to SOLD.
pub(super) struct Confirm;

impl Kind for Confirm {
    type Item = Confirmation;
    type Answer = Order;

    async fn together(change: Change, set: &[Confirmation]) -> Result<Vec<Option<Order>>, LedgerError> {
        let sold = sell(change, set).await?;
        Ok(set.iter().map(|(order, _)| sold.get(order).cloned()).collect())
    }

    async fn alone(write: Writer, (order, at): Confirmation) -> Result<Order, LedgerError> {
        orders::move_alone(&write, &order, OrderState::Sold, at).await
    }
}

/// Whether nothing but stock can forbid that the order becomes SOLD, and nothing but stock must be counted.
fn is_simple(order: &Order) -> bool {
    match order.state {
        OrderState::Paying => true,
        OrderState::Expired => order.order.coupon.is_none(),
        OrderState::Sold | OrderState::RefundDue | OrderState::Refunded => false,
    }
}

/// Confirms what of a set is simple, and gives those orders as they are then. After an error, none of them is changed.
async fn sell(mut change: Change, set: &[Confirmation]) -> Result<HashMap<OrderId, Order>, LedgerError> {
    // An order that is confirmed twice is so at the first one's time.
    let times: HashMap<&OrderId, UnixMillis> = set.iter().rev().map(|(order, at)| (order, *at)).collect();
    let ids: BTreeSet<[&str; 1]> = times.keys().map(|order| [order.as_str()]).collect();
    let mut sold = given!(
        change,
        &ids,
        "SELECT orders.* FROM " " CROSS JOIN orders WHERE orders.id = given.value ->> 0"
    )
    .try_map(|row| row::order(&row))
    .fetch_all(&mut change)
    .await?;
    sold.retain(is_simple);
    if sold.is_empty() {
        return change.commit().await.map(|()| HashMap::new());
    }
    let bundles: Vec<&str> = sold
        .iter()
        .filter(|order| order.order.lines.is_empty())
        .map(|order| order.order.id.as_str())
        .collect();
    if !bundles.is_empty() {
        let lines = lines::read_lines(&mut change, &bundles).await?;
        lines::put_lines(&mut sold, lines);
    }
    let from: Vec<&str> = sold.iter().map(|order| state_text(order.state)).collect();
    for order in &mut sold {
        order.state = OrderState::Sold;
        order.updated_at = times[&order.order.id];
    }
    let row = |(order, from): (&Order, _)| {
        (order.order.id.clone(), sql(order.updated_at.0), order.order.merchant.clone(), from)
    };
    let rows: Vec<_> = sold.iter().zip(from).map(row).collect();
    let moved = given!(
        change,
        &rows,
        "UPDATE orders SET state = 'sold', updated_at = CAST(given.value ->> 1 AS BIGINT)
         FROM " " WHERE orders.id = given.value ->> 0 AND orders.state = given.value ->> 3"
    )
    .execute(&mut change)
    .await?;
    // Fewer, if another server on the same database has moved one meanwhile.
    if moved != sold.len() as u64 {
        return Err(LedgerError::Unavailable("an order was moved at the same time".to_owned()));
    }
    under_way::moved(&mut change, sold.iter().map(|order| &order.order), OrderState::Sold).await?;
    lines::sell(&mut change, sold.iter().map(|order| &order.order)).await?;
    let events: HashMap<OrderId, i64> = given!(
        change,
        &rows,
        "INSERT INTO order_events (merchant_id, order_id, number, state, at)
         SELECT given.value ->> 2, given.value ->> 0,
                (SELECT COALESCE(MAX(number), 0) + 1 FROM order_events WHERE order_id = given.value ->> 0),
                'sold', CAST(given.value ->> 1 AS BIGINT)
         FROM " " RETURNING order_id, number"
    )
    .try_map(|row| Ok((parsed(&row, "order_id")?, number(&row, "number")?)))
    .fetch_all(&mut change)
    .await?
    .into_iter()
    .collect();
    let numbered = sold.iter().filter_map(|order| Some((order, *events.get(&order.order.id)?)));
    messages::tell_orders(&mut change, numbered).await?;
    change.commit().await?;
    Ok(sold.into_iter().map(|order| (order.order.id.clone(), order)).collect())
}
