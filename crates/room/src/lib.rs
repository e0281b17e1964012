//! What people in a live say and see: chat and its rules, the pin, the order of events, and what each reader still has to
//! be sent.
//!
//! Pure: it knows no sockets, no stores and no clocks. Whoever owns a live calls it and carries out what it says. What
//! somebody asks is decided once and becomes a [`Change`]; a change does the same to every copy of a room.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod batch;
pub mod change;
pub mod chat;
pub mod crowd;
mod forget;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod giveaway;
pub mod guard;
pub mod heir;
pub mod intents;
pub mod limiter;
pub mod links;
mod marks;
pub mod order;
pub mod outbox;
pub mod poll;
pub mod questions;
pub mod room;
pub mod said;
pub mod sampler;
pub mod words;

pub use batch::Batch;
pub use change::{Change, Note};
pub use chat::{Refused, clean, is_unseen};
pub use forget::without;
pub use guard::Writer;
pub use heir::{Estate, Made, News};
pub use limiter::{Limiter, Rate};
pub use order::{MAX_HISTORY, MAX_HISTORY_BYTES};
pub use outbox::{Key, Lane, Outbox, Piece, Pushed};
pub use room::{Answer, At, Audience, Effect, Line, Room, Shown};
pub use said::MAX_CHAT_SHOWN;
