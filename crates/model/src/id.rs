//! Identifiers. Each thing has a type of its own, so that mixing two of them does not compile.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

/// The longest id accepted anywhere, in bytes. Ids are keys in stores and labels in logs; longer ones are refused.
pub const MAX_ID_BYTES: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has no characters.
    #[error("an id must not be empty")]
    Empty,
    /// The text is longer than [`MAX_ID_BYTES`].
    #[error("an id may have at most {MAX_ID_BYTES} bytes")]
    TooLong,
    /// The text has a character outside of those allowed.
    #[error("an id may have letters, digits, '-', '_', '.', ':' and '@' only, not {0:?}")]
    Character(char),
}

/// Checks the characters and length common to all ids.
///
/// Braces, slashes, spaces and control characters are out, so that an id can stand unescaped in a Redis key (whose
/// hash tag is delimited by braces), in a URL path and in a log line.
fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@'))) {
        Some(c) => Err(IdError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        /// As its text, without a copy: every event, record and answer is full of ids.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A new id: `prefix` (a short word and an underscore), the time, and 80 random bits. Ids made later sort
            /// later, which keeps database indexes and listings in order of creation.
            pub fn generate(prefix: &str, at: crate::UnixMillis, random: u128) -> Self {
                Self(generate(prefix, at, random).into())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES, "pattern": "^[A-Za-z0-9._:@-]+$"
                })
            }
        }
    )*};
}

ids! {
    /// A live: one room with one stream. Unique on a server, chosen by the merchant.
    LiveId;
    /// Who owns lives, products and orders. A server starts with one, `main`.
    MerchantId;
    /// A person: a host, a moderator, or somebody who watches and buys. The token's `sub`.
    BuyerId;
    /// Something that is sold.
    ProductId;
    /// Somebody who brings buyers: a KOL or KOC.
    CreatorId;
    /// Who looks after creators, and has a part of what they earn.
    AgencyId;
    /// One flash sale of one product in one live, with its own stock.
    SaleId;
    /// Stock set aside for a buyer.
    HoldId;
    /// What a buyer types to pay less; unique in a live.
    CouponCode;
    /// What a buyer paid, or is paying, for.
    OrderId;
    /// A payment at a provider.
    PaymentId;
    /// Money going back to who paid.
    RefundId;
    /// A merchant's API key.
    KeyId;
    /// An address that a merchant is told at what happens.
    WebhookId;
    /// A chat line.
    MessageId;
    /// A question to the host.
    QuestionId;
    /// A poll.
    PollId;
    /// A giveaway.
    GiveawayId;
    /// A media or channel session.
    SessionId;
    /// One form of a product, such as a size: a SKU, unique to the merchant.
    VariantId;
    /// A group of buyers that a merchant's tokens name, such as `gold`.
    TierId;
}

impl MerchantId {
    /// The merchant that every server has from the start.
    pub fn main() -> Self {
        Self("main".into())
    }
}

/// Crockford's base 32: no letters that are mistaken for digits, and the order of its digits is that of ASCII.
pub(crate) const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Digits of an id that is generated, after its prefix.
pub(crate) const GENERATED_DIGITS: usize = 26;

fn generate(prefix: &str, at: crate::UnixMillis, random: u128) -> String {
    let mut text = String::with_capacity(prefix.len() + GENERATED_DIGITS);
    text.push_str(prefix);
    // 48 bits of milliseconds last until the year 10889; 80 random bits make two in one millisecond distinct.
    let value = (u128::from(at.0) & 0xFFFF_FFFF_FFFF) << 80 | random & ((1 << 80) - 1);
    text.extend(
        (0..GENERATED_DIGITS).rev().map(|digit| char::from(DIGITS[(value >> (5 * digit)) as usize & 31])),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMillis;

    #[test]
    fn ids_that_could_break_a_key_or_a_path_are_refused() {
        for (text, expected) in [
            ("", IdError::Empty),
            ("a b", IdError::Character(' ')),
            ("a/../b", IdError::Character('/')),
            ("{tag}", IdError::Character('{')),
            ("夜市", IdError::Character('夜')),
        ] {
            assert_eq!(text.parse::<LiveId>(), Err(expected), "{text}");
        }
        assert_eq!("x".repeat(MAX_ID_BYTES + 1).parse::<LiveId>(), Err(IdError::TooLong));
        assert!("shop-7:evening_1.a@b".parse::<LiveId>().is_ok());
    }

    #[test]
    fn json_cannot_smuggle_in_a_bad_id() {
        assert!(serde_json_like("\"ok-1\""));
        assert!(!serde_json_like("\"not ok\""));
    }

    fn serde_json_like(json: &str) -> bool {
        use serde::de::{IntoDeserializer, value::Error};
        let text = json.trim_matches('"').to_owned();
        LiveId::deserialize(IntoDeserializer::<Error>::into_deserializer(text)).is_ok()
    }

    #[test]
    fn generated_ids_sort_by_time_and_differ_by_chance() {
        let first = HoldId::generate("hold_", UnixMillis(1_000), u128::MAX);
        let second = HoldId::generate("hold_", UnixMillis(1_001), 0);
        assert!(first < second);
        assert_ne!(second, HoldId::generate("hold_", UnixMillis(1_001), 1));
        assert!(first.as_str().parse::<HoldId>().is_ok());
    }
}
