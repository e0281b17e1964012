//! Viewers' UDP sockets: many datagrams a system call, and what the kernel had no room for; and what else only the kernel
//! knows, such as how wide a terminal is.
//!
//! The harness' only module with `unsafe`. Each block is one call into the kernel, or reading what the kernel has
//! written; every pointer handed over points into a buffer that lives on this screen until the call returns.

#![allow(unsafe_code)]

use std::{io, mem, net::SocketAddr, os::fd::AsRawFd, ptr};

use mio::net::UdpSocket;

/// Messages received by one system call. With GRO, each is a run of datagrams: a whole picture as a rule.
const BATCH: usize = 8;
/// Bytes of a message at most: the largest run the kernel makes.
const MAX_RUN: usize = 65_536;
/// What is asked of the kernel for each socket's queue. It gives what `net.core.rmem_max` allows.
const BUFFER_BYTES: libc::c_int = 1 << 20;
/// `SK_MEMINFO_DROPS` of `SO_MEMINFO`, and how many values there are (linux/sock_diag.h).
const DROPS: usize = 8;
const MEMINFO: usize = 9;
/// `UDP_GRO` (linux/udp.h).
const UDP_GRO: libc::c_int = 104;

/// Room for what one call of [`receive`] brings; one a thread.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Of each message: its bytes, and those of each of its datagrams.
    messages: Vec<(usize, usize)>,
    from: Vec<Option<SocketAddr>>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BATCH * MAX_RUN], messages: Vec::new(), from: Vec::new() }
    }

    /// Every datagram, to be changed in place, and where it came from.
    pub(crate) fn datagrams(&mut self) -> impl Iterator<Item = (&mut [u8], SocketAddr)> {
        let runs = self.bytes.chunks_mut(MAX_RUN).zip(&self.messages).zip(&self.from);
        runs.filter_map(|((run, sizes), from)| Some((run, *sizes, (*from)?))).flat_map(
            |(run, (bytes, segment), from)| {
                run[..bytes].chunks_mut(segment).map(move |datagram| (datagram, from))
            },
        )
    }
}

/// Binds a viewer's socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // Without them it works too, only with more system calls or smaller queues.
    let _ = set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER_BYTES);
    let _ = set_option(&socket, libc::SOL_UDP, UDP_GRO, 1);
    Ok(socket)
}

/// Makes a sender's messages leave as datagrams of one size, cut by the kernel (UDP GSO).
pub(crate) fn send_in_segments(socket: &std::net::UdpSocket, bytes: u16) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, bytes.into())
}

/// Receives what is there, up to a batch. Returns whether there may be more.
pub(crate) fn receive(socket: &UdpSocket, inbox: &mut Inbox) -> io::Result<bool> {
    inbox.messages.clear();
    inbox.from.clear();
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    // SAFETY: all-zero is a valid value of these plain C structs.
    let (mut headers, mut names): ([libc::mmsghdr; BATCH], [libc::sockaddr_storage; BATCH]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    // A cmsghdr and an int, as CMSG_SPACE has it, aligned for the header.
    let mut controls = [[0_u64; 4]; BATCH];
    for (index, header) in headers.iter_mut().enumerate() {
        vectors[index] =
            libc::iovec { iov_base: inbox.bytes[index * MAX_RUN..].as_mut_ptr().cast(), iov_len: MAX_RUN };
        header.msg_hdr.msg_iov = &mut vectors[index];
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut names[index]).cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_hdr.msg_control = (&raw mut controls[index]).cast();
        header.msg_hdr.msg_controllen = size_of_val(&controls[index]);
    }
    // SAFETY: the headers point to `vectors`, `names`, `controls` and `inbox.bytes` (BATCH × MAX_RUN bytes), all alive
    // and not otherwise borrowed until the call returns.
    let count =
        unsafe { libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as u32, 0, ptr::null_mut()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    for (header, name) in headers[..count].iter().zip(&names) {
        let bytes = (header.msg_len as usize).min(MAX_RUN);
        inbox.messages.push((bytes, segment(&header.msg_hdr).unwrap_or(bytes).max(1)));
        inbox.from.push(address(name));
    }
    Ok(count == BATCH)
}

/// The size of each datagram of a run, if the kernel says that it is one.
fn segment(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has filled the control buffer and set its length; the macros stay within it.
    let control = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    if control.cmsg_level != libc::SOL_UDP || control.cmsg_type != UDP_GRO {
        return None;
    }
    // SAFETY: a control message of this type holds an int, perhaps not aligned.
    let size = unsafe { libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned() };
    usize::try_from(size).ok().filter(|size| *size > 0)
}

fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let pointer: *const libc::sockaddr_storage = storage;
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel has written a `sockaddr_in`, which is smaller than the storage.
            let v4 = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            Some((v4.sin_addr.s_addr.to_ne_bytes(), u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with `sockaddr_in6`.
            let v6 = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            Some((v6.sin6_addr.s6_addr, u16::from_be(v6.sin6_port)).into())
        }
        _ => None,
    }
}

/// Datagrams that the socket's queue had no room for, since it was bound.
pub(crate) fn drops(socket: &UdpSocket) -> u64 {
    let mut values = [0_u32; MEMINFO];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: `values` and `length` are alive until the call returns, and as long as said.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result == 0 { u64::from(values[DROPS]) } else { 0 }
}

/// How many columns the terminal has that this leads to; `None` if it leads to none, or to one that doesn't know.
pub(crate) fn columns(terminal: &impl AsRawFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is alive until the call returns, and of the type that TIOCGWINSZ writes.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: `value` is alive until the call returns, and as long as said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, std::net::UdpSocket) {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(socket.local_addr().unwrap()).unwrap();
        (socket, sender)
    }

    #[test]
    fn datagrams_of_any_size_come_apart_as_they_were_sent() {
        let (socket, sender) = pair();
        let sent: Vec<Vec<u8>> = [1, 1_200, 700, 2_048, 3].map(|size| vec![size as u8; size]).into();
        for datagram in &sent {
            sender.send(datagram).unwrap();
        }
        let (mut inbox, mut got) = (Inbox::new(), Vec::new());
        while got.len() < sent.len() {
            receive(&socket, &mut inbox).unwrap();
            let from = sender.local_addr().unwrap();
            got.extend(inbox.datagrams().map(|(datagram, who)| {
                assert_eq!(who, from);
                datagram.to_vec()
            }));
        }
        assert_eq!(got, sent);
        assert_eq!(receive(&socket, &mut inbox).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_no_terminal_has_no_columns() {
        assert_eq!(columns(&std::fs::File::open("/dev/null").unwrap()), None);
    }

    #[test]
    fn what_there_was_no_room_for_is_counted() {
        let (socket, sender) = pair();
        assert_eq!(drops(&socket), 0);
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 4_096).unwrap();
        for _ in 0..100 {
            sender.send(&[0; 1_000]).unwrap();
        }
        assert!(drops(&socket) > 50, "{}", drops(&socket));
    }
}
