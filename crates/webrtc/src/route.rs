//! The way to a peer. An address alone does not say it: this machine may have several ports, and TCP beside UDP.

use std::net::SocketAddr;

/// The most UDP sockets of a shard, one an address of `media.bind`.
pub(crate) const MAX_SOCKETS: usize = 8;

/// The way to a peer and back: what comes by it is answered by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// The peer's address.
    pub(crate) remote: SocketAddr,
    /// Our end.
    pub(crate) via: Via,
}

/// Our end of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Via {
    /// One of the shard's UDP sockets, by its place.
    Socket(u8),
    /// A TCP connection, by its number.
    Link(u32),
}

#[cfg(test)]
impl Route {
    /// By the first socket.
    pub(crate) fn udp(remote: SocketAddr) -> Self {
        Self { remote, via: Via::Socket(0) }
    }
}
