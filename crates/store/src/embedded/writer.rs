//! The thread that makes groups durable, and then answers who waited for them.
//!
//! The journal goes to it with each group and comes back when that is written: whoever has it is the only one.

use std::{io, sync::mpsc, thread};

use haul_commerce::GateError;
use tokio::sync::mpsc::WeakSender;

use super::{calls::Pending, owner::Message};
use crate::journal::{CommitError, Group, Journal};

/// What becomes durable at once, and the answers that wait for it. An empty group is durable as it is.
#[derive(Default)]
pub(super) struct Work {
    pub(super) group: Group,
    pub(super) pending: Vec<Pending>,
}

impl Work {
    pub(super) fn answer(self) {
        self.pending.into_iter().for_each(Pending::give);
    }

    pub(super) fn refuse(self, error: &GateError) {
        self.pending.into_iter().for_each(|answer| answer.refuse(error.clone()));
    }
}

/// The journal after its group was written. After an error it must be opened again.
pub(super) type Done = Result<Journal, GateError>;

/// Then the owner dies, too: who asks is told that the gate has ended.
const DIED: &str = "the journal's thread has ended";

pub(super) struct Writer {
    /// `None` only while being dropped: closing it ends the thread.
    work: Option<mpsc::Sender<(Journal, Work)>>,
    done: mpsc::Receiver<Done>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// `owner` is woken each time that something was written.
    pub(super) fn start(owner: WeakSender<Message>) -> io::Result<Self> {
        let (work, works) = mpsc::channel::<(Journal, Work)>();
        let (dones, done) = mpsc::channel();
        let write = move || {
            for (journal, work) in works {
                let done = write(journal, work);
                if dones.send(done).is_err() {
                    return;
                }
                // Where the queue is full, the owner looks for itself before it takes the next.
                if let Some(owner) = owner.upgrade() {
                    let _ = owner.try_send(Message::WriterIsIdle);
                }
            }
        };
        let thread = thread::Builder::new().name("haul-journal".to_owned()).spawn(write)?;
        Ok(Self { work: Some(work), done, thread: Some(thread) })
    }

    pub(super) fn write(&self, journal: Journal, work: Work) {
        let works = self.work.as_ref().expect("closed by dropping only");
        works.send((journal, work)).unwrap_or_else(|_| panic!("{DIED}"));
    }

    /// The journal, if what was given last is written.
    pub(super) fn done(&self) -> Option<Done> {
        match self.done.try_recv() {
            Ok(done) => Some(done),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => panic!("{DIED}"),
        }
    }

    /// Waits for what is being written.
    pub(super) fn await_done(&self) -> Done {
        self.done.recv().expect(DIED)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn write(mut journal: Journal, work: Work) -> Done {
    let committed = if work.group.is_empty() { Ok(()) } else { journal.commit(&work.group) };
    let error = match committed {
        Ok(()) => {
            work.answer();
            return Ok(journal);
        }
        Err(CommitError::Undone(error)) => GateError::Unavailable(format!("writing the journal: {error}")),
        Err(CommitError::Unclear(error)) => GateError::Unknown(format!("writing the journal: {error}")),
    };
    work.refuse(&error);
    Err(error)
}
