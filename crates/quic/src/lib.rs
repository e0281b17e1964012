//! The MoQ edge: lives published and watched over WebTransport and raw QUIC.
//!
//! One UDP port takes QUIC ([`endpoint`](Edge)); TCP of the same number tells browsers the certificate, and takes websockets
//! from who can't have QUIC. Who may come in, and which relay is theirs, is for a [`House`] to say: this crate knows connections,
//! MoQ's broadcasts and groups, and frames. It knows no rooms, no tokens and no WebRTC.
//!
//! The walk of a frame to a viewer: relay → `feed` (a sink with a queue) → `bitstream` (RTP payloads become what a
//! decoder takes) → a group of a track, for as long as somebody reads that track → `moq-net` fans it out.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bitstream;
mod catalog;
mod certificate;
mod cmaf;
mod config;
mod congestion;
mod edge;
mod error;
mod feed;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod house;
mod ingest;
mod intake;
mod lean;
mod patient;
mod polled;
mod request;
mod session;
mod stats;
mod tcp;
mod timeline;
mod websocket;

pub use self::{
    config::{Congestion, Limits, QuicConfig, TlsFiles},
    edge::Edge,
    error::StartError,
    house::{Answer, Asks, Guest, House, OnAir, Refusal},
    stats::QuicStats,
};
