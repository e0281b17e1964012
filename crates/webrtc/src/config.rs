//! Where the edge listens and how much it takes on.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// The largest offer read, in bytes. A browser's is about 6 KB; anything larger is refused.
pub const MAX_OFFER_BYTES: usize = 64 << 10;

/// The most shards: their number is two hexadecimal digits of each session's ICE name.
pub(crate) const MAX_SHARDS: usize = 256;

/// Where the edge listens and how much it takes on.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The addresses all shards bind to, eight at most. Unspecified ones (`0.0.0.0`, `::`) mean every address of their
    /// family; answers then name `public_addresses`, or this machine's own addresses where there are none. Where the
    /// machine has no IPv6, `::` beside others is left out, with a warning.
    pub bind: Vec<IpAddr>,
    /// UDP port of the first shard; shard `i` listens on `udp_port + i`. 0 gives each shard a free port.
    pub udp_port: u16,
    /// Number of shards, one thread each; at least one.
    pub shards: usize,
    /// The addresses clients reach this machine by, where those differ from its own (NAT, load balancer). They must
    /// lead to the same ports. Both families may be mixed; those of a family that is not bound to are left out.
    pub public_addresses: Vec<IpAddr>,
    /// The port for media over TCP (ICE-TCP), on the same addresses; `Some(0)`: any that is free on all of them.
    pub ice_tcp_port: Option<u16>,
    /// How much the edge takes on.
    pub limits: Limits,
}

impl Default for EdgeConfig {
    /// One shard on any free port of every address, IPv4 and IPv6.
    fn default() -> Self {
        Self {
            bind: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            udp_port: 0,
            shards: 1,
            public_addresses: Vec::new(),
            ice_tcp_port: None,
            limits: Limits::default(),
        }
    }
}

/// How much the edge takes on, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Viewers' sessions at once; further offers are refused with [`crate::OfferError::Full`], but one takes the place of a
    /// viewer of whom nothing was heard for two fifths of `silence`. One takes about 100 KB.
    pub viewers: usize,
    /// Publishers' sessions at once; the same. One that takes over from another on its live comes in all the same.
    pub publishers: usize,
    /// Viewers are refused with [`crate::OfferError::Busy`] while even the least busy shard uses this much of its
    /// processor, in percent. 0: however much.
    pub cpu_percent: u64,
    /// Viewers are refused with [`crate::OfferError::Busy`] while this much is sent, in bits per second. 0: however much.
    pub egress_bps: u64,
    /// A session whose peer has sent nothing for this long is ended. Peers check consent every 5 s (RFC 7675).
    pub silence: Duration,
    /// A session that isn't connected within this time of its answer is ended.
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            viewers: 10_000,
            publishers: 1_000,
            cpu_percent: 0,
            egress_bps: 0,
            silence: Duration::from_secs(15),
            connect: Duration::from_secs(15),
        }
    }
}
