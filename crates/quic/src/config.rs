//! Where the edge listens and how much it takes on.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Certificate chain and private key, PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// How a connection finds out how fast it may send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Congestion {
    /// By loss, growing back along a cubic curve (RFC 9438).
    Cubic,
    /// By loss, growing back linearly (RFC 9002, 7).
    NewReno,
    /// Cubic, but for packets that are lost by chance: where none has waited in a queue, and few are lost. The default by what
    /// was measured (docs/performance.md).
    #[default]
    Discerning,
    /// By measured rate and round trip. Experimental in quinn.
    Bbr,
}

/// Where the edge listens and how much it takes on.
#[derive(Debug, Clone)]
pub struct QuicConfig {
    /// UDP for QUIC, and TCP of the same number. Port 0: any that is free for both.
    pub listen: SocketAddr,
    /// The certificate's files; `None`: one is generated, and a new one before it runs out.
    pub tls: Option<TlsFiles>,
    /// The file that keeps a generated one over restarts; `None`: it goes with the edge.
    pub generated: Option<PathBuf>,
    /// How connections find out how fast they may send.
    pub congestion: Congestion,
    /// How much the edge takes on.
    pub limits: Limits,
}

/// How much the edge takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// QUIC connections, and TCP connections to the same port, at once, whether or not they have said who they are. Further ones are refused.
    /// TCP has no more than half of the places.
    pub connections: usize,
    /// Viewers' sessions at once. Further ones are refused with "try later".
    pub viewers: usize,
    /// Publishers' sessions at once. The same.
    pub publishers: usize,
    /// How long a client may take from its first packet to a session.
    pub handshake: Duration,
    /// A connection of which nothing is heard for so long is ended. Ours ask for a sign of life every third of it.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 12_000,
            viewers: 10_000,
            publishers: 100,
            handshake: Duration::from_secs(10),
            silence: Duration::from_secs(15),
        }
    }
}
