//! A server process of a test's own, with its data in a directory that goes with it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinHandle};

/// How long anything may take before a test gives up; far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Ports below the range that the system gives out by itself.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
static NEXT_DIR: AtomicU32 = AtomicU32::new(0);

/// A directory that is removed with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("haul-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child process that ends with its owner.
pub struct Process(pub Child);

impl Process {
    /// Sends it a signal by name: `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the process does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A name that no other test and no earlier run used.
pub fn unique(what: &str) -> String {
    let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("{what}-{}-{since}-{number}", std::process::id())
}

/// Ports that nobody uses now: one for TCP, and `udp` in a row for UDP.
pub fn free_ports(udp: u16) -> (u16, u16) {
    let tcp = free_port();
    loop {
        let offset = NEXT_PORT.fetch_add(udp, Ordering::Relaxed) % 8_000;
        let first = 20_000 + (std::process::id() % 50) as u16 * 8 + offset;
        if (first..first + udp).all(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok()) {
            return (tcp, first);
        }
    }
}

/// A running server.
pub struct Server {
    process: Process,
    pub port: u16,
    pub udp_port: u16,
    pub data: Scratch,
    pub host_token: String,
    env: Vec<(String, String)>,
}

impl Server {
    /// A server on embedded defaults, with the demo live.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with `HAUL__…` variables over it.
    pub fn start_with(env: &[(&str, &str)]) -> Self {
        let (port, udp_port) = free_ports(2);
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self::run(Scratch::new(), port, udp_port, env)
    }

    fn run(data: Scratch, port: u16, udp_port: u16, env: Vec<(String, String)>) -> Self {
        let mut process = command(data.path())
            .env("HAUL__HTTP__LISTEN", format!("127.0.0.1:{port}"))
            .env("HAUL__MEDIA__UDP_PORT", udp_port.to_string())
            .env("HAUL__MEDIA__SHARDS", "2")
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdout(Stdio::piped())
            .spawn()
            .map(Process)
            .unwrap();
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let mut host_token = String::new();
        for line in &mut lines {
            let line = line.unwrap();
            if let Some((_, token)) = line.split_once("/studio/demo#token=") {
                host_token = token.trim().to_owned();
            }
            if line.contains("/metrics") {
                break;
            }
        }
        assert!(!host_token.is_empty(), "the server did not start: {}", log(data.path()));
        Self { process, port, udp_port, data, host_token, env }
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Runs `haul reconcile` beside it and gives what it prints and its exit code.
    pub fn reconcile(&self, live: &str) -> (String, Option<i32>) {
        let env = self.env.iter().map(|(key, value)| (key, value));
        let done = command(self.data.path()).envs(env).args(["reconcile", "--live", live]).output().unwrap();
        (String::from_utf8_lossy(&done.stdout).into_owned(), done.status.code())
    }

    /// Its ledger.
    pub fn ledger_url(&self) -> String {
        if let Some((_, url)) = self.env.iter().find(|(key, _)| key == "HAUL__STORE__LEDGER_URL") {
            return url.clone();
        }
        format!("sqlite://{}", self.data.path().join("data/haul.db").display())
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        log(self.data.path())
    }

    /// Ends it at once; what it has written stays.
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait();
    }

    /// Ends it at once, as a power cut would, and starts it again with the same data.
    pub fn crash_and_restart(mut self) -> Self {
        self.process.signal("KILL");
        self.process.wait();
        self.restart()
    }

    /// The same, with something awaited while it is down.
    pub async fn crash_and_restart_with(mut self, meanwhile: impl AsyncFnOnce()) -> Self {
        self.process.signal("KILL");
        self.process.wait();
        meanwhile().await;
        self.restart()
    }

    /// The same, with something done while it is down.
    pub fn crash_meanwhile(mut self, meanwhile: impl FnOnce()) -> Self {
        self.process.signal("KILL");
        self.process.wait();
        meanwhile();
        self.restart()
    }

    /// Asks it to end and starts it again with the same data. Returns how it ended, too.
    pub fn stop_and_restart(mut self) -> (ExitStatus, Self) {
        let status = self.stop();
        (status, self.restart())
    }

    /// Asks it to end, as Ctrl-C does.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal("INT");
        self.process.wait()
    }

    fn restart(self) -> Self {
        let Self { data, port, udp_port, env, .. } = self;
        Self::run(data, port, udp_port, env)
    }
}

/// The binary, with its data and its log in `dir`. `HAUL_BINARY` names another one than was built with these tests.
pub fn command(dir: &Path) -> Command {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let binary = std::env::var_os("HAUL_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_haul").into());
    let mut command = Command::new(binary);
    command.env("HAUL__DATA_DIR", dir.join("data")).stderr(log).stdin(Stdio::null()).current_dir(dir);
    command
}

fn log(dir: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = std::fs::File::open(dir.join("log")) {
        let _ = file.read_to_string(&mut text);
    }
    text
}

/// A Redis of a test's own.
pub struct Redis {
    process: Option<Process>,
    port: u16,
    dir: Scratch,
    keeps: bool,
    /// Its configuration, beside what is said here.
    config: Option<PathBuf>,
    env: Vec<(String, String)>,
}

impl Redis {
    pub fn start() -> Self {
        Self::run(true, &[])
    }

    /// One that keeps nothing over a restart.
    pub fn forgetful() -> Self {
        Self::run(false, &[])
    }

    /// One with this in its environment.
    pub fn start_with(env: &[(&str, String)]) -> Self {
        Self::run(true, env)
    }

    fn run(keeps: bool, env: &[(&str, String)]) -> Self {
        let (port, _) = free_ports(0);
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut redis = Self { process: None, port, dir: Scratch::new(), keeps, config: None, env };
        redis.resume();
        redis
    }

    /// One with this configuration, but for its port and its directory.
    pub fn configured(config: &Path) -> Self {
        let config = Some(config.to_owned());
        let (port, dir) = (free_port(), Scratch::new());
        let mut redis = Self { process: None, port, dir, keeps: true, config, env: Vec::new() };
        redis.resume();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a command and gives the first line of the answer.
    pub fn ask(&self, command: &str) -> String {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a command and gives the text that it answers with; empty for none.
    pub fn bulk(&self, command: &str) -> String {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        BufReader::new(stream).read_to_string(&mut text).unwrap();
        text.lines().nth(1).filter(|_| text.starts_with('$')).unwrap_or_default().to_owned()
    }

    /// Becomes a replica of another, and has all that it has.
    pub fn follow(&self, primary: &Redis) {
        assert_eq!(self.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port)), "+OK");
    }

    /// Stops without ending: connections stay open and nothing is answered.
    pub fn stall(&self) {
        self.process.as_ref().unwrap().signal("STOP");
    }

    /// Answers again.
    pub fn go_on(&self) {
        self.process.as_ref().unwrap().signal("CONT");
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("KILL");
            process.wait();
        }
    }

    /// Loses what it has written, while it is down.
    pub fn forget(&mut self) {
        assert!(self.process.is_none());
        self.dir = Scratch::new();
    }

    pub fn resume(&mut self) {
        let mut command = Command::new("redis-server");
        match &self.config {
            Some(config) => drop(command.arg(config)),
            None => {
                let keeps = if self.keeps { "yes" } else { "no" };
                command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", keeps]);
                command.args(["--appendfsync", "always"]);
            }
        }
        let child = command
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(self.dir.path())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        self.process = Some(Process(child));
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "Redis does not start");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// An address that stands for one server and later for another, as that of a managed Redis does.
pub struct Proxy {
    port: u16,
    target: watch::Sender<u16>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let target = watch::Sender::new(port);
        let seen = target.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut turned = seen.clone();
                let port = *turned.borrow_and_update();
                tokio::spawn(async move {
                    let Ok(mut server) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = turned.changed() => {}
                    }
                });
            }
        });
        Self { port: own, target, task }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends all connections; new ones lead elsewhere.
    pub fn turn_to(&self, port: u16) {
        self.target.send_replace(port);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks `what` again until it is true.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
