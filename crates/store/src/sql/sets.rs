//! Things that are written down many at a time.
//!
//! Who has one leaves it in line. One task takes all that has gathered while the set before was on its way, and does it in
//! one change, with as many statements for five hundred as for one. No timer makes a lone one wait.
//!
//! A set's change does only what is simple. What is anything else has a change of its own, as has everything of a set that
//! fails: each then gets the answer that it would have got alone, and harms no other.

use std::fmt;

use haul_commerce::LedgerError;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::change::{Change, ENDED, MAX_WAITING, Writer};

/// What one change does at most. Those behind wait for it, some tens of milliseconds.
const MAX_SET: usize = 512;

/// A kind of thing that is written down.
pub(super) trait Kind: Send + 'static {
    /// One of them.
    type Item: Send + Sync + 'static;
    /// What becomes of it.
    type Answer: Send + 'static;

    /// Does what is simple of a set, and answers it in its order; `None` for what must be done alone. After an error,
    /// nothing was done.
    fn together(
        change: Change,
        set: &[Self::Item],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, LedgerError>> + Send;

    /// Does one thing in a change of its own.
    fn alone(
        write: Writer,
        item: Self::Item,
    ) -> impl Future<Output = Result<Self::Answer, LedgerError>> + Send;
}

type Left<K> = (<K as Kind>::Item, oneshot::Sender<Result<<K as Kind>::Answer, LedgerError>>);

/// Where things of one kind are left. Cloning shares it.
pub(super) struct Sets<K: Kind>(mpsc::Sender<Left<K>>);

impl<K: Kind> Clone for Sets<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Kind> fmt::Debug for Sets<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sets(..)")
    }
}

impl<K: Kind> Sets<K> {
    /// Works with `write`. Ends when the last clone is dropped.
    pub(super) fn start(write: Writer) -> Self {
        let (left, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(run::<K>(write, waiting));
        Self(left)
    }

    /// Leaves one, and waits until it is durable.
    pub(super) async fn put(&self, item: K::Item) -> Result<K::Answer, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send((item, answer)).map_err(|error| {
            LedgerError::Unavailable(match error {
                mpsc::error::TrySendError::Full(_) => {
                    format!("{MAX_WAITING} changes of one kind are waiting")
                }
                mpsc::error::TrySendError::Closed(_) => ENDED.to_owned(),
            })
        })?;
        answered.await.unwrap_or_else(|_| Err(LedgerError::Unavailable(ENDED.to_owned())))
    }
}

async fn run<K: Kind>(write: Writer, mut waiting: mpsc::Receiver<Left<K>>) {
    while let Some((first, answer)) = waiting.recv().await {
        let turn = write.begin().await;
        let (mut items, mut answers) = (vec![first], vec![answer]);
        // Where there is no turn, nobody waits in line for another one.
        while (turn.is_err() || items.len() < MAX_SET)
            && let Ok((next, answer)) = waiting.try_recv()
        {
            items.push(next);
            answers.push(answer);
        }
        let done = match turn {
            Ok(change) => K::together(change, &items).await,
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
                continue;
            }
        };
        let mut done = done.unwrap_or_else(|error| {
            tracing::debug!(things = items.len(), %error, "a set is written down one by one");
            Vec::new()
        });
        done.resize_with(items.len(), || None);
        let mut alone = JoinSet::new();
        for ((item, answer), done) in items.into_iter().zip(answers).zip(done) {
            match done {
                // Who asked may have gone away; what was committed stands.
                Some(done) => drop(answer.send(Ok(done))),
                None => {
                    let write = write.clone();
                    alone.spawn(async move { drop(answer.send(K::alone(write, item).await)) });
                }
            }
        }
        alone.join_all().await;
    }
}
