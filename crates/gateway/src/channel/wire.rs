//! The writing side of a plain connection, on which several write: the connection's own task, the websocket library with
//! its answers to pings, and who writes to a whole room at once.
//!
//! Whoever writes hands over whole frames. What the kernel does not take of them waits here and goes first.

use std::{
    hint::black_box,
    io,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use haul_live::{Inbox, Pen};
use haul_room::Piece;
use tokio::{
    io::Interest,
    net::tcp::OwnedWriteHalf,
    time::{Instant, timeout_at},
};

use crate::{
    channel::frames::{Gathered, closing, gather},
    metrics::Sent,
};

/// Writes to one reader before the next one's turn; the rest is their own task's.
const WRITES_A_TURN: usize = 4;

#[derive(Debug)]
pub(super) struct Wire {
    half: OwnedWriteHalf,
    /// A lock, since all who write must see what is left before they add to it. Held for a write that does not wait.
    rest: Mutex<Rest>,
    opened_at: Instant,
    /// When something was last written, in milliseconds after `opened_at`.
    written_ms: AtomicU64,
    sent: Sent,
}

/// What is left of what was handed over: of one write at most, since nothing is added while there is some.
#[derive(Debug, Default)]
struct Rest {
    bytes: Bytes,
    /// Bytes that the kernel has taken of rests so far.
    taken: u64,
    /// The library has said goodbye: after a close frame there is none of data (RFC 6455, 5.5.1).
    closed: bool,
}

/// How far writing got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Nothing waits any more.
    All,
    /// As much as goes in one write.
    More,
    /// The kernel takes no more now.
    Blocked,
}

impl Wire {
    pub(super) fn new(half: OwnedWriteHalf, sent: Sent) -> Self {
        Self { half, rest: Mutex::default(), opened_at: Instant::now(), written_ms: AtomicU64::new(0), sent }
    }

    pub(super) fn written_at(&self) -> Instant {
        self.opened_at + Duration::from_millis(self.written_ms.load(Ordering::Relaxed))
    }

    /// Writes of what `next` gives as much as goes at once, without waiting.
    pub(super) fn pump(&self, next: impl FnMut() -> Option<Piece>) -> io::Result<Pumped> {
        let mut rest = self.lock();
        if !self.push(&mut rest)? {
            return Ok(Pumped::Blocked);
        }
        if rest.closed {
            return Ok(Pumped::All);
        }
        let Gathered { messages, frames, all } = gather(next);
        if messages > 0 {
            self.sent.count(messages);
            let taken = self.try_write(&frames)?;
            if taken < frames.len() {
                rest.bytes = frames.into_bytes().slice(taken..);
                return Ok(Pumped::Blocked);
            }
        }
        Ok(if all { Pumped::All } else { Pumped::More })
    }

    /// Waits until nothing is left, as long as the reader takes something of it `within` each such time.
    pub(super) async fn drained(&self, within: Duration) -> io::Result<()> {
        let mut taken = None;
        let mut deadline = Instant::now();
        loop {
            {
                let mut rest = self.lock();
                if self.push(&mut rest)? {
                    return Ok(());
                }
                // Whoever it was that wrote it.
                if taken.replace(rest.taken) != Some(rest.taken) {
                    deadline = Instant::now() + within;
                } else if Instant::now() >= deadline {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            if let Ok(writable) = timeout_at(deadline, self.half.writable()).await {
                writable?;
            }
        }
    }

    /// Takes all of `bytes`, which are whole frames, once nothing is left before them.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut rest = self.lock();
        ready!(self.poll_drained(cx, &mut rest))?;
        let taken = self.try_write(bytes)?;
        rest.bytes = Bytes::copy_from_slice(&bytes[taken..]);
        rest.closed |= closing(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Ready when nothing is left.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drained(cx, &mut self.lock())
    }

    fn poll_drained(&self, cx: &mut Context<'_>, rest: &mut Rest) -> Poll<io::Result<()>> {
        while !self.push(rest)? {
            ready!(self.half.as_ref().poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes on with what is left; whether that is all.
    fn push(&self, rest: &mut Rest) -> io::Result<bool> {
        if rest.bytes.is_empty() {
            return Ok(true);
        }
        let taken = self.try_write(&rest.bytes)?;
        rest.taken += taken as u64;
        rest.bytes.advance(taken);
        let done = rest.bytes.is_empty();
        if done {
            // What all have been told does not stay for the sake of one.
            rest.bytes = Bytes::new();
        }
        Ok(done)
    }

    /// How much the kernel takes now.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.half.try_write(&bytes[taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => taken += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if taken > 0 {
            let since = Instant::now().saturating_duration_since(self.opened_at);
            self.written_ms.store(since.as_millis() as u64, Ordering::Relaxed);
        }
        Ok(taken)
    }

    fn lock(&self) -> MutexGuard<'_, Rest> {
        // A panic while it was held is a defect; what is left is still left.
        self.rest.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Pen for Wire {
    fn write(&self, inbox: &Inbox) -> bool {
        for _ in 0..WRITES_A_TURN {
            match self.pump(|| inbox.pop()) {
                Ok(Pumped::All) => return true,
                Ok(Pumped::More) => {}
                // Waiting is the task's, and so is ending: it will see the same error.
                Ok(Pumped::Blocked) | Err(_) => return false,
            }
        }
        false
    }

    fn reach(&self) {
        // The runtime's record of the socket; asked whether something could be written, it changes nothing.
        let writable = self.half.as_ref().try_io(Interest::WRITABLE, || Ok(()));
        black_box((writable.is_ok(), self.rest.is_poisoned(), self.written_ms.load(Ordering::Relaxed)));
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn, io::Read, sync::Arc};

    use haul_room::{Batch, Line};
    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream, tcp::OwnedReadHalf};
    use tokio_tungstenite::tungstenite::{
        Message,
        protocol::{Role, WebSocket},
    };

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    /// A wire between which and its reader little fits, the reading side that keeps it open, and the reader.
    async fn narrow() -> (Arc<Wire>, OwnedReadHalf, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4 * 1024).unwrap();
            socket.connect(&address.into()).unwrap();
            std::net::TcpStream::from(socket)
        });
        let (server, _): (TcpStream, _) = listener.accept().await.unwrap();
        SockRef::from(&server).set_send_buffer_size(4 * 1024).unwrap();
        server.set_nodelay(true).unwrap();
        let (reading, half) = server.into_split();
        (Arc::new(Wire::new(half, Sent::default())), reading, client.join().unwrap())
    }

    fn line(number: usize) -> Line {
        Line::from(format!("{number} {}", "x".repeat(number * 7919 % 700)).into_bytes())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn whoever_writes_frames_are_whole_and_lines_in_their_order() {
        const LINES: usize = 4_000;
        const PINGS: usize = 300;
        let (wire, _reading, client) = narrow().await;
        let waiting = Arc::new(Mutex::new(VecDeque::new()));
        let next = |waiting: &Mutex<VecDeque<Piece>>| waiting.lock().unwrap().pop_front();
        // What comes and whoever passes by.
        let passing = {
            let (wire, waiting) = (wire.clone(), waiting.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while number < LINES {
                    let size = 1 + number % 5;
                    let lines = (number..(number + size).min(LINES)).map(|number| (false, line(number)));
                    let batch = Arc::new(Batch::new(lines.collect()));
                    number += batch.lines().len();
                    waiting.lock().unwrap().push_back(Piece::Batch(batch));
                    wire.pump(|| next(&waiting)).unwrap();
                    tokio::task::yield_now().await;
                }
            })
        };
        // The library, with its pings.
        let pings = {
            let wire = wire.clone();
            tokio::spawn(async move {
                for number in 0..PINGS {
                    let ping = [&[0x89, 4][..], &(number as u32).to_be_bytes()].concat();
                    let taken = poll_fn(|cx| wire.poll_write(cx, &ping)).await.unwrap();
                    assert_eq!(taken, ping.len(), "all of it or nothing");
                    if number % 3 == 0 {
                        poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                }
            })
        };
        let reader = std::thread::spawn(move || {
            let mut client = WebSocket::from_raw_socket(Sips(client), Role::Client, None);
            let (mut lines, mut pings) = (0, 0);
            while lines < LINES || pings < PINGS {
                match client.read().unwrap() {
                    Message::Text(text) => {
                        assert_eq!(text.as_bytes(), &line(lines)[..]);
                        lines += 1;
                    }
                    Message::Ping(number) => {
                        assert_eq!(number[..], (pings as u32).to_be_bytes());
                        pings += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        passing.await.unwrap();
        pings.await.unwrap();
        // The connection's own task, which waits.
        loop {
            match wire.pump(|| next(&waiting)).unwrap() {
                Pumped::All => break,
                Pumped::More => {}
                Pumped::Blocked => wire.drained(WITHIN).await.unwrap(),
            }
        }
        wire.drained(WITHIN).await.unwrap();
        tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
        assert_eq!(wire.lock().bytes.len(), 0);
    }

    /// Reads little at a time, and swallows the pongs.
    struct Sips(std::net::TcpStream);

    impl Read for Sips {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(997);
            self.0.read(&mut buffer[..most])
        }
    }

    impl io::Write for Sips {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_takes_nothing_is_given_up_and_one_who_takes_a_little_is_not() {
        let (wire, _reading, mut client) = narrow().await;
        let mut pieces: VecDeque<Piece> =
            (0..2_000).map(|_| Piece::Line(Line::from(vec![b'x'; 1_000]))).collect();
        while wire.pump(|| pieces.pop_front()).unwrap() != Pumped::Blocked {}
        let left = pieces.len();
        assert_eq!(wire.pump(|| pieces.pop_front()).unwrap(), Pumped::Blocked);
        assert_eq!(pieces.len(), left, "no more is taken than goes");
        let since = Instant::now();
        let given_up = wire.drained(WITHIN).await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
        assert!(since.elapsed() >= WITHIN, "{:?}", since.elapsed());

        // What they take frees the way, however little of it is this write's.
        let drained = {
            let wire = wire.clone();
            tokio::spawn(async move { wire.drained(WITHIN).await })
        };
        let reader = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; 256 * 1024];
            client.read_exact(&mut buffer).map(|()| client)
        });
        drained.await.unwrap().unwrap();
        drop(wire);
        drop(_reading);
        // The end comes after all that was written.
        let _ = reader.await.unwrap();
    }

    #[tokio::test]
    async fn nothing_follows_a_close_frame() {
        let (wire, _reading, _client) = narrow().await;
        let mut pieces: VecDeque<Piece> = (0..3).map(|number| Piece::Line(line(number))).collect();
        assert_eq!(wire.pump(|| pieces.pop_front()).unwrap(), Pumped::All);
        pieces.push_back(Piece::Line(line(3)));
        poll_fn(|cx| wire.poll_write(cx, &[0x88, 2, 0x03, 0xe8])).await.unwrap();
        assert_eq!(wire.pump(|| pieces.pop_front()).unwrap(), Pumped::All);
        assert_eq!(pieces.len(), 1);
    }

    #[tokio::test]
    async fn a_reader_who_is_gone_is_an_error_for_everybody() {
        let (wire, reading, client) = narrow().await;
        drop(client);
        reading.readable().await.unwrap();
        let mut failed = false;
        for _ in 0..1_000 {
            let mut pieces = VecDeque::from([Piece::Line(Line::from_static(b"anybody?"))]);
            failed |= wire.pump(|| pieces.pop_front()).is_err();
            tokio::task::yield_now().await;
        }
        assert!(failed);
    }
}
