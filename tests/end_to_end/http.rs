//! WHIP's and WHEP's manners, REST, tokens and pages.

use serde_json::{Value, json};

use crate::{
    server::{Server, command},
    talk::{Answer, call, get, send, viewer_token},
};

const SDP: (&str, &str) = ("content-type", "application/sdp");

async fn post(server: &Server, path: &str, token: &str, body: impl Into<Vec<u8>>) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [SDP, ("authorization", bearer.as_str())];
    let headers = if token.is_empty() { &headers[..1] } else { &headers[..] };
    call("POST", &server.url(path), headers, body).await
}

fn mint(server: &Server, args: &[&str]) -> String {
    let output = command(server.data.path()).arg("token").args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "only the token is printed");
    text.trim().to_owned()
}

#[tokio::test]
async fn an_offer_is_refused_for_what_is_wrong_with_it() {
    let server = Server::start();
    let host = server.host_token.clone();
    let viewer = viewer_token(&server, "ann").await;
    let other_live = mint(&server, &["--live", "other", "--role", "host", "--sub", "h"]);
    for (token, expected) in
        [("", 401), ("nonsense", 401), (viewer.as_str(), 403), (other_live.as_str(), 403)]
    {
        assert_eq!(post(&server, "/whip/demo", token, "v=0").await.status, expected, "{token}");
    }
    let bearer = format!("Bearer {host}");
    let json_type = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    assert_eq!(call("POST", &server.url("/whip/demo"), &json_type, "{}").await.status, 415);
    for garbage in ["", "v=0", "hello", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "\0\0\0"] {
        let refused = post(&server, "/whip/demo", &host, garbage).await;
        assert!([400, 406].contains(&refused.status), "{garbage:?}: {}", refused.text());
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    assert_eq!(post(&server, "/whip/demo", &host, vec![0xFF, 0xFE]).await.status, 400);
    assert_eq!(post(&server, "/whip/demo", &host, "v=0\r\n".repeat(20_000)).await.status, 413);
    assert_eq!(post(&server, "/whip/a%20b", &host, "v=0").await.status, 400);

    let early = post(&server, "/whep/demo", "", "v=0").await;
    assert_eq!((early.status, early.header("retry-after")), (409, "2"), "{}", early.text());
    let unknown = mint(&server, &["--live", "soon", "--role", "viewer", "--sub", "v"]);
    assert_eq!(post(&server, "/whep/soon", &unknown, "v=0").await.status, 409);
    assert_eq!(post(&server, "/whep/soon", "", "v=0").await.status, 401);

    let preflight = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let allowed = call("OPTIONS", &server.url("/whip/demo"), &preflight, "").await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), "*");
    let gone = call("DELETE", &server.url("/whip/demo/s_none"), &[("authorization", &bearer)], "").await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn products_are_kept_and_checked() {
    let server = Server::start();
    let path = "/v1/lives/demo/products/mug";
    let mug = json!({ "title": " Mug ", "price_minor": 1200, "currency": "EUR" });
    assert_eq!(send(&server, "PUT", path, "", mug.clone()).await.status, 401);
    let viewer = viewer_token(&server, "ann").await;
    assert_eq!(send(&server, "PUT", path, &viewer, mug.clone()).await.status, 403);
    let put = send(&server, "PUT", path, &server.host_token, mug.clone()).await;
    assert_eq!((put.status, &put.json()["title"]), (200, &json!("Mug")));
    for (field, bad) in [
        ("title", json!("")),
        ("title", json!("x".repeat(200))),
        ("price_minor", json!(0)),
        ("price_minor", json!(-5)),
        ("price_minor", json!(1.5)),
        ("currency", json!("euro")),
        ("image_url", json!("javascript:alert(1)")),
    ] {
        let mut body = mug.clone();
        body[field] = bad.clone();
        let refused = send(&server, "PUT", path, &server.host_token, body).await;
        assert!([400, 422].contains(&refused.status), "{field} {bad}: {}", refused.status);
        assert!(refused.json()["detail"].as_str().unwrap().contains(field), "{}", refused.text());
    }
    let bag = get(&server, "/v1/lives/demo/products").await.json();
    assert_eq!(bag["products"].as_array().unwrap().len(), 4);
    assert_eq!(send(&server, "DELETE", path, &server.host_token, Value::Null).await.status, 204);
    assert_eq!(get(&server, "/v1/lives/demo/products").await.json()["products"].as_array().unwrap().len(), 3);
    assert_eq!(
        call("PUT", &server.url(path), &[("content-type", "application/json")], "{").await.status,
        400
    );
}

#[tokio::test]
async fn tokens_are_minted_within_ones_own_rights() {
    let server = Server::start();
    let path = "/v1/lives/demo/tokens";
    let ask = |role: &str| json!({ "role": role, "name": "Ann", "ttl_seconds": 60 });
    assert_eq!(send(&server, "POST", path, &server.host_token, ask("moderator")).await.status, 201);
    assert_eq!(send(&server, "POST", path, &server.host_token, ask("host")).await.status, 400);
    let viewer = viewer_token(&server, "ann").await;
    assert_eq!(send(&server, "POST", path, &viewer, ask("viewer")).await.status, 403);
    assert_eq!(send(&server, "POST", path, "", ask("viewer")).await.status, 401);
    let too_long = json!({ "role": "viewer", "ttl_seconds": 10_000_000_000_u64 });
    assert_eq!(send(&server, "POST", path, &server.host_token, too_long).await.status, 400);

    let guest = send(&server, "POST", "/v1/lives/demo/guests", "", json!({ "name": "Zoë" })).await;
    assert_eq!(guest.status, 201);
    let elsewhere = send(&server, "POST", "/v1/lives/other/guests", "", json!({ "name": "Zoë" })).await;
    assert_eq!(elsewhere.status, 404);
    let short = mint(&server, &["--live", "demo", "--role", "host", "--sub", "h", "--ttl", "1s"]);
    let orders = "/v1/lives/demo/orders";
    assert_eq!(send(&server, "GET", orders, &short, Value::Null).await.status, 200);
    crate::server::eventually("a token ends", async || {
        send(&server, "GET", orders, &short, Value::Null).await.status == 401
    })
    .await;
    let pattern = mint(&server, &["--live", "d*", "--role", "moderator", "--sub", "m"]);
    assert_eq!(send(&server, "GET", orders, &pattern, Value::Null).await.status, 200);
}

#[tokio::test]
async fn pages_are_served_safely() {
    let server = Server::start();
    for page in ["/watch/demo", "/studio/demo", "/docs", "/sandbox/pay/pay_1"] {
        let page = get(&server, page).await;
        assert_eq!(page.status, 200);
        assert!(page.header("content-security-policy").contains("default-src 'self'"));
        assert!(page.header("content-security-policy").contains("frame-ancestors 'self'"));
        assert_eq!(page.header("referrer-policy"), "no-referrer");
    }
    let module = get(&server, "/sdk/haul.js").await;
    assert!(module.header("content-type").starts_with("text/javascript"));
    let fresh = [("if-none-match", module.header("etag"))];
    assert_eq!(call("GET", &server.url("/sdk/haul.js"), &fresh, "").await.status, 304);
    assert_eq!(get(&server, "/assets/../secret").await.status, 404);
    let home = get(&server, "/").await;
    assert_eq!((home.status, home.header("location")), (307, "/watch/demo"));
    assert_eq!(get(&server, "/v1/openapi.json").await.json()["openapi"], "3.1.0");
    assert_eq!(get(&server, "/v1/asyncapi.json").await.json()["asyncapi"], "3.0.0");
    assert_eq!(get(&server, "/nothing").await.status, 404);
}

#[tokio::test]
async fn other_sites_need_to_be_allowed() {
    let server = Server::start_with(&[("HAUL__HTTP__ALLOWED_ORIGINS", "https://shop.example")]);
    let asked = async |origin: &str| {
        let answer = call("GET", &server.url("/v1/lives/demo"), &[("origin", origin)], "").await;
        answer.header("access-control-allow-origin").to_owned()
    };
    assert_eq!(asked("https://shop.example").await, "https://shop.example");
    assert_eq!(asked("https://evil.example").await, "");
    let upgrade = [
        ("origin", "https://evil.example"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "haul.v1"),
    ];
    assert_eq!(call("GET", &server.url("/channel/demo"), &upgrade, "").await.status, 403);
}
