//! Frames: put together from packets, kept for joiners, handed to whoever watches, sent on with unbroken numbering.
//!
//! Everything here decides and nothing here does: input comes in with the time, and what should happen next goes out.
//! It knows RTP's numbers, because they are what every frame is made from, but no sockets, no clocks, no session
//! protocol, no async runtime and no rooms.
//!
//! The walk of a frame: [`assembly`] (packets become frames, holes are waited for and given up) → [`relay`] (the
//! meeting point of one publisher and any number of sinks, with the [`gop`] cache for joiners) → [`forward`] (one
//! viewer's numbering of it) → [`history`] (what a viewer may ask for again).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod assembly;
pub mod clock;
pub mod forward;
pub mod gop;
pub mod h264;
pub mod history;
pub mod relay;
pub mod sequence;
pub mod throttle;
pub mod vp8;

#[cfg(test)]
mod testing;

pub use assembly::{Assembled, Assembly, Packet};
pub use clock::ClockMap;
pub use forward::{Forward, Outgoing};
pub use gop::GopCache;
pub use history::History;
pub use relay::{Broadcast, Delivery, Publication, Relay, RelayEvent, Sink, Snapshot, Source, Subscription};
pub use throttle::Wish;
