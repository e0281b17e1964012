//! The limit: what it costs to copy packets, seal them with AES-128-GCM and hand them to the kernel as UDP GSO messages,
//! 64 a system call, with nothing else done. No server that encrypts each viewer's packets is quicker on this kernel. Other
//! ways to hand them over can be tried (see the bench `handover`).

#![allow(unsafe_code)]

use std::{
    mem,
    net::{SocketAddr, UdpSocket},
    ops::Range,
    os::fd::AsRawFd,
    ptr,
};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use io_uring::{IoUring, opcode, types};

use super::Shape;

/// How packets are handed to the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Handover {
    /// By io_uring instead of `sendmmsg`.
    pub ring: bool,
    /// Messages a system call.
    pub batch: usize,
    /// The most datagrams in a message.
    pub segments: usize,
    /// The bytes after which a system call is made, whatever the batch.
    pub arena: usize,
}

impl Handover {
    /// As the server does it.
    pub const OURS: Self = Self { ring: false, batch: 64, segments: 64, arena: 512 << 10 };
}

const HEADER: usize = 12;
const TAG: usize = 16;
const SEND_BUFFER: libc::c_int = 4 << 20;

/// The loop and its viewers.
pub struct Limit {
    way: Handover,
    ring: Option<IoUring>,
    socket: UdpSocket,
    targets: Vec<Target>,
    arena: Vec<u8>,
    used: usize,
    messages: usize,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
}

struct Target {
    address: libc::sockaddr_in,
    key: LessSafeKey,
    salt: [u8; 12],
    ssrc: u32,
    sequence: u64,
    timestamp: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    segment: u16,
    padding: [u16; 3],
}

impl Limit {
    pub fn new(addresses: &[SocketAddr]) -> Self {
        Self::handing_over(addresses, Handover::OURS)
    }

    pub fn handing_over(addresses: &[SocketAddr], way: Handover) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let size: *const libc::c_int = &SEND_BUFFER;
        // SAFETY: the value is a constant, as long as said.
        let set = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, size.cast(), 4)
        };
        assert_eq!(set, 0);
        // SAFETY: all-zero is a valid value of these: null pointers and zero lengths.
        let (header, vector): (libc::mmsghdr, libc::iovec) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let control = Control {
            header: libc::cmsghdr {
                // SAFETY: arithmetic.
                cmsg_len: unsafe { libc::CMSG_LEN(2) } as usize,
                cmsg_level: libc::SOL_UDP,
                cmsg_type: libc::UDP_SEGMENT,
            },
            segment: 0,
            padding: [0; 3],
        };
        Self {
            way,
            ring: way.ring.then(|| IoUring::new(way.batch as u32).unwrap()),
            socket,
            targets: addresses
                .iter()
                .enumerate()
                .map(|(index, address)| Target::new(index, *address))
                .collect(),
            arena: vec![0; way.arena],
            used: 0,
            messages: 0,
            headers: vec![header; way.batch],
            vectors: vec![vector; way.batch],
            controls: vec![control; way.batch],
        }
    }

    /// Sends one frame to everybody, in the same runs as the server would.
    pub fn frame(&mut self, shape: &Shape) {
        let runs = runs(&shape.packets, self.way.segments);
        for index in 0..self.targets.len() {
            self.targets[index].timestamp += 3_000;
            for run in &runs {
                self.run(index, &shape.packets[run.clone()]);
            }
        }
        self.flush();
    }

    fn run(&mut self, index: usize, packets: &[Bytes]) {
        let bytes: usize = packets.iter().map(|payload| HEADER + payload.len() + TAG).sum();
        if self.messages == self.way.batch || self.used + bytes > self.way.arena {
            self.flush();
        }
        let (start, target) = (self.used, &mut self.targets[index]);
        for payload in packets {
            let length = HEADER + payload.len() + TAG;
            target.seal(payload, &mut self.arena[self.used..self.used + length]);
            self.used += length;
        }
        let message = self.messages;
        self.messages += 1;
        self.vectors[message] =
            libc::iovec { iov_base: self.arena[start..].as_mut_ptr().cast(), iov_len: self.used - start };
        let header = &mut self.headers[message].msg_hdr;
        header.msg_name = (&raw mut target.address).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = &mut self.vectors[message];
        header.msg_iovlen = 1;
        (header.msg_control, header.msg_controllen) = (ptr::null_mut(), 0);
        if packets.len() > 1 {
            self.controls[message].segment = (HEADER + packets[0].len() + TAG) as u16;
            header.msg_control = (&raw mut self.controls[message]).cast();
            header.msg_controllen = size_of::<Control>();
        }
    }

    fn flush(&mut self) {
        if let Some(ring) = &mut self.ring {
            for header in &self.headers[..self.messages] {
                let entry = opcode::SendMsg::new(types::Fd(self.socket.as_raw_fd()), &header.msg_hdr).build();
                // SAFETY: what the headers point to has not moved since, and stays until all are completed below.
                unsafe { ring.submission().push(&entry).unwrap() };
            }
            ring.submit_and_wait(self.messages).unwrap();
            let completed =
                ring.completion().inspect(|entry| assert!(entry.result() > 0, "{entry:?}")).count();
            assert_eq!(completed, self.messages);
            (self.messages, self.used) = (0, 0);
            return;
        }
        let mut done = 0;
        while done < self.messages {
            let (fd, rest) = (self.socket.as_raw_fd(), (self.messages - done) as u32);
            // SAFETY: the first `messages` headers point to entries of `targets`, `vectors`, `controls` and `arena`,
            // none of which has moved since.
            let sent = unsafe { libc::sendmmsg(fd, self.headers[done..].as_mut_ptr(), rest, 0) };
            assert!(sent > 0, "{}", std::io::Error::last_os_error());
            done += sent as usize;
        }
        (self.messages, self.used) = (0, 0);
    }
}

impl Target {
    fn new(index: usize, address: SocketAddr) -> Self {
        let SocketAddr::V4(v4) = address else { panic!("the clients' sockets are of IPv4") };
        let key = [index as u8; 16];
        Self {
            address: libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            },
            key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap()),
            salt: [index as u8; 12],
            ssrc: index as u32 * 7_919,
            sequence: 100,
            timestamp: index as u32,
        }
    }

    fn seal(&mut self, payload: &[u8], packet: &mut [u8]) {
        let end = packet.len() - TAG;
        packet[..2].copy_from_slice(&[0x80, 96]);
        packet[2..4].copy_from_slice(&(self.sequence as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        packet[HEADER..end].copy_from_slice(payload);
        let mut nonce = self.salt;
        let unique = u64::from(self.ssrc) << 32 | self.sequence;
        nonce[4..].iter_mut().zip(unique.to_be_bytes()).for_each(|(byte, with)| *byte ^= with);
        self.sequence += 1;
        let (clear, tag) = packet.split_at_mut(end);
        let (header, body) = clear.split_at_mut(HEADER);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), body).unwrap();
        tag.copy_from_slice(sealed.as_ref());
    }
}

/// Up to so many packets of equal length, of which the last may be shorter.
fn runs(packets: &[Bytes], most: usize) -> Vec<Range<usize>> {
    let (mut runs, mut start) = (Vec::new(), 0);
    for index in 1..=packets.len() {
        let goes_on = packets.get(index).is_some_and(|next| {
            let length = packets[start].len();
            packets[index - 1].len() == length
                && next.len() <= length
                && (index - start + 1) * (length + 28) <= 65_000
        });
        if !goes_on || index - start == most {
            runs.push(start..index);
            start = index;
        }
    }
    runs
}
