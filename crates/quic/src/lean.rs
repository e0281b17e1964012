//! QUIC sessions at less memory: what is sent is not copied for each viewer, and what a session consists of not for each task
//! that uses it.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use moq_net::web_transport_trait::{Stats, poll, poll::BiStreams};
use web_transport_quinn::{RecvStream, SessionError, WriteError};

/// Pieces smaller than this are copied: to share one would keep more than it is.
const MIN_SHARED_BYTES: usize = 1024;

/// A session. Whoever uses a clone for the first time gets the operations that it waits in.
pub(crate) struct Session {
    session: Arc<web_transport_quinn::Session>,
    own: Option<Box<web_transport_quinn::Session>>,
}

impl Session {
    pub(crate) fn new(session: web_transport_quinn::Session) -> Self {
        Self { session: Arc::new(session), own: None }
    }

    fn own(&mut self) -> &mut web_transport_quinn::Session {
        self.own.get_or_insert_with(|| Box::new((*self.session).clone()))
    }
}

impl Clone for Session {
    /// Each has its own operations.
    fn clone(&self) -> Self {
        Self { session: self.session.clone(), own: None }
    }
}

impl poll::Session for Session {
    type SendStream = SendStream;
    type RecvStream = RecvStream;
    type Error = SessionError;

    fn poll_accept_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, SessionError>> {
        poll::Session::poll_accept_uni(self.own(), cx)
    }

    fn poll_accept_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BiStreams<Self>, SessionError>> {
        let accepted = poll::Session::poll_accept_bi(self.own(), cx);
        accepted.map_ok(|(send, recv)| (SendStream::new(send), recv))
    }

    fn poll_open_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, SessionError>> {
        poll::Session::poll_open_uni(self.own(), cx).map_ok(SendStream::new)
    }

    fn poll_open_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BiStreams<Self>, SessionError>> {
        let opened = poll::Session::poll_open_bi(self.own(), cx);
        opened.map_ok(|(send, recv)| (SendStream::new(send), recv))
    }

    fn poll_send_datagram(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<Result<(), SessionError>> {
        poll::Session::poll_send_datagram(self.own(), cx, payload)
    }

    fn poll_recv_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, SessionError>> {
        poll::Session::poll_recv_datagram(self.own(), cx)
    }

    fn max_datagram_size(&self) -> usize {
        poll::Session::max_datagram_size(&*self.session)
    }

    fn protocol(&self) -> Option<&str> {
        poll::Session::protocol(&*self.session)
    }

    fn close(&mut self, code: u32, reason: &str) {
        poll::Session::close(self.own(), code, reason);
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<SessionError> {
        poll::Session::poll_closed(self.own(), cx)
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
