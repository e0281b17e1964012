//! What the tests of the stores share: directories, a clock that is set by hand, servers of their own.

// Each test file uses a part of it.
#![allow(dead_code)]

pub(crate) mod databases;
pub(crate) mod postgres;

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use haul_commerce::LiveRef;
use haul_model::UnixMillis;
use haul_store::{RedisGate, RedisOptions};

/// A directory that is removed at the end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("haul-store-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A clock that stands until it is set.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn at(now: UnixMillis) -> Self {
        Self(Arc::new(AtomicU64::new(now.0)))
    }

    pub(crate) fn set(&self, now: UnixMillis) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    pub(crate) fn read(&self) -> impl Fn() -> UnixMillis + Send + Sync + 'static {
        let now = self.0.clone();
        move || UnixMillis(now.load(Ordering::SeqCst))
    }
}

/// A name that no other test and no earlier run used.
pub(crate) fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{what}-{}-{since}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A live that no other test and no earlier run used: the Redis of `HAUL_TEST_REDIS_URL` may have seen others.
pub(crate) fn unique_live() -> LiveRef {
    LiveRef { merchant: "main".parse().unwrap(), live: unique("test").parse().unwrap() }
}

/// What it acknowledged is there when it is started again.
const KEEPING: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A Redis server: that of `HAUL_TEST_REDIS_URL`, where a few small sales stay behind, or one that is started, and
/// killed at the end.
pub(crate) struct TestRedis {
    pub(crate) url: String,
    port: u16,
    own: Option<(Child, TempDir)>,
    /// How it is started, beside its port and its directory.
    arguments: Vec<String>,
}

impl TestRedis {
    /// Any server will do.
    pub(crate) fn any() -> Self {
        match env::var("HAUL_TEST_REDIS_URL") {
            Ok(url) => Self { url, port: 0, own: None, arguments: Vec::new() },
            Err(_) => Self::own(),
        }
    }

    /// A server that may be killed and started again; it keeps what it acknowledged.
    pub(crate) fn own() -> Self {
        Self::with(&KEEPING)
    }

    /// A server that writes nothing down: killed and started again, it is empty.
    pub(crate) fn forgetful() -> Self {
        Self::with(&["--appendonly", "no"])
    }

    /// One node of a cluster that is to be made.
    pub(crate) fn node() -> Self {
        let cluster = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
        ];
        Self::with(&[&KEEPING[..], &cluster[..]].concat())
    }

    /// A server with these arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let dir = TempDir::new();
        // Between looking for a free port and using it, another test may take it.
        let (port, child) = (0..10)
            .find_map(|_| {
                let port = free_port();
                start(port, &dir, &arguments).map(|child| (port, child))
            })
            .expect("one of ten ports is free");
        Self { url: format!("redis://127.0.0.1:{port}"), port, own: Some((child, dir)), arguments }
    }

    pub(crate) fn kill(&mut self) {
        let (child, _) = self.own.as_mut().expect("only an own server is killed");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        let (child, dir) = self.own.as_mut().expect("only an own server is started");
        *child = start(self.port, dir, &self.arguments).expect("the port was this server's before");
    }

    /// Stops it without ending it, or lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let (child, _) = self.own.as_ref().expect("only an own server is stopped");
        let status = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// The answer to one command.
    pub(crate) async fn ask(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut self.connection().await).await
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(&*self.url).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// A gate by the server's own clock, which waits long: a busy machine is no fault here.
    pub(crate) async fn gate(&self) -> RedisGate {
        RedisGate::connect_with(&self.url, patient()).await.unwrap()
    }

    /// A gate whose clock is a key of this name, which the test sets.
    pub(crate) async fn gate_with_clock(&self, key: &str) -> RedisGate {
        let clock = format!("local function clock() return tonumber(redis.call('GET', '{key}')) end");
        RedisGate::connect_with(
            &self.url,
            RedisOptions { clock: clock.into(), watch_clock: false, ..patient() },
        )
        .await
        .unwrap()
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn patient() -> RedisOptions {
    RedisOptions { response_timeout: Duration::from_secs(30), ..RedisOptions::default() }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that answers on `port`; `None` where it ended instead, since the port is taken.
fn start(port: u16, dir: &TempDir, arguments: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(arguments)
        .arg("--dir")
        .arg(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "these tests need a Redis server: install redis-server, or set HAUL_TEST_REDIS_URL ({error})"
            )
        });
    let deadline = Instant::now() + Duration::from_secs(20);
    while !answers(port, child.id()) {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(Instant::now() < deadline, "redis-server on port {port} does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(child)
}

/// Whether the server on `port` is process `id`, and not another test's.
fn answers(port: u16, id: u32) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut text = String::new();
    let read = stream.write_all(b"INFO server\r\nQUIT\r\n").and_then(|()| stream.read_to_string(&mut text));
    read.is_ok() && text.contains(&format!("process_id:{id}\r\n"))
}
