//! What a run leaves on the server while it goes on: a sale that is open, a webhook that is registered. All of it is taken
//! back, whichever way the run ends; and what ends a run from outside is told here.

use std::{
    io, mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use crate::http::{Call, Client};

/// How often it is tried to take something back, and how long is waited in between: a server that was killed may be about
/// to return.
const TRIES: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(1);

/// All of it. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Leftovers(Arc<Mutex<Vec<Leftover>>>);

struct Leftover {
    /// In words, for whoever has to do it by hand.
    what: String,
    /// By which it is taken back.
    call: Call,
}

impl Leftovers {
    /// Something is there from now on.
    pub(crate) fn add(&self, what: String, call: Call) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Leftover { what, call });
    }

    /// Takes everything back, what came last first. Returns what could not be, in words.
    pub(crate) async fn take_back(&self, client: &Client) -> Vec<String> {
        let mut all = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = Vec::new();
        while let Some(Leftover { what, call }) = all.pop() {
            if let Err(why) = take(client, call).await {
                left.push(format!("{what} is still there: {why}"));
            }
        }
        left
    }
}

async fn take(client: &Client, call: Call) -> Result<(), String> {
    let mut tries = 1;
    loop {
        let why = match client.call_shared(call.clone()).await {
            // It is gone, by us or by somebody else.
            Ok(answer) if answer.status.is_success() || matches!(answer.status.as_u16(), 404 | 409 | 410) => {
                return Ok(());
            }
            Ok(answer) if answer.status.is_client_error() => return Err(answer.complaint()),
            Ok(answer) => answer.complaint(),
            Err(error) => error.to_string(),
        };
        if tries >= TRIES {
            return Err(why);
        }
        tries += 1;
        sleep(BETWEEN).await;
    }
}

/// What asks the process to end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on, they end the run and not the process.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. May be dropped while it waits: none is lost.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
