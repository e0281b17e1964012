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
    /// What a viewer gets has changed: another layer, sound alone, or pictures again.
    Quality(Box<Quality>),
    /// The session is gone and its memory with it. Exactly once for every session whose offer was answered; nothing
    /// comes after it.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// What a viewer gets of the pictures, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quality {
    /// No pictures: not even the smallest layer fits.
    pub sound_only: bool,
    /// Pictures were left out lately because they would have come late.
    pub misses_pictures: bool,
    /// The layer that is shown; `None` before the first and while a keyframe is waited for.
    pub layer: Option<String>,
    /// The layer that was asked for; `None` if that is left to us.
    pub choice: Option<String>,
    /// Why it gets what it gets.
    pub reason: QualityReason,
    /// What there is, the largest first.
    pub layers: Vec<QualityLayer>,
}

impl Quality {
    /// Whether it is another than `other`; what layers take changes all the time, and makes no difference.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let names =
            |quality: &Self| quality.layers.iter().map(|layer| layer.name.clone()).collect::<Vec<_>>();
        let core = |quality: &Self| {
            (
                quality.sound_only,
                quality.misses_pictures,
                quality.layer.clone(),
                quality.choice.clone(),
                quality.reason,
            )
        };
        core(self) != core(other) || names(self) != names(other)
    }
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualityLayer {
    /// Its name in the host's offer (rid), or its number.
    pub name: String,
    /// What it takes now, in bits a second.
    pub bitrate_bps: u64,
}

/// Why a viewer gets what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QualityReason {
    /// It is the best there is.
    Best,
    /// It was asked for.
    Asked,
    /// The viewer's network carries no more.
    Network,
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
