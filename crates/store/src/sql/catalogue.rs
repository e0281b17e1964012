//! Lives, products, bags and sales.

use haul_commerce::{LedgerError, LiveRecord, Product, Sale, SaleMove};
use haul_model::{LiveId, MerchantId, ProductId, SaleId, UnixMillis};

use super::{
    SqlLedger,
    db::{Builder, On, query, query_scalar},
    lines,
    row::{self, sql},
};

impl SqlLedger {
    pub(super) async fn ensure_live(&self, live: &LiveRecord) -> Result<LiveRecord, LedgerError> {
        let mut change = self.write.begin().await?;
        query(
            "INSERT INTO lives (id, merchant_id, title, public, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(live.id.as_str())
        .bind(live.merchant.as_str())
        .bind(&live.title)
        .bind(live.public)
        .bind(sql(live.created_at.0))
        .execute(&mut change)
        .await?;
        let found = query("SELECT * FROM lives WHERE id = $1")
            .bind(live.id.as_str())
            .try_map(|row| row::live(&row))
            .fetch_one(&mut change)
            .await?;
        change.commit().await?;
        if found.merchant != live.merchant {
            return Err(LedgerError::Conflict(format!("the live {} is another merchant's", live.id)));
        }
        Ok(found)
    }

    pub(super) async fn put_live(&self, live: &LiveRecord) -> Result<LiveRecord, LedgerError> {
        query("UPDATE lives SET title = $1, public = $2 WHERE id = $3 AND merchant_id = $4 RETURNING *")
            .bind(&live.title)
            .bind(live.public)
            .bind(live.id.as_str())
            .bind(live.merchant.as_str())
            .try_map(|row| row::live(&row))
            .fetch_optional(&self.write)
            .await?
            .ok_or_else(|| LedgerError::NotFound(format!("the live {} of {}", live.id, live.merchant)))
    }

    pub(super) async fn live(&self, live: &LiveId) -> Result<Option<LiveRecord>, LedgerError> {
        query("SELECT * FROM lives WHERE id = $1")
            .bind(live.as_str())
            .try_map(|row| row::live(&row))
            .fetch_optional(&self.read)
            .await
    }

    pub(super) async fn lives(
        &self,
        merchant: &MerchantId,
        after: Option<&(UnixMillis, LiveId)>,
        limit: u32,
    ) -> Result<Vec<LiveRecord>, LedgerError> {
        let mut wanted = Builder::new("SELECT * FROM lives WHERE merchant_id = ");
        wanted.push_bind(merchant.as_str());
        if let Some((at, live)) = after {
            wanted.push(" AND (created_at, id) < (").push_bind(sql(at.0));
            wanted.push(", ").push_bind(live.as_str()).push(")");
        }
        wanted.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(limit);
        wanted.build().try_map(|row| row::live(&row)).fetch_all(&self.read).await
    }

    pub(super) async fn unsettled_lives(
        &self,
        now: UnixMillis,
        limit: u32,
    ) -> Result<Vec<LiveRecord>, LedgerError> {
        query(
            "SELECT * FROM lives
             WHERE id IN (SELECT live_id FROM sales WHERE closes_at > $1)
                OR id IN (SELECT live_id FROM under_way)
             ORDER BY created_at DESC, id DESC LIMIT $2",
        )
        .bind(sql(now.0))
        .bind(limit)
        .try_map(|row| row::live(&row))
        .fetch_all(&self.read)
        .await
    }

    pub(super) async fn put_product(&self, product: &Product) -> Result<(), LedgerError> {
        query(
            "INSERT INTO products (merchant_id, id, title, subtitle, image_url, amount_minor, currency)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (merchant_id, id) DO UPDATE SET
                 title = excluded.title, subtitle = excluded.subtitle, image_url = excluded.image_url,
                 amount_minor = excluded.amount_minor, currency = excluded.currency",
        )
        .bind(product.merchant.as_str())
        .bind(product.id.as_str())
        .bind(&product.title)
        .bind(&product.subtitle)
        .bind(&product.image_url)
        .bind(product.list_price.amount_minor)
        .bind(product.list_price.currency.code())
        .execute(&self.write)
        .await?;
        Ok(())
    }

    pub(super) async fn add_to_bag(&self, live: &LiveId, product: &ProductId) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        // The live and the product must be one merchant's.
        let merchant: Option<String> = query_scalar(
            "SELECT lives.merchant_id FROM lives
             JOIN products ON products.merchant_id = lives.merchant_id AND products.id = $2
             WHERE lives.id = $1",
        )
        .bind(live.as_str())
        .bind(product.as_str())
        .fetch_optional(&mut change)
        .await?;
        let Some(merchant) = merchant else {
            return Err(LedgerError::NotFound(format!("the live {live} with a product {product}")));
        };
        query(
            "INSERT INTO bags (merchant_id, live_id, product_id, position)
             VALUES ($1, $2, $3, (SELECT COALESCE(MAX(position), 0) + 1 FROM bags WHERE live_id = $2))
             ON CONFLICT (live_id, product_id) DO NOTHING",
        )
        .bind(merchant)
        .bind(live.as_str())
        .bind(product.as_str())
        .execute(&mut change)
        .await?;
        change.commit().await
    }

    pub(super) async fn remove_from_bag(
        &self,
        live: &LiveId,
        product: &ProductId,
    ) -> Result<(), LedgerError> {
        query("DELETE FROM bags WHERE live_id = $1 AND product_id = $2")
            .bind(live.as_str())
            .bind(product.as_str())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    pub(super) async fn bag(&self, live: &LiveId) -> Result<Vec<Product>, LedgerError> {
        query(
            "SELECT products.* FROM bags
             JOIN products ON products.merchant_id = bags.merchant_id AND products.id = bags.product_id
             WHERE bags.live_id = $1 ORDER BY bags.position",
        )
        .bind(live.as_str())
        .try_map(|row| row::product(&row))
        .fetch_all(&self.read)
        .await
    }

    pub(super) async fn put_sale(&self, sale: &Sale) -> Result<(), LedgerError> {
        for line in sale.lines() {
            self.refuse_external(&sale.merchant, &line.product).await?;
        }
        let terms = &sale.terms;
        let mut change = self.write.begin().await?;
        let put = query(
            "INSERT INTO sales (merchant_id, live_id, id, product_id, variant_id, unit_price_minor, currency, stock,
                                per_buyer, hold_ms, pay_ms, opens_at, closes_at, paused, mode, early, offer_ms,
                                draw_ms, draw_seed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
             ON CONFLICT (live_id, id) DO UPDATE SET opens_at = excluded.opens_at, closes_at = excluded.closes_at,
                     paused = excluded.paused
                 WHERE sales.merchant_id = excluded.merchant_id",
        )
        .bind(sale.merchant.as_str())
        .bind(sale.live.as_str())
        .bind(sale.id.as_str())
        .bind(sale.product.as_str())
        .bind(sale.variant.as_ref().map(|variant| variant.as_str()))
        .bind(sale.unit_price.amount_minor)
        .bind(sale.unit_price.currency.code())
        .bind(terms.stock)
        .bind(terms.per_buyer)
        .bind(sql(terms.hold_ms))
        .bind(sql(terms.pay_ms))
        .bind(sql(terms.opens_at.0))
        .bind(sql(terms.closes_at.0))
        .bind(terms.paused)
        .bind(row::mode_text(terms.mode))
        .bind(row::early_text(&terms.early))
        .bind(terms.offer_ms.map(sql))
        .bind(terms.draw.as_ref().map(|draw| sql(draw.ms)))
        .bind(terms.draw.as_ref().map(|draw| draw.seed.as_str()))
        .execute(&mut change)
        .await?;
        if put == 0 {
            return Err(LedgerError::Conflict(format!("the sale {} is another merchant's", sale.id)));
        }
        lines::put_sale_lines(&mut change, sale).await?;
        change.commit().await
    }

    pub(super) async fn make_sale(&self, sale: &Sale) -> Result<Sale, LedgerError> {
        match find_sale(&sale.live, &sale.id, &self.read).await? {
            Some(known) => Ok(known),
            None => self.put_sale(sale).await.map(|()| sale.clone()),
        }
    }

    pub(super) async fn move_sale(
        &self,
        live: &LiveId,
        sale: &SaleId,
        to: &SaleMove,
    ) -> Result<Sale, LedgerError> {
        let mut change = self.write.begin().await?;
        let parts = [
            to.opens_at.map(|at| {
                query("UPDATE sales SET opens_at = $1 WHERE live_id = $2 AND id = $3").bind(sql(at.0))
            }),
            to.closes_at.map(|at| {
                query("UPDATE sales SET closes_at = $1 WHERE live_id = $2 AND id = $3").bind(sql(at.0))
            }),
            to.paused.map(|paused| {
                query("UPDATE sales SET paused = $1 WHERE live_id = $2 AND id = $3").bind(paused)
            }),
        ];
        for part in parts.into_iter().flatten() {
            part.bind(live.as_str()).bind(sale.as_str()).execute(&mut change).await?;
        }
        let moved = find_sale(live, sale, &mut change).await?;
        change.commit().await?;
        moved.ok_or_else(|| LedgerError::NotFound(format!("the sale {sale}")))
    }

    pub(super) async fn sales(&self, live: &LiveId, after: UnixMillis) -> Result<Vec<Sale>, LedgerError> {
        let mut sales = query(
            "SELECT * FROM sales WHERE live_id = $1 AND (closes_at > $2 OR EXISTS (
                 SELECT 1 FROM under_way WHERE under_way.live_id = sales.live_id AND under_way.sale_id = sales.id))
             ORDER BY opens_at, id",
        )
        .bind(live.as_str())
        .bind(sql(after.0))
        .try_map(|row| row::sale(&row))
        .fetch_all(&self.read)
        .await?;
        // Of all sales of the live in one go, most of which have none.
        for line in lines::sale_lines(&self.read, live, None).await? {
            if let Some(sale) = sales.iter_mut().find(|sale| sale.id == line.sale) {
                line.put(sale);
            }
        }
        Ok(sales)
    }
}

/// A sale with all its lines.
pub(super) async fn find_sale<'a>(
    live: &LiveId,
    sale: &SaleId,
    on: impl Into<On<'a>>,
) -> Result<Option<Sale>, LedgerError> {
    let mut on = on.into();
    let found = query("SELECT * FROM sales WHERE live_id = $1 AND id = $2")
        .bind(live.as_str())
        .bind(sale.as_str())
        .try_map(|row| row::sale(&row))
        .fetch_optional(on.again())
        .await?;
    let Some(mut found) = found else { return Ok(None) };
    for line in lines::sale_lines(on, live, Some(sale)).await? {
        line.put(&mut found);
    }
    Ok(Some(found))
}
