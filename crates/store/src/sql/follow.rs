//! What follows from orders, read, decided and written down in one transaction.

use std::collections::BTreeMap;

use haul_commerce::{
    LedgerError, Order,
    attribution::{Attributed, MAX_TOUCHES},
    follow::{Booking, Decide, Disputed, Effects, Facts, Follower, Turn, Wanted},
    followup::FollowupRule,
    ledger::Answer,
    milestones::{History, Milestone},
    split::Split,
};
use haul_model::{ProductId, UnixMillis};
use serde_json::json;

use super::{
    SqlLedger,
    change::Change,
    creators::{creator, touch, touch_kind},
    db::{Row, query},
    lines,
    notices::{self, Notice},
    row::{self, number, sql},
};

/// Orders, or timers, of one transaction.
const GROUP: u32 = 32;

impl SqlLedger {
    async fn follow_orders(
        &self,
        decide: Decide<'_>,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Turn, LedgerError> {
        let mut turn = Turn::default();
        while turn.orders < limit {
            let group = GROUP.min(limit - turn.orders);
            let done = self.follow_group(decide, now, group).await?;
            turn.orders += done;
            if done < group {
                break;
            }
        }
        while turn.timers < limit {
            let group = GROUP.min(limit - turn.timers);
            let done = self.tell_due(now, group).await?;
            turn.timers += done;
            if done < group {
                break;
            }
        }
        Ok(turn)
    }

    async fn follow_group(
        &self,
        decide: Decide<'_>,
        now: UnixMillis,
        limit: u32,
    ) -> Result<u32, LedgerError> {
        // Looked for without a turn to write: most of the time there is nothing.
        let orders: Vec<String> = query(
            "SELECT order_id, MIN(at) AS since FROM order_events WHERE NOT followed
             GROUP BY order_id ORDER BY since, order_id LIMIT $1",
        )
        .bind(i64::from(limit))
        .try_map(|row: Row| row.try_get("order_id"))
        .fetch_all(&self.read)
        .await?;
        if orders.is_empty() {
            return Ok(0);
        }
        let mut change = self.write.begin().await?;
        for order in &orders {
            // Marked first: what happens meanwhile is not among the facts, and stays to be followed.
            let marked =
                query("UPDATE order_events SET followed = TRUE WHERE order_id = $1 AND NOT followed")
                    .bind(order)
                    .execute(&mut change)
                    .await?;
            if marked == 0 {
                continue;
            }
            let facts = facts(order, &mut change).await?;
            apply(&facts, &decide(&facts), now, &mut change).await?;
        }
        change.commit().await?;
        Ok(orders.len() as u32)
    }

    async fn tell_due(&self, now: UnixMillis, limit: u32) -> Result<u32, LedgerError> {
        let due = query("SELECT 1 AS due FROM timers WHERE state = 'set' AND due_at <= $1 LIMIT 1")
            .bind(sql(now.0))
            .fetch_optional(&self.read)
            .await?;
        if due.is_none() {
            return Ok(0);
        }
        let mut change = self.write.begin().await?;
        let told = query(
            "UPDATE timers SET state = 'told' WHERE (order_id, product_id, name) IN (
                 SELECT order_id, product_id, name FROM timers WHERE state = 'set' AND due_at <= $1
                 ORDER BY due_at LIMIT $2)
             RETURNING *",
        )
        .bind(sql(now.0))
        .bind(i64::from(limit))
        .try_map(|row: Row| {
            let text = |column: &str| row.try_get::<String>(column);
            let due_at: i64 = row.try_get("due_at")?;
            let (merchant, order, name) = (text("merchant_id")?, text("order_id")?, text("name")?);
            let body = json!({
                "name": name,
                "order_id": order,
                "product_id": text("product_id")?,
                "buyer_id": text("buyer_id")?,
                "due_at": UnixMillis(due_at.unsigned_abs()),
            });
            Ok(Notice { merchant, kind: "followup.due", subject: order, body, at: now })
        })
        .fetch_all(&mut change)
        .await?;
        for notice in &told {
            notices::add(notice, &mut change).await?;
        }
        change.commit().await?;
        Ok(told.len() as u32)
    }
}

async fn facts(order: &str, change: &mut Change) -> Result<Facts, LedgerError> {
    let (mut order, refunded_minor, disputed) = query("SELECT * FROM orders WHERE id = $1")
        .bind(order)
        .try_map(|row| {
            let order = row::order(&row)?;
            let disputed = match row.try_get::<Option<&str>>("dispute") {
                Ok(Some("open")) => Disputed::Open,
                Ok(Some("lost")) => Disputed::Lost,
                _ => Disputed::No,
            };
            let refunded: i64 = row.try_get("refunded_minor").unwrap_or(0);
            Ok((order, refunded, disputed))
        })
        .fetch_one(&mut *change)
        .await?;
    lines::fill(change, &mut order).await?;
    let ids = &order.order;
    let sold_at = query("SELECT MIN(at) AS at FROM order_events WHERE order_id = $1 AND state = 'sold'")
        .bind(ids.id.as_str())
        .try_map(|row: Row| row.try_get::<Option<i64>>("at"))
        .fetch_one(&mut *change)
        .await?
        .map(|at| UnixMillis(at.unsigned_abs()));
    let gone = match refunded_minor {
        0 => Vec::new(),
        _ => gone(&order, &mut *change).await?,
    };
    let nothing = || Facts {
        order: order.clone(),
        sold_at,
        refunded_minor,
        gone: gone.clone(),
        disputed,
        touches: Vec::new(),
        creators: Vec::new(),
        booked: None,
        history: History::default(),
        followups: Vec::new(),
    };
    if sold_at.is_none() {
        return Ok(nothing());
    }
    let booked = query("SELECT * FROM bookings WHERE order_id = $1")
        .bind(ids.id.as_str())
        .try_map(|row| booking(&row))
        .fetch_optional(&mut *change)
        .await?;
    if booked.is_some() {
        return Ok(Facts { booked, ..nothing() });
    }
    let touches = query(
        "SELECT * FROM touches WHERE merchant_id = $1 AND buyer_id = $2 AND creator_id IS NOT NULL
         ORDER BY at DESC LIMIT $3",
    )
    .bind(ids.merchant.as_str())
    .bind(ids.buyer.as_str())
    .bind(i64::from(MAX_TOUCHES))
    .try_map(|row| touch(&row))
    .fetch_all(&mut *change)
    .await?;
    let creators = query(
        "SELECT * FROM creators WHERE merchant_id = $1 AND active AND id IN (
             SELECT creator_id FROM touches WHERE merchant_id = $1 AND buyer_id = $2)",
    )
    .bind(ids.merchant.as_str())
    .bind(ids.buyer.as_str())
    .try_map(|row| creator(&row))
    .fetch_all(&mut *change)
    .await?;
    let history = query(
        "SELECT COUNT(*) AS orders,
                CAST(COALESCE(SUM(CASE WHEN currency = $3 THEN kept ELSE 0 END), 0) AS BIGINT) AS spent
         FROM (SELECT currency, total_minor - merchant_reversed - platform_reversed - agency_reversed - creator_reversed AS kept
               FROM bookings WHERE merchant_id = $1 AND buyer_id = $2) AS known
         WHERE kept > 0",
    )
    .bind(ids.merchant.as_str())
    .bind(ids.buyer.as_str())
    .bind(ids.total.currency.code())
    .try_map(|row: Row| Ok(History { orders: number(&row, "orders")?, spent_minor: row.try_get("spent")? }))
    .fetch_one(&mut *change)
    .await?;
    let mut products: BTreeMap<&ProductId, u32> = BTreeMap::new();
    for line in &ids.lines {
        *products.entry(&line.product).or_default() += line.quantity;
    }
    let mut followups = Vec::new();
    for (product, quantity) in products {
        let rules =
            query("SELECT * FROM followups WHERE merchant_id = $1 AND product_id = $2 ORDER BY position")
                .bind(ids.merchant.as_str())
                .bind(product.as_str())
                .try_map(|row| followup(&row))
                .fetch_all(&mut *change)
                .await?;
        followups.extend(rules.into_iter().map(|rule| Wanted { product: product.clone(), quantity, rule }));
    }
    Ok(Facts { touches, creators, history, followups, ..nothing() })
}

/// Products of an order whose money has all gone back.
async fn gone(order: &Order, change: &mut Change) -> Result<Vec<ProductId>, LedgerError> {
    let mut left: BTreeMap<&ProductId, i64> = BTreeMap::new();
    for (line, (_, minor)) in order.order.lines.iter().zip(lines::left(change, order).await?) {
        *left.entry(&line.product).or_default() += minor;
    }
    Ok(left.into_iter().filter(|(_, left)| *left <= 0).map(|(product, _)| product.clone()).collect())
}

async fn apply(
    facts: &Facts,
    effects: &Effects,
    now: UnixMillis,
    change: &mut Change,
) -> Result<(), LedgerError> {
    let order = &facts.order.order;
    if let Some(booking) = &effects.book {
        let by = booking.attributed.as_ref();
        query(
            "INSERT INTO bookings (order_id, merchant_id, live_id, product_id, buyer_id, quantity, currency, total_minor,
                                   sold_at, creator_id, agency_id, touch_kind, touch_at, merchant_minor,
                                   platform_minor, agency_minor, creator_minor)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(order.id.as_str())
        .bind(order.merchant.as_str())
        .bind(order.live.as_str())
        .bind(order.product.as_str())
        .bind(order.buyer.as_str())
        .bind(i64::from(order.quantity))
        .bind(order.total.currency.code())
        .bind(order.total.amount_minor)
        .bind(sql(facts.sold_at.unwrap_or(now).0))
        .bind(by.map(|by| by.creator.as_str()))
        .bind(booking.agency.as_ref().map(|agency| agency.as_str()))
        .bind(by.map(|by| by.by.as_str()))
        .bind(by.map(|by| sql(by.at.0)))
        .bind(booking.split.merchant())
        .bind(booking.split.platform())
        .bind(booking.split.agency())
        .bind(booking.split.creator())
        .execute(&mut *change)
        .await?;
    }
    if let Some(back) = &effects.reverse {
        query(
            "UPDATE bookings SET merchant_reversed = merchant_reversed + $2, platform_reversed = platform_reversed + $3,
                                 agency_reversed = agency_reversed + $4, creator_reversed = creator_reversed + $5
             WHERE order_id = $1",
        )
        .bind(order.id.as_str())
        .bind(back.merchant())
        .bind(back.platform())
        .bind(back.agency())
        .bind(back.creator())
        .execute(&mut *change)
        .await?;
    }
    if let Some(frozen) = effects.freeze {
        query("UPDATE bookings SET frozen = $2 WHERE order_id = $1")
            .bind(order.id.as_str())
            .bind(frozen)
            .execute(&mut *change)
            .await?;
    }
    for timer in &effects.timers {
        query(
            "INSERT INTO timers (order_id, product_id, name, merchant_id, buyer_id, due_at, state)
             VALUES ($1, $2, $3, $4, $5, $6, 'set') ON CONFLICT (order_id, product_id, name) DO NOTHING",
        )
        .bind(timer.order.as_str())
        .bind(timer.product.as_str())
        .bind(&timer.name)
        .bind(timer.merchant.as_str())
        .bind(timer.buyer.as_str())
        .bind(sql(timer.due_at.0))
        .execute(&mut *change)
        .await?;
    }
    for product in &effects.cancel_timers {
        query(
            "UPDATE timers SET state = 'cancelled' WHERE order_id = $1 AND product_id = $2 AND state = 'set'",
        )
        .bind(order.id.as_str())
        .bind(product.as_str())
        .execute(&mut *change)
        .await?;
    }
    for milestone in &effects.milestones {
        let new = query(
            "INSERT INTO milestones (merchant_id, buyer_id, name, order_id, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (merchant_id, buyer_id, name) DO NOTHING",
        )
        .bind(order.merchant.as_str())
        .bind(order.buyer.as_str())
        .bind(milestone.name())
        .bind(order.id.as_str())
        .bind(sql(now.0))
        .execute(&mut *change)
        .await?;
        if new == 1 {
            let (orders, spent) = match milestone {
                Milestone::Orders(orders) => (Some(*orders), None),
                Milestone::Spent(money) => (None, Some(*money)),
            };
            let notice = Notice {
                merchant: order.merchant.to_string(),
                kind: "buyer.milestone",
                subject: order.buyer.to_string(),
                body: json!({
                    "buyer_id": order.buyer, "milestone": milestone.name(), "orders": orders, "spent": spent,
                    "order_id": order.id,
                }),
                at: now,
            };
            notices::add(&notice, change).await?;
        }
    }
    Ok(())
}

pub(super) fn booking(row: &Row) -> Result<Booking, sqlx::Error> {
    let creator = row::parsed_if(row, "creator_id")?;
    let kind: Option<&str> = row.try_get("touch_kind")?;
    let at: Option<i64> = row.try_get("touch_at")?;
    let attributed = match (creator, kind, at) {
        (Some(creator), Some(kind), Some(at)) => {
            Some(Attributed { creator, by: touch_kind(kind)?, at: UnixMillis(at.unsigned_abs()) })
        }
        _ => None,
    };
    let parts = |columns: [&str; 4]| -> Result<Split, sqlx::Error> {
        let mut parts = [0; 4];
        for (part, column) in parts.iter_mut().zip(columns) {
            *part = row.try_get(column)?;
        }
        Ok(Split(parts))
    };
    Ok(Booking {
        attributed,
        agency: row::parsed_if(row, "agency_id")?,
        split: parts(["merchant_minor", "platform_minor", "agency_minor", "creator_minor"])?,
        reversed: parts(["merchant_reversed", "platform_reversed", "agency_reversed", "creator_reversed"])?,
        frozen: row.try_get("frozen")?,
    })
}

pub(super) fn followup(row: &Row) -> Result<FollowupRule, sqlx::Error> {
    Ok(FollowupRule {
        name: row.try_get("name")?,
        after_seconds: number(row, "after_s")?,
        per_extra_unit_seconds: number(row, "per_unit_s")?,
    })
}

impl Follower for SqlLedger {
    fn follow_orders<'a>(&'a self, decide: Decide<'a>, now: UnixMillis, limit: u32) -> Answer<'a, Turn> {
        Box::pin(self.follow_orders(decide, now, limit))
    }
}
