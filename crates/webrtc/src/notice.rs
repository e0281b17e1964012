//! What the edge tells about its sessions while they run.

use std::{fmt, time::Duration};

use haul_model::{LiveId, SessionId};

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whose session; the id its offer came with.
    pub session: SessionId,
    /// In which live.
    pub live: LiveId,
    /// Publisher or viewer.
    pub role: Role,
    /// What happened.
    pub kind: NoticeKind,
}

/// Which way a session's media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// From the host to us.
    Publisher,
    /// From us to a viewer.
    Viewer,
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeKind {
    /// ICE and DTLS are up and media may flow. At most once a session.
    Connected {
        /// Time from the answer.
        after: Duration,
    },
    /// The session is gone and its memory with it. Exactly once for every session whose offer was answered; nothing
    /// comes after it.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// [`crate::Edge::close`] was called: the client's DELETE, or somebody was put out.
    Closed,
    /// The peer said goodbye (DTLS close_notify).
    PeerClosed,
    /// Another publisher took over the live.
    Replaced,
    /// The host came back with a codec that this viewer did not negotiate; a new offer will do.
    CodecChanged,
    /// Nothing was heard of the peer for [`crate::Limits::silence`].
    Silent,
    /// Never connected within [`crate::Limits::connect`].
    NeverConnected,
    /// The handshake or the session's state failed in a way that can't be repaired.
    Failed,
    /// The time that its client was let in for is over.
    Expired,
    /// The edge was drained.
    Drained,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndReason::Closed => "closed",
            EndReason::PeerClosed => "closed by the peer",
            EndReason::Replaced => "replaced by another publisher",
            EndReason::CodecChanged => "codec changed",
            EndReason::Silent => "silent",
            EndReason::NeverConnected => "never connected",
            EndReason::Failed => "failed",
            EndReason::Expired => "token expired",
            EndReason::Drained => "drained",
        })
    }
}
