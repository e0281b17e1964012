//! WHIP's and WHEP's manners: methods, conditions, fragments, and who may publish beside whom.

use crate::{
    rtc_client::{Peer, Publisher},
    server::{Server, command, eventually},
    talk::{Answer, call, viewer_token},
};

/// As OBS has it: no candidates, and it wants to be called for DTLS or not.
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=setup:actpass\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 \
    00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\na=msid:- sound\r\n";
const SAME: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
    a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n";
const OTHER: &str = "a=ice-ufrag:efgh\r\na=ice-pwd:9876543210987654321098\r\n";
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

async fn post(server: &Server, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("content-type", "application/sdp"), ("authorization", bearer.as_str())];
    call("POST", &server.url(path), &headers[..if token.is_empty() { 1 } else { 2 }], OFFER).await
}

fn host_token(server: &Server, sub: &str) -> String {
    host_token_for(server, "demo", sub)
}

fn host_token_for(server: &Server, live: &str, sub: &str) -> String {
    let args = ["token", "--live", live, "--role", "host", "--sub", sub];
    let output = command(server.data.path()).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn each_url_says_what_may_be_done_with_it() {
    let server = Server::start_with(&[
        ("HAUL__ICE__SERVERS", "stun:stun.example:3478,turn:us\"er:pass@turn.example:3478?transport=udp"),
        ("HAUL__HTTP__PUBLIC_URL", "https://live.example/media"),
    ]);
    let answer = post(&server, "/whip/demo", &server.host_token).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let location = answer.header("location").strip_prefix("https://live.example/media").unwrap().to_owned();
    assert!(location.starts_with("/whip/demo/s_"), "{location}");
    assert_eq!(
        answer.all("link"),
        [
            "<stun:stun.example:3478>; rel=\"ice-server\"",
            "<turn:turn.example:3478?transport=udp>; rel=\"ice-server\"; username=\"us\\\"er\"; \
             credential=\"pass\"; credential-type=\"password\"",
        ]
    );
    assert!(answer.header("access-control-expose-headers").to_lowercase().contains("link"));

    for path in ["/whip/demo", "/whep/demo"] {
        let options = call("OPTIONS", &server.url(path), &[], "").await;
        assert_eq!((options.status, options.header("accept-post")), (200, "application/sdp"));
        assert_eq!(options.all("link").len(), 1, "no secret to strangers");
        let preflight = [("origin", "https://shop.example"), ("access-control-request-method", "POST")];
        let options = call("OPTIONS", &server.url(path), &preflight, "").await;
        assert_eq!(options.header("accept-post"), "application/sdp");
        assert!(options.all("link").is_empty(), "none to preflights");
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE"] {
            let refused = call(method, &server.url(path), &[], "").await;
            assert_eq!(refused.status, 405, "{method} {path}");
            assert!(refused.header("allow").contains("POST"), "{method} {path}");
        }
    }
    let options = call("OPTIONS", &server.url(&location), &[], "").await;
    assert_eq!((options.status, options.header("accept-patch")), (200, FRAGMENT.1));
    for method in ["GET", "HEAD", "PUT", "POST"] {
        let refused = call(method, &server.url(&location), &[], "").await;
        assert_eq!(refused.status, 405, "{method}");
        assert!(refused.header("allow").contains("PATCH"), "{}", refused.header("allow"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_are_for_the_ice_session_they_name() {
    let server = Server::start();
    let host = Publisher::start(&server, 0).await;
    let (resource, tag) = (server.url(&host.peer.resource), host.peer.etag.clone());
    let bearer = format!("Bearer {}", server.host_token);
    let patch = async |tag: &str, content: (&str, &str), body: &str| {
        let headers = [content, ("authorization", bearer.as_str()), ("if-match", tag)];
        call("PATCH", &resource, &headers[..if tag.is_empty() { 2 } else { 3 }], body.to_owned()).await
    };
    let end = "a=end-of-candidates\r\n";
    assert_eq!(patch("", FRAGMENT, end).await.status, 428);
    assert_eq!(patch("\"other\"", FRAGMENT, end).await.status, 412);
    assert_eq!(patch(&format!("W/{tag}"), FRAGMENT, end).await.status, 412);
    assert_eq!(patch(&tag, ("content-type", "application/sdp"), end).await.status, 415);
    assert_eq!(patch(&tag, FRAGMENT, "v=0\r\n").await.status, 400);
    assert_eq!(patch(&tag, FRAGMENT, &end.repeat(2_000)).await.status, 413);
    let trickled = patch(&tag, FRAGMENT, end).await;
    assert_eq!((trickled.status, trickled.header("etag")), (204, ""));
    assert_eq!(patch(&format!("\"other\", {tag}"), FRAGMENT, end).await.status, 204);

    assert_eq!(patch("\"other\"", FRAGMENT, OTHER).await.status, 412);
    let restarted = patch("*", FRAGMENT, OTHER).await;
    assert_eq!((restarted.status, restarted.header("content-type")), (200, FRAGMENT.1));
    assert!(restarted.text().contains("a=ice-pwd:") && restarted.text().contains("a=candidate:"));
    let new = restarted.header("etag").to_owned();
    assert_ne!(new, tag);
    assert_eq!(patch(&tag, FRAGMENT, OTHER).await.status, 412);
    assert_eq!(patch(&new, FRAGMENT, OTHER).await.status, 204, "candidates of the new one");
    // The client has not taken part in it: the old ICE session goes on.
    assert_eq!(host.peer.delete(&server).await, 200);
    assert_eq!(patch(&new, FRAGMENT, end).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_it_is_connected_a_session_takes_candidates_and_no_restart() {
    let server = Server::start();
    let answer = post(&server, "/whip/demo", &server.host_token).await;
    let bearer = format!("Bearer {}", server.host_token);
    let headers = [FRAGMENT, ("authorization", bearer.as_str()), ("if-match", answer.header("etag"))];
    let resource = server.url(answer.header("location"));
    assert_eq!(call("PATCH", &resource, &headers, SAME).await.status, 204);
    assert_eq!(call("PATCH", &resource, &headers, OTHER).await.status, 409);
    assert_eq!(call("PATCH", &resource, &headers, SAME).await.status, 204, "it goes on as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_without_headers_brings_its_token_in_the_query() {
    let server = Server::start();
    let _host = Publisher::start(&server, 0).await;
    let token = viewer_token(&server, "ann").await;
    let offer = OFFER.replace("sendonly", "recvonly");
    let sdp = [("content-type", "application/sdp")];
    let answer = call("POST", &server.url(&format!("/whep/demo?jwt={token}")), &sdp, offer).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let resource = server.url(answer.header("location"));
    assert_eq!(call("PATCH", &resource, &[FRAGMENT], "a=end-of-candidates\r\n").await.status, 204);
    let bare = resource.split('?').next().unwrap();
    assert_eq!(call("DELETE", bare, &[], "").await.status, 401);
    assert_eq!(call("DELETE", &resource, &[], "").await.status, 200);
    assert!(!server.log().contains(&token), "no token in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_is_treated_as_the_operator_has_said() {
    for (policy, same, other) in [("same-host", 201, 409), ("refuse", 409, 409), ("any-host", 201, 201)] {
        let server = Server::start_with(&[("HAUL__MEDIA__TAKEOVER", policy)]);
        let mia = host_token(&server, "mia");
        let on_air = Publisher::start_as(&server, &mia, 0).await;
        assert_eq!(post(&server, "/whip/demo", &host_token(&server, "eve")).await.status, other, "{policy}");
        assert_eq!(post(&server, "/whip/demo", &mia).await.status, same, "{policy}");
        assert_eq!(on_air.peer.delete(&server).await, 200, "who is on air stays until another is connected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_never_connect_take_no_place_from_others() {
    let server = Server::start_with(&[("HAUL__MEDIA__MAX_PUBLISHERS", "2")]);
    let eve = host_token(&server, "eve");
    let first = post(&server, "/whip/demo", &eve).await;
    assert_eq!(first.status, 201);
    let mia = post(&server, "/whip/demo", &host_token(&server, "mia")).await;
    assert_eq!((mia.status, mia.header("retry-after")), (409, "3"), "eve may be about to connect");
    for _ in 0..10 {
        assert_eq!(
            post(&server, "/whip/demo", &eve).await.status,
            201,
            "her next offer is in the last one's place"
        );
    }
    let (url, bearer) = (server.url(first.header("location")), format!("Bearer {eve}"));
    assert_eq!(call("DELETE", &url, &[("authorization", &bearer)], "").await.status, 404);
    let other = host_token_for(&server, "other", "joe");
    assert_eq!(
        post(&server, "/whip/other", &other).await.status,
        201,
        "there is room for another live's host"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewers_picture_ends_with_their_token_and_a_hosts_does_not() {
    let server = Server::start();
    let mint = |role: &str| {
        let args = ["token", "--live", "demo", "--role", role, "--sub", "mia", "--ttl", "3s"];
        let output = command(server.data.path()).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let host = Publisher::start_as(&server, &mint("host"), 0).await;
    let token = mint("viewer");
    let viewer = Peer::watch(&server, &token).await;
    let (url, bearer) = (server.url(&viewer.resource), format!("Bearer {token}"));
    let headers = [FRAGMENT, ("authorization", bearer.as_str())];
    let asked = async || call("PATCH", &url, &headers, "a=end-of-candidates\r\n").await.status;
    eventually("pictures", async || viewer.pictures() > 0).await;
    assert_eq!(asked().await, 204);
    eventually("the viewer's session has ended", async || asked().await == 404).await;
    assert!(server.log().contains("token expired"), "and the log says why");
    let stranger = Peer::watch(&server, "").await;
    eventually("the host is still on air", async || stranger.pictures() > 10).await;
    assert_eq!(host.peer.delete(&server).await, 200, "and may end it with the same token");
}
