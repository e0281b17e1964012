//! The listener for [`axum::serve()`]: TCP, or TLS over TCP on the same address.
//!
//! It knows connections and certificates, and no HTTP. A client that is slow or talks nonsense costs only itself:
//! handshakes run in tasks of their own, bounded in number and time.

mod certificates;
mod connection;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::serve::{ListenerExt, TapIo};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub(crate) use self::connection::Reading;
pub use self::{
    certificates::CertificateError,
    connection::{Connection, FIRST_ANSWER_WITHIN, SILENT_FOR},
};
use self::{
    certificates::{Certificates, Watch},
    connection::Transport,
};

/// TLS handshakes at once. When so many are running, nobody is accepted until one ends; newcomers wait in the kernel's
/// queue.
pub const MAX_HANDSHAKES: usize = 1024;
/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take where half of [`MAX_HANDSHAKES`] are running: clients that connect and say nothing then hold
/// the others up for this long at most.
pub const CROWDED_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often certificate and key are looked at again.
pub const CERTIFICATE_CHECK: Duration = Duration::from_secs(5);
/// How long nobody is accepted after the system refused to (no file descriptors left).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// Certificate chain and private key, PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Why there is no listener. Each ends the start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The certificate or its key won't do.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// What the listener counts.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed at once because there were as many as allowed.
    pub refused: Counter,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Counter,
    /// Times that accepting failed: the process has no file descriptors left.
    pub accept_errors: Counter,
}

impl Counters {
    /// Makes them part of `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        let mut put = |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        put("haul_http_connections", "TCP connections accepted for HTTP", &self.accepted);
        put("haul_http_connections_refused", "TCP connections closed because of too many", &self.refused);
        put("haul_tls_handshakes_failed", "TLS handshakes failed or timed out", &self.handshakes_failed);
        put("haul_http_accept_errors", "Times the system refused to accept", &self.accept_errors);
    }
}

/// A listener in the form in which [`axum::serve()`] offers handlers `ConnectInfo<SocketAddr>`.
pub type Incoming = TapIo<Listener, fn(&mut Connection)>;

/// Listens on `address`: for HTTPS where there are `files`, else for HTTP. At most `max_connections` are open at once;
/// more are closed as soon as they are accepted.
pub async fn bind(
    address: SocketAddr,
    files: Option<TlsFiles>,
    max_connections: usize,
    counters: Counters,
) -> Result<Incoming, ListenError> {
    let tls = files.map(Tls::new).transpose()?;
    let tcp = TcpListener::bind(address).await.map_err(|error| ListenError::Bind { address, error })?;
    let listener = Listener {
        tcp,
        tls,
        handshakes: JoinSet::new(),
        places: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
        resume_at: None,
        counters,
    };
    Ok(listener.tap_io(Connection::send_at_once))
}

/// See [`bind`].
pub struct Listener {
    tcp: TcpListener,
    /// Present where HTTPS is on.
    tls: Option<Tls>,
    /// Those who have connected and are not yet understood. Each ends in a connection, or in nothing.
    handshakes: JoinSet<Option<(Connection, SocketAddr)>>,
    /// One permit a connection, held by it until it closes.
    places: Arc<Semaphore>,
    /// When to accept again, after the system refused to.
    resume_at: Option<Instant>,
    counters: Counters,
}

struct Tls {
    acceptor: TlsAcceptor,
    /// The task that looks for new certificates; aborted with the set.
    _watch: JoinSet<()>,
}

impl Tls {
    fn new(files: TlsFiles) -> Result<Self, CertificateError> {
        let certificates = Arc::new(Certificates::load(&files)?);
        let acceptor = TlsAcceptor::from(certificates::server_config(&certificates)?);
        let mut watch = JoinSet::new();
        watch.spawn(Watch::new(files, certificates).run(CERTIFICATE_CHECK));
        Ok(Self { acceptor, _watch: watch })
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (tcp, address) = tokio::select! {
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Some(ready)) => return ready,
                    _ => continue,
                },
                accepted = accept(&self.tcp, self.resume_at), if self.handshakes.len() < MAX_HANDSHAKES => {
                    self.resume_at = None;
                    match accepted {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            self.refused_by_system(&error);
                            continue;
                        }
                    }
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.counters.refused.inc();
                continue;
            };
            self.counters.accepted.inc();
            match &self.tls {
                None => return (Connection::new(Transport::Plain(tcp), place), address),
                Some(tls) => {
                    let patience = match self.handshakes.len() {
                        running if running < MAX_HANDSHAKES / 2 => HANDSHAKE_TIMEOUT,
                        _ => CROWDED_HANDSHAKE_TIMEOUT,
                    };
                    let handshake = timeout(patience, tls.acceptor.accept(tcp));
                    let failed = self.counters.handshakes_failed.clone();
                    self.handshakes.spawn(shake_hands(handshake, place, address, failed));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Listener {
    fn refused_by_system(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        // The client was gone before we came to it: its own affair.
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        self.counters.accept_errors.inc();
        self.resume_at = Some(Instant::now() + ACCEPT_BACKOFF);
        tracing::error!(%error, "cannot accept connections");
    }
}

/// Accepts, from `resume_at` on.
async fn accept(tcp: &TcpListener, resume_at: Option<Instant>) -> io::Result<(TcpStream, SocketAddr)> {
    if let Some(at) = resume_at {
        sleep_until(at).await;
    }
    tcp.accept().await
}

async fn shake_hands(
    handshake: impl Future<Output = Result<io::Result<TlsStream<TcpStream>>, tokio::time::error::Elapsed>>,
    place: OwnedSemaphorePermit,
    address: SocketAddr,
    failed: Counter,
) -> Option<(Connection, SocketAddr)> {
    let error = match handshake.await {
        Ok(Ok(stream)) => {
            return Some((Connection::new(Transport::Tls(Box::new(stream)), place), address));
        }
        Ok(Err(error)) => error.to_string(),
        Err(elapsed) => elapsed.to_string(),
    };
    failed.inc();
    tracing::debug!(%address, error, "TLS handshake failed");
    None
}

#[cfg(test)]
mod tests;
