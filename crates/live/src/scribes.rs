//! Those who write what a whole room is told.
//!
//! Told one by one, thousands of connections' tasks would each be woken for a single write. Here a few tasks, as many as
//! there are threads to run them, walk down the readers and write to each what goes without waiting. What does not, and
//! whatever else there is to a connection, stays with its own task.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::mpsc;

use crate::connection::Inbox;

/// Readers written to in one go; then others on the thread have their turn.
const READERS_A_TURN: usize = 32;
/// Readers whose state is fetched from memory together, each while the others' is on its way: of thousands, little of it is
/// near the processor any more when their turn comes, and waiting for one after the other costs a third of a write.
pub(crate) const READERS_AT_HAND: usize = 8;
/// Readers that are worth a task beside another.
const READERS_A_SCRIBE: usize = 64;
/// Tasks of one room at most; larger machines have other rooms, too.
const MAX_SCRIBES: usize = 16;

/// How a reader's lines are written from outside of their connection's task.
pub trait Pen: fmt::Debug + Send + Sync {
    /// Writes of what waits as much as goes without waiting. False: the connection's task has something to do.
    fn write(&self, inbox: &Inbox) -> bool;

    /// Looks at what writing needs, and no more: it is near when [`Pen::write`] comes.
    fn reach(&self);
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
            readers.chunks(READERS_AT_HAND).for_each(write);
            tokio::task::yield_now().await;
        }
    }
}

fn write(readers: &[Inbox]) {
    readers.iter().for_each(Inbox::reach);
    let pens: [Option<Arc<dyn Pen>>; READERS_AT_HAND] =
        std::array::from_fn(|place| readers.get(place).and_then(Inbox::pen));
    pens.iter().flatten().for_each(|pen| pen.reach());
    for (reader, pen) in readers.iter().zip(pens) {
        // A defect that shows with one reader is not to be everybody's: their task meets it, and ends.
        if catch_unwind(AssertUnwindSafe(|| reader.write(pen.as_deref()))).is_err() {
            reader.look_again();
        }
    }
}
