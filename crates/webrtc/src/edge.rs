//! The edge as the async side sees it: offers in, answers out.

use std::sync::Arc;

use haul_media::Relay;
use haul_model::{LiveId, SessionId};

use crate::{EdgeConfig, EdgeStats, Notice, OfferError, StartError};

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The SDP answer, with all candidates.
    pub sdp: String,
    /// Names the ICE session (RFC 9725, 4.3.1): the value of an `ETag` header, quotes included.
    pub etag: String,
}

/// What is told about each session. Called on shard threads: it must be cheap and must not block.
pub type Observer = Arc<dyn Fn(Notice) + Send + Sync>;

/// The WebRTC edge: a handle to its shards. Clones are the same edge; it runs until the last one is dropped.
#[derive(Clone)]
pub struct Edge {}

impl Edge {
    /// Binds the shards' ports and starts their threads.
    pub fn start(config: EdgeConfig, observer: Observer) -> Result<Self, StartError> {
        let _ = (config, observer);
        Ok(Self {})
    }

    /// Answers a publisher's offer (WHIP). When it is connected, its broadcast starts on `relay`, in place of any
    /// other.
    pub async fn publish(
        &self,
        session: SessionId,
        live: LiveId,
        relay: Arc<Relay>,
        offer: &str,
    ) -> Result<Answer, OfferError> {
        let _ = (session, live, relay, offer);
        Err(OfferError::Closed)
    }

    /// Answers a viewer's offer (WHEP), with the codecs of what `relay` carries now.
    pub async fn watch(
        &self,
        session: SessionId,
        live: LiveId,
        relay: Arc<Relay>,
        offer: &str,
    ) -> Result<Answer, OfferError> {
        let _ = (session, live, relay, offer);
        Err(OfferError::Closed)
    }

    /// Ends a session; its peer is told. False if there is no such session (any more).
    pub async fn close(&self, session: &SessionId) -> bool {
        let _ = session;
        false
    }

    /// Ends every session, telling each peer, and takes no more offers.
    pub async fn drain(&self) {}

    /// All counters at this moment.
    pub fn stats(&self) -> EdgeStats {
        EdgeStats::default()
    }
}
