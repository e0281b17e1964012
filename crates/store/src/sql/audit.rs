//! The audit log: rows are added and read, and there is no statement that changes one.

use haul_commerce::{
    LedgerError,
    audit::{Audit, AuditFilter, Entry},
    ledger::Answer,
};
use haul_model::MerchantId;

use super::{
    SqlLedger,
    db::{Builder, Row},
    row::{parsed, parsed_if, sql, time},
};

/// Entries in one statement.
const ROWS: usize = 500;

fn read_entry(row: &Row) -> Result<Entry, sqlx::Error> {
    Ok(Entry {
        id: row.try_get("id")?,
        merchant: parsed(row, "merchant_id")?,
        at: time(row, "at")?,
        role: row.try_get("role")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        live: parsed_if(row, "live_id")?,
        address: row.try_get("address")?,
    })
}

impl SqlLedger {
    async fn add_entries(&self, entries: &[Entry]) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        for entries in entries.chunks(ROWS) {
            let mut insert = Builder::new(
                "INSERT INTO audit (id, merchant_id, at, role, actor, action, target, live_id, address) ",
            );
            insert.push_values(entries, |mut row, entry| {
                row.push_bind(entry.id.as_str())
                    .push_bind(entry.merchant.as_str())
                    .push_bind(sql(entry.at.0))
                    .push_bind(entry.role.as_str())
                    .push_bind(entry.actor.as_str())
                    .push_bind(entry.action.as_str())
                    .push_bind(entry.target.as_str())
                    .push_bind(entry.live.as_ref().map(|live| live.as_str()))
                    .push_bind(entry.address.as_deref());
            });
            insert.push(" ON CONFLICT (id) DO NOTHING");
            insert.build().execute(&mut change).await?;
        }
        change.commit().await
    }
}

impl Audit for SqlLedger {
    fn record<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()> {
        Box::pin(self.add_entries(entries))
    }

    fn audit<'a>(
        &'a self,
        merchant: &'a MerchantId,
        filter: &'a AuditFilter,
        limit: u32,
    ) -> Answer<'a, Vec<Entry>> {
        let mut wanted = Builder::new("SELECT * FROM audit WHERE merchant_id = ");
        wanted.push_bind(merchant.as_str());
        if let Some(live) = &filter.live {
            wanted.push(" AND live_id = ").push_bind(live.as_str());
        }
        if let Some(actor) = &filter.actor {
            wanted.push(" AND actor = ").push_bind(actor.as_str());
        }
        if let Some(after) = &filter.after {
            wanted.push(" AND id < ").push_bind(after.as_str());
        }
        wanted.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        Box::pin(wanted.build().try_map(|row| read_entry(&row)).fetch_all(&self.read))
    }
}
