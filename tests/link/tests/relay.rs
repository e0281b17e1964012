//! The relay from outside: two clients, one server, and a link that changes while they talk.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Lines, Write},
    net::{SocketAddr, UdpSocket},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(10);

struct Relay {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Relay {
    fn start(to: SocketAddr, options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_haul-test-link"))
            .args(["--to", &to.to_string()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = output.next().unwrap().unwrap();
        let address = first.strip_prefix("listening ").unwrap().parse().unwrap();
        Self { input: process.stdin.take(), process, output, address }
    }

    fn say(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.output.next().unwrap().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_048];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

#[test]
fn each_client_gets_the_servers_answers_to_it() {
    let server = socket();
    let mut relay = Relay::start(server.local_addr().unwrap(), &["--down", "delay=20ms"]);
    let clients = [socket(), socket()];
    for (name, client) in [b"one", b"two"].into_iter().zip(&clients) {
        client.send_to(name, relay.address).unwrap();
        let (bytes, from) = receive(&server);
        assert_eq!(bytes, name);
        let asked = Instant::now();
        server.send_to(&bytes, from).unwrap();
        assert_eq!(receive(client), (name.to_vec(), relay.address));
        assert!(asked.elapsed() >= Duration::from_millis(20));
    }
    let stats = relay.say("stats");
    assert!(stats.starts_with(r#"{"clients":2,"strangers":0,"up":{"pushed":2,"forwarded":2,"#), "{stats}");
}

#[test]
fn the_link_changes_when_told_and_the_relay_ends_with_its_input() {
    let server = socket();
    let mut relay = Relay::start(server.local_addr().unwrap(), &["--up", "loss=1"]);
    let client = socket();
    client.send_to(b"lost", relay.address).unwrap();
    let until = Instant::now() + PATIENCE;
    while !relay.say("stats").contains(r#""dropped_by_loss":1"#) {
        assert!(Instant::now() < until, "the first datagram never came");
    }
    assert_eq!(relay.say("up loss=0"), "ok");
    client.send_to(b"found", relay.address).unwrap();
    assert_eq!(receive(&server).0, b"found");
    assert!(relay.say("both rate=fast").starts_with("error: "));
    assert!(relay.say("away").starts_with("error: "));
    drop(relay.input.take());
    assert!(relay.process.wait().unwrap().success());
}
