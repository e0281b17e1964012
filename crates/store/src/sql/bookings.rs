//! Bookings of sold orders, and products' follow-ups.

use haul_commerce::{
    LedgerError,
    bookings::{BookedOrder, Bookings},
    followup::FollowupRule,
    ledger::Answer,
};
use haul_model::{BuyerId, MerchantId, OrderId, ProductId};

use super::{
    SqlLedger,
    db::{Row, query},
    follow::{booking, followup},
    row::{self, number, sql},
};

impl SqlLedger {
    async fn booking(
        &self,
        merchant: &MerchantId,
        order: &OrderId,
    ) -> Result<Option<BookedOrder>, LedgerError> {
        query("SELECT * FROM bookings WHERE merchant_id = $1 AND order_id = $2")
            .bind(merchant.as_str())
            .bind(order.as_str())
            .try_map(|row: Row| {
                Ok(BookedOrder {
                    order: row::parsed(&row, "order_id")?,
                    total: row::money(&row, "total_minor")?,
                    sold_at: row::time(&row, "sold_at")?,
                    booking: booking(&row)?,
                })
            })
            .fetch_optional(&self.read)
            .await
    }

    pub(super) async fn paid_orders(
        &self,
        merchant: &MerchantId,
        buyer: &BuyerId,
    ) -> Result<u32, LedgerError> {
        query(
            "SELECT COUNT(*) AS orders FROM bookings WHERE merchant_id = $1 AND buyer_id = $2
             AND merchant_reversed + platform_reversed + agency_reversed + creator_reversed < total_minor",
        )
        .bind(merchant.as_str())
        .bind(buyer.as_str())
        .try_map(|row: Row| number(&row, "orders"))
        .fetch_one(&self.read)
        .await
    }

    async fn followups(
        &self,
        merchant: &MerchantId,
        product: &ProductId,
    ) -> Result<Vec<FollowupRule>, LedgerError> {
        query("SELECT * FROM followups WHERE merchant_id = $1 AND product_id = $2 ORDER BY position")
            .bind(merchant.as_str())
            .bind(product.as_str())
            .try_map(|row: Row| followup(&row))
            .fetch_all(&self.read)
            .await
    }

    async fn put_followups(
        &self,
        merchant: &MerchantId,
        product: &ProductId,
        rules: &[FollowupRule],
    ) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        query("DELETE FROM followups WHERE merchant_id = $1 AND product_id = $2")
            .bind(merchant.as_str())
            .bind(product.as_str())
            .execute(&mut change)
            .await?;
        let known = query("SELECT 1 AS known FROM products WHERE merchant_id = $1 AND id = $2")
            .bind(merchant.as_str())
            .bind(product.as_str())
            .fetch_optional(&mut change)
            .await?;
        if known.is_none() {
            return Err(LedgerError::NotFound(format!("the product {product}")));
        }
        for (position, rule) in (0_i64..).zip(rules) {
            query(
                "INSERT INTO followups (merchant_id, product_id, position, name, after_s, per_unit_s)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(merchant.as_str())
            .bind(product.as_str())
            .bind(position)
            .bind(&rule.name)
            .bind(sql(rule.after_seconds))
            .bind(sql(rule.per_extra_unit_seconds))
            .execute(&mut change)
            .await?;
        }
        change.commit().await
    }
}

impl Bookings for SqlLedger {
    fn booking<'a>(
        &'a self,
        merchant: &'a MerchantId,
        order: &'a OrderId,
    ) -> Answer<'a, Option<BookedOrder>> {
        Box::pin(self.booking(merchant, order))
    }

    fn paid_orders<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId) -> Answer<'a, u32> {
        Box::pin(self.paid_orders(merchant, buyer))
    }

    fn followups<'a>(
        &'a self,
        merchant: &'a MerchantId,
        product: &'a ProductId,
    ) -> Answer<'a, Vec<FollowupRule>> {
        Box::pin(self.followups(merchant, product))
    }

    fn put_followups<'a>(
        &'a self,
        merchant: &'a MerchantId,
        product: &'a ProductId,
        rules: &'a [FollowupRule],
    ) -> Answer<'a, ()> {
        Box::pin(self.put_followups(merchant, product, rules))
    }
}
