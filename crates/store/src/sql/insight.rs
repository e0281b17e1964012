//! Metrics of lives, products and creators, computed where the rows are.

use haul_commerce::{
    LedgerError,
    insight::{Insight, Metrics, PaidLine, REPEAT_DAYS, Revenue, Scope, Seen, Sold, bps, part_of, since},
    ledger::Answer,
};
use haul_model::{Currency, MerchantId, UnixMillis};

use super::{
    SqlLedger,
    db::{Row, query},
    row::{self, number, sql},
};

/// One text for the three scopes: the two that are not asked for are empty. Of orders, those with a line of the product.
macro_rules! scoped {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " bookings.merchant_id = $1 AND ($2 = '' OR bookings.live_id = $2) AND ($4 = '' OR bookings.creator_id = $4)
              AND ($3 = '' OR EXISTS (SELECT 1 FROM order_lines
                  WHERE order_lines.order_id = bookings.order_id AND order_lines.product_id = $3)) ",
            $after
        )
    };
}

/// Orders, units and money of one currency.
type Sums = (Currency, u64, u64, Revenue);

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
        let (viewers, anonymous, clicks): (u64, u64, u64) = query(
            "SELECT COUNT(DISTINCT CASE WHEN kind = 'join' THEN buyer_id END) AS viewers,
                    COUNT(CASE WHEN kind = 'join' AND buyer_id IS NULL THEN 1 END) AS anonymous,
                    COUNT(CASE WHEN kind = 'click' THEN 1 END) AS clicks
             FROM touches WHERE merchant_id = $1 AND ($2 = '' OR live_id = $2) AND ($3 = '' OR product_id = $3)
                 AND ($4 = '' OR creator_id = $4)",
        )
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

    /// Those that are still written down, and those that were: of these it is not known which lines of their sale they
    /// had, and they count for each product of it.
    async fn holds_made(&self, merchant: &MerchantId, by: [&str; 3]) -> Result<u64, LedgerError> {
        query(
            "SELECT CAST(
                 (SELECT COUNT(*) FROM holds
                  WHERE holds.merchant_id = $1 AND ($2 = '' OR holds.live_id = $2)
                    AND ($3 = ''
                      OR EXISTS (SELECT 1 FROM sales WHERE sales.live_id = holds.live_id AND sales.id = holds.sale_id
                          AND sales.product_id = $3 AND (holds.units IS NULL OR holds.units LIKE '0:%'))
                      OR EXISTS (SELECT 1 FROM sale_lines AS line WHERE line.live_id = holds.live_id
                          AND line.sale_id = holds.sale_id AND line.product_id = $3
                          AND '+' || holds.units LIKE '%+' || CAST(line.line AS TEXT) || ':%')))
               + (SELECT COALESCE(SUM(forgotten.count), 0) FROM forgotten_holds AS forgotten
                  WHERE forgotten.merchant_id = $1 AND ($2 = '' OR forgotten.live_id = $2)
                    AND ($3 = ''
                      OR EXISTS (SELECT 1 FROM sales WHERE sales.live_id = forgotten.live_id
                          AND sales.id = forgotten.sale_id AND sales.product_id = $3)
                      OR EXISTS (SELECT 1 FROM sale_lines AS line WHERE line.live_id = forgotten.live_id
                          AND line.sale_id = forgotten.sale_id AND line.product_id = $3))) AS BIGINT) AS holds",
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
        let sums = match by[1] {
            "" => self.sums(merchant, by).await?,
            product => self.sums_of_product(merchant, product).await?,
        };
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
             FROM bookings WHERE merchant_id = $1 AND buyer_id IN (SELECT bookings.buyer_id FROM bookings WHERE",
            ") GROUP BY currency"
        ))
        .bind(merchant.as_str())
        .bind(by[0])
        .bind(by[1])
        .bind(by[2])
        .try_map(|row: Row| {
            let (spent, buyers): (i64, i64) = (row.try_get("spent")?, number(&row, "buyers")?);
            Ok((row::currency(&row)?, spent / buyers.max(1)))
        })
        .fetch_all(&self.read)
        .await?;
        sold.lifetime_minor = lifetime.into_iter().collect();
        Ok(sold)
    }

    /// Orders, units and money by currency.
    async fn sums(&self, merchant: &MerchantId, by: [&str; 3]) -> Result<Vec<Sums>, LedgerError> {
        query(scoped!(
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
            Ok((row::currency(&row)?, orders, units, revenue))
        })
        .fetch_all(&self.read)
        .await
    }

    /// The same of a product's own lines.
    async fn sums_of_product(&self, merchant: &MerchantId, product: &str) -> Result<Vec<Sums>, LedgerError> {
        let mut sums = query(
            "SELECT bookings.currency, COUNT(DISTINCT bookings.order_id) AS orders,
                    CAST(SUM(line.quantity) AS BIGINT) AS units, CAST(SUM(line.total_minor) AS BIGINT) AS gross
             FROM order_lines AS line JOIN bookings ON bookings.order_id = line.order_id
             WHERE line.merchant_id = $1 AND line.product_id = $2 GROUP BY bookings.currency",
        )
        .bind(merchant.as_str())
        .bind(product)
        .try_map(|row: Row| {
            let revenue = Revenue { gross_minor: row.try_get("gross")?, refunded_minor: 0 };
            Ok((row::currency(&row)?, number(&row, "orders")?, number(&row, "units")?, revenue))
        })
        .fetch_all(&self.read)
        .await?;
        // Few orders are refunded, or have a coupon: how much of that is of which line is not SQL's to say.
        let changed: Vec<(String, Currency, Revenue, PaidLine)> = query(
            "SELECT bookings.order_id, bookings.currency, bookings.total_minor AS total, line.product_id, line.total_minor,
                    line.refunded_minor AS of_line,
                    merchant_reversed + platform_reversed + agency_reversed + creator_reversed AS refunded
             FROM bookings JOIN order_lines AS line ON line.order_id = bookings.order_id
                 JOIN orders ON orders.id = bookings.order_id
             WHERE bookings.merchant_id = $1
                 AND (merchant_reversed + platform_reversed + agency_reversed + creator_reversed > 0
                     OR orders.coupon IS NOT NULL)
                 AND bookings.order_id IN (SELECT order_id FROM order_lines WHERE merchant_id = $1 AND product_id = $2)
             ORDER BY bookings.order_id, line.line",
        )
        .bind(merchant.as_str())
        .bind(product)
        .try_map(|row: Row| {
            let line = PaidLine {
                asked: row.try_get::<&str>("product_id")? == product,
                price_minor: row.try_get("total_minor")?,
                refunded_minor: row.try_get("of_line")?,
            };
            let paid =
                Revenue { gross_minor: row.try_get("total")?, refunded_minor: row.try_get("refunded")? };
            Ok((row.try_get("order_id")?, row::currency(&row)?, paid, line))
        })
        .fetch_all(&self.read)
        .await?;
        for order in changed.chunk_by(|one, other| one.0 == other.0) {
            let (_, currency, paid, _) = &order[0];
            let lines: Vec<_> = order.iter().map(|(.., line)| *line).collect();
            let listed: i64 = lines.iter().filter(|line| line.asked).map(|line| line.price_minor).sum();
            if let Some((.., revenue)) = sums.iter_mut().find(|(of, ..)| of == currency) {
                let part = part_of(*paid, &lines);
                revenue.gross_minor -= listed - part.gross_minor;
                revenue.refunded_minor += part.refunded_minor;
            }
        }
        Ok(sums)
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
