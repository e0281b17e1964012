//! QUIC sessions at less memory: what is sent is not copied for each viewer, and what a session consists of not for each task
//! that uses it.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use moq_net::web_transport_trait::{Stats, poll, poll::BiStreams};
use web_transport_quinn::{RecvStream, SessionError, WriteError};

use crate::polled::{self, advance};

/// Pieces smaller than this are copied: to share one would keep more than it is.
const MIN_SHARED_BYTES: usize = 1024;

/// A session. The crate's own clones bring the request that began it along, and room for every operation, for each of a dozen
/// tasks; here they share all but the operations that they wait in.
pub(crate) struct Session {
    session: Arc<web_transport_quinn::Session>,
    accept_uni: Operation<RecvStream>,
    accept_bi: Operation<(Outgoing, RecvStream)>,
    open_uni: Operation<Outgoing>,
    open_bi: Operation<(Outgoing, RecvStream)>,
    recv_datagram: Operation<Bytes>,
    closed: Operation<Infallible>,
}

type Outgoing = web_transport_quinn::SendStream;
type Operation<T> = polled::Operation<T, SessionError>;

impl Session {
    pub(crate) fn new(session: web_transport_quinn::Session) -> Self {
        Self::of(Arc::new(session))
    }

    fn of(session: Arc<web_transport_quinn::Session>) -> Self {
        Self {
            session,
            accept_uni: Operation::default(),
            accept_bi: Operation::default(),
            open_uni: Operation::default(),
            open_bi: Operation::default(),
            recv_datagram: Operation::default(),
            closed: Operation::default(),
        }
    }
}

impl Clone for Session {
    /// Each has its own operations.
    fn clone(&self) -> Self {
        Self::of(self.session.clone())
    }
}

impl poll::Session for Session {
    type SendStream = SendStream;
    type RecvStream = RecvStream;
    type Error = SessionError;

    fn poll_accept_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, SessionError>> {
        let begin = || {
            let session = self.session.clone();
            async move { session.accept_uni().await }.boxed()
        };
        advance(&mut self.accept_uni, cx, begin)
    }

    fn poll_accept_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BiStreams<Self>, SessionError>> {
        let begin = || {
            let session = self.session.clone();
            async move { session.accept_bi().await }.boxed()
        };
        advance(&mut self.accept_bi, cx, begin).map_ok(|(send, recv)| (SendStream::new(send), recv))
    }

    fn poll_open_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, SessionError>> {
        let begin = || {
            let session = self.session.clone();
            async move { session.open_uni().await }.boxed()
        };
        advance(&mut self.open_uni, cx, begin).map_ok(SendStream::new)
    }

    fn poll_open_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BiStreams<Self>, SessionError>> {
        let begin = || {
            let session = self.session.clone();
            async move { session.open_bi().await }.boxed()
        };
        advance(&mut self.open_bi, cx, begin).map_ok(|(send, recv)| (SendStream::new(send), recv))
    }

    /// Never waits: where there is no room, an older one makes way.
    fn poll_send_datagram(&mut self, _: &mut Context<'_>, payload: &[u8]) -> Poll<Result<(), SessionError>> {
        Poll::Ready(self.session.send_datagram(Bytes::copy_from_slice(payload)))
    }

    fn poll_recv_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, SessionError>> {
        let begin = || {
            let session = self.session.clone();
            async move { session.read_datagram().await }.boxed()
        };
        advance(&mut self.recv_datagram, cx, begin)
    }

    fn max_datagram_size(&self) -> usize {
        poll::Session::max_datagram_size(&*self.session)
    }

    fn protocol(&self) -> Option<&str> {
        poll::Session::protocol(&*self.session)
    }

    fn close(&mut self, code: u32, reason: &str) {
        self.session.close(code, reason.as_bytes());
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<SessionError> {
        let begin = || {
            let session = self.session.clone();
            async move { Err(session.closed().await) }.boxed()
        };
        advance(&mut self.closed, cx, begin).map(|closed| match closed {
            Err(error) => error,
            Ok(never) => match never {},
        })
    }

    fn stats(&self) -> impl Stats {
        poll::Session::stats(&*self.session)
    }
}

/// An outgoing stream.
pub(crate) struct SendStream {
    stream: web_transport_quinn::SendStream,
    /// Taken, and there was no room for it so far. Nothing more is taken before it has gone.
    kept: Bytes,
    /// It ends when that has gone.
    finishes: bool,
}

impl SendStream {
    fn new(stream: web_transport_quinn::SendStream) -> Self {
        Self { stream, kept: Bytes::new(), finishes: false }
    }

    /// Done when nothing waits here.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        while !self.kept.is_empty() {
            // Where it does not come to its end, nothing was written, and whoever asked is woken.
            let write = self.stream.write_chunks(std::slice::from_mut(&mut self.kept));
            ready!(pin!(write).poll(cx))?;
        }
        if std::mem::take(&mut self.finishes) {
            self.stream.finish().map_err(|_| WriteError::ClosedStream)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl poll::SendStream for SendStream {
    type Error = WriteError;

    fn poll_write(&mut self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize, WriteError>> {
        ready!(self.poll_kept(cx))?;
        poll::SendStream::poll_write(&mut self.stream, cx, buffer)
    }

    fn poll_write_buf<B: Buf>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut B,
    ) -> Poll<Result<usize, WriteError>> {
        ready!(self.poll_kept(cx))?;
        let size = buffer.chunk().len();
        if size < MIN_SHARED_BYTES {
            return poll::SendStream::poll_write_buf(&mut self.stream, cx, buffer);
        }
        self.kept = buffer.copy_to_bytes(size);
        match self.poll_kept(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(size)),
        }
    }

    fn set_priority(&mut self, order: u8) {
        poll::SendStream::set_priority(&mut self.stream, order);
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        if self.kept.is_empty() {
            return poll::SendStream::finish(&mut self.stream);
        }
        self.finishes = true;
        Ok(())
    }

    fn reset(&mut self, code: u32) {
        self.kept = Bytes::new();
        self.finishes = false;
        poll::SendStream::reset(&mut self.stream, code);
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let closed = poll::SendStream::poll_closed(&mut self.stream, cx);
        if closed.is_pending() {
            ready!(self.poll_kept(cx))?;
        }
        closed
    }
}
