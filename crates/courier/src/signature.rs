//! Signatures of callbacks and webhooks after the Standard Webhooks specification, version 1
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! Signed is `{id}.{timestamp}.{body}` with HMAC-SHA256. The signature header may carry several signatures, separated
//! by spaces, of which one must be right: that is how a secret is rotated.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use haul_model::UnixMillis;

/// The header that names the message: the same for a repeated delivery.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of sending, in whole seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures, each `v1,` and base64.
pub const SIGNATURE_HEADER: &str = "webhook-signature";
/// How far a message's timestamp may be from the clock of who checks it, either way, in seconds.
pub const TOLERANCE_S: u64 = 300;
/// The longest message id that is accepted, in bytes; longer ones are refused.
pub const MAX_ID_BYTES: usize = 128;
/// The most signatures that are tried in one header; the rest is not looked at.
pub const MAX_SIGNATURES: usize = 8;

/// Why a message's signature is not accepted. Answer 401 to each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing.
    #[error("the header {0} is missing")]
    MissingHeader(&'static str),
    /// A header can't be read.
    #[error("the header {0} is malformed")]
    MalformedHeader(&'static str),
    /// The message was signed too long ago, or is from the future. Perhaps it is replayed, or a clock is wrong.
    #[error("the message was signed {0} seconds away from now; at most {TOLERANCE_S} are accepted")]
    OutsideTolerance(u64),
    /// None of the signatures is right.
    #[error("no signature matches")]
    NoMatch,
}

/// A secret shared with whoever signs or checks.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// The shortest key that is taken from others: a shorter one can be guessed, and then a payment forged.
pub const MIN_KEY_BYTES: usize = 24;

impl SigningKey {
    /// A key of these bytes; 24 to 64 random ones are what the specification recommends.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A key written as the specification writes it, `whsec_` and base64 of at least [`MIN_KEY_BYTES`]; `None` where it isn't.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = STANDARD.decode(text.strip_prefix("whsec_")?).ok()?;
        (secret.len() >= MIN_KEY_BYTES).then(|| Self::new(&secret))
    }

    /// The signature of a message sent at `timestamp_s`, as it stands in the header: `v1,` and base64.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let tag = hmac::sign(&self.0, &signed_bytes(id, &timestamp_s.to_string(), body));
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }

    /// Checks a message's headers and body at `now`, and gives its id. Compares in constant time.
    pub fn verify(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<String, SignatureError> {
        let header = |name| header(name).ok_or(SignatureError::MissingHeader(name));
        let (id, timestamp, signatures) =
            (header(ID_HEADER)?, header(TIMESTAMP_HEADER)?, header(SIGNATURE_HEADER)?);
        if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SignatureError::MalformedHeader(ID_HEADER));
        }
        let sent_at_s: u64 =
            timestamp.parse().map_err(|_| SignatureError::MalformedHeader(TIMESTAMP_HEADER))?;
        let away_s = sent_at_s.abs_diff(now.0 / 1000);
        if away_s > TOLERANCE_S {
            return Err(SignatureError::OutsideTolerance(away_s));
        }
        let signed = signed_bytes(&id, &timestamp, body);
        let matches = |signature: &str| {
            signature
                .strip_prefix("v1,")
                .and_then(|tag| STANDARD.decode(tag).ok())
                .is_some_and(|tag| hmac::verify(&self.0, &signed, &tag).is_ok())
        };
        match signatures.split(' ').take(MAX_SIGNATURES).any(matches) {
            true => Ok(id),
            false => Err(SignatureError::NoMatch),
        }
    }
}

/// Several secrets of which any is accepted, so that one can be exchanged for another without a gap: the new one first,
/// the old one for as long as it may still be used.
#[derive(Debug, Clone)]
pub struct Keyring(Vec<SigningKey>);

impl Keyring {
    /// A ring of these; `None` where there is none.
    pub fn new(keys: Vec<SigningKey>) -> Option<Self> {
        if keys.is_empty() { None } else { Some(Self(keys)) }
    }

    /// The signatures of a message by each of the keys, as they stand in the header.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let signatures: Vec<String> = self.0.iter().map(|key| key.sign(id, timestamp_s, body)).collect();
        signatures.join(" ")
    }

    /// Checks a message's headers and body at `now` with each of the keys, and gives the message's id.
    pub fn verify(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<String, SignatureError> {
        let mut refused = SignatureError::NoMatch;
        for key in &self.0 {
            match key.verify(header, body, now) {
                Ok(id) => return Ok(id),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl From<SigningKey> for Keyring {
    fn from(key: SigningKey) -> Self {
        Self(vec![key])
    }
}

fn signed_bytes(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_614_265_330_500);
    const BODY: &[u8] = b"{\"test\": 2432232314}";

    /// The example of the specification's reference libraries.
    fn key() -> SigningKey {
        SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    fn check(id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Result<String, SignatureError> {
        let header = |name: &str| {
            let value = match name {
                ID_HEADER => id,
                TIMESTAMP_HEADER => timestamp,
                SIGNATURE_HEADER => signature,
                _ => "",
            };
            (!value.is_empty()).then(|| value.to_owned())
        };
        key().verify(&header, body, NOW)
    }

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_specifications_example_is_signed_and_accepted() {
        assert_eq!(key().sign(ID, 1_614_265_330, BODY), SIGNATURE);
        assert_eq!(check(ID, "1614265330", SIGNATURE, BODY), Ok(ID.to_owned()));
    }

    #[test]
    fn one_right_signature_among_others_is_enough() {
        let several = format!("v1a,ignored v1,!!! v1,AAAA {SIGNATURE}");
        assert_eq!(check(ID, "1614265330", &several, BODY), Ok(ID.to_owned()));
        let too_many = format!("{}{SIGNATURE}", "v1,AAAA ".repeat(MAX_SIGNATURES));
        assert_eq!(check(ID, "1614265330", &too_many, BODY), Err(SignatureError::NoMatch));
    }

    #[test]
    fn whatever_is_altered_is_refused() {
        let other = SigningKey::new(b"another secret").sign(ID, 1_614_265_330, BODY);
        for (id, timestamp, signature, body) in [
            ("msg_other", "1614265330", SIGNATURE, BODY),
            (ID, "1614265331", SIGNATURE, BODY),
            (ID, "01614265330", SIGNATURE, BODY),
            (ID, "1614265330", SIGNATURE, b"{\"test\": 2432232315}".as_slice()),
            (ID, "1614265330", other.as_str(), BODY),
            (ID, "1614265330", "v1,", BODY),
            (ID, "1614265330", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", BODY),
        ] {
            assert_eq!(
                check(id, timestamp, signature, body),
                Err(SignatureError::NoMatch),
                "{id} {signature}"
            );
        }
    }

    #[test]
    fn old_and_future_messages_are_refused_though_rightly_signed() {
        let now_s = NOW.0 / 1000;
        for (timestamp_s, accepted) in [
            (now_s - TOLERANCE_S, true),
            (now_s - TOLERANCE_S - 1, false),
            (now_s + TOLERANCE_S, true),
            (now_s + TOLERANCE_S + 1, false),
            (0, false),
            (u64::MAX, false),
        ] {
            let signature = key().sign(ID, timestamp_s, BODY);
            let answer = check(ID, &timestamp_s.to_string(), &signature, BODY);
            match accepted {
                true => assert_eq!(answer, Ok(ID.to_owned()), "{timestamp_s}"),
                false => assert!(
                    matches!(answer, Err(SignatureError::OutsideTolerance(_))),
                    "{timestamp_s}: {answer:?}"
                ),
            }
        }
    }

    #[test]
    fn missing_and_malformed_headers_are_named() {
        use SignatureError::{MalformedHeader, MissingHeader};
        assert_eq!(check("", "1614265330", SIGNATURE, BODY), Err(MissingHeader(ID_HEADER)));
        assert_eq!(check(ID, "", SIGNATURE, BODY), Err(MissingHeader(TIMESTAMP_HEADER)));
        assert_eq!(check(ID, "1614265330", "", BODY), Err(MissingHeader(SIGNATURE_HEADER)));
        assert_eq!(check(ID, "now", SIGNATURE, BODY), Err(MalformedHeader(TIMESTAMP_HEADER)));
        assert_eq!(check("a b", "1614265330", SIGNATURE, BODY), Err(MalformedHeader(ID_HEADER)));
        let long = "x".repeat(MAX_ID_BYTES + 1);
        assert_eq!(check(&long, "1614265330", SIGNATURE, BODY), Err(MalformedHeader(ID_HEADER)));
    }

    #[test]
    fn while_a_secret_is_exchanged_both_are_accepted() {
        let (old, new, third) = (SigningKey::new(b"old"), SigningKey::new(b"new"), SigningKey::new(b"third"));
        let now_s = NOW.0 / 1000;
        let check = |ring: &Keyring, signature: String| {
            let header = |name: &str| match name {
                ID_HEADER => Some(ID.to_owned()),
                TIMESTAMP_HEADER => Some(now_s.to_string()),
                _ => Some(signature.clone()),
            };
            ring.verify(&header, BODY, NOW)
        };
        let both = Keyring::new(vec![new.clone(), old.clone()]).unwrap();
        for key in [&old, &new] {
            assert_eq!(check(&both, key.sign(ID, now_s, BODY)), Ok(ID.to_owned()));
            // What is signed with both is accepted by whoever knows one of them.
            assert_eq!(check(&key.clone().into(), both.sign(ID, now_s, BODY)), Ok(ID.to_owned()));
        }
        assert_eq!(check(&both, third.sign(ID, now_s, BODY)), Err(SignatureError::NoMatch));
        assert!(Keyring::new(Vec::new()).is_none());
    }

    #[test]
    fn a_key_is_read_as_the_specification_writes_it_and_never_printed() {
        assert!(SigningKey::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_none());
        assert!(SigningKey::parse("whsec_").is_none());
        assert!(SigningKey::parse("whsec_AAAA").is_none(), "three bytes are guessed");
        assert!(SigningKey::parse("whsec_%%%").is_none());
        assert_eq!(format!("{:?}", key()), "SigningKey(..)");
    }
}
