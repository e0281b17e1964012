//! Opening the ledger: which database an address names, its tables, and what its settings could cost.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, PgConnection, SqliteConnection,
    error::DatabaseError,
    migrate::Migrator,
    pool::PoolOptions,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::time::sleep;

use super::{
    PATIENCE, SqlLedger,
    change::{Connector, Writer},
    db::{Conn, Readers},
};
use crate::{OpenError, error::without_password};

/// Connections that read. Readers wait for one of them, not for the writer.
const READERS: u32 = 4;
/// How long to wait before a file that another process is just making is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Memory for pages of the connection that writes, as SQLite has it: so many KiB, with a minus.
const WRITER_CACHE_KIB: &str = "-65536";
/// Pages in the log (of 4 KiB) before they are copied into the file.
const CHECKPOINT_PAGES: &str = "8000";
/// One set of tables for both databases.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

impl SqlLedger {
    /// Opens `sqlite://path` (created if absent, with its directories), `sqlite::memory:` or
    /// `postgres://user:password@host/database` (which must be there), and brings its tables to this version. Several
    /// processes may do so at once.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let address = without_password(url);
        let bad_address =
            |why: &str| OpenError::Address { what: "a ledger", given: address.clone(), why: why.to_owned() };
        let failed = |error: Failed| OpenError::Ledger { address: address.clone(), why: error.to_string() };
        let unread = |error: sqlx::Error| bad_address(&error.to_string());
        match url.split_once(':') {
            Some(("sqlite", _)) => {
                let in_memory = url.contains(":memory:") || url.contains("mode=memory");
                let options: SqliteConnectOptions = url.parse().map_err(unread)?;
                if !in_memory && let Some(dir) = options.get_filename().parent() {
                    create_dir(dir)?;
                }
                open_sqlite(options, in_memory).await.map_err(failed)
            }
            Some(("postgres" | "postgresql", _)) => {
                open_postgres(url.parse().map_err(unread)?).await.map_err(failed)
            }
            _ => Err(bad_address("use sqlite://path/to/file.db or postgres://user:password@host/database")),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("its encoding is {0}, and must be UTF8")]
    Encoding(String),
}

async fn open_sqlite(options: SqliteConnectOptions, in_memory: bool) -> Result<SqlLedger, Failed> {
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // What is erased is not to be read in the file either.
        .pragma("secure_delete", "ON")
        .busy_timeout(PATIENCE);
    // Who writes has the pages of a busy evening in memory, also those that a savepoint keeps, and copies them from the log
    // into the file more seldom than by default: many of them are written again and again.
    let writer = options
        .clone()
        .pragma("cache_size", WRITER_CACHE_KIB)
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
    let connector = Connector::Sqlite(writer.clone());
    // Making the tables may take a second on a slow disk, which is nothing to warn of.
    let mut conn = connect_sqlite(&Connector::Sqlite(writer.disable_statement_logging())).await?;
    if let Conn::Sqlite(conn) = &mut conn {
        migrate_sqlite(conn).await?;
    }
    let write = Writer::start(connector, conn);
    let read = match in_memory {
        true => Readers::Writer(write.clone()),
        // Kept for good: there is no server to spare them for.
        false => {
            Readers::Sqlite(readers().idle_timeout(None).max_lifetime(None).connect_with(options).await?)
        }
    };
    Ok(SqlLedger::new(write, read, Vec::new()))
}

/// A new file is changed to WAL by the first connection, and while that goes on SQLite refuses others at once, whatever
/// its busy timeout says.
async fn connect_sqlite(connector: &Connector) -> Result<Conn, sqlx::Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match connector.connect().await {
            Err(sqlx::Error::Database(error)) if is_busy(&*error) && Instant::now() < until => {
                sleep(BUSY_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// SQLITE_BUSY, or one of its kinds.
fn is_busy(error: &dyn DatabaseError) -> bool {
    error.code().and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 5)
}

async fn open_postgres(options: PgConnectOptions) -> Result<SqlLedger, Failed> {
    // A process that stands still in the middle of a change loses its turn.
    let limit = PATIENCE.as_millis().to_string();
    let options = options.application_name("haul").options([
        ("statement_timeout", &limit),
        ("lock_timeout", &limit),
        ("idle_in_transaction_session_timeout", &limit),
    ]);
    let connector = Connector::Postgres(options.clone());
    let mut conn = Connector::Postgres(options.clone().disable_statement_logging()).connect().await?;
    let mut weaknesses = Vec::new();
    if let Conn::Postgres(conn) = &mut conn {
        let encoding = show(conn, "SHOW server_encoding").await?;
        if encoding != "UTF8" {
            return Err(Failed::Encoding(encoding));
        }
        migrate_postgres(conn).await?;
        weaknesses = weaknesses_of(conn).await?;
    }
    let write = Writer::start(connector, conn);
    let read = Readers::Postgres(readers().connect_with(options).await?);
    Ok(SqlLedger::new(write, read, weaknesses))
}

fn readers<DB: sqlx::Database>() -> PoolOptions<DB> {
    PoolOptions::new().max_connections(READERS).acquire_timeout(PATIENCE)
}

/// All migrations in one transaction that takes the write lock first: of two processes that start at once, the second
/// finds the first's work.
async fn migrate_sqlite(conn: &mut SqliteConnection) -> Result<(), Failed> {
    let mut change = conn.begin_with("BEGIN IMMEDIATE").await?;
    MIGRATIONS.run(&mut *change).await?;
    Ok(change.commit().await?)
}

/// The same, with the lock that writers take (`change.rs`), and longer to wait for: a big table may be changed.
async fn migrate_postgres(conn: &mut PgConnection) -> Result<(), Failed> {
    let mut change = conn.begin().await?;
    for statement in [
        "SET LOCAL lock_timeout = 0",
        "SET LOCAL statement_timeout = 0",
        "SELECT pg_advisory_xact_lock(1751217516)",
    ] {
        sqlx::raw_sql(statement).execute(&mut *change).await?;
    }
    MIGRATIONS.run(&mut *change).await?;
    // Room on each page for the orders on it to move.
    let room: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_class WHERE oid = 'orders'::regclass AND 'fillfactor=60' = ANY (reloptions))",
    )
    .fetch_one(&mut *change)
    .await?;
    if !room {
        sqlx::raw_sql("ALTER TABLE orders SET (fillfactor = 60)").execute(&mut *change).await?;
    }
    Ok(change.commit().await?)
}

async fn show(conn: &mut PgConnection, statement: &'static str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(statement).fetch_one(conn).await
}

/// Each setting by which something acknowledged could be lost.
async fn weaknesses_of(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let mut found = Vec::new();
    if show(conn, "SHOW synchronous_commit").await? == "off" {
        found.push(
            "synchronous_commit is off: a crash of its machine loses the last orders and payments that were \
             acknowledged, less than a second of them"
                .to_owned(),
        );
    }
    if show(conn, "SHOW fsync").await? == "off" {
        found.push("fsync is off: a crash of its machine can destroy the whole ledger".to_owned());
    }
    if show(conn, "SHOW full_page_writes").await? == "off" {
        found.push("full_page_writes is off: a crash of its machine can damage tables".to_owned());
    }
    Ok(found)
}

fn create_dir(dir: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(dir).map_err(|source: io::Error| OpenError::Io { path: dir.to_owned(), source })
}
