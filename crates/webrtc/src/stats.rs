//! Counters, written by the shards and read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One shard's counters as it writes them. Relaxed atomics: each is right by itself, and no decision depends
        /// on two of them together.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        /// One shard's counters at a moment. Gauges are named for what they hold, the others only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ShardStats { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> ShardStats {
                ShardStats { $($name: self.$name.get(),)* }
            }
        }

        impl std::ops::AddAssign for ShardStats {
            fn add_assign(&mut self, other: Self) { $(self.$name += other.$name;)* }
        }
    };
}

counters! {
    /// Publishers' sessions now.
    publishers,
    /// Viewers' sessions now.
    viewers,
    /// Processor time that the thread used in the last second, in millionths of it.
    cpu_ppm,
    /// Bits of RTP sent to viewers in the last second.
    egress_bps,
    /// Sessions when those two were measured.
    measured_sessions,
    /// The most frames that waited at once in the last second.
    frames_waiting,
    /// The most commands that waited at once in the last second.
    commands_waiting,
    /// Entries in the shard's tables (sessions, names, routes, timers, relays, TCP connections): flat where sessions come
    /// and go, none where there are none.
    table_entries,
    /// Times that the shard failed and lost its sessions.
    shard_failures,
    /// Sessions that became connected.
    sessions_connected,
    /// Sessions that ended, for whatever reason.
    sessions_ended,
    /// Sessions ended because nothing was heard of the peer any more.
    sessions_silent,
    /// Sessions ended because the peer never connected.
    sessions_never_connected,
    /// ICE restarts that led to a new path.
    ice_restarts,
    /// Sessions whose addresses were found, but whose DTLS handshake did not complete.
    handshakes_failed,
    /// Sessions rebuilt for a client without AES-GCM.
    fallback_ciphers,
    /// Offers refused, for whatever reason.
    offers_refused,

    /// Datagrams received, of any kind.
    datagrams_in,
    /// Bytes of datagrams received.
    datagram_bytes_in,
    /// Datagrams that belong to no session.
    datagrams_unrouted,
    /// Datagrams that are none of STUN, DTLS, RTP and RTCP, or too long.
    datagrams_malformed,
    /// Datagrams of sessions that are not connected yet for which there was no room to wait.
    datagrams_crowded,
    /// STUN checks with a wrong password.
    stun_rejected,

    /// RTP packets accepted from publishers.
    rtp_packets_in,
    /// Payload bytes of those.
    rtp_bytes_in,
    /// RTP or RTCP packets from known peers that did not decrypt or parse, or came twice.
    srtp_errors,
    /// RTP packets accepted in a codec or stream that was not negotiated.
    rtp_unknown,
    /// Frames completed from publishers.
    frames_in,
    /// Keyframes among those.
    keyframes_in,
    /// Packets from publishers that were given up.
    packets_lost,
    /// Frames from publishers that were dropped because an earlier one of their GOP was lost.
    frames_dropped,
    /// Keyframe requests sent to publishers (PLI).
    keyframe_requests,
    /// NACK packets sent to publishers.
    nacks_out,

    /// RTP packets sent to viewers.
    rtp_packets_out,
    /// Bytes of those, as UDP payload.
    rtp_bytes_out,
    /// Bytes sent to find out how much viewers' networks carry.
    padding_bytes_out,
    /// Packets reported lost by viewers (each sequence number in a NACK).
    nacks_in,
    /// Packets sent again.
    resends,
    /// Packets sent a second time when they were sent again, because the way is long.
    resends_twice,
    /// Packets asked for that are no longer (or never were) in the history.
    resend_misses,
    /// Packets asked for once too often.
    resends_over_budget,
    /// Keyframe requests from viewers (PLI and FIR).
    plis_in,
    /// Those that were not passed on because their viewer asks too often.
    plis_refused,
    /// Viewers who get sound alone now, because their networks carry no more.
    viewers_paused,
    /// Changes of a viewer's layer to a larger one, and from sound alone to pictures.
    layers_up,
    /// Changes of a viewer's layer to a smaller one, and to sound alone.
    layers_down,
    /// Times that a viewer's pictures were left out up to a keyframe because they would have come late.
    frames_late,
    /// Frames that were left out at those times, up to the keyframes.
    frames_thinned,
    /// Times that a viewer's pictures were stopped at once for a smaller layer, because its network's queue was filling.
    layers_cut,
    /// Times that a viewer's pictures ended for sound alone.
    pauses,
    /// Joiners' replays that were given up because their networks were too slow for them.
    replays_given_up,
    /// Times that padding was sent to find out how much a viewer's network carries.
    probes,
    /// Times that a viewer's estimate was looked at, and the sum of what was seen, in kb/s.
    estimates,
    /// See [`ShardStats::estimates`].
    estimates_kbps,
    /// Reports of arrivals from viewers (transport-wide congestion control).
    feedback_in,

    /// Frames from relays dropped because the shard's queue was full.
    queue_full_drops,
    /// Datagrams the socket had no room for (EAGAIN, ENOBUFS).
    send_full,
    /// Datagrams the kernel refused for another reason.
    send_errors,
    /// TCP connections that carry media (ICE-TCP) now.
    tcp_links,
    /// TCP connections closed because they showed no session, or were too many. Those that no shard has seen are counted
    /// by the first.
    tcp_refused,
    /// Datagrams for which a TCP connection had no room, or that were for one that is gone.
    tcp_full,
    /// Messages sent singly because the kernel refused to segment them.
    gso_refused,
}

/// One number, written by one thread and read by others.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// For a gauge that is measured as a whole.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeStats {
    /// One entry a shard, in the order of their ports.
    pub shards: Vec<ShardStats>,
}

impl EdgeStats {
    /// The shards' sum.
    pub fn total(&self) -> ShardStats {
        let mut total = ShardStats::default();
        for shard in &self.shards {
            total += *shard;
        }
        total
    }
}
