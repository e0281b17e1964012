//! One text of a statement for both databases: how it is put together, run and read.
//!
//! ```text
//! query("UPDATE lives SET title = $1 WHERE id = $2").bind(&title).bind(id.as_str()).execute(&mut change).await?
//! ```
//!
//! Statements keep to what SQLite and Postgres both understand: `$1`, `ON CONFLICT … DO`, `RETURNING`, BIGINT, TEXT and
//! BOOLEAN, `CAST(SUM(…) AS BIGINT)`. sqlx's own driver for any database cannot read a BOOLEAN of SQLite, and statements
//! that are generic over the driver carry a page of bounds each; this is the small part of both that the ledger needs.

use haul_commerce::LedgerError;
use sqlx::{
    AssertSqlSafe, ColumnIndex, Decode, PgConnection, PgPool, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite,
    SqliteConnection, SqlitePool, Type,
    error::{DatabaseError, ErrorKind},
    postgres::PgRow,
    sqlite::SqliteRow,
};

use super::{
    change::{Change, Writer},
    look::Look,
};

/// A value that a statement is given.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Bool(Option<bool>),
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
    bool => |value| Value::Bool(Some(value));
    String => |value| Value::Text(Some(value));
    &String => |value| Value::Text(Some(value.clone()));
    &str => |value| Value::Text(Some(value.to_owned()));
    Option<i64> => |value| Value::Int(value);
    Option<u32> => |value| Value::Int(value.map(i64::from));
    Option<bool> => |value| Value::Bool(value);
    Option<String> => |value| Value::Text(value);
    &Option<String> => |value| Value::Text(value.clone());
    Option<&str> => |value| Value::Text(value.map(str::to_owned));
}

/// A statement and its values.
#[must_use = "a statement does nothing until it is executed or fetched"]
pub(super) struct Query {
    text: SqlStr,
    /// The same for SQLite, where it has another.
    for_sqlite: Option<SqlStr>,
    values: Vec<Value>,
    /// Whether its plan is kept. One whose text varies with its number of rows would fill the cache.
    keep: bool,
}

/// A statement with values `$1`, `$2`, … in their order.
pub(super) fn query(text: &'static str) -> Query {
    Query { text: text.into_sql_str(), for_sqlite: None, values: Vec::new(), keep: true }
}

/// A statement whose first column is the answer.
pub(super) fn query_scalar<T: for<'r> Column<'r>>(
    text: &'static str,
) -> Mapped<impl FnMut(Row) -> Result<T, sqlx::Error>> {
    query(text).try_map(|row| row.try_get(0))
}

/// A statement over as many rows as there are, whose text is always the same: they are one value, `$1`, a JSON array of
/// arrays, which the statement reads as a table `given` with one column `value`. Its text is in two parts, with the table
/// between them.
///
/// ```text
/// given!(change, &rows, "SELECT orders.* FROM " " CROSS JOIN orders WHERE orders.id = given.value ->> 0")
/// ```
macro_rules! given {
    ($change:expr, $rows:expr, $before:literal $after:literal) => {
        $crate::sql::db::query(match $change.on() {
            $crate::sql::db::On::Postgres(_) => {
                concat!($before, "json_array_elements(CAST($1 AS JSON)) AS given (value)", $after)
            }
            _ => concat!($before, "json_each($1) AS given", $after),
        })
        .bind(serde_json::to_string($rows).expect("texts and numbers are JSON"))
    };
}
pub(super) use given;

/// A statement whose text is put together here, of constants, with as many values as there are rows. For Postgres they are
/// numbered; SQLite knows `$7` by its name, and looks through all names for each of them, so there they have none.
pub(super) struct Builder {
    numbered: String,
    nameless: String,
    values: Vec<Value>,
}

impl Builder {
    pub(super) fn new(text: &'static str) -> Self {
        Self { numbered: text.to_owned(), nameless: text.to_owned(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.numbered.push_str(text);
        self.nameless.push_str(text);
        self
    }

    /// The next value's place, and the value.
    pub(super) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.numbered.push('$');
        self.numbered.push_str(&self.values.len().to_string());
        self.nameless.push('?');
        self
    }

    /// `VALUES (…), (…)`: one row for each of `rows`, whose values `row` pushes.
    pub(super) fn push_values<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        mut row: impl FnMut(Places<'_>, T),
    ) -> &mut Self {
        self.push("VALUES ");
        for (number, item) in rows.into_iter().enumerate() {
            self.push(if number == 0 { "(" } else { ", (" });
            row(Places { builder: self, first: true }, item);
            self.push(")");
        }
        self
    }

    /// `($1, $2, …)`: for `IN`.
    pub(super) fn push_list<T: Into<Value>>(&mut self, items: impl IntoIterator<Item = T>) -> &mut Self {
        self.push("(");
        let mut places = Places { builder: self, first: true };
        for item in items {
            places.push_bind(item);
        }
        self.push(")")
    }

    pub(super) fn build(self) -> Query {
        Query {
            text: AssertSqlSafe(self.numbered).into_sql_str(),
            for_sqlite: Some(AssertSqlSafe(self.nameless).into_sql_str()),
            values: self.values,
            keep: false,
        }
    }
}

/// Values with commas between them.
pub(super) struct Places<'a> {
    builder: &'a mut Builder,
    first: bool,
}

impl Places<'_> {
    pub(super) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        if !std::mem::take(&mut self.first) {
            self.builder.push(", ");
        }
        self.builder.push_bind(value);
        self
    }
}

/// Where a statement runs.
pub(super) enum On<'a> {
    Read(&'a Readers),
    /// As a change of its own.
    Write(&'a Writer),
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl On<'_> {
    /// For one more statement.
    pub(super) fn again(&mut self) -> On<'_> {
        match self {
            On::Read(readers) => On::Read(readers),
            On::Write(writer) => On::Write(writer),
            On::Sqlite(conn) => On::Sqlite(conn),
            On::Postgres(conn) => On::Postgres(conn),
        }
    }
}

impl<'a> From<&'a Readers> for On<'a> {
    fn from(readers: &'a Readers) -> Self {
        match readers {
            Readers::Writer(writer) => On::Write(writer),
            pools => On::Read(pools),
        }
    }
}

impl<'a> From<&'a Writer> for On<'a> {
    fn from(writer: &'a Writer) -> Self {
        On::Write(writer)
    }
}

impl<'a> From<&'a mut Conn> for On<'a> {
    fn from(conn: &'a mut Conn) -> Self {
        match conn {
            Conn::Sqlite(conn) => On::Sqlite(conn),
            Conn::Postgres(conn) => On::Postgres(conn),
        }
    }
}

impl<'a> From<&'a mut Change> for On<'a> {
    fn from(change: &'a mut Change) -> Self {
        change.on()
    }
}

impl<'a> From<&'a mut Look> for On<'a> {
    fn from(look: &'a mut Look) -> Self {
        look.on()
    }
}

/// A connection of one's own.
#[derive(Debug)]
pub(super) enum Conn {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

impl Conn {
    /// Runs statements without values, in one go. Where one fails, those behind it don't run.
    pub(super) async fn run(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Conn::Sqlite(conn) => sqlx::raw_sql(text).execute(&mut **conn).await.map(|_| ()),
            Conn::Postgres(conn) => sqlx::raw_sql(text).execute(&mut **conn).await.map(|_| ()),
        }
    }
}

/// Connections that read.
#[derive(Debug, Clone)]
pub(super) enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgPool),
    /// A database in memory is its one connection's own: a reader waits for its turn to write.
    Writer(Writer),
}

impl Readers {
    /// Brings what SQLite has written beside its file into it, so that nothing older is left there. Best effort: where a
    /// reader is in the way, the next time does it.
    pub(super) async fn empty_log(&self) {
        if let Self::Sqlite(pool) = self
            && let Err(error) = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(pool).await
        {
            tracing::warn!(%error, "the log beside the ledger's file was not emptied");
        }
    }
}

/// Runs `$body` with `$query`, the statement with its values, and `$executor`, of its database.
macro_rules! with {
    ($statement:expr, $on:expr, |$query:ident, $executor:ident| $body:expr) => {
        match $on {
            On::Write(writer) => {
                let mut change = writer.begin().await?;
                match with!(@conn $statement, change.on(), |$query, $executor| $body) {
                    Ok(answer) => change.commit().await.map(|()| answer),
                    Err(error) => Err(change.refuse(error).await),
                }
            }
            on => with!(@conn $statement, on, |$query, $executor| $body),
        }
    };
    (@conn $statement:expr, $on:expr, |$query:ident, $executor:ident| $body:expr) => {{
        let Query { text, for_sqlite, values, keep } = $statement;
        match $on {
            On::Read(Readers::Sqlite(pool)) => {
                let text = for_sqlite.unwrap_or(text);
                let ($query, $executor) = (filled::<Sqlite>(sqlx::query(text), values, keep), pool);
                $body.map_err(failure)
            }
            On::Read(Readers::Postgres(pool)) => {
                let ($query, $executor) = (filled::<Postgres>(sqlx::query(text), values, keep), pool);
                $body.map_err(failure)
            }
            On::Sqlite(conn) => {
                let text = for_sqlite.unwrap_or(text);
                let ($query, $executor) = (filled::<Sqlite>(sqlx::query(text), values, keep), conn);
                $body.map_err(failure)
            }
            On::Postgres(conn) => {
                let ($query, $executor) = (filled::<Postgres>(sqlx::query(text), values, keep), conn);
                $body.map_err(failure)
            }
            On::Write(_) | On::Read(Readers::Writer(_)) => unreachable!("a turn to write has a connection"),
        }
    }};
}

fn filled<DB>(
    query: sqlx::query::Query<'static, DB, DB::Arguments>,
    values: Vec<Value>,
    keep: bool,
) -> sqlx::query::Query<'static, DB, DB::Arguments>
where
    DB: sqlx::Database + sqlx::database::HasStatementCache,
    Option<i64>: sqlx::Encode<'static, DB> + Type<DB>,
    Option<bool>: sqlx::Encode<'static, DB> + Type<DB>,
    Option<String>: sqlx::Encode<'static, DB> + Type<DB>,
{
    let query = values.into_iter().fold(query, |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Bool(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
    });
    query.persistent(keep)
}

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
        with!(self, on.into(), |query, executor| query
            .execute(executor)
            .await
            .map(|done| done.rows_affected()))
    }

    /// Every row, as it is.
    pub(super) async fn fetch_all<'a>(self, on: impl Into<On<'a>>) -> Result<Vec<Row>, LedgerError> {
        with!(self, on.into(), |query, executor| {
            query.fetch_all(executor).await.map(|rows| rows.into_iter().map(Row::from).collect())
        })
    }

    /// The first row, if there is one, as it is.
    pub(super) async fn fetch_optional<'a>(self, on: impl Into<On<'a>>) -> Result<Option<Row>, LedgerError> {
        with!(self, on.into(), |query, executor| {
            query.fetch_optional(executor).await.map(|row| row.map(Row::from))
        })
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
        let rows = self.query.fetch_all(on).await?;
        rows.into_iter().map(self.read).collect::<Result<_, _>>().map_err(failure)
    }

    /// The first row, if there is one.
    pub(super) async fn fetch_optional<'a>(
        mut self,
        on: impl Into<On<'a>>,
    ) -> Result<Option<T>, LedgerError> {
        self.query.fetch_optional(on).await?.map(|row| (self.read)(row)).transpose().map_err(failure)
    }

    /// The first row; [`LedgerError::NotFound`] where there is none.
    pub(super) async fn fetch_one<'a>(self, on: impl Into<On<'a>>) -> Result<T, LedgerError> {
        self.fetch_optional(on).await?.ok_or_else(|| failure(sqlx::Error::RowNotFound))
    }
}

/// A row of either database.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Row::Sqlite(row)
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Row::Postgres(row)
    }
}

/// What a column can be read as: what both databases have.
pub(super) trait Column<'r>:
    Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>
{
}

impl<'r, T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>> Column<'r> for T {}

impl Row {
    /// The column with this name, or at this place.
    pub(super) fn try_get<'r, T: Column<'r>>(
        &'r self,
        column: impl ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    ) -> Result<T, sqlx::Error> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }
}

/// What a failed statement means to the caller.
pub(super) fn failure(error: sqlx::Error) -> LedgerError {
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
            _ if is_bad_value(&*error) => LedgerError::Conflict(text),
            // Locks not got in time, a serialization failure or a deadlock, a full disk, a server that is starting or
            // stopping: nothing was changed, and asking again may do.
            _ => LedgerError::Unavailable(text),
        },
        // A row that this program could not have written.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            LedgerError::Conflict(text)
        }
        _ => LedgerError::Unavailable(text),
    }
}

/// Postgres' class 22: a value that it cannot keep, such as a text with a NUL in it, and never will.
fn is_bad_value(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some_and(|error| error.code().starts_with("22"))
}
