//! What several buyers have bought: whoever comes into a live is asked for, and thousands come in a moment.

use std::collections::HashMap;

use haul_commerce::{LedgerError, LiveRef, Order, ledger::Bought};
use haul_model::BuyerId;

use super::{
    SqlLedger,
    db::given,
    row::{self, number},
};

impl SqlLedger {
    pub(super) async fn bought(
        &self,
        live: &LiveRef,
        buyers: &[BuyerId],
        limit: u32,
    ) -> Result<Vec<Bought>, LedgerError> {
        let rows: Vec<_> = buyers.iter().map(|buyer| [buyer.as_str()]).collect();
        let mut look = self.read.look().await?;
        let orders: Vec<Order> = given!(
            look,
            &rows,
            "SELECT * FROM (
                 SELECT orders.*, ROW_NUMBER() OVER (PARTITION BY orders.buyer_id
                                                     ORDER BY orders.created_at DESC, orders.id DESC) AS place
                 FROM "
            " CROSS JOIN orders WHERE orders.live_id = $2 AND orders.buyer_id = given.value ->> 0
             ) AS placed WHERE place <= $3 ORDER BY buyer_id, place"
        )
        .bind(live.live.as_str())
        .bind(limit)
        .try_map(|row| row::order(&row))
        .fetch_all(&mut look)
        .await?;
        let kept: Vec<(String, u32)> = given!(
            look,
            &rows,
            "SELECT orders.buyer_id, COUNT(*) AS kept FROM "
            " CROSS JOIN orders WHERE orders.merchant_id = $2 AND orders.buyer_id = given.value ->> 0
                 AND orders.state = 'sold' AND orders.refunded_minor < orders.total_minor
                 AND (orders.dispute IS NULL OR orders.dispute <> 'lost')
             GROUP BY orders.buyer_id"
        )
        .bind(live.merchant.as_str())
        .try_map(|row| Ok((row.try_get("buyer_id")?, number(&row, "kept")?)))
        .fetch_all(&mut look)
        .await?;
        drop(look);
        let mut of: HashMap<String, Bought> = HashMap::new();
        for order in self.with_lines(orders).await? {
            of.entry(order.order.buyer.to_string()).or_default().orders.push(order);
        }
        for (buyer, kept) in kept {
            of.entry(buyer).or_default().kept = kept;
        }
        Ok(buyers.iter().map(|buyer| of.get(buyer.as_str()).cloned().unwrap_or_default()).collect())
    }
}
