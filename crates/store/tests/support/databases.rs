//! Tests that run on each database that a ledger may be kept in.

// Not each test file has such tests.
#![allow(unused_macros, unused_imports)]

use haul_store::SqlLedger;

use super::{TempDir, postgres::TestPostgres};

/// Which database a test runs on.
pub(crate) enum On {
    Memory,
    /// With readers beside the writer.
    File(TempDir),
    Postgres,
}

impl On {
    /// An empty ledger.
    pub(crate) async fn open(&self) -> SqlLedger {
        let url = match self {
            Self::Memory => "sqlite::memory:".to_owned(),
            Self::File(dir) => format!("sqlite://{}/haul.db", dir.path().display()),
            Self::Postgres => TestPostgres::any().database().await,
        };
        SqlLedger::open(&url).await.unwrap()
    }
}

/// Makes three tests of each function, which takes the database that it opens its ledgers on.
macro_rules! on_each_database {
    ($($test:ident)+) => {
        mod in_memory {
            $(#[tokio::test] async fn $test() { super::$test(crate::support::databases::On::Memory).await })+
        }
        mod in_a_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let dir = crate::support::TempDir::new();
                super::$test(crate::support::databases::On::File(dir)).await
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(crate::support::databases::On::Postgres).await })+
        }
    };
}
pub(crate) use on_each_database;
