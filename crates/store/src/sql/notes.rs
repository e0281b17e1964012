//! The notes of lives' rooms.

use haul_commerce::{LedgerError, Notebook, ledger::Answer};
use haul_model::LiveId;

use super::{SqlLedger, db::query};

impl Notebook for SqlLedger {
    fn notes<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(self.read_notes(live))
    }

    fn write_notes<'a>(&'a self, live: &'a LiveId, notes: &'a [(String, Option<String>)]) -> Answer<'a, ()> {
        Box::pin(self.put_notes(live, notes))
    }
}

impl SqlLedger {
    async fn read_notes(&self, live: &LiveId) -> Result<Vec<(String, String)>, LedgerError> {
        query("SELECT name, text FROM room_notes WHERE live_id = $1 ORDER BY name")
            .bind(live.as_str())
            .try_map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .fetch_all(&self.read)
            .await
    }

    async fn put_notes(&self, live: &LiveId, notes: &[(String, Option<String>)]) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        for (name, text) in notes {
            let statement = match text {
                Some(_) => {
                    "INSERT INTO room_notes (merchant_id, live_id, name, text)
                     SELECT merchant_id, id, $2, $3 FROM lives WHERE id = $1
                     ON CONFLICT (live_id, name) DO UPDATE SET text = excluded.text"
                }
                None => "DELETE FROM room_notes WHERE live_id = $1 AND name = $2",
            };
            let mut query = query(statement).bind(live.as_str()).bind(name);
            if let Some(text) = text {
                query = query.bind(text);
            }
            query.execute(&mut change).await?;
        }
        change.commit().await
    }
}

#[cfg(test)]
mod tests {
    use haul_commerce::{Ledger, LiveRecord};
    use haul_model::{MerchantId, UnixMillis};

    use super::*;

    #[tokio::test]
    async fn notes_are_kept_changed_and_forgotten() {
        let ledger = SqlLedger::open("sqlite::memory:").await.unwrap();
        let live: LiveId = "demo".parse().unwrap();
        let note = |name: &str, text: Option<&str>| (name.to_owned(), text.map(str::to_owned));
        ledger.write_notes(&live, &[note("a", Some("1"))]).await.unwrap();
        assert_eq!(ledger.notes(&live).await.unwrap(), [], "of a live that is not there");
        let record = LiveRecord {
            id: live.clone(),
            merchant: MerchantId::main(),
            title: String::new(),
            public: true,
            created_at: UnixMillis(1),
        };
        Ledger::ensure_live(&ledger, &record).await.unwrap();
        ledger.write_notes(&live, &[note("b", Some("2")), note("a", Some("1"))]).await.unwrap();
        ledger.write_notes(&live, &[note("a", Some("3")), note("b", None), note("c", None)]).await.unwrap();
        assert_eq!(ledger.notes(&live).await.unwrap(), [("a".to_owned(), "3".to_owned())]);
        assert_eq!(ledger.notes(&"other".parse().unwrap()).await.unwrap(), []);
    }
}
