//! `/v1/openapi.json` and `/v1/asyncapi.json`: what is offered, described from the types that are parsed and written.

use std::collections::BTreeSet;

use axum::{Json, Router, routing::get};
use haul_wire::{
    ChatAsk, Failure, Reply, Request, RoomEvent, SUBPROTOCOL, Snapshot, coupon::CouponAsk, crowd::CrowdAsk,
    questions::QuestionAsk, show::ShowAsk,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    guests::Guest,
    moq::MoqDocument,
    node::NodeDocument,
    payments::{Pay, SandboxOrder},
    rest::{LiveDocument, Mint, Orders, PutLive, PutProduct, Sales, Token},
    v1::Page,
};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/openapi.json", get(|| async { Json(openapi()) }))
        .route("/v1/asyncapi.json", get(|| async { Json(asyncapi()) }))
}

/// Who may call an operation.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Anybody,
    Watcher,
    Viewer,
    Moderator,
    Host,
    Merchant,
    Provider,
}

impl Who {
    fn text(self) -> &'static str {
        match self {
            Who::Anybody => "For anybody.",
            Who::Watcher => "For a viewer's token, or anybody if the live is public.",
            Who::Viewer => "For a viewer's token.",
            Who::Moderator => "For a moderator's token.",
            Who::Host => "For a host's token.",
            Who::Merchant => {
                "For the merchant's backend: an API key with this scope, or a host's token for all lives (`*`)."
            }
            Who::Provider => "For the payment provider, by its signature (Standard Webhooks).",
        }
    }

    fn security(self) -> Value {
        match self {
            Who::Anybody | Who::Provider => json!([{}]),
            Who::Watcher => json!([{ "token": [] }, {}]),
            Who::Viewer | Who::Moderator | Who::Host | Who::Merchant => json!([{ "token": [] }]),
        }
    }
}

/// One way to call.
pub(crate) struct Operation {
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
    pub(crate) who: Who,
    pub(crate) summary: &'static str,
    pub(crate) body: Content,
    pub(crate) answer: (&'static str, Content),
    pub(crate) refusals: &'static [&'static str],
    /// The query's parameters, see [`Operation::query`].
    pub(crate) query: Vec<Value>,
}

/// A media type and its schema, if there is any.
type Content = Option<(&'static str, Value)>;

/// Makes operations that can be refused alike, each of its method, path, asker, summary, body and answer.
pub(crate) fn refused_with(
    refusals: &'static [&'static str],
) -> impl Fn(&'static str, &'static str, Who, &'static str, Content, (&'static str, Content)) -> Operation {
    move |method, path, who, summary, body, answer| Operation {
        path,
        method,
        who,
        summary,
        body,
        answer,
        refusals,
        query: Vec::new(),
    }
}

impl Operation {
    /// What it can be refused with: its own statuses, and those that all of its kind have.
    fn refusals(&self) -> BTreeSet<&'static str> {
        let mut all: BTreeSet<&str> = self.refusals.iter().copied().collect();
        if !matches!(self.who, Who::Anybody | Who::Provider) {
            all.extend(["401", "403"]);
        }
        if self.path.starts_with("/v1/") {
            if self.body.is_some() {
                all.extend(["400", "413", "415", "422"]);
            }
            if self.path.contains('{') {
                all.extend(["400", "404"]);
            }
            // An Idempotency-Key that is in use, or was used for something else.
            if self.method == "post" && !matches!(self.who, Who::Provider) {
                all.extend(["409", "422"]);
            }
            if !self.query.is_empty() {
                all.insert("400");
            }
        }
        all
    }

    /// The same with the fields of `T` as parameters in the query.
    pub(crate) fn query<T: JsonSchema>(mut self, generator: &mut SchemaGenerator) -> Self {
        let fields = generator.root_schema_for::<T>().to_value();
        let required = |name: &str| {
            fields["required"].as_array().is_some_and(|required| required.iter().any(|field| field == name))
        };
        for (name, schema) in fields["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            self.query.push(json!({
                "name": name, "in": "query", "required": required(name),
                "description": description.unwrap_or_default(), "schema": schema,
            }));
        }
        self
    }
}

/// A JSON body of this type.
pub(crate) fn json<T: JsonSchema>(generator: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
    Some(("application/json", schema::<T>(generator)))
}

/// OpenAPI 3.1.
fn openapi() -> Value {
    let mut generator = generator();
    let mut paths = Map::new();
    let mut described = operations(&mut generator);
    described.extend(crate::shop::links::operations(&mut generator));
    described.extend(crate::v1::operations(&mut generator));
    for operation in described {
        let mut described = json!({
            "summary": operation.summary,
            "description": operation.who.text(),
            "security": operation.who.security(),
            "parameters": parameters(&operation),
        });
        let refusals = operation.refusals();
        if let Some((media_type, schema)) = operation.body {
            described["requestBody"] =
                json!({ "required": true, "content": { (media_type): { "schema": schema } } });
        }
        let (status, body) = operation.answer;
        let mut responses = Map::new();
        let content = body.map(|(media_type, schema)| json!({ (media_type): { "schema": schema } }));
        responses.insert(
            status.to_owned(),
            match content {
                Some(content) => json!({ "description": "done", "content": content }),
                None => json!({ "description": "done" }),
            },
        );
        for refusal in refusals {
            responses.insert(refusal.to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
        }
        described["responses"] = Value::Object(responses);
        let path = paths.entry(operation.path.to_owned()).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Haul",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Live streams that sell. Times are RFC 3339 in UTC, such as 2026-11-11T12:00:00.250Z, and taken \
                with any offset; spans are milliseconds or seconds, as their names say; money is in the minor unit of its \
                currency. A POST with an `Idempotency-Key` is carried out once: asked again within a day, it \
                is answered as before. The room itself, with chat, pins and buying, is a websocket: see \
                /v1/asyncapi.json.",
        },
        "paths": paths,
        "webhooks": crate::v1::webhooks(),
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "A token (JWT) for one live or for all, or a merchant's API key (`hk_…`).",
                },
            },
            "parameters": {
                "IdempotencyKey": {
                    "name": "Idempotency-Key", "in": "header", "required": false,
                    "description": "1 to 255 visible characters, chosen by the asker: the request is carried out once, \
                        and asked again within a day, it is answered as before.",
                    "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
                },
            },
            "responses": {
                "Problem": {
                    "description": "Refused (RFC 9457); `code` is stable.",
                    "content": { "application/problem+json": { "schema": {
                        "type": "object",
                        "required": ["type", "title", "status", "detail", "code"],
                        "properties": {
                            "type": { "type": "string" },
                            "title": { "type": "string" },
                            "status": { "type": "integer" },
                            "detail": { "type": "string" },
                            "code": { "type": "string" },
                            "why": {
                                "type": "string",
                                "description": "What exactly was wrong, where one code stands for several things; stable.",
                            },
                            "standing": {
                                "type": "object",
                                "description": "What is in force against the person, where that is why: `measure`, \
                                    `until` and `reason`.",
                            },
                        },
                    } } },
                },
            },
        },
    })
}

fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    const JSON: &str = "application/json";
    const SDP: &str = "application/sdp";
    const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
    let sdp = || json!({ "type": "string", "description": "RFC 8866" });
    let fragment =
        || json!({ "type": "string", "description": "RFC 8840: candidates (answered 204), or a restart" });
    let op = |method, path, who, summary, body, answer, refusals| {
        refused_with(refusals)(method, path, who, summary, body, answer)
    };
    macro_rules! schema {
        ($name:ty) => {
            Some((JSON, generator.subschema_for::<$name>().to_value()))
        };
    }
    vec![
        op(
            "post",
            "/whip/{live}",
            Who::Host,
            "Publish a stream (WHIP, RFC 9725)",
            Some((SDP, sdp())),
            ("201", Some((SDP, sdp()))),
            &["400", "401", "403", "406", "409", "413", "415", "429", "503"],
        ),
        op(
            "patch",
            "/whip/{live}/{session}",
            Who::Host,
            "Candidates (204), or an ICE restart",
            Some((FRAGMENT, fragment())),
            ("200", Some((FRAGMENT, fragment()))),
            &["400", "401", "403", "404", "409", "412", "413", "415", "428", "503"],
        ),
        op(
            "delete",
            "/whip/{live}/{session}",
            Who::Host,
            "End the stream",
            None,
            ("200", None),
            &["401", "403", "404"],
        ),
        op(
            "post",
            "/whep/{live}",
            Who::Watcher,
            "Watch a stream (WHEP)",
            Some((SDP, sdp())),
            ("201", Some((SDP, sdp()))),
            &["400", "401", "403", "406", "409", "413", "415", "429", "503"],
        ),
        op(
            "patch",
            "/whep/{live}/{session}",
            Who::Watcher,
            "Candidates (204), or an ICE restart",
            Some((FRAGMENT, fragment())),
            ("200", Some((FRAGMENT, fragment()))),
            &["400", "401", "403", "404", "409", "412", "413", "415", "428", "503"],
        ),
        op(
            "delete",
            "/whep/{live}/{session}",
            Who::Watcher,
            "Stop watching",
            None,
            ("200", None),
            &["401", "403", "404"],
        ),
        op(
            "get",
            "/v1/node",
            Who::Anybody,
            "What this node carries, what it may, and whether it takes more",
            None,
            ("200", schema!(NodeDocument)),
            &[],
        ),
        op(
            "get",
            "/v1/moq",
            Who::Anybody,
            "Where Media over QUIC is, if the server speaks it",
            None,
            ("200", schema!(MoqDocument)),
            &["404"],
        ),
        op(
            "get",
            "/v1/lives/{live}",
            Who::Watcher,
            "A live (with an API key: scope lives:read)",
            None,
            ("200", schema!(LiveDocument)),
            &["401", "403", "404"],
        ),
        op(
            "put",
            "/v1/lives/{live}",
            Who::Host,
            "Create or change a live (with an API key: scope lives:write)",
            schema!(PutLive),
            ("200", schema!(LiveDocument)),
            &["400", "401", "403"],
        ),
        op(
            "put",
            "/v1/lives/{live}/products/{product}",
            Who::Host,
            "Create or change a product, and put it into the bag (with an API key: scope products:write)",
            schema!(PutProduct),
            ("200", Some((JSON, generator.subschema_for::<haul_wire::ProductView>().to_value()))),
            &["400", "401", "403"],
        ),
        op(
            "delete",
            "/v1/lives/{live}/products/{product}",
            Who::Host,
            "Take a product out of the bag (with an API key: scope products:write)",
            None,
            ("204", None),
            &["401", "403"],
        ),
        op(
            "get",
            "/v1/lives/{live}/sales",
            Who::Watcher,
            "Sales, scheduled, open, and closed a while ago (with an API key: scope sales:read)",
            None,
            ("200", schema!(Sales)),
            &["401", "403", "404"],
        ),
        op(
            "get",
            "/v1/lives/{live}/orders",
            Who::Moderator,
            "A live's orders, newest first, and the sums (with an API key: scope orders:read)",
            None,
            ("200", schema!(Orders)),
            &["400", "401", "403", "404"],
        )
        .query::<Page>(generator),
        op(
            "post",
            "/v1/lives/{live}/tokens",
            Who::Host,
            "Mint a viewer's or moderator's token; with an API key (scope tokens:write), a host's too",
            schema!(Mint),
            ("201", schema!(Token)),
            &["400", "401", "403"],
        ),
        op(
            "post",
            "/v1/lives/{live}/guests",
            Who::Anybody,
            "Take part in the demo live as a guest",
            schema!(Guest),
            ("201", schema!(Token)),
            &["400", "403", "404", "429"],
        ),
        op(
            "post",
            "/v1/payments/callback/{provider}",
            Who::Provider,
            "A payment was made, failed or refunded",
            Some((JSON, json!({ "type": "object" }))),
            ("204", None),
            &["400", "401", "404", "503"],
        ),
        op(
            "get",
            "/sandbox/pay/{payment}/order",
            Who::Anybody,
            "What the sandbox's payment page shows",
            None,
            ("200", schema!(SandboxOrder)),
            &["404"],
        ),
        op(
            "post",
            "/sandbox/pay/{payment}",
            Who::Anybody,
            "Pay in the sandbox, or let the payment fail",
            schema!(Pay),
            ("204", None),
            &["400", "404"],
        ),
    ]
}

/// AsyncAPI 3.0.
fn asyncapi() -> Value {
    let mut generator = generator();
    let message = |title: &str, schema: Value| json!({ "title": title, "payload": schema });
    let requests = [
        schema::<Request>(&mut generator),
        schema::<ChatAsk>(&mut generator),
        schema::<QuestionAsk>(&mut generator),
        schema::<ShowAsk>(&mut generator),
        schema::<CrowdAsk>(&mut generator),
        schema::<CouponAsk>(&mut generator),
    ];
    let id = || json!({ "type": "integer", "minimum": 0 });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    // What each has around it (`haul_wire::encode_request` and its like), and what it says.
    let around = |envelope: Value, inner: Value| json!({ "allOf": [envelope, inner] });
    let asked = object(&["id", "type"], json!({ "id": id(), "type": { "type": "string" } }));
    let request = message("request", around(asked, json!({ "anyOf": requests })));
    let result = schema::<Reply>(&mut generator);
    let answer = json!({ "type": { "const": "reply" }, "id": id(), "result": result });
    let reply = message("reply", object(&["type", "id", "result"], answer));
    let refused =
        json!({ "type": { "const": "error" }, "id": { "type": ["integer", "null"], "minimum": 0 } });
    let refused = around(object(&["type", "id"], refused), schema::<Failure>(&mut generator));
    let failure = message("error", refused);
    let told = json!({ "type": { "type": "string" }, "epoch": { "type": "string" }, "offset": id() });
    let told = around(object(&["type", "epoch"], told), schema::<RoomEvent>(&mut generator));
    let event = message("event", told);
    schema::<Snapshot>(&mut generator);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Haul channel",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "One websocket a viewer, subprotocol `{SUBPROTOCOL}`, JSON text messages. A request has a number \
                 `id` and a `type` and gets one message of `type` reply (its `result`) or error, with the same \
                 `id`. Events have a `type` and an `epoch`; the numbered ones have the `offset` to resume from."
            ),
        },
        "channels": {
            "live": {
                "address": "/channel/{live}",
                "parameters": { "live": { "description": "the live's id" } },
                "messages": { "request": request, "reply": reply, "error": failure, "event": event },
            },
        },
        "operations": {
            "ask": {
                "action": "receive",
                "channel": { "$ref": "#/channels/live" },
                "messages": [{ "$ref": "#/channels/live/messages/request" }],
            },
            "tell": {
                "action": "send",
                "channel": { "$ref": "#/channels/live" },
                "messages": [
                    { "$ref": "#/channels/live/messages/reply" },
                    { "$ref": "#/channels/live/messages/error" },
                    { "$ref": "#/channels/live/messages/event" },
                ],
            },
        },
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator()
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn parameters(operation: &Operation) -> Value {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    all.extend(operation.query.iter().cloned());
    if operation.method == "post"
        && operation.path.starts_with("/v1/")
        && !matches!(operation.who, Who::Provider)
    {
        all.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` in `document` must lead somewhere.
    fn dangling(document: &Value, part: &Value, found: &mut Vec<String>) {
        match part {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    if document.pointer(pointer).is_none() {
                        found.push(reference.clone());
                    }
                }
                map.values().for_each(|value| dangling(document, value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| dangling(document, value, found)),
            _ => {}
        }
    }

    /// Each method and path of a router, as its own description of itself has them.
    fn routes_of(router: &Router<App>) -> Vec<(String, String)> {
        let text = format!("{router:?}");
        let node = text.split_once("paths: {").unwrap().1;
        let node = node.split_once('}').map_or(node, |_| node);
        let mut found = Vec::new();
        for part in text.split("RouteId(").skip(1) {
            let Some((id, methods)) = part.split_once("): MethodRouter") else { continue };
            let wanted = format!("RouteId({id}): \"");
            let path = node.split_once(&wanted).unwrap().1.split_once('"').unwrap().0;
            for method in ["get", "delete", "patch", "post", "put"] {
                let is_there = methods.split_once(&format!(" {method}: ")).unwrap().1;
                if !is_there.starts_with("None") {
                    found.push((method.to_owned(), path.to_owned()));
                }
            }
        }
        found
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        // Pages and files are for people, and these two describe the rest.
        let undescribed = |path: &str| {
            ["/", "/docs", "/favicon.ico", "/v1/openapi.json", "/v1/asyncapi.json"].contains(&path)
                || ["/watch/", "/studio/", "/assets/", "/sdk/"].iter().any(|start| path.starts_with(start))
                || path == "/sandbox/pay/{payment}"
        };
        let mut routes = routes_of(&crate::routes());
        assert!(routes.len() > 60, "they were not read: {routes:?}");
        routes.extend(routes_of(&crate::payments::routes()));
        let mut generator = generator();
        let mut described = operations(&mut generator);
        described.extend(crate::shop::links::operations(&mut generator));
        described.extend(crate::v1::operations(&mut generator));
        let mut described: Vec<_> = described
            .iter()
            .map(|operation| (operation.method.to_owned(), operation.path.to_owned()))
            .collect();
        // Its layers need an app; it has so few routes that they can be compared by eye.
        described.retain(|(_, path)| !path.starts_with("/whip") && !path.starts_with("/whep"));
        let missing: Vec<_> =
            routes.iter().filter(|route| !described.contains(route) && !undescribed(&route.1)).collect();
        let invented: Vec<_> = described.iter().filter(|known| !routes.contains(known)).collect();
        assert_eq!((missing, invented), (vec![], vec![]));
        let all = described.len();
        described.sort();
        described.dedup();
        assert_eq!(described.len(), all, "each once");
    }

    #[test]
    fn what_all_of_a_kind_can_be_refused_for_is_said_of_each() {
        let document = openapi();
        let refused = |method: &str, path: &str, status: &str| {
            document["paths"][path][method]["responses"][status]["$ref"] == "#/components/responses/Problem"
        };
        for status in ["400", "401", "403", "409", "413", "415", "422"] {
            assert!(refused("post", "/v1/webhooks", status), "{status}");
        }
        assert!(refused("get", "/v1/orders/{order}", "404") && !refused("get", "/v1/orders", "404"));
        assert!(refused("get", "/v1/buyers", "401") && !refused("get", "/v1/node", "401"));
        let page = document["paths"]["/v1/buyers"]["get"]["parameters"].as_array().unwrap();
        assert_eq!(page.iter().map(|part| &part["name"]).collect::<Vec<_>>(), ["after", "limit"]);
    }

    #[test]
    fn the_descriptions_hold_together() {
        for document in [openapi(), asyncapi()] {
            let mut found = Vec::new();
            dangling(&document, &document, &mut found);
            assert_eq!(found, Vec::<String>::new());
        }
        assert!(openapi()["components"]["schemas"]["OrderView"].is_object());
        assert!(asyncapi()["components"]["schemas"]["Snapshot"].is_object());
        let messages = &asyncapi()["channels"]["live"]["messages"];
        assert_eq!(messages["reply"]["payload"]["required"], json!(["type", "id", "result"]));
        assert_eq!(messages["event"]["payload"]["allOf"][0]["required"], json!(["type", "epoch"]));
        // What is left out where it is empty is not promised.
        let promised = asyncapi()["components"]["schemas"]["HoldView"]["required"].to_string();
        assert!(promised.contains("\"quantity\"") && !promised.contains("\"lines\""), "{promised}");
    }
}
