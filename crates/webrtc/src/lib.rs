//! The WebRTC edge: WHIP and WHEP sessions, and the send path.
//!
//! [`rtc`] (sans-IO) is the control plane of each host: SDP, ICE-lite, DTLS, RTCP, and SRTP on the way in. A viewer, who
//! only receives, has of it what that takes: DTLS and RTCP. The way out is ours: frames are copied, sealed and sent as UDP
//! GSO messages, many viewers a system call. A few shard threads do everything, each with its own UDP port, sessions,
//! timers and buffers, and no locks between them.
//!
//! It knows lives by name only: no rooms, no HTTP, no tokens. Frames come and go through [`haul_media::Relay`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod anteroom;
mod config;
mod connection;
mod doorman;
mod edge;
mod error;
mod feed;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod ice;
mod identity;
mod ingest;
mod keys;
mod lane;
mod links;
mod load;
mod mailbox;
mod notice;
mod outbox;
mod peer;
mod quota;
mod route;
mod sdp;
pub mod sdpfrag;
mod seal;
mod session;
mod shard;
mod slab;
mod socket;
mod srtcp;
mod stats;
mod stun;
mod tap;
mod viewer;

pub use config::{EdgeConfig, Limits, MAX_OFFER_BYTES};
pub use edge::{Answer, Edge, Load, Node, Observer};
pub use error::{IceError, OfferError, PreferError, StartError};
pub use ice::{Condition, IceUpdate};
pub use notice::{EndReason, Notice, NoticeKind, Quality, QualityLayer, QualityReason, Role};
pub use quota::{NoSeat, Quota, Seat, network};
pub use stats::{EdgeStats, ShardStats};
