//! What merchants are told beside orders: kept for those who ask, and told to their webhooks.

use std::hash::{DefaultHasher, Hash, Hasher};

use haul_commerce::{
    LedgerError,
    ledger::Answer,
    notice::{Notices, Told},
};
use haul_model::{MerchantId, MessageId, UnixMillis};

use super::{
    SqlLedger,
    change::Change,
    db::{Row, query},
    messages,
    row::{self, sql},
};

/// A notice to be added.
pub(super) struct Notice {
    pub(super) merchant: String,
    pub(super) kind: &'static str,
    pub(super) subject: String,
    pub(super) body: serde_json::Value,
    pub(super) at: UnixMillis,
}

/// Adds a notice in the transaction in which what it tells becomes true.
pub(super) async fn add(notice: &Notice, change: &mut Change) -> Result<(), LedgerError> {
    // Sorted by time, so that a page of them goes on where the last one ended. No chance in it: one thing at one time is
    // told once.
    let body = notice.body.to_string();
    let mut hash = DefaultHasher::new();
    (&notice.merchant, notice.kind, &notice.subject, &body).hash(&mut hash);
    let id = MessageId::generate("evt_", notice.at, hash.finish().into());
    let added = query(
        "INSERT INTO notices (id, merchant_id, kind, subject, body, at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(&notice.merchant)
    .bind(notice.kind)
    .bind(&notice.subject)
    .bind(body)
    .bind(sql(notice.at.0))
    .execute(&mut *change)
    .await?;
    match added {
        0 => Ok(()),
        _ => messages::tell_notice(change, id, notice).await,
    }
}

fn told(row: &Row) -> Result<Told, sqlx::Error> {
    Ok(Told {
        id: row.try_get("id")?,
        merchant: row::parsed(row, "merchant_id")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        body: row.try_get("body")?,
        at: row::time(row, "at")?,
    })
}

impl SqlLedger {
    async fn notices(
        &self,
        merchant: &MerchantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Told>, LedgerError> {
        query("SELECT * FROM notices WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(merchant.as_str())
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .try_map(|row| told(&row))
            .fetch_all(&self.read)
            .await
    }
}

impl Notices for SqlLedger {
    fn notices<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a str>,
        limit: u32,
    ) -> Answer<'a, Vec<Told>> {
        Box::pin(self.notices(merchant, after, limit))
    }
}
