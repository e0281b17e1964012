//! What merchants are told, by webhooks: messages that are written in the same transaction as what they tell, and their
//! deliveries to each of a merchant's endpoints.
//!
//! A delivery is tried until the endpoint answers 2xx, at the times of [`WAITS`]; after the last, the endpoint is
//! disabled and its merchant must look. Messages about one subject (an order) reach an endpoint in their order: the
//! next one waits for the one before.

use std::time::Duration;

use haul_model::{MerchantId, MessageId, UnixMillis, WebhookId};

use crate::ledger::Answer;

/// How long each attempt waits after the one before: all within some 28 hours.
pub const WAITS: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(10 * 3600),
];
/// Endpoints of one merchant; one more is refused.
pub const MAX_ENDPOINTS: usize = 20;
/// Kinds of messages that one endpoint may choose.
pub const MAX_KINDS: usize = 50;
/// How long messages and their deliveries are kept, and can be replayed.
pub const KEEP_MESSAGES: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long the secret before the last rotation signs, too.
pub const OLD_SECRET_LASTS: Duration = Duration::from_secs(24 * 3600);
/// Messages that one replay puts in line again; more need another.
pub const MAX_REPLAY: u32 = 10_000;
/// A receiver that answers this wants nothing more, ever (Standard Webhooks).
const GONE: u16 = 410;

/// An address that a merchant is told at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: WebhookId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// Where.
    pub url: String,
    /// Which kinds of messages, such as `order.sold`, or `order.*` for all of a family; none: all.
    pub kinds: Vec<String>,
    /// What signs, as Standard Webhooks writes it: `whsec_` and base64.
    pub secret: String,
    /// The secret before, which signs too until then.
    pub old_secret: Option<(String, UnixMillis)>,
    /// Since when it is told nothing, and why.
    pub disabled: Option<(UnixMillis, String)>,
    /// When it was made.
    pub created_at: UnixMillis,
}

impl Endpoint {
    /// Whether it wants to hear of this kind.
    pub fn wants(&self, kind: &str) -> bool {
        let matches = |wanted: &String| match wanted.strip_suffix('*') {
            Some(family) => kind.starts_with(family),
            None => wanted == kind,
        };
        self.kinds.is_empty() || self.kinds.iter().any(matches)
    }

    /// The secrets that sign at `now`, the newest first.
    pub fn secrets(&self, now: UnixMillis) -> Vec<&str> {
        let old = self.old_secret.as_ref().filter(|(_, until)| now < *until);
        std::iter::once(self.secret.as_str()).chain(old.map(|(secret, _)| secret.as_str())).collect()
    }

    /// Takes a new secret; the one that was signs for [`OLD_SECRET_LASTS`] more.
    pub fn rotate(self, secret: String, now: UnixMillis) -> Self {
        Self { old_secret: Some((self.secret, now + OLD_SECRET_LASTS)), secret, ..self }
    }
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id; `webhook-id`.
    pub id: MessageId,
    /// Who is told.
    pub merchant: MerchantId,
    /// About what: messages about one subject keep their order.
    pub subject: String,
    /// Which kind, such as `order.sold`.
    pub kind: String,
    /// JSON.
    pub body: String,
    /// When it happened.
    pub at: UnixMillis,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// It will be tried, or tried again.
    Pending,
    /// The endpoint has taken it.
    Done,
    /// All attempts failed.
    Failed,
}

/// A message on its way to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Where to.
    pub webhook: WebhookId,
    /// Which message.
    pub message: MessageId,
    /// Its kind.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// When it is tried next, while it is pending.
    pub next_attempt_at: UnixMillis,
    /// What the endpoint answered last.
    pub status: Option<u16>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When the message was made.
    pub created_at: UnixMillis,
}

/// A delivery to be tried now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Where to.
    pub endpoint: Endpoint,
    /// What.
    pub message: Message,
    /// Attempts made before.
    pub attempts: u32,
}

/// What came of an attempt, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: UnixMillis,
    /// What the endpoint answered, if it did.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// Where that leaves the delivery.
    pub state: DeliveryState,
    /// When it is tried next, while it is pending.
    pub next_attempt_at: UnixMillis,
    /// Why the endpoint is disabled by it.
    pub disable: Option<String>,
}

/// Judges an attempt, after `attempts` made before: `answer` is a status, or why there is none.
pub fn judge(attempts: u32, answer: Result<u16, String>, at: UnixMillis) -> Attempt {
    let (status, error) = match answer {
        Ok(status @ 200..300) => {
            return Attempt {
                at,
                status: Some(status),
                error: None,
                state: DeliveryState::Done,
                next_attempt_at: at,
                disable: None,
            };
        }
        Ok(status) => (Some(status), format!("answered {status}")),
        Err(error) => (None, error),
    };
    let wait = WAITS.get(attempts as usize + 1).filter(|_| status != Some(GONE));
    Attempt {
        at,
        status,
        error: Some(error.clone()),
        state: if wait.is_some() { DeliveryState::Pending } else { DeliveryState::Failed },
        next_attempt_at: at + wait.copied().unwrap_or_default(),
        disable: match (wait, status) {
            (Some(_), _) => None,
            (None, Some(GONE)) => Some("the endpoint is gone (410)".to_owned()),
            (None, _) => Some(format!("{} attempts failed, the last: {error}", WAITS.len())),
        },
    }
}

/// Endpoints, messages, deliveries. Every query names the merchant, or an endpoint of one.
pub trait Outbox: Send + Sync + 'static {
    /// Makes an endpoint, or changes it. `Conflict` where a merchant has [`MAX_ENDPOINTS`].
    fn put_endpoint<'a>(&'a self, endpoint: &'a Endpoint) -> Answer<'a, ()>;
    /// Changes an endpoint that is as it was `before`; false where it is not any more. One that goes on again tries first what
    /// it was given up with.
    fn change_endpoint<'a>(&'a self, before: &'a Endpoint, after: &'a Endpoint) -> Answer<'a, bool>;
    /// A merchant's endpoint.
    fn endpoint<'a>(&'a self, merchant: &'a MerchantId, id: &'a WebhookId) -> Answer<'a, Option<Endpoint>>;
    /// A merchant's endpoints, oldest first.
    fn endpoints<'a>(&'a self, merchant: &'a MerchantId) -> Answer<'a, Vec<Endpoint>>;
    /// Forgets an endpoint and its deliveries. False where there is none.
    fn remove_endpoint<'a>(&'a self, merchant: &'a MerchantId, id: &'a WebhookId) -> Answer<'a, bool>;

    /// Puts a message in line for all endpoints of its merchant that want it; the same id again changes nothing.
    fn post<'a>(&'a self, message: &'a Message) -> Answer<'a, ()>;
    /// Takes deliveries that are due, at most `limit`, and none to the `busy` endpoints. Nobody else gets them until
    /// `lease`, or until [`Outbox::attempted`].
    fn take_due<'a>(
        &'a self,
        now: UnixMillis,
        lease: UnixMillis,
        limit: u32,
        busy: &'a [WebhookId],
    ) -> Answer<'a, Vec<Due>>;
    /// Writes down what came of an attempt.
    fn attempted<'a>(
        &'a self,
        webhook: &'a WebhookId,
        message: &'a MessageId,
        attempt: &'a Attempt,
    ) -> Answer<'a, ()>;
    /// An endpoint's deliveries, newest first, at most `limit`, those behind `after` in the list.
    fn deliveries<'a>(
        &'a self,
        merchant: &'a MerchantId,
        webhook: &'a WebhookId,
        state: Option<DeliveryState>,
        after: Option<&'a (UnixMillis, MessageId)>,
        limit: u32,
    ) -> Answer<'a, Vec<Delivery>>;
    /// Puts messages of a merchant in line for an endpoint again, as if they had never been tried: this one, or all since
    /// then, at most [`MAX_REPLAY`]. Gives how many.
    fn replay<'a>(
        &'a self,
        merchant: &'a MerchantId,
        webhook: &'a WebhookId,
        which: &'a Replay,
        now: UnixMillis,
    ) -> Answer<'a, u64>;
    /// Forgets messages from before `before`, with their deliveries; gives how many.
    fn forget_messages(&self, before: UnixMillis) -> Answer<'_, u64>;
}

/// What is delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// This message.
    Message(MessageId),
    /// All since then that were not delivered.
    Since(UnixMillis),
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    #[test]
    fn an_attempt_is_made_eight_times_and_then_the_endpoint_is_disabled() {
        let mut at = NOW;
        let mut made = Vec::new();
        for attempts in 0.. {
            made.push((at.0 - NOW.0) / 1000);
            let attempt = judge(attempts, Err("no connection".to_owned()), at);
            if attempt.state == DeliveryState::Failed {
                assert!(attempt.disable.unwrap().contains("8 attempts"));
                break;
            }
            assert_eq!((attempt.state, attempt.disable), (DeliveryState::Pending, None));
            at = attempt.next_attempt_at;
        }
        assert_eq!(made, [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 99_305]);
    }

    #[test]
    fn two_hundreds_are_taken_all_else_is_not_and_gone_is_for_good() {
        for (status, state) in [
            (200, DeliveryState::Done),
            (204, DeliveryState::Done),
            (301, DeliveryState::Pending),
            (400, DeliveryState::Pending),
            (500, DeliveryState::Pending),
            (410, DeliveryState::Failed),
        ] {
            let attempt = judge(0, Ok(status), NOW);
            assert_eq!((attempt.state, attempt.status), (state, Some(status)));
            assert_eq!(attempt.disable.is_some(), status == 410);
        }
    }

    #[test]
    fn an_endpoint_hears_what_it_wants_signed_with_what_it_may_know() {
        let endpoint = Endpoint {
            id: "wh_1".parse().unwrap(),
            merchant: MerchantId::main(),
            url: "https://shop.example/hook".to_owned(),
            kinds: vec!["order.sold".to_owned(), "refund.*".to_owned()],
            secret: "whsec_a".to_owned(),
            old_secret: None,
            disabled: None,
            created_at: NOW,
        };
        for (kind, wanted) in [
            ("order.sold", true),
            ("order.solder", false),
            ("order.expired", false),
            ("refund.created", true),
        ] {
            assert_eq!(endpoint.wants(kind), wanted, "{kind}");
        }
        assert!(Endpoint { kinds: Vec::new(), ..endpoint.clone() }.wants("anything"));
        let rotated = endpoint.rotate("whsec_b".to_owned(), NOW);
        assert_eq!(rotated.secrets(NOW), ["whsec_b", "whsec_a"]);
        assert_eq!(rotated.secrets(NOW + OLD_SECRET_LASTS), ["whsec_b"]);
    }
}
