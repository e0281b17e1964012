//! When to stop.

use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that was interrupted (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// SIGINT and SIGTERM, caught from the moment it exists.
pub(crate) struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
}

impl Shutdown {
    /// Starts to listen. Call it early: until then, a signal ends the process at once.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits until the server should stop, and returns the signal's name. From then on a second signal ends the
    /// process at once, for operators who can't wait for the drain.
    pub(crate) async fn asked(mut self) -> &'static str {
        let name = self.next().await;
        tokio::spawn(async move {
            self.next().await;
            process::exit(INTERRUPTED);
        });
        name
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
