//! What webhooks are told, described: OpenAPI's `webhooks`.

use serde_json::{Map, Value, json};

/// The kinds of messages, when each is sent, and which of [`data`]'s shapes it has.
const KINDS: [(&str, &str, Shape); 14] = [
    ("order.paying", "A buyer went to pay: the order is written down", Shape::Order),
    ("order.sold", "The order is paid, and its units are the buyer's", Shape::Order),
    ("order.expired", "It was not paid in time", Shape::Order),
    ("order.refund_due", "It was paid, and buys nothing: the money goes back", Shape::Order),
    ("order.partly_refunded", "Some of its money went back", Shape::Order),
    ("order.refunded", "All of its money went back", Shape::Order),
    ("order.disputed", "The buyer disputes the payment", Shape::Order),
    ("order.dispute_won", "The dispute was decided for the merchant", Shape::Order),
    ("order.dispute_lost", "The dispute was decided for the buyer: the money is gone", Shape::Order),
    ("refund.created", "Money of an order is to go back; `refund` says how much", Shape::Order),
    ("refund.failed", "The provider refused a refund, which waits to be asked for again", Shape::Order),
    (
        "buyer.milestone",
        "A buyer has come to a number of paid orders or a sum spent, once each",
        Shape::Milestone,
    ),
    ("followup.due", "The time of a product's follow-up of an order has come", Shape::Followup),
    ("product.back_in_stock", "A product that this buyer saved can be bought again", Shape::BackInStock),
];

#[derive(Debug, Clone, Copy)]
enum Shape {
    Order,
    Milestone,
    Followup,
    BackInStock,
}

/// All kinds of messages.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(kind, ..)| *kind)
}

/// Whether anything is told under this: a kind, or the beginning of some and a star.
pub(super) fn is_told(wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => kinds().any(|kind| kind.starts_with(beginning)),
        None => kinds().any(|kind| kind == wanted),
    }
}

/// The `webhooks` of the document.
pub(crate) fn webhooks() -> Value {
    let all = KINDS.iter().map(|(kind, summary, shape)| {
        let body = json!({
            "type": "object",
            "required": ["type", "timestamp", "data"],
            "properties": {
                "type": { "const": kind },
                "timestamp": { "type": "string", "format": "date-time" },
                "data": data(*shape),
            },
        });
        let header = |name: &str, description: &str| {
            let schema = json!({ "type": "string" });
            json!({ "name": name, "in": "header", "required": true, "description": description, "schema": schema })
        };
        let post = json!({
            "summary": summary,
            "description": "Signed as Standard Webhooks has it, and delivered at least once. Any answer but 2xx is tried again.",
            "parameters": [
                header("webhook-id", "The message's id: the same for a repeated one"),
                header("webhook-timestamp", "When it was sent, in seconds since 1970"),
                header("webhook-signature", "`v1,` and base64 of HMAC-SHA256; several, with spaces between, after a rotation"),
            ],
            "requestBody": { "required": true, "content": { "application/json": { "schema": body } } },
            "responses": { "2XX": { "description": "taken" } },
        });
        ((*kind).to_owned(), json!({ "post": post }))
    });
    Value::Object(all.collect::<Map<_, _>>())
}

fn data(shape: Shape) -> Value {
    let text = || json!({ "type": "string" });
    let time = || json!({ "type": "string", "format": "date-time" });
    let number = || json!({ "type": "integer" });
    let money = || {
        json!({
            "type": "object",
            "required": ["amount_minor", "currency"],
            "properties": { "amount_minor": { "type": "integer" }, "currency": { "type": "string" } },
        })
    };
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    match shape {
        Shape::Order => {
            let line = object(json!({
                "line": number(), "product_id": text(), "variant_id": text(), "quantity": number(),
                "unit_price": money(), "total": money(),
            }));
            let coupon = object(json!({ "code": text(), "amount": money() }));
            let refund = object(json!({
                "id": text(), "order_id": text(), "amount": money(),
                "lines": { "type": "array", "items": object(json!({ "line": number(), "amount": money() })) },
                "state": { "enum": ["due", "asked", "done", "failed"] }, "of_order": { "type": "boolean" },
            }));
            object(json!({
                "id": text(), "live_id": text(), "sale_id": text(), "product_id": text(), "hold_id": text(),
                "payment_id": text(), "buyer_id": text(), "buyer_name": text(), "quantity": number(),
                "lines": { "type": "array", "minItems": 1, "items": line }, "total": money(),
                "coupon": { "anyOf": [coupon, { "type": "null" }] }, "refunded": money(), "state": text(),
                "dispute": { "type": ["string", "null"] }, "created_at": time(), "refund_id": text(),
                "refund": refund,
            }))
        }
        Shape::Milestone => object(json!({
            "buyer_id": text(), "milestone": text(), "orders": { "type": ["integer", "null"] },
            "spent": { "anyOf": [money(), { "type": "null" }] }, "order_id": text(),
        })),
        Shape::Followup => object(json!({
            "name": text(), "order_id": text(), "product_id": text(), "buyer_id": text(), "due_at": time(),
        })),
        Shape::BackInStock => object(json!({ "product_id": text(), "buyer_id": text() })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_name_every_kind() {
        let read = |name: &str| {
            let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        let text = read("selling.md") + &read("creators.md");
        for (kind, ..) in KINDS {
            assert!(text.contains(&format!("`{kind}`")), "{kind}");
        }
        assert_eq!(webhooks().as_object().unwrap().len(), KINDS.len());
    }
}
