//! Why the edge could not start.

use std::{io, net::SocketAddr};

/// Why the edge could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is not to be had.
    #[error("cannot listen on {protocol} {address}: {error}")]
    Bind {
        /// UDP or TCP.
        protocol: &'static str,
        /// What was asked for.
        address: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
    /// The configured certificate won't do, or none can be made; the text says which file and why.
    #[error("{0}")]
    Certificate(String),
}
