//! One websocket: the upgrade, what is read, and what is written.
//!
//! Reading, and what the protocol says by itself, is the library's. Lines are made into frames here, for frames of a
//! server are the same for every reader (RFC 6455, 5.3: it masks nothing), and what goes to all is framed once.

use std::{future::poll_fn, io, pin::Pin, task::Poll, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL},
    response::Response,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use haul_live::Inbox;
use haul_room::{Batch, Piece};
use haul_wire::{MAX_REQUEST_BYTES, SUBPROTOCOL};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
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

/// How long a reader may take to read anything at all of what waits for them; who takes longer is gone, or as good as.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// What is handed to the kernel at once: what comes after may be more urgent.
const MAX_WRITE: usize = 4 * 1024;
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
    pub(super) async fn socket(self) -> Result<Socket, hyper::Error> {
        let stream = TokioIo::new(self.0.await?);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_REQUEST_BYTES))
            .max_frame_size(Some(MAX_REQUEST_BYTES))
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER);
        let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        Ok(Socket { stream, owes_answer: false })
    }
}

/// How the writing of what waited went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) messages: u64,
    /// Whether that was all.
    pub(super) all: bool,
}

pub(super) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    /// The library may have part of an answer to a ping waiting, which must be whole before anything else is written.
    owes_answer: bool,
}

impl Socket {
    pub(super) async fn recv(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        let message = self.stream.next().await;
        self.owes_answer |= matches!(message, Some(Ok(Message::Ping(_))));
        message
    }

    /// Sends one message; false where the reader is gone.
    pub(super) async fn send(&mut self, message: Message) -> bool {
        matches!(timeout(WRITE_WITHIN, self.stream.send(message)).await, Ok(Ok(())))
    }

    /// Writes of what waits as much as goes at once.
    pub(super) async fn write(&mut self, inbox: &Inbox) -> io::Result<Written> {
        let mut written = Written { messages: 0, all: false };
        let mut first: Option<Bytes> = None;
        let mut frames = Vec::new();
        loop {
            let Some(piece) = inbox.pop() else {
                written.all = true;
                break;
            };
            let batch;
            let (messages, ready) = match &piece {
                Piece::Batch(shared) => {
                    batch = shared.ready(frames_of).clone();
                    (shared.lines().len(), Some(batch))
                }
                Piece::Line(line) => {
                    put_frame(&mut frames, line);
                    (1, None)
                }
            };
            written.messages += messages as u64;
            match ready {
                // Nearly always: what all are told, and nothing else.
                Some(ready) if frames.is_empty() && first.is_none() => first = Some(ready),
                Some(ready) => frames.extend_from_slice(&ready),
                None => {}
            }
            if first.as_ref().map_or(0, Bytes::len) + frames.len() >= MAX_WRITE {
                break;
            }
        }
        if self.owes_answer {
            timeout(WRITE_WITHIN, self.stream.flush())
                .await
                .map_err(io::Error::from)?
                .map_err(io::Error::other)?;
            self.owes_answer = false;
        }
        if let Some(first) = first {
            self.write_all(&first).await?;
        }
        self.write_all(&frames).await?;
        self.flush().await?;
        Ok(written)
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

fn frames_of(batch: &Batch) -> Bytes {
    let mut frames = Vec::new();
    batch.lines().for_each(|line| put_frame(&mut frames, line));
    frames.into()
}

/// Adds a line as a text frame (RFC 6455, 5.2). Lines are JSON, so they are UTF-8.
fn put_frame(frames: &mut Vec<u8>, line: &[u8]) {
    const FINAL_TEXT: u8 = 0x81;
    frames.reserve(line.len() + 10);
    frames.push(FINAL_TEXT);
    match line.len() {
        short @ ..=125 => frames.push(short as u8),
        middle @ ..=0xffff => {
            frames.push(126);
            frames.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frames.push(127);
            frames.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(line);
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

    use super::*;

    #[test]
    fn lines_of_any_length_are_frames_that_a_client_reads() {
        let lines: Vec<String> =
            [0, 1, 125, 126, 65_535, 65_536, 100_000].iter().map(|length| "é".repeat(length / 2)).collect();
        let mut frames = Vec::new();
        lines.iter().for_each(|line| put_frame(&mut frames, line.as_bytes()));
        let mut client = WebSocket::from_raw_socket(io::Cursor::new(frames), Role::Client, None);
        for line in lines {
            assert_eq!(client.read().unwrap(), Message::text(line));
        }
    }
}
