//! What the edge counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use moq_net::stats::{Registry, Role};

/// Counters that many tasks write. Relaxed: each is true by itself, and nothing is decided by two of them together.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Counts one thing up for as long as the returned value lives.
    pub(crate) fn held(self: &std::sync::Arc<Self>) -> Held {
        self.add(1);
        Held(self.clone())
    }
}

/// One thing more, until this is dropped.
pub(crate) struct Held(std::sync::Arc<Counter>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// All counters of the edge.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: std::sync::Arc<Counter>,
    pub(crate) viewers: std::sync::Arc<Counter>,
    pub(crate) publishers: std::sync::Arc<Counter>,
    pub(crate) websockets: std::sync::Arc<Counter>,
    pub(crate) accepted: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) sessions_refused: Counter,
    pub(crate) sessions_expired: Counter,
    pub(crate) feed_groups: Counter,
    pub(crate) feed_frames: Counter,
    pub(crate) feed_bytes: Counter,
    pub(crate) feed_overflows: Counter,
    pub(crate) feed_broken: Counter,
    pub(crate) keyframe_requests: Counter,
    pub(crate) ingest_frames: Counter,
    pub(crate) ingest_keyframes: Counter,
    pub(crate) ingest_bytes: Counter,
    pub(crate) ingest_malformed: Counter,
    pub(crate) ingest_tracks_refused: Counter,
    pub(crate) broadcasts_refused: Counter,
    pub(crate) streams_given_up: std::sync::Arc<Counter>,
}

/// The edge's counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuicStats {
    /// QUIC connections, and TCP connections to the same port, that are open.
    pub connections: u64,
    /// Sessions that watch.
    pub viewers: u64,
    /// Sessions that publish.
    pub publishers: u64,
    /// Sessions over websockets, of both kinds.
    pub websockets: u64,
    /// QUIC connections, and TCP connections to the same port, that came.
    pub accepted: u64,
    /// Those turned away at once because there were as many as allowed.
    pub connections_refused: u64,
    /// Handshakes that failed or took too long: of TLS, HTTP or MoQ.
    pub handshakes_failed: u64,
    /// Sessions refused for what their token says, or for lack of room.
    pub sessions_refused: u64,
    /// Sessions ended because their token ran out, or they were not welcome any more.
    pub sessions_expired: u64,
    /// Groups made from lives for their viewers, once for all of a live's.
    pub feed_groups: u64,
    /// Frames in those.
    pub feed_frames: u64,
    /// Bytes in those.
    pub feed_bytes: u64,
    /// Frames a live's feed had no room for.
    pub feed_overflows: u64,
    /// Frames that could not be made into what decoders take.
    pub feed_broken: u64,
    /// Keyframes wanted from hosts on behalf of viewers.
    pub keyframe_requests: u64,
    /// Frames taken from publishers.
    pub ingest_frames: u64,
    /// Keyframes among those.
    pub ingest_keyframes: u64,
    /// Bytes of those.
    pub ingest_bytes: u64,
    /// Catalogs and frames of publishers that were not what they should be.
    pub ingest_malformed: u64,
    /// Tracks of publishers that were not taken: of an unknown codec, or too many.
    pub ingest_tracks_refused: u64,
    /// Broadcasts that were not taken: from who may not publish, or a second one.
    pub broadcasts_refused: u64,
    /// Groups sent to viewers, each counted once for each of them.
    pub groups_out: u64,
    /// Frames in those.
    pub frames_out: u64,
    /// Bytes in those.
    pub bytes_out: u64,
    /// Groups that a viewer was too slow for, and got nothing or a part of.
    pub groups_dropped: u64,
    /// Streams to viewers that were ended before all had arrived: of groups that had grown old on their way.
    pub streams_given_up: u64,
    /// Tracks being sent to viewers.
    pub subscriptions: u64,
    /// Bytes taken from publishers, as MoQ counts them.
    pub bytes_in: u64,
    /// Groups taken from publishers.
    pub groups_in: u64,
}

impl Counters {
    pub(crate) fn snapshot(&self, registry: &Registry) -> QuicStats {
        let mut stats = QuicStats {
            connections: self.connections.get(),
            viewers: self.viewers.get(),
            publishers: self.publishers.get(),
            websockets: self.websockets.get(),
            accepted: self.accepted.get(),
            connections_refused: self.connections_refused.get(),
            handshakes_failed: self.handshakes_failed.get(),
            sessions_refused: self.sessions_refused.get(),
            sessions_expired: self.sessions_expired.get(),
            feed_groups: self.feed_groups.get(),
            feed_frames: self.feed_frames.get(),
            feed_bytes: self.feed_bytes.get(),
            feed_overflows: self.feed_overflows.get(),
            feed_broken: self.feed_broken.get(),
            keyframe_requests: self.keyframe_requests.get(),
            ingest_frames: self.ingest_frames.get(),
            ingest_keyframes: self.ingest_keyframes.get(),
            ingest_bytes: self.ingest_bytes.get(),
            ingest_malformed: self.ingest_malformed.get(),
            ingest_tracks_refused: self.ingest_tracks_refused.get(),
            broadcasts_refused: self.broadcasts_refused.get(),
            streams_given_up: self.streams_given_up.get(),
            ..QuicStats::default()
        };
        for (_, role, traffic) in registry.snapshot().traffic() {
            match role {
                Role::Publisher => {
                    stats.groups_out += traffic.groups;
                    stats.frames_out += traffic.frames;
                    stats.bytes_out += traffic.bytes;
                    stats.groups_dropped += traffic.stale.groups;
                    stats.subscriptions += traffic.active_subscriptions();
                }
                Role::Subscriber => {
                    stats.groups_in += traffic.groups;
                    stats.bytes_in += traffic.bytes;
                }
            }
        }
        stats
    }
}
