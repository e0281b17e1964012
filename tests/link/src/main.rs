//! A UDP relay that behaves like a link: clients send to it instead of to the server.
//!
//! ```text
//! haul-test-link --to 127.0.0.1:7000 [--listen 127.0.0.1:0] [--seed 1] [--up WORDS] [--down WORDS]
//! ```
//!
//! Prints `listening ADDRESS`, then obeys lines on its input: `up WORDS`, `down WORDS` and `both WORDS` change the link
//! (see [`Profile::with`]) and are answered `ok`, `stats` is answered with a line of JSON, what is wrong with `error: …`.
//! Ends with its input. All clients share the link, as the people of one house do. The server sees an address of its own
//! for each client.

use std::{
    collections::HashMap,
    error::Error,
    io::{BufRead, Write},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use haul_test_link::{Direction, Link, Profile, Stats};

/// Datagrams that may wait for the loop; behind them the sockets' own buffers fill, and then the system drops.
const EVENTS: usize = 4_096;
/// The most clients. What further ones send is ignored and counted.
const CLIENTS: usize = 256;
/// The largest datagram.
const DATAGRAM: usize = 65_536;
/// How long the loop sleeps when nothing is under way.
const IDLE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let Options { listen, to, seed, up, down } = Options::parse(std::env::args().skip(1))?;
    let clients_socket = Arc::new(UdpSocket::bind(listen)?);
    let (sender, events) = mpsc::sync_channel(EVENTS);
    read(clients_socket.clone(), sender.clone(), Event::FromClient);
    read_lines(sender.clone());
    let mut relay = Relay {
        to,
        sender,
        up: Link::new(up, seed),
        // Not the same losses in both directions.
        down: Link::new(down, seed ^ 0xD0),
        upstream: HashMap::new(),
        strangers: 0,
        clients_socket,
    };
    say(&format!("listening {}", relay.clients_socket.local_addr()?));
    loop {
        let now = Instant::now();
        relay.forward(now);
        let wait = relay.poll_timeout().map_or(IDLE, |at| at.saturating_duration_since(now));
        match events.recv_timeout(wait) {
            Ok(Event::Line(line)) => say(&relay.obey(&line)),
            Ok(Event::InputEnded) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(Event::FromClient(client, bytes)) => relay.take(client, bytes),
            Ok(Event::FromServer(client, bytes)) => {
                relay.down.push(Instant::now(), Datagram { client, bytes })
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

struct Options {
    listen: SocketAddr,
    to: SocketAddr,
    seed: u64,
    up: Profile,
    down: Profile,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut listen, mut to, mut seed) = (SocketAddr::from(([127, 0, 0, 1], 0)), None, 1);
        let (mut up, mut down) = (Profile::default(), Profile::default());
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--listen" => listen = value.parse()?,
                "--to" => to = Some(value.parse()?),
                "--seed" => seed = value.parse()?,
                "--up" => up = up.with(&value)?,
                "--down" => down = down.with(&value)?,
                _ => return Err(format!("unknown: {name}").into()),
            }
        }
        Ok(Self { listen, to: to.ok_or("--to ADDRESS is needed")?, seed, up, down })
    }
}

enum Event {
    FromClient(SocketAddr, Vec<u8>),
    /// The server has sent something to the upstream socket of this client.
    FromServer(SocketAddr, Vec<u8>),
    Line(String),
    InputEnded,
}

/// What travels, and whose it is.
#[derive(Clone)]
struct Datagram {
    client: SocketAddr,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Datagram {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Relay {
    to: SocketAddr,
    sender: SyncSender<Event>,
    up: Link<Datagram>,
    down: Link<Datagram>,
    clients_socket: Arc<UdpSocket>,
    /// A socket for each client, by which the server knows it. Bounded by [`CLIENTS`].
    upstream: HashMap<SocketAddr, Arc<UdpSocket>>,
    /// Datagrams of clients beyond that.
    strangers: u64,
}

impl Relay {
    fn poll_timeout(&self) -> Option<Instant> {
        self.up.poll_timeout().into_iter().chain(self.down.poll_timeout()).min()
    }

    /// Sends what has arrived. What a socket refuses is lost, as on any network.
    fn forward(&mut self, now: Instant) {
        while let Some(Datagram { client, bytes }) = self.up.poll(now) {
            if let Some(socket) = self.upstream.get(&client) {
                let _ = socket.send(&bytes);
            }
        }
        while let Some(Datagram { client, bytes }) = self.down.poll(now) {
            let _ = self.clients_socket.send_to(&bytes, client);
        }
    }

    fn take(&mut self, client: SocketAddr, bytes: Vec<u8>) {
        if !self.upstream.contains_key(&client) {
            match self.connect() {
                Ok(socket) => {
                    read(socket.clone(), self.sender.clone(), move |_, bytes| {
                        Event::FromServer(client, bytes)
                    });
                    self.upstream.insert(client, socket);
                }
                Err(_) => {
                    self.strangers += 1;
                    return;
                }
            }
        }
        self.up.push(Instant::now(), Datagram { client, bytes });
    }

    fn connect(&self) -> std::io::Result<Arc<UdpSocket>> {
        if self.upstream.len() == CLIENTS {
            return Err(std::io::ErrorKind::QuotaExceeded.into());
        }
        let socket = UdpSocket::bind(SocketAddr::new(self.clients_socket.local_addr()?.ip(), 0))?;
        socket.connect(self.to)?;
        Ok(Arc::new(socket))
    }

    /// Does what a line says; returns the answer.
    fn obey(&mut self, line: &str) -> String {
        let (command, words) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let directions: &[Direction] = match command {
            "up" => &[Direction::Up],
            "down" => &[Direction::Down],
            "both" => &[Direction::Up, Direction::Down],
            "stats" => return self.stats(),
            _ => return format!("error: not understood: {command:?} (known: up down both stats)"),
        };
        for direction in directions {
            let link = match direction {
                Direction::Up => &mut self.up,
                Direction::Down => &mut self.down,
            };
            match link.profile().with(words) {
                Ok(profile) => link.set_profile(Instant::now(), profile),
                Err(error) => return format!("error: {error}"),
            }
        }
        "ok".to_owned()
    }

    fn stats(&self) -> String {
        let (clients, strangers) = (self.upstream.len(), self.strangers);
        let (up, down) = (json(&self.up), json(&self.down));
        format!(r#"{{"clients":{clients},"strangers":{strangers},"up":{up},"down":{down}}}"#)
    }
}

fn json(link: &Link<Datagram>) -> String {
    let Stats {
        pushed,
        forwarded,
        forwarded_bytes,
        dropped_by_queue,
        dropped_by_loss,
        duplicated,
        reordered,
    } = link.stats();
    let queued_bytes = link.queued_bytes();
    format!(
        r#"{{"pushed":{pushed},"forwarded":{forwarded},"forwarded_bytes":{forwarded_bytes},"queued_bytes":{queued_bytes},"dropped_by_queue":{dropped_by_queue},"dropped_by_loss":{dropped_by_loss},"duplicated":{duplicated},"reordered":{reordered}}}"#
    )
}

/// Reads a socket on a thread of its own, for as long as the process lives.
fn read(
    socket: Arc<UdpSocket>,
    sender: SyncSender<Event>,
    event: impl Fn(SocketAddr, Vec<u8>) -> Event + Send + 'static,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            // Errors here tell that an earlier datagram found nobody; the next one may.
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            if sender.send(event(from, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
}

fn read_lines(sender: SyncSender<Event>) {
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(Event::Line(line)).is_err() {
                return;
            }
        }
        let _ = sender.send(Event::InputEnded);
    });
}

/// Prints a line at once; whoever started this waits for it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
