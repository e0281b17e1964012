//! Those who write what a whole room is told.
//!
//! Told one by one, thousands of connections' tasks would each be woken for a single write. Here a few tasks, as many as
//! there are threads to run them, walk down the readers and write to each what goes without waiting. What does not, and
//! whatever else there is to a connection, stays with its own task.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tokio::sync::mpsc;

use crate::connection::Inbox;

/// Readers written to in one go; then others on the thread have their turn.
const READERS_A_TURN: usize = 32;
/// Readers that are worth a task beside another.
const READERS_A_SCRIBE: usize = 64;
/// Tasks of one room at most; larger machines have other rooms, too.
const MAX_SCRIBES: usize = 16;

/// How a reader's lines are written from outside of their connection's task.
pub trait Pen: fmt::Debug + Send + Sync {
    /// Writes of what waits as much as goes without waiting. False: the connection's task has something to do.
    fn write(&self, inbox: &Inbox) -> bool;
}

/// The tasks of one room. They end with it.
#[derive(Debug, Default)]
pub(crate) struct Scribes {
    /// Nobody waits in them twice (`Inbox::summon`), so there are never more waiting than readers.
    queues: Vec<mpsc::UnboundedSender<Vec<Inbox>>>,
}

impl Scribes {
    /// Has them write to all of these.
    pub(crate) fn write(&mut self, readers: &mut Vec<Inbox>) {
        if readers.is_empty() {
            return;
        }
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let scribes = readers.len().div_ceil(READERS_A_SCRIBE).min(threads).clamp(1, MAX_SCRIBES);
        let share = readers.len().div_ceil(scribes);
        for number in 0.. {
            if readers.is_empty() {
                break;
            }
            let share = readers.split_off(readers.len() - share.min(readers.len()));
            if self.queues.len() <= number {
                let (queue, rounds) = mpsc::unbounded_channel();
                tokio::spawn(scribe(rounds));
                self.queues.push(queue);
            }
            // A scribe goes on for as long as there is its queue.
            let _ = self.queues[number].send(share);
        }
    }
}

async fn scribe(mut rounds: mpsc::UnboundedReceiver<Vec<Inbox>>) {
    while let Some(readers) = rounds.recv().await {
        for readers in readers.chunks(READERS_A_TURN) {
            for reader in readers {
                // A defect that shows with one reader is not to be everybody's: their task meets it, and ends.
                if catch_unwind(AssertUnwindSafe(|| reader.write())).is_err() {
                    reader.look_again();
                }
            }
            tokio::task::yield_now().await;
        }
    }
}
