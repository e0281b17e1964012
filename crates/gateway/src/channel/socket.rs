//! One websocket: the upgrade, what is read, and what is written.
//!
//! Reading, and what the protocol says by itself, is the library's. Lines are made into frames here (`frames`).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL},
    response::Response,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use haul_live::{Inbox, Pen};
use haul_wire::{MAX_REQUEST_BYTES, SUBPROTOCOL};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{
    rt::TokioIo,
    server::conn::auto::upgrade::{Parts, downcast},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::server::create_response_with_body,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    channel::{
        frames::{Gathered, gather},
        wire::{Pumped, Wire},
    },
    metrics::Sent,
    tls::{Connection, Reading},
};

/// How long a reader may take to read anything at all of what waits for them; who takes longer is gone, or as good as.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// The library's buffers are this large for each connection; its default is 128 KB.
const BUFFER: usize = 1024;

/// Answers an upgrade, and names the protocol where the client has. The connection is there when the answer is sent.
pub(super) fn upgrade<B>(request: &mut Request<B>) -> Result<(Response, Upgrade), tungstenite::Error> {
    let on_upgrade = hyper::upgrade::on(&mut *request);
    let mut response = create_response_with_body(request, Body::empty)?;
    if request.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok((response, Upgrade(on_upgrade)))
}

/// A connection that is about to be a websocket.
pub(super) struct Upgrade(OnUpgrade);

impl Upgrade {
    /// `sent` counts what is written to it.
    pub(super) async fn socket(self, sent: Sent) -> Result<Socket, hyper::Error> {
        let (stream, read) = Stream::new(self.0.await?, &sent);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_REQUEST_BYTES))
            .max_frame_size(Some(MAX_REQUEST_BYTES))
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER);
        // A copy: what was read is a few bytes of the HTTP server's buffer, all of which would be kept.
        let read = read.to_vec();
        let stream = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
        Ok(Socket { stream, owes_answer: false, sent })
    }
}

/// What a websocket travels on.
enum Stream {
    /// Plain TCP: written to by whoever has something.
    Plain(Reading, Arc<Wire>),
    /// TLS, or a server's that is not ours: written to by its task alone.
    Alone(Box<dyn Io>),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Stream {
    /// And what was read of it before.
    fn new(upgraded: Upgraded, sent: &Sent) -> (Self, Bytes) {
        match downcast::<TokioIo<Connection>>(upgraded) {
            Ok(Parts { io, read_buf, .. }) => {
                let stream = match io.into_inner().split() {
                    Ok((reading, half)) => Self::Plain(reading, Arc::new(Wire::new(half, sent.clone()))),
                    Err(secret) => Self::Alone(secret),
                };
                (stream, read_buf)
            }
            Err(other) => (Self::Alone(Box::new(TokioIo::new(other))), Bytes::new()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(reading, wire) => reading.poll_read(cx, buffer, || wire.written_at()),
            Stream::Alone(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

/// What the library writes: whole frames at a time, as it has them.
impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(_, wire) => wire.poll_write(cx, bytes),
            Stream::Alone(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(_, wire) => wire.poll_flush(cx),
            Stream::Alone(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // It is closed when it is dropped.
            Stream::Plain(_, wire) => wire.poll_flush(cx),
            Stream::Alone(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

pub(super) struct Socket {
    stream: WebSocketStream<Stream>,
    /// The library may have part of an answer to a ping waiting, which must be whole before anything else is written.
    owes_answer: bool,
    sent: Sent,
}

impl Socket {
    /// What everybody is told can be written with, if it may be written from outside of this task.
    pub(super) fn pen(&self) -> Option<Weak<dyn Pen>> {
        match self.stream.get_ref() {
            Stream::Plain(_, wire) => {
                let wire: Arc<dyn Pen> = wire.clone();
                Some(Arc::downgrade(&wire))
            }
            Stream::Alone(_) => None,
        }
    }

    pub(super) async fn recv(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        let message = self.stream.next().await;
        self.owes_answer |= matches!(message, Some(Ok(Message::Ping(_))));
        message
    }

    /// Sends one message; false where the reader is gone.
    pub(super) async fn send(&mut self, message: Message) -> bool {
        matches!(timeout(WRITE_WITHIN, self.stream.send(message)).await, Ok(Ok(())))
    }

    /// Writes of what waits as much as goes at once; whether that was all.
    pub(super) async fn write(&mut self, inbox: &Inbox) -> io::Result<bool> {
        match self.stream.get_ref() {
            Stream::Plain(_, wire) => match wire.pump(|| inbox.pop())? {
                Pumped::All => Ok(true),
                Pumped::More => Ok(false),
                Pumped::Blocked => {
                    wire.drained(WRITE_WITHIN).await?;
                    Ok(false)
                }
            },
            Stream::Alone(_) => self.write_alone(inbox).await,
        }
    }

    async fn write_alone(&mut self, inbox: &Inbox) -> io::Result<bool> {
        let Gathered { messages, frames, all } = gather(|| inbox.pop());
        if self.owes_answer {
            timeout(WRITE_WITHIN, self.stream.flush())
                .await
                .map_err(io::Error::from)?
                .map_err(io::Error::other)?;
            self.owes_answer = false;
        }
        if messages > 0 {
            self.write_all(&frames).await?;
            self.flush().await?;
            self.sent.count(messages);
        }
        Ok(all)
    }

    /// Writes to the end, as long as the reader reads: the time is for each bit that they take.
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // Nearly always there is room, and no need for a timer.
            let written = match self.try_write(bytes).await {
                Poll::Ready(written) => written?,
                Poll::Pending => timeout(WRITE_WITHIN, self.stream.get_mut().write(bytes)).await??,
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
        }
        Ok(())
    }

    async fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.stream.get_mut();
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_write(cx, bytes))).await
    }

    /// Has TLS send what it keeps.
    async fn flush(&mut self) -> io::Result<()> {
        let stream = self.stream.get_mut();
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_flush(cx))).await {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => timeout(WRITE_WITHIN, stream.flush()).await?,
        }
    }
}
