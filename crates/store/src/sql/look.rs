//! Several reads that see one state of the ledger.

use haul_commerce::LedgerError;
use sqlx::{Postgres, Sqlite, Transaction};

use super::{
    change::Change,
    db::{On, Readers, failure},
};

/// What was committed when it began, whatever is committed meanwhile. Dropping it ends it.
pub(super) enum Look {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
    Turn(Change),
}

impl Readers {
    pub(super) async fn look(&self) -> Result<Look, LedgerError> {
        Ok(match self {
            Readers::Sqlite(pool) => Look::Sqlite(pool.begin().await.map_err(failure)?),
            Readers::Postgres(pool) => {
                let begin = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
                Look::Postgres(begin.await.map_err(failure)?)
            }
            Readers::Writer(writer) => Look::Turn(writer.begin().await?),
        })
    }
}

impl Look {
    pub(super) fn on(&mut self) -> On<'_> {
        match self {
            Look::Sqlite(conn) => On::Sqlite(conn),
            Look::Postgres(conn) => On::Postgres(conn),
            Look::Turn(change) => change.on(),
        }
    }
}
