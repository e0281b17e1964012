//! How a statement is put together, run and read.
//!
//! ```text
//! query("UPDATE lives SET title = $1 WHERE id = $2").bind(&title).bind(id.as_str()).execute(&mut change).await?
//! ```

use haul_commerce::LedgerError;
use sqlx::{
    AssertSqlSafe, Executor, Row as _, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::failure;

/// A row.
pub(super) type Row = SqliteRow;

/// A value that a statement is given.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Bool(bool),
    Text(Option<String>),
}

macro_rules! into_value {
    ($($from:ty => |$value:ident| $into:expr;)+) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $into
            }
        }
    )+};
}

into_value! {
    i64 => |value| Value::Int(Some(value));
    u32 => |value| Value::Int(Some(value.into()));
    bool => |value| Value::Bool(value);
    String => |value| Value::Text(Some(value));
    &String => |value| Value::Text(Some(value.clone()));
    &str => |value| Value::Text(Some(value.to_owned()));
    Option<i64> => |value| Value::Int(value);
    Option<String> => |value| Value::Text(value);
    &Option<String> => |value| Value::Text(value.clone());
    Option<&str> => |value| Value::Text(value.map(str::to_owned));
}

/// A change of the ledger: one transaction. Dropping it undoes what it did.
pub(super) type Change = Transaction<'static, Sqlite>;

/// How a change ends, in the ledger's words.
pub(super) trait Ends: Sized {
    /// Keeps what it did.
    fn keep(self) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Undoes what it did, and gives `error` back.
    fn refuse(self, error: LedgerError) -> impl Future<Output = LedgerError> + Send;
}

impl Ends for Change {
    async fn keep(self) -> Result<(), LedgerError> {
        self.commit().await.map_err(failure)
    }

    async fn refuse(self, error: LedgerError) -> LedgerError {
        match self.rollback().await {
            Ok(()) => error,
            Err(error) => failure(error),
        }
    }
}

/// Where a statement runs.
pub(super) enum On<'a> {
    Pool(&'a SqlitePool),
    Change(&'a mut SqliteConnection),
}

impl<'a> From<&'a SqlitePool> for On<'a> {
    fn from(pool: &'a SqlitePool) -> Self {
        On::Pool(pool)
    }
}

impl<'a> From<&'a mut Change> for On<'a> {
    fn from(change: &'a mut Change) -> Self {
        On::Change(change)
    }
}

/// A statement and its values.
#[must_use = "a statement does nothing until it is executed or fetched"]
pub(super) struct Query {
    text: SqlStr,
    values: Vec<Value>,
    /// Whether its plan is kept. One whose text varies would fill the cache.
    keep: bool,
}

/// A statement with values `$1`, `$2`, … in their order.
pub(super) fn query(text: &'static str) -> Query {
    Query { text: text.into_sql_str(), values: Vec::new(), keep: true }
}

/// A statement whose first column is the answer.
pub(super) fn query_scalar<T>(text: &'static str) -> Mapped<impl FnMut(Row) -> Result<T, sqlx::Error>>
where
    T: for<'r> sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    query(text).try_map(|row| row.try_get(0))
}

/// A statement whose text is put together here, of constants.
pub(super) struct Builder {
    text: String,
    values: Vec<Value>,
}

impl Builder {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// The next value's place, and the value.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.values.len().to_string());
        self
    }

    /// `VALUES (…), (…)`: one row for each of `rows`.
    pub(super) fn values<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        row: impl Fn(T) -> Vec<Value>,
    ) -> &mut Self {
        self.text.push_str("VALUES ");
        for (number, item) in rows.into_iter().enumerate() {
            self.text.push_str(if number == 0 { "" } else { ", " });
            self.list(row(item));
        }
        self
    }

    /// `($1, $2, …)`.
    pub(super) fn list<T: Into<Value>>(&mut self, items: impl IntoIterator<Item = T>) -> &mut Self {
        for (number, item) in items.into_iter().enumerate() {
            self.text.push_str(if number == 0 { "(" } else { ", " });
            self.bind(item);
        }
        self.text.push(')');
        self
    }

    pub(super) fn build(self) -> Query {
        Query { text: AssertSqlSafe(self.text).into_sql_str(), values: self.values, keep: false }
    }
}

type Filled = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

impl Query {
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Reads each row with `read`.
    pub(super) fn try_map<T, F: FnMut(Row) -> Result<T, sqlx::Error>>(self, read: F) -> Mapped<F> {
        Mapped { query: self, read }
    }

    /// How many rows it changed.
    pub(super) async fn execute<'a>(self, on: impl Into<On<'a>>) -> Result<u64, LedgerError> {
        let done = match on.into() {
            On::Pool(pool) => pool.execute(self.filled()).await,
            On::Change(conn) => conn.execute(self.filled()).await,
        };
        done.map(|done| done.rows_affected()).map_err(failure)
    }

    fn filled(self) -> Filled {
        let query = sqlx::query(self.text);
        let query = self.values.into_iter().fold(query, |query, value| match value {
            Value::Int(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
        });
        query.persistent(self.keep)
    }
}

/// A statement, and how its rows are read.
#[must_use = "a statement does nothing until it is executed or fetched"]
pub(super) struct Mapped<F> {
    query: Query,
    read: F,
}

impl<T, F: FnMut(Row) -> Result<T, sqlx::Error>> Mapped<F> {
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// Every row.
    pub(super) async fn fetch_all<'a>(self, on: impl Into<On<'a>>) -> Result<Vec<T>, LedgerError> {
        let rows = match on.into() {
            On::Pool(pool) => pool.fetch_all(self.query.filled()).await,
            On::Change(conn) => conn.fetch_all(self.query.filled()).await,
        };
        rows.map_err(failure)?.into_iter().map(self.read).collect::<Result<_, _>>().map_err(failure)
    }

    /// The first row, if there is one.
    pub(super) async fn fetch_optional<'a>(
        mut self,
        on: impl Into<On<'a>>,
    ) -> Result<Option<T>, LedgerError> {
        let row = match on.into() {
            On::Pool(pool) => pool.fetch_optional(self.query.filled()).await,
            On::Change(conn) => conn.fetch_optional(self.query.filled()).await,
        };
        row.map_err(failure)?.map(|row| (self.read)(row)).transpose().map_err(failure)
    }

    /// The first row; [`LedgerError::NotFound`] where there is none.
    pub(super) async fn fetch_one<'a>(self, on: impl Into<On<'a>>) -> Result<T, LedgerError> {
        self.fetch_optional(on).await?.ok_or_else(|| failure(sqlx::Error::RowNotFound))
    }
}
