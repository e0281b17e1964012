//! The channel as an actor speaks it: requests with ids, replies, events.

use std::time::Duration;

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

use crate::http::{Client, HttpError, Stream};

/// How long connecting and the reply to hello may take.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// Thousands of connections: small buffers. Messages may still be as large as they are.
const BUFFER_BYTES: usize = 4 * 1024;

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
    /// No answer in time.
    #[error("no answer to hello in time")]
    Late,
}

/// An open channel.
pub(crate) struct Channel {
    socket: WebSocketStream<Stream>,
    next_id: u64,
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
    /// Connects, and says hello. Returns the snapshot too.
    pub(crate) async fn open(
        client: &Client,
        base: &str,
        live: &str,
        token: &str,
    ) -> Result<(Self, Value), ChannelError> {
        timeout(OPEN_WITHIN, Self::connect(client, base, live, token))
            .await
            .unwrap_or(Err(ChannelError::Late))
    }

    async fn connect(
        client: &Client,
        base: &str,
        live: &str,
        token: &str,
    ) -> Result<(Self, Value), ChannelError> {
        let url = format!("{}/channel/{live}", base.replacen("http", "ws", 1));
        let refused = |error: &dyn std::fmt::Display| ChannelError::Upgrade(error.to_string());
        let mut request = url.as_str().into_client_request().map_err(|error| refused(&error))?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let uri = url.parse().map_err(|_| HttpError::Address(url.clone()))?;
        let stream = client.connect(&uri).await?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
        let connected = client_async_with_config(request, stream, Some(config)).await;
        let (socket, _) = connected.map_err(|error| refused(&error))?;
        let mut channel = Self { socket, next_id: 1 };
        let id = channel.send("hello", json!({ "token": token })).await;
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
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(frame))) => {
                    return Err(ChannelError::Closed(frame.map(|frame| frame.code.into())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(ChannelError::Closed(None)),
            }
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
}
