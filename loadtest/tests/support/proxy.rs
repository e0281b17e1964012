//! A proxy before a good server that makes it look like a bad one: one fault at a time.

#![allow(unreachable_pub)]

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{
        Request, State,
        ws::{Message as Down, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse, Response},
    routing::{any, get},
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message as Up, client::IntoClientRequest},
};

use crate::support::{Process, Server, program};

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// 2 % of the media are dropped on the way to viewers.
    Loss,
    /// One buyer who was refused for want of stock is sold a unit all the same.
    Oversell,
    /// Stock events come a second late.
    LateStock,
    /// Each viewer's session leaves two megabytes behind.
    Leak,
}

/// A running proxy.
pub struct Proxy {
    pub base: String,
    /// Both end with it.
    _relay: Option<Process>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    base: String,
    fault: Fault,
    /// The server's media port, and the relay's that stands before it.
    ports: Option<(u16, u16)>,
    /// The unit too many has been sold.
    oversold: AtomicBool,
    leaked: Mutex<Vec<Vec<u8>>>,
    client: ureq::Agent,
}

impl Proxy {
    pub fn start(server: &Server, fault: Fault) -> Self {
        let mut relay = None;
        let mut ports = None;
        if fault == Fault::Loss {
            let mut child = Command::new(program("haul-test-link"))
                .args([
                    "--to",
                    &format!("127.0.0.1:{}", server.udp_port),
                    "--down",
                    "loss=0.02",
                    "--seed",
                    "7",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            let address: SocketAddr = line.trim().strip_prefix("listening ").unwrap().parse().unwrap();
            child.stdin.as_mut().unwrap().flush().unwrap();
            ports = Some((server.udp_port, address.port()));
            relay = Some(Process(child));
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let client = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .build()
            .into();
        let shared = Arc::new(Shared {
            base: server.base.clone(),
            fault,
            ports,
            oversold: AtomicBool::new(false),
            leaked: Mutex::default(),
            client,
        });
        let router = Router::new()
            .route("/channel/{live}", get(channel))
            .route("/too-much/pay", any(async || "paid"))
            .fallback(forward)
            .with_state(shared);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { base, _relay: relay, _runtime: runtime }
    }
}

/// Passes a request on, and its answer back.
async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let watches = parts.method == "POST" && path.starts_with("/whep/");
    if watches && shared.fault == Fault::Leak {
        shared.leaked.lock().unwrap().push(vec![1; 2 << 20]);
    }
    let mut onward =
        ureq::http::Request::builder().method(parts.method.as_str()).uri(format!("{}{path}", shared.base));
    for name in ["authorization", "content-type"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value.as_bytes());
        }
    }
    let (client, onward) = (shared.client.clone(), onward.body(body.to_vec()).unwrap());
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = client.run(onward).unwrap();
        let body = answer.body_mut().read_to_vec().unwrap();
        (answer.status().as_u16(), answer.headers().clone(), body)
    });
    let (status, headers, mut body) = answer.await.unwrap();
    if watches && let Some((server, relay)) = shared.ports {
        // Viewers' media go through the relay; the host's do not.
        let sdp = String::from_utf8(body).unwrap();
        body = sdp.replace(&format!(" {server} typ "), &format!(" {relay} typ ")).into_bytes();
    }
    let mut response = Response::builder().status(status);
    for name in ["content-type", "location", "retry-after", "etag"] {
        if let Some(value) = headers.get(name) {
            response = response.header(name, value.as_bytes());
        }
    }
    response.body(Bytes::from(body).into()).unwrap()
}

async fn channel(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade, request: Request) -> Response {
    let url = format!("{}{}", shared.base.replacen("http", "ws", 1), request.uri().path());
    upgrade.protocols(["haul.v1"]).on_upgrade(move |socket| pass(shared, socket, url)).into_response()
}

/// Passes a channel's messages on in both directions.
async fn pass(shared: Arc<Shared>, socket: WebSocket, url: String) {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "haul.v1".parse().unwrap());
    let Ok((server, _)) = connect_async(request).await else { return };
    let ((mut to_server, mut from_server), (mut to_client, mut from_client)) =
        (server.split(), socket.split());
    // One queue to the client, so that what comes late can be put into it late.
    let (queue, mut queued) = mpsc::unbounded_channel::<String>();
    tokio::spawn(async move {
        while let Some(text) = queued.recv().await {
            if to_client.send(Down::Text(text.into())).await.is_err() {
                return;
            }
        }
    });
    let mut holds: Vec<Value> = Vec::new();
    loop {
        tokio::select! {
            message = from_client.next() => {
                let Some(Ok(message)) = message else { return };
                let Down::Text(text) = message else { continue };
                let request: Value = serde_json::from_str(&text).unwrap();
                if request["type"] == "hold" {
                    holds.push(request["id"].clone());
                }
                if request["hold_id"] == "too-much" {
                    let order = order("paying", &request);
                    let result = json!({ "order": order, "hold": {}, "pay_url": "/too-much/pay", "server_time": 0 });
                    let _ = queue.send(json!({ "type": "reply", "id": request["id"], "result": result }).to_string());
                    let sold = json!({ "type": "order.changed", "order": self::order("sold", &request), "epoch": "e" });
                    let queue = queue.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        let _ = queue.send(sold.to_string());
                    });
                    continue;
                }
                if to_server.send(Up::text(text.as_str())).await.is_err() {
                    return;
                }
            }
            message = from_server.next() => {
                let Some(Ok(message)) = message else { return };
                let Up::Text(text) = message else { continue };
                let text = text.to_string();
                if shared.fault == Fault::LateStock && text.starts_with(r#"{"type":"stock.changed""#) {
                    let queue = queue.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        let _ = queue.send(text);
                    });
                    continue;
                }
                if shared.fault == Fault::Oversell && text.starts_with(r#"{"type":"error""#) {
                    let error: Value = serde_json::from_str(&text).unwrap();
                    let refused = error["code"] == "sold_out" || error["code"] == "not_enough";
                    if refused && holds.contains(&error["id"]) && !shared.oversold.swap(true, Ordering::SeqCst) {
                        let hold = json!({ "id": "too-much", "state": "held", "quantity": 1 });
                        let reply = json!({ "type": "reply", "id": error["id"], "result": { "hold": hold } });
                        let _ = queue.send(reply.to_string());
                        continue;
                    }
                }
                if queue.send(text).is_err() {
                    return;
                }
            }
        }
    }
}

fn order(state: &str, request: &Value) -> Value {
    json!({ "id": "order-too-much", "hold_id": "too-much", "sale_id": request["sale_id"], "quantity": 1, "state": state })
}
