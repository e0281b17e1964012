//! The servers under measurement: processes of their own.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::UdpSocket,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use haul_quic::{Congestion, Limits};

use crate::{client, house};

/// As which this program is a server: `as-server ENDPOINTS CONGESTION`.
pub const ROLE: &str = "as-server";

pub struct Server {
    child: Child,
    pub ports: Vec<u16>,
    /// It wants to see tokens. The relay refuses whoever shows one where it lets everybody in.
    wants_tokens: bool,
}

impl Server {
    /// Ours.
    pub fn ours(words: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(ROLE)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ports = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Self { child, ports, wants_tokens: true }
    }

    /// The ecosystem's own relay, if it is there.
    pub fn theirs() -> Option<Self> {
        let program = std::env::var("HAUL_MOQ_RELAY").ok()?;
        // Free a moment ago: nobody else on this machine wants it now.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let child = Command::new(program)
            .args(["--listen", &listen, "--listen-tls-generate", "localhost", "--auth-public", "**"])
            .args(["--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, ports: vec![port], wants_tokens: false })
    }

    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// What somebody asks for in this role: path and query.
    pub fn target(&self, role: &str) -> String {
        if self.wants_tokens { format!("/demo?jwt={role}") } else { "/demo".to_owned() }
    }

    /// Processor time of all its threads so far, in seconds.
    pub fn cpu(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let used = tasks.filter_map(|task| {
            // Nanoseconds on a processor, nanoseconds waiting for one, turns.
            let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<f64>().ok()
        });
        used.sum::<f64>() / 1e9
    }

    pub fn resident_bytes(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    }

    /// Waits until it has seen off who has left: nothing more is done for them.
    pub async fn deserted(&self) {
        let mut before = self.cpu();
        client::eventually("the server is idle", async || {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = self.cpu();
            now - std::mem::replace(&mut before, now) < 0.01
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until its input ends, and tells its ports.
pub fn run(words: &[String]) -> ExitCode {
    let endpoints: usize = words.first().map_or(1, |count| count.parse().unwrap());
    let congestion = match words.get(1).map(String::as_str) {
        None => Congestion::default(),
        Some("cubic") => Congestion::Cubic,
        Some("newreno") => Congestion::NewReno,
        Some("discerning") => Congestion::Discerning,
        Some("bbr") => Congestion::Bbr,
        Some(other) => panic!("no congestion controller is called {other}"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _edges = runtime.block_on(async {
        let door = house::Door::new();
        let mut edges = Vec::new();
        for _ in 0..endpoints {
            edges.push(house::open(&door, congestion, Limits::default()).await);
        }
        let ports: Vec<_> = edges.iter().map(|edge| edge.address().port().to_string()).collect();
        println!("{}", ports.join(" "));
        edges
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}
