//! Orders that begin, before their providers hear of them.

use std::collections::{HashMap, HashSet};

use haul_commerce::{LedgerError, NewOrder, Order, OrderLine, OrderState, buyers::Details};

use super::{
    change::{Change, Writer},
    coupons,
    db::{given, query},
    details, lines, messages, orders,
    row::{self, sql, state_text},
    sets::Kind,
    under_way,
};

/// An order, and what its buyer says beside it.
pub(super) type Beginning = (NewOrder, Details);

/// [`haul_commerce::Ledger::start_order`].
pub(super) struct Begin;

/// Whether nothing but its own rows must be written.
fn is_simple((order, details): &Beginning) -> bool {
    order.coupon.is_none() && *details == Details::default() && has_one_currency(order)
}

fn has_one_currency(order: &NewOrder) -> bool {
    let other = |line: &OrderLine| line.total.currency != order.total.currency;
    order.unit_price.currency == order.total.currency && !order.lines.iter().any(other)
}

/// An order that has just begun.
fn begun(order: &NewOrder) -> Order {
    Order {
        order: order.clone(),
        state: OrderState::Paying,
        paid: None,
        returned: None,
        refunded_minor: 0,
        dispute: None,
        updated_at: order.created_at,
    }
}

impl Kind for Begin {
    type Item = Beginning;
    type Answer = Order;

    async fn together(mut change: Change, set: &[Beginning]) -> Result<Vec<Option<Order>>, LedgerError> {
        let mut seen = HashSet::new();
        let orders: Vec<&NewOrder> = set
            .iter()
            .filter(|beginning| is_simple(beginning) && seen.insert(&beginning.0.hold))
            .map(|(order, _)| order)
            .collect();
        let row = |order: &&NewOrder| {
            let units = order.units();
            (
                (order.id.clone(), order.merchant.clone(), order.live.clone(), order.sale.clone()),
                (order.product.clone(), order.hold.clone(), order.payment.clone(), order.provider.clone()),
                (
                    order.buyer.clone(),
                    order.buyer_name.clone(),
                    order.quantity,
                    order.unit_price.amount_minor,
                ),
                (
                    order.total.amount_minor,
                    order.total.currency.code().to_owned(),
                    sql(order.created_at.0),
                    order.lines.first().and_then(|line| line.variant.clone()),
                    (!units.is_plain()).then(|| units.to_string()),
                ),
            )
        };
        let rows: Vec<_> = orders.iter().map(row).collect();
        let inserted: HashSet<String> = given!(
            change,
            &rows,
            "INSERT INTO orders (id, merchant_id, live_id, sale_id, product_id, hold_id, payment_id, provider,
                                 buyer_id, buyer_name, quantity, unit_price_minor, total_minor, currency, state,
                                 created_at, updated_at, variant_id, units)
             SELECT given.value -> 0 ->> 0, given.value -> 0 ->> 1, given.value -> 0 ->> 2, given.value -> 0 ->> 3,
                    given.value -> 1 ->> 0, given.value -> 1 ->> 1, given.value -> 1 ->> 2, given.value -> 1 ->> 3,
                    given.value -> 2 ->> 0, given.value -> 2 ->> 1, CAST(given.value -> 2 ->> 2 AS BIGINT),
                    CAST(given.value -> 2 ->> 3 AS BIGINT), CAST(given.value -> 3 ->> 0 AS BIGINT),
                    given.value -> 3 ->> 1, 'paying', CAST(given.value -> 3 ->> 2 AS BIGINT),
                    CAST(given.value -> 3 ->> 2 AS BIGINT), given.value -> 3 ->> 3, given.value -> 3 ->> 4
             FROM " " WHERE 1 = 1 ON CONFLICT (hold_id) DO NOTHING RETURNING id"
        )
        .try_map(|row| row.try_get("id"))
        .fetch_all(&mut change)
        .await?
        .into_iter()
        .collect();
        let new: Vec<Order> = orders
            .iter()
            .filter(|order| inserted.contains(order.id.as_str()))
            .map(|order| begun(order))
            .collect();
        if !new.is_empty() {
            lines::put_lines_of(&mut change, &new).await?;
            let orders = new.iter().map(|order| &order.order);
            under_way::moved(&mut change, orders, OrderState::Paying).await?;
            let rows: Vec<_> = new
                .iter()
                .map(|order| (order.order.merchant.clone(), order.order.id.clone(), sql(order.updated_at.0)))
                .collect();
            given!(
                change,
                &rows,
                "INSERT INTO order_events (merchant_id, order_id, number, state, at)
                 SELECT given.value ->> 0, given.value ->> 1, 1, 'paying', CAST(given.value ->> 2 AS BIGINT) FROM " ""
            )
            .execute(&mut change)
            .await?;
            messages::tell_orders(&mut change, new.iter().map(|order| (order, 1))).await?;
        }
        change.commit().await?;
        let mut new: HashMap<_, _> = new.into_iter().map(|order| (order.order.id.clone(), order)).collect();
        // Who says more of the same order has that to be written down.
        let answer = |beginning: &Beginning| match is_simple(beginning) {
            true => new.remove(&beginning.0.id),
            false => None,
        };
        Ok(set.iter().map(answer).collect())
    }

    async fn alone(write: Writer, (order, details): Beginning) -> Result<Order, LedgerError> {
        let order = &order;
        if !has_one_currency(order) {
            return Err(LedgerError::Conflict(format!("the order {} has two currencies", order.id)));
        }
        let mut change = write.begin().await?;
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
            lines::put_lines_of(&mut change, &[begun(order)]).await?;
            under_way::moved(&mut change, std::iter::once(order), OrderState::Paying).await?;
            coupons::count(&mut change, order, None, OrderState::Paying).await?;
            let paying = state_text(OrderState::Paying);
            orders::add_event(&mut change, order, paying, None, order.created_at).await?;
        }
        let mut found = query("SELECT * FROM orders WHERE hold_id = $1")
            .bind(order.hold.as_str())
            .try_map(|row| row::order(&row))
            .fetch_one(&mut change)
            .await?;
        lines::fill(&mut change, &mut found).await?;
        let may = found.state == OrderState::Paying && found.order.merchant == order.merchant;
        if may && details != Details::default() {
            details::replace(&mut change, order, &details).await?;
        }
        change.commit().await?;
        if found.order.merchant != order.merchant {
            return Err(LedgerError::Conflict(format!("the hold {} is another merchant's", order.hold)));
        }
        Ok(found)
    }
}
