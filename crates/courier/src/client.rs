//! An HTTPS client (HTTP/1.1 over TLS 1.2 or 1.3) for calls to servers of others: one connection a call, no redirects,
//! bounded in time and in what is read.
//!
//! A failure says whether the other side may have received the call: who retries something that is not idempotent must
//! know.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Uri,
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::address::is_public;

/// The longest URL that is called, in bytes.
pub const MAX_URL_BYTES: usize = 2048;
/// The most of an answer that is read; a longer one is [`CallError::TooLarge`].
pub const MAX_REPLY_BYTES: usize = 64 * 1024;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;
/// How long one of them may take to be connected to.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Who we say we are.
const AGENT: &str = concat!("haul/", env!("CARGO_PKG_VERSION"));

/// Where a client may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To `https` URLs on the public Internet: for URLs that somebody else gave.
    Public,
    /// Anywhere, over plain `http` too: for URLs that the operator gave.
    Anywhere,
}

/// A call to be made.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// `GET`, `POST`, …
    pub method: Method,
    /// An absolute URL.
    pub url: &'a str,
    /// Names and values besides the client's own.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent.
    pub body: Bytes,
    /// How long all of it may take.
    pub within: Duration,
}

/// What was answered, whatever the status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// At most [`MAX_REPLY_BYTES`].
    pub body: Bytes,
}

impl Reply {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// How long the other side wants to be left alone, where it says so in whole seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The URL or a header can't be used. Nothing was sent, and nothing ever will be.
    #[error("{0}")]
    Malformed(String),
    /// The name leads to addresses that this client may not call. Nothing was sent.
    #[error("{0} is not an address on the public Internet")]
    Private(String),
    /// No connection. Nothing was sent.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// It was sent, perhaps in part, and there is no answer: it may have been received.
    #[error("no answer: {0}")]
    Unknown(String),
    /// It was received; the answer is longer than is read.
    #[error("the answer has more than {MAX_REPLY_BYTES} bytes")]
    TooLarge,
}

/// The client. Clones are the same.
#[derive(Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
    reach: Reach,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// A URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    tls: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// As it stands in the `Host` header.
    authority: String,
    path: String,
}

impl Client {
    /// A client that trusts the certificate authorities of this machine (`SSL_CERT_FILE` and `SSL_CERT_DIR` name
    /// others).
    pub fn new(reach: Reach) -> Self {
        let mut roots = RootCertStore::empty();
        // A certificate that can't be read is one that is not trusted.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::with_roots(roots, reach)
    }

    /// A client that trusts these certificate authorities.
    pub fn with_roots(roots: RootCertStore, reach: Reach) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: Arc::new(tls), reach }
    }

    /// Checks a URL that will be called later, without calling it: what its name leads to is looked at then.
    pub fn check_url(&self, url: &str) -> Result<(), CallError> {
        let target = self.target(url)?;
        match target.host.parse() {
            Ok(ip) if !self.may_call(ip) => Err(CallError::Private(target.host)),
            _ => Ok(()),
        }
    }

    /// Makes the call.
    pub async fn call(&self, call: Call<'_>) -> Result<Reply, CallError> {
        let target = self.target(call.url)?;
        let within = call.within;
        let mut sent = false;
        let answer = timeout(within, self.exchange(&target, call, &mut sent)).await;
        match answer {
            Ok(answer) => answer,
            Err(_) if sent => Err(CallError::Unknown(format!("nothing within {within:?}"))),
            Err(_) => Err(CallError::Unreachable(format!("not within {within:?}"))),
        }
    }

    async fn exchange(&self, target: &Target, call: Call<'_>, sent: &mut bool) -> Result<Reply, CallError> {
        let request = request(target, call)?;
        let stream = self.connect(target).await?;
        // Small writes, one at a time: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        if !target.tls {
            return speak(stream, request, sent).await;
        }
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| CallError::Malformed(format!("{} is no name of a server", target.host)))?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await
            .map_err(|error| CallError::Unreachable(error.to_string()))?;
        speak(stream, request, sent).await
    }

    /// Connects to the very address that was looked at, so that a name can't mean another one a moment later.
    async fn connect(&self, target: &Target) -> Result<TcpStream, CallError> {
        let addresses = lookup_host((target.host.as_str(), target.port))
            .await
            .map_err(|error| CallError::Unreachable(format!("{}: {error}", target.host)))?;
        let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES).collect();
        // One that is not public among others is as good as a trap.
        if let Some(address) = addresses.iter().find(|address| !self.may_call(address.ip())) {
            return Err(CallError::Private(format!("{} ({})", target.host, address.ip())));
        }
        let mut failure = CallError::Unreachable(format!("{} has no address", target.host));
        for address in addresses {
            match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = CallError::Unreachable(format!("{address}: {error}")),
                Err(_) => {
                    failure = CallError::Unreachable(format!("{address}: not within {CONNECT_WITHIN:?}"))
                }
            }
        }
        Err(failure)
    }

    fn may_call(&self, ip: IpAddr) -> bool {
        self.reach == Reach::Anywhere || is_public(ip)
    }

    fn target(&self, url: &str) -> Result<Target, CallError> {
        let target = Target::parse(url)?;
        match target.tls || self.reach == Reach::Anywhere {
            true => Ok(target),
            false => Err(CallError::Malformed("expected an https URL".to_owned())),
        }
    }
}

impl Target {
    fn parse(url: &str) -> Result<Self, CallError> {
        let malformed = |what: &str| CallError::Malformed(what.to_owned());
        if url.len() > MAX_URL_BYTES {
            return Err(CallError::Malformed(format!("a URL may have at most {MAX_URL_BYTES} bytes")));
        }
        let uri: Uri =
            url.parse().map_err(|_| malformed("expected a URL such as https://shop.example/hook"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(malformed("expected an https URL")),
        };
        let authority = uri.authority().ok_or_else(|| malformed("expected a URL with a host"))?;
        if authority.as_str().contains('@') {
            return Err(malformed("a URL with a user name or a password is not accepted"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(malformed("expected a URL with a host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.as_str().to_owned(), path })
    }
}

fn request(target: &Target, call: Call<'_>) -> Result<Request<Full<Bytes>>, CallError> {
    let malformed = |what: &str| CallError::Malformed(format!("{what} can't be sent"));
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = call.method;
    *request.uri_mut() = target.path.parse().map_err(|_| malformed("the path"))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&target.authority).map_err(|_| malformed("the host"))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in call.headers {
        let value = HeaderValue::from_str(&value).map_err(|_| malformed(name))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(request)
}

/// One request and its answer.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    sent: &mut bool,
) -> Result<Reply, CallError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| CallError::Unreachable(error.to_string()))?;
    // Ends with the call, also where that is given up.
    let _driver = Driver(tokio::spawn(async move { drop(connection.await) }));
    *sent = true;
    let unknown = |error: hyper::Error| CallError::Unknown(error.to_string());
    let (head, body) = sender.send_request(request).await.map_err(unknown)?.into_parts();
    let body = Limited::new(body, MAX_REPLY_BYTES).collect().await.map_err(|error| match error
        .downcast_ref::<LengthLimitError>(
    ) {
        Some(_) => CallError::TooLarge,
        None => CallError::Unknown(error.to_string()),
    })?;
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
}

struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn get(url: &str) -> Call<'_> {
        Call {
            method: Method::GET,
            url,
            headers: vec![("x-test", "yes".to_owned())],
            body: Bytes::new(),
            within: Duration::from_secs(5),
        }
    }

    /// A server that reads one request's head and answers with this.
    async fn server(answer: impl Into<Vec<u8>>) -> (u16, tokio::task::JoinHandle<String>) {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let heard = head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            // Until the client has gone.
            let _ = stream.read(&mut [0; 16]).await;
            heard
        });
        (port, heard)
    }

    async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            heard.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(heard).unwrap()
    }

    fn anywhere() -> Client {
        Client::with_roots(RootCertStore::empty(), Reach::Anywhere)
    }

    #[tokio::test]
    async fn a_call_is_made_as_it_should_be_and_answered() {
        let (port, heard) =
            server("HTTP/1.1 429 Slow down\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nhi").await;
        let reply = anywhere().call(get(&format!("http://127.0.0.1:{port}/a/b?c=d"))).await.unwrap();
        assert_eq!((reply.status, &reply.body[..], reply.is_success()), (429, &b"hi"[..], false));
        assert_eq!(reply.retry_after(), Some(Duration::from_secs(7)));
        let heard = heard.await.unwrap().to_lowercase();
        assert!(heard.starts_with("get /a/b?c=d http/1.1\r\n"), "{heard}");
        for line in
            [format!("host: 127.0.0.1:{port}\r\n"), "x-test: yes\r\n".into(), "user-agent: haul/".into()]
        {
            assert!(heard.contains(&line), "{heard}");
        }
    }

    #[tokio::test]
    async fn redirects_are_answers_like_any_other() {
        let (port, _) =
            server("HTTP/1.1 302 Found\r\nlocation: http://x/\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(anywhere().call(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap().status, 302);
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_its_end() {
        let long = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; MAX_REPLY_BYTES + 1]].concat();
        let (port, _) = server(long).await;
        let answer = anywhere().call(get(&format!("http://127.0.0.1:{port}/"))).await;
        assert_eq!(answer.unwrap_err(), CallError::TooLarge);
    }

    #[tokio::test]
    async fn a_failure_says_whether_the_call_may_have_arrived() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let answer = anywhere().call(get(&format!("http://{closed}/"))).await;
        assert!(matches!(answer, Err(CallError::Unreachable(_))), "{answer:?}");
        let (port, _) = server("").await;
        let url = format!("http://127.0.0.1:{port}/");
        let answer = anywhere().call(Call { within: Duration::from_millis(200), ..get(&url) }).await;
        assert!(matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
        let (port, _) = server("nonsense\r\n\r\n").await;
        let answer = anywhere().call(get(&format!("http://127.0.0.1:{port}/"))).await;
        assert!(matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_url_of_somebody_elses_does_not_lead_into_ones_own_network() {
        let client = Client::with_roots(RootCertStore::empty(), Reach::Public);
        for url in
            ["https://127.0.0.1/", "https://localhost/", "https://[::1]:8443/x", "https://169.254.169.254/"]
        {
            let answer = client.call(get(url)).await;
            assert!(matches!(answer, Err(CallError::Private(_))), "{url}: {answer:?}");
        }
        assert!(matches!(client.check_url("https://10.0.0.1/"), Err(CallError::Private(_))));
        for url in
            ["http://shop.example/", "https://user@shop.example/", "ftp://shop.example/", "/hook", "https://"]
        {
            assert!(matches!(client.check_url(url), Err(CallError::Malformed(_))), "{url}");
        }
        assert!(client.check_url("https://shop.example/hook").is_ok());
        assert!(client.check_url(&format!("https://shop.example/{}", "x".repeat(MAX_URL_BYTES))).is_err());
    }

    #[tokio::test]
    async fn tls_is_spoken_with_those_whose_certificate_is_trusted() {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            }
        });
        let url = format!("https://localhost:{port}/");
        let stranger = anywhere().call(get(&url)).await;
        assert!(matches!(stranger, Err(CallError::Unreachable(_))), "{stranger:?}");
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let reply = Client::with_roots(roots, Reach::Anywhere).call(get(&url)).await.unwrap();
        assert_eq!(reply.status, 204);
    }
}
