//! The connection to Redis: one, shared, replaced in the background when it is lost.
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
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError, ServerErrorKind, Value, aio::MultiplexedConnection, io::tcp::TcpSettings,
};

use super::{RedisOptions, script::Run, settings};
use crate::{OpenError, error::without_password};

/// Commands that may wait to be written. When it is full, callers wait, within their response timeout.
const PIPELINE_BUFFER: usize = 4096;
/// Waiting times between attempts to connect again: the first, doubled each time, up to the last.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// A shared connection.
pub(super) struct Link(Arc<Inner>);

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
    /// The number of the latest connection.
    latest: AtomicU64,
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
    pub(super) async fn open(url: &str, options: &RedisOptions) -> Result<Self, OpenError> {
        let bad_address = |error: RedisError| OpenError::Address {
            what: "a Redis server (redis://host:port)",
            given: without_password(url),
            why: error.to_string(),
        };
        let info = url.into_connection_info().map_err(bad_address)?;
        // RESP3 is what tells of a lost connection before somebody uses it.
        let resp3 = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(resp3).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let address = info.addr().to_string();
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(options.response_timeout))
            .set_connection_timeout(Some(options.connect_timeout))
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let inner = Arc::new(Inner {
            client: Client::open(info).map_err(bad_address)?,
            address,
            config,
            connect_timeout: options.connect_timeout,
            wait_replicas: options.wait_replicas,
            wait_timeout: options.wait_timeout,
            state: Mutex::new(State::Down { why: "not connected yet".to_owned() }),
            latest: AtomicU64::new(0),
        });
        inner.connect(0).await.map_err(|why| OpenError::Redis { address: inner.address.clone(), why })?;
        Ok(Self(inner))
    }

    /// Which connection this is, or was the last: another number is another connection.
    pub(super) fn number(&self) -> u64 {
        self.0.latest.load(Ordering::Acquire)
    }

    /// Runs a script that changes something, and where replicas are waited for, sees that they have it.
    pub(super) async fn call_and_wait(&self, run: Run<'_>) -> Result<Value, GateError> {
        let (mut connection, number) = self.connection()?;
        let answer = self.run(&mut connection, number, run).await?;
        let Inner { wait_replicas, wait_timeout, .. } = *self.0;
        if wait_replicas > 0 {
            // On the same connection: it answers for all that this connection has written.
            let mut wait = redis::cmd("WAIT");
            wait.arg(wait_replicas).arg(wait_timeout.as_millis() as u64);
            let have: u32 = match wait.query_async(&mut connection).await {
                Ok(have) => have,
                Err(error) if error.is_io_error() => return Err(self.judge(number, &error)),
                // The change is made, whatever became of the question.
                Err(error) => {
                    return Err(GateError::Unknown(format!("Redis at {}: {error}", self.0.address)));
                }
            };
            if have < wait_replicas {
                return Err(GateError::Unknown(format!(
                    "{have} of {wait_replicas} replicas have it after {} ms",
                    wait_timeout.as_millis()
                )));
            }
        }
        Ok(answer)
    }

    /// Runs a script.
    pub(super) async fn call(&self, run: Run<'_>) -> Result<Value, GateError> {
        let (mut connection, number) = self.connection()?;
        self.run(&mut connection, number, run).await
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
        run: Run<'_>,
    ) -> Result<Value, GateError> {
        let unknown_script = ErrorKind::Server(ServerErrorKind::NoScript);
        let answer = match run.by_hash().query_async(connection).await {
            Err(error) if error.kind() == unknown_script => {
                match run.load().query_async::<Value>(connection).await {
                    Ok(_) => run.by_hash().query_async(connection).await,
                    // The script did not run yet, so nothing can have happened.
                    Err(error) => return Err(self.unavailable(number, &error)),
                }
            }
            answer => answer,
        };
        answer.map_err(|error| self.judge(number, &error))
    }

    fn connection(&self) -> Result<(MultiplexedConnection, u64), GateError> {
        match &*self.0.state() {
            State::Up { connection, number } => Ok((connection.clone(), *number)),
            State::Down { why } => Err(GateError::Unavailable(why.clone())),
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
    fn judge(&self, number: u64, error: &RedisError) -> GateError {
        let why = format!("Redis at {}: {error}", self.0.address);
        match (error.kind(), error.code()) {
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
        let config = self.config.clone().set_push_sender(move |push: PushInfo| {
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
        let connection = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| format!("no answer within {} ms", self.connect_timeout.as_millis()))?
            .map_err(|error| error.to_string())?;
        // Before anybody can use it.
        self.latest.store(number, Ordering::Release);
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
