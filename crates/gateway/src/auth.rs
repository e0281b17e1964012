//! Who asks: signed tokens (JWT, HS256) and what they permit.
//!
//! Everything about tokens is here: minting, verifying, their limits. It knows no routes and reads no clock.
//!
//! ```text
//! header  {"alg":"HS256","kid":"main"}          kid: whose signing key; absent means the merchant `main`
//! claims  {"sub":"ID","live":"demo","role":"host","name":"Mia","exp":1790000000,"iat":1789956800}
//! ```
//!
//! `live` is an id or a pattern with `*` (`*`, `shop-7-*`) over the lives of the key's merchant only. A pattern says
//! nothing about whose a live is: whoever looks a live up compares its merchant with [`Viewer::merchant`].

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use haul_model::{BuyerId, IdError, LiveId, MerchantId, Role, UnixMillis, Viewer, id::MAX_ID_BYTES};
use haul_room::is_unseen;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest token looked at, in bytes; a longer one is refused unread.
pub const MAX_TOKEN_BYTES: usize = 4 * 1024;
/// The longest name shown to others, in Unicode scalar values; a longer one is cut.
pub const MAX_NAME_CHARS: usize = 40;
/// The longest standing with a shop that is shown, in Unicode scalar values; a longer one is cut.
pub const MAX_TIER_CHARS: usize = 20;
/// The shortest secret that signs tokens, in bytes (RFC 7518, 3.2: as long as the hash).
pub const MIN_SECRET_BYTES: usize = 32;
/// How far ahead of ours the clock of whoever minted a token may be, for its `nbf`.
const CLOCK_SKEW_SECONDS: f64 = 60.0;

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token came. Ask for one.
    #[error("a token is needed: send it as Authorization: Bearer")]
    Missing,
    /// It is not a token, not signed by a key of ours, or its claims are not ours.
    #[error("the token is not valid")]
    Invalid,
    /// It was valid. Get a new one.
    #[error("the token has expired")]
    Expired,
    /// It is valid for other lives.
    #[error("the token is for another live")]
    WrongLive,
    /// It is valid for this live, and does not permit this.
    #[error("this needs the role {}", needed.as_str())]
    Forbidden {
        /// The least role that permits it.
        needed: Role,
    },
}

/// Which lives a token is for: an id, or a pattern in which `*` stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(String);

impl Scope {
    /// Whether the token is for `live`.
    pub fn covers(&self, live: &LiveId) -> bool {
        let live = live.as_str();
        let Some((prefix, rest)) = self.0.split_once('*') else { return self.0 == live };
        let (middles, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(mut left) = live.strip_prefix(prefix).and_then(|left| left.strip_suffix(suffix)) else {
            return false;
        };
        // The first place where a part fits leaves the most for those behind it, so that nothing is tried twice.
        for part in middles.split('*') {
            match left.find(part) {
                Some(at) => left = &left[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

impl FromStr for Scope {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_ID_BYTES {
            return Err(IdError::TooLong);
        }
        // What is left without the stars is checked as the id that it is a part of.
        let letters = text.replace('*', "");
        if !letters.is_empty() || text.is_empty() {
            letters.parse::<LiveId>()?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Scope {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.0
    }
}

impl From<&LiveId> for Scope {
    fn from(live: &LiveId) -> Self {
        Self(live.as_str().to_owned())
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who.
    pub sub: BuyerId,
    /// For which lives.
    pub live: Scope,
    /// What they may do there.
    pub role: Role,
    /// The name shown to others; cleaned when the token is verified.
    pub name: String,
    /// What the shop says of them in the chat.
    pub shop: Shop,
    /// Until when, rounded down to a second: the token is no longer valid at this time.
    pub exp: UnixMillis,
}

/// What a shop says of somebody, for the chat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Shop {
    /// Their standing with the shop, for instance `gold`, shown with what they write: at most 20 characters are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Whether they follow the shop: some chats are for followers only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follower: bool,
}

/// The claims as RFC 7519 writes them. Times are "numeric dates": seconds, with or without a fraction.
#[derive(Serialize, Deserialize)]
struct Payload {
    sub: BuyerId,
    live: Scope,
    role: Role,
    #[serde(default)]
    name: String,
    #[serde(flatten)]
    shop: Shop,
    /// The device that the merchant knows its bearer by; only for limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    exp: serde_json::Number,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<serde_json::Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<serde_json::Number>,
}

/// A key that signs a merchant's tokens.
#[derive(Clone)]
struct Key {
    merchant: MerchantId,
    sign: EncodingKey,
    verify: DecodingKey,
}

/// Mints and verifies tokens.
pub struct Authority {
    /// Of the merchant `main`. A merchant has one key, whose `kid` is the merchant's id.
    main: Key,
    /// Makes the others' keys of their ids: nobody needs to keep them, and none says anything of another.
    derive: haul_courier::SigningKey,
    /// HS256 and nothing else; times are compared by us, with the caller's clock.
    rules: Validation,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority with the key of the merchant `main`. The secret has [`MIN_SECRET_BYTES`] or more; the
    /// configuration sees to it.
    pub fn new(secret: &[u8]) -> Self {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.validate_nbf = false;
        let main = Key::new(MerchantId::main(), secret);
        Self { main, derive: haul_courier::SigningKey::new(secret), rules }
    }

    /// A token that says `claims`, signed with the key of the merchant `main`.
    pub fn mint(&self, claims: Claims, now: UnixMillis) -> String {
        self.mint_for(&MerchantId::main(), claims, now)
    }

    /// A token that says `claims` about this merchant's lives.
    pub fn mint_for(&self, merchant: &MerchantId, claims: Claims, now: UnixMillis) -> String {
        let key = self.key_of(merchant.clone());
        let header = Header { kid: Some(merchant.to_string()), ..Header::new(Algorithm::HS256) };
        let payload = Payload {
            sub: claims.sub,
            live: claims.live,
            role: claims.role,
            name: claims.name,
            shop: claims.shop,
            device: None,
            exp: (claims.exp.0 / 1000).into(),
            iat: Some((now.0 / 1000).into()),
            nbf: None,
        };
        jsonwebtoken::encode(&header, &payload, &key.sign)
            .expect("texts and whole numbers are always JSON, and HMAC takes a key of any length")
    }

    /// Who the token's bearer is in `live`, at `now`.
    pub fn verify(&self, token: &str, live: &LiveId, now: UnixMillis) -> Result<Viewer, AuthError> {
        let (merchant, payload) = self.valid(token, now)?;
        viewer(merchant, payload, live)
    }

    /// Whose backend it is that has this token: a host's for all lives.
    pub fn merchant(&self, token: Option<&str>, now: UnixMillis) -> Result<MerchantId, AuthError> {
        let (merchant, payload) = self.valid(token.ok_or(AuthError::Missing)?, now)?;
        if payload.live.0 != "*" {
            return Err(AuthError::WrongLive);
        }
        if !payload.role.includes(Role::Host) {
            return Err(AuthError::Forbidden { needed: Role::Host });
        }
        Ok(merchant)
    }

    /// Who bears a token that is valid now, in whatever live, and as what.
    pub fn bearer(&self, token: &str, now: UnixMillis) -> Result<(MerchantId, BuyerId, Role), AuthError> {
        let (merchant, payload) = self.valid(token, now)?;
        Ok((merchant, payload.sub, payload.role))
    }

    /// The device that a valid token names.
    pub fn device(&self, token: &str) -> Option<String> {
        self.read(token).ok()?.1.device
    }

    /// What a guest's id says of the network that they came from: whoever does not have the secret learns nothing of it.
    pub(crate) fn network_digest(&self, network: IpAddr) -> u64 {
        let sealed = self.derive.sign("network of a guest", 0, network.to_string().as_bytes());
        let digest = haul_commerce::keys::hash(&[sealed.as_bytes()]);
        digest.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default()
    }

    /// A token's merchant and claims, if it is a token of ours that is valid now.
    fn valid(&self, token: &str, now: UnixMillis) -> Result<(MerchantId, Payload), AuthError> {
        let (merchant, payload) = self.read(token)?;
        let now_seconds = now.0 as f64 / 1000.0;
        if seconds(&payload.exp) <= now_seconds {
            return Err(AuthError::Expired);
        }
        if payload.nbf.as_ref().is_some_and(|nbf| seconds(nbf) > now_seconds + CLOCK_SKEW_SECONDS) {
            return Err(AuthError::Invalid);
        }
        Ok((merchant, payload))
    }

    /// Who the token's bearer is in `live`, whenever that was: for what they began while it was valid.
    pub fn identify(&self, token: &str, live: &LiveId) -> Result<Viewer, AuthError> {
        let (merchant, payload) = self.read(token)?;
        viewer(merchant, payload, live)
    }

    /// A token's merchant and claims, if a key of ours has signed it.
    fn read(&self, token: &str) -> Result<(MerchantId, Payload), AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Invalid)?;
        // RFC 7515, 4.1.11: an extension marked critical must be understood, and none is.
        if header.crit.is_some() {
            return Err(AuthError::Invalid);
        }
        let key = self.key(header.kid.as_deref()).ok_or(AuthError::Invalid)?;
        let payload = jsonwebtoken::decode::<Payload>(token, &key.verify, &self.rules)
            .map_err(|_| AuthError::Invalid)?
            .claims;
        Ok((key.merchant, payload))
    }

    /// The same for a request that needs the role `needed`: with a token or without one.
    pub fn require(
        &self,
        token: Option<&str>,
        live: &LiveId,
        needed: Role,
        now: UnixMillis,
    ) -> Result<Viewer, AuthError> {
        let viewer = self.verify(token.ok_or(AuthError::Missing)?, live, now)?;
        if viewer.role.includes(needed) { Ok(viewer) } else { Err(AuthError::Forbidden { needed }) }
    }

    /// The key that a token names; `None` where that can be no merchant's.
    fn key(&self, kid: Option<&str>) -> Option<Key> {
        match kid {
            Some(kid) => Some(self.key_of(kid.parse().ok()?)),
            None => Some(self.main.clone()),
        }
    }

    fn key_of(&self, merchant: MerchantId) -> Key {
        if merchant == self.main.merchant {
            return self.main.clone();
        }
        let secret = self.derive.sign("tokens of a merchant", 0, merchant.as_str().as_bytes());
        Key::new(merchant, secret.as_bytes())
    }
}

impl Key {
    fn new(merchant: MerchantId, secret: &[u8]) -> Self {
        Self { merchant, sign: EncodingKey::from_secret(secret), verify: DecodingKey::from_secret(secret) }
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750, 2.1), if there is one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A name as others may see it: without control characters and those that reorder or hide text, trimmed, at most
/// [`MAX_NAME_CHARS`]. `None` where nothing is left.
pub fn clean_name(name: &str) -> Option<String> {
    let visible: String = name.chars().filter(|&c| !c.is_control() && !is_deceptive(c)).collect();
    let cut: String = visible.trim().chars().take(MAX_NAME_CHARS).collect();
    let name = cut.trim_end();
    (!is_unseen(name)).then(|| name.to_owned())
}

/// Marks that turn the writing direction round, and spaces of no width: a name with them can look like another.
/// U+200D stays: it joins emoji.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// Whom a token's claims make its bearer in `live`.
fn viewer(merchant: MerchantId, payload: Payload, live: &LiveId) -> Result<Viewer, AuthError> {
    if !payload.live.covers(live) {
        return Err(AuthError::WrongLive);
    }
    Ok(Viewer {
        id: payload.sub,
        name: clean_name(&payload.name).unwrap_or_else(|| default_name(payload.role).to_owned()),
        role: payload.role,
        tier: payload
            .shop
            .tier
            .and_then(|tier| clean_name(&tier))
            .map(|tier| tier.chars().take(MAX_TIER_CHARS).collect::<String>().into()),
        follower: payload.shop.follower,
        // Too late a time for the number, or too early, is the latest or the earliest.
        expires_at: UnixMillis((seconds(&payload.exp) * 1000.0) as u64),
        merchant,
    })
}

fn default_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "Guest",
        Role::Moderator => "Moderator",
        Role::Host => "Host",
    }
}

fn seconds(date: &serde_json::Number) -> f64 {
    // A number that is not a float does not exist without serde_json's `arbitrary_precision`: expired, if it did.
    date.as_f64().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn demo() -> LiveId {
        "demo".parse().unwrap()
    }

    fn claims(live: &str, role: Role) -> Claims {
        Claims {
            sub: "mia".parse().unwrap(),
            live: live.parse().unwrap(),
            role,
            name: "Mia".to_owned(),
            shop: Shop { tier: Some("gold".into()), follower: true },
            exp: NOW + Duration::from_secs(60),
        }
    }

    /// Verifies a token with any header and claims, signed with `secret`.
    fn verify(
        header: serde_json::Value,
        claims: serde_json::Value,
        secret: &[u8],
    ) -> Result<Viewer, AuthError> {
        let header: Header = serde_json::from_value(header).unwrap();
        let key = EncodingKey::from_secret(secret);
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        Authority::new(SECRET).verify(&token, &demo(), NOW)
    }

    fn verify_claims(claims: serde_json::Value) -> Result<Viewer, AuthError> {
        verify(json!({"alg": "HS256"}), claims, SECRET)
    }

    fn seconds_from_now(seconds: i64) -> i64 {
        NOW.0 as i64 / 1000 + seconds
    }

    #[test]
    fn a_minted_token_says_who_its_bearer_is() {
        let authority = Authority::new(SECRET);
        let token = authority.mint(claims("demo", Role::Host), NOW);
        let viewer = authority.verify(&token, &demo(), NOW).unwrap();
        assert_eq!(
            viewer,
            Viewer {
                id: "mia".parse().unwrap(),
                name: "Mia".to_owned(),
                role: Role::Host,
                expires_at: NOW + Duration::from_secs(60),
                tier: Some("gold".into()),
                follower: true,
                merchant: MerchantId::main()
            }
        );
    }

    #[test]
    fn it_ends_at_its_second_by_the_callers_clock() {
        let authority = Authority::new(SECRET);
        let token = authority.mint(claims("demo", Role::Viewer), NOW);
        let at = |millis| authority.verify(&token, &demo(), NOW + Duration::from_millis(millis));
        assert!(at(59_999).is_ok());
        assert_eq!(at(60_000), Err(AuthError::Expired));
        assert_eq!(authority.identify(&token, &demo()).map(|viewer| viewer.role), Ok(Role::Viewer));
    }

    #[test]
    fn an_altered_token_is_refused_whichever_byte_it_is() {
        let authority = Authority::new(SECRET);
        let token = authority.mint(claims("demo", Role::Viewer), NOW);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
            let altered = String::from_utf8(bytes).unwrap();
            assert_eq!(authority.verify(&altered, &demo(), NOW), Err(AuthError::Invalid), "byte {at}");
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        let authority = Authority::new(SECRET);
        for text in ["x", "..", "a.b", "a.b.c", "a.b.c.d", "夜.夜.夜", "\u{0}", " "] {
            assert_eq!(authority.verify(text, &demo(), NOW), Err(AuthError::Invalid), "{text:?}");
        }
        assert_eq!(authority.verify("", &demo(), NOW), Err(AuthError::Missing));
        assert_eq!(authority.verify(&"a".repeat(MAX_TOKEN_BYTES + 1), &demo(), NOW), Err(AuthError::Invalid));
    }

    #[test]
    fn only_hs256_with_a_known_key_is_believed() {
        let good = json!({"sub": "mia", "live": "demo", "role": "host", "exp": seconds_from_now(60)});
        assert!(verify(json!({"alg": "HS256", "kid": "main"}), good.clone(), SECRET).is_ok());
        assert!(verify(json!({"alg": "HS256"}), good.clone(), SECRET).is_ok());
        let refused = Err(AuthError::Invalid);
        assert_eq!(verify(json!({"alg": "HS256", "kid": "other"}), good.clone(), SECRET), refused);
        assert_eq!(verify(json!({"alg": "HS384"}), good.clone(), SECRET), refused);
        assert_eq!(verify(json!({"alg": "HS256", "crit": ["b64"]}), good.clone(), SECRET), refused);
        assert_eq!(verify(json!({"alg": "HS256"}), good, &[7; 32]), refused);
    }

    #[test]
    fn alg_none_is_refused() {
        // {"alg":"none","typ":"JWT"} . {"sub":"mia","live":"demo","role":"host","exp":1790000060} . nothing
        let header = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        let payload = "eyJzdWIiOiJtaWEiLCJsaXZlIjoiZGVtbyIsInJvbGUiOiJob3N0IiwiZXhwIjoxNzkwMDAwMDYwfQ";
        let authority = Authority::new(SECRET);
        assert_eq!(authority.verify(&format!("{header}.{payload}."), &demo(), NOW), Err(AuthError::Invalid));
        let good = authority.mint(claims("demo", Role::Host), NOW);
        let signature = good.rsplit('.').next().unwrap();
        assert_eq!(
            authority.verify(&format!("{header}.{payload}.{signature}"), &demo(), NOW),
            Err(AuthError::Invalid)
        );
    }

    #[test]
    fn claims_that_are_not_ours_are_refused() {
        let with = |key: &str, value: serde_json::Value| {
            let mut claims =
                json!({"sub": "mia", "live": "demo", "role": "viewer", "exp": seconds_from_now(60)});
            claims[key] = value;
            verify_claims(claims)
        };
        let refused = Err(AuthError::Invalid);
        assert_eq!(with("sub", json!("not an id")), refused);
        assert_eq!(with("sub", json!("")), refused);
        assert_eq!(with("sub", json!("x".repeat(MAX_ID_BYTES + 1))), refused);
        assert_eq!(with("live", json!("")), refused);
        assert_eq!(with("live", json!("a/../*")), refused);
        assert_eq!(with("role", json!("owner")), refused);
        assert_eq!(with("exp", json!(null)), refused);
        assert_eq!(with("exp", json!("1790000060")), refused);
        assert_eq!(with("exp", json!(-1)), Err(AuthError::Expired));
        assert_eq!(with("nbf", json!(seconds_from_now(600))), refused);
        assert_eq!(with("aud", json!("another service")), refused);
        let half = with("exp", json!(seconds_from_now(60) as f64 + 0.5));
        assert_eq!(half.map(|viewer| viewer.expires_at), Ok(NOW + Duration::from_millis(60_500)));
        assert_eq!(with("exp", json!(1e300)).map(|viewer| viewer.expires_at), Ok(UnixMillis(u64::MAX)));
        assert!(with("nbf", json!(seconds_from_now(5))).is_ok());
    }

    #[test]
    fn each_merchant_has_tokens_of_its_own() {
        let authority = Authority::new(SECRET);
        let shop: MerchantId = "shop-7".parse().unwrap();
        let token = authority.mint_for(&shop, claims("demo", Role::Host), NOW);
        let bearer = authority.verify(&token, &demo(), NOW).unwrap();
        assert_eq!(bearer.merchant, shop);
        // What signs for one signs for no other, whatever the header says.
        let header = json!({"alg": "HS256", "kid": "shop-8"});
        let body = json!({"sub": "mia", "live": "*", "role": "host", "exp": seconds_from_now(60)});
        assert_eq!(verify(header, body, SECRET), Err(AuthError::Invalid));
    }

    #[test]
    fn a_token_is_for_its_lives_only() {
        let authority = Authority::new(SECRET);
        let covers = |scope: &str, live: &str| {
            let token = authority.mint(claims(scope, Role::Viewer), NOW);
            authority.verify(&token, &live.parse().unwrap(), NOW).map(|_| ())
        };
        assert_eq!(covers("demo", "demo-2"), Err(AuthError::WrongLive));
        assert_eq!(covers("shop-7-*", "shop-7-evening"), Ok(()));
        assert_eq!(covers("shop-7-*", "shop-7-"), Ok(()));
        assert_eq!(covers("shop-7-*", "shop-77-evening"), Err(AuthError::WrongLive));
        assert_eq!(covers("*", "anything"), Ok(()));
        assert_eq!(covers("a*b*c", "a-b-c"), Ok(()));
        assert_eq!(covers("a*b*c", "abc"), Ok(()));
        assert_eq!(covers("a*b*c", "a-c"), Err(AuthError::WrongLive));
        assert_eq!(covers("ab*ba", "aba"), Err(AuthError::WrongLive));
    }

    #[test]
    fn a_backend_has_a_hosts_token_for_all_lives() {
        let authority = Authority::new(SECRET);
        let merchant = |scope: &str, role| {
            let token = authority.mint(claims(scope, role), NOW);
            authority.merchant(Some(&token), NOW)
        };
        assert_eq!(merchant("*", Role::Host), Ok(MerchantId::main()));
        assert_eq!(merchant("*", Role::Moderator), Err(AuthError::Forbidden { needed: Role::Host }));
        assert_eq!(merchant("**", Role::Host), Err(AuthError::WrongLive));
        assert_eq!(merchant("demo", Role::Host), Err(AuthError::WrongLive));
        assert_eq!(authority.merchant(None, NOW), Err(AuthError::Missing));
        let token = authority.mint(claims("*", Role::Host), NOW);
        assert_eq!(authority.merchant(Some(&token), NOW + Duration::from_secs(60)), Err(AuthError::Expired));
    }

    #[test]
    fn roles_include_the_lesser_ones() {
        let authority = Authority::new(SECRET);
        let may = |role, needed| {
            let token = authority.mint(claims("demo", role), NOW);
            authority.require(Some(&token), &demo(), needed, NOW).map(|viewer| viewer.role)
        };
        assert_eq!(may(Role::Host, Role::Viewer), Ok(Role::Host));
        assert_eq!(may(Role::Moderator, Role::Moderator), Ok(Role::Moderator));
        assert_eq!(may(Role::Viewer, Role::Host), Err(AuthError::Forbidden { needed: Role::Host }));
        assert_eq!(authority.require(None, &demo(), Role::Viewer, NOW), Err(AuthError::Missing));
    }

    #[test]
    fn names_are_fit_to_be_shown() {
        let shown = |name: &str| {
            let claims = json!({
                "sub": "mia", "live": "demo", "role": "viewer", "name": name, "exp": seconds_from_now(60)
            });
            verify_claims(claims).unwrap().name
        };
        assert_eq!(shown("  Mia\u{0}\n \u{202E}L.  "), "Mia L.");
        assert_eq!(shown("\u{200B}\u{7}"), "Guest");
        assert_eq!(shown(&"夜".repeat(MAX_NAME_CHARS + 1)), "夜".repeat(MAX_NAME_CHARS));
        assert_eq!(shown("👩‍🚀"), "👩‍🚀");
        let nameless = json!({"sub": "mia", "live": "demo", "role": "host", "exp": seconds_from_now(60)});
        assert_eq!(verify_claims(nameless).unwrap().name, "Host");
    }

    #[test]
    fn the_bearer_header_is_read_as_clients_write_it() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(read("bearer  abc "), Some("abc".to_owned()));
        assert_eq!(read("Basic abc"), None);
        assert_eq!(read("abc"), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn no_secret_is_printed_with_the_authority() {
        let printed = format!("{:?}", Authority::new(SECRET));
        assert!(!printed.contains("0123456789"), "{printed}");
    }
}
