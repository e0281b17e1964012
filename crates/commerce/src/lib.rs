//! Selling, decided in pure code: sales, holds, orders, prices and limits, and the ports they need.
//!
//! The [`Gate`] decides who gets a unit, the [`Ledger`] remembers who paid for it. This crate owns both traits and the
//! state machine that every gate follows. It knows no Redis, no SQL, no socket and no clock: time is an argument.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attribution;
pub mod audit;
pub mod backoffice;
pub mod book;
pub mod bookings;
pub mod bus;
pub mod buyers;
pub mod coupon;
pub mod derive;
pub mod draw;
pub mod follow;
pub mod followup;
pub mod gate;
pub mod gone;
pub mod hold;
pub mod insight;
pub mod keys;
pub mod ledger;
pub mod listing;
pub mod milestones;
pub mod notebook;
pub mod notice;
pub mod orders;
pub mod outbox;
pub mod pace;
pub mod parts;
pub mod payment;
pub mod price;
pub mod quote;
pub mod rebuild;
pub mod reconcile;
pub mod refund;
pub mod sale;
pub mod split;
pub mod storefront;
#[cfg(test)]
mod testing;
pub mod units;

pub use backoffice::Backoffice;
pub use book::SaleBook;
pub use bus::{Appended, Batch, Bus, BusError, Changes, Kept, Lease, Left, Told};
pub use coupon::{Coupon, CouponTerms, OrderCoupon};
pub use derive::{hold_id, order_id, payment_id, refund_id, sale_id};
pub use draw::Draw;
pub use gate::{
    Applied, BoxFuture, Counts, Gate, GateError, Image, LiveRef, Mark, Offered, Op, Outcome, Rebuild,
    Refusal, Released, Standing,
};
pub use ledger::{
    Callback, CallbackState, CouponUse, HoldNotes, Ledger, LedgerError, LiveRecord, NewOrder, Order,
    OrderLine, OrderState, Paid, Product, Recorded, Totals,
};
pub use notebook::Notebook;
pub use pace::Pace;
pub use parts::Parts;
pub use payment::{
    About, PaymentError, PaymentEvent, PaymentEventKind, PaymentProvider, PaymentRequest, PaymentSession,
    RefundAnswer, RefundRequest, Word,
};
pub use price::{PriceError, SaleError, check_price};
pub use refund::{
    Checkout, Dispute, NewRefund, Refund, RefundFilter, RefundOrigin, RefundState, RefundStep, Refunded,
    Refunds, TRIES_A_ROUND,
};
pub use sale::{EarlyAccess, LineTerms, Sale, SaleLine, SaleMode, SaleMove, SaleTerms, TermsError};
pub use storefront::Storefront;
pub use units::{Line, Units};
