//! Changes of the ledger: one at a time, and many to a commit.
//!
//! One task owns the connection that writes. A change asks for its turn ([`Writer::begin`]), gets the connection, and
//! gives it back when it ends. While others wait, the next one has its turn in the same transaction, behind a savepoint;
//! when nobody waits or the group is full, the group is committed, and only then is each of its members told. So a
//! thousand changes that arrive during one commit share the next one, no timer makes a lone one wait, and one that fails
//! harms none of its neighbours.
//!
//! **Isolation.** Changes see each other one after another, on both databases: SQLite has one writer anyway, and on
//! Postgres each group takes one advisory lock until it is committed, over all processes. A statement that was right on
//! SQLite (look whether something is there, then write) is right on Postgres too, whoever wrote it. SERIALIZABLE would
//! let groups of two processes run at once, only to undo a whole group where two of them read what the other wrote; and
//! row locks would have to be thought of in every change, with a deadlock for each one forgotten. What is lost is that
//! two processes commit at once: they take turns, a group each, and a group's size makes up for it.

use std::time::Duration;

use haul_commerce::LedgerError;
use sqlx::{ConnectOptions, postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    PATIENCE,
    db::{Conn, On, failure},
};

/// Changes that wait for their turn. One more is `Unavailable` at once: at some thousands a second, it would not have its
/// turn within [`PATIENCE`].
pub(super) const MAX_WAITING: usize = 16_384;
/// Changes in one commit: the first of them waits until the last is done, some tens of milliseconds.
const MAX_GROUP: usize = 128;
/// How long connecting again may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How to get a connection that writes.
#[derive(Debug, Clone)]
pub(super) enum Connector {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
}

impl Connector {
    pub(super) async fn connect(&self) -> Result<Conn, sqlx::Error> {
        let connecting = async {
            Ok(match self {
                Self::Sqlite(options) => Conn::Sqlite(Box::new(options.connect().await?)),
                Self::Postgres(options) => Conn::Postgres(Box::new(options.connect().await?)),
            })
        };
        timeout(CONNECT_WITHIN, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Begins a group, and its first change.
    fn begin(&self) -> &'static str {
        match self {
            // The write lock at once: a transaction that reads first and writes later could find that another process
            // wrote in between.
            Self::Sqlite(_) => "BEGIN IMMEDIATE; SAVEPOINT change",
            // The number is "haul" in ASCII. The lock is the database's and ends with the transaction; each statement
            // sees what was committed before it began.
            Self::Postgres(_) => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock(1751217516); \
                 SAVEPOINT change"
            }
        }
    }

    /// What makes the connection forget its plans, those that check foreign keys too. They are made once: one from a time when
    /// a table had a few rows may read all of its many, until Postgres has analysed it. SQLite's plans don't go by sizes.
    fn forget_plans(&self) -> Option<&'static str> {
        matches!(self, Self::Postgres(_)).then_some("DISCARD PLANS")
    }
}

/// Gives turns to write. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Asker>);

type Asker = oneshot::Sender<Result<Change, LedgerError>>;
type Answer = oneshot::Sender<Result<(), LedgerError>>;

impl Writer {
    /// Gives turns with `conn`, and connects again when it is lost. Ends when the last clone is dropped.
    pub(super) fn start(connector: Connector, conn: Conn) -> Self {
        let (askers, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(Turns { connector, waiting, groups: 0 }.run(conn));
        Self(askers)
    }

    /// Waits for a turn.
    pub(super) async fn begin(&self) -> Result<Change, LedgerError> {
        let (asker, turn) = oneshot::channel();
        self.0.try_send(asker).map_err(|error| {
            LedgerError::Unavailable(match error {
                mpsc::error::TrySendError::Full(_) => format!("{MAX_WAITING} changes are waiting"),
                mpsc::error::TrySendError::Closed(_) => ENDED.to_owned(),
            })
        })?;
        match timeout(PATIENCE, turn).await {
            Ok(turn) => turn.unwrap_or_else(|_| Err(LedgerError::Unavailable(ENDED.to_owned()))),
            Err(_) => {
                Err(LedgerError::Unavailable(format!("no turn to write within {} s", PATIENCE.as_secs())))
            }
        }
    }
}

pub(super) const ENDED: &str = "the ledger's writer has ended";

/// A turn to write. Dropping it undoes what it did.
///
/// What it reads may be the work of a neighbour in its group, which is not committed yet. So an answer that was read in a
/// change waits for the group, whether anything was written or not: `Ok` by [`Change::commit`], an error by
/// [`Change::refuse`]. It must not wait for anything but its own statements: all others wait for it.
#[derive(Debug)]
pub(super) struct Change(Option<Turn>);

#[derive(Debug)]
struct Turn {
    conn: Conn,
    back: oneshot::Sender<(Conn, End)>,
}

#[derive(Debug)]
enum End {
    Keep(Answer),
    Undo(Option<Answer>),
}

impl Change {
    pub(super) fn on(&mut self) -> On<'_> {
        let turn = self.0.as_mut().expect("it is taken only by what consumes the change");
        On::from(&mut turn.conn)
    }

    /// Keeps what it did. `Ok` when it is durable.
    pub(super) async fn commit(mut self) -> Result<(), LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.end(End::Keep(answer));
        answered.await.unwrap_or_else(|_| Err(LedgerError::Unavailable(ENDED.to_owned())))
    }

    /// Undoes what it did. Gives `error` back when what it was read from is durable; where that cannot be, another one.
    pub(super) async fn refuse(mut self, error: LedgerError) -> LedgerError {
        let (answer, answered) = oneshot::channel();
        self.end(End::Undo(Some(answer)));
        match answered.await {
            Ok(Ok(())) => error,
            Ok(Err(other)) => other,
            Err(_) => LedgerError::Unavailable(ENDED.to_owned()),
        }
    }

    fn end(&mut self, end: End) {
        if let Some(Turn { conn, back }) = self.0.take() {
            // Where nobody takes it back, the runtime is going away.
            let _ = back.send((conn, end));
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.end(End::Undo(None));
    }
}

struct Turns {
    connector: Connector,
    waiting: mpsc::Receiver<Asker>,
    /// Groups so far: plans are made anew as often as their number has doubled, so that none is from much smaller tables.
    groups: u64,
}

impl Turns {
    async fn run(mut self, conn: Conn) {
        let mut conn = Some(conn);
        while let Some(asker) = self.waiting.recv().await {
            if asker.is_closed() {
                continue;
            }
            let ready = match conn.take() {
                Some(conn) => Ok(conn),
                None => self.connector.connect().await,
            };
            match ready {
                Ok(ready) => conn = self.group(ready, asker).await,
                Err(error) => self.refuse_all(asker, failure(error)),
            }
        }
    }

    /// While the database cannot be reached, nobody waits in line for another attempt.
    fn refuse_all(&mut self, first: Asker, error: LedgerError) {
        let _ = first.send(Err(error.clone()));
        while let Ok(asker) = self.waiting.try_recv() {
            let _ = asker.send(Err(error.clone()));
        }
    }

    /// One transaction, of `first` and who else has been waiting by then. Gives the connection back if it is still good.
    async fn group(&mut self, mut conn: Conn, first: Asker) -> Option<Conn> {
        self.groups += 1;
        if self.groups.is_power_of_two()
            && let Some(statement) = self.connector.forget_plans()
            && let Err(error) = conn.run(statement).await
        {
            let _ = first.send(Err(failure(error)));
            return None;
        }
        if let Err(error) = conn.run(self.connector.begin()).await {
            let _ = first.send(Err(failure(error)));
            return conn.run("ROLLBACK").await.is_ok().then_some(conn);
        }
        let mut told = Vec::new();
        let mut kept = false;
        let mut next = Some(first);
        let mut turns = 0;
        while let Some(asker) = next {
            let (back, returned) = oneshot::channel();
            // If the asker has gone away, the change is dropped, and the connection comes back all the same.
            let _ = asker.send(Ok(Change(Some(Turn { conn, back }))));
            let Ok((again, end)) = returned.await else {
                answer_all(
                    told,
                    &Err(LedgerError::Unavailable("a change took the connection along".to_owned())),
                );
                return None;
            };
            conn = again;
            turns += 1;
            next = if turns < MAX_GROUP { self.waiting.try_recv().ok() } else { None };
            let last = next.is_none();
            let (statements, answer, keep) = match end {
                End::Keep(answer) if last => ("RELEASE SAVEPOINT change; COMMIT", Some(answer), true),
                End::Keep(answer) => ("RELEASE SAVEPOINT change; SAVEPOINT change", Some(answer), true),
                End::Undo(answer) if last && !kept => ("ROLLBACK", answer, false),
                End::Undo(answer) if last => ("ROLLBACK TO SAVEPOINT change; COMMIT", answer, false),
                End::Undo(answer) => ("ROLLBACK TO SAVEPOINT change", answer, false),
            };
            match conn.run(statements).await {
                Ok(()) => {
                    kept |= keep;
                    told.extend(answer);
                }
                // A change that went on after a statement failed: Postgres keeps nothing of it. Undone, it is out of the
                // way. If it was the commit itself that failed, this fails too.
                Err(error) => {
                    let undo = if last {
                        "ROLLBACK TO SAVEPOINT change; COMMIT"
                    } else {
                        "ROLLBACK TO SAVEPOINT change"
                    };
                    let undone = match keep {
                        true => conn.run(undo).await.is_ok(),
                        false => false,
                    };
                    let error = failure(error);
                    if let Some(answer) = answer {
                        let _ = answer.send(Err(error.clone()));
                    }
                    if !undone {
                        answer_all(told, &Err(lost(&error)));
                        if let Some(next) = next {
                            let _ = next.send(Err(lost(&error)));
                        }
                        return conn.run("ROLLBACK").await.is_ok().then_some(conn);
                    }
                }
            }
        }
        answer_all(told, &Ok(()));
        Some(conn)
    }
}

/// What the members of a group hear that could not be committed: it was no fault of theirs, and asking again may do.
fn lost(error: &LedgerError) -> LedgerError {
    LedgerError::Unavailable(format!("the group was not committed: {error}"))
}

fn answer_all(told: Vec<Answer>, result: &Result<(), LedgerError>) {
    for answer in told {
        // Who asked may have gone away; what was committed stands.
        let _ = answer.send(result.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::db::{query, query_scalar};

    /// A writer to a database in memory with an empty table.
    async fn writer() -> Writer {
        let options: SqliteConnectOptions = "sqlite::memory:".parse().unwrap();
        let connector = Connector::Sqlite(options);
        let conn = connector.connect().await.unwrap();
        let writer = Writer::start(connector, conn);
        query("CREATE TABLE things (name TEXT NOT NULL PRIMARY KEY)").execute(&writer).await.unwrap();
        writer
    }

    async fn put(change: &mut Change, name: &str) -> Result<u64, LedgerError> {
        query("INSERT INTO things (name) VALUES ($1)").bind(name).execute(change).await
    }

    async fn things(writer: &Writer) -> Vec<String> {
        query_scalar("SELECT name FROM things ORDER BY name").fetch_all(writer).await.unwrap()
    }

    #[tokio::test]
    async fn of_a_group_each_member_has_its_own_end() {
        let writer = writer().await;
        let mut first = writer.begin().await.unwrap();
        // These wait for the first, and so are of its group.
        let (first, second, third, fourth) = tokio::join!(biased; async {
            put(&mut first, "first").await.unwrap();
            first.commit().await
        }, async {
            let mut change = writer.begin().await?;
            put(&mut change, "second").await?;
            // Dropped, and undone.
            let refused = put(&mut change, "first").await.unwrap_err();
            Err::<(), _>(change.refuse(refused).await)
        }, async {
            let mut change = writer.begin().await?;
            put(&mut change, "third").await?;
            change.commit().await
        }, async {
            let mut change = writer.begin().await?;
            put(&mut change, "fourth").await?;
            drop(change);
            Ok::<_, LedgerError>(())
        });
        assert_eq!((first, third, fourth), (Ok(()), Ok(()), Ok(())));
        assert!(matches!(second, Err(LedgerError::Conflict(_))), "{second:?}");
        assert_eq!(things(&writer).await, ["first", "third"]);
    }

    #[tokio::test]
    async fn nobody_hears_of_success_before_the_groups_commit() {
        let writer = writer().await;
        let mut first = writer.begin().await.unwrap();
        put(&mut first, "first").await.unwrap();
        let second = tokio::spawn({
            let writer = writer.clone();
            async move { writer.begin().await.unwrap() }
        });
        // The second is in line.
        tokio::task::yield_now().await;
        let committing = tokio::spawn(first.commit());
        let second = second.await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!committing.is_finished(), "its neighbour has not ended, so it is not durable");
        drop(second);
        assert_eq!(committing.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn who_went_away_in_line_or_in_a_turn_stands_in_nobodys_way() {
        let writer = writer().await;
        let mut first = writer.begin().await.unwrap();
        put(&mut first, "first").await.unwrap();
        let gone = tokio::spawn({
            let writer = writer.clone();
            async move { writer.begin().await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        drop(first);
        let mut last = writer.begin().await.unwrap();
        put(&mut last, "last").await.unwrap();
        last.commit().await.unwrap();
        assert_eq!(things(&writer).await, ["last"]);
    }
}
