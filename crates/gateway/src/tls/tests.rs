use std::{fs, path::PathBuf};

use axum::{Router, extract::ConnectInfo, routing::get};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A self-signed certificate and its key, in files.
pub(super) struct Pair(PathBuf);

impl Pair {
    pub(super) fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("haul-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let pair = Self(directory);
        pair.renew();
        pair
    }

    pub(super) fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.0.join("cert.pem"), key: self.0.join("key.pem") }
    }

    /// Writes a new certificate and key, and returns the certificate.
    pub(super) fn renew(&self) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.files().cert, made.cert.pem()).unwrap();
        fs::write(self.files().key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that says who asks.
struct Server {
    address: SocketAddr,
    counters: Counters,
    task: AbortHandle,
}

impl Server {
    async fn start(pair: Option<&Pair>, max_connections: usize) -> Self {
        let counters = Counters::default();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let incoming =
            bind(loopback, pair.map(Pair::files), max_connections, counters.clone()).await.unwrap();
        let address = axum::serve::Listener::local_addr(&incoming).unwrap();
        let router = Router::new()
            .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }));
        let serve = axum::serve(incoming, router.into_make_service_with_connect_info::<SocketAddr>());
        let task = tokio::spawn(async move { serve.await }).abort_handle();
        Self { address, counters, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks over an open connection, which the server then closes, for all it says.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    // Where we were not let in, the connection may break at any of these steps.
    if asked.is_ok() {
        let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask_securely(server: &Server, pair: &Pair) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pair.files().cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tcp = server.connect().await;
    let own = tcp.local_addr().unwrap().to_string();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let answer = ask(stream).await;
    assert!(answer.ends_with(&own), "{answer}");
    answer
}

/// Waits until a counter has a value.
async fn until(counter: &Counter, value: u64) {
    let reached = async {
        while counter.get() < value {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, reached).await.expect("the counter's value");
}

#[tokio::test]
async fn http_is_served_where_there_is_no_certificate() {
    let server = Server::start(None, 10).await;
    let stream = server.connect().await;
    let own = stream.local_addr().unwrap().to_string();
    let answer = ask(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&own), "{answer}");
    assert_eq!(server.counters.accepted.get(), 1);
}

#[tokio::test]
async fn https_is_served_where_there_is_one() {
    let pair = Pair::new("https");
    let server = Server::start(Some(&pair), 10).await;
    assert!(ask_securely(&server, &pair).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn plain_http_to_https_is_closed_and_counted() {
    let pair = Pair::new("plain");
    let server = Server::start(Some(&pair), 10).await;
    assert!(!ask(server.connect().await).await.contains("HTTP"));
    until(&server.counters.handshakes_failed, 1).await;
    assert!(ask_securely(&server, &pair).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_silent_client_holds_nobody_up() {
    let pair = Pair::new("silent");
    let server = Server::start(Some(&pair), 100).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(server.connect().await);
    }
    until(&server.counters.accepted, 20).await;
    assert!(ask_securely(&server, &pair).await.starts_with("HTTP/1.1 200"));
    assert_eq!(server.counters.handshakes_failed.get(), 0);
}

#[tokio::test]
async fn a_silent_clients_time_runs_out() {
    let pair = Pair::new("patience");
    let server = Server::start(Some(&pair), 10).await;
    let mut silent = server.connect().await;
    until(&server.counters.accepted, 1).await;
    tokio::time::pause();
    // With the clock paused, waiting moves it to the next timer, which is the handshake's.
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert_eq!(server.counters.handshakes_failed.get(), 1);
}

#[tokio::test]
async fn a_request_that_never_ends_is_not_waited_for() {
    let server = Server::start(None, 10).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    until(&server.counters.accepted, 1).await;
    tokio::time::pause();
    let began = Instant::now();
    // A byte a second: more of the request, and no more patience.
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut answer = [0; 64];
    loop {
        tokio::select! {
            read = slow.read(&mut answer) => {
                assert_eq!(read.unwrap_or(0), 0);
                break;
            }
            _ = second.tick() => {
                let _ = slow.write_all(b"x").await;
            }
        }
    }
    let waited = began.elapsed();
    assert!(waited <= FIRST_ANSWER_WITHIN + Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn a_connection_that_is_done_with_is_closed() {
    let server = Server::start(None, 10).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    assert_ne!(idle.read(&mut answer).await.unwrap(), 0);
    tokio::time::pause();
    let began = Instant::now();
    assert_eq!(idle.read(&mut answer).await.unwrap_or(0), 0);
    let waited = began.elapsed();
    assert!(waited > SILENT_FOR / 2 && waited < SILENT_FOR * 2, "{waited:?}");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_next_is_welcome() {
    let server = Server::start(None, 1).await;
    let first = server.connect().await;
    until(&server.counters.accepted, 1).await;
    assert_eq!(ask(server.connect().await).await, "");
    assert_eq!(server.counters.refused.get(), 1);
    drop(first);
    let welcome = async {
        while !ask(server.connect().await).await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, welcome).await.expect("the place of the one who left");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = Server::start(None, 1).await;
    let error = bind(server.address, None, 1, Counters::default()).await.err().unwrap().to_string();
    assert!(error.contains(&server.address.to_string()), "{error}");
}
