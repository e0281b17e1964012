//! The owner of each live: where picture, room and shop meet.
//!
//! [`Lives`] finds or starts a live; a [`Live`] is a handle to its owner, a task that alone holds the live's state and
//! to which everybody else sends messages. What the state machine decides ([`stage`](self)) is pure; the owner carries
//! it out. Stores are behind the traits of `haul-commerce`; this crate knows no Redis, no SQL and no HTTP.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod begin;
mod chores;
mod connection;
mod coupons;
mod desk;
mod drawn;
mod finder;
mod follower;
mod house;
mod keeper;
mod likes;
mod live;
mod lives;
mod metrics;
mod money;
mod owner;
mod purchase;
mod recorder;
mod requests;
mod restock;
mod scribes;
mod settle;
mod shared;
mod stage;
#[cfg(test)]
mod testing;
mod till;
mod watch;

pub use connection::{Connection, Inbox, QualityListener};
pub use drawn::{DrawEntry, Drawn};
pub use follower::{Keep, follow_orders, look_after_buyers};
pub use live::{Live, Look};
pub use lives::{LiveError, Lives, Services};
pub use metrics::Metrics;
pub use money::RefundAsk;
pub use restock::RestockError;
pub use scribes::Pen;
pub use settle::CallbackError;
pub use shared::Sharing;
pub use stage::{
    MAX_BAG, MAX_HOLD_LINES, MAX_LINES_ON_STAGE, MAX_ORDERS_SHOWN, MAX_SALES, Settings, coupon_view,
    order_view, product_view,
};

use std::time::{Instant, SystemTime};

use haul_model::Now;

/// Reads both clocks. Called at the edges of a turn, never by what decides.
pub fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::now().into() }
}
