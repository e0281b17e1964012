//! TCP on the MoQ port: the certificate's hash for browsers, and websockets for who can't have QUIC. With TLS or without,
//! whichever the client begins with.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use rustls::crypto::aws_lc_rs;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificate::Certificates,
    edge::Shared,
    request::MAX_TARGET_BYTES,
    websocket::{self, Offer},
};

/// The longest head of a request that is read, in bytes. A longer one is refused.
const MAX_HEAD_BYTES: usize = MAX_TARGET_BYTES + 8 * 1024;
/// The most header fields of a request.
const MAX_HEADERS: usize = 64;
/// What a TLS connection begins with: a handshake record (RFC 8446, 5.1). No method of HTTP does.
const TLS_HANDSHAKE: u8 = 22;
/// How long the last bytes of an answer may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// Takes TCP connections.
#[derive(Clone)]
pub(crate) struct Acceptor {
    tls: TlsAcceptor,
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    method: String,
    pub(crate) target: String,
    /// They want a websocket.
    offer: Option<Offer>,
    /// Its length in bytes.
    length: usize,
}

/// What can be wrong with it, as HTTP says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16, pub(crate) &'static str);

impl Acceptor {
    pub(crate) fn new(certificates: &Arc<Certificates>) -> Self {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for every version that rustls has")
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(&self, shared: &Arc<Shared>, stream: TcpStream, client: IpAddr) {
        let _ = stream.set_nodelay(true);
        let begun = async {
            let mut first = [0];
            stream.peek(&mut first).await?;
            if first[0] == TLS_HANDSHAKE {
                let stream = self.tls.accept(stream).await?;
                return Ok::<_, io::Error>(Box::new(stream) as Box<dyn Stream>);
            }
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        let served = async {
            let mut stream = begun.await?;
            let (bytes, head) = read_head(&mut stream).await?;
            Ok::<_, io::Error>((stream, bytes, head))
        };
        match timeout(shared.limits.handshake, served).await {
            Ok(Ok((stream, mut bytes, Ok(mut head)))) if head.offer.is_some() => {
                let rest = bytes.split_off(head.length);
                // It is there: the guard has looked.
                let Some(offer) = head.offer.take() else { return };
                websocket::serve(shared, stream, rest, head, offer, client).await;
            }
            Ok(Ok((mut stream, _, head))) => {
                let (status, body) = reply(shared, head);
                let _ = timeout(FAREWELL, answer(&mut stream, status, &body)).await;
            }
            Ok(Err(error)) => {
                shared.counters.handshakes_failed.add(1);
                tracing::debug!(%client, %error, "no request on the MoQ port");
            }
            Err(_) => shared.counters.handshakes_failed.add(1),
        }
    }
}

/// Plain TCP or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

fn reply(shared: &Shared, head: Result<Head, Status>) -> (Status, String) {
    let head = match head {
        Ok(head) => head,
        Err(status) => return (status, String::new()),
    };
    let path = head.target.split('?').next().unwrap_or_default();
    match (head.method.as_str(), path) {
        ("GET" | "HEAD", "/certificate.sha256") => (Status(200, "OK"), shared.certificates.fingerprint()),
        (_, "/certificate.sha256") => (Status(405, "Method Not Allowed"), String::new()),
        _ => (Status(404, "Not Found"), String::new()),
    }
}

pub(crate) async fn answer(stream: &mut Box<dyn Stream>, status: Status, body: &str) -> io::Result<()> {
    // Any page may ask: it is public, and a page of another origin needs it to connect.
    let response = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         access-control-allow-origin: *\r\nconnection: close\r\n\r\n{body}",
        status.0,
        status.1,
        body.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads until the empty line. What has come, and the head at its beginning; the error within is what to answer.
async fn read_head(stream: &mut Box<dyn Stream>) -> io::Result<(Vec<u8>, Result<Head, Status>)> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(&bytes) {
            Ok(Some(head)) => return Ok((bytes, Ok(head))),
            Ok(None) if bytes.len() > MAX_HEAD_BYTES => {
                return Ok((bytes, Err(Status(431, "Request Header Fields Too Large"))));
            }
            Ok(None) => {}
            Err(status) => return Ok((bytes, Err(status))),
        }
    }
}

/// The head of a request (RFC 9112, 2.1), once it is whole.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Status> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(length)) => Ok(Some(Head {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            offer: offer(&request)?,
            length,
        })),
        Err(httparse::Error::TooManyHeaders) => Err(Status(431, "Request Header Fields Too Large")),
        Err(_) => Err(Status(400, "Bad Request")),
    }
}

/// What they offer who want a websocket; `None` for others.
fn offer(request: &httparse::Request<'_, '_>) -> Result<Option<Offer>, Status> {
    let fields = |name: &'static str| {
        let named = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.filter_map(|field| std::str::from_utf8(field.value).ok())
    };
    let listed = |name| fields(name).flat_map(|value| value.split(',')).map(str::trim);
    if !listed("upgrade").any(|value| value.eq_ignore_ascii_case("websocket")) {
        return Ok(None);
    }
    let is_one = request.method == Some("GET")
        && listed("connection").any(|value| value.eq_ignore_ascii_case("upgrade"))
        && fields("sec-websocket-version").any(|value| value == "13");
    match fields("sec-websocket-key").next().filter(|_| is_one) {
        Some(key) => Ok(Some(Offer {
            key: key.to_owned(),
            protocols: listed("sec-websocket-protocol").map(str::to_owned).collect(),
        })),
        None => Err(Status(400, "Bad Request")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_when_it_is_whole() {
        let request = b"GET /certificate.sha256 HTTP/1.1\r\nHost: x\r\n\r\n";
        let head = Head {
            method: "GET".to_owned(),
            target: "/certificate.sha256".to_owned(),
            offer: None,
            length: request.len(),
        };
        assert_eq!(parse(&[&request[..], b"more"].concat()), Ok(Some(head)));
        assert_eq!(parse(&request[..request.len() - 1]), Ok(None));
        assert_eq!(parse(b""), Ok(None));
    }

    #[test]
    fn who_wants_a_websocket_says_so_in_full() {
        let head = |fields: &str| format!("GET /demo HTTP/1.1\r\nUpgrade: websocket\r\n{fields}\r\n");
        let whole = "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: k\r\n\
                     Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\n";
        let read = parse(head(whole).as_bytes()).unwrap().unwrap();
        let protocols = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(read.offer, Some(Offer { key: "k".to_owned(), protocols }));
        for lacking in ["Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key"] {
            let fields = whole.replace(lacking, "X");
            assert_eq!(parse(head(&fields).as_bytes()), Err(Status(400, "Bad Request")), "{lacking}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(parse(b"\x00\x01\x02 nonsense\r\n\r\n"), Err(Status(400, "Bad Request")));
        let crowd = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(parse(crowd.as_bytes()).unwrap_err().0, 431);
    }
}
