//! Whom an order goes to, and where; what of its total is shipping and tax.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest field of a contact, in characters.
pub const MAX_FIELD_CHARS: usize = 200;
/// The most lines of an address.
pub const MAX_ADDRESS_LINES: usize = 6;

/// Whom an order goes to, and where. All of it is personal: it is in no log and no event, and can be erased.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Contact {
    /// Who receives it.
    pub name: String,
    /// Where they read mail.
    pub email: String,
    /// Where they are called.
    pub phone: String,
    /// Where it goes, line by line as it is written there; at most 6.
    pub address: Vec<String>,
    /// Its postal code.
    pub postal_code: String,
    /// ISO 3166-1, two capitals; empty where it is not known.
    pub country: String,
}

/// Why this is no contact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContactError {
    /// A field is too long, or has what no address has.
    #[error("{0}: expected at most {MAX_FIELD_CHARS} characters and no control characters")]
    Field(&'static str),
    /// The address has too many lines.
    #[error("address: expected at most {MAX_ADDRESS_LINES} lines")]
    Lines,
    /// The country is no code.
    #[error("country: expected two capital letters (ISO 3166-1), or nothing")]
    Country,
    /// Something is missing that is needed.
    #[error("{0}: expected it to be given")]
    Missing(&'static str),
}

/// What somebody who goes to pay must say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContactNeed {
    /// Nothing: the payment provider asks, or the shop knows it. What is given is kept all the same.
    #[default]
    Nothing,
    /// Where to write to: `email`.
    Email,
    /// Where to send it: `name`, `address`, `country`, and one of `email` and `phone`.
    Address,
}

/// What kind of charge it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChargeKind {
    /// Bringing it there.
    Shipping,
    /// What the state gets.
    Tax,
}

/// A part of an order's total that is shipping or tax.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Charge {
    /// Which.
    pub kind: ChargeKind,
    /// Such as "VAT 19 %".
    pub label: String,
    /// In the order's currency, in minor units. Part of the total, never on top of it.
    pub amount_minor: i64,
}

impl Contact {
    /// Checks its form.
    pub fn check(&self) -> Result<(), ContactError> {
        let Self { name, email, phone, address, postal_code, country } = self;
        if address.len() > MAX_ADDRESS_LINES {
            return Err(ContactError::Lines);
        }
        let fields = [("name", name), ("email", email), ("phone", phone), ("postal_code", postal_code)];
        for (field, text) in fields.into_iter().chain(address.iter().map(|line| ("address", line))) {
            if !is_plain(text) {
                return Err(ContactError::Field(field));
            }
        }
        let is_code = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
        if !country.is_empty() && !is_code { Err(ContactError::Country) } else { Ok(()) }
    }

    /// Whether nothing at all is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ContactNeed {
    /// Checks what was given, and that what is needed is among it.
    pub fn check(self, contact: Option<&Contact>) -> Result<(), ContactError> {
        let nobody = Contact::default();
        let Contact { name, email, phone, address, country, .. } = match contact {
            Some(contact) => {
                contact.check()?;
                contact
            }
            None => &nobody,
        };
        let blank = |text: &str| text.trim().is_empty();
        let missing = match self {
            ContactNeed::Nothing => None,
            ContactNeed::Email => blank(email).then_some("email"),
            ContactNeed::Address if blank(name) => Some("name"),
            ContactNeed::Address if address.iter().all(|line| blank(line)) => Some("address"),
            ContactNeed::Address if country.is_empty() => Some("country"),
            ContactNeed::Address => (blank(email) && blank(phone)).then_some("email or phone"),
        };
        missing.map_or(Ok(()), |field| Err(ContactError::Missing(field)))
    }
}

/// Whether a text may stand in an address, or on a bill.
pub fn is_plain(text: &str) -> bool {
    text.chars().count() <= MAX_FIELD_CHARS && !text.chars().any(char::is_control)
}

/// Says that there is one, and nothing of what is in it: a contact must not get into a log by accident.
impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contact").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Contact {
        Contact {
            name: "Ann".into(),
            email: "ann@example.org".into(),
            address: vec!["1 Lamp Street".into(), "Cork".into()],
            country: "IE".into(),
            ..Contact::default()
        }
    }

    #[test]
    fn what_is_needed_must_be_there() {
        let nobody = Contact::default();
        assert_eq!(ContactNeed::Nothing.check(None), Ok(()));
        assert_eq!(ContactNeed::Nothing.check(Some(&nobody)), Ok(()));
        assert_eq!(ContactNeed::Email.check(None), Err(ContactError::Missing("email")));
        assert_eq!(ContactNeed::Email.check(Some(&ann())), Ok(()));
        assert_eq!(ContactNeed::Address.check(Some(&ann())), Ok(()));
        let missing = |change: fn(&mut Contact)| {
            let mut contact = ann();
            change(&mut contact);
            ContactNeed::Address.check(Some(&contact)).unwrap_err()
        };
        assert_eq!(missing(|ann| ann.name = "  ".into()), ContactError::Missing("name"));
        assert_eq!(missing(|ann| ann.address = vec![" ".into()]), ContactError::Missing("address"));
        assert_eq!(missing(|ann| ann.country.clear()), ContactError::Missing("country"));
        assert_eq!(missing(|ann| ann.email.clear()), ContactError::Missing("email or phone"));
    }

    #[test]
    fn what_no_address_has_is_refused_whether_it_is_needed_or_not() {
        let wrong = |change: fn(&mut Contact)| {
            let mut contact = ann();
            change(&mut contact);
            ContactNeed::Nothing.check(Some(&contact)).unwrap_err()
        };
        assert_eq!(wrong(|ann| ann.name = "A\nnn".into()), ContactError::Field("name"));
        assert_eq!(wrong(|ann| ann.phone = "1".repeat(201)), ContactError::Field("phone"));
        assert_eq!(wrong(|ann| ann.address.push("\u{7}".into())), ContactError::Field("address"));
        assert_eq!(wrong(|ann| ann.address = vec![String::new(); 7]), ContactError::Lines);
        assert_eq!(wrong(|ann| ann.country = "ie".into()), ContactError::Country);
    }

    #[test]
    fn nothing_of_it_is_in_a_log() {
        assert_eq!(format!("{:?}", ann()), "Contact { .. }");
    }
}
