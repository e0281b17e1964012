//! HTTP and the channel, as a client speaks them.

use std::time::{Duration, SystemTime};

use futures_util::{SinkExt, StreamExt};
use haul_model::UnixMillis;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use ureq::http;

use crate::server::{PATIENCE, Server};

/// A time in an answer, in milliseconds since 1970. It is a text on every wire.
pub fn moment(time: &Value) -> u64 {
    let said = time.as_str().and_then(|text| text.parse().ok());
    let UnixMillis(ms) = said.unwrap_or_else(|| panic!("no time: {time}"));
    ms
}

/// What the server's clock shows, since both are on one machine.
pub fn wall_ms() -> u64 {
    UnixMillis::from(SystemTime::now()).0
}

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// One request; the body may be empty.
pub async fn call(method: &str, url: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    try_call(method, url, headers, body).await.expect("the server answers")
}

/// The same of a server that may be going away; nothing where no whole answer came.
pub async fn try_call(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Option<Answer> {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.into()).unwrap();
    tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut response = agent.run(request).ok()?;
        Some(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.body_mut().read_to_vec().ok()?,
        })
    })
    .await
    .unwrap()
}

pub async fn get(server: &Server, path: &str) -> Answer {
    call("GET", &server.url(path), &[], "").await
}

/// JSON with a token, or without one where it is empty.
pub async fn send(server: &Server, method: &str, path: &str, token: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("content-type", "application/json")];
    if !token.is_empty() {
        headers.push(("authorization", &bearer));
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    call(method, &server.url(path), &headers, body).await
}

/// A viewer's token for the demo live.
pub async fn viewer_token(server: &Server, sub: &str) -> String {
    let body = json!({ "sub": sub, "role": "viewer", "name": sub });
    let minted = send(server, "POST", "/v1/lives/demo/tokens", &server.host_token, body).await;
    assert_eq!(minted.status, 201, "{}", minted.text());
    minted.json()["token"].as_str().unwrap().to_owned()
}

/// The channel of a live.
pub struct Channel {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// Events that came while a reply was waited for.
    pub events: Vec<Value>,
    pub hello: Value,
}

impl Channel {
    /// Connects, and says hello.
    pub async fn open(server: &Server, live: &str, token: &str) -> Self {
        let mut channel = Self::connect(server, live).await;
        let token = if token.is_empty() { Value::Null } else { json!(token) };
        channel.hello = channel.ask("hello", json!({ "token": token })).await;
        channel
    }

    pub async fn connect(server: &Server, live: &str) -> Self {
        Self::try_connect(server.port, live).await.expect("the channel opens")
    }

    async fn try_connect(port: u16, live: &str) -> Option<Self> {
        let mut request = format!("ws://127.0.0.1:{port}/channel/{live}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "haul.v1".parse().unwrap());
        let (socket, _) = connect_async(request).await.ok()?;
        Some(Self { socket, next_id: 1, events: Vec::new(), hello: Value::Null })
    }

    /// As [`Channel::open`], to a server that may be going away.
    pub async fn try_open(port: u16, live: &str, token: &str) -> Option<Self> {
        let mut channel = Self::try_connect(port, live).await?;
        channel.hello = channel.try_ask("hello", json!({ "token": token })).await?;
        Some(channel)
    }

    /// Sends a request and waits for its reply, or its error.
    pub async fn ask(&mut self, kind: &str, fields: Value) -> Value {
        self.try_ask(kind, fields).await.expect("the channel was closed")
    }

    /// The same of a server that may be going away; nothing where the channel was closed before the answer came.
    pub async fn try_ask(&mut self, kind: &str, fields: Value) -> Option<Value> {
        let id = self.put(kind, fields).await;
        loop {
            let message = self.read().await?;
            if message["id"] == json!(id) && ["reply", "error"].contains(&message["type"].as_str().unwrap()) {
                return Some(message);
            }
            self.events.push(message);
        }
    }

    pub async fn put(&mut self, kind: &str, mut fields: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        fields["id"] = json!(id);
        fields["type"] = json!(kind);
        self.raw(Message::text(fields.to_string())).await;
        id
    }

    pub async fn raw(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    /// Waits for the event for which `wanted` is true.
    pub async fn event(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let fits = |event: &Value| event["type"] == kind && wanted(event);
        if let Some(index) = self.events.iter().position(fits) {
            return self.events.remove(index);
        }
        loop {
            let Ok(message) = timeout(PATIENCE, self.read()).await else {
                panic!("{kind} did not come, but {:#?}", self.events);
            };
            let message = message.unwrap_or_else(|| panic!("closed before {kind}"));
            if fits(&message) {
                return message;
            }
            self.events.push(message);
        }
    }

    /// The next message; `None` when the channel is closed.
    pub async fn read(&mut self) -> Option<Value> {
        loop {
            match timeout(2 * PATIENCE, self.socket.next()).await.expect("nothing is heard on the channel")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => {
                    self.hello = json!({ "closed": frame.map(|frame| u16::from(frame.code)) });
                    return None;
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The code with which the server closes.
    pub async fn closed(&mut self) -> Option<u64> {
        while self.read().await.is_some() {}
        self.hello["closed"].as_u64()
    }

    /// Sends a request again while the answer is that selling is unavailable or pending, as a client would.
    pub async fn insist(&mut self, kind: &str, fields: Value) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(kind, fields.clone()).await;
            let again = ["unavailable", "pending"].iter().any(|code| answer["code"] == *code);
            if !again || tokio::time::Instant::now() > until {
                return answer;
            }
            let wait = answer["retry_after_ms"].as_u64().unwrap_or(100).min(300);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }
}
