//! A transport that gives streams up which the other side does not take: a viewer too slow for a group gets what is new
//! instead. MoQ gives up groups that have grown old before they were begun; what waits for the transport, or to be
//! confirmed by the other side, it would keep for as long as that takes. And it reads no more than a client may say.

use std::{
    fmt::Display,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use moq_net::{
    StreamError,
    web_transport_trait::{self as transport, Stats, poll, poll::BiStreams},
};
use tokio::time::{Sleep, sleep};

use crate::{intake::Intake, stats::Counter};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error<E: Display> {
    #[error("{0}")]
    Transport(E),
    #[error("the other side has not taken it in time")]
    TooOld,
    #[error("the other side says more than it may")]
    TooMuch,
}

impl<E: transport::Error> transport::Error for Error<E> {
    fn session_error(&self) -> Option<(u32, String)> {
        match self {
            Self::Transport(error) => error.session_error(),
            Self::TooOld | Self::TooMuch => None,
        }
    }

    fn stream_error(&self) -> Option<u32> {
        match self {
            Self::Transport(error) => error.stream_error(),
            Self::TooOld => Some(StreamError::Old.to_code()),
            Self::TooMuch => None,
        }
    }
}

/// A wait that began once and has an end.
#[derive(Default)]
struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// Whether it is at its end. Begins it, where it has not begun.
    fn is_over(&mut self, patience: Duration, cx: &mut Context<'_>) -> bool {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep(patience)));
        sleep.as_mut().poll(cx).is_ready()
    }
}

/// A session whose streams to the other side, those that go one way, are given up in time.
pub(crate) struct Patient<S> {
    session: S,
    patience: Duration,
    given_up: Arc<Counter>,
    intake: Arc<Intake>,
    /// For a stream that is to be opened.
    opening: Patience,
}

impl<S> Patient<S> {
    /// Streams wait for so long, and are counted when they are given up.
    pub(crate) fn new(session: S, patience: Duration, given_up: Arc<Counter>, intake: Arc<Intake>) -> Self {
        Self { session, patience, given_up, intake, opening: Patience::default() }
    }

    fn read<R>(&self, stream: R, is_one_way: bool) -> RecvStream<R> {
        RecvStream { stream, intake: self.intake.clone(), is_one_way }
    }
}

impl<S: Clone> Clone for Patient<S> {
    /// Each waits by itself.
    fn clone(&self) -> Self {
        Self::new(self.session.clone(), self.patience, self.given_up.clone(), self.intake.clone())
    }
}

impl<S: poll::Session> poll::Session for Patient<S> {
    type SendStream = SendStream<S::SendStream>;
    type RecvStream = RecvStream<S::RecvStream>;
    type Error = Error<S::Error>;

    fn poll_accept_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::RecvStream, Self::Error>> {
        let accepted = self.session.poll_accept_uni(cx);
        accepted.map_ok(|stream| self.read(stream, true)).map_err(Error::Transport)
    }

    fn poll_accept_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BiStreams<Self>, Self::Error>> {
        let accepted = self.session.poll_accept_bi(cx);
        accepted
            .map_ok(|(send, recv)| (SendStream::lasting(send), self.read(recv, false)))
            .map_err(Error::Transport)
    }

    fn poll_open_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, Self::Error>> {
        match self.session.poll_open_uni(cx) {
            Poll::Ready(opened) => {
                self.opening = Patience::default();
                let limit = Some((self.patience, self.given_up.clone()));
                Poll::Ready(opened.map(|stream| SendStream::new(stream, limit)).map_err(Error::Transport))
            }
            Poll::Pending if self.opening.is_over(self.patience, cx) => {
                self.opening = Patience::default();
                self.given_up.add(1);
                Poll::Ready(Err(Error::TooOld))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_open_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BiStreams<Self>, Self::Error>> {
        let opened = self.session.poll_open_bi(cx);
        opened
            .map_ok(|(send, recv)| (SendStream::lasting(send), self.read(recv, false)))
            .map_err(Error::Transport)
    }

    fn poll_send_datagram(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<Result<(), Self::Error>> {
        self.session.poll_send_datagram(cx, payload).map_err(Error::Transport)
    }

    fn poll_recv_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Self::Error>> {
        self.session.poll_recv_datagram(cx).map_err(Error::Transport)
    }

    fn max_datagram_size(&self) -> usize {
        self.session.max_datagram_size()
    }

    fn protocol(&self) -> Option<&str> {
        self.session.protocol()
    }

    fn close(&mut self, code: u32, reason: &str) {
        self.session.close(code, reason);
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Self::Error> {
        self.session.poll_closed(cx).map(Error::Transport)
    }

    fn stats(&self) -> impl Stats {
        self.session.stats()
    }
}

/// An outgoing stream.
pub(crate) struct SendStream<S> {
    stream: S,
    /// How long it may wait, and where it is counted if that was too long; `None`: for ever.
    limit: Option<(Duration, Arc<Counter>)>,
    /// Begins when a write has to wait, or all is written, and ends when writes are taken at once again.
    waiting: Patience,
    /// The last write was taken. Where each has to wait for room, there is no end of waiting.
    taken: bool,
    finished: bool,
}

impl<S: poll::SendStream> SendStream<S> {
    fn new(stream: S, limit: Option<(Duration, Arc<Counter>)>) -> Self {
        Self { stream, limit, waiting: Patience::default(), taken: false, finished: false }
    }

    /// One that may wait for as long as it takes.
    fn lasting(stream: S) -> Self {
        Self::new(stream, None)
    }

    /// Whether it is given up, as it has to wait now.
    fn is_given_up(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((patience, given_up)) = &self.limit else { return false };
        if !self.waiting.is_over(*patience, cx) {
            return false;
        }
        given_up.add(1);
        self.limit = None;
        self.stream.reset(StreamError::Old.to_code());
        true
    }

    /// What comes of a write, after what the stream says to it.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<Result<usize, S::Error>>,
    ) -> Poll<Result<usize, Error<S::Error>>> {
        match written {
            Poll::Ready(written) => {
                if std::mem::replace(&mut self.taken, true) {
                    self.waiting = Patience::default();
                }
                Poll::Ready(written.map_err(Error::Transport))
            }
            Poll::Pending => {
                self.taken = false;
                if self.is_given_up(cx) { Poll::Ready(Err(Error::TooOld)) } else { Poll::Pending }
            }
        }
    }
}

impl<S: poll::SendStream> poll::SendStream for SendStream<S> {
    type Error = Error<S::Error>;

    fn poll_write(&mut self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize, Self::Error>> {
        let written = self.stream.poll_write(cx, buffer);
        self.wrote(cx, written)
    }

    fn poll_write_buf<B: Buf>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut B,
    ) -> Poll<Result<usize, Self::Error>> {
        let written = self.stream.poll_write_buf(cx, buffer);
        self.wrote(cx, written)
    }

    fn set_priority(&mut self, order: u8) {
        self.stream.set_priority(order);
    }

    fn finish(&mut self) -> Result<(), Self::Error> {
        self.finished = true;
        self.stream.finish().map_err(Error::Transport)
    }

    fn reset(&mut self, code: u32) {
        if let Some((_, given_up)) = self.limit.take()
            && code == StreamError::Old.to_code()
        {
            given_up.add(1);
        }
        self.stream.reset(code);
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.stream.poll_closed(cx) {
            Poll::Ready(closed) => Poll::Ready(closed.map_err(Error::Transport)),
            Poll::Pending if self.finished && self.is_given_up(cx) => Poll::Ready(Err(Error::TooOld)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// An incoming stream, of which is taken what the client may say.
pub(crate) struct RecvStream<S> {
    stream: S,
    intake: Arc<Intake>,
    is_one_way: bool,
}

impl<S: poll::RecvStream> RecvStream<S> {
    /// What comes of a read by which so much has come.
    fn took<T>(&self, read: T, bytes: usize) -> Result<T, Error<S::Error>> {
        match self.intake.takes(bytes, self.is_one_way, Instant::now()) {
            true => Ok(read),
            false => Err(Error::TooMuch),
        }
    }
}

impl<S: poll::RecvStream> poll::RecvStream for RecvStream<S> {
    type Error = Error<S::Error>;

    fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<Result<Option<usize>, Self::Error>> {
        let read = ready!(self.stream.poll_read(cx, to)).map_err(Error::Transport)?;
        Poll::Ready(self.took(read, read.unwrap_or_default()))
    }

    fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Option<Bytes>, Self::Error>> {
        let read = ready!(self.stream.poll_read_chunk(cx, most)).map_err(Error::Transport)?;
        let bytes = read.as_ref().map_or(0, Bytes::len);
        Poll::Ready(self.took(read, bytes))
    }

    fn stop(&mut self, code: u32) {
        self.stream.stop(code);
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.stream.poll_closed(cx).map_err(Error::Transport)
    }
}
