//! HTTP/1.1 as the actors speak it, and the connections that websockets begin with, plain or over TLS.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::network::{Network, Wire};

/// How long any request may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest answer that is read.
const MAX_BODY: usize = 4 << 20;
/// Redirections followed.
const MAX_REDIRECTIONS: usize = 4;
/// Where systems keep the certificates they trust; SSL_CERT_FILE goes before them.
const TRUSTED: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Idle connections kept for requests that may share them.
const MAX_IDLE: usize = 64;

/// Why a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HttpError {
    /// The address makes no sense.
    #[error("{0} is no http:// or https:// address")]
    Address(String),
    /// Nobody there, or not by that name or certificate.
    #[error("can't connect to {0}: {1}")]
    Connect(String, String),
    /// It broke off.
    #[error("no answer from {0}: {1}")]
    Broken(String, String),
    /// It took too long.
    #[error("no answer from {0} in time")]
    Late(String),
    /// It went round in circles.
    #[error("too many redirections, the last to {0}")]
    Redirected(String),
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Who has answered, after redirections.
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether an offer was accepted: 201 by RFC 9725; some servers say 200. What else is a success has no answer in it.
    pub(crate) fn accepts(&self) -> bool {
        matches!(self.status.as_u16(), 200 | 201) && self.body.starts_with(b"v=0")
    }

    /// What it says of an error: a problem document's detail, or the status.
    pub(crate) fn complaint(&self) -> String {
        match self.json()["detail"].as_str() {
            Some(detail) => format!("{}: {detail}", self.status.as_u16()),
            None => self.status.to_string(),
        }
    }
}

/// A request to come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: String,
}

/// A connection to an origin that nobody is using.
type Idle = (String, SendRequest<Full<Bytes>>);

/// A client. Clones share connections.
#[derive(Clone)]
pub(crate) struct Client {
    tls: TlsConnector,
    roots: Arc<rustls::RootCertStore>,
    idle: Arc<Mutex<Vec<Idle>>>,
    network: Network,
}

impl Client {
    /// One that trusts what this system trusts.
    pub(crate) fn new() -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let named = std::env::var("SSL_CERT_FILE").ok();
        for file in named.iter().map(String::as_str).chain(TRUSTED) {
            if let Ok(certificates) = CertificateDer::pem_file_iter(file) {
                roots.add_parsable_certificates(certificates.flatten());
                break;
            }
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for the default versions")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let (idle, network) = Default::default();
        Self { tls: TlsConnector::from(Arc::new(config)), roots, idle, network }
    }

    /// The same, over an actor's own network, which may fail.
    pub(crate) fn over(&self, network: &Network) -> Self {
        Self { network: network.clone(), idle: Arc::default(), ..self.clone() }
    }

    /// The network that it is on.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The authorities that it trusts.
    pub(crate) fn roots(&self) -> Arc<rustls::RootCertStore> {
        self.roots.clone()
    }

    /// Asks over a connection of its own, as an actor who has just come does.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, HttpError> {
        self.within(call, false).await
    }

    /// Asks over a connection that may have served others: for many requests of one caller.
    pub(crate) async fn call_shared(&self, call: Call) -> Result<Answer, HttpError> {
        self.within(call, true).await
    }

    /// Follows redirections that keep the method (RFC 9725, 4.5), so that clusters of servers may spread who comes.
    async fn within(&self, mut call: Call, shared: bool) -> Result<Answer, HttpError> {
        let url = call.url.clone();
        let follow = async {
            for _ in 0..MAX_REDIRECTIONS {
                let answer = self.exchange(call.clone(), shared).await?;
                let moved = matches!(answer.status.as_u16(), 307 | 308);
                let there = moved.then(|| resolve(&call.url, answer.header("location"))).flatten();
                let Some(there) = there else { return Ok(Answer { url: call.url, ..answer }) };
                call.url = there;
            }
            Err(HttpError::Redirected(call.url))
        };
        timeout(PATIENCE, follow).await.unwrap_or(Err(HttpError::Late(url)))
    }

    async fn exchange(&self, call: Call, shared: bool) -> Result<Answer, HttpError> {
        let Call { method, url, token, content_type, body } = call;
        let uri: Uri = url.parse().map_err(|_| HttpError::Address(url.clone()))?;
        let origin = origin(&uri).ok_or_else(|| HttpError::Address(url.clone()))?;
        let broken = |error: &dyn std::fmt::Display| HttpError::Broken(origin.clone(), error.to_string());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, uri.authority().map_or("", |authority| authority.as_str()));
        if let Some(token) = &token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| broken(&error))?;
        let kept = if shared { self.kept(&origin) } else { None };
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = self.connect(&uri).await?;
                let (sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
                tokio::spawn(connection);
                sender
            }
        };
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| broken(&error))?.to_bytes();
        if shared {
            self.keep(origin, sender);
        }
        Ok(Answer { url, status: parts.status, headers: parts.headers, body })
    }

    /// Opens a connection to where an address points.
    pub(crate) async fn connect(&self, uri: &Uri) -> Result<Stream, HttpError> {
        let place = uri.to_string();
        let (host, port, secure) = place_of(uri).ok_or_else(|| HttpError::Address(place.clone()))?;
        let refused = |error: io::Error| HttpError::Connect(place.clone(), error.to_string());
        let stream = self.network.connect((host.as_str(), port)).await.map_err(refused)?;
        if !secure {
            return Ok(Stream::Plain(stream));
        }
        let name = ServerName::try_from(host).map_err(|_| HttpError::Address(place.clone()))?;
        let stream = self.tls.connect(name, stream).await.map_err(refused)?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    fn kept(&self, origin: &str) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, sender)| !sender.is_closed());
        let at = idle.iter().position(|(of, sender)| of == origin && sender.is_ready())?;
        Some(idle.swap_remove(at).1)
    }

    fn keep(&self, origin: String, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push((origin, sender));
        }
    }
}

/// Host, port, and whether by TLS.
fn place_of(uri: &Uri) -> Option<(String, u16, bool)> {
    let secure = match uri.scheme_str()? {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => return None,
    };
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some((host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 }), secure))
}

fn origin(uri: &Uri) -> Option<String> {
    place_of(uri)
        .map(|(host, port, secure)| format!("{}://{host}:{port}", if secure { "https" } else { "http" }))
}

/// The address that a `Location` or a link names, seen from `base`; `None` where it names nothing.
pub(crate) fn resolve(base: &str, link: &str) -> Option<String> {
    if link.is_empty() {
        return None;
    }
    Some(url::Url::parse(base).ok()?.join(link).ok()?.into())
}

/// The address of a host and port, for choosing our own that leads there.
pub(crate) fn authority(url: &str) -> Option<(String, u16)> {
    let (host, port, _) = place_of(&url.parse().ok()?)?;
    Some((host, port))
}

/// A TCP connection over an actor's network, perhaps with TLS over it.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_as_browsers_do() {
        for (base, link, truth) in [
            ("http://h:1/whep/demo", "/session/1", "http://h:1/session/1"),
            ("http://h:1/whep/demo", "https://o/x", "https://o/x"),
            ("http://h:1/whep/demo", "abc", "http://h:1/whep/abc"),
            ("http://h:1", "/x", "http://h:1/x"),
            ("http://h:1/rtc/v1/whep/?app=a", "?session=7", "http://h:1/rtc/v1/whep/?session=7"),
            ("http://h:1/live/a/whep", "../b/s1", "http://h:1/live/b/s1"),
            ("https://h/whep", "//other/s1", "https://other/s1"),
        ] {
            assert_eq!(resolve(base, link).as_deref(), Some(truth));
        }
        assert_eq!(resolve("http://h:1/whep/demo", ""), None, "nothing to delete, then");
    }

    #[test]
    fn addresses_have_places() {
        assert_eq!(authority("https://a.example/x"), Some(("a.example".to_owned(), 443)));
        assert_eq!(authority("http://[::1]:8080/x"), Some(("::1".to_owned(), 8080)));
        assert_eq!(authority("ftp://a"), None);
        assert_eq!(authority("nonsense"), None);
    }
}
