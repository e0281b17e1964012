//! One shard's UDP socket: many datagrams a system call, in both directions.
//!
//! The only module with `unsafe`. Each block is one call into the kernel, or reading what the kernel has written; every
//! pointer handed over points into a buffer that lives on this screen until the call returns.

#![allow(unsafe_code)]

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

use mio::net::{TcpListener, UdpSocket};

use crate::route::{MAX_SOCKETS, Route};

/// Datagrams received by one system call.
pub(crate) const RECEIVE_BATCH: usize = 64;
/// Messages sent by one system call.
pub(crate) const SEND_BATCH: usize = 64;
/// The largest datagram received whole. Media is at most an Ethernet frame; what is longer is cut, and dropped as
/// malformed.
pub(crate) const MAX_DATAGRAM: usize = 2_048;
/// What is asked of the kernel for each direction. Without CAP_NET_ADMIN it gives what `net.core.rmem_max` and `wmem_max`
/// allow.
pub(crate) const BUFFER_BYTES: libc::c_int = 4 << 20;
/// How long a full send buffer is waited for, once a batch. The network takes megabytes in that time.
const FULL_WAIT: Duration = Duration::from_millis(1);

/// The kernel's share of what waits for a TCP connection.
const TCP_BUFFER_BYTES: libc::c_int = 128 << 10;
/// How often a port that is free on all addresses is looked for.
const FREE_PORT_TRIES: usize = 8;

/// A bound socket.
pub(crate) struct Socket {
    inner: UdpSocket,
    /// Whether the kernel knows UDP segmentation (Linux 4.18).
    segments: bool,
}

/// One or more datagrams to one address, lying one behind the other in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) to: Route,
    /// Where it begins in the arena.
    pub(crate) start: usize,
    /// Bytes of all its datagrams.
    pub(crate) bytes: usize,
    /// Bytes of each of its datagrams; the last may be shorter.
    pub(crate) segment: usize,
}

impl Message {
    /// How many datagrams it is.
    pub(crate) fn datagrams(&self) -> usize {
        self.bytes.div_ceil(self.segment.max(1))
    }
}

/// What became of a batch: datagrams by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// There was no room for them.
    pub(crate) full: u64,
    /// The kernel refused them.
    pub(crate) errors: u64,
    /// Messages that had to go as single datagrams, because the kernel refused to segment them.
    pub(crate) unsegmented: u64,
}

impl Socket {
    /// Binds to `address`, whose family alone it then speaks, and asks for large buffers.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let inner = UdpSocket::from_std(bind(address, libc::SOCK_DGRAM)?.into());
        let fd = inner.as_raw_fd();
        // Past the system's limit if we may, else up to it.
        for (forced, usual) in
            [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
        {
            set_option(fd, libc::SOL_SOCKET, forced, BUFFER_BYTES)
                .or_else(|_| set_option(fd, libc::SOL_SOCKET, usual, BUFFER_BYTES))?;
        }
        let segments = set_option(fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        Ok(Self { inner, segments })
    }

    /// The buffers that the kernel gave, where those are less than asked for: to receive, and to send.
    pub(crate) fn short_buffers(&self) -> (Option<u64>, Option<u64>) {
        let given = |option| {
            // The kernel counts its own book-keeping too, and so says twice what it gives.
            let bytes = option_value(self.inner.as_raw_fd(), libc::SOL_SOCKET, option).ok()? / 2;
            (bytes < BUFFER_BYTES).then_some(bytes.max(0) as u64)
        };
        (given(libc::SO_RCVBUF), given(libc::SO_SNDBUF))
    }

    /// The address it is bound to.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Receives what is there, up to a batch. `WouldBlock` when there is nothing.
    pub(crate) fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.received = 0;
        let mut vectors: [libc::iovec; RECEIVE_BATCH] = [EMPTY_VECTOR; RECEIVE_BATCH];
        // SAFETY: all-zero is a valid `mmsghdr`: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        for (index, header) in headers.iter_mut().enumerate() {
            vectors[index] = libc::iovec {
                iov_base: inbox.bytes[index * MAX_DATAGRAM..].as_mut_ptr().cast(),
                iov_len: MAX_DATAGRAM,
            };
            header.msg_hdr.msg_iov = &mut vectors[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut inbox.addresses[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        // SAFETY: the headers point to `vectors`, `inbox.bytes` (RECEIVE_BATCH × MAX_DATAGRAM bytes) and
        // `inbox.addresses` (RECEIVE_BATCH entries), all alive and not otherwise borrowed until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                self.inner.as_raw_fd(),
                headers.as_mut_ptr(),
                RECEIVE_BATCH as u32,
                0,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in inbox.lengths.iter_mut().zip(&headers[..count]) {
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            *length = if cut { 0 } else { (header.msg_len as usize).min(MAX_DATAGRAM) };
        }
        inbox.received = count;
        Ok(())
    }

    /// Sends `messages`, whose bytes lie in `arena`. What can't be sent is dropped and counted: media is worth nothing
    /// later, and whoever misses it asks again.
    pub(crate) fn send(&self, arena: &[u8], messages: &[Message]) -> Sent {
        let (mut sent, mut rest, mut waited) = (Sent::default(), messages, false);
        while let Some((first, others)) = rest.split_first() {
            match self.send_batch(arena, &rest[..rest.len().min(SEND_BATCH)]) {
                Ok(count) => rest = &rest[count..],
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN | libc::ENOBUFS) if !waited => {
                        waited = true;
                        self.wait_for_room();
                    }
                    Some(libc::EAGAIN | libc::ENOBUFS) => {
                        sent.full += first.datagrams() as u64;
                        rest = others;
                    }
                    // A segment larger than the path takes, a device without checksums, a kernel without the feature:
                    // one by one they may pass.
                    Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP)
                        if first.datagrams() > 1 =>
                    {
                        sent.unsegmented += 1;
                        sent.errors += self.send_singly(arena, first);
                        rest = others;
                    }
                    _ => {
                        sent.errors += first.datagrams() as u64;
                        rest = others;
                    }
                },
            }
        }
        sent
    }

    /// One system call for up to [`SEND_BATCH`] messages. Returns how many of them were taken, at least one; an error is
    /// about the first.
    fn send_batch(&self, arena: &[u8], messages: &[Message]) -> io::Result<usize> {
        if !self.segments && messages[0].datagrams() > 1 {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let mut names: [MaybeUninit<RawAddress>; SEND_BATCH] = [const { MaybeUninit::uninit() }; SEND_BATCH];
        let mut vectors: [libc::iovec; SEND_BATCH] = [EMPTY_VECTOR; SEND_BATCH];
        let mut controls: [Control; SEND_BATCH] = [Control::EMPTY; SEND_BATCH];
        // SAFETY: all-zero is a valid `mmsghdr`: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { mem::zeroed() };
        let mut count = 0;
        for (index, message) in messages.iter().take(SEND_BATCH).enumerate() {
            let bytes = &arena[message.start..message.start + message.bytes];
            vectors[index] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let header = &mut headers[index].msg_hdr;
            header.msg_namelen = RawAddress::write(&mut names[index], message.to.remote);
            header.msg_name = names[index].as_mut_ptr().cast();
            header.msg_iov = &mut vectors[index];
            header.msg_iovlen = 1;
            if message.datagrams() > 1 {
                if !self.segments {
                    break;
                }
                controls[index] = Control::segment(message.segment as u16);
                header.msg_control = (&raw mut controls[index]).cast();
                header.msg_controllen = size_of::<Control>();
            }
            count = index + 1;
        }
        // SAFETY: the first `count` headers point to entries of `names`, `vectors`, `controls` and to `arena`, all alive
        // until the call returns; the kernel only reads them.
        let taken = unsafe { libc::sendmmsg(self.inner.as_raw_fd(), headers.as_mut_ptr(), count as u32, 0) };
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }

    /// Sends each datagram by itself. Returns how many were refused.
    fn send_singly(&self, arena: &[u8], message: &Message) -> u64 {
        let bytes = &arena[message.start..message.start + message.bytes];
        let refused =
            bytes.chunks(message.segment).filter(|one| self.inner.send_to(one, message.to.remote).is_err());
        refused.count() as u64
    }

    fn wait_for_room(&self) {
        let mut poll = libc::pollfd { fd: self.inner.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one `pollfd`, alive until the call returns.
        unsafe { libc::poll(&mut poll, 1, FULL_WAIT.as_millis() as libc::c_int) };
    }
}

/// Sockets on all of `addresses` with one port; with port 0, with one that is free on all of them.
pub(crate) fn bind_all(
    addresses: &[IpAddr],
    port: u16,
) -> Result<(Vec<Socket>, u16), (SocketAddr, io::Error)> {
    on_one_port(addresses, port, |address| {
        let socket = Socket::bind(address)?;
        let port = socket.local_address()?.port();
        Ok((socket, port))
    })
}

/// The same for TCP.
pub(crate) fn listen_all(
    addresses: &[IpAddr],
    port: u16,
) -> Result<(Vec<TcpListener>, u16), (SocketAddr, io::Error)> {
    on_one_port(addresses, port, |address| {
        let listener = listen(address)?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    })
}

fn on_one_port<T>(
    addresses: &[IpAddr],
    port: u16,
    bind: impl Fn(SocketAddr) -> io::Result<(T, u16)>,
) -> Result<(Vec<T>, u16), (SocketAddr, io::Error)> {
    let try_all = || {
        let (mut sockets, mut port) = (Vec::with_capacity(addresses.len()), port);
        for ip in addresses {
            let address = SocketAddr::new(*ip, port);
            let (socket, taken) = bind(address).map_err(|error| (address, error))?;
            port = taken;
            sockets.push(socket);
        }
        Ok((sockets, port))
    };
    let mut bound = try_all();
    // The port that was free on the first may be taken on another.
    for _ in 1..FREE_PORT_TRIES {
        if port != 0 || bound.is_ok() {
            break;
        }
        bound = try_all();
    }
    bound
}

/// Sleeps until one of `sockets` has something to receive, `poll` has something to tell, or `timeout` is over. Calls
/// `readable` with the place of each such socket, and returns whether the poll is one.
///
/// The sockets are not registered with the poll themselves: of a registered one the kernel tells the poll each time that
/// a message has left its send buffer, which is a seventh of what the kernel takes to send one.
pub(crate) fn wait<'a>(
    sockets: impl Iterator<Item = &'a Socket>,
    poll: &impl AsRawFd,
    timeout: Duration,
    mut readable: impl FnMut(usize),
) -> bool {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut entries = [entry(-1); MAX_SOCKETS + 1];
    let mut count = 1;
    entries[0] = entry(poll.as_raw_fd());
    for (place, socket) in entries[1..].iter_mut().zip(sockets) {
        *place = entry(socket.inner.as_raw_fd());
        count += 1;
    }
    let time = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    // SAFETY: the first `count` entries and the time are alive until the call returns; there is no signal mask.
    let ready = unsafe { libc::ppoll(entries.as_mut_ptr(), count, &time, ptr::null()) };
    if ready <= 0 {
        // The time is up; or a signal came, and it is as if it were.
        return false;
    }
    for (place, entry) in entries[1..count as usize].iter().enumerate() {
        // An error waits to be fetched by receiving, too.
        if entry.revents != 0 {
            readable(place);
        }
    }
    entries[0].revents != 0
}

const EMPTY_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// What one call of [`Socket::receive`] has brought.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    addresses: Vec<libc::sockaddr_storage>,
    /// Bytes of each datagram; 0 for one that was too long.
    lengths: [usize; RECEIVE_BATCH],
    received: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        // SAFETY: all-zero is a valid `sockaddr_storage`, of no family.
        let address: libc::sockaddr_storage = unsafe { mem::zeroed() };
        Self {
            bytes: vec![0; RECEIVE_BATCH * MAX_DATAGRAM],
            addresses: vec![address; RECEIVE_BATCH],
            lengths: [0; RECEIVE_BATCH],
            received: 0,
        }
    }

    /// How many datagrams there are.
    pub(crate) fn len(&self) -> usize {
        self.received
    }

    /// One of them, and where it came from.
    pub(crate) fn datagram(&self, index: usize) -> Option<(&[u8], SocketAddr)> {
        let bytes = &self.bytes[index * MAX_DATAGRAM..][..self.lengths[index]];
        Some((bytes, address_from(&self.addresses[index])?))
    }
}

/// An address as the kernel reads it.
#[repr(C)]
union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    fn write(slot: &mut MaybeUninit<Self>, address: SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(v4) => {
                slot.write(Self {
                    v4: libc::sockaddr_in {
                        sin_family: libc::AF_INET as libc::sa_family_t,
                        sin_port: v4.port().to_be(),
                        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                        sin_zero: [0; 8],
                    },
                });
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(v6) => {
                slot.write(Self {
                    v6: libc::sockaddr_in6 {
                        sin6_family: libc::AF_INET6 as libc::sa_family_t,
                        sin6_port: v6.port().to_be(),
                        sin6_flowinfo: v6.flowinfo(),
                        sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                        sin6_scope_id: v6.scope_id(),
                    },
                });
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

fn address_from(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let pointer: *const libc::sockaddr_storage = storage;
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel has written a `sockaddr_in`, which is smaller than the storage
            // and needs no more alignment.
            let v4 = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with `sockaddr_in6`.
            let v6 = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The ancillary message that asks for segmentation: a `cmsghdr`, and the size as `u16`, padded as `CMSG_SPACE` has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    segment: u16,
    padding: [u16; 3],
}

const _: () = assert!(
    // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic.
    size_of::<Control>() == unsafe { libc::CMSG_SPACE(2) } as usize
        && mem::offset_of!(Control, segment) + 2 == unsafe { libc::CMSG_LEN(2) } as usize
);

impl Control {
    const EMPTY: Self = Self::segment(0);

    const fn segment(bytes: u16) -> Self {
        Self {
            header: libc::cmsghdr {
                // SAFETY: CMSG_LEN is arithmetic.
                cmsg_len: unsafe { libc::CMSG_LEN(2) } as usize,
                cmsg_level: libc::SOL_UDP,
                cmsg_type: libc::UDP_SEGMENT,
            },
            segment: bytes,
            padding: [0; 3],
        }
    }
}

/// Connections that wait to be accepted.
const BACKLOG: libc::c_int = 1_024;

/// A listener for TCP that does not block.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(address, libc::SOCK_STREAM)?;
    // SAFETY: no pointers.
    if unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // Connections have it from their listener: little, since what waits there is late.
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, TCP_BUFFER_BYTES)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// A socket that does not block. One that is bound to IPv6 takes no IPv4, so that both may have the same port.
fn bind(address: SocketAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, kind | flags, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if address.is_ipv6() {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    if kind == libc::SOCK_STREAM {
        // A server that starts again must not wait for its former connections' last words.
        set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    }
    let mut name = MaybeUninit::uninit();
    let length = RawAddress::write(&mut name, address);
    // SAFETY: `name` was written, as long as `length` says, and is alive until the call returns.
    if unsafe { libc::bind(fd, name.as_ptr().cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn option_value(fd: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let pointer: *mut libc::c_int = &mut value;
    // SAFETY: `value` and `length` are alive until the call returns, and `length` says how long `value` is.
    let result = unsafe { libc::getsockopt(fd, level, option, pointer.cast(), &mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// The processor time that this thread has used since it began.
pub(crate) fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is alive until the call returns. It can't fail: the clock is there in every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn set_option(fd: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let pointer: *const libc::c_int = &value;
    // SAFETY: `value` is alive until the call returns, and as long as said.
    let result = unsafe {
        libc::setsockopt(fd, level, option, pointer.cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// This machine's own addresses: those of interfaces that are up; link-local ones left out.
pub(crate) fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: on success `list` is a linked list that stays valid until `freeifaddrs`.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: `next` is null or an entry of the list, which is not freed before the loop ends.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        if entry.ifa_flags & libc::IFF_UP as libc::c_uint == 0 || entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: `ifa_addr` points to an address of the family that its first field names; only as many bytes as that
        // family has are copied.
        let address = unsafe {
            let mut storage: libc::sockaddr_storage = mem::zeroed();
            let bytes = match libc::c_int::from((*entry.ifa_addr).sa_family) {
                libc::AF_INET => size_of::<libc::sockaddr_in>(),
                libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
                _ => continue,
            };
            ptr::copy_nonoverlapping(entry.ifa_addr.cast::<u8>(), (&raw mut storage).cast(), bytes);
            address_from(&storage)
        };
        addresses.extend(address.map(|address| address.ip()).filter(|ip| !is_link_local(ip)));
    }
    // SAFETY: `list` came from `getifaddrs` and is not used again.
    unsafe { libc::freeifaddrs(list) };
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive_all(socket: &Socket, expected: usize) -> Vec<(Vec<u8>, SocketAddr)> {
        let (mut inbox, mut all) = (Inbox::new(), Vec::new());
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while all.len() < expected && std::time::Instant::now() < deadline {
            if socket.receive(&mut inbox).is_ok() {
                all.extend((0..inbox.len()).filter_map(|i| inbox.datagram(i)).map(|(b, a)| (b.to_vec(), a)));
            }
        }
        all
    }

    fn pair(address: &str) -> Option<(Socket, Socket)> {
        let bind = || Socket::bind(address.parse().unwrap());
        Some((bind().ok()?, bind().ok()?))
    }

    #[test]
    fn a_segmented_message_arrives_as_single_datagrams_over_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Some((a, b)) = pair(address) else { continue };
            let arena: Vec<u8> = (0..250).collect();
            let to = Route::udp(b.local_address().unwrap());
            let messages = [
                Message { to, start: 0, bytes: 220, segment: 100 },
                Message { to, start: 220, bytes: 30, segment: 30 },
            ];
            for segments in [true, false] {
                let a = Socket { inner: UdpSocket::bind(address.parse().unwrap()).unwrap(), segments };
                let sent = a.send(&arena, &messages);
                assert_eq!(sent, Sent { unsegmented: u64::from(!segments), ..Sent::default() });
                let received = receive_all(&b, 4);
                let lengths: Vec<usize> = received.iter().map(|(bytes, _)| bytes.len()).collect();
                assert_eq!(lengths, [100, 100, 20, 30], "segments: {segments}");
                assert_eq!(received[2].0, arena[200..220]);
                assert_eq!(received[0].1, a.local_address().unwrap());
            }
            drop(a);
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_counted_and_the_rest_goes_on() {
        let (a, b) = pair("127.0.0.1:0").unwrap();
        let arena = vec![7; 70_000];
        let to = Route::udp(b.local_address().unwrap());
        let too_long = Message { to, start: 0, bytes: 70_000, segment: 70_000 };
        let nowhere =
            Message { to: Route::udp("[::1]:9".parse().unwrap()), start: 0, bytes: 10, segment: 10 };
        let good = Message { to, start: 0, bytes: 10, segment: 10 };
        assert_eq!(a.send(&arena, &[too_long, nowhere, good]).errors, 2);
        assert_eq!(receive_all(&b, 1).len(), 1);
    }

    #[test]
    fn a_datagram_that_is_too_long_is_empty() {
        let (a, b) = pair("127.0.0.1:0").unwrap();
        let (arena, to) = (vec![7; 3_000], Route::udp(b.local_address().unwrap()));
        a.send(&arena, &[Message { to, start: 0, bytes: 3_000, segment: 3_000 }]);
        assert_eq!(receive_all(&b, 1)[0].0.len(), 0);
    }

    #[test]
    fn this_machine_has_addresses_and_none_of_one_link_only() {
        let addresses = interface_addresses().unwrap();
        assert!(addresses.iter().any(IpAddr::is_loopback), "{addresses:?}");
        assert!(!addresses.iter().any(is_link_local), "{addresses:?}");
    }
}
