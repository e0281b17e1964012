//! Writes down who came, clicked and bought under whose `ref`, behind those who do it.
//!
//! Joins and clicks wait in a queue and are written many at a time: ten thousand who come at once are some twenty
//! transactions. A checkout's touch decides about money, and is written before the checkout goes on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use haul_commerce::{
    LedgerError, Storefront,
    attribution::{MAX_TOUCH_BATCH, Touch, is_code},
};
use haul_model::{CreatorId, MerchantId, UnixMillis};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::seal::Seal;

/// Touches that wait to be written. Further ones are dropped, and counted.
const MAX_WAITING: usize = 20_000;
/// How often a batch is tried that the ledger does not take, and how long after the last time; then it is dropped, and
/// counted.
const TRIES: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Codes that are remembered, known or not, and for how long. When there are more, all are forgotten.
const MAX_CODES: usize = 10_000;
const REMEMBER: Duration = Duration::from_secs(10);
/// What a signed `ref` is sealed for.
pub(crate) const REF: &str = "ref";

/// What a `ref` must be.
#[derive(Debug, Clone)]
pub struct RefRules {
    /// Signs links, and `ref`s that shall not be made up.
    pub seal: Seal,
    /// Whether plain codes count for nothing.
    pub signed_only: bool,
}

impl RefRules {
    /// The code that a `ref` says, if it may be believed: a creator's code, or one that we have signed.
    fn code(&self, text: &str, now: UnixMillis) -> Option<String> {
        if text.contains('.') {
            let payload = self.seal.open(REF, text, now).ok()?;
            return String::from_utf8(payload).ok().filter(|code| is_code(code));
        }
        (!self.signed_only && is_code(text)).then(|| text.to_owned())
    }
}

/// A touch whose `ref` is not looked up yet; its `creator` is empty.
struct Pending {
    merchant: MerchantId,
    code: Option<String>,
    touch: Touch,
}

/// Takes touches.
pub(crate) struct Touches {
    rules: RefRules,
    storefront: Arc<dyn Storefront>,
    waiting: mpsc::Sender<Pending>,
    dropped: Counter,
}

impl Touches {
    /// Starts to write, too.
    pub(crate) fn start(rules: RefRules, storefront: Arc<dyn Storefront>) -> Self {
        let (waiting, arrived) = mpsc::channel(MAX_WAITING);
        let dropped = Counter::default();
        let writer =
            Writer { storefront: storefront.clone(), codes: HashMap::new(), dropped: dropped.clone() };
        tokio::spawn(writer.run(arrived));
        Self { rules, storefront, waiting, dropped }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "haul_touches_dropped",
            "Joins and clicks that were not written down",
            self.dropped.clone(),
        );
    }

    pub(crate) fn seal(&self) -> &Seal {
        &self.rules.seal
    }

    /// A join or a click. A `ref` that is not to be believed is none: who follows a broken link still comes.
    pub(crate) fn note(&self, merchant: &MerchantId, reference: Option<&str>, touch: Touch) {
        let code = reference.and_then(|text| self.rules.code(text, touch.at));
        if self.waiting.try_send(Pending { merchant: merchant.clone(), code, touch }).is_err() {
            self.dropped.inc();
        }
    }

    /// A checkout: written when this returns.
    pub(crate) async fn order(
        &self,
        merchant: &MerchantId,
        reference: &str,
        touch: Touch,
    ) -> Result<(), LedgerError> {
        let Some(code) = self.rules.code(reference, touch.at) else { return Ok(()) };
        let Some(creator) = self.storefront.creator_by_code(merchant, &code).await? else { return Ok(()) };
        let touch = Touch { creator: Some(creator.id), ..touch };
        self.storefront.record_touches(&[(merchant.clone(), touch)]).await
    }
}

struct Writer {
    storefront: Arc<dyn Storefront>,
    /// Whose code is whose, so that a full house is not a query a head.
    codes: HashMap<(MerchantId, String), (Option<CreatorId>, Instant)>,
    dropped: Counter,
}

impl Writer {
    async fn run(mut self, mut arrived: mpsc::Receiver<Pending>) {
        let mut batch = Vec::new();
        while arrived.recv_many(&mut batch, MAX_TOUCH_BATCH).await > 0 {
            let batch = std::mem::take(&mut batch);
            let count = batch.len() as u64;
            for tried in 1..=TRIES {
                match self.write(&batch).await {
                    Ok(()) => break,
                    Err(error) if tried == TRIES => {
                        tracing::warn!(%error, count, "joins and clicks are not written down");
                        self.dropped.inc_by(count);
                    }
                    Err(_) => sleep(TRY_AGAIN).await,
                }
            }
        }
    }

    async fn write(&mut self, batch: &[Pending]) -> Result<(), LedgerError> {
        let mut touches = Vec::with_capacity(batch.len());
        for Pending { merchant, code, touch } in batch {
            let creator = match code {
                Some(code) => self.creator(merchant, code).await?,
                None => None,
            };
            touches.push((merchant.clone(), Touch { creator, ..touch.clone() }));
        }
        self.storefront.record_touches(&touches).await
    }

    async fn creator(&mut self, merchant: &MerchantId, code: &str) -> Result<Option<CreatorId>, LedgerError> {
        let (key, now) = ((merchant.clone(), code.to_owned()), Instant::now());
        if let Some((creator, until)) = self.codes.get(&key)
            && now < *until
        {
            return Ok(creator.clone());
        }
        let found = self.storefront.creator_by_code(merchant, code).await?.map(|creator| creator.id);
        if self.codes.len() >= MAX_CODES {
            self.codes.clear();
        }
        self.codes.insert(key, (found.clone(), now + REMEMBER));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_is_a_code_or_one_that_we_signed() {
        let (now, later) = (UnixMillis(1_790_000_000_000), UnixMillis(1_790_000_060_000));
        let seal = Seal::new(b"0123456789abcdef0123456789abcdef");
        let mut rules = RefRules { seal: seal.clone(), signed_only: false };
        let signed = seal.seal(REF, b"mia", later);
        assert_eq!(rules.code("mia", now).as_deref(), Some("mia"));
        assert_eq!(rules.code(&signed, now).as_deref(), Some("mia"));
        assert_eq!(rules.code(&signed, later), None, "expired");
        assert_eq!(rules.code(&seal.seal("link", b"mia", later), now), None, "sealed for something else");
        assert_eq!(rules.code(&seal.seal(REF, b"no code", later), now), None);
        for bad in ["", "mia.", "mia.1.x", "a b", "<script>", &"m".repeat(65)] {
            assert_eq!(rules.code(bad, now), None, "{bad}");
        }
        rules.signed_only = true;
        assert_eq!(rules.code("mia", now), None);
        assert_eq!(rules.code(&signed, now).as_deref(), Some("mia"));
    }
}
