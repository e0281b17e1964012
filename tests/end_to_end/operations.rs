//! What an operator meets: start, configuration, draining, certificates, garbage from the network.

use std::{net::UdpSocket, process::Stdio};

use serde_json::json;

use crate::{
    server::{Scratch, Server, command, eventually, free_ports},
    talk::{Channel, get, viewer_token},
};

/// Runs the server to its end and returns what it says.
fn refused(dir: &Scratch, args: &[&str], env: &[(&str, &str)]) -> String {
    let output =
        command(dir.path()).args(args).envs(env.iter().copied()).stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success(), "it should not have started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_configuration_is_refused_with_what_was_expected() {
    let dir = Scratch::new();
    let file = dir.path().join("haul.toml");
    for (text, words) in [
        ("[media]\nudp_prt = 1\n", ["udp_prt", "udp_port"]),
        ("[media]\nudp_port = \"x\"\n", ["media.udp_port", "port"]),
        ("[media]\nudp_port = 70000\n", ["media.udp_port", "65535"]),
        ("[auth]\nsecret = \"short\"\n", ["auth.secret", "32"]),
        ("demo = maybe\n", ["haul.toml", "demo"]),
        ("data_dir = \"\"\n", ["data_dir", "directory"]),
        ("[ice]\nservers = [\"turn:u:p@turn.example?transport=quic\"]\n", ["ice.servers", "turn:USER"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = refused(&dir, &["serve", "--config", file.to_str().unwrap()], &[]);
        assert!(words.iter().all(|word| said.contains(word)), "{text} -> {said}");
        assert!(said.contains("haul.toml"), "the file is named: {said}");
    }
    let said = refused(&dir, &[], &[("HAUL__MEDIA__SHARD", "1")]);
    assert!(said.contains("HAUL__MEDIA__SHARD"), "{said}");
    let said = refused(&dir, &[], &[("HAUL__HTTP__LISTEN", "everywhere")]);
    assert!(said.contains("HAUL__HTTP__LISTEN") && said.contains("0.0.0.0:8080"), "{said}");
    let said =
        refused(&dir, &[], &[("HAUL__MEDIA__PUBLIC_ADDRESSES", "::1"), ("HAUL__MEDIA__BIND", "0.0.0.0")]);
    assert!(said.contains("media.public_addresses") && said.contains("IPv6"), "{said}");
    // An address of nobody's (RFC 5737): it can't be bound to.
    let said = refused(&dir, &[], &[("HAUL__MEDIA__BIND", "203.0.113.7")]);
    assert!(said.contains("media.bind") && said.contains("203.0.113.7"), "{said}");
}

#[test]
fn a_redis_that_is_down_is_named_at_start() {
    let dir = Scratch::new();
    let (port, _) = free_ports(0);
    let url = format!("redis://:hunter2@127.0.0.1:{port}");
    let said = refused(&dir, &[], &[("HAUL__STORE__GATE_URL", &url)]);
    assert!(said.contains("Redis") && said.contains(&format!("127.0.0.1:{port}")), "{said}");
    assert!(!said.contains("hunter2"), "passwords are not for logs: {said}");
}

#[tokio::test]
async fn going_away_is_told_to_everybody() {
    let mut server = Server::start();
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let stopping = std::thread::spawn(move || server.stop());
    let word = ann.event("draining", |_| true).await;
    assert!(word["retry_after_ms"].as_u64().unwrap() >= 1_000);
    assert_eq!(ann.closed().await, Some(1001));
    assert!(stopping.join().unwrap().success());
}

#[tokio::test]
async fn the_secret_is_kept_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let secret = server.data.path().join("data/secret");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let token = server.host_token.clone();
    let (_, server) = server.stop_and_restart();
    let host = Channel::open(&server, "demo", &token).await;
    assert_eq!(host.hello["result"]["you"]["role"], "host", "tokens outlive a restart");
}

#[tokio::test]
async fn garbage_on_the_media_port_is_counted_and_ignored() {
    let server = Server::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stun_like =
        [0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0xFF, 0xFF];
    let dtls_like = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1];
    let rtp_like = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    for shard in 0..2 {
        for garbage in [&[][..], &[0], &[255; 1500], &stun_like, &dtls_like, &rtp_like] {
            socket.send_to(garbage, ("127.0.0.1", server.udp_port + shard)).unwrap();
        }
    }
    eventually("garbage is counted", async || {
        let metrics = get(&server, "/metrics").await.text();
        ["haul_datagrams_unrouted", "haul_datagrams_malformed"]
            .iter()
            .all(|name| metrics.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0")))
    })
    .await;
    assert_eq!(get(&server, "/readyz").await.status, 200);
}

#[tokio::test]
async fn https_on_the_same_listener() {
    let dir = Scratch::new();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let server = Server::start_with(&[
        ("HAUL__HTTP__TLS_CERT", cert.to_str().unwrap()),
        ("HAUL__HTTP__TLS_KEY", key.to_str().unwrap()),
    ]);
    let url = format!("https://localhost:{}/healthz", server.port);
    let fetch = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
        .arg(&cert)
        .args(["--resolve", &format!("localhost:{}:127.0.0.1", server.port), &url])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&fetch.stdout), "ok\n", "{}", String::from_utf8_lossy(&fetch.stderr));
}

#[tokio::test]
async fn two_servers_do_not_share_a_directory() {
    let server = Server::start();
    let (port, udp_port) = free_ports(2);
    let listen = format!("127.0.0.1:{port}");
    let udp = udp_port.to_string();
    let env = [("HAUL__HTTP__LISTEN", listen.as_str()), ("HAUL__MEDIA__UDP_PORT", udp.as_str())];
    let said = refused(&server.data, &[], &env);
    assert!(said.contains("in use by another process"), "{said}");
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    assert_eq!(host.ask("ping", json!({})).await["type"], "reply");
}
