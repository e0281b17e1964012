//! The edge: its sockets, and who is taken from them.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use moq_net::{
    origin,
    stats::{Registry, Tier},
};
use rustls::crypto::aws_lc_rs;
use time::OffsetDateTime;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    Congestion, House, Limits, QuicConfig, QuicStats, StartError,
    certificate::{CHECK_EVERY, Certificates, Generated},
    congestion::DiscerningConfig,
    feed::Feeds,
    session,
    stats::Counters,
    tcp,
};

/// Streams a client may have open at once while it is not known to publish. Each stream that may be opened costs memory
/// at once, so that there are not more than a viewer needs.
pub(crate) const MAX_STREAMS: u32 = 100;
/// Streams a publisher may have open at once: one a group, and sound may make fifty groups a second.
pub(crate) const MAX_PUBLISHER_STREAMS: u32 = 512;
/// Bytes on their way to one client, sent and not yet confirmed, or waiting: about a second of a large picture. A slower
/// client's groups then wait in the live's cache, and grow old there.
const SEND_WINDOW_BYTES: u64 = 1 << 20;
/// The same of a websocket, in the kernel: left alone, it would keep megabytes for who is slow.
const SOCKET_SEND_BUFFER_BYTES: u32 = 256 << 10;
/// TCP connections that wait to be accepted. The kernel lets further ones wait outside.
const TCP_BACKLOG: u32 = 1024;
/// Bytes a client may send before it is read: 2 s of a large picture.
const RECEIVE_WINDOW_BYTES: u32 = 4 << 20;
/// The same of one stream: a whole keyframe.
const STREAM_RECEIVE_WINDOW_BYTES: u32 = 2 << 20;
/// Handshakes at once before newcomers must show that they are where they say (a QUIC Retry, RFC 9000, 8.1.2).
const HANDSHAKES_UNPROVED: usize = 256;
/// The most groups' bytes kept for all lives together, besides each track's latest group. Beyond, the oldest go.
const CACHE_BYTES: u64 = 256 << 20;
/// How long a group is kept that nobody reads.
const CACHE_EXPIRY: Duration = Duration::from_secs(10);
/// Ports that are tried where any will do, until one is free for both.
const PORT_TRIES: u32 = 16;
/// How long nobody is accepted after the system refused to (no file descriptors left).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// The MoQ edge. Clones are the same; when the last one is dropped, every session ends.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    closing: watch::Sender<bool>,
    /// The tasks that accept; aborted with the set.
    _tasks: JoinSet<()>,
}

/// What every session needs.
pub(crate) struct Shared {
    pub(crate) house: Arc<dyn House>,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) registry: Registry,
    pub(crate) certificates: Arc<Certificates>,
    /// Every live that somebody watches, under its id.
    pub(crate) feeds: Feeds,
    /// Places for connections, viewers and publishers.
    pub(crate) connections: Arc<Semaphore>,
    /// Of those for connections, as many as TCP may have.
    tcp_connections: Arc<Semaphore>,
    viewers: Arc<Semaphore>,
    /// For hosts where viewers have taken all places: a full house keeps none of them out.
    hosts: Arc<Semaphore>,
    pub(crate) publishers: Arc<Semaphore>,
    /// True once the edge is going away.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Shared {
    /// A place for who is let in.
    pub(crate) fn place(&self, may_publish: bool) -> Option<OwnedSemaphorePermit> {
        let place = |of: &Arc<Semaphore>| of.clone().try_acquire_owned().ok();
        place(&self.viewers).or_else(|| place(&self.hosts).filter(|_| may_publish))
    }

    /// A context in which a session's traffic is counted.
    pub(crate) fn traffic(&self) -> moq_net::stats::Session {
        self.registry.tier(Tier::default()).session("")
    }
}

impl Edge {
    /// Binds both ports and begins to accept. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] if a port is not to be had or the certificate won't do.
    pub async fn start(config: QuicConfig, house: Arc<dyn House>) -> Result<Self, StartError> {
        let limits = config.limits;
        let generated = Generated { names: names(config.listen.ip()), file: config.generated.clone() };
        let certificates =
            Arc::new(Certificates::new(config.tls.clone(), generated, OffsetDateTime::now_utc())?);
        let (tcp, endpoint, address) = bind(config.listen, server_config(&config, &certificates)?)?;

        let mut origin = origin::Config::default();
        origin.pool = moq_net::cache::Pool::new(
            moq_net::cache::Config::default().with_capacity(CACHE_BYTES).with_expiry(CACHE_EXPIRY),
        );
        let (origin, driver) = origin::Producer::new(origin);
        let (closing, closed) = watch::channel(false);
        let places = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        let shared = Arc::new(Shared {
            house,
            limits,
            counters: Counters::default(),
            registry: Registry::new(moq_net::stats::Config::new()),
            certificates: certificates.clone(),
            feeds: Feeds::new(origin),
            connections: places(limits.connections),
            tcp_connections: places(limits.connections.div_ceil(2)),
            viewers: places(limits.viewers),
            hosts: places(limits.publishers),
            publishers: places(limits.publishers),
            closing: closed,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(moq_net::time::run(driver).await) });
        tasks.spawn(look_after(certificates));
        tasks.spawn(accept_quic(endpoint.clone(), shared.clone()));
        tasks.spawn(accept_tcp(tcp, shared.clone()));
        Ok(Self(Arc::new(Inner { shared, endpoint, address, closing, _tasks: tasks })))
    }

    /// Where it listens, UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// SHA-256 of the certificate in use, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        self.0.shared.certificates.fingerprint()
    }

    /// The same, where the certificate is one that no authority has signed: how browsers know it.
    pub fn pin(&self) -> Option<String> {
        self.0.shared.certificates.pin()
    }

    /// All counters at this moment.
    pub fn stats(&self) -> QuicStats {
        let shared = &self.0.shared;
        shared.counters.snapshot(&shared.registry)
    }

    /// Ends every session, telling each peer, and takes no more. Done when all are gone.
    pub async fn drain(&self) {
        self.0.closing.send_replace(true);
        let everybody = self.0.shared.limits.connections.min(Semaphore::MAX_PERMITS) as u32;
        // Whoever leaves gives up their place, and with all of them taken for good, newcomers are refused at once. Fails
        // only if the semaphore is closed, and nobody closes it.
        if let Ok(places) = self.0.shared.connections.acquire_many(everybody).await {
            places.forget();
        }
        self.0.endpoint.wait_idle().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        self.endpoint.close(0_u32.into(), b"the server is going away");
    }
}

/// Both ports, of one number. One that is to be any is another where UDP's belongs to somebody else.
fn bind(
    listen: SocketAddr,
    config: quinn::ServerConfig,
) -> Result<(TcpListener, quinn::Endpoint, SocketAddr), StartError> {
    let failed = |protocol| move |error| StartError::Bind { protocol, address: listen, error };
    let mut tries = if listen.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        let tcp = listen_tcp(listen).map_err(failed("TCP"))?;
        let address = tcp.local_addr().map_err(failed("TCP"))?;
        tries -= 1;
        match quinn::Endpoint::server(config.clone(), address) {
            Ok(endpoint) => return Ok((tcp, endpoint, address)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(failed("UDP")(error)),
        }
    }
}

fn listen_tcp(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Those that are accepted inherit it.
    socket.set_send_buffer_size(SOCKET_SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(TCP_BACKLOG)
}

/// The names in a generated certificate: clients that know its hash don't look, others have something to look at.
fn names(listen: IpAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.is_unspecified() && !listen.is_loopback() {
        names.push(listen.to_string());
    }
    names
}

fn server_config(
    config: &QuicConfig,
    certificates: &Arc<Certificates>,
) -> Result<quinn::ServerConfig, StartError> {
    let unusable = |error: String| StartError::Certificate(error);
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(certificates.clone());
    let raw = moq_net::ALPNS.iter().map(|alpn| alpn.as_bytes().to_vec());
    tls.alpn_protocols = std::iter::once(web_transport_quinn::ALPN.as_bytes().to_vec()).chain(raw).collect();
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls)
        .map_err(|error| unusable(error.to_string()))?;

    let mut transport = quinn::TransportConfig::default();
    let silence = config.limits.silence;
    transport
        .max_concurrent_uni_streams(MAX_STREAMS.into())
        .max_concurrent_bidi_streams(MAX_STREAMS.into())
        .stream_receive_window(STREAM_RECEIVE_WINDOW_BYTES.into())
        .receive_window(RECEIVE_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .keep_alive_interval(Some(silence / 3))
        .max_idle_timeout(Some(
            silence.try_into().map_err(|_| unusable("the idle timeout is too long".to_owned()))?,
        ))
        .congestion_controller_factory(match config.congestion {
            Congestion::Cubic => Arc::new(quinn::congestion::CubicConfig::default()),
            Congestion::NewReno => Arc::new(quinn::congestion::NewRenoConfig::default()),
            Congestion::Discerning => Arc::new(DiscerningConfig::default()),
            Congestion::Bbr => Arc::new(quinn::congestion::BbrConfig::default()),
        });
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport));
    Ok(server)
}

async fn look_after(certificates: Arc<Certificates>) {
    let mut complained = String::new();
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        match certificates.check(OffsetDateTime::now_utc()) {
            Ok(true) => {
                tracing::info!(sha256 = certificates.fingerprint(), "the MoQ certificate was replaced")
            }
            Ok(false) => complained.clear(),
            Err(error) if error != complained => {
                tracing::error!(error, "the MoQ certificate stays as it is");
                complained = error;
            }
            Err(_) => {}
        }
    }
}

async fn accept_quic(endpoint: quinn::Endpoint, shared: Arc<Shared>) {
    let handshakes = Arc::new(crate::stats::Counter::default());
    while let Some(incoming) = endpoint.accept().await {
        shared.counters.accepted.add(1);
        let Ok(place) = shared.connections.clone().try_acquire_owned() else {
            shared.counters.connections_refused.add(1);
            incoming.refuse();
            continue;
        };
        if handshakes.get() as usize >= HANDSHAKES_UNPROVED && incoming.may_retry() {
            // The same client comes again with a proof, and is counted anew.
            let _ = incoming.retry();
            continue;
        }
        let (shared, handshake) = (shared.clone(), handshakes.held());
        tokio::spawn(async move {
            let _open = shared.counters.connections.held();
            session::quic(&shared, incoming, handshake).await;
            drop(place);
        });
    }
}

async fn accept_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let acceptor = tcp::Acceptor::new(&shared.certificates);
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "cannot accept for MoQ");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        shared.counters.accepted.add(1);
        // Anybody can open TCP connections and be silent: QUIC, which makes clients prove their address, has places beside.
        let place = |of: &Arc<Semaphore>| of.clone().try_acquire_owned().ok();
        let Some(places) = place(&shared.tcp_connections).zip(place(&shared.connections)) else {
            shared.counters.connections_refused.add(1);
            continue;
        };
        let client = client.ip().to_canonical();
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        tokio::spawn(async move {
            let _open = shared.counters.connections.held();
            acceptor.serve(&shared, stream, client).await;
            drop(places);
        });
    }
}

/// Both clocks.
pub(crate) fn now() -> haul_model::Now {
    haul_model::Now { instant: Instant::now(), wall: std::time::SystemTime::now().into() }
}
