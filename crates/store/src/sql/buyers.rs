//! Buyers: what is known of them, what they saved, whom their orders go to, and erasing all of that.

use haul_commerce::{
    LedgerError,
    buyers::{Buyers, Details, Export, Known, MAX_EXPORTED, MAX_SAVED, Profile, Retention},
    ledger::Answer,
};
use haul_model::{BuyerId, LiveId, MerchantId, OrderId, ProductId, UnixMillis};
use serde::Deserialize;
use serde_json::json;

use super::{
    SqlLedger,
    creators::touch,
    db::{Row, query},
    details, messages,
    notices::{self, Notice},
    row::{self, number, sql},
};

/// Which notes of rooms have somebody's own words, or will: `question/`, an id of 28 characters, and who asked; `intent/`, 20
/// digits, and whose words of what it has.
macro_rules! their_notes {
    () => {
        "merchant_id = $1 AND (
             name IN ('thread/' || $2, 'chat_pin/' || $2)
             OR (name LIKE 'question/%' AND substr(name, 39) = $2)
             OR (name LIKE 'intent/%'
                 AND substr(name, 29) IN ('thread/' || $2, 'question/' || $2, 'chat_pin/' || $2)))"
    };
}

impl SqlLedger {
    async fn profile(&self, merchant: &MerchantId, buyer: &BuyerId) -> Result<Profile, LedgerError> {
        let mut profile = Profile::default();
        let sums = query(
            "SELECT currency, MIN(sold_at) AS first_at, MAX(sold_at) AS last_at,
                    CAST(SUM(total_minor - merchant_reversed - platform_reversed - agency_reversed - creator_reversed)
                         AS BIGINT) AS spent
             FROM bookings WHERE merchant_id = $1 AND buyer_id = $2 GROUP BY currency ORDER BY currency",
        )
        .bind(merchant.as_str())
        .bind(buyer.as_str())
        .try_map(|row: Row| {
            Ok((row::money(&row, "spent")?, row::time(&row, "first_at")?, row::time(&row, "last_at")?))
        })
        .fetch_all(&self.read)
        .await?;
        for (spent, first, last) in sums {
            profile.spent.push(spent);
            profile.first_order_at = Some(profile.first_order_at.map_or(first, |at| at.min(first)));
            profile.last_order_at = profile.last_order_at.max(Some(last));
        }
        profile.paid_orders = self.paid_orders(merchant, buyer).await?;
        profile.milestones = query(
            "SELECT name, at FROM milestones WHERE merchant_id = $1 AND buyer_id = $2 ORDER BY at, name",
        )
        .bind(merchant.as_str())
        .bind(buyer.as_str())
        .try_map(|row: Row| Ok((row.try_get("name")?, row::time(&row, "at")?)))
        .fetch_all(&self.read)
        .await?;
        profile.saved = query(
            "SELECT product_id FROM saved_products WHERE merchant_id = $1 AND buyer_id = $2
             ORDER BY at DESC, product_id LIMIT $3",
        )
        .bind(merchant.as_str())
        .bind(buyer.as_str())
        .bind(i64::from(MAX_SAVED))
        .try_map(|row: Row| row::parsed(&row, "product_id"))
        .fetch_all(&self.read)
        .await?;
        profile.erased_at = query("SELECT at FROM erased_buyers WHERE merchant_id = $1 AND buyer_id = $2")
            .bind(merchant.as_str())
            .bind(buyer.as_str())
            .try_map(|row: Row| row::time(&row, "at"))
            .fetch_optional(&self.read)
            .await?;
        Ok(profile)
    }

    async fn known_buyers(
        &self,
        merchant: &MerchantId,
        after: Option<&BuyerId>,
        limit: u32,
    ) -> Result<Vec<Known>, LedgerError> {
        query(
            "SELECT buyer_id, MIN(sold_at) AS first_at, MAX(sold_at) AS last_at,
                    COUNT(CASE WHEN merchant_reversed + platform_reversed + agency_reversed + creator_reversed
                        < total_minor THEN 1 END) AS kept
             FROM bookings WHERE merchant_id = $1 AND buyer_id > $2 GROUP BY buyer_id ORDER BY buyer_id LIMIT $3",
        )
        .bind(merchant.as_str())
        .bind(after.map_or("", |after| after.as_str()))
        .bind(limit)
        .try_map(|row: Row| {
            Ok(Known {
                buyer: row::parsed(&row, "buyer_id")?,
                paid_orders: number(&row, "kept")?,
                first_order_at: row::time(&row, "first_at")?,
                last_order_at: row::time(&row, "last_at")?,
            })
        })
        .fetch_all(&self.read)
        .await
    }

    async fn save_product(
        &self,
        merchant: &MerchantId,
        buyer: &BuyerId,
        product: &ProductId,
        saved: bool,
        at: UnixMillis,
    ) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        query("DELETE FROM saved_products WHERE merchant_id = $1 AND product_id = $2 AND buyer_id = $3")
            .bind(merchant.as_str())
            .bind(product.as_str())
            .bind(buyer.as_str())
            .execute(&mut change)
            .await?;
        if saved {
            let count: u32 = query(
                "SELECT COUNT(*) AS saved FROM saved_products WHERE merchant_id = $1 AND buyer_id = $2",
            )
            .bind(merchant.as_str())
            .bind(buyer.as_str())
            .try_map(|row: Row| number(&row, "saved"))
            .fetch_one(&mut change)
            .await?;
            if count >= MAX_SAVED {
                return Err(LedgerError::Conflict(format!("{MAX_SAVED} products are saved already")));
            }
            query(
                "INSERT INTO saved_products (merchant_id, product_id, buyer_id, at) VALUES ($1, $2, $3, $4)",
            )
            .bind(merchant.as_str())
            .bind(product.as_str())
            .bind(buyer.as_str())
            .bind(sql(at.0))
            .execute(&mut change)
            .await?;
        }
        change.commit().await
    }

    async fn tell_back_in_stock(&self, now: UnixMillis, limit: u32) -> Result<u32, LedgerError> {
        // What can be bought now, of what somebody saved, where that is not what was seen last.
        let turned = query(
            "SELECT saved.merchant_id, saved.product_id, saved.now_in FROM (
                 SELECT each_one.merchant_id, each_one.product_id, EXISTS (
                     SELECT 1 FROM sales WHERE sales.merchant_id = each_one.merchant_id
                         AND sales.product_id = each_one.product_id
                         AND sales.opens_at <= $1 AND sales.closes_at > $1 AND sales.sold < sales.stock)
                     OR EXISTS (
                     SELECT 1 FROM sale_lines AS line
                     JOIN sales ON sales.live_id = line.live_id AND sales.id = line.sale_id
                     WHERE line.merchant_id = each_one.merchant_id AND line.product_id = each_one.product_id
                         AND sales.opens_at <= $1 AND sales.closes_at > $1 AND line.sold < line.stock) AS now_in
                 FROM (SELECT DISTINCT merchant_id, product_id FROM saved_products) AS each_one) AS saved
             LEFT JOIN stock_seen ON stock_seen.merchant_id = saved.merchant_id
                 AND stock_seen.product_id = saved.product_id
             WHERE stock_seen.in_stock IS NULL OR stock_seen.in_stock <> saved.now_in LIMIT $2",
        )
        .bind(sql(now.0))
        .bind(i64::from(limit))
        .try_map(|row: Row| {
            let (merchant, product): (String, String) = (row.try_get("merchant_id")?, row.try_get("product_id")?);
            Ok((merchant, product, row.try_get::<bool>("now_in")?))
        })
        .fetch_all(&self.read)
        .await?;
        for (merchant, product, in_stock) in turned {
            let mut change = self.write.begin().await?;
            // The first look at a product only sees: who saves what can be bought is not told so.
            let seen: Option<bool> =
                query("SELECT in_stock FROM stock_seen WHERE merchant_id = $1 AND product_id = $2")
                    .bind(&merchant)
                    .bind(&product)
                    .try_map(|row: Row| row.try_get("in_stock"))
                    .fetch_optional(&mut change)
                    .await?;
            query(
                "INSERT INTO stock_seen (merchant_id, product_id, in_stock) VALUES ($1, $2, $3)
                 ON CONFLICT (merchant_id, product_id) DO UPDATE SET in_stock = excluded.in_stock",
            )
            .bind(&merchant)
            .bind(&product)
            .bind(in_stock)
            .execute(&mut change)
            .await?;
            if in_stock && seen == Some(false) {
                query("UPDATE saved_products SET to_tell = TRUE WHERE merchant_id = $1 AND product_id = $2")
                    .bind(&merchant)
                    .bind(&product)
                    .execute(&mut change)
                    .await?;
            }
            change.commit().await?;
        }
        self.tell_savers(now, limit).await
    }

    /// Tells those who are to be told, at most `limit`; the others have their turn with the next look, whatever happens
    /// until then.
    async fn tell_savers(&self, now: UnixMillis, limit: u32) -> Result<u32, LedgerError> {
        let waiting = query("SELECT 1 AS waiting FROM saved_products WHERE to_tell LIMIT 1")
            .fetch_optional(&self.read)
            .await?;
        if waiting.is_none() {
            return Ok(0);
        }
        let mut change = self.write.begin().await?;
        let savers: Vec<(String, String, String)> = query(
            "UPDATE saved_products SET to_tell = FALSE WHERE (merchant_id, product_id, buyer_id) IN (
                 SELECT merchant_id, product_id, buyer_id FROM saved_products WHERE to_tell LIMIT $1)
             RETURNING merchant_id, product_id, buyer_id",
        )
        .bind(i64::from(limit))
        .try_map(|row: Row| {
            Ok((row.try_get("merchant_id")?, row.try_get("product_id")?, row.try_get("buyer_id")?))
        })
        .fetch_all(&mut change)
        .await?;
        for (merchant, product, buyer) in &savers {
            let notice = Notice {
                merchant: merchant.clone(),
                kind: "product.back_in_stock",
                subject: format!("{product}:{buyer}"),
                body: json!({ "product_id": product, "buyer_id": buyer }),
                at: now,
            };
            notices::add(&notice, &mut change).await?;
        }
        change.commit().await?;
        Ok(savers.len() as u32)
    }

    async fn export(&self, merchant: &MerchantId, buyer: &BuyerId) -> Result<Export, LedgerError> {
        let profile = self.profile(merchant, buyer).await?;
        let (orders, details): (Vec<_>, Vec<_>) = query(
            "SELECT orders.*, order_details.personal, order_details.charges FROM orders
             LEFT JOIN order_details ON order_details.order_id = orders.id
             WHERE orders.merchant_id = $1 AND orders.buyer_id = $2
             ORDER BY orders.created_at DESC, orders.id DESC LIMIT $3",
        )
        .bind(merchant.as_str())
        .bind(buyer.as_str())
        .bind(i64::from(MAX_EXPORTED))
        .try_map(|row: Row| Ok((row::order(&row)?, details::read(&row)?)))
        .fetch_all(&self.read)
        .await?
        .into_iter()
        .unzip();
        let orders = self.with_lines(orders).await?.into_iter().zip(details).collect();
        let touches =
            query("SELECT * FROM touches WHERE merchant_id = $1 AND buyer_id = $2 ORDER BY at DESC LIMIT $3")
                .bind(merchant.as_str())
                .bind(buyer.as_str())
                .bind(i64::from(MAX_EXPORTED))
                .try_map(|row: Row| touch(&row))
                .fetch_all(&self.read)
                .await?;
        let threads = self.threads(merchant, buyer).await?;
        Ok(Export { profile, orders, touches, threads })
    }

    async fn threads(
        &self,
        merchant: &MerchantId,
        buyer: &BuyerId,
    ) -> Result<Vec<(LiveId, String)>, LedgerError> {
        query(
            "SELECT live_id, text FROM room_notes WHERE merchant_id = $1 AND name = 'thread/' || $2 ORDER BY live_id",
        )
        .bind(merchant.as_str())
        .bind(buyer.as_str())
        .try_map(|row: Row| Ok((row::parsed(&row, "live_id")?, row.try_get("text")?)))
        .fetch_all(&self.read)
        .await
    }

    async fn rooms_of(&self, merchant: &MerchantId, buyer: &BuyerId) -> Result<Vec<LiveId>, LedgerError> {
        query(concat!(
            "SELECT DISTINCT live_id FROM room_notes WHERE ",
            their_notes!(),
            // What others have said and won, too, where it has their id. LIKE takes more than that id at times: one room more is asked.
            " OR (merchant_id = $1
                  AND (name = 'giveaway' OR name LIKE 'giveaway/%' OR name LIKE 'chat_pin/%' OR name LIKE 'intent/%')
                  AND text LIKE '%\"' || $2 || '\"%')
              ORDER BY live_id"
        ))
            .bind(merchant.as_str())
            .bind(buyer.as_str())
            .try_map(|row: Row| row::parsed(&row, "live_id"))
            .fetch_all(&self.read)
            .await
    }

    async fn erase(&self, merchant: &MerchantId, buyer: &BuyerId, at: UnixMillis) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        for statement in [
            "UPDATE order_details SET personal = NULL WHERE merchant_id = $1 AND order_id IN (
                 SELECT id FROM orders WHERE merchant_id = $1 AND buyer_id = $2)",
            "UPDATE orders SET buyer_name = '' WHERE merchant_id = $1 AND buyer_id = $2",
            "DELETE FROM saved_products WHERE merchant_id = $1 AND buyer_id = $2",
            "UPDATE touches SET buyer_id = NULL WHERE merchant_id = $1 AND buyer_id = $2",
            "UPDATE timers SET state = 'cancelled' WHERE merchant_id = $1 AND buyer_id = $2 AND state = 'set'",
            "UPDATE creators SET buyer_id = NULL WHERE merchant_id = $1 AND buyer_id = $2",
            concat!("DELETE FROM room_notes WHERE ", their_notes!()),
            "UPDATE refunds SET reason = '' WHERE merchant_id = $1 AND order_id IN (
                 SELECT id FROM orders WHERE merchant_id = $1 AND buyer_id = $2)",
            // Answers that name them, or somebody whose name looks the same to LIKE: asked again, these are carried out again,
            // and what they made has a key of its own.
            "DELETE FROM requests WHERE merchant_id = $1 AND body LIKE '%\"' || $2 || '\"%'",
            // Nor do those about their orders go on saying their name.
            "DELETE FROM requests WHERE merchant_id = $1 AND EXISTS (
                 SELECT 1 FROM orders WHERE orders.merchant_id = $1 AND orders.buyer_id = $2
                     AND requests.body LIKE '%\"' || orders.id || '\"%')",
        ] {
            query(statement).bind(merchant.as_str()).bind(buyer.as_str()).execute(&mut change).await?;
        }
        messages::forget_name(&mut change, merchant, buyer).await?;
        query(
            "INSERT INTO erased_buyers (merchant_id, buyer_id, at) VALUES ($1, $2, $3)
             ON CONFLICT (merchant_id, buyer_id) DO UPDATE SET at = excluded.at",
        )
        .bind(merchant.as_str())
        .bind(buyer.as_str())
        .bind(sql(at.0))
        .execute(&mut change)
        .await?;
        change.commit().await?;
        self.read.empty_log().await;
        Ok(())
    }

    async fn retire(&self, retention: Retention) -> Result<(), LedgerError> {
        query("DELETE FROM touches WHERE at < $1")
            .bind(sql(retention.touches_before.0))
            .execute(&self.write)
            .await?;
        query("UPDATE order_details SET personal = NULL WHERE at < $1 AND personal IS NOT NULL")
            .bind(sql(retention.details_before.0))
            .execute(&self.write)
            .await?;
        query("UPDATE orders SET buyer_name = '' WHERE created_at < $1 AND buyer_name <> ''")
            .bind(sql(retention.details_before.0))
            .execute(&self.write)
            .await?;
        self.retire_threads(retention.details_before).await
    }

    /// Forgets what a buyer and a host's team wrote to each other, once its last word is too old.
    async fn retire_threads(&self, before: UnixMillis) -> Result<(), LedgerError> {
        let threads = query("SELECT live_id, name, text FROM room_notes WHERE name LIKE 'thread/%'")
            .try_map(|row: Row| Ok((row.try_get("live_id")?, row.try_get("name")?, row.try_get("text")?)))
            .fetch_all(&self.read)
            .await?;
        let is_old = |text: &str| {
            let thread: ThreadNote = serde_json::from_str(text).unwrap_or_default();
            thread.messages.last().is_some_and(|last| last.at < before)
        };
        for (live, name, text) in threads {
            let (live, name, text): (String, String, String) = (live, name, text);
            if is_old(&text) {
                // Unless something was written meanwhile.
                query("DELETE FROM room_notes WHERE live_id = $1 AND name = $2 AND text = $3")
                    .bind(live)
                    .bind(name)
                    .bind(text)
                    .execute(&self.write)
                    .await?;
            }
        }
        Ok(())
    }
}

/// What is looked at of a room's note of a thread.
#[derive(Default, Deserialize)]
struct ThreadNote {
    messages: Vec<Written>,
}

#[derive(Deserialize)]
struct Written {
    at: UnixMillis,
}

impl Buyers for SqlLedger {
    fn profile<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId) -> Answer<'a, Profile> {
        Box::pin(self.profile(merchant, buyer))
    }

    fn known_buyers<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a BuyerId>,
        limit: u32,
    ) -> Answer<'a, Vec<Known>> {
        Box::pin(self.known_buyers(merchant, after, limit))
    }

    fn save_product<'a>(
        &'a self,
        merchant: &'a MerchantId,
        buyer: &'a BuyerId,
        product: &'a ProductId,
        saved: bool,
        at: UnixMillis,
    ) -> Answer<'a, ()> {
        Box::pin(self.save_product(merchant, buyer, product, saved, at))
    }

    fn tell_back_in_stock(&self, now: UnixMillis, limit: u32) -> Answer<'_, u32> {
        Box::pin(self.tell_back_in_stock(now, limit))
    }

    fn details<'a>(&'a self, merchant: &'a MerchantId, order: &'a OrderId) -> Answer<'a, Details> {
        Box::pin(self.details(merchant, order))
    }

    fn put_details<'a>(
        &'a self,
        merchant: &'a MerchantId,
        order: &'a OrderId,
        details: &'a Details,
        at: UnixMillis,
    ) -> Answer<'a, ()> {
        Box::pin(self.put_details(merchant, order, details, at))
    }

    fn export<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId) -> Answer<'a, Export> {
        Box::pin(self.export(merchant, buyer))
    }

    fn rooms_of<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId) -> Answer<'a, Vec<LiveId>> {
        Box::pin(self.rooms_of(merchant, buyer))
    }

    fn erase<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId, at: UnixMillis) -> Answer<'a, ()> {
        Box::pin(self.erase(merchant, buyer, at))
    }

    fn retire(&self, retention: Retention) -> Answer<'_, ()> {
        Box::pin(self.retire(retention))
    }
}
