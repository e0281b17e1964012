//! The ledger in SQL: SQLite, in a file of its own.
//!
//! The statements keep to what Postgres understands too (`$1`, `ON CONFLICT`, `CAST`), and each change is one
//! transaction. SQLite has one writer, so there is one connection that writes and a few that read beside it (WAL).
//! Every commit is synced (`synchronous=FULL`): what was acknowledged survives a power failure.

mod audit;
mod bookings;
mod buyers;
mod catalogue;
mod creators;
mod db;
mod follow;
mod holds;
mod insight;
mod keys;
mod lines;
mod listings;
mod notes;
mod notices;
mod order_list;
mod orders;
mod outbox;
mod refunds;
mod row;

use std::{fs, path::Path, time::Duration};

use haul_commerce::{
    Callback, CallbackState, HoldNotes, Ledger, LedgerError, Line, LiveRecord, Mark, NewOrder, Order,
    OrderState, Paid, Product, Recorded, Sale, Totals, Units, ledger::Answer,
};
use haul_model::{BuyerId, LiveId, MerchantId, OrderId, PaymentId, ProductId, SaleId, UnixMillis};
use sqlx::{
    SqlitePool,
    error::ErrorKind,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use self::db::Change;
use crate::{OpenError, error::without_password};

/// Connections that read. Readers wait for one of them, not for the writer.
const READERS: u32 = 4;
/// How long a statement waits for another process' lock, and a caller for a connection, before it is `Unavailable`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The ledger in a SQLite database. Cloning shares it.
#[derive(Debug, Clone)]
pub struct SqlLedger {
    write: SqlitePool,
    read: SqlitePool,
}

impl SqlLedger {
    /// Opens `sqlite://path` (created if absent, with its directories) or `sqlite::memory:`, and brings its tables to
    /// this version.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let address = without_password(url);
        let bad_address =
            |why: &str| OpenError::Address { what: "a ledger", given: address.clone(), why: why.to_owned() };
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return Err(bad_address(
                "this build keeps its ledger in SQLite only; use sqlite://path/to/file.db",
            ));
        }
        if !url.starts_with("sqlite:") {
            return Err(bad_address("use sqlite://path/to/file.db"));
        }
        let options: SqliteConnectOptions =
            url.parse().map_err(|error: sqlx::Error| bad_address(&error.to_string()))?;
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        if !in_memory && let Some(dir) = options.get_filename().parent() {
            create_dir(dir)?;
        }
        let failed = |why: &dyn std::fmt::Display| OpenError::Ledger {
            address: address.clone(),
            why: why.to_string(),
        };
        let write = pool(1).connect_with(options.clone()).await.map_err(|error| failed(&error))?;
        sqlx::migrate!("./migrations").run(&write).await.map_err(|error| failed(&error))?;
        // A database in memory is its connection's own.
        let read = match in_memory {
            true => write.clone(),
            false => pool(READERS).connect_with(options).await.map_err(|error| failed(&error))?,
        };
        Ok(Self { write, read })
    }

    /// Begins a change. It takes the write lock at once: a transaction that reads first and writes later could find
    /// that another process wrote in between.
    async fn begin(&self) -> Result<Change, LedgerError> {
        self.write.begin_with("BEGIN IMMEDIATE").await.map_err(failure)
    }
}

/// Connections that are kept for good: there is no server to spare them for.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
}

fn create_dir(dir: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

/// What a failed statement means to the caller.
fn failure(error: sqlx::Error) -> LedgerError {
    let text = error.to_string();
    match error {
        sqlx::Error::RowNotFound => LedgerError::NotFound(text),
        sqlx::Error::Database(error) => match error.kind() {
            ErrorKind::ForeignKeyViolation => {
                LedgerError::NotFound(format!("something that this row refers to ({text})"))
            }
            ErrorKind::UniqueViolation
            | ErrorKind::CheckViolation
            | ErrorKind::NotNullViolation
            | ErrorKind::ExclusionViolation => LedgerError::Conflict(text),
            _ => LedgerError::Unavailable(text),
        },
        // A row that this program could not have written.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            LedgerError::Conflict(text)
        }
        _ => LedgerError::Unavailable(text),
    }
}

impl Ledger for SqlLedger {
    fn ensure_live<'a>(&'a self, live: &'a LiveRecord) -> Answer<'a, LiveRecord> {
        Box::pin(self.ensure_live(live))
    }

    fn put_live<'a>(&'a self, live: &'a LiveRecord) -> Answer<'a, LiveRecord> {
        Box::pin(self.put_live(live))
    }

    fn live<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Option<LiveRecord>> {
        Box::pin(self.live(live))
    }

    fn lives<'a>(&'a self, merchant: &'a MerchantId, limit: u32) -> Answer<'a, Vec<LiveRecord>> {
        Box::pin(self.lives(merchant, limit))
    }

    fn unsettled_lives(&self, now: UnixMillis, limit: u32) -> Answer<'_, Vec<LiveRecord>> {
        Box::pin(self.unsettled_lives(now, limit))
    }

    fn put_product<'a>(&'a self, product: &'a Product) -> Answer<'a, ()> {
        Box::pin(self.put_product(product))
    }

    fn add_to_bag<'a>(&'a self, live: &'a LiveId, product: &'a ProductId) -> Answer<'a, ()> {
        Box::pin(self.add_to_bag(live, product))
    }

    fn remove_from_bag<'a>(&'a self, live: &'a LiveId, product: &'a ProductId) -> Answer<'a, ()> {
        Box::pin(self.remove_from_bag(live, product))
    }

    fn bag<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<Product>> {
        Box::pin(self.bag(live))
    }

    fn put_sale<'a>(&'a self, sale: &'a Sale) -> Answer<'a, ()> {
        Box::pin(self.put_sale(sale))
    }

    fn add_stock<'a>(
        &'a self,
        live: &'a LiveId,
        sale: &'a SaleId,
        key: &'a str,
        line: Line,
        units: u32,
        at: UnixMillis,
    ) -> Answer<'a, Sale> {
        Box::pin(self.add_stock(live, sale, key, line, units, at))
    }

    fn restock<'a>(
        &'a self,
        order: &'a OrderId,
        key: &'a str,
        units: Option<&'a Units>,
        at: UnixMillis,
    ) -> Answer<'a, Order> {
        Box::pin(self.restock(order, key, units, at))
    }

    fn restock_told<'a>(&'a self, order: &'a OrderId, returned: &'a Units) -> Answer<'a, ()> {
        Box::pin(self.restock_told(order, returned))
    }

    fn restocks_due<'a>(&'a self, live: &'a LiveId, limit: u32) -> Answer<'a, Vec<Order>> {
        Box::pin(self.restocks_due(live, limit))
    }

    fn gate_mark<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId) -> Answer<'a, Mark> {
        Box::pin(self.gate_mark(live, sale))
    }

    fn recorded<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId) -> Answer<'a, Recorded> {
        Box::pin(self.recorded(live, sale))
    }

    fn record_holds<'a>(&'a self, notes: &'a [HoldNotes]) -> Answer<'a, ()> {
        Box::pin(self.record_holds(notes))
    }

    fn forget_holds<'a>(&'a self, live: &'a LiveId, before: UnixMillis) -> Answer<'a, ()> {
        Box::pin(self.forget_holds(live, before))
    }

    fn sales<'a>(&'a self, live: &'a LiveId, after: UnixMillis) -> Answer<'a, Vec<Sale>> {
        Box::pin(self.sales(live, after))
    }

    fn start_order<'a>(&'a self, order: &'a NewOrder) -> Answer<'a, Order> {
        Box::pin(self.start_order(order))
    }

    fn order<'a>(&'a self, order: &'a OrderId) -> Answer<'a, Option<Order>> {
        Box::pin(self.order(order))
    }

    fn order_of_payment<'a>(&'a self, payment: &'a PaymentId) -> Answer<'a, Option<Order>> {
        Box::pin(self.order_of_payment(payment))
    }

    fn orders<'a>(
        &'a self,
        live: &'a LiveId,
        states: &'a [OrderState],
        limit: u32,
    ) -> Answer<'a, Vec<Order>> {
        Box::pin(self.orders(live, states, limit))
    }

    fn orders_of_buyer<'a>(
        &'a self,
        live: &'a LiveId,
        buyer: &'a BuyerId,
        limit: u32,
    ) -> Answer<'a, Vec<Order>> {
        Box::pin(self.orders_of_buyer(live, buyer, limit))
    }

    fn totals<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Totals> {
        Box::pin(self.totals(live))
    }

    fn record_paid<'a>(&'a self, order: &'a OrderId, paid: &'a Paid) -> Answer<'a, Order> {
        Box::pin(self.record_paid(order, paid))
    }

    fn move_order<'a>(&'a self, order: &'a OrderId, to: OrderState, at: UnixMillis) -> Answer<'a, Order> {
        Box::pin(self.move_order(order, to, at))
    }

    fn record_callback<'a>(&'a self, callback: &'a Callback) -> Answer<'a, CallbackState> {
        Box::pin(self.record_callback(callback))
    }

    fn finish_callback<'a>(&'a self, provider: &'a str, event: &'a str) -> Answer<'a, ()> {
        Box::pin(self.finish_callback(provider, event))
    }

    fn callbacks<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<(Callback, bool)>> {
        Box::pin(self.callbacks(live))
    }

    fn unfinished_callbacks(&self, limit: u32) -> Answer<'_, Vec<Callback>> {
        Box::pin(self.unfinished_callbacks(limit))
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            sqlx::query("SELECT 1").execute(&self.read).await.map_err(failure)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    #[tokio::test]
    async fn every_connection_syncs_commits_and_checks_references() {
        let dir = std::env::temp_dir().join(format!("haul-ledger-{}", std::process::id()));
        let ledger = SqlLedger::open(&format!("sqlite://{}/haul.db", dir.display())).await.unwrap();
        for pool in [&ledger.write, &ledger.read] {
            let pragma =
                async |name: &'static str| -> i64 { sqlx::query_scalar(name).fetch_one(pool).await.unwrap() };
            assert_eq!(pragma("PRAGMA synchronous").await, 2);
            assert_eq!(pragma("PRAGMA foreign_keys").await, 1);
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
            assert_eq!(mode, "wal");
        }
        drop(ledger);
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn an_order_leaves_a_trace_of_each_state_it_was_in() {
        let ledger = SqlLedger::open("sqlite::memory:").await.unwrap();
        for statement in [
            "INSERT INTO lives (id, merchant_id, title, public, created_at) VALUES ('demo', 'main', '', TRUE, 1)",
            "INSERT INTO products (merchant_id, id, title, subtitle, image_url, amount_minor, currency)
             VALUES ('main', 'lamp', '', '', '', 100, 'EUR')",
            "INSERT INTO sales (merchant_id, live_id, id, product_id, unit_price_minor, currency, stock, per_buyer,
                                hold_ms, pay_ms, opens_at, closes_at)
             VALUES ('main', 'demo', 's', 'lamp', 100, 'EUR', 5, 1, 1000, 1000, 1, 2)",
            "INSERT INTO orders (id, merchant_id, live_id, sale_id, product_id, hold_id, payment_id, provider, buyer_id,
                                 buyer_name, quantity, unit_price_minor, total_minor, currency, state, created_at,
                                 updated_at)
             VALUES ('o', 'main', 'demo', 's', 'lamp', 'h', 'p', 'sandbox', 'ann', '', 1, 100, 100, 'EUR', 'paying', 1, 1)",
        ] {
            sqlx::query(statement).execute(&ledger.write).await.unwrap();
        }
        let order = "o".parse().unwrap();
        for (state, at) in [(OrderState::Expired, 5), (OrderState::Sold, 7), (OrderState::Sold, 9)] {
            Ledger::move_order(&ledger, &order, state, UnixMillis(at)).await.unwrap();
        }
        let events: Vec<(String, i64, String, i64)> = sqlx::query(
            "SELECT merchant_id, number, state, at FROM order_events WHERE order_id = 'o' ORDER BY number",
        )
        .map(|row: sqlx::sqlite::SqliteRow| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .fetch_all(&ledger.read)
        .await
        .unwrap();
        let main = || "main".to_owned();
        assert_eq!(events, [(main(), 1, "expired".to_owned(), 5), (main(), 2, "sold".to_owned(), 7)]);
    }
}
