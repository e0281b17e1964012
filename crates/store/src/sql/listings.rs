//! Products with all that there is of them.

use std::collections::HashSet;

use haul_commerce::{
    LedgerError,
    ledger::Answer,
    listing::{Catalogue, Details, Listing, Put},
};
use haul_model::{LiveId, MerchantId, ProductId, UnixMillis, VariantId};

use super::{
    SqlLedger,
    db::{Row, query, query_scalar},
    row,
};

impl SqlLedger {
    async fn put_listings(
        &self,
        merchant: &MerchantId,
        listings: &[Listing],
        now: UnixMillis,
    ) -> Result<Vec<Put>, LedgerError> {
        let mut put = Vec::with_capacity(listings.len());
        let mut change = self.write.begin().await?;
        'listings: for Listing { product, details } in listings {
            for variant in &details.variants {
                let owner: Option<String> =
                    query_scalar("SELECT product_id FROM product_skus WHERE merchant_id = $1 AND sku = $2")
                        .bind(merchant.as_str())
                        .bind(variant.sku.as_str())
                        .fetch_optional(&mut change)
                        .await?;
                if let Some(owner) = owner.filter(|owner| owner != product.id.as_str()) {
                    let product =
                        owner.parse().map_err(|_| LedgerError::Conflict("a bad product id".to_owned()))?;
                    put.push(Put::SkuTaken { sku: variant.sku.clone(), product });
                    continue 'listings;
                }
            }
            if details.external_url.is_some() {
                let open: Option<String> = query_scalar(
                    "SELECT id FROM sales WHERE merchant_id = $1 AND product_id = $2 AND closes_at > $3 LIMIT 1",
                )
                .bind(merchant.as_str())
                .bind(product.id.as_str())
                .bind(row::sql(now.0))
                .fetch_optional(&mut change)
                    .await?;
                if open.is_some() {
                    put.push(Put::OnSale);
                    continue 'listings;
                }
            }
            let known: Option<String> =
                query_scalar("SELECT id FROM products WHERE merchant_id = $1 AND id = $2")
                    .bind(merchant.as_str())
                    .bind(product.id.as_str())
                    .fetch_optional(&mut change)
                    .await?;
            query(
                "INSERT INTO products (merchant_id, id, title, subtitle, image_url, amount_minor, currency)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (merchant_id, id) DO UPDATE SET
                     title = excluded.title, subtitle = excluded.subtitle, image_url = excluded.image_url,
                     amount_minor = excluded.amount_minor, currency = excluded.currency",
            )
            .bind(merchant.as_str())
            .bind(product.id.as_str())
            .bind(&product.title)
            .bind(&product.subtitle)
            .bind(&product.image_url)
            .bind(product.list_price.amount_minor)
            .bind(product.list_price.currency.code())
            .execute(&mut change)
            .await?;
            let document = serde_json::to_string(details)
                .map_err(|error| LedgerError::Conflict(format!("the product {}: {error}", product.id)))?;
            query(
                "INSERT INTO product_details (merchant_id, product_id, document, external) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (merchant_id, product_id) DO UPDATE SET
                     document = excluded.document, external = excluded.external",
            )
            .bind(merchant.as_str())
            .bind(product.id.as_str())
            .bind(document)
            .bind(details.external_url.is_some())
            .execute(&mut change)
            .await?;
            query("DELETE FROM product_skus WHERE merchant_id = $1 AND product_id = $2")
                .bind(merchant.as_str())
                .bind(product.id.as_str())
                .execute(&mut change)
                .await?;
            let skus: HashSet<&VariantId> = details.variants.iter().map(|variant| &variant.sku).collect();
            for sku in skus {
                query("INSERT INTO product_skus (merchant_id, sku, product_id) VALUES ($1, $2, $3)")
                    .bind(merchant.as_str())
                    .bind(sku.as_str())
                    .bind(product.id.as_str())
                    .execute(&mut change)
                    .await?;
            }
            put.push(if known.is_some() { Put::Updated } else { Put::Created });
        }
        change.commit().await?;
        Ok(put)
    }

    /// What is sold in an external shop can't be sold here as well.
    pub(super) async fn refuse_external(
        &self,
        merchant: &MerchantId,
        product: &ProductId,
    ) -> Result<(), LedgerError> {
        let external: Option<bool> =
            query_scalar("SELECT external FROM product_details WHERE merchant_id = $1 AND product_id = $2")
                .bind(merchant.as_str())
                .bind(product.as_str())
                .fetch_optional(&self.read)
                .await?;
        if external == Some(true) {
            return Err(LedgerError::Conflict(format!("the product {product} is sold in an external shop")));
        }
        Ok(())
    }

    async fn listing(
        &self,
        merchant: &MerchantId,
        product: &ProductId,
    ) -> Result<Option<Listing>, LedgerError> {
        query(
            "SELECT products.*, product_details.document FROM products
             LEFT JOIN product_details ON product_details.merchant_id = products.merchant_id
                 AND product_details.product_id = products.id
             WHERE products.merchant_id = $1 AND products.id = $2",
        )
        .bind(merchant.as_str())
        .bind(product.as_str())
        .try_map(|row| listing(&row))
        .fetch_optional(&self.read)
        .await
    }

    async fn listings(
        &self,
        merchant: &MerchantId,
        after: Option<&ProductId>,
        limit: u32,
    ) -> Result<Vec<Listing>, LedgerError> {
        query(
            "SELECT products.*, product_details.document FROM products
             LEFT JOIN product_details ON product_details.merchant_id = products.merchant_id
                 AND product_details.product_id = products.id
             WHERE products.merchant_id = $1 AND products.id > $2 ORDER BY products.id LIMIT $3",
        )
        .bind(merchant.as_str())
        .bind(after.map_or("", |after| after.as_str()))
        .bind(i64::from(limit))
        .try_map(|row| listing(&row))
        .fetch_all(&self.read)
        .await
    }

    async fn listed_in(&self, live: &LiveId) -> Result<Vec<Listing>, LedgerError> {
        query(
            "SELECT products.*, product_details.document FROM bags
             JOIN products ON products.merchant_id = bags.merchant_id AND products.id = bags.product_id
             LEFT JOIN product_details ON product_details.merchant_id = products.merchant_id
                 AND product_details.product_id = products.id
             WHERE bags.live_id = $1 ORDER BY bags.position",
        )
        .bind(live.as_str())
        .try_map(|row| listing(&row))
        .fetch_all(&self.read)
        .await
    }
}

fn listing(row: &Row) -> Result<Listing, sqlx::Error> {
    let document: Option<&str> = row.try_get("document")?;
    let details = document.map(serde_json::from_str::<Details>).transpose();
    let details = details.map_err(|error| row::bad("document", error))?.unwrap_or_default();
    Ok(Listing { product: row::product(row)?, details })
}

impl Catalogue for SqlLedger {
    fn put_listings<'a>(
        &'a self,
        merchant: &'a MerchantId,
        listings: &'a [Listing],
        now: UnixMillis,
    ) -> Answer<'a, Vec<Put>> {
        Box::pin(self.put_listings(merchant, listings, now))
    }

    fn listing<'a>(
        &'a self,
        merchant: &'a MerchantId,
        product: &'a ProductId,
    ) -> Answer<'a, Option<Listing>> {
        Box::pin(self.listing(merchant, product))
    }

    fn listings<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a ProductId>,
        limit: u32,
    ) -> Answer<'a, Vec<Listing>> {
        Box::pin(self.listings(merchant, after, limit))
    }

    fn listed_in<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<Listing>> {
        Box::pin(self.listed_in(live))
    }
}
