//! Metrics of lives, products and creators, computed where the rows are.

use haul_commerce::{
    LedgerError,
    insight::{Insight, Metrics, REPEAT_DAYS, Revenue, Scope, Seen, Sold, bps, since},
    ledger::Answer,
};
use haul_model::{MerchantId, UnixMillis};

use super::{
    SqlLedger,
    db::{Row, query},
    row::{self, number, sql},
};

/// One text for the three scopes: the two that are not asked for are empty, and so are all rows'.
macro_rules! scoped {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " merchant_id = $1 AND ($2 = '' OR live_id = $2) AND ($3 = '' OR product_id = $3)
              AND ($4 = '' OR creator_id = $4) ",
            $after
        )
    };
}

impl SqlLedger {
    async fn metrics(
        &self,
        merchant: &MerchantId,
        scope: &Scope,
        now: UnixMillis,
    ) -> Result<Metrics, LedgerError> {
        let by = match scope {
            Scope::Live(live) => [live.as_str(), "", ""],
            Scope::Product(product) => ["", product.as_str(), ""],
            Scope::Creator(creator) => ["", "", creator.as_str()],
        };
        Ok(Metrics { seen: self.seen(merchant, scope, by).await?, sold: self.sold(merchant, by, now).await? })
    }

    async fn seen(&self, merchant: &MerchantId, scope: &Scope, by: [&str; 3]) -> Result<Seen, LedgerError> {
        let (viewers, anonymous, clicks): (u64, u64, u64) = query(scoped!(
            "SELECT COUNT(DISTINCT CASE WHEN kind = 'join' THEN buyer_id END) AS viewers,
                    COUNT(CASE WHEN kind = 'join' AND buyer_id IS NULL THEN 1 END) AS anonymous,
                    COUNT(CASE WHEN kind = 'click' THEN 1 END) AS clicks
             FROM touches WHERE",
            ""
        ))
        .bind(merchant.as_str())
        .bind(by[0])
        .bind(by[1])
        .bind(by[2])
        .try_map(|row: Row| {
            Ok((number(&row, "viewers")?, number(&row, "anonymous")?, number(&row, "clicks")?))
        })
        .fetch_one(&self.read)
        .await?;
        let is_product = matches!(scope, Scope::Product(_));
        let holds = match scope {
            Scope::Creator(_) => None,
            Scope::Live(_) | Scope::Product(_) => Some(self.holds_made(merchant, by).await?),
        };
        Ok(Seen {
            viewers: (!is_product).then_some(viewers),
            anonymous_joins: (!is_product).then_some(anonymous),
            clicks,
            holds,
        })
    }

    /// Those that are still written down, and those that were.
    async fn holds_made(&self, merchant: &MerchantId, by: [&str; 3]) -> Result<u64, LedgerError> {
        query(
            "SELECT CAST(
                 (SELECT COUNT(*) FROM holds JOIN sales ON sales.live_id = holds.live_id AND sales.id = holds.sale_id
                  WHERE sales.merchant_id = $1 AND ($2 = '' OR sales.live_id = $2)
                    AND ($3 = '' OR sales.product_id = $3))
               + (SELECT COALESCE(SUM(forgotten_holds.count), 0) FROM forgotten_holds
                  JOIN sales ON sales.live_id = forgotten_holds.live_id AND sales.id = forgotten_holds.sale_id
                  WHERE sales.merchant_id = $1 AND ($2 = '' OR sales.live_id = $2)
                    AND ($3 = '' OR sales.product_id = $3)) AS BIGINT) AS holds",
        )
        .bind(merchant.as_str())
        .bind(by[0])
        .bind(by[1])
        .try_map(|row: Row| number(&row, "holds"))
        .fetch_one(&self.read)
        .await
    }

    async fn sold(&self, merchant: &MerchantId, by: [&str; 3], now: UnixMillis) -> Result<Sold, LedgerError> {
        let mut sold = Sold::default();
        let sums = query(scoped!(
            "SELECT currency, COUNT(*) AS orders, CAST(SUM(quantity) AS BIGINT) AS units,
                    CAST(SUM(total_minor) AS BIGINT) AS gross,
                    CAST(SUM(merchant_reversed + platform_reversed + agency_reversed + creator_reversed) AS BIGINT)
                        AS refunded
             FROM bookings WHERE",
            "GROUP BY currency"
        ))
        .bind(merchant.as_str())
        .bind(by[0])
        .bind(by[1])
        .bind(by[2])
        .try_map(|row: Row| {
            let revenue =
                Revenue { gross_minor: row.try_get("gross")?, refunded_minor: row.try_get("refunded")? };
            let (orders, units): (u64, u64) = (number(&row, "orders")?, number(&row, "units")?);
            Ok((row::parsed(&row, "currency")?, orders, units, revenue))
        })
        .fetch_all(&self.read)
        .await?;
        for (currency, orders, units, revenue) in sums {
            sold.orders += orders;
            sold.units += units;
            sold.revenue.insert(currency, revenue);
        }
        (sold.buyers, _) = self.buyers_since(merchant, by, UnixMillis(0)).await?;
        for (days, repeat) in REPEAT_DAYS.into_iter().zip(&mut sold.repeat_bps) {
            let (buyers, again) = self.buyers_since(merchant, by, since(now, days)).await?;
            *repeat = bps(again, buyers);
        }
        let lifetime = query(scoped!(
            "SELECT currency, COUNT(DISTINCT buyer_id) AS buyers,
                    CAST(SUM(total_minor - merchant_reversed - platform_reversed - agency_reversed - creator_reversed)
                         AS BIGINT) AS spent
             FROM bookings WHERE merchant_id = $1 AND buyer_id IN (SELECT buyer_id FROM bookings WHERE",
            ") GROUP BY currency"
        ))
        .bind(merchant.as_str())
        .bind(by[0])
        .bind(by[1])
        .bind(by[2])
        .try_map(|row: Row| {
            let (spent, buyers): (i64, i64) = (row.try_get("spent")?, number(&row, "buyers")?);
            Ok((row::parsed(&row, "currency")?, spent / buyers.max(1)))
        })
        .fetch_all(&self.read)
        .await?;
        sold.lifetime_minor = lifetime.into_iter().collect();
        Ok(sold)
    }

    /// How many bought since then, and how many of them more than once.
    async fn buyers_since(
        &self,
        merchant: &MerchantId,
        by: [&str; 3],
        since: UnixMillis,
    ) -> Result<(u64, u64), LedgerError> {
        query(scoped!(
            "SELECT COUNT(*) AS buyers, COUNT(CASE WHEN orders > 1 THEN 1 END) AS again FROM (
                 SELECT buyer_id, COUNT(*) AS orders FROM bookings WHERE",
            "AND sold_at > $5 GROUP BY buyer_id) AS each_buyer"
        ))
        .bind(merchant.as_str())
        .bind(by[0])
        .bind(by[1])
        .bind(by[2])
        .bind(sql(since.0))
        .try_map(|row: Row| Ok((number(&row, "buyers")?, number(&row, "again")?)))
        .fetch_one(&self.read)
        .await
    }
}

impl Insight for SqlLedger {
    fn metrics<'a>(
        &'a self,
        merchant: &'a MerchantId,
        scope: &'a Scope,
        now: UnixMillis,
    ) -> Answer<'a, Metrics> {
        Box::pin(self.metrics(merchant, scope, now))
    }
}
