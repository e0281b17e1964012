//! The channel as an actor speaks it: requests with ids, replies, events; and over a network that may fail.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use haul_wire::SUBPROTOCOL;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message, Utf8Bytes, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig,
    },
};

use crate::{
    http::{Client, HttpError, Stream},
    network::{Network, unless_returned},
    tally::{Count, Shared, Time},
};

/// How long connecting and the reply to hello may take.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// Thousands of connections: small buffers. Messages may still be as large as they are.
const BUFFER_BYTES: usize = 4 * 1024;
/// What is asked when the network is back: the answer shows that both directions are.
const PROBE: Bytes = Bytes::from_static(b"back?");

/// Why there is no channel.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ChannelError {
    /// No connection.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// The upgrade to a websocket was refused.
    #[error("the websocket was refused: {0}")]
    Upgrade(String),
    /// The hello was answered with an error.
    #[error("hello: {0}")]
    Hello(String),
    /// Closed, with the code the server gave.
    #[error("the channel was closed ({})", .0.map_or("no code".to_owned(), |code| code.to_string()))]
    Closed(Option<u16>),
    /// The network that it was opened over is no more.
    #[error("the network is another one")]
    Network,
    /// No answer in time.
    #[error("no answer to hello in time")]
    Late,
}

/// An open channel.
pub(crate) struct Channel {
    socket: WebSocketStream<Stream>,
    next_id: u64,
    network: Network,
    /// Which of the actor's networks it was opened over.
    generation: u32,
    /// The network is back, and nothing was asked yet.
    owes_probe: bool,
    /// Where returns are counted.
    pub(crate) returns: Option<Shared>,
}

/// How far the room's order was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// The place of a numbered event in the room's order. Both stand last in all of the server's events.
pub(crate) fn place(text: &str) -> Option<(&str, u64)> {
    let text = text.strip_suffix('}')?;
    let rest = text.trim_end_matches(|last: char| last.is_ascii_digit());
    let offset = text[rest.len()..].parse().ok()?;
    let epoch = rest.strip_suffix(r#"","offset":"#)?;
    let at = epoch.rfind('"')? + 1;
    epoch[..at].ends_with(r#""epoch":""#).then_some((&epoch[at..], offset))
}

/// A message of the server's: its type, without its being parsed.
pub(crate) fn kind(text: &str) -> &str {
    // `type` stands first in all of the server's messages; another server's order costs a search.
    let at = match text.strip_prefix(r#"{"type":""#) {
        Some(rest) => rest,
        None => text.split_once(r#""type":""#).map_or("", |(_, rest)| rest),
    };
    at.split('"').next().unwrap_or_default()
}

impl Channel {
    /// Connects, and says hello, and after what there is to go on. Returns the snapshot too.
    pub(crate) async fn open(
        client: &Client,
        base: &str,
        live: &str,
        token: &str,
        resume: Option<&Position>,
    ) -> Result<(Self, Value), ChannelError> {
        timeout(OPEN_WITHIN, Self::connect(client, base, live, token, resume))
            .await
            .unwrap_or(Err(ChannelError::Late))
    }

    async fn connect(
        client: &Client,
        base: &str,
        live: &str,
        token: &str,
        resume: Option<&Position>,
    ) -> Result<(Self, Value), ChannelError> {
        let url = format!("{}/channel/{live}", base.replacen("http", "ws", 1));
        let refused = |error: &dyn std::fmt::Display| ChannelError::Upgrade(error.to_string());
        let mut request = url.as_str().into_client_request().map_err(|error| refused(&error))?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let uri = url.parse().map_err(|_| HttpError::Address(url.clone()))?;
        let network = client.network().clone();
        network.there().await;
        let generation = network.generation();
        let stream = client.connect(&uri).await?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
        let connected = client_async_with_config(request, stream, Some(config)).await;
        let (socket, _) = connected.map_err(|error| refused(&error))?;
        let mut channel = Self { socket, next_id: 1, network, generation, owes_probe: false, returns: None };
        let mut hello = json!({ "token": token });
        if let Some(Position { epoch, offset }) = resume {
            hello["resume"] = json!({ "epoch": epoch, "offset": offset });
        }
        let id = channel.send("hello", hello).await;
        loop {
            let text = channel.read().await?;
            if !matches!(kind(&text), "reply" | "error") {
                continue;
            }
            let message: Value = serde_json::from_str(&text).unwrap_or_default();
            if message["type"] == "error" {
                return Err(ChannelError::Hello(message["code"].as_str().unwrap_or("error").to_owned()));
            }
            if message["id"] == id {
                return Ok((channel, message["result"].clone()));
            }
        }
    }

    /// Sends a request. Returns its id.
    pub(crate) async fn send(&mut self, kind: &str, mut fields: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        fields["id"] = json!(id);
        fields["type"] = json!(kind);
        // What can't be sent has no answer: reading tells why.
        let _ = self.socket.send(Message::text(fields.to_string())).await;
        id
    }

    /// The next message. May be dropped while it waits: nothing is lost.
    pub(crate) async fn read(&mut self) -> Result<Utf8Bytes, ChannelError> {
        loop {
            if self.owes_probe {
                // What can't be sent has no answer: reading tells why.
                let _ = self.socket.feed(Message::Ping(PROBE)).await;
                self.owes_probe = false;
                let _ = self.socket.flush().await;
            }
            let socket = &mut self.socket;
            let message = unless_returned(&self.network, |cx| socket.poll_next_unpin(cx)).await;
            let is_other = self.network.generation() != self.generation;
            match message {
                Some(Some(Ok(Message::Text(text)))) => return Ok(text),
                None | Some(None | Some(Err(_))) if is_other => return Err(ChannelError::Network),
                None => self.owes_probe = true,
                Some(Some(Ok(Message::Close(frame)))) => {
                    return Err(ChannelError::Closed(frame.map(|frame| frame.code.into())));
                }
                Some(Some(Ok(Message::Pong(answer)))) if answer == PROBE => self.back(),
                Some(Some(Ok(_))) => {}
                Some(Some(Err(_)) | None) => return Err(ChannelError::Closed(None)),
            }
        }
    }

    /// The connection has outlived a failure of the network.
    fn back(&self) {
        if let Some(after) = self.network.back()
            && let Some(returns) = &self.returns
        {
            let mut tally = returns.lock();
            tally.record(Time::DropChannel, after);
            tally.count(Count::DropChannelsSame, 1);
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_messages_kind_is_known_without_parsing_it() {
        assert_eq!(kind(r#"{"type":"chat.message","id":"m1"}"#), "chat.message");
        assert_eq!(kind(r#"{"epoch":"e","type":"pin.changed"}"#), "pin.changed");
        assert_eq!(kind("{}"), "");
        assert_eq!(kind("nonsense"), "");
    }

    #[test]
    fn a_numbered_events_place_is_known_without_parsing_it() {
        assert_eq!(place(r#"{"type":"pin.changed","pin":null,"epoch":"e1","offset":19}"#), Some(("e1", 19)));
        for unnumbered in [
            r#"{"type":"stock.changed","sold":9,"epoch":"e1"}"#,
            r#"{"type":"reply","id":3,"result":{"offset":4}}"#,
            r#"{"type":"x","text":"\"epoch\":\"e\",\"offset\":4}"}"#,
            "}",
            "",
        ] {
            assert_eq!(place(unnumbered), None, "{unnumbered}");
        }
    }
}
