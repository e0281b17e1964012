//! One actor's network, which may fail for a while: as long as it is gone, nothing is read or written, connected or sent;
//! then it goes on where it was, or is another one, as when a phone leaves the Wi-Fi: what was connected is left without
//! a word, and stands on the server's side until that notices.
//!
//! TCP stalls because the actor does not read and write; this machine's kernel goes on acknowledging what fits into its
//! buffers, and so the waits of retransmission are not part of it. UDP is discarded (`outage`, `quic_socket`).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep_until},
};

/// Connections of former networks that one actor leaves standing; of more, the oldest is closed.
const MAX_LEFT: usize = 8;
/// Who is not back so long after the network is has not come back; before that, it can't be known yet.
const KNOWN_AFTER: Duration = Duration::from_secs(2);

/// A network. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether it has ever failed: as long as it has not, nobody asks for the lock.
    failed: AtomicBool,
    /// Shared by the actor, and whoever lets the network fail; held for a few instructions.
    state: Mutex<State>,
    /// The reader that has to learn of it.
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// It is gone until then.
    until: Option<Instant>,
    /// How often it has failed.
    failures: u32,
    /// How often another one took its place.
    generation: u32,
    /// The actor has not been seen to be back since the last failure.
    away: bool,
    /// The return was told of by [`Network::returned`].
    told: bool,
    /// Connections of former networks.
    left: Vec<TcpStream>,
}

impl State {
    fn gone(&self) -> Option<Instant> {
        self.until.filter(|until| Instant::now() < *until)
    }
}

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails until then; with `roams`, what returns is another one. Returns whether its actor was there until now: who is
    /// still away from the last time only stays away longer.
    pub(crate) fn fail(&self, until: Instant, roams: bool) -> bool {
        let mut state = self.state();
        let was_there = !state.away;
        state.until = Some(state.until.map_or(until, |before| before.max(until)));
        state.failures += 1;
        state.generation += u32::from(roams);
        (state.away, state.told) = (true, false);
        drop(state);
        self.0.failed.store(true, Ordering::Release);
        self.0.reader.wake();
        was_there
    }

    /// Whether it has ever failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire)
    }

    /// Until when it is gone, if it is.
    pub(crate) fn gone(&self) -> Option<Instant> {
        if self.has_failed() { self.state().gone() } else { None }
    }

    /// Waits until it is there.
    pub(crate) async fn there(&self) {
        while let Some(until) = self.gone() {
            sleep_until(until.into()).await;
        }
    }

    /// How often it has failed so far.
    pub(crate) fn failures(&self) -> u32 {
        if self.has_failed() { self.state().failures } else { 0 }
    }

    /// How often another one has taken its place.
    pub(crate) fn generation(&self) -> u32 {
        if self.has_failed() { self.state().generation } else { 0 }
    }

    /// Since when it is back; `None` if it has never failed. What is older than that was late by our own doing.
    pub(crate) fn back_for(&self) -> Option<Duration> {
        if !self.has_failed() {
            return None;
        }
        self.state().until.map(|until| Instant::now().saturating_duration_since(until))
    }

    /// Whether it is back from a failure, told once for each.
    pub(crate) fn returned(&self) -> bool {
        if !self.has_failed() {
            return false;
        }
        let mut state = self.state();
        let returned = state.away && !state.told && state.gone().is_none();
        state.told |= returned;
        returned
    }

    /// Whether its actor is still away.
    pub(crate) fn is_away(&self) -> bool {
        self.has_failed() && self.state().away
    }

    /// The actor is back: how long after the network, if it was away.
    pub(crate) fn back(&self) -> Option<Duration> {
        if !self.has_failed() {
            return None;
        }
        let mut state = self.state();
        let until = state.until.filter(|until| state.away && Instant::now() >= *until)?;
        state.away = false;
        Some(until.elapsed())
    }

    /// The actor leaves: whether they should have been back long since; `None` if they were not away.
    pub(crate) fn leave(&self) -> Option<bool> {
        if !self.has_failed() {
            return None;
        }
        let mut state = self.state();
        let until = state.until.filter(|_| state.away)?;
        state.away = false;
        Some(is_lost(until, Instant::now()))
    }

    /// Connects, once it is there.
    pub(crate) async fn connect(&self, place: (&str, u16)) -> io::Result<Wire> {
        self.there().await;
        let generation = self.generation();
        let tcp = TcpStream::connect(place).await?;
        tcp.set_nodelay(true)?;
        Ok(Wire { tcp: Some(tcp), network: self.clone(), generation, pause: None })
    }
}

/// Whether somebody whose network was gone until then should have been back long since.
pub(crate) fn is_lost(until: Instant, now: Instant) -> bool {
    now >= until + KNOWN_AFTER
}

/// A TCP connection over an actor's network.
#[derive(Debug)]
pub(crate) struct Wire {
    /// `None` only while it is dropped.
    tcp: Option<TcpStream>,
    network: Network,
    /// The network that it was made over.
    generation: u32,
    /// Until the network is back.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// Waits until the network is there; an error if it is another one by then.
    fn poll_there(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TcpStream>>> {
        while let Some(until) = self.network.gone() {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(until.into())));
            if pause.deadline() != until.into() {
                pause.as_mut().reset(until.into());
            }
            ready!(pause.as_mut().poll(cx));
        }
        self.pause = None;
        if self.network.generation() != self.generation {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::NetworkDown,
                "the network is another one",
            )));
        }
        let tcp = self.tcp.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Poll::Ready(Ok(Pin::new(tcp)))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        wire.network.0.reader.register(cx.waker());
        ready!(wire.poll_there(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_there(cx))?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_there(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_there(cx))?.poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // A phone that has left its network tells nobody: the server has to find out by itself.
        if self.network.generation() != self.generation
            && let Some(tcp) = self.tcp.take()
        {
            let mut state = self.network.state();
            if state.left.len() >= MAX_LEFT {
                state.left.remove(0);
            }
            state.left.push(tcp);
        }
    }
}

/// Polls something that reads over the network, and looks whether that is back each time: `None` says that it is.
pub(crate) async fn unless_returned<T>(
    network: &Network,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    poll_fn(|cx| {
        if network.returned() {
            return Poll::Ready(None);
        }
        let polled = poll(cx);
        // It may have come back between the two.
        if polled.is_pending() && network.returned() { Poll::Ready(None) } else { polled.map(Some) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    const GONE: Duration = Duration::from_millis(200);

    async fn pair(network: &Network) -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (wire, accepted) = tokio::join!(network.connect(("127.0.0.1", port)), listener.accept());
        (wire.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn a_network_that_fails_stalls_what_is_connected_and_goes_on() {
        let network = Network::default();
        let (mut wire, mut server) = pair(&network).await;
        assert_eq!((network.gone(), network.back_for(), network.leave()), (None, None, None));
        let until = Instant::now() + GONE;
        assert!(network.fail(until, false), "it was there");
        assert!(!network.fail(until, false), "it was away already");
        server.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        wire.read_exact(&mut read).await.unwrap();
        assert!(Instant::now() >= until, "nothing came before the network was back");
        assert_eq!((&read, network.failures()), (b"hello", 2));
        wire.write_all(b"again").await.unwrap();
        server.read_exact(&mut read).await.unwrap();
        assert!(network.returned() && !network.returned(), "told once");
        assert!(network.is_away() && network.back().is_some() && network.back().is_none());
        assert!(!network.is_away());
    }

    #[tokio::test]
    async fn a_reader_is_told_of_the_return_even_if_nothing_comes() {
        let network = Network::default();
        let (mut wire, _server) = pair(&network).await;
        let reader = network.clone();
        let task = tokio::spawn(async move {
            let mut space = [0; 8];
            unless_returned(&reader, |cx| {
                let mut buf = ReadBuf::new(&mut space);
                Pin::new(&mut wire).poll_read(cx, &mut buf)
            })
            .await
            .is_none()
        });
        tokio::task::yield_now().await;
        network.fail(Instant::now() + GONE, false);
        assert!(timeout(Duration::from_secs(10), task).await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn another_network_leaves_the_old_connection_standing_without_a_word() {
        let network = Network::default();
        let (mut wire, mut server) = pair(&network).await;
        network.fail(Instant::now(), true);
        let error = wire.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkDown);
        drop(wire);
        let (mut again, _server) = pair(&network).await;
        again.write_all(b"x").await.unwrap();
        let mut space = [0; 1];
        assert!(timeout(GONE, server.read(&mut space)).await.is_err(), "the server was told nothing");
        drop((network, again));
        assert_eq!(server.read(&mut space).await.unwrap(), 0, "it goes with its owner");
    }

    #[test]
    fn who_leaves_while_away_is_lost_only_if_they_should_have_been_back() {
        let now = Instant::now();
        assert!(!is_lost(now, now) && !is_lost(now, now + KNOWN_AFTER - Duration::from_millis(1)));
        assert!(is_lost(now, now + KNOWN_AFTER));
        let network = Network::default();
        network.fail(now + GONE, false);
        assert_eq!((network.leave(), network.leave()), (Some(false), None));
    }
}
