//! A client: the least that a websocket takes, so that thousands fit beside what is measured.

use std::net::SocketAddr;

use haul_gateway::auth::{Authority, Claims, Shop};
use haul_model::Role;
use tokio::net::{TcpSocket, TcpStream};

use crate::server::{LIVE, SECRET};

/// What a key of a handshake looks like (RFC 6455, 4.1); nobody checks what it says.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a slow reader lets the kernel keep for it.
const SLOW_BUFFER: u32 = 4 * 1024;

/// Connects and upgrades.
pub(crate) async fn open(port: u16, slow: bool) -> TcpStream {
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let socket = TcpSocket::new_v4().unwrap();
    if slow {
        socket.set_recv_buffer_size(SLOW_BUFFER).unwrap();
    }
    let stream = socket.connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let head = format!(
        "GET /channel/{LIVE} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    write(&stream, head.as_bytes()).await;
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    // Nothing follows the head: the server waits for hello.
    while !answer.ends_with(b"\r\n\r\n") {
        stream.readable().await.unwrap();
        match stream.try_read(&mut buffer) {
            Ok(0) => panic!("closed: {}", String::from_utf8_lossy(&answer)),
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

pub(crate) async fn write(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.writable().await.unwrap(),
            // The server has closed: the reader sees it, too.
            Err(_) => return,
        }
    }
}

/// Tokens of people with numbers; number 0 is the host.
pub(crate) fn token(authority: &Authority, number: usize) -> String {
    let now = haul_live::now().wall;
    let claims = Claims {
        sub: format!("viewer_{number:06}").parse().unwrap(),
        live: LIVE.parse().unwrap(),
        role: if number == 0 { Role::Host } else { Role::Viewer },
        name: format!("Viewer {number}"),
        shop: Shop::default(),
        exp: now + std::time::Duration::from_secs(3_600),
    };
    authority.mint(claims, now)
}

pub(crate) fn authority() -> Authority {
    Authority::new(SECRET)
}

/// Adds a client's text frame (RFC 6455, 5.2), masked with zeros.
pub(crate) fn put_text(frames: &mut Vec<u8>, text: &str) {
    frames.push(0x81);
    match text.len() {
        short @ ..=125 => frames.push(0x80 | short as u8),
        long => {
            frames.push(0x80 | 126);
            frames.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    frames.extend_from_slice(&[0; 4]);
    frames.extend_from_slice(text.as_bytes());
}

/// A server's frames, out of what is read.
#[derive(Default)]
pub(crate) struct Frames {
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
}

impl Frames {
    /// Hands each whole frame on: its first byte, its payload, its bytes in all.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(u8, &[u8], usize)) {
        if self.rest.is_empty() {
            let taken = walk(bytes, &mut each);
            self.rest.extend_from_slice(&bytes[taken..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let taken = walk(&self.rest, &mut each);
            self.rest.drain(..taken);
        }
    }
}

fn walk(bytes: &[u8], each: &mut impl FnMut(u8, &[u8], usize)) -> usize {
    let mut at = 0;
    loop {
        let frame = &bytes[at..];
        let (head, payload) = match frame {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            [_, 127, length @ ..] if length.len() >= 8 => {
                (10, u64::from_be_bytes(length[..8].try_into().unwrap()) as usize)
            }
            [_, short @ ..=125, ..] => (2, usize::from(*short)),
            _ => return at,
        };
        let Some(text) = frame.get(head..head + payload) else { return at };
        each(frame[0], text, head + payload);
        at += head + payload;
    }
}
