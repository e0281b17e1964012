//! Where stock and orders are kept: [`EmbeddedGate`] and [`RedisGate`] behind one trait, [`SqlLedger`] behind the
//! other.
//!
//! Both gates answer what [`haul_commerce::SaleBook`] would; `tests/conformance.rs` compares them. Nothing here knows
//! websockets, HTTP or media.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod embedded;
mod error;
mod journal;
mod redis;
mod sql;

pub use embedded::{Clock, EmbeddedGate, Recovery};
pub use error::OpenError;
pub use journal::{Books, read_journal};
pub use redis::{RedisBus, RedisGate, RedisOptions};
pub use sql::SqlLedger;

use haul_commerce::{GateError, Op};

/// The most operations one call to a gate may carry. A larger call is refused whole, as a defect of the caller.
pub const MAX_OPS: usize = 1024;

/// The most holds that one call of a rebuild puts back: it bounds how long that call keeps a store from its other callers.
const REBUILD_PIECE: usize = 500;
/// How long a sale is kept at the gate after it closed and nobody holds anything of it: two weeks, in which money may come
/// late. A sale that is asked for again after that is rebuilt from the ledger.
const KEEP_SALE_MS: u64 = 14 * 24 * 3_600_000;

/// Refuses a call with more than [`MAX_OPS`].
fn check_size(ops: &[Op]) -> Result<(), GateError> {
    if ops.len() > MAX_OPS {
        return Err(GateError::Corrupt(format!(
            "a call carried {} operations, and at most {MAX_OPS} are possible",
            ops.len()
        )));
    }
    Ok(())
}
