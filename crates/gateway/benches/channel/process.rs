//! A process of the benchmark: told what to do a line at a time, it answers with a line.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub(crate) struct Process {
    child: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The port it listens on; 0 where it does not.
    pub(crate) port: u16,
}

impl Process {
    /// This program in another role. It says its port first.
    pub(crate) fn start(role: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let words = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, words, answers, port: 0 };
        process.port = process.answer()[0] as u16;
        process
    }

    /// Has it do something, and waits for the numbers that it answers with.
    pub(crate) fn ask(&mut self, words: &str) -> Vec<f64> {
        self.say(words);
        self.answer()
    }

    pub(crate) fn say(&mut self, words: &str) {
        writeln!(self.words, "{words}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> Vec<f64> {
        let mut line = String::new();
        assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "a process of the benchmark has failed");
        line.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    /// Processor time of all its threads so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let used = tasks.filter_map(|task| {
            // Nanoseconds on a processor, nanoseconds waiting for one, turns.
            let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<f64>().ok()
        });
        used.sum::<f64>() / 1e9
    }

    /// Its memory, in KB.
    pub(crate) fn rss_kb(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// A counter of its `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
