//! A network between a client and the server, which can be changed for another: the client's address changes with it.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::server::Server;

/// Stands in the place of one client's router.
pub struct Nat {
    shared: Arc<Shared>,
    /// What the client takes for the server's port.
    pub port: u16,
}

struct Shared {
    inner: UdpSocket,
    /// As the server sees the client.
    outer: Mutex<UdpSocket>,
    /// The client, and the server's port that it speaks to.
    ends: Mutex<(Option<SocketAddr>, u16)>,
    over: AtomicBool,
}

const LOOK: Duration = Duration::from_millis(20);

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LOOK)).unwrap();
    socket
}

impl Nat {
    pub fn new(server: &Server) -> Self {
        let inner = socket();
        let port = inner.local_addr().unwrap().port();
        let (outer, ends) = (Mutex::new(socket()), Mutex::new((None, server.udp_port)));
        let shared = Arc::new(Shared { inner, outer, ends, over: AtomicBool::new(false) });
        for carry in [Shared::carry_out, Shared::carry_in] {
            let shared = shared.clone();
            thread::spawn(move || carry(&shared));
        }
        Self { shared, port }
    }

    /// Puts itself into an answer's candidates, in the place of the server.
    pub fn rewrite(&self, answer: &str) -> String {
        let mut words = answer.lines().find(|line| line.starts_with("a=candidate:")).unwrap().split(' ');
        let port = words.nth(5).unwrap();
        self.shared.ends.lock().unwrap().1 = port.parse().unwrap();
        let own = format!("127.0.0.1 {} typ host", self.port);
        let candidate = |line: &str| {
            let head: Vec<&str> = line.split(' ').take(4).collect();
            format!("{} {own}\r\n", head.join(" "))
        };
        let lines = answer.lines().map(|line| match line.starts_with("a=candidate:") {
            true => candidate(line),
            false => format!("{line}\r\n"),
        });
        lines.collect()
    }

    /// From now on the client has another address. What comes to the old one is lost.
    pub fn change_network(&self) {
        *self.shared.outer.lock().unwrap() = socket();
    }
}

impl Shared {
    fn carry_out(&self) {
        let mut buffer = [0; 2_048];
        while !self.over.load(Ordering::SeqCst) {
            let Ok((length, client)) = self.inner.recv_from(&mut buffer) else { continue };
            let mut ends = self.ends.lock().unwrap();
            ends.0 = Some(client);
            let _ = self.outer.lock().unwrap().send_to(&buffer[..length], ("127.0.0.1", ends.1));
        }
    }

    fn carry_in(&self) {
        let mut buffer = [0; 2_048];
        while !self.over.load(Ordering::SeqCst) {
            // A clone, so that nobody waits for a lock while this waits for a datagram.
            let outer = self.outer.lock().unwrap().try_clone().unwrap();
            let Ok((length, _)) = outer.recv_from(&mut buffer) else { continue };
            if let Some(client) = self.ends.lock().unwrap().0 {
                let _ = self.inner.send_to(&buffer[..length], client);
            }
        }
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }
}
