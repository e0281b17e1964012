//! One client's connection, plain or TLS, and when it has been of no use for too long.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::server::TlsStream;

/// How long a client may take until its first request is there and answered. One that sends a byte now and then gets no
/// longer for it.
pub const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long a connection is kept to which we write nothing: whoever is done with it, or dead. A websocket is written to
/// more often, if only pings.
pub const SILENT_FOR: Duration = Duration::from_secs(90);

/// Bytes that the kernel takes beyond what it may send to a reader now.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 8 * 1024;

/// A client's connection.
pub struct Connection {
    transport: Transport,
    /// Given back when the connection closes.
    _place: OwnedSemaphorePermit,
    /// When to look whether it is still of use.
    look_at: Pin<Box<Sleep>>,
    /// When we last wrote to it. Kept apart, since moving the timer at every write would cost more than looking once.
    written_at: Option<Instant>,
}

pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn new(transport: Transport, place: OwnedSemaphorePermit) -> Self {
        let look_at = Box::pin(sleep(FIRST_ANSWER_WITHIN));
        Self { transport, _place: place, look_at, written_at: None }
    }

    /// The channel's messages are small and must not wait for each other's acknowledgements; nor must what is urgent wait
    /// behind much that the kernel keeps for a slow reader.
    pub(super) fn send_at_once(&mut self) {
        let tcp = match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        };
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        #[cfg(target_os = "linux")]
        if let Err(error) = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(MAX_UNSENT) {
            tracing::debug!(%error, "cannot set TCP_NOTSENT_LOWAT");
        }
    }

    /// Ready when it has been silent for too long.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.look_at.as_mut().poll(cx));
            match self.written_at.map(|at| at + SILENT_FOR) {
                Some(due) if due > Instant::now() => self.look_at.as_mut().reset(due),
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// Calls a method of whichever transport it is.
macro_rules! delegate {
    ($self:expr, $method:ident($($argument:expr),*)) => {
        match &mut $self.transport {
            Transport::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = delegate!(this, poll_read(cx, buffer)) {
            return Poll::Ready(read);
        }
        this.poll_silent(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.written_at = Some(Instant::now());
        delegate!(this, poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.written_at = Some(Instant::now());
        delegate!(this, poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), poll_shutdown(cx))
    }
}
