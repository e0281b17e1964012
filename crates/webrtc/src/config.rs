//! Where the edge listens and how much it takes on.

use std::{net::IpAddr, time::Duration};

/// The largest offer read, in bytes. A browser's is about 6 KB; anything larger is refused.
pub const MAX_OFFER_BYTES: usize = 64 << 10;

/// The most shards: their number is two hexadecimal digits of each session's ICE name.
pub(crate) const MAX_SHARDS: usize = 256;

/// Where the edge listens and how much it takes on.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The address all shards bind to. Unspecified (`0.0.0.0`) means every address of this machine; answers then name
    /// `public_addresses`, or this machine's own addresses where there are none.
    pub bind: IpAddr,
    /// UDP port of the first shard; shard `i` listens on `udp_port + i`. 0 gives each shard a free port.
    pub udp_port: u16,
    /// Number of shards, one thread each; at least one.
    pub shards: usize,
    /// The addresses clients reach this machine by, where those differ from its own (NAT, load balancer). They must
    /// lead to the same ports.
    pub public_addresses: Vec<IpAddr>,
    /// How much the edge takes on.
    pub limits: Limits,
}

/// How much the edge takes on, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions a shard holds; further offers are refused with [`crate::OfferError::Full`]. A viewer's session takes
    /// about 100 KB.
    pub sessions_per_shard: usize,
    /// A session whose peer has sent nothing for this long is ended. Peers check consent every 5 s (RFC 7675).
    pub silence: Duration,
    /// A session that isn't connected within this time of its answer is ended.
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions_per_shard: 8_000, silence: Duration::from_secs(15), connect: Duration::from_secs(15) }
    }
}
