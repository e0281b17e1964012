//! The webhook that the harness is while a sale goes on: what a merchant's own systems would be told.
//!
//! It is registered with an API key, checks signatures after the Standard Webhooks specification, version 1
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>), and remembers each
//! message once. It is removed again at the end, whichever way the run ends (`leftovers`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    audit::Order,
    http::{Call, Client},
    leftovers::Leftovers,
};

/// How far a message's time may be from ours, in seconds.
const TOLERANCE_S: u64 = 300;
/// The longest message that is read.
const MAX_BODY: usize = 64 << 10;
/// Messages remembered; more are refused, and so come again.
const MAX_MESSAGES: usize = 1_000_000;
/// The kind of message that says an order is sold.
const SOLD: &str = "order.sold";

/// What has been told of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// As the last message has it: those about one order come in their order.
    pub(crate) order: Order,
    pub(crate) sale: String,
    /// Different messages that said it is sold: one, if all is well.
    pub(crate) sold: u32,
}

/// What has come in.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// By order.
    pub(crate) orders: BTreeMap<String, Told>,
    ids: BTreeSet<String>,
    /// Messages that came again.
    pub(crate) repeated: u64,
    /// Messages with a wrong signature, or from another time.
    pub(crate) forged: u64,
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Forged,
    Malformed,
    Full,
}

/// Who wants to know of each sold order at once, by its id.
type Listener = Box<dyn Fn(&str) + Send + Sync>;

#[derive(Default)]
struct Desk {
    key: OnceLock<hmac::Key>,
    heard: Mutex<Heard>,
    listener: OnceLock<Listener>,
}

impl Desk {
    /// A lock, since messages come over several connections; held to note one.
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, headers: &HeaderMap, body: &[u8], now_s: u64) -> Result<(), Refusal> {
        let genuine = self.key.get().is_some_and(|key| is_genuine(key, headers, body, now_s));
        let mut heard = self.heard();
        if !genuine {
            heard.forged += 1;
            return Err(Refusal::Forged);
        }
        let message: Value = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
        let id = text(headers, "webhook-id").to_owned();
        if heard.ids.contains(&id) {
            heard.repeated += 1;
            return Ok(());
        }
        if heard.ids.len() >= MAX_MESSAGES {
            return Err(Refusal::Full);
        }
        let (kind, data) = (message["type"].as_str().unwrap_or_default(), &message["data"]);
        let word = |name: &str| data[name].as_str().map(str::to_owned);
        let (Some(order), Some(hold), Some(sale), Some(state)) =
            (word("id"), word("hold_id"), word("sale_id"), word("state"))
        else {
            return Err(Refusal::Malformed);
        };
        let units = data["quantity"].as_u64().ok_or(Refusal::Malformed)? as u32;
        heard.ids.insert(id);
        let latest = Order { hold, units, state };
        let told = heard.orders.entry(order.clone()).or_insert_with(|| Told {
            order: latest.clone(),
            sale,
            sold: 0,
        });
        told.order = latest;
        told.sold += u32::from(kind == SOLD);
        drop(heard);
        if kind == SOLD
            && let Some(listener) = self.listener.get()
        {
            listener(&order);
        }
        Ok(())
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// One of the signatures is right, and the message is of now.
fn is_genuine(key: &hmac::Key, headers: &HeaderMap, body: &[u8], now_s: u64) -> bool {
    let (id, timestamp) = (text(headers, "webhook-id"), text(headers, "webhook-timestamp"));
    let of_now = timestamp.parse::<u64>().is_ok_and(|sent| sent.abs_diff(now_s) <= TOLERANCE_S);
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let matches = |signature: &str| {
        let tag = signature.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok());
        tag.is_some_and(|tag| hmac::verify(key, &signed, &tag).is_ok())
    };
    !id.is_empty() && of_now && text(headers, "webhook-signature").split(' ').take(8).any(matches)
}

/// A webhook that is registered and listens.
pub(crate) struct Webhook {
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

/// Where messages are to come.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) listen: SocketAddr,
    /// What the server calls; without it, the address itself.
    pub(crate) url: Option<String>,
}

impl Webhook {
    /// Listens, and has the server at `base` told of it until `leftovers` are taken back.
    pub(crate) async fn open(
        client: &Client,
        base: &str,
        api_key: &str,
        place: &Place,
        leftovers: &Leftovers,
    ) -> Result<Self> {
        let listener = TcpListener::bind(place.listen).await;
        let listener = listener.with_context(|| format!("can't listen for webhooks on {}", place.listen))?;
        let url = match &place.url {
            Some(url) => url.clone(),
            None => format!("http://{}/", listener.local_addr()?),
        };
        let desk = Arc::new(Desk::default());
        let router = Router::new()
            .route("/", post(receive))
            .fallback(post(receive))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(desk.clone());
        let task = tokio::spawn(async move {
            // It ends with the run.
            let _ = axum::serve(listener, router).await;
        });
        let call = Call {
            method: "POST",
            url: format!("{base}/v1/webhooks"),
            token: Some(api_key.to_owned()),
            content_type: Some("application/json"),
            body: json!({ "url": url, "kinds": ["order.*"] }).to_string(),
        };
        let answer = client.call_shared(call).await.context("registering the webhook")?;
        let made = answer.json();
        let (Some(id), Some(secret)) = (made["id"].as_str(), made["secret"].as_str()) else {
            task.abort();
            bail!("the webhook {url} was refused: {}{}", answer.complaint(), advice(&url, answer.status));
        };
        let remove = Call {
            method: "DELETE",
            url: format!("{base}/v1/webhooks/{id}"),
            token: Some(api_key.to_owned()),
            ..Call::default()
        };
        leftovers.add(format!("the webhook {id} to {url}, which is registered"), remove);
        let secret = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let secret = secret.context("the webhook's secret is not whsec_ and base64")?;
        // Nobody else sets it; what comes before is refused, and comes again.
        let _ = desk.key.set(hmac::Key::new(hmac::HMAC_SHA256, &secret));
        Ok(Self { desk, task })
    }

    /// Who is to be told of each order that is sold. Only the first counts.
    pub(crate) fn listen(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.desk.listener.set(Box::new(listener));
    }

    /// What has come in so far.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.desk.heard()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What to do about a refusal, where it is about the address: servers call nobody in private networks, if not told to.
fn advice(url: &str, status: StatusCode) -> &'static str {
    let of_the_address = [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY].contains(&status);
    if of_the_address && url.starts_with("http://") {
        ". Servers call https addresses in public alone, and this is none: set webhooks.allow_private = true in the \
         server's configuration if it is one for tests, or give --webhook-listen and a --webhook-url that it may call, or \
         leave --api-key out and webhooks uncompared"
    } else {
        ""
    }
}

async fn receive(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match desk.take(&headers, &body, now) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(Refusal::Forged) => StatusCode::UNAUTHORIZED,
        Err(Refusal::Malformed) => StatusCode::BAD_REQUEST,
        Err(Refusal::Full) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    fn desk() -> Desk {
        let desk = Desk::default();
        desk.key.set(key(b"ours")).unwrap();
        desk
    }

    fn message(kind: &str, order: &str, state: &str) -> String {
        let data = json!({ "id": order, "hold_id": "h1", "sale_id": "s1", "quantity": 2, "state": state });
        json!({ "type": kind, "timestamp": "2026-11-28T05:00:00.000Z", "data": data }).to_string()
    }

    fn signed(secret: &[u8], id: &str, at: u64, body: &str) -> HeaderMap {
        let tag = hmac::sign(&key(secret), format!("{id}.{at}.{body}").as_bytes());
        let signature = format!("v1,AAAA v1,{}", STANDARD.encode(tag.as_ref()));
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", &at.to_string()), ("webhook-signature", &signature)]
        {
            headers.insert(axum::http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_refused_address_comes_with_what_to_do_and_a_refused_key_does_not() {
        assert!(
            advice("http://127.0.0.1:9/", StatusCode::BAD_REQUEST).contains("webhooks.allow_private = true")
        );
        assert_eq!(advice("http://127.0.0.1:9/", StatusCode::FORBIDDEN), "");
        assert_eq!(advice("https://shop.example/hook", StatusCode::BAD_REQUEST), "");
    }

    #[test]
    fn messages_about_an_order_are_remembered_once_each() {
        let desk = desk();
        for (id, kind, state) in [
            ("m1", "order.paying", "paying"),
            ("m2", SOLD, "sold"),
            ("m2", SOLD, "sold"),
            ("m3", SOLD, "sold"),
        ] {
            let body = message(kind, "o1", state);
            assert_eq!(desk.take(&signed(b"ours", id, NOW, &body), body.as_bytes(), NOW), Ok(()));
        }
        let heard = desk.heard();
        let order = Order { hold: "h1".to_owned(), units: 2, state: "sold".to_owned() };
        let told = Told { order, sale: "s1".to_owned(), sold: 2 };
        assert_eq!(heard.orders, [("o1".to_owned(), told)].into());
        assert_eq!((heard.repeated, heard.forged), (1, 0));
    }

    #[test]
    fn what_is_not_signed_by_the_secret_for_now_is_refused() {
        let (desk, body) = (desk(), message(SOLD, "o1", "sold"));
        for headers in [
            signed(b"theirs", "m1", NOW, &body),
            signed(b"ours", "m1", NOW - 301, &body),
            signed(b"ours", "m1", NOW, "another"),
            signed(b"ours", "", NOW, &body),
            HeaderMap::new(),
        ] {
            assert_eq!(desk.take(&headers, body.as_bytes(), NOW), Err(Refusal::Forged));
        }
        let nonsense = r#"{"type":"order.sold","data":{"id":"o1"}}"#;
        let headers = signed(b"ours", "m1", NOW, nonsense);
        assert_eq!(desk.take(&headers, nonsense.as_bytes(), NOW), Err(Refusal::Malformed));
        assert_eq!(desk.heard().forged, 5);
        assert!(desk.heard().orders.is_empty());
        let closed = Desk::default();
        let headers = signed(b"ours", "m1", NOW, &body);
        assert_eq!(closed.take(&headers, body.as_bytes(), NOW), Err(Refusal::Forged), "not registered yet");
    }
}
