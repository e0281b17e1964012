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

pub mod adapt;
pub mod assembly;
pub mod av1;
pub mod bandwidth;
pub mod budget;
pub mod capture;
pub mod clock;
pub mod dependence;
#[cfg(any(test, feature = "emulation"))]
pub mod emulation;
pub mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gop;
pub mod h264;
pub mod h265;
pub mod history;
pub mod hold;
pub mod meter;
pub mod nack;
pub mod nal;
pub mod relay;
pub mod sequence;
pub mod throttle;
pub mod vp8;
pub mod vp9;

#[cfg(test)]
mod testing;

use haul_model::{Codec, media::PictureNumbers};

pub use adapt::{Adapt, Aim, LayerChoice, LayerRate, Reason};
pub use assembly::{Assembled, Assembly, Packet};
pub use bandwidth::Estimator;
pub use budget::Budget;
pub use capture::{CaptureClock, HostClock};
pub use clock::ClockMap;
pub use forward::{Forward, Outgoing};
pub use gop::GopCache;
pub use history::History;
pub use hold::Hold;
pub use meter::Meter;
pub use relay::{Broadcast, Delivery, Publication, Relay, RelayEvent, Sink, Snapshot, Source, Subscription};
pub use throttle::Wish;

/// Writes `numbers` over the running numbers in a payload of `codec`, where it has them.
pub fn renumber(codec: Codec, payload: &mut [u8], numbers: PictureNumbers) {
    match codec {
        Codec::Vp8 => vp8::renumber(payload, numbers),
        Codec::Vp9 => vp9::renumber(payload, numbers),
        Codec::Opus | Codec::Aac | Codec::H264 | Codec::Av1 | Codec::H265 => {}
    }
}
