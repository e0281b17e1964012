//! What breaks, on this machine: commands that a scenario runs, and processes that it kills and has started again.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use crate::{cli, pool::Complaints, scenario::Victim};

/// A process that may be killed.
#[derive(Debug, Clone, Default)]
struct Target {
    /// 0: none is known.
    pid: Arc<AtomicU32>,
    start: Option<String>,
}

impl Target {
    fn new(pid: Option<u32>, start: Option<&String>) -> Self {
        Self { pid: Arc::new(pid.unwrap_or(0).into()), start: start.cloned() }
    }
}

/// What can be broken.
pub(crate) struct Faults {
    server: Target,
    redis: Target,
    complaints: Arc<Complaints>,
    /// What has happened, for the report.
    news: UnboundedSender<String>,
}

impl Faults {
    pub(crate) fn new(
        options: &cli::Run,
        complaints: Arc<Complaints>,
        news: UnboundedSender<String>,
    ) -> Self {
        let server = Target::new(options.server_pid, options.server_start.as_ref());
        let redis = Target::new(options.redis_pid, options.redis_start.as_ref());
        Self { server, redis, complaints, news }
    }

    /// The server's process, as it is now.
    pub(crate) fn server_pid(&self) -> Option<u32> {
        Some(self.server.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Runs a command.
    pub(crate) fn run(&self, name: String, command: String) {
        let (complaints, pid) = (self.complaints.clone(), self.server_pid());
        std::thread::spawn(move || {
            let mut shell = Command::new("sh");
            shell.args(["-c", &command]).stdin(Stdio::null());
            if let Some(pid) = pid {
                shell.env("HAUL_PID", pid.to_string());
            }
            match shell.status() {
                Ok(status) if status.success() => {}
                Ok(status) => complaints.add(&format!("the fault {name:?} ended with {status}")),
                Err(error) => complaints.add(&format!("the fault {name:?}: {error}")),
            }
        });
    }

    /// Kills a process, and starts it again after a while.
    pub(crate) fn kill(&self, victim: Victim, down: Duration) {
        let (target, what) = match victim {
            Victim::Server => (self.server.clone(), "the server"),
            Victim::Redis => (self.redis.clone(), "Redis"),
        };
        let (complaints, news) = (self.complaints.clone(), self.news.clone());
        let pid = target.pid.load(Ordering::Relaxed);
        if let Err(error) = kill(pid) {
            return complaints.add(&format!("killing {what} ({pid}): {error}"));
        }
        tokio::spawn(async move {
            tokio::time::sleep(down).await;
            match target.start.as_deref().map(|command| start(command, what, &complaints)) {
                Some(Ok(pid)) => {
                    target.pid.store(pid, Ordering::Relaxed);
                    // Nobody listens once the run is over.
                    let _ = news.send(format!("{what} was started again as process {pid}"));
                }
                Some(Err(error)) => complaints.add(&format!("starting {what} again: {error}")),
                None => {}
            }
        });
    }
}

fn kill(pid: u32) -> io::Result<()> {
    // 0 would be everybody around us.
    if pid == 0 {
        return Err(io::Error::other("its id was not given"));
    }
    let status = Command::new("sh").args(["-c", "kill -KILL \"$0\"", &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

/// What ends so soon after it was started was no server.
const ENDED_AT_ONCE: Duration = Duration::from_secs(3);

/// Starts a process that outlives the harness: it is the one under test, and not ours to end. What it says is its own
/// affair: the command may lead it somewhere.
fn start(command: &str, what: &str, complaints: &Arc<Complaints>) -> io::Result<u32> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]).process_group(0);
    let mut child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let pid = child.id();
    let (begun, what, complaints) = (Instant::now(), what.to_owned(), complaints.clone());
    // Somebody has to take note of its end.
    std::thread::spawn(move || {
        let ended = child.wait();
        if let Ok(status) = ended
            && begun.elapsed() < ENDED_AT_ONCE
        {
            complaints
                .add(&format!("{what}, started again, ended at once with {status}: is the command right?"));
        }
    });
    Ok(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine;

    #[test]
    fn what_ends_at_once_is_told() {
        let complaints = Arc::new(Complaints::default());
        start("false", "the server", &complaints).unwrap();
        while complaints.list().is_empty() {
            std::thread::yield_now();
        }
        assert!(
            complaints.list()[0].0.contains("ended at once with exit status: 1"),
            "{:?}",
            complaints.list()
        );
    }

    #[tokio::test]
    async fn a_process_is_killed_and_started_again_under_its_new_id() {
        let complaints = Arc::new(Complaints::default());
        let first = start("sleep 1000", "the server", &complaints).unwrap();
        let (news, mut told) = tokio::sync::mpsc::unbounded_channel();
        let target = Target::new(Some(first), Some(&"sleep 1000".to_owned()));
        let faults =
            Faults { server: target, redis: Target::default(), complaints: complaints.clone(), news };
        faults.kill(Victim::Server, Duration::ZERO);
        let text = told.recv().await.unwrap();
        let second = faults.server_pid().unwrap();
        assert!(second != first && text.ends_with(&format!("process {second}")), "{text}");
        // The kernel takes a moment to put it away.
        let settled = async {
            while machine::memory_bytes(first).unwrap_or(0) > 0 || machine::memory_bytes(second).is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap();
        kill(second).unwrap();
        faults.kill(Victim::Redis, Duration::ZERO);
        let told = complaints.list();
        assert!(told.iter().any(|(what, _)| what.starts_with("killing Redis")), "{told:?}");
    }
}
