//! A slow line in front of a server, made of a link in virtual time that a thread carries datagrams through.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use haul_test_link::{Link, Profile};
use tokio::net::TcpSocket;

/// How often it is looked what has come and what is due.
const TURN: Duration = Duration::from_micros(500);

/// A line in front of servers, that clients share: one at each port.
pub struct Line {
    pub ports: Vec<u16>,
    over: Arc<AtomicBool>,
}

/// Where one of the clients sends to, from where that goes on, and where the client is.
struct End {
    here: UdpSocket,
    there: UdpSocket,
    client: Option<SocketAddr>,
}

impl End {
    fn before(server: u16) -> Self {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        there.connect(("127.0.0.1", server)).unwrap();
        for socket in [&here, &there] {
            socket.set_nonblocking(true).unwrap();
        }
        Self { here, there, client: None }
    }
}

impl Line {
    /// A line to this port, for one client, each way as the words say (`haul_test_link::Profile`).
    pub fn start(to: u16, down: &str, up: &str) -> Self {
        Self::shared(&[to], down, up)
    }

    /// The same to each of these ports, for a client each: all of them together have what the words say.
    pub fn shared(to: &[u16], down: &str, up: &str) -> Self {
        let mut ends: Vec<_> = to.iter().map(|server| End::before(*server)).collect();
        let ports = ends.iter().map(|end| end.here.local_addr().unwrap().port()).collect();
        let over = Arc::new(AtomicBool::new(false));
        let profile = |words: &str| Profile::default().with(words).unwrap();
        let (mut down, mut up) = (Link::new(profile(down), 1), Link::new(profile(up), 2));
        let ended = over.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            // Behind each datagram is said whose it is: a byte more.
            let tagged = |bytes: &[u8], whose: usize| [bytes, &[whose as u8]].concat();
            while !ended.load(Relaxed) {
                let now = Instant::now();
                for (whose, end) in ends.iter_mut().enumerate() {
                    while let Ok((size, from)) = end.here.recv_from(&mut buffer) {
                        end.client = Some(from);
                        up.push(now, tagged(&buffer[..size], whose));
                    }
                    while let Ok(size) = end.there.recv(&mut buffer) {
                        down.push(now, tagged(&buffer[..size], whose));
                    }
                }
                while let Some(mut datagram) = up.poll(now) {
                    let end = &ends[usize::from(datagram.pop().unwrap())];
                    let _ = end.there.send(&datagram);
                }
                while let Some(mut datagram) = down.poll(now) {
                    let end = &ends[usize::from(datagram.pop().unwrap())];
                    if let Some(client) = end.client {
                        let _ = end.here.send_to(&datagram, client);
                    }
                }
                std::thread::sleep(TURN);
            }
        });
        Self { ports, over }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

/// How much a narrow line carries at once, and about the most that the kernel keeps in front of it.
const SIP_BYTES: usize = 4096;

/// A line of TCP in front of a server, for one client: what the server sends passes at this rate. Ends with the connection.
pub async fn narrow(server: SocketAddr, bytes_a_second: u32) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SIP_BYTES as u32).unwrap();
    let server = socket.connect(server).await.unwrap().into_std().unwrap();
    server.set_nonblocking(false).unwrap();
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = here.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = here.accept().unwrap();
        let (mut from, mut there) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut there);
            let _ = there.shutdown(Shutdown::Both);
        });
        let (mut from, began, mut passed) = (server, Instant::now(), 0);
        let mut sip = [0; SIP_BYTES];
        while let Ok(size) = from.read(&mut sip) {
            if size == 0 || client.write_all(&sip[..size]).is_err() {
                break;
            }
            passed += size as u64;
            let due = began + Duration::from_micros(passed * 1_000_000 / u64::from(bytes_a_second));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let _ = client.shutdown(Shutdown::Both);
    });
    address
}
