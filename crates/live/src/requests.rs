//! The queue of what an owner is asked: what concerns money and what staff asks goes before what viewers say, however much
//! of that waits.

use tokio::sync::mpsc;

use crate::live::Command;

/// Requests waiting for an owner; more make their senders wait.
pub(crate) const MAX_REQUESTS_WAITING: usize = 4096;
/// What viewers say, waiting for an owner; more is refused.
pub(crate) const MAX_TALK_WAITING: usize = 2048;

/// Which requests go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    First,
    /// What viewers say.
    Later,
}

/// Where requests go in.
#[derive(Clone)]
pub(crate) struct Asking {
    first: mpsc::Sender<Command>,
    later: mpsc::Sender<Command>,
}

/// Where their owner takes them.
pub(crate) struct Asked {
    first: mpsc::Receiver<Command>,
    later: mpsc::Receiver<Command>,
}

pub(crate) fn queue() -> (Asking, Asked) {
    let (first, first_asked) = mpsc::channel(MAX_REQUESTS_WAITING);
    let (later, later_asked) = mpsc::channel(MAX_TALK_WAITING);
    (Asking { first, later }, Asked { first: first_asked, later: later_asked })
}

impl Asking {
    /// Waits for its place where many others wait. An owner that is gone belongs to a process that is going: connections
    /// are closed by it.
    pub(crate) async fn first(&self, command: Command) {
        let _ = self.first.send(command).await;
    }

    /// False where there is no place.
    pub(crate) fn later(&self, command: Command) -> bool {
        !matches!(self.later.try_send(command), Err(mpsc::error::TrySendError::Full(_)))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.first.is_closed()
    }
}

impl Asked {
    /// The next request, if anybody can ask still. Dropping the call loses nothing.
    pub(crate) async fn next(&mut self) -> Option<(Command, Turn)> {
        tokio::select! {
            biased;
            Some(command) = self.first.recv() => Some((command, Turn::First)),
            Some(command) = self.later.recv() => Some((command, Turn::Later)),
            else => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use haul_wire::Request;

    use super::*;
    use crate::stage::MemberId;

    fn command(id: u64) -> Command {
        Command::Request { member: MemberId(1), id, request: Box::new(Request::Ping) }
    }

    #[tokio::test]
    async fn whatever_is_said_waits_for_what_is_bought_and_is_refused_where_there_is_too_much_of_it() {
        let (asking, mut asked) = queue();
        for id in 0..MAX_TALK_WAITING as u64 {
            assert!(asking.later(command(id)));
        }
        assert!(!asking.later(command(0)), "one too many");
        for id in [10_001, 10_002] {
            asking.first(command(id)).await;
        }
        let mut next = async || match asked.next().await.unwrap() {
            (Command::Request { id, .. }, turn) => (id, turn),
            (Command::Look(_), _) => panic!(),
        };
        assert_eq!(next().await, (10_001, Turn::First));
        assert_eq!(next().await, (10_002, Turn::First));
        assert_eq!(next().await, (0, Turn::Later));
        assert!(asking.later(command(1)), "there is a place again");
        asking.first(command(10_003)).await;
        assert_eq!(next().await, (10_003, Turn::First));
        assert_eq!(next().await, (1, Turn::Later));
    }
}
