//! A WHIP/WHEP server that is not Haul, as far as a client can see: our own one's media behind other addresses, tokens and
//! manners, in the variety that servers in use have them.

#![allow(unreachable_pub)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    response::Response,
};
use tokio::net::TcpListener;

use crate::support::Server;

/// The one token it takes.
pub const TOKEN: &str = "a-key-of-another-server";

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// `Location` is a path beside the request's; sessions are told by a query. No `ETag`, no PATCH.
    Relative,
    /// `Location` is absolute, the endpoint has moved (307), the answer lists candidates of all kinds.
    Absolute,
    /// 200 instead of 201, and no `Location` at all.
    Careless,
}

/// A running one.
pub struct Foreign {
    pub whip: String,
    pub whep: String,
    counts: Arc<Counts>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Counts {
    offers: AtomicU32,
    deleted: AtomicU32,
    strange: AtomicU32,
}

struct Shared {
    server: String,
    host_token: String,
    base: String,
    manners: Manners,
    counts: Arc<Counts>,
    client: ureq::Agent,
}

impl Foreign {
    pub fn start(server: &Server, manners: Manners) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let counts = Arc::<Counts>::default();
        let client = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let shared = Arc::new(Shared {
            server: server.base.clone(),
            host_token: server.token.clone(),
            base: base.clone(),
            manners,
            counts: counts.clone(),
            client,
        });
        let router = Router::new().fallback(answer).with_state(shared);
        runtime.spawn(async move { axum::serve(listener, router).await });
        let (whip, whep) = match manners {
            Manners::Absolute => ("old/whip", "old/whep"),
            _ => ("rtc/whip/?app=live&stream=a", "rtc/whep/?app=live&stream=a"),
        };
        Self { whip: format!("{base}/{whip}"), whep: format!("{base}/{whep}"), counts, _runtime: runtime }
    }

    /// Offers taken, sessions deleted, and requests that no client should make.
    pub fn counts(&self) -> (u32, u32, u32) {
        let read = |count: &AtomicU32| count.load(Ordering::SeqCst);
        (read(&self.counts.offers), read(&self.counts.deleted), read(&self.counts.strange))
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let plain = |status: u16| Response::builder().status(status).body(Bytes::new().into()).unwrap();
    if parts.headers.get("authorization").is_none_or(|value| value != &format!("Bearer {TOKEN}")) {
        return plain(401);
    }
    if let Some(moved) = path.strip_prefix("/old/") {
        let mut response = plain(307);
        let there = format!("{}/new/{moved}", shared.base);
        response.headers_mut().insert("location", there.parse().unwrap());
        return response;
    }
    // Our own session's path is what the foreign one is made of.
    if let Some((_, session)) = path.split_once("session=") {
        return delete(&shared, parts.method.as_str(), session.to_owned()).await;
    }
    if let Some(session) = path.strip_prefix("/sessions") {
        return delete(&shared, parts.method.as_str(), session.to_owned()).await;
    }
    let kind = if path.contains("whip") { "whip" } else { "whep" };
    if parts.method != "POST" || !path.contains(kind) {
        shared.counts.strange.fetch_add(1, Ordering::SeqCst);
        return plain(405);
    }
    let url = format!("{}/{kind}/demo", shared.server);
    let (status, location, sdp) = post(&shared, url, body).await;
    if status != 201 {
        // There is nobody to watch yet: others say so by other words than ours.
        return plain(404);
    }
    shared.counts.offers.fetch_add(1, Ordering::SeqCst);
    let response = Response::builder().header("content-type", "application/sdp");
    match shared.manners {
        Manners::Relative => {
            let location = format!("?action=delete&session={location}");
            response.status(201).header("location", location).body(sdp.into()).unwrap()
        }
        Manners::Absolute => {
            let more = "a=candidate:9 1 tcp 1671430143 192.0.2.1 8189 typ host tcptype passive\r\n\
                        a=candidate:8 1 udp 1 2001:db8::1 8189 typ host\r\n\
                        a=candidate:7 1 udp 2 0a1b2c3d-1111-4222-8333-444455556666.local 8189 typ host\r\n";
            let at = sdp.find("a=candidate:").unwrap_or(sdp.len());
            let sdp = format!("{}{more}{}", &sdp[..at], &sdp[at..]);
            let location = format!("{}/sessions{location}", shared.base);
            let links = "<stun:stun.example.net>; rel=\"ice-server\"";
            let response = response.status(201).header("location", location).header("link", links);
            response.header("etag", "\"*\"").body(sdp.into()).unwrap()
        }
        Manners::Careless => response.status(200).body(sdp.into()).unwrap(),
    }
}

/// Posts an offer onward. Returns status, session and answer.
async fn post(shared: &Shared, url: String, body: Bytes) -> (u16, String, String) {
    let request = ureq::http::Request::post(url)
        .header("authorization", format!("Bearer {}", shared.host_token))
        .header("content-type", "application/sdp");
    let (client, request) = (shared.client.clone(), request.body(body.to_vec()).unwrap());
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = client.run(request).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), location.unwrap_or_default(), text)
    });
    answer.await.unwrap()
}

async fn delete(shared: &Shared, method: &str, session: String) -> Response {
    let plain = |status: u16| Response::builder().status(status).body(Bytes::new().into()).unwrap();
    if method != "DELETE" {
        shared.counts.strange.fetch_add(1, Ordering::SeqCst);
        return plain(405);
    }
    let request = ureq::http::Request::delete(format!("{}{session}", shared.server))
        .header("authorization", format!("Bearer {}", shared.host_token));
    let (client, request) = (shared.client.clone(), request.body(()).unwrap());
    let status = tokio::task::spawn_blocking(move || client.run(request).unwrap().status().as_u16());
    let status = status.await.unwrap();
    // The goodbye of DTLS may have come before, and then there is no such session any more.
    shared.counts.deleted.fetch_add(u32::from([200, 404].contains(&status)), Ordering::SeqCst);
    plain(status)
}
