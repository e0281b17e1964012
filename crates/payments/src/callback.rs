//! What a callback says whose form is our own: the sandbox's, and that of a merchant's payment page.
//!
//! ```text
//! {"type":"paid","data":{"payment":"pay_…","amount_minor":1600,"currency":"EUR","reference":"theirs","refund":"refund_…",
//!  "contact":{"name":"Ann",…},"charges":[{"kind":"tax","label":"VAT","amount_minor":256}]}}
//! ```
//!
//! `contact` and `charges` come with `paid`, as in `PUT /v1/orders/{order}/details`.

use haul_commerce::{
    About, PaymentError, PaymentEventKind, Word,
    buyers::{Charge, Details},
};
use haul_courier::Keyring;
use haul_model::{Contact, Currency, Money, PaymentId, RefundId, UnixMillis};
use serde::{Deserialize, Serialize};

/// The longest name that a provider may give a payment, in bytes.
pub const MAX_REFERENCE_BYTES: usize = 255;

/// Whether a provider's name of something can be kept, and told to it again.
pub(crate) fn is_reference(text: &str) -> bool {
    text.len() <= MAX_REFERENCE_BYTES && !text.chars().any(char::is_control)
}

/// A callback's body.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Body {
    #[serde(rename = "type")]
    pub(crate) kind: PaymentEventKind,
    pub(crate) data: Data,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Data {
    pub(crate) payment: PaymentId,
    pub(crate) amount_minor: i64,
    #[serde(deserialize_with = "Currency::deserialize_kept")]
    pub(crate) currency: Currency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refund: Option<RefundId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contact: Option<Contact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) charges: Vec<Charge>,
}

/// Checks and reads a callback signed by Standard Webhooks.
pub(crate) fn read(
    keys: &Keyring,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
    now: UnixMillis,
) -> Result<Word, PaymentError> {
    let event = keys.verify(header, body, now).map_err(|error| PaymentError::Unsigned(error.to_string()))?;
    let Body { kind, data } =
        serde_json::from_slice(body).map_err(|error| PaymentError::Malformed(error.to_string()))?;
    let Data { payment, amount_minor, currency, refund, reference, contact, charges } = data;
    if amount_minor < 0 {
        return Err(PaymentError::Malformed("amount_minor: expected 0 or more".to_owned()));
    }
    if reference.as_ref().is_some_and(|reference| !is_reference(reference)) {
        return Err(PaymentError::Malformed(format!(
            "reference: expected at most {MAX_REFERENCE_BYTES} bytes and no control characters"
        )));
    }
    let amount = Money { amount_minor, currency };
    let details = Details { contact, charges };
    Ok(Word { event, about: About::Payment(payment), kind, amount, refund, reference, details })
}
