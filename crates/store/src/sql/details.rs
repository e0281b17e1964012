//! Whom an order goes to, and what of its total is shipping and tax.
//!
//! Told by whoever knows it: the buyer at checkout, the payment provider with the money, the merchant at any time. The
//! merchant's word stands until they change it; the provider's fills in what nobody has said.

use haul_commerce::{LedgerError, NewOrder, buyers::Details};
use haul_model::{MerchantId, OrderId, PaymentId, UnixMillis};
use serde::Serialize;

use super::{
    SqlLedger,
    change::Change,
    db::{Row, query},
    row::{bad, sql},
};

impl SqlLedger {
    pub(super) async fn details(
        &self,
        merchant: &MerchantId,
        order: &OrderId,
    ) -> Result<Details, LedgerError> {
        query(
            "SELECT order_details.personal, order_details.charges FROM orders
             LEFT JOIN order_details ON order_details.order_id = orders.id
             WHERE orders.merchant_id = $1 AND orders.id = $2",
        )
        .bind(merchant.as_str())
        .bind(order.as_str())
        .try_map(|row: Row| read(&row))
        .fetch_optional(&self.read)
        .await?
        .ok_or_else(|| LedgerError::NotFound(format!("the order {order}")))
    }

    pub(super) async fn put_details(
        &self,
        merchant: &MerchantId,
        order: &OrderId,
        details: &Details,
        at: UnixMillis,
    ) -> Result<(), LedgerError> {
        query(
            "INSERT INTO order_details (order_id, merchant_id, personal, charges, at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (order_id) DO UPDATE SET personal = excluded.personal, charges = excluded.charges,
                 at = excluded.at WHERE order_details.merchant_id = excluded.merchant_id",
        )
        .bind(order.as_str())
        .bind(merchant.as_str())
        .bind(details.contact.as_ref().map(json).transpose()?)
        .bind(json(&details.charges)?)
        .bind(sql(at.0))
        .execute(&self.write)
        .await?;
        Ok(())
    }
}

/// What is said at checkout replaces what was said of it before.
pub(super) async fn replace(
    change: &mut Change,
    order: &NewOrder,
    details: &Details,
) -> Result<(), LedgerError> {
    query(
        "INSERT INTO order_details (order_id, merchant_id, personal, charges, at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (order_id) DO UPDATE SET
             personal = COALESCE(excluded.personal, order_details.personal),
             charges = CASE WHEN excluded.charges = '[]' THEN order_details.charges ELSE excluded.charges END,
             at = excluded.at",
    )
    .bind(order.id.as_str())
    .bind(order.merchant.as_str())
    .bind(details.contact.as_ref().map(json).transpose()?)
    .bind(json(&details.charges)?)
    .bind(sql(order.created_at.0))
    .execute(change)
    .await?;
    Ok(())
}

/// The provider says with the money what it was told: what nobody has said before is filled in, and nothing personal of
/// somebody who was erased since they ordered.
pub(super) async fn fill_in(
    change: &mut Change,
    payment: &PaymentId,
    details: &Details,
    at: UnixMillis,
) -> Result<(), LedgerError> {
    query(
        "INSERT INTO order_details (order_id, merchant_id, personal, charges, at)
         SELECT orders.id, orders.merchant_id,
                CASE WHEN EXISTS (SELECT 1 FROM erased_buyers WHERE erased_buyers.merchant_id = orders.merchant_id
                     AND erased_buyers.buyer_id = orders.buyer_id AND erased_buyers.at >= orders.created_at)
                     THEN NULL ELSE CAST($1 AS TEXT) END,
                CAST($2 AS TEXT), CAST($3 AS BIGINT)
         FROM orders WHERE orders.payment_id = $4
         ON CONFLICT (order_id) DO UPDATE SET
             personal = COALESCE(order_details.personal, excluded.personal),
             charges = CASE WHEN order_details.charges = '[]' THEN excluded.charges ELSE order_details.charges END,
             at = excluded.at",
    )
    .bind(details.contact.as_ref().map(json).transpose()?)
    .bind(json(&details.charges)?)
    .bind(sql(at.0))
    .bind(payment.as_str())
    .execute(change)
    .await?;
    Ok(())
}

/// The details of an order that may have none.
pub(super) fn read(row: &Row) -> Result<Details, sqlx::Error> {
    let contact: Option<&str> = row.try_get("personal")?;
    let charges: Option<&str> = row.try_get("charges")?;
    Ok(Details {
        contact: contact.map(serde_json::from_str).transpose().map_err(|error| bad("personal", error))?,
        charges: charges
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| bad("charges", error))?
            .unwrap_or_default(),
    })
}

fn json(value: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|error| LedgerError::Conflict(error.to_string()))
}
