//! Selling, decided in pure code: sales, holds, orders, prices and limits, and the ports they need.
//!
//! The [`Gate`] decides who gets a unit, the [`Ledger`] remembers who paid for it. This crate owns both traits and the
//! state machine that every gate follows. It knows no Redis, no SQL, no socket and no clock: time is an argument.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod book;
pub mod derive;
pub mod gate;
pub mod hold;
pub mod ledger;
pub mod listing;
pub mod notebook;
pub mod payment;
pub mod price;
pub mod rebuild;
pub mod reconcile;
pub mod sale;
pub mod storefront;
pub mod units;

pub use book::SaleBook;
pub use derive::{hold_id, order_id, payment_id};
pub use gate::{
    Applied, BoxFuture, Counts, Gate, GateError, Image, LiveRef, Mark, Op, Outcome, Rebuild, Refusal,
    Released, Standing,
};
pub use ledger::{
    Callback, CallbackState, HoldNotes, Ledger, LedgerError, LiveRecord, NewOrder, Order, OrderLine,
    OrderState, Paid, Product, Recorded, Totals,
};
pub use notebook::Notebook;
pub use payment::{
    PaymentError, PaymentEvent, PaymentEventKind, PaymentProvider, PaymentRequest, PaymentSession,
};
pub use price::{PriceError, SaleError, check_price};
pub use sale::{EarlyAccess, LineTerms, Sale, SaleLine, SaleMode, SaleTerms, TermsError};
pub use storefront::Storefront;
pub use units::{Line, Units};
