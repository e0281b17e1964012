//! The connection to one Redis server: one, shared, replaced in the background when it is lost.
//!
//! What it adds to the client library is the difference that selling depends on: a call that was never sent
//! ([`GateError::Unavailable`], nothing happened) is told from one that was sent and not answered
//! ([`GateError::Unknown`], it may have happened). While there is no connection, calls fail at once.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use haul_commerce::GateError;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, PushInfo, PushKind, RedisError,
    ServerErrorKind, TlsCertificates, Value, aio::MultiplexedConnection,
};

use super::{RedisOptions, rooms::Wakes, script::Run, settings};
use crate::OpenError;

/// Commands that may wait to be written. When it is full, callers wait, within their response timeout.
const PIPELINE_BUFFER: usize = 4096;
/// Waiting times between attempts to connect again: the first, doubled each time, up to the last.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// A shared connection. When the last clone is dropped, nobody connects again.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing ran: the slot is another node's, at this address.
    Moved(String),
    /// Nothing ran: the slot is on its way to the node at this address, which takes this call if it is told so.
    Ask(String),
    Gate(GateError),
}

impl Failed {
    /// As callers of the gate see it.
    pub(super) fn error(self) -> GateError {
        match self {
            Self::Gate(error) => error,
            Self::Moved(address) | Self::Ask(address) => {
                GateError::Unavailable(format!("Redis says that {address} has it"))
            }
        }
    }
}

struct Inner {
    client: Client,
    /// Host and port, for messages.
    address: String,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
    /// How many replicas must have a change, and within how long.
    wait_replicas: u32,
    wait_timeout: Duration,
    /// Read by every call and changed when the connection is lost or found again; held for a copy, never across an
    /// await.
    state: Mutex<State>,
    /// Counts connections made anew, of all servers.
    changes: Arc<AtomicU64>,
    /// Whom to wake when something is published; without, nothing is listened to.
    wakes: Option<Wakes>,
}

enum State {
    Up {
        connection: MultiplexedConnection,
        /// Which connection it is, so that late news of an earlier one changes nothing.
        number: u64,
    },
    /// A task is connecting again. Says why it must.
    Down { why: String },
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.0.address).finish()
    }
}

impl Link {
    pub(super) async fn open(
        info: ConnectionInfo,
        options: &RedisOptions,
        changes: Arc<AtomicU64>,
        wakes: Option<Wakes>,
    ) -> Result<Self, OpenError> {
        let address = info.addr().to_string();
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(options.response_timeout))
            .set_connection_timeout(Some(options.connect_timeout))
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let failed = |why: String| OpenError::Redis { address: address.clone(), why };
        let client = match info.addr() {
            ConnectionAddr::TcpTls { .. } => {
                let certificates = TlsCertificates { client_tls: None, root_cert: options.root_cert.clone() };
                Client::build_with_tls(info, certificates)
            }
            _ => Client::open(info),
        };
        let inner = Arc::new(Inner {
            client: client.map_err(|error| failed(error.to_string()))?,
            address: address.clone(),
            config,
            connect_timeout: options.connect_timeout,
            wait_replicas: options.wait_replicas,
            wait_timeout: options.wait_timeout,
            state: Mutex::new(State::Down { why: "not connected yet".to_owned() }),
            changes,
            wakes,
        });
        inner.connect(0).await.map_err(failed)?;
        Ok(Self(inner))
    }

    /// Its host, without the port.
    pub(super) fn host(&self) -> &str {
        self.0.address.rsplit_once(':').map_or(&*self.0.address, |(host, _)| host)
    }

    /// Runs a script; after `ASKING` if `asking`. With `wait`, where replicas are waited for, sees that they have what it
    /// changed.
    pub(super) async fn call(&self, run: &Run<'_>, asking: bool, wait: bool) -> Result<Value, Failed> {
        let (mut connection, number) = self.connection()?;
        let answer = self.run(&mut connection, number, run, asking).await?;
        let Inner { wait_replicas, wait_timeout, .. } = *self.0;
        if wait && wait_replicas > 0 {
            // On the same connection: it answers for all that this connection has written.
            let mut wait = redis::cmd("WAIT");
            wait.arg(wait_replicas).arg(wait_timeout.as_millis() as u64);
            let unknown = |why: String| Failed::Gate(GateError::Unknown(why));
            let have: u32 = match wait.query_async(&mut connection).await {
                Ok(have) => have,
                Err(error) if error.is_io_error() => return Err(self.judge(number, &error)),
                // The change is made, whatever became of the question.
                Err(error) => return Err(unknown(format!("Redis at {}: {error}", self.0.address))),
            };
            if have < wait_replicas {
                return Err(unknown(format!(
                    "{have} of {wait_replicas} replicas have it after {} ms",
                    wait_timeout.as_millis()
                )));
            }
        }
        Ok(answer)
    }

    /// Whether the server is part of a cluster. One that does not say so is not.
    pub(super) async fn is_cluster(&self) -> bool {
        let Ok((mut connection, _)) = self.connection() else { return false };
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("cluster").query_async(&mut connection).await.unwrap_or_default();
        text.lines().any(|line| line.trim() == "cluster_enabled:1")
    }

    /// `CLUSTER SLOTS`: who has which slot, as far as this node knows.
    pub(super) async fn slots(&self) -> Result<Value, String> {
        let (mut connection, _) = self.connection().map_err(|error| error.error().to_string())?;
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS").query_async(&mut connection).await.map_err(|error| error.to_string())
    }

    /// What the settings of this Redis could cost. A Redis that does not let them be read, as managed ones do, is
    /// believed.
    pub(super) async fn weaknesses(&self) -> Vec<String> {
        let Ok((mut connection, _)) = self.connection() else { return Vec::new() };
        let mut found = HashMap::new();
        for name in settings::NAMES {
            let mut get = redis::cmd("CONFIG");
            match get.arg("GET").arg(name).query_async::<HashMap<String, String>>(&mut connection).await {
                Ok(values) => found.extend(values),
                Err(error) => {
                    tracing::info!(%error, "Redis does not let its settings be read; see configs/redis.conf");
                    break;
                }
            }
        }
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("replication").query_async(&mut connection).await.unwrap_or_default();
        let replicas =
            text.lines().find_map(|line| line.trim().strip_prefix("connected_slaves:")?.parse().ok());
        settings::weaknesses(&found, replicas.unwrap_or(0), self.0.wait_replicas)
    }

    async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        number: u64,
        run: &Run<'_>,
        asking: bool,
    ) -> Result<Value, Failed> {
        let unknown_script = ErrorKind::Server(ServerErrorKind::NoScript);
        let answer = match run.by_hash(connection, asking).await {
            Err(error) if error.kind() == unknown_script => {
                match run.load().query_async::<Value>(connection).await {
                    Ok(_) => run.by_hash(connection, asking).await,
                    // The script did not run yet, so nothing can have happened.
                    Err(error) => return Err(Failed::Gate(self.unavailable(number, &error))),
                }
            }
            answer => answer,
        };
        answer.map_err(|error| self.judge(number, &error))
    }

    fn connection(&self) -> Result<(MultiplexedConnection, u64), Failed> {
        match &*self.0.state() {
            State::Up { connection, number } => Ok((connection.clone(), *number)),
            State::Down { why } => Err(Failed::Gate(GateError::Unavailable(why.clone()))),
        }
    }

    fn unavailable(&self, number: u64, error: &RedisError) -> GateError {
        let why = format!("Redis at {}: {error}", self.0.address);
        if error.is_io_error() {
            Inner::lost(&self.0, number, &why);
        }
        GateError::Unavailable(why)
    }

    /// What an error says about whether the script ran.
    fn judge(&self, number: u64, error: &RedisError) -> Failed {
        let why = format!("Redis at {}: {error}", self.0.address);
        if let Some((address, _)) = error.redirect_node() {
            return match error.kind() {
                ErrorKind::Server(ServerErrorKind::Ask) => Failed::Ask(self.named(address)),
                _ => Failed::Moved(self.named(address)),
            };
        }
        Failed::Gate(match (error.kind(), error.code()) {
            // The server refused before running anything: it is loading, a replica, full, without its replicas, or
            // cannot write to its disk.
            (
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::NoPerm
                    | ServerErrorKind::NoScript,
                ),
                _,
            )
            | (_, Some("BUSY" | "OOM" | "MISCONF" | "NOREPLICAS" | "NOAUTH")) => GateError::Unavailable(why),
            // A script stopped, or was answered with what it doesn't expect. It writes last, so it wrote nothing.
            (ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType, _) => {
                GateError::Corrupt(why)
            }
            _ => {
                Inner::lost(&self.0, number, &why);
                GateError::Unknown(why)
            }
        })
    }

    /// An address that this node has named; without a host, it is this one's.
    fn named(&self, address: &str) -> String {
        match address.strip_prefix(':') {
            Some(port) => format!("{}:{port}", self.host()),
            None => address.to_owned(),
        }
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects as connection `number`.
    async fn connect(self: &Arc<Self>, number: u64) -> Result<(), String> {
        let weak = Arc::downgrade(self);
        let wakes = self.wakes.clone();
        let config = self.config.clone().set_push_sender(move |push: PushInfo| {
            if let Some(wakes) = wakes.as_ref().filter(|_| push.kind == PushKind::PMessage) {
                wakes.wake(&push.data);
            }
            if push.kind == PushKind::Disconnection
                && let Some(inner) = weak.upgrade()
            {
                let why = format!("Redis at {}: the connection was closed", inner.address);
                Self::lost(&inner, number, &why);
            }
            Ok::<_, redis::aio::SendError>(())
        });
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        // The library's own timeout covers the socket; this one covers the greeting too.
        let mut connection = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| format!("no answer within {} ms", self.connect_timeout.as_millis()))?
            .map_err(|error| error.to_string())?;
        if self.wakes.is_some() {
            let listening = tokio::time::timeout(self.connect_timeout, connection.psubscribe(Wakes::PATTERN));
            listening
                .await
                .map_err(|_| "no answer to PSUBSCRIBE".to_owned())?
                .map_err(|error| error.to_string())?;
        }
        // Before anybody can use it.
        if number > 0 {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        *self.state() = State::Up { connection, number };
        Ok(())
    }

    /// Takes connection `number` out of use and has it replaced.
    fn lost(inner: &Arc<Self>, number: u64, why: &str) {
        {
            let mut state = inner.state();
            match &*state {
                State::Up { number: current, .. } if *current == number => {}
                _ => return,
            }
            *state = State::Down { why: why.to_owned() };
        }
        tracing::warn!(why, "lost Redis; selling is unavailable until it answers");
        tokio::spawn(Self::connect_again(Arc::downgrade(inner), number + 1));
    }

    async fn connect_again(inner: Weak<Self>, number: u64) {
        let mut wait = *RETRY.start();
        loop {
            let Some(inner) = inner.upgrade() else { return };
            match inner.connect(number).await {
                Ok(()) => {
                    tracing::info!(address = inner.address, "Redis answers again");
                    return;
                }
                Err(error) => {
                    *inner.state() = State::Down { why: format!("Redis at {}: {error}", inner.address) };
                }
            }
            drop(inner);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(*RETRY.end());
        }
    }
}
