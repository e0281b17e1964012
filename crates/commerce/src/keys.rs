//! Merchants' API keys, and requests that are asked again.
//!
//! A key is `hk_`, 26 letters and digits that name it, an underscore, and a secret of 32 random bytes in base 32. The
//! ledger keeps the SHA-256 of the whole text: with so random a secret, nothing slower is needed.

use std::{fmt, str::FromStr, time::Duration};

use haul_model::{KeyId, MerchantId, UnixMillis};
use sha2::{Digest, Sha256};

use crate::ledger::Answer;

/// What every key's text begins with.
pub const KEY_PREFIX: &str = "hk_";
/// Keys of one merchant that are not revoked; one more is refused.
pub const MAX_KEYS: usize = 100;
/// The longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
/// How long an answer is kept for whoever asks again under the same idempotency key.
pub const KEEP_ANSWERS: Duration = Duration::from_secs(24 * 3600);
/// Answers kept for one merchant; further requests with an idempotency key are refused until some are a day old.
pub const MAX_ANSWERS: u32 = 200_000;
/// A request that was begun and has no answer after this is begun anew: the process that had it is gone.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// What a key may be used for: one area, to read, or to write too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permission {
    /// Where.
    pub area: Area,
    /// Whether things may be changed there.
    pub write: bool,
}

/// A part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// Everything.
    All,
    /// Lives.
    Lives,
    /// The catalogue, and bags.
    Products,
    /// Sales.
    Sales,
    /// Holds on behalf of buyers.
    Holds,
    /// Orders.
    Orders,
    /// Refunds.
    Refunds,
    /// What is known of buyers.
    Buyers,
    /// Those who bring buyers, coupons, metrics.
    Marketing,
    /// Webhooks and their deliveries.
    Webhooks,
    /// Viewers', moderators' and hosts' tokens.
    Tokens,
    /// API keys.
    Keys,
    /// The audit log.
    Audit,
}

const AREAS: [(Area, &str); 13] = [
    (Area::All, "*"),
    (Area::Lives, "lives"),
    (Area::Products, "products"),
    (Area::Sales, "sales"),
    (Area::Holds, "holds"),
    (Area::Orders, "orders"),
    (Area::Refunds, "refunds"),
    (Area::Buyers, "buyers"),
    (Area::Marketing, "marketing"),
    (Area::Webhooks, "webhooks"),
    (Area::Tokens, "tokens"),
    (Area::Keys, "keys"),
    (Area::Audit, "audit"),
];

/// The text is no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a scope such as orders:read, refunds:write, or *, not {0:?}")]
pub struct PermissionError(String);

impl Area {
    /// To read here.
    pub const fn read(self) -> Permission {
        Permission { area: self, write: false }
    }

    /// To change things here, and to read.
    pub const fn write(self) -> Permission {
        Permission { area: self, write: true }
    }
}

impl Permission {
    /// Whether who has this may do what `needed` permits.
    pub fn includes(self, needed: Permission) -> bool {
        (self.area == needed.area || self.area == Area::All) && (self.write || !needed.write)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = AREAS.iter().find(|(area, _)| *area == self.area).expect("all areas have a name");
        match (self.area, self.write) {
            (Area::All, true) => f.write_str(name),
            (_, true) => write!(f, "{name}:write"),
            (_, false) => write!(f, "{name}:read"),
        }
    }
}

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, PermissionError> {
        let unknown = || PermissionError(text.chars().take(40).collect());
        if text == "*" {
            return Ok(Area::All.write());
        }
        let (name, write) = match text.split_once(':') {
            Some((name, "read")) => (name, false),
            Some((name, "write")) => (name, true),
            _ => return Err(unknown()),
        };
        let area = AREAS.iter().find(|(_, known)| *known == name).ok_or_else(unknown)?.0;
        Ok(Permission { area, write })
    }
}

/// A key as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id: `key_` and what stands in its text.
    pub id: KeyId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// What it is for, in its owner's words.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Permission>,
    /// SHA-256 of its text, in hexadecimal digits.
    pub hash: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

impl ApiKey {
    /// Whether it may be used for this.
    pub fn permits(&self, needed: Permission) -> bool {
        self.scopes.iter().any(|scope| scope.includes(needed))
    }

    /// The part of its text that may be shown.
    pub fn prefix(&self) -> String {
        format!("{KEY_PREFIX}{}", self.id.as_str().trim_start_matches("key_"))
    }
}

/// A new key's id, and its text, which nobody will see again.
pub fn new_key(at: UnixMillis, random: u128, secret: &[u8; 32]) -> (KeyId, String) {
    let id = KeyId::generate("key_", at, random);
    let text = key_text(&id, secret);
    (id, text)
}

/// A key's text, of its generated id.
pub fn key_text(id: &KeyId, secret: &[u8; 32]) -> String {
    let mut text = format!("{KEY_PREFIX}{}_", &id.as_str()["key_".len()..]);
    let mut bits: u32 = 0;
    let mut held: u32 = 0;
    for byte in secret {
        (bits, held) = (bits << 8 | u32::from(*byte), held + 8);
        while held >= 5 {
            held -= 5;
            text.push(char::from(DIGITS[(bits >> held) as usize & 31]));
        }
    }
    text.push(char::from(DIGITS[(bits << (5 - held)) as usize & 31]));
    text
}

/// Crockford's base 32, as in generated ids.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Which key a text claims to be; `None` where it is none.
pub fn key_id(text: &str) -> Option<KeyId> {
    let (name, secret) = text.strip_prefix(KEY_PREFIX)?.split_once('_')?;
    (name.len() == 26 && secret.len() == 52).then(|| format!("key_{name}").parse().ok())?
}

/// What the ledger keeps of a key's text, and of requests.
pub fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request that may be asked again: whose, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whose.
    pub merchant: MerchantId,
    /// Who of theirs: a key's id, or a token's subject.
    pub actor: String,
    /// The idempotency key.
    pub key: String,
    /// A hash over method, path and body.
    pub request: String,
    /// When it came.
    pub at: UnixMillis,
}

/// An answer that is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The body's media type; empty where there is none.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: carry it out.
    New,
    /// It is being carried out.
    Running,
    /// It was carried out, and this was the answer.
    Answered(Answered),
    /// The key was used for another request.
    Other,
    /// The merchant has [`MAX_ANSWERS`].
    Full,
}

/// Keys, and answers that are kept for a day.
pub trait Keys: Send + Sync + 'static {
    /// Writes a new key down, and its merchant where that is new. One with this id that nobody was told of gets its text.
    /// `Conflict` where the merchant has [`MAX_KEYS`], or the key of this id is revoked.
    fn put_key<'a>(&'a self, key: &'a ApiKey) -> Answer<'a, ()>;
    /// A key, revoked or not.
    fn key<'a>(&'a self, key: &'a KeyId) -> Answer<'a, Option<ApiKey>>;
    /// A merchant's keys, newest first, at most `limit`.
    fn keys<'a>(&'a self, merchant: &'a MerchantId, limit: u32) -> Answer<'a, Vec<ApiKey>>;
    /// Revokes a merchant's key, for good.
    fn revoke_key<'a>(
        &'a self,
        merchant: &'a MerchantId,
        key: &'a KeyId,
        at: UnixMillis,
    ) -> Answer<'a, ApiKey>;

    /// Begins a request, unless it is known.
    fn begin_request<'a>(&'a self, asked: &'a Asked) -> Answer<'a, Known>;
    /// Keeps its answer; `None` where it was not carried out and may be asked again as if it were new.
    fn end_request<'a>(&'a self, asked: &'a Asked, answer: Option<&'a Answered>) -> Answer<'a, ()>;
    /// Forgets answers from before `before`, and gives how many.
    fn forget_requests(&self, before: UnixMillis) -> Answer<'_, u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_text_names_it_and_nothing_else_does() {
        let (id, text) = new_key(UnixMillis(1_700_000_000_000), 7, &[0xA5; 32]);
        assert_eq!(key_id(&text), Some(id));
        assert_eq!(text.len(), 3 + 26 + 1 + 52);
        let (_, other) = new_key(UnixMillis(1_700_000_000_000), 7, &[0xA4; 32]);
        assert_ne!(text, other, "every bit of the secret counts");
        let mut last = [0xA5; 32];
        last[31] = 0xA4;
        assert_ne!(text, new_key(UnixMillis(1_700_000_000_000), 7, &last).1);
        for bad in ["", "hk_", "hk_a_b", &text[1..], &text[..text.len() - 1], "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
            assert_eq!(key_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for text in ["*", "orders:read", "refunds:write", "audit:read"] {
            assert_eq!(text.parse::<Permission>().unwrap().to_string(), text);
        }
        for bad in ["", "orders", "orders:delete", "cakes:read", "*:*", ":read"] {
            assert!(bad.parse::<Permission>().is_err(), "{bad}");
        }
    }

    #[test]
    fn to_write_includes_to_read_and_one_area_is_not_another() {
        assert!(Area::Orders.write().includes(Area::Orders.read()));
        assert!(!Area::Orders.read().includes(Area::Orders.write()));
        assert!(!Area::Orders.write().includes(Area::Refunds.read()));
        assert!(Area::All.write().includes(Area::Refunds.write()));
        let all_reading: Permission = "*:read".parse().unwrap();
        assert!(all_reading.includes(Area::Keys.read()) && !all_reading.includes(Area::Keys.write()));
    }

    #[test]
    fn parts_of_a_hash_do_not_run_into_each_other() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_eq!(hash(&[b"ab"]).len(), 64);
    }
}
