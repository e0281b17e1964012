//! What people in a live say and see: chat, the pin, the order of events, and what each reader still has to be sent.
//!
//! Pure: it knows no sockets, no stores and no clocks. Whoever owns a live calls it and carries out what it says.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod chat;
pub mod limiter;
pub mod outbox;
pub mod room;

pub use chat::{Refused, clean};
pub use limiter::{Limiter, Rate};
pub use outbox::{Key, Lane, Outbox, Pushed};
pub use room::{Line, Room};
