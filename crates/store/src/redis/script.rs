//! Running scripts by their hash, and reading what they answer.

use std::{str::FromStr, vec};

use haul_commerce::GateError;
use redis::{Cmd, RedisResult, ToRedisArgs, Value, aio::MultiplexedConnection};

/// A script, known to the server by its hash.
#[derive(Debug)]
pub(super) struct Script {
    /// The clock, the look at it, and the body.
    code: String,
    sha1: String,
}

/// One run of a script, before it is sent.
pub(super) struct Run<'a> {
    script: &'a Script,
    /// `EVALSHA` and its arguments.
    command: Cmd,
}

impl Script {
    /// One of the gate's, with its clock.
    pub(super) fn new(clock: &str, body: &str) -> Self {
        Self::plain(format!("{clock}\n{}\n{body}", include_str!("../../scripts/watch.lua")))
    }

    /// One that needs no clock.
    pub(super) fn plain(code: String) -> Self {
        let sha1 = redis::Script::new(&code).get_hash().to_owned();
        Self { code, sha1 }
    }

    pub(super) fn run(&self, keys: &[&str]) -> Run<'_> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.sha1).arg(keys.len()).arg(keys);
        Run { script: self, command }
    }
}

impl Run<'_> {
    pub(super) fn arg(&mut self, value: impl ToRedisArgs) -> &mut Self {
        self.command.arg(value);
        self
    }

    /// Asks for the script by its hash; after `ASKING`, for a slot that is on its way to this node.
    pub(super) async fn by_hash(
        &self,
        connection: &mut MultiplexedConnection,
        asking: bool,
    ) -> RedisResult<Value> {
        if !asking {
            return self.command.query_async(connection).await;
        }
        let mut both = redis::pipe();
        both.cmd("ASKING").ignore().add_command(self.command.clone());
        let (answer,) = both.query_async::<(Value,)>(connection).await?;
        Ok(answer)
    }

    /// Makes the server learn the script, after it answered that it doesn't know the hash: it was restarted, or its
    /// scripts were flushed.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.script.code);
        command
    }
}

/// A script's answer, read from the front. Whatever isn't as the script writes it is [`GateError::Corrupt`].
pub(super) struct Reply(vec::IntoIter<Value>);

impl Reply {
    pub(super) fn new(value: Value) -> Result<Self, GateError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(corrupt(&other)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(super) fn integer(&mut self) -> Result<i64, GateError> {
        match self.0.next() {
            Some(Value::Int(number)) => Ok(number),
            other => Err(corrupt(&other)),
        }
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self) -> Result<T, GateError> {
        Self::fit(self.integer()?)
    }

    pub(super) fn fit<T: TryFrom<i64>>(number: i64) -> Result<T, GateError> {
        T::try_from(number).map_err(|_| corrupt(&number))
    }

    pub(super) fn id<T: FromStr>(&mut self) -> Result<T, GateError> {
        self.optional_id()?.ok_or_else(|| GateError::Corrupt("a script left out an id".to_owned()))
    }

    /// An id, or an empty text for none.
    pub(super) fn optional_id<T: FromStr>(&mut self) -> Result<Option<T>, GateError> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| corrupt(&text))
    }

    pub(super) fn text(&mut self) -> Result<String, GateError> {
        let Some(Value::BulkString(bytes)) = self.0.next() else {
            return Err(GateError::Corrupt("a script answered with something else than text".to_owned()));
        };
        String::from_utf8(bytes).map_err(|error| corrupt(&error))
    }
}

fn corrupt(what: &dyn std::fmt::Debug) -> GateError {
    GateError::Corrupt(format!("a script answered with {what:?}"))
}
