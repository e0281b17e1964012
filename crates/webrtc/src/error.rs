//! What can be wrong with an offer, and at start. Each variant tells its caller what to answer.

use std::{io, net::SocketAddr};

/// Why an offer was not answered.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// Not an SDP offer that WebRTC can be spoken with. The text says what is wrong with it. (400)
    #[error("the offer can't be used: {0}")]
    Malformed(String),
    /// Longer than [`crate::MAX_OFFER_BYTES`]. (413)
    #[error("the offer is longer than {} bytes", crate::MAX_OFFER_BYTES)]
    TooLarge,
    /// Well-formed, but without the codec that is needed, which the text names. (406)
    #[error("the offer has no codec that can be used here: {0} is needed")]
    Codec(String),
    /// Well-formed, and asks for what one session can't be. The text says what. (406)
    #[error("the offer can't be accepted: {0}")]
    Shape(&'static str),
    /// Nobody publishes on this live now. (409, retry)
    #[error("nobody publishes here now")]
    NoBroadcast,
    /// The edge holds all the sessions it may, or its queue is full. (503, retry later)
    #[error("no room for another session")]
    Full,
    /// The node is near what it can carry: a further viewer would cost those who are there. (503, retry later)
    #[error("the server is too busy for another viewer")]
    Busy,
    /// The edge is draining or gone. (503)
    #[error("the media server is shutting down")]
    Closed,
    /// Something that should not happen, with the library's words for it. (500)
    #[error("the session could not be set up: {0}")]
    Internal(String),
}

/// Why an ICE fragment was not followed. The session goes on as it was (RFC 9725, 4.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IceError {
    /// There is no such session, or it has ended. (404)
    #[error("no such session, or it has ended")]
    NoSession,
    /// It is meant for an ICE session that another has replaced. (412)
    #[error("If-Match names another ICE session")]
    Stale,
    /// A restart has to say which ICE session it follows. (428)
    #[error("this needs If-Match: \"*\", or the session's ETag")]
    ConditionNeeded,
    /// One of name and password changed, and the other did not. (400)
    #[error("an ICE restart changes both ice-ufrag and ice-pwd")]
    HalfRestart,
    /// The session has not been connected yet, so there is nothing to go on with: begin anew. (409)
    #[error("the session is not connected yet, so that its ICE can't be restarted: begin a new one")]
    NotConnected,
    /// The edge has too much to do. (503, retry)
    #[error("the media server is busy")]
    Busy,
}

/// Why a viewer's wish for a layer is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreferError {
    /// No viewer's session of that id (any more), or one without pictures.
    #[error("no such session, or it has no pictures")]
    NoSession,
    /// The host sends no layer of that name now.
    #[error("no such layer: there is {}", .0.join(", "))]
    NoLayer(Vec<String>),
}

/// Why the edge could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense; the text says which key and why.
    #[error("{0}")]
    Config(String),
    /// A port is not to be had: a shard's for UDP, or the one for TCP.
    #[error("cannot listen on {protocol} {address}: {error}")]
    Bind {
        /// UDP or TCP.
        protocol: &'static str,
        /// What was asked for.
        address: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
    /// No certificate, thread or poll object could be made; the text says which.
    #[error("cannot start the media shards: {0}")]
    System(String),
}
