//! One client's connection, plain or TLS, and when it has been of no use for too long.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
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
    silence: Silence,
    /// When we last wrote to it. Kept apart, since moving the timer at every write would cost more than looking once.
    written_at: Option<Instant>,
}

pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn new(transport: Transport, place: OwnedSemaphorePermit) -> Self {
        Self { transport, _place: place, silence: Silence::begin(), written_at: None }
    }

    /// Its two directions where it is plain, so that it can be written to from several places; itself where it is not.
    pub(crate) fn split(self) -> Result<(Reading, OwnedWriteHalf), Box<Self>> {
        match self {
            Self { transport: Transport::Plain(tcp), _place, silence, .. } => {
                let (half, writing) = tcp.into_split();
                Ok((Reading { half, _place, silence }, writing))
            }
            secret => Err(Box::new(secret)),
        }
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
}

/// Looks whether a connection is still of use.
struct Silence {
    look_at: Pin<Box<Sleep>>,
}

impl Silence {
    fn begin() -> Self {
        Self { look_at: Box::pin(sleep(FIRST_ANSWER_WITHIN)) }
    }

    /// Ready when nothing was written for too long.
    fn poll(&mut self, cx: &mut Context<'_>, written_at: Option<Instant>) -> Poll<()> {
        loop {
            ready!(self.look_at.as_mut().poll(cx));
            match written_at.map(|at| at + SILENT_FOR) {
                Some(due) if due > Instant::now() => self.look_at.as_mut().reset(due),
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// What a plain client's bytes are read from, where others write to it.
pub(crate) struct Reading {
    half: OwnedReadHalf,
    /// Given back when the connection closes.
    _place: OwnedSemaphorePermit,
    silence: Silence,
}

impl Reading {
    /// As [`AsyncRead::poll_read`]; `written_at` says when the connection was last written to.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        written_at: impl FnOnce() -> Instant,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.half).poll_read(cx, buffer) {
            return Poll::Ready(read);
        }
        self.silence.poll(cx, Some(written_at())).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
        this.silence.poll(cx, this.written_at).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
