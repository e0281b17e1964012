//! The channel's messages: what goes over the websocket of a live, subprotocol [`SUBPROTOCOL`], as JSON.
//!
//! Requests carry an `id` and get exactly one reply with the same `id`. Events carry the live's `epoch`, and their
//! `offset` where they are numbered.
//! This crate knows shapes and sizes, and no rules.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod chat;
pub mod coupon;
pub mod crowd;
pub mod event;
pub mod questions;
pub mod reply;
pub mod request;
pub mod show;
pub mod text;
pub mod view;

pub use chat::{
    Badge, ChatAsk, ChatLine, ChatNews, ChatRules, LogAction, LogEntry, Measure, Moderation, Quote,
    Restricted, Standing, Writers,
};
pub use event::{Event, RoomEvent, Warning, encode_event};
pub use reply::{Code, Failure, Reply, Resumed, Snapshot, Why, encode_failure, encode_reply};
pub use request::{
    EarlySchedule, LineSchedule, ParseError, Position, Request, SaleSchedule, encode_request, parse,
    read_request,
};
pub use view::{
    DrawView, EarlyView, HoldState, HoldView, HostView, LayerView, LineUnits, LiveSound, LiveState, LiveView,
    OrderLineView, OrderStateView, OrderView, Pictures, Pin, ProductView, QualityReason, QualityView,
    SaleLineView, SaleMode, SaleState, SaleView, StockView, Totals, You,
};

/// The websocket subprotocol; its number rises when a change would break a client.
pub const SUBPROTOCOL: &str = "haul.v1";
/// The largest message a client may send, in bytes; a larger one closes the connection (1009).
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// The longest chat line, in Unicode scalar values.
pub const MAX_CHAT_CHARS: usize = 300;
/// The longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 64;

/// Codes with which the server closes a websocket, beside those of RFC 6455.
pub mod close {
    /// The token is not valid, or a token is needed.
    pub const UNAUTHORIZED: u16 = 4401;
    /// The token is for another live, or the page's origin is not allowed.
    pub const FORBIDDEN: u16 = 4403;
    /// No such live.
    pub const NOT_FOUND: u16 = 4404;
    /// The person is banned from this live.
    pub const BANNED: u16 = 4410;
    /// The first message was not a `hello`, or came too late.
    pub const HELLO_EXPECTED: u16 = 4408;
    /// Too many bad or refused messages.
    pub const FLOOD: u16 = 4429;
    /// The client read too slowly: connect again and resume.
    pub const TOO_SLOW: u16 = 4509;
    /// The server has no room for more connections: try later.
    pub const FULL: u16 = 4503;
}
