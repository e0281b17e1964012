//! Orders of a merchant over all lives.

use haul_commerce::{
    Order,
    ledger::Answer,
    orders::{OrderEvent, OrderFilter, OrderList},
};
use haul_model::{MerchantId, OrderId};

use super::{
    SqlLedger,
    db::{Builder, query},
    row::{self, number, sql, state_text, time},
};

impl OrderList for SqlLedger {
    fn list_orders<'a>(
        &'a self,
        merchant: &'a MerchantId,
        filter: &'a OrderFilter,
        limit: u32,
    ) -> Answer<'a, Vec<Order>> {
        let OrderFilter { live, buyer, state, since, after } = filter;
        let mut wanted = Builder::new("SELECT * FROM orders WHERE merchant_id = ");
        wanted.push_bind(merchant.as_str());
        if let Some(live) = live {
            wanted.push(" AND live_id = ").push_bind(live.as_str());
        }
        if let Some(buyer) = buyer {
            wanted.push(" AND buyer_id = ").push_bind(buyer.as_str());
        }
        if let Some(state) = state {
            wanted.push(" AND state = ").push_bind(state_text(*state));
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
