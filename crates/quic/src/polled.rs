//! `qmux` gives futures, and `moq-net` polls: each stream of a session has a task that carries bytes between the two.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use moq_net::web_transport_trait::{
    RecvStream as _, SendStream as _, Session as _, Stats, poll, poll::BiStreams,
};
use qmux::Error;
use tokio::sync::Notify;

/// Bytes that wait in a stream, in either direction; then nothing more is taken until some are gone.
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// The most that is read at once.
const PIECE_BYTES: usize = 16 * 1024;
/// With this a stream ends that is dropped unfinished.
const DROPPED: u32 = 0;

type SendHalf = <qmux::Session as moq_net::web_transport_trait::Session>::SendStream;
type RecvHalf = <qmux::Session as moq_net::web_transport_trait::Session>::RecvStream;

/// A session over a websocket.
pub(crate) struct Session {
    session: qmux::Session,
    accept_uni: Operation<RecvHalf>,
    accept_bi: Operation<(SendHalf, RecvHalf)>,
    open_uni: Operation<SendHalf>,
    open_bi: Operation<(SendHalf, RecvHalf)>,
    closed: Operation<std::convert::Infallible>,
}

/// One that is under way. A lock that is never taken: it makes the future one that may be looked at from anywhere.
pub(crate) type Operation<T, E = Error> = Mutex<Option<BoxFuture<'static, Result<T, E>>>>;

/// Goes on with an operation, which begins where none is under way.
pub(crate) fn advance<T, E>(
    operation: &mut Operation<T, E>,
    cx: &mut Context<'_>,
    begin: impl FnOnce() -> BoxFuture<'static, Result<T, E>>,
) -> Poll<Result<T, E>> {
    let slot = operation.get_mut().unwrap_or_else(PoisonError::into_inner);
    let done = ready!(slot.get_or_insert_with(begin).as_mut().poll(cx));
    *slot = None;
    Poll::Ready(done)
}

impl Session {
    pub(crate) fn new(session: qmux::Session) -> Self {
        Self {
            session,
            accept_uni: Mutex::default(),
            accept_bi: Mutex::default(),
            open_uni: Mutex::default(),
            open_bi: Mutex::default(),
            closed: Mutex::default(),
        }
    }
}

impl Clone for Session {
    /// Each has its own operations.
    fn clone(&self) -> Self {
        Self::new(self.session.clone())
    }
}

impl poll::Session for Session {
    type SendStream = SendStream;
    type RecvStream = RecvStream;
    type Error = Error;

    fn poll_accept_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, Error>> {
        let session = &self.session;
        let begin = || {
            let session = session.clone();
            Box::pin(async move { session.accept_uni().await }) as _
        };
        advance(&mut self.accept_uni, cx, begin).map_ok(RecvStream::new)
    }

    fn poll_accept_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BiStreams<Self>, Error>> {
        let session = &self.session;
        let begin = || {
            let session = session.clone();
            Box::pin(async move { session.accept_bi().await }) as _
        };
        advance(&mut self.accept_bi, cx, begin)
            .map_ok(|(send, recv)| (SendStream::new(send), RecvStream::new(recv)))
    }

    fn poll_open_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, Error>> {
        let session = &self.session;
        let begin = || {
            let session = session.clone();
            Box::pin(async move { session.open_uni().await }) as _
        };
        advance(&mut self.open_uni, cx, begin).map_ok(SendStream::new)
    }

    fn poll_open_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BiStreams<Self>, Error>> {
        let session = &self.session;
        let begin = || {
            let session = session.clone();
            Box::pin(async move { session.open_bi().await }) as _
        };
        advance(&mut self.open_bi, cx, begin)
            .map_ok(|(send, recv)| (SendStream::new(send), RecvStream::new(recv)))
    }

    // Over TCP a datagram waits like everything else, and is dropped besides where it would wait long.
    fn poll_send_datagram(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<Result<(), Error>> {
        Poll::Ready(Err(Error::DatagramsUnsupported))
    }

    fn poll_recv_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        poll::Session::poll_closed(self, cx).map(Err)
    }

    fn max_datagram_size(&self) -> usize {
        0
    }

    fn protocol(&self) -> Option<&str> {
        self.session.protocol()
    }

    fn close(&mut self, code: u32, reason: &str) {
        self.session.close(code, reason);
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let session = &self.session;
        let begin = || {
            let session = session.clone();
            Box::pin(async move { Err(session.closed().await) }) as _
        };
        advance(&mut self.closed, cx, begin).map(|closed| match closed {
            Err(error) => error,
            Ok(never) => match never {},
        })
    }

    fn stats(&self) -> impl Stats {
        self.session.stats()
    }
}

/// What a stream and its task share.
struct Shared<S> {
    /// A lock, because they run on different threads. Held to move a few bytes from one place to another.
    state: Mutex<S>,
    /// Wakes the task: there is something to do.
    work: Notify,
    /// The same for what can't wait for the stream: a reset, or that nothing is read any more.
    urgent: Notify,
}

impl<S: Default> Shared<S> {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), work: Notify::new(), urgent: Notify::new() })
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever waits for something to change in a stream.
#[derive(Default)]
struct Waiting(Vec<Waker>);

impl Waiting {
    fn add(&mut self, cx: &Context<'_>) {
        self.0.retain(|waker| !waker.will_wake(cx.waker()));
        self.0.push(cx.waker().clone());
    }

    fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

#[derive(Default)]
struct Outgoing {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    priority: Option<u8>,
    finished: bool,
    reset: Option<u32>,
    closed: Option<Result<(), Error>>,
    waiting: Waiting,
}

/// An outgoing stream.
pub(crate) struct SendStream(Arc<Shared<Outgoing>>);

impl SendStream {
    fn new(stream: SendHalf) -> Self {
        let shared = Shared::new();
        tokio::spawn(send(stream, shared.clone()));
        Self(shared)
    }
}

/// What is next for an outgoing stream.
enum Next {
    Nothing,
    Priority(u8),
    Piece(Bytes),
    Finish,
    Reset(u32),
}

impl Outgoing {
    fn next(&mut self) -> Next {
        if let Some(code) = self.reset {
            Next::Reset(code)
        } else if let Some(priority) = self.priority.take() {
            Next::Priority(priority)
        } else if let Some(piece) = self.pieces.pop_front() {
            Next::Piece(piece)
        } else if self.finished {
            Next::Finish
        } else {
            Next::Nothing
        }
    }

    fn close(&mut self, how: Result<(), Error>) {
        self.pieces.clear();
        self.closed = Some(how);
        self.waiting.wake();
    }
}

async fn send(mut stream: SendHalf, shared: Arc<Shared<Outgoing>>) {
    let ended = loop {
        let next = shared.lock().next();
        match next {
            Next::Nothing => tokio::select! {
                () = shared.work.notified() => {}
                () = shared.urgent.notified() => {}
                closed = stream.closed() => break closed,
            },
            Next::Priority(priority) => stream.set_priority(priority),
            Next::Piece(piece) => {
                let size = piece.len();
                tokio::select! {
                    written = stream.write_chunk(piece) => {
                        if let Err(error) = written {
                            break Err(error);
                        }
                        let mut state = shared.lock();
                        state.bytes -= size;
                        state.waiting.wake();
                    }
                    // A reset: what was under way is given up.
                    () = shared.urgent.notified() => {}
                }
            }
            // Nobody tells when the other side has all of it.
            Next::Finish => break stream.finish(),
            Next::Reset(code) => {
                stream.reset(code);
                break Ok(());
            }
        }
    };
    shared.lock().close(ended);
}

impl poll::SendStream for SendStream {
    type Error = Error;

    fn poll_write(&mut self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize, Error>> {
        let mut state = self.0.lock();
        match &state.closed {
            Some(Err(error)) => return Poll::Ready(Err(error.clone())),
            Some(Ok(())) => return Poll::Ready(Err(Error::StreamClosed)),
            None if state.finished || state.reset.is_some() => return Poll::Ready(Err(Error::StreamClosed)),
            None => {}
        }
        let size = buffer.len().min(MAX_WAITING_BYTES.saturating_sub(state.bytes));
        if size == 0 && !buffer.is_empty() {
            state.waiting.add(cx);
            return Poll::Pending;
        }
        if size > 0 {
            state.pieces.push_back(Bytes::copy_from_slice(&buffer[..size]));
            state.bytes += size;
            self.0.work.notify_one();
        }
        Poll::Ready(Ok(size))
    }

    fn set_priority(&mut self, order: u8) {
        self.0.lock().priority = Some(order);
        self.0.work.notify_one();
    }

    fn finish(&mut self) -> Result<(), Error> {
        let mut state = self.0.lock();
        if let Some(Err(error)) = &state.closed {
            return Err(error.clone());
        }
        state.finished = true;
        self.0.work.notify_one();
        Ok(())
    }

    fn reset(&mut self, code: u32) {
        self.0.lock().reset.get_or_insert(code);
        self.0.urgent.notify_one();
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.0.lock();
        match &state.closed {
            Some(closed) => Poll::Ready(closed.clone()),
            None => {
                state.waiting.add(cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.0.lock().finished {
            poll::SendStream::reset(self, DROPPED);
        }
    }
}

#[derive(Default)]
struct Incoming {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    stop: Option<u32>,
    /// The other side has ended it. What waits is read before that is told, unless it is an error.
    ended: Option<Result<(), Error>>,
    waiting: Waiting,
}

/// An incoming stream.
pub(crate) struct RecvStream(Arc<Shared<Incoming>>);

impl RecvStream {
    fn new(stream: RecvHalf) -> Self {
        let shared = Shared::new();
        tokio::spawn(receive(stream, shared.clone()));
        Self(shared)
    }
}

async fn receive(mut stream: RecvHalf, shared: Arc<Shared<Incoming>>) {
    let ended = loop {
        let (stop, full) = {
            let state = shared.lock();
            (state.stop, state.bytes >= MAX_WAITING_BYTES)
        };
        if let Some(code) = stop {
            stream.stop(code);
            break Ok(());
        }
        if full {
            tokio::select! {
                () = shared.work.notified() => {}
                () = shared.urgent.notified() => {}
            }
            continue;
        }
        tokio::select! {
            read = stream.read_chunk(PIECE_BYTES) => match read {
                Ok(Some(piece)) => {
                    let mut state = shared.lock();
                    state.bytes += piece.len();
                    state.pieces.push_back(piece);
                    state.waiting.wake();
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            () = shared.urgent.notified() => {}
        }
    };
    let mut state = shared.lock();
    state.ended = Some(ended);
    state.waiting.wake();
}

impl RecvStream {
    /// The next bytes, `most` at the most; `None` at the end.
    fn take(&mut self, cx: &Context<'_>, most: usize) -> Poll<Result<Option<Bytes>, Error>> {
        let mut state = self.0.lock();
        if let Some(Err(error)) = &state.ended {
            return Poll::Ready(Err(error.clone()));
        }
        let Some(first) = state.pieces.front_mut() else {
            return match &state.ended {
                Some(_) => Poll::Ready(Ok(None)),
                None => {
                    state.waiting.add(cx);
                    Poll::Pending
                }
            };
        };
        let taken = first.split_to(most.min(first.len()));
        if first.is_empty() {
            state.pieces.pop_front();
        }
        state.bytes -= taken.len();
        self.0.work.notify_one();
        Poll::Ready(Ok(Some(taken)))
    }
}

impl poll::RecvStream for RecvStream {
    type Error = Error;

    fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<Result<Option<usize>, Error>> {
        if to.is_empty() {
            return Poll::Ready(Ok(Some(0)));
        }
        let taken = ready!(self.take(cx, to.len()))?;
        Poll::Ready(Ok(taken.map(|taken| {
            to[..taken.len()].copy_from_slice(&taken);
            taken.len()
        })))
    }

    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<Option<Bytes>, Error>> {
        if most == 0 {
            return Poll::Ready(Ok(Some(Bytes::new())));
        }
        self.take(cx, most)
    }

    fn stop(&mut self, code: u32) {
        self.0.lock().stop.get_or_insert(code);
        self.0.urgent.notify_one();
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.0.lock();
        match &state.ended {
            Some(ended) if ended.is_err() || state.pieces.is_empty() || state.stop.is_some() => {
                Poll::Ready(ended.clone())
            }
            _ => {
                state.waiting.add(cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        poll::RecvStream::stop(self, DROPPED);
    }
}
