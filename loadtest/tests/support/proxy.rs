//! A proxy before a good server that makes it look like a bad one: one fault at a time.

#![allow(unreachable_pub)]

use std::{
    collections::HashSet,
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
    /// Of two taps with one key, the first is told another hold than the second.
    DoubleHold,
    /// Each viewer's session leaves a quarter of a megabyte behind.
    Leak,
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::None, Self::Loss, Self::Oversell, Self::LateStock, Self::DoubleHold, Self::Leak];

    fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Bytes that a session leaves behind by [`Fault::Leak`].
const LEAKED: usize = 256 << 10;
/// By which a test is told that it is to be the proxy, and before which server with which fault.
const ROLE: &str = "HAUL_TEST_PROXY";

/// A running proxy: a process of its own, whose memory is, from outside, the server's.
pub struct Proxy {
    pub base: String,
    process: Process,
    /// Ends with it.
    _relay: Option<Process>,
}

struct Shared {
    base: String,
    fault: Fault,
    /// The server's media port, and the relay's that stands before it.
    ports: Option<(u16, u16)>,
    /// The unit too many has been sold.
    oversold: AtomicBool,
    /// Keys of holds that were asked for.
    first_taps: Mutex<HashSet<String>>,
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
        let (before, after) = ports.unwrap_or_default();
        let role = format!("{} {} {before} {after}", fault.name(), server.base);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "is_the_proxy_where_a_test_asks_for_one", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
        let base = lines.filter_map(|line| Some(line.split_once("proxy at ")?.1.to_owned())).next();
        let base = base.expect("the proxy says where it is");
        Self { base, process: Process(child), _relay: relay }
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// In the process that was started to be the proxy: is one, until it is killed. Else does nothing.
    pub fn be_one_if_asked() {
        let Ok(role) = std::env::var(ROLE) else { return };
        let words: Vec<&str> = role.split(' ').collect();
        let [fault, server, before, after] = words[..] else { panic!("{role}") };
        let fault = Fault::ALL.into_iter().find(|known| known.name() == fault).unwrap();
        let (before, after): (u16, u16) = (before.parse().unwrap(), after.parse().unwrap());
        let ports = (before != 0).then_some((before, after));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        println!("\nproxy at http://{}", listener.local_addr().unwrap());
        let client = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .build()
            .into();
        let shared = Arc::new(Shared {
            base: server.to_owned(),
            fault,
            ports,
            oversold: AtomicBool::new(false),
            first_taps: Mutex::default(),
            leaked: Mutex::default(),
            client,
        });
        let router = Router::new()
            .route("/channel/{live}", get(channel))
            .route("/too-much/pay", any(async || "paid"))
            .fallback(forward)
            .with_state(shared);
        // Until whoever has started it is gone.
        runtime.spawn(async move { axum::serve(listener, router).await });
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    }
}

/// Passes a request on, and its answer back.
async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let watches = parts.method == "POST" && path.starts_with("/whep/");
    if watches && shared.fault == Fault::Leak {
        shared.leaked.lock().unwrap().push(vec![1; LEAKED]);
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
    let (mut holds, mut firsts): (Vec<Value>, Vec<Value>) = Default::default();
    loop {
        tokio::select! {
            message = from_client.next() => {
                let Some(Ok(message)) = message else { return };
                let Down::Text(text) = message else { continue };
                let request: Value = serde_json::from_str(&text).unwrap();
                if request["type"] == "hold" {
                    holds.push(request["id"].clone());
                    let key = request["key"].as_str().unwrap_or_default().to_owned();
                    if shared.first_taps.lock().unwrap().insert(key) {
                        firsts.push(request["id"].clone());
                    }
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
                if shared.fault == Fault::DoubleHold && text.starts_with(r#"{"type":"reply""#) {
                    let mut reply: Value = serde_json::from_str(&text).unwrap();
                    if firsts.contains(&reply["id"]) && reply["result"]["hold"]["id"].is_string() {
                        reply["result"]["hold"]["id"] = json!("another-hold");
                        let _ = queue.send(reply.to_string());
                        continue;
                    }
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
