//! A server to load, the harness to load it with, and the report that comes of it.

#![allow(dead_code, unreachable_pub)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
};

use serde_json::Value;

/// A directory that goes with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("haul-loadtest-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program of this workspace, beside the harness: `cargo test --workspace` builds them all.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_haul-loadtest")).with_file_name(name);
    assert!(path.exists(), "{} is not built: cargo build -p haul -p haul-test-link", path.display());
    path
}

/// A child process that ends with its owner.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server with its demo live.
pub struct Server {
    process: Process,
    pub base: String,
    pub udp_port: u16,
    pub token: String,
    settings: Vec<(&'static str, String)>,
    dir: Scratch,
}

/// A port that is free for UDP and for TCP.
fn free_moq_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

impl Server {
    /// With one media port, so that one relay can stand before it; with Media over QUIC, and webhooks to this machine.
    pub fn start() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let udp_port = loop {
            // Below the range that the system gives out by itself.
            let offset = NEXT.fetch_add(1, Ordering::Relaxed) % 1_000;
            let candidate = 28_000 + (std::process::id() % 40) as u16 * 100 + offset;
            if UdpSocket::bind(("0.0.0.0", candidate)).is_ok() {
                break candidate;
            }
        };
        let dir = Scratch::new();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let data = dir.path().join("data").to_str().unwrap().to_owned();
        let moq_port = free_moq_port();
        let settings: Vec<(&str, String)> = vec![
            ("HAUL__DATA_DIR", data),
            ("HAUL__HTTP__LISTEN", format!("127.0.0.1:{port}")),
            ("HAUL__MEDIA__UDP_PORT", udp_port.to_string()),
            ("HAUL__MEDIA__SHARDS", "1".to_owned()),
            ("HAUL__MEDIA__PUBLIC_ADDRESSES", "127.0.0.1".to_owned()),
            ("HAUL__MOQ__LISTEN", format!("127.0.0.1:{moq_port}")),
            ("HAUL__WEBHOOKS__ALLOW_PRIVATE", "true".to_owned()),
        ];
        let child = Command::new(program("haul"))
            .envs(settings.clone())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process = Process(child);
        let mut token = String::new();
        for line in BufReader::new(process.0.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, rest)) = line.split_once("/studio/demo#token=") {
                token = rest.trim().to_owned();
            }
            if line.contains("/metrics") {
                break;
            }
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(!token.is_empty(), "the server did not start: {log}");
        Self { process, base: format!("http://127.0.0.1:{port}"), udp_port, token, settings, dir }
    }

    /// What a command of the server's says, such as `key --name x`.
    pub fn says(&self, command: &[&str]) -> String {
        let output =
            Command::new(program("haul")).args(command).envs(self.settings.clone()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// A shell command that starts it again, with all that it knows.
    pub fn start_command(&self) -> String {
        let settings: Vec<String> =
            self.settings.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
        format!("env {} {}", settings.join(" "), program("haul").display())
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// The sum of a counter over its labels; only lines that contain `with`.
    pub fn counter(&self, name: &str, with: &str) -> f64 {
        let text =
            ureq::get(format!("{}/metrics", self.base)).call().unwrap().body_mut().read_to_string().unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(with));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Server {
    fn list(&self, path: &str, token: &str) -> Value {
        let answer = ureq::get(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {token}"))
            .call();
        serde_json::from_str(&answer.unwrap().body_mut().read_to_string().unwrap()).unwrap()
    }

    /// How many of the demo live's sales are not over: it has one of its own.
    pub fn sales_that_go_on(&self) -> usize {
        let sales = self.list("/v1/lives/demo/sales", &self.token);
        sales["sales"].as_array().unwrap().iter().filter(|sale| sale["state"] != "closed").count()
    }

    /// How many webhooks are registered.
    pub fn webhooks(&self, key: &str) -> usize {
        self.list("/v1/webhooks", key)["webhooks"].as_array().unwrap().len()
    }
}

/// A run that goes on.
pub struct Running {
    process: Process,
    log: PathBuf,
    _dir: Scratch,
}

impl Running {
    pub fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.0.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.process.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end. Returns all that it has said.
    pub fn end(mut self) -> String {
        self.process.0.wait().unwrap();
        self.text()
    }
}

/// Begins a run of a scenario that is given as text.
pub fn begin(scenario: &str, target: &str, token: &str, more: &[&str]) -> Running {
    let dir = Scratch::new();
    let (path, log) = (dir.path().join("scenario.toml"), dir.path().join("said"));
    fs::write(&path, scenario).unwrap();
    let file = fs::File::create(&log).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_haul-loadtest"))
        .arg("run")
        .arg(path)
        .args(["--target", target, "--token", token, "--threads", "1"])
        .args(more)
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    Running { process: Process(child), log, _dir: dir }
}

/// What a run has said.
pub struct Outcome {
    pub code: i32,
    pub text: String,
    pub report: Value,
    pub page: String,
}

impl Outcome {
    pub fn measure(&self, name: &str) -> f64 {
        let value = self.report["measures"][name].as_f64();
        value.unwrap_or_else(|| panic!("{name} was not measured:\n{}", self.text))
    }

    /// The levels that did not hold.
    pub fn broken(&self) -> Vec<String> {
        let levels = self.report["levels"].as_array().unwrap().iter();
        let broken = levels.filter(|level| level["holds"] == false);
        broken.map(|level| level["level"].as_str().unwrap().to_owned()).collect()
    }
}

/// Runs a scenario, given as text or as the name of a shipped one, and reads its report.
pub fn run(scenario: &str, target: &str, token: &str, more: &[&str]) -> Outcome {
    run_with(scenario, &[&["--target", target, "--token", token], more].concat())
}

/// Runs a scenario against whatever the arguments name.
pub fn run_with(scenario: &str, arguments: &[&str]) -> Outcome {
    let dir = Scratch::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../configs/loadtest/{scenario}.toml"));
    let path = if scenario.contains('\n') {
        let path = dir.path().join("scenario.toml");
        fs::write(&path, scenario).unwrap();
        path
    } else {
        shipped
    };
    let output = Command::new(env!("CARGO_BIN_EXE_haul-loadtest"))
        .arg("run")
        .arg(path)
        .args(arguments)
        .arg("--report")
        .arg(dir.path())
        .args(["--threads", "1"])
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let report =
        fs::read_to_string(dir.path().join("report.json")).unwrap_or_else(|_| panic!("no report:\n{text}"));
    Outcome {
        code: output.status.code().unwrap_or(-1),
        report: serde_json::from_str(&report).unwrap(),
        page: fs::read_to_string(dir.path().join("report.html")).unwrap(),
        text,
    }
}
