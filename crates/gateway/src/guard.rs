//! What a request is looked at for before it is handed on: whether somebody takes more holds than they should, whether the
//! merchant's own check refuses them, and what of it belongs into the audit log.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use haul_commerce::keys::hash;
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

/// How long a hold that was let through may be asked for again without being counted or looked at again.
const ADMITTED_FOR: Duration = Duration::from_secs(15 * 60);
/// So many of them are remembered. When there are more, the oldest are forgotten: a retry of theirs counts as a new hold.
const MAX_ADMITTED: usize = 100_000;

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
    /// What was let through lately: the same again is a retry, whose first may have been granted.
    ///
    /// A lock, since any connection may ask; held for a look-up.
    admitted: Mutex<Admitted>,
}

/// Requests that were counted once: asked again, they are not counted again, and once they were let through they are not
/// looked at again.
#[derive(Debug, Default)]
struct Admitted {
    /// By a digest of who asks for what: when it was counted, and whether it was let through.
    known: HashMap<String, (Instant, bool)>,
    /// Oldest first. What was forgotten before its time may still be in it.
    oldest: VecDeque<(Instant, String)>,
}

impl Admitted {
    /// Whether the same was let through lately; `None` where it was not even counted.
    fn get(&mut self, digest: &str, now: Instant) -> Option<bool> {
        while let Some((at, digest)) = self.oldest.front()
            && (now.duration_since(*at) >= ADMITTED_FOR || self.oldest.len() > MAX_ADMITTED)
        {
            if self.known.get(digest).is_some_and(|(known, _)| known == at) {
                self.known.remove(digest);
            }
            self.oldest.pop_front();
        }
        self.known.get(digest).map(|(_, admitted)| *admitted)
    }

    fn counted(&mut self, digest: String, now: Instant) {
        self.known.insert(digest.clone(), (now, false));
        self.oldest.push_back((now, digest));
    }

    fn let_through(&mut self, digest: &str) {
        if let Some((_, admitted)) = self.known.get_mut(digest) {
            *admitted = true;
        }
    }

    /// It was refused: asked again, it is a new question.
    fn forget(&mut self, digest: &str) {
        if self.known.get(digest).is_some_and(|(_, admitted)| !admitted) {
            self.known.remove(digest);
        }
    }
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
            admitted: Mutex::default(),
        }
    }

    /// Whether anything is counted or asked at all.
    fn looks(&self) -> bool {
        let Self { accounts, devices, addresses, check, admitted: _ } = self;
        accounts.0.is_some() || devices.0.is_some() || addresses.0.is_some() || check.is_some()
    }

    fn admitted(&self) -> MutexGuard<'_, Admitted> {
        // At worst, something is forgotten too early.
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a hold may be asked for. `request`: what is asked, as the channel's JSON has it. The same asked again lately
    /// by the same buyer under the same key is a retry: it takes nothing of the limits, and once it was let through it is
    /// let through, since it may have been granted.
    pub(crate) async fn admit(&self, taker: &Taker, request: serde_json::Value) -> Result<(), Failure> {
        if !self.looks() {
            return Ok(());
        }
        let now = haul_live::now().instant;
        let asked = request.to_string();
        let digest = hash(&[taker.live.as_str(), taker.buyer.as_str(), &asked].map(str::as_bytes));
        let known = self.admitted().get(&digest, now);
        match known {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => {
                self.count(taker, now)?;
                self.admitted().counted(digest.clone(), now);
            }
        }
        let answer = match &self.check {
            Some(check) => check.ask(taker, request).await,
            None => Ok(()),
        };
        match &answer {
            Ok(()) => self.admitted().let_through(&digest),
            Err(_) => self.admitted().forget(&digest),
        }
        answer
    }

    fn count(&self, taker: &Taker, now: Instant) -> Result<(), Failure> {
        self.accounts
            .take(Some(&taker.buyer), now)
            .and_then(|()| self.devices.take(taker.device.as_ref(), now))
            .and_then(|()| self.addresses.take(taker.address.map(haul_webrtc::network).as_ref(), now))
            .map_err(|wait| {
                Failure::new(Code::RateLimited, "too many holds from your account, device or address")
                    .retry_after(wait.as_millis() as u64 + 1)
            })
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

    fn risk(settings: RiskSettings) -> Risk {
        Risk::new(settings)
    }

    fn taker(buyer: &str, device: Option<&str>, address: Option<&str>) -> Taker {
        Taker {
            live: "demo".parse().unwrap(),
            buyer: buyer.parse().unwrap(),
            device: device.map(str::to_owned),
            address: address.map(|address| address.parse().unwrap()),
        }
    }

    fn key(key: &str) -> serde_json::Value {
        json!({ "sale_id": "s", "key": key })
    }

    /// Two are let through, a third is not, whoever asks; others are not harmed, nor is who names no device or address.
    #[tokio::test]
    async fn a_device_and_an_address_have_limits_of_their_own() {
        let device = RiskSettings { per_device: 2, ..RiskSettings::default() };
        let address = RiskSettings { per_address: 2, ..RiskSettings::default() };
        let by_device = |buyer, device| taker(buyer, device, None);
        let by_address = |buyer, address| taker(buyer, None, address);
        let (phone, here) = (Some("phone"), Some("192.0.2.7"));
        // A network of 64 bits is one's own.
        let at_home = |last| Some(["2001:db8:0:7::1", "2001:db8:0:7::2", "2001:db8:0:7:ffff::3"][last]);
        for (risk, one, other, none) in [
            (
                risk(device),
                [by_device("ann", phone), by_device("bob", phone), by_device("cid", phone)],
                by_device("cid", Some("tablet")),
                by_device("dan", None),
            ),
            (
                risk(address.clone()),
                [by_address("ann", here), by_address("bob", here), by_address("cid", here)],
                by_address("cid", Some("192.0.2.8")),
                by_address("dan", None),
            ),
            (
                risk(address.clone()),
                [by_address("ann", at_home(0)), by_address("bob", at_home(1)), by_address("cid", at_home(2))],
                by_address("cid", Some("2001:db8:0:8::1")),
                by_address("dan", None),
            ),
        ] {
            let [ann, bob, cid] = one;
            assert!(risk.admit(&ann, key("a")).await.is_ok());
            assert!(risk.admit(&bob, key("b")).await.is_ok());
            let refused = risk.admit(&cid, key("c")).await.unwrap_err();
            assert_eq!(refused.code, Code::RateLimited);
            assert!(refused.retry_after_ms.is_some());
            for (taker, name) in [(&other, "d"), (&none, "e"), (&none, "f"), (&none, "g")] {
                assert!(risk.admit(taker, key(name)).await.is_ok(), "{taker:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_retry_takes_nothing_of_the_limits() {
        let settings = RiskSettings { per_account: 1, per_device: 1, per_address: 1, check: None };
        let risk = risk(settings);
        let ann = taker("ann", Some("phone"), Some("192.0.2.7"));
        for _ in 0..5 {
            assert!(risk.admit(&ann, key("a")).await.is_ok());
        }
        for (who, what) in [(&ann, key("b")), (&ann, json!({ "sale_id": "s", "key": "a", "quantity": 9 }))] {
            assert_eq!(risk.admit(who, what).await.unwrap_err().code, Code::RateLimited, "another hold");
        }
        let bob = taker("bob", Some("phone"), None);
        assert!(risk.admit(&bob, key("a")).await.is_err(), "another's key is another's");
    }

    #[test]
    fn what_was_let_through_is_remembered_for_a_while_and_memory_is_bounded() {
        let start = haul_live::now().instant;
        let mut admitted = Admitted::default();
        admitted.counted("a".to_owned(), start);
        assert_eq!(admitted.get("a", start), Some(false));
        admitted.let_through("a");
        admitted.forget("a");
        let last = start + ADMITTED_FOR - Duration::from_millis(1);
        assert_eq!(admitted.get("a", last), Some(true));
        assert_eq!(admitted.get("a", start + ADMITTED_FOR), None);
        // Refused, and asked again: the first time is not the second one's.
        admitted.counted("b".to_owned(), start);
        admitted.forget("b");
        assert_eq!(admitted.get("b", last), None);
        admitted.counted("b".to_owned(), last);
        assert_eq!(admitted.get("b", start + ADMITTED_FOR), Some(false));
        for number in 0..MAX_ADMITTED + 10 {
            admitted.counted(number.to_string(), last);
            admitted.get("", last);
        }
        assert!(admitted.known.len() <= MAX_ADMITTED && admitted.oldest.len() <= MAX_ADMITTED);
        assert_eq!((admitted.get("0", last), admitted.get("100", last)), (None, Some(false)));
    }

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
