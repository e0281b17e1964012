//! What Stripe tells: its signature, and which of its events mean what.
//!
//! Our id of an event is made of the object and what became of it, so that Stripe's several events for one fact, and
//! endpoints that are configured twice, are one event here.

use aws_lc_rs::hmac;
use haul_commerce::{
    About, PaymentError, PaymentEventKind, Word,
    buyers::{Charge, ChargeKind, Details},
};
use haul_model::{Contact, PaymentId, RefundId, UnixMillis};
use serde::Deserialize;

use super::{PAYMENT_KEY, REFUND_KEY, units::from_stripe};
use crate::signature::{MAX_SIGNATURES, TOLERANCE_S};

/// The header with time and signatures.
const HEADER: &str = "stripe-signature";

/// The secrets of our endpoint at Stripe, `whsec_…`: several while one is exchanged for another.
#[derive(Clone)]
pub struct Secrets(Vec<hmac::Key>);

impl Secrets {
    /// These; `None` where there is none, or an empty one.
    pub fn new(secrets: &[&str]) -> Option<Self> {
        let good = !secrets.is_empty() && secrets.iter().all(|secret| !secret.is_empty());
        // Unlike in Standard Webhooks, the text itself is the key.
        good.then(|| {
            Self(secrets.iter().map(|text| hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())).collect())
        })
    }

    /// Checks the signature of an event (<https://docs.stripe.com/webhooks#verify-manually>). Compares in constant time.
    pub(super) fn verify(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<(), PaymentError> {
        let unsigned = |why: &str| PaymentError::Unsigned(why.to_owned());
        let header = header(HEADER).ok_or_else(|| unsigned("the header stripe-signature is missing"))?;
        let mut timestamp = None;
        let mut signatures = Vec::new();
        for item in header.split(',') {
            match item.trim().split_once('=') {
                Some(("t", value)) => timestamp = Some(value),
                Some(("v1", value)) if signatures.len() < MAX_SIGNATURES => signatures.extend(hex(value)),
                _ => {}
            }
        }
        let timestamp = timestamp.ok_or_else(|| unsigned("the signature has no time"))?;
        let sent_at_s: u64 = timestamp.parse().map_err(|_| unsigned("the signature has no time"))?;
        let away_s = sent_at_s.abs_diff(now.0 / 1000);
        if away_s > TOLERANCE_S {
            return Err(PaymentError::Unsigned(format!(
                "signed {away_s} seconds away from now; at most {TOLERANCE_S} are accepted"
            )));
        }
        let signed = [timestamp.as_bytes(), b".", body].concat();
        let matches = |tag: &Vec<u8>| self.0.iter().any(|key| hmac::verify(key, &signed, tag).is_ok());
        match signatures.iter().any(matches) {
            true => Ok(()),
            false => Err(unsigned("no signature matches")),
        }
    }

    /// The header of an event sent at `timestamp_s`; for tests, which play Stripe.
    pub fn sign(&self, timestamp_s: u64, body: &[u8]) -> String {
        let signed = [timestamp_s.to_string().as_bytes(), b".", body].concat();
        let mut header = format!("t={timestamp_s}");
        for key in &self.0 {
            let tag = hmac::sign(key, &signed);
            header.push_str(",v1=");
            header.extend(tag.as_ref().iter().map(|byte| format!("{byte:02x}")));
        }
        header
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: serde_json::Value,
}

#[derive(Deserialize)]
struct Session {
    id: String,
    client_reference_id: Option<String>,
    payment_intent: Option<String>,
    payment_status: String,
    amount_total: Option<i64>,
    currency: Option<String>,
    metadata: Option<Metadata>,
    customer_details: Option<Party>,
    /// Until API version 2025-03-31; later in `collected_information`.
    shipping_details: Option<Party>,
    collected_information: Option<Collected>,
    total_details: Option<TotalDetails>,
}

#[derive(Deserialize)]
struct Collected {
    shipping_details: Option<Party>,
}

/// Somebody, as Stripe's page has asked them.
#[derive(Default, Deserialize)]
struct Party {
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    address: Option<Address>,
}

#[derive(Default, Deserialize)]
struct Address {
    line1: Option<String>,
    line2: Option<String>,
    city: Option<String>,
    state: Option<String>,
    postal_code: Option<String>,
    country: Option<String>,
}

#[derive(Deserialize)]
struct TotalDetails {
    amount_shipping: Option<i64>,
    amount_tax: Option<i64>,
}

#[derive(Deserialize)]
struct Refund {
    id: String,
    amount: i64,
    currency: String,
    payment_intent: Option<String>,
    status: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Dispute {
    id: String,
    amount: i64,
    currency: String,
    payment_intent: Option<String>,
    status: String,
}

#[derive(Default, Deserialize)]
struct Metadata {
    haul_payment: Option<String>,
    haul_refund: Option<String>,
}

/// What a verified event says; `None` where it is about nothing of ours.
pub(super) fn read(body: &[u8]) -> Result<Option<Word>, PaymentError> {
    debug_assert_eq!((PAYMENT_KEY, REFUND_KEY), ("haul_payment", "haul_refund"), "the fields of `Metadata`");
    let malformed = |error: serde_json::Error| PaymentError::Malformed(error.to_string());
    let Event { r#type, data: Data { object } } = serde_json::from_slice(body).map_err(malformed)?;
    match r#type.as_str() {
        "checkout.session.completed"
        | "checkout.session.async_payment_succeeded"
        | "checkout.session.async_payment_failed"
        | "checkout.session.expired" => session(&r#type, serde_json::from_value(object).map_err(malformed)?),
        "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
            Ok(refund(serde_json::from_value(object).map_err(malformed)?))
        }
        "charge.dispute.created" | "charge.dispute.closed" => {
            Ok(dispute(&r#type, serde_json::from_value(object).map_err(malformed)?))
        }
        _ => Ok(None),
    }
}

fn session(event: &str, mut session: Session) -> Result<Option<Word>, PaymentError> {
    // The account may have other shops: sessions that we did not make are none of ours.
    let ours = session
        .metadata
        .take()
        .and_then(|metadata| metadata.haul_payment)
        .filter(|ours| session.client_reference_id.as_ref() == Some(ours));
    let Some(payment) = ours.and_then(|payment| payment.parse::<PaymentId>().ok()) else { return Ok(None) };
    let paid = event != "checkout.session.async_payment_failed" && event != "checkout.session.expired";
    if paid && session.payment_status != "paid" {
        // A way of paying that takes days: another event will tell.
        return Ok(None);
    }
    let details = details(&mut session);
    let amount = session
        .amount_total
        .zip(session.currency)
        .and_then(|(amount, currency)| from_stripe(amount, &currency))
        .ok_or_else(|| PaymentError::Malformed("the session has no amount".to_owned()))?;
    let (kind, name) = match paid {
        true => (PaymentEventKind::Paid, "paid"),
        false => (PaymentEventKind::Failed, "failed"),
    };
    Ok(Some(Word {
        event: format!("{name}.{}", session.id),
        about: About::Payment(payment),
        kind,
        amount,
        refund: None,
        reference: session.payment_intent,
        details,
    }))
}

/// Whom it goes to: where Stripe's page was told to send it, else who has paid. And what of the total is shipping and tax.
fn details(session: &mut Session) -> Details {
    let payer = session.customer_details.take().unwrap_or_default();
    let shipping = session.collected_information.take().and_then(|collected| collected.shipping_details);
    let receiver = shipping.or(session.shipping_details.take()).unwrap_or_default();
    let Address { line1, line2, city, state, postal_code, country } =
        receiver.address.or(payer.address).unwrap_or_default();
    let contact = Contact {
        name: receiver.name.or(payer.name).unwrap_or_default(),
        email: payer.email.unwrap_or_default(),
        phone: receiver.phone.or(payer.phone).unwrap_or_default(),
        address: [line1, line2, city, state].into_iter().flatten().filter(|line| !line.is_empty()).collect(),
        postal_code: postal_code.unwrap_or_default(),
        country: country.unwrap_or_default(),
    };
    let currency = session.currency.as_deref().unwrap_or_default();
    let charge = |kind, label: &str, amount: Option<i64>| {
        let amount = amount.filter(|amount| *amount > 0)?;
        let amount_minor = from_stripe(amount, currency)?.amount_minor;
        Some(Charge { kind, label: label.to_owned(), amount_minor })
    };
    let charges = session.total_details.take().map_or([None, None], |totals| {
        [
            charge(ChargeKind::Shipping, "Shipping", totals.amount_shipping),
            charge(ChargeKind::Tax, "Tax", totals.amount_tax),
        ]
    });
    Details {
        contact: (!contact.is_empty()).then_some(contact),
        charges: charges.into_iter().flatten().collect(),
    }
}

fn refund(refund: Refund) -> Option<Word> {
    let (kind, name) = match refund.status.as_deref() {
        Some("succeeded") => (PaymentEventKind::Refunded, "refunded"),
        Some("failed" | "canceled") => (PaymentEventKind::RefundFailed, "refund_failed"),
        _ => return None,
    };
    let Metadata { haul_payment, haul_refund } = refund.metadata.unwrap_or_default();
    let about = match haul_payment.and_then(|payment| payment.parse().ok()) {
        Some(payment) => About::Payment(payment),
        // Made by a person at Stripe's pages.
        None => About::Reference(refund.payment_intent.clone()?),
    };
    Some(Word {
        event: format!("{name}.{}", refund.id),
        about,
        kind,
        amount: from_stripe(refund.amount, &refund.currency)?,
        refund: haul_refund.and_then(|refund| refund.parse::<RefundId>().ok()),
        reference: refund.payment_intent,
        details: Details::default(),
    })
}

fn dispute(event: &str, dispute: Dispute) -> Option<Word> {
    let (kind, name) = match (event, dispute.status.as_str()) {
        ("charge.dispute.created", _) => (PaymentEventKind::Disputed, "disputed"),
        (_, "won" | "warning_closed") => (PaymentEventKind::DisputeWon, "dispute_won"),
        (_, "lost") => (PaymentEventKind::DisputeLost, "dispute_lost"),
        _ => return None,
    };
    let reference = dispute.payment_intent?;
    Some(Word {
        event: format!("{name}.{}", dispute.id),
        about: About::Reference(reference.clone()),
        kind,
        amount: from_stripe(dispute.amount, &dispute.currency)?,
        refund: None,
        reference: Some(reference),
        details: Details::default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_123);
    const NOW_S: u64 = 1_700_000_000;

    fn session(status: &str) -> Value {
        json!({
            "id": "cs_1", "object": "checkout.session", "client_reference_id": "pay_1", "payment_intent": "pi_1",
            "payment_status": status, "amount_total": 1999, "currency": "eur", "metadata": { "haul_payment": "pay_1" },
        })
    }

    fn word(kind: &str, object: Value) -> Option<Word> {
        read(json!({ "id": "evt_1", "type": kind, "data": { "object": object } }).to_string().as_bytes())
            .unwrap()
    }

    #[test]
    fn a_completed_session_that_is_paid_is_money() {
        let paid = word("checkout.session.completed", session("paid")).unwrap();
        assert_eq!(paid.kind, PaymentEventKind::Paid);
        assert_eq!(paid.about, About::Payment("pay_1".parse().unwrap()));
        assert_eq!((paid.amount.amount_minor, paid.reference.as_deref()), (1_999, Some("pi_1")));
        assert_eq!(word("checkout.session.completed", session("unpaid")), None);
        let late = word("checkout.session.async_payment_succeeded", session("paid")).unwrap();
        assert_eq!(late.event, paid.event, "one session is paid once, whichever event says so");
        for event in ["checkout.session.expired", "checkout.session.async_payment_failed"] {
            assert_eq!(word(event, session("unpaid")).unwrap().kind, PaymentEventKind::Failed);
        }
    }

    #[test]
    fn whom_it_goes_to_comes_with_the_money() {
        let mut told = session("paid");
        told["customer_details"] = json!({ "name": "Ann Payer", "email": "ann@example.org", "phone": null,
            "address": { "line1": "1 Bank Street", "city": null, "country": "IE" } });
        told["total_details"] = json!({ "amount_discount": 0, "amount_shipping": 499, "amount_tax": 0 });
        let details = |told: &Value| word("checkout.session.completed", told.clone()).unwrap().details;
        let Details { contact: Some(payer), charges } = details(&told) else { panic!("no contact") };
        assert_eq!((payer.name.as_str(), payer.email.as_str()), ("Ann Payer", "ann@example.org"));
        assert_eq!((payer.address, payer.country.as_str()), (vec!["1 Bank Street".to_owned()], "IE"));
        let shipping = Charge { kind: ChargeKind::Shipping, label: "Shipping".to_owned(), amount_minor: 499 };
        assert_eq!(charges, [shipping]);
        let receiver = json!({ "name": "Bob", "address": { "line1": "2 Lamp Street", "line2": "", "city": "Cork",
            "state": "Munster", "postal_code": "T12", "country": "IE" } });
        for place in ["shipping_details", "collected_information"] {
            let mut sent = told.clone();
            sent[place] = match place {
                "shipping_details" => receiver.clone(),
                _ => json!({ "shipping_details": receiver }),
            };
            let receiver = details(&sent).contact.unwrap();
            assert_eq!((receiver.name.as_str(), receiver.email.as_str()), ("Bob", "ann@example.org"));
            assert_eq!(receiver.address, ["2 Lamp Street", "Cork", "Munster"]);
            assert_eq!(receiver.postal_code, "T12");
        }
        assert_eq!(details(&session("paid")), Details::default());
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let mut other = session("paid");
        other["metadata"] = json!({});
        assert_eq!(word("checkout.session.completed", other), None);
        assert_eq!(word("customer.created", json!({ "id": "cus_1" })), None);
        assert!(matches!(read(b"{}"), Err(PaymentError::Malformed(_))));
        let mut no_amount = session("paid");
        no_amount["amount_total"] = Value::Null;
        let body =
            json!({ "type": "checkout.session.completed", "data": { "object": no_amount } }).to_string();
        assert!(matches!(read(body.as_bytes()), Err(PaymentError::Malformed(_))));
    }

    #[test]
    fn refunds_and_disputes_are_found_by_the_payment_intent() {
        let refund = |status: &str, metadata: Value| {
            json!({ "id": "re_1", "amount": 500, "currency": "eur", "payment_intent": "pi_1", "status": status,
                "metadata": metadata })
        };
        let ours = json!({ "haul_payment": "pay_1", "haul_refund": "refund_1" });
        let told = word("refund.updated", refund("succeeded", ours)).unwrap();
        assert_eq!(told.refund, Some("refund_1".parse().unwrap()));
        assert_eq!(told.about, About::Payment("pay_1".parse().unwrap()));
        let theirs = word("refund.created", refund("succeeded", json!({}))).unwrap();
        assert_eq!((theirs.about, theirs.refund), (About::Reference("pi_1".to_owned()), None));
        assert_eq!(word("refund.created", refund("pending", json!({}))), None);
        let failed = word("refund.failed", refund("failed", Value::Null)).unwrap();
        assert_eq!(failed.kind, PaymentEventKind::RefundFailed);
        let dispute = |status: &str| json!({ "id": "dp_1", "amount": 1999, "currency": "eur", "payment_intent": "pi_1", "status": status });
        let opened = word("charge.dispute.created", dispute("needs_response")).unwrap();
        assert_eq!(opened.kind, PaymentEventKind::Disputed);
        let kind = |status: &str| word("charge.dispute.closed", dispute(status)).map(|word| word.kind);
        assert_eq!(kind("won"), Some(PaymentEventKind::DisputeWon));
        assert_eq!(kind("lost"), Some(PaymentEventKind::DisputeLost));
    }

    fn check(secrets: &Secrets, header: &str, body: &[u8]) -> Result<(), PaymentError> {
        secrets.verify(&|name| (name == HEADER).then(|| header.to_owned()), body, NOW)
    }

    #[test]
    fn signatures_are_checked_as_stripe_makes_them() {
        // HMAC-SHA256 of "1700000000.{}" under the text of the secret, by another implementation.
        let secrets = Secrets::new(&["whsec_test"]).unwrap();
        let header = "t=1700000000,v1=35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91";
        assert_eq!(secrets.sign(NOW_S, b"{}"), header);
        assert_eq!(check(&secrets, header, b"{}"), Ok(()));
        assert_eq!(check(&secrets, &format!("{header},v0=00"), b"{}"), Ok(()));
        let both = Secrets::new(&["whsec_new", "whsec_test"]).unwrap();
        assert_eq!(check(&both, header, b"{}"), Ok(()), "while the secret is exchanged");
    }

    #[test]
    fn forged_altered_and_old_events_are_unsigned() {
        let secrets = Secrets::new(&["whsec_test"]).unwrap();
        let good = secrets.sign(NOW_S, b"{}");
        let other = Secrets::new(&["whsec_guess"]).unwrap().sign(NOW_S, b"{}");
        let later = good.replace("t=1700000000", "t=1700000001");
        for (header, body) in [
            (good.as_str(), b"{ }".as_slice()),
            (&other, b"{}"),
            (&later, b"{}"),
            (&secrets.sign(NOW_S - 301, b"{}"), b"{}"),
            (&secrets.sign(NOW_S + 302, b"{}"), b"{}"),
            ("", b"{}"),
            ("t=1700000000", b"{}"),
            ("t=1700000000,v1=", b"{}"),
            ("t=1700000000,v1=zz", b"{}"),
            ("t=,v1=00", b"{}"),
        ] {
            let answer = check(&secrets, header, body);
            assert!(matches!(answer, Err(PaymentError::Unsigned(_))), "{header}: {answer:?}");
        }
        assert!(Secrets::new(&[]).is_none() && Secrets::new(&[""]).is_none());
    }
}
