//! What a request is looked at for before it is handed on: whether somebody takes more holds than they should, whether the
//! merchant's own check refuses them, and what of it belongs into the audit log.

use std::{
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use haul_courier::{
    Call, Client, Keyring, Method,
    signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER},
};
use haul_model::{BuyerId, LiveId, MessageId, Role, Viewer};
use haul_room::{Limiter, Rate};
use haul_wire::{Code, Failure, Request};
use rand::RngExt;
use serde::Deserialize;
use serde_json::json;

use crate::{app::App, v1::Doing};

/// Who may take how many holds.
#[derive(Debug, Clone, Default)]
pub struct RiskSettings {
    /// Holds a minute of one account, device and address; 0: no limit.
    pub per_account: u32,
    /// The same of one device, where tokens name one (claim `device`).
    pub per_device: u32,
    /// The same of one address.
    pub per_address: u32,
    /// The merchant's own check.
    pub check: Option<Check>,
}

/// A merchant's server that may refuse a hold.
#[derive(Debug, Clone)]
pub struct Check {
    /// Where it is asked.
    pub url: String,
    /// What signs the question.
    pub keys: Keyring,
    /// How it is reached.
    pub client: Client,
    /// How long it may take.
    pub deadline: Duration,
    /// Whether a hold is allowed where there is no answer.
    pub fail_open: bool,
}

/// Counts holds, and asks the merchant.
#[derive(Debug)]
pub(crate) struct Risk {
    accounts: Limit<BuyerId>,
    devices: Limit<String>,
    addresses: Limit<IpAddr>,
    check: Option<Check>,
}

/// A limit, if there is one.
///
/// A lock, since any connection may count; held to count.
#[derive(Debug)]
struct Limit<K>(Option<Mutex<Limiter<K>>>);

impl<K: Eq + Hash + Clone> Limit<K> {
    fn new(per_minute: u32) -> Self {
        let rate = |burst| Rate { burst, every: Duration::from_secs(60) / burst };
        Self((per_minute > 0).then(|| Mutex::new(Limiter::new(rate(per_minute)))))
    }

    fn take(&self, key: Option<&K>, now: Instant) -> Result<(), Duration> {
        match (&self.0, key) {
            (Some(limiter), Some(key)) => {
                limiter.lock().unwrap_or_else(PoisonError::into_inner).take(key.clone(), now)
            }
            _ => Ok(()),
        }
    }
}

/// Who wants to take a hold, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Taker {
    pub(crate) live: LiveId,
    pub(crate) buyer: BuyerId,
    pub(crate) device: Option<String>,
    pub(crate) address: Option<IpAddr>,
}

/// What the merchant's check answers.
#[derive(Debug, Deserialize)]
struct Verdict {
    allow: bool,
}

impl Risk {
    pub(crate) fn new(settings: RiskSettings) -> Self {
        Self {
            accounts: Limit::new(settings.per_account),
            devices: Limit::new(settings.per_device),
            addresses: Limit::new(settings.per_address),
            check: settings.check,
        }
    }

    /// Whether a hold may be asked for. `request`: what is asked, as the channel's JSON has it.
    pub(crate) async fn admit(&self, taker: &Taker, request: serde_json::Value) -> Result<(), Failure> {
        let now = haul_live::now().instant;
        let counted = self
            .accounts
            .take(Some(&taker.buyer), now)
            .and_then(|()| self.devices.take(taker.device.as_ref(), now))
            .and_then(|()| self.addresses.take(taker.address.as_ref(), now));
        if let Err(wait) = counted {
            return Err(Failure::new(
                Code::RateLimited,
                "too many holds from your account, device or address",
            )
            .retry_after(wait.as_millis() as u64 + 1));
        }
        match &self.check {
            Some(check) => check.ask(taker, request).await,
            None => Ok(()),
        }
    }
}

impl Check {
    async fn ask(&self, taker: &Taker, request: serde_json::Value) -> Result<(), Failure> {
        let at = haul_live::now().wall;
        let id = MessageId::generate("risk_", at, rand::rng().random()).to_string();
        let body = json!({
            "type": "hold.check",
            "data": {
                "live_id": taker.live, "buyer_id": taker.buyer, "device": taker.device,
                "address": taker.address, "hold": request,
            },
        })
        .to_string();
        let sent_at_s = at.0 / 1000;
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            (SIGNATURE_HEADER, self.keys.sign(&id, sent_at_s, body.as_bytes())),
            (TIMESTAMP_HEADER, sent_at_s.to_string()),
            (ID_HEADER, id),
        ];
        let call =
            Call { method: Method::POST, url: &self.url, headers, body: body.into(), within: self.deadline };
        let verdict = match self.client.call(call).await {
            Ok(reply) if reply.is_success() => {
                serde_json::from_slice::<Verdict>(&reply.body).map_err(|error| error.to_string())
            }
            Ok(reply) => Err(format!("answered {}", reply.status)),
            Err(error) => Err(error.to_string()),
        };
        match verdict {
            Ok(Verdict { allow: true }) => Ok(()),
            Ok(Verdict { allow: false }) => {
                tracing::info!(live = %taker.live, "a hold was refused by the merchant's check");
                Err(Failure::new(Code::Forbidden, "the shop does not accept this"))
            }
            Err(error) => {
                let open = self.fail_open;
                tracing::warn!(live = %taker.live, error, allowed = open, "the merchant's check gave no answer");
                match open {
                    true => Ok(()),
                    false => Err(Failure::new(
                        Code::Unavailable,
                        "the shop cannot check this at the moment: try again",
                    )
                    .retry_after(2_000)),
                }
            }
        }
    }
}

/// Who is on a connection, as far as its requests are looked at.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) live: LiveId,
    pub(crate) viewer: Option<Viewer>,
    pub(crate) device: Option<String>,
    pub(crate) address: Option<IpAddr>,
}

impl Guard {
    /// Whether a request may be handed on.
    pub(crate) async fn admit(&self, app: &App, request: &Request) -> Result<(), Failure> {
        let Some(viewer) = &self.viewer else { return Ok(()) };
        let Some(asked) = hold_of(request) else { return Ok(()) };
        let taker = Taker {
            live: self.live.clone(),
            buyer: viewer.id.clone(),
            device: self.device.clone(),
            address: self.address,
        };
        app.risk.admit(&taker, asked).await
    }

    /// Writes down what staff does: `text` is the request as it came. What is refused later is written down too, since
    /// that it was tried is worth knowing.
    pub(crate) fn note(&self, app: &App, text: &str) {
        let Some(viewer) = self.viewer.as_ref().filter(|viewer| viewer.role.includes(Role::Moderator)) else {
            return;
        };
        let Some((action, target)) = change(text) else { return };
        let (app, viewer) = (app.clone(), viewer.clone());
        let doing = Doing {
            action,
            target,
            live: Some(self.live.clone()),
            address: self.address.map(|address| address.to_string()),
        };
        tokio::spawn(async move { app.note_viewer(&viewer, doing).await });
    }
}

/// What a request would set aside, now or when its turn comes: a place in line becomes a hold without another question.
fn hold_of(request: &Request) -> Option<serde_json::Value> {
    match request {
        Request::Hold { sale_id, quantity, lines, key, coupon } => {
            let mut hold = json!({ "sale_id": sale_id, "quantity": quantity, "lines": lines, "key": key });
            if let Some(coupon) = coupon {
                hold["coupon"] = json!(coupon);
            }
            Some(hold)
        }
        Request::Wait { sale_id, line, quantity, key } => {
            let lines = [json!({ "line": line, "quantity": quantity })];
            Some(json!({ "sale_id": sale_id, "quantity": null, "lines": lines, "key": key }))
        }
        _ => None,
    }
}

/// What a request does to the shop or the room, and what else it says.
fn change(text: &str) -> Option<(String, String)> {
    let serde_json::Value::Object(mut fields) = serde_json::from_str(text).ok()? else { return None };
    let kind = fields.remove("type")?.as_str()?.to_owned();
    if UNNOTED.contains(&kind.as_str()) {
        return None;
    }
    fields.remove("id");
    let target =
        if fields.is_empty() { String::new() } else { serde_json::Value::Object(fields).to_string() };
    Some((kind, target))
}

/// Requests by which nothing of the shop's or the room's is changed, or which everybody makes for themselves.
const UNNOTED: &[&str] = &[
    "hello",
    "ping",
    "chat.send",
    "chat.log",
    "like",
    "thread.send",
    "thread.read",
    "thread.list",
    "question.ask",
    "question.vote",
    "poll.vote",
    "giveaway.enter",
    "quality.set",
    "hold",
    "hold.cancel",
    "checkout",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_in_line_is_looked_at_as_whoever_holds() {
        let asked = |text: &str| hold_of(&haul_wire::parse(text).unwrap().1);
        let held =
            asked(r#"{"id":1,"type":"hold","sale_id":"s","lines":[{"line":1,"quantity":2}],"key":"k"}"#);
        let waits = asked(r#"{"id":1,"type":"wait","sale_id":"s","line":1,"quantity":2,"key":"k"}"#);
        assert_eq!(held.as_ref().map(|held| &held["lines"][0]["quantity"]), Some(&json!(2)));
        assert_eq!(held, waits);
        assert_eq!(asked(r#"{"id":1,"type":"ping"}"#), None);
    }

    #[test]
    fn what_changes_something_is_noted_with_what_it_says() {
        let noted = change(r#"{"id":7,"type":"pin","product_id":"lamp"}"#).unwrap();
        assert_eq!(noted, ("pin".to_owned(), r#"{"product_id":"lamp"}"#.to_owned()));
        assert_eq!(change(r#"{"id":8,"type":"unpin"}"#).unwrap(), ("unpin".to_owned(), String::new()));
        for nothing in [r#"{"id":1,"type":"ping"}"#, r#"{"id":1,"type":"chat.send","text":"hi"}"#, "", "[]"] {
            assert_eq!(change(nothing), None, "{nothing}");
        }
    }
}
