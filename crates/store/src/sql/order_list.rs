//! Orders of a merchant over all lives.

use haul_commerce::{
    Order,
    ledger::{Answer, Standing},
    orders::{OrderEvent, OrderFilter, OrderList},
};
use haul_model::{MerchantId, OrderId};

use super::{
    SqlLedger,
    db::{Builder, query},
    row::{self, number, sql, time},
};

/// What [`Order::standing`] says, asked of the columns.
fn stands(standing: Standing) -> &'static str {
    match standing {
        Standing::Paying => " AND state = 'paying'",
        Standing::Sold => " AND state = 'sold' AND refunded_minor <= 0 AND refunded_minor < total_minor",
        Standing::PartlyRefunded => {
            " AND state = 'sold' AND refunded_minor > 0 AND refunded_minor < total_minor"
        }
        Standing::Refunded => " AND (state = 'refunded' OR state = 'sold' AND refunded_minor >= total_minor)",
        Standing::Expired => " AND state = 'expired'",
        Standing::RefundDue => " AND state = 'refund_due'",
    }
}

impl OrderList for SqlLedger {
    fn list_orders<'a>(
        &'a self,
        merchant: &'a MerchantId,
        filter: &'a OrderFilter,
        limit: u32,
    ) -> Answer<'a, Vec<Order>> {
        let OrderFilter { live, buyer, standing, since, after } = filter;
        let mut wanted = Builder::new("SELECT * FROM orders WHERE merchant_id = ");
        wanted.push_bind(merchant.as_str());
        if let Some(live) = live {
            wanted.push(" AND live_id = ").push_bind(live.as_str());
        }
        if let Some(buyer) = buyer {
            wanted.push(" AND buyer_id = ").push_bind(buyer.as_str());
        }
        if let Some(standing) = standing {
            wanted.push(stands(*standing));
        }
        if let Some(since) = since {
            wanted.push(" AND created_at >= ").push_bind(sql(since.0));
        }
        if let Some((at, order)) = after {
            wanted
                .push(" AND (created_at, id) < (")
                .push_bind(sql(at.0))
                .push(", ")
                .push_bind(order.as_str())
                .push(")");
        }
        wanted.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(limit);
        Box::pin(async move {
            let found = wanted.build().try_map(|row| row::order(&row)).fetch_all(&self.read).await?;
            self.with_lines(found).await
        })
    }

    fn order_events<'a>(&'a self, order: &'a OrderId) -> Answer<'a, Vec<OrderEvent>> {
        Box::pin(
            query("SELECT * FROM order_events WHERE order_id = $1 ORDER BY number")
                .bind(order.as_str())
                .try_map(|row| {
                    Ok(OrderEvent {
                        number: number(&row, "number")?,
                        state: row.try_get("state")?,
                        detail: row.try_get("detail")?,
                        at: time(&row, "at")?,
                    })
                })
                .fetch_all(&self.read),
        )
    }
}
