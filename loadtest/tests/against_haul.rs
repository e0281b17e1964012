//! Whole runs against a server of the test's own: do the report's numbers agree with what the server itself has counted?
//!
//! Levels about times are not judged here: the machine that runs tests may be slow and busy. Those about correctness are.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Server, run};

const FLASH: &str = "
about = 'A short flash sale'
seed = 3
duration_s = 20
levels = [
    'channel.failed == 0', 'sale.offered == 330',
    'sale.abandoned >= 1', 'sale.not_returned == 0', 'sale.held_after_return >= 1', 'sale.unanswered == 0', 'sale.errors == 0', 'sale.double_holds == 0',
    'sale.oversold == 0', 'sale.unconfirmed == 0', 'sale.mismatches == 0', 'stock_event.p50_ms <= 5000',
]
[[buyers]]
count = 300
join_over_s = 4
tap_after_ms = [0, 1500]
decide_ms = [100, 2000]
pay = 0.7
abandon = 0.2
repeat = 0.2
# Those who come when what was abandoned is back.
[[buyers]]
count = 30
join_over_s = 4
tap_after_ms = [7500, 8500]
decide_ms = [100, 500]
[[chatters]]
count = 10
[sale]
at_s = 7
stock = 20
hold_s = 4
";

#[test]
fn smoke_agrees_with_the_servers_own_counters() {
    let server = Server::start();
    let (pid, key) = (server.pid().to_string(), server.says(&["key", "--name", "loadtest"]));
    let run = run("smoke", &server.base, &server.token, &["--server-pid", &pid, "--api-key", &key]);
    let slow = |level: &String| level.contains("_ms ") || level.contains("frozen");
    let wrong: Vec<_> = run.broken().into_iter().filter(|level| !slow(level)).collect();
    assert_eq!(wrong, [] as [String; 0], "{}", run.text);
    assert!(run.page.contains("smoke") && run.page.contains("<svg"));

    // Every packet the server has sent was received, lost, or under way to somebody who was leaving.
    let sent = server.counter("haul_egress_packets_total", "");
    let sessions = run.measure("join.attempts");
    // Each datagram that was sent has arrived, or is one that a socket had no room for: on this machine there is no other
    // way to be lost, and who leaves goes on counting until the server has answered that the session is over.
    let (arrived, dropped) = (run.measure("media.arrived"), run.measure("harness.drops"));
    assert_eq!(
        sent,
        arrived + dropped,
        "the server sent {sent}, {arrived} arrived, {dropped} dropped\n{}",
        run.text
    );
    // What is in no stream's count came before the keys were there or after its viewer had left, of which there is little;
    // and each number that never came is a datagram that was dropped.
    let counted = run.measure("media.packets") + run.measure("media.duplicates");
    assert!(counted <= arrived && run.measure("media.lost") <= dropped, "{}", run.text);
    assert!(arrived - counted <= 40.0 * sessions, "{arrived} arrived, {counted} counted\n{}", run.text);
    assert!(run.measure("media.packets") > 20_000.0 && run.measure("media.frames") > 5_000.0, "{}", run.text);
    assert_eq!(server.counter("haul_sessions_connected_total", ""), sessions + 1.0, "and the publisher's");
    assert!(run.measure("media.decrypted") > 3_000.0 && run.measure("delay.p50_ms") > 0.0);
    assert!(run.measure("server.kb_per_person") > 0.0 && run.report["not_judged"] == serde_json::json!([]));
    assert_eq!(run.report["who"]["viewers"], 25);
    assert!(run.measure("server.rss_mb") > 5.0 && run.measure("server.cpu_pct") > 0.0);
    assert!(run.measure("server.shard_cpu_pct") > 0.0, "and the media thread alone");

    // Every order is in both books.
    assert_eq!(
        server.counter("haul_orders_total", "state=\"sold\""),
        run.measure("sale.confirmed"),
        "{}",
        run.text
    );
    assert!(run.measure("sale.confirmed") >= 5.0 && run.measure("pin.p50_ms") >= 0.0);
    // And in the third: what the webhook was told, each message signed.
    assert_eq!(run.measure("sale.webhooks"), run.measure("sale.confirmed"), "{}", run.text);
    assert_eq!(run.report["audit"]["not_compared"], serde_json::json!([]));
    assert_eq!(run.measure("sale.webhooks_forged"), 0.0);
    assert!(run.measure("webhook.p50_ms") > 0.0);
    assert!(!run.page.contains(&key), "the report keeps the key to itself");
    let sent = run.measure("likes.sent");
    assert!(sent > 50.0 && run.measure("likes.told") == sent, "every like is told: {}", run.text);
    assert!(
        run.measure("chat.delivered") >= 10.0 * run.measure("chat.sent"),
        "each line comes to all readers"
    );
}

#[test]
fn a_short_flash_sale_sells_what_there_is_once() {
    let server = Server::start();
    let before = server.sales_that_go_on();
    let run = run(FLASH, &server.base, &server.token, &[]);
    assert_eq!(run.broken(), [] as [String; 0], "{}", run.text);
    assert!([0, 3].contains(&run.code), "{}", run.text);
    let audit = &run.report["audit"];
    assert_eq!(audit["differences"], serde_json::json!([]));
    assert_eq!(audit["confirmed_units"], audit["ledger_units"]);
    let sold = server.counter("haul_orders_total", "state=\"sold\"");
    assert_eq!(sold, run.measure("sale.confirmed"));
    let held = run.measure("sale.held");
    assert!(held >= 20.0 && (10.0..=20.0).contains(&sold), "{held} held, {sold} sold");
    assert_eq!(run.measure("sale.held") + run.measure("sale.refused"), 330.0, "everybody was told");
    assert_eq!(run.measure("sale.abandoned"), run.measure("sale.returned"), "{}", run.text);
    assert_eq!(audit["holds_compared"], run.measure("sale.held"), "one by one");
    let webhooks = "webhooks: they need --api-key, or a token for all lives";
    assert_eq!(
        audit["not_compared"],
        serde_json::json!([webhooks]),
        "and all orders are, by the host's token"
    );
    assert!(run.text.contains(webhooks) && run.page.contains(webhooks), "{}", run.text);
    assert_eq!(server.sales_that_go_on(), before, "it is closed");
}

const LIVES: &str = "
about = 'Three lives at once'
duration_s = 14
lives = 3
levels = [
    'join.failed == 0', 'media.loss_pct == 0', 'channel.failed == 0', 'sale.oversold == 0', 'sale.mismatches == 0',
    'sale.offered == 36', 'sale.confirmed == 12',
]
[publisher]
clip = 'vp8'
[[viewers]]
count = 3
[[buyers]]
count = 12
tap_after_ms = [0, 300]
[[chatters]]
count = 2
say_every_s = 1
[sale]
at_s = 4
stock = 4
";

#[test]
fn several_lives_are_loaded_at_once_by_one_token_for_all() {
    let server = Server::start();
    let token = server.says(&["token", "--live", "*", "--role", "host", "--sub", "boss"]);
    let run = run(LIVES, &server.base, &token, &["--live", "load-*"]);
    assert_eq!(run.broken(), [] as [String; 0], "{}", run.text);
    let audit = &run.report["audit"];
    assert_eq!((&audit["stock"], &audit["ledger_units"]), (&12.into(), &12.into()));
    // That token is the merchant's own, so webhooks are compared without another key.
    assert_eq!(audit["webhook_orders"], 12);
    assert_eq!(server.counter("haul_orders_total", "state=\"sold\""), 12.0);
    assert_eq!(run.measure("join.most_at_once"), 9.0);
    for live in ["load-1", "load-3"] {
        let url = format!("{}/v1/lives/{live}", server.base);
        let known = ureq::get(&url).header("authorization", format!("Bearer {token}")).call().unwrap();
        assert_eq!(known.status(), 200);
    }
}

#[test]
fn layers_and_media_over_quic_are_measured() {
    let server = Server::start();
    let run = run("media", &server.base, &server.token, &[]);
    let slow = |level: &String| ["_ms ", "frozen", "layer_f_pct"].iter().any(|about| level.contains(about));
    let wrong: Vec<_> = run.broken().into_iter().filter(|level| !slow(level)).collect();
    assert_eq!(wrong, [] as [String; 0], "{}", run.text);
    // Whatever layer the server has chosen, a viewer gets about what is published of it, with headers and sound.
    let near = |layer: &str| {
        let published = run.measure(&format!("publisher.layer_{layer}_kbps"));
        let received = run.report["measures"][format!("media.layer_{layer}_kbps")].as_f64();
        assert!(
            received.is_none_or(|received| (published * 0.6..published * 1.6 + 60.0).contains(&received)),
            "{layer}: {published} published, {received:?} received\n{}",
            run.text
        );
    };
    ["f", "h", "q"].into_iter().for_each(near);
    let shares =
        ["f", "h", "q"].map(|layer| run.report["measures"][format!("media.layer_{layer}_pct")].as_f64());
    let sum: f64 = shares.iter().flatten().sum();
    assert!((sum - 100.0).abs() < 0.1, "every second is of some layer: {shares:?}");
    // MoQ viewers saw whole pictures, and the server knows of them.
    assert!(run.measure("moq.attempts") >= 13.0 && run.measure("moq.frames") > 5_000.0, "{}", run.text);
    assert!(run.measure("moq.delay_p50_ms") > 0.0);
    assert_eq!(server.counter("haul_moq_viewers", ""), 0.0, "and all have left");
}

const DROPS: &str = "
about = 'Networks fail while people watch, talk and buy'
duration_s = 25
levels = [
    'drop.viewers_lost == 0', 'drop.channels_lost == 0', 'channel.missed == 0', 'channel.closed == 0', 'join.failed == 0',
    'moq.failed == 0', 'media.ended == 0', 'sale.unanswered == 0', 'sale.errors == 0', 'sale.double_holds == 0',
    'sale.mismatches == 0', 'drop.steady_p50_ms <= 10000', 'drop.channel_p50_ms <= 10000',
]
[publisher]
clip = 'vp8'
[[viewers]]
count = 6
[[viewers]]
count = 2
transport = 'moq'
[[chatters]]
count = 12
say_every_s = [1, 3]
[host]
pin_every_s = 1
[[buyers]]
count = 20
tap_after_ms = [0, 4000]
decide_ms = [0, 2000]
repeat = 0.3
[sale]
at_s = 4
stock = 12
[[faults]]
name = 'half of all networks fail'
at_s = 5
for_s = [2, 4]
network_of_viewers = 0.5
network_of_chatters = 0.5
network_of_buyers = 0.5
[[faults]]
name = 'and other ones take the place of half of them'
at_s = 14
for_s = 1
network_of_viewers = 0.5
network_of_chatters = 0.5
network_of_buyers = 0.5
roam = true
";

#[test]
fn who_was_cut_off_comes_back_and_misses_nothing() {
    let server = Server::start();
    let run = run(DROPS, &server.base, &server.token, &[]);
    assert_eq!(run.broken(), [] as [String; 0], "{}", run.text);
    let (viewers, channels) = (run.measure("drop.viewers"), run.measure("drop.channels"));
    assert!((6.0..=10.0).contains(&viewers) && (30.0..=34.0).contains(&channels), "{}", run.text);
    assert_eq!(run.measure("drop.viewers_same") + run.measure("drop.viewers_anew"), viewers, "{}", run.text);
    assert_eq!(run.measure("drop.channels_same") + run.measure("drop.channels_anew"), channels);
    // Where the same network returns, connections go on; over another one they can't.
    assert!(
        run.measure("drop.channels_same") >= 14.0 && run.measure("drop.channels_anew") >= 14.0,
        "{}",
        run.text
    );
    assert!(
        run.measure("channel.resumed") >= 14.0 && run.measure("channel.not_resumed") == 0.0,
        "{}",
        run.text
    );
    assert!(run.measure("drop.discarded") > 100.0 && run.measure("drop.picture_p50_ms") > 0.0);
    assert!(run.page.contains("Who came back") && run.text.contains("networks of viewers"));
}

const BY_QUIC: &str = "
about = 'A host by Media over QUIC, whose network fails once'
duration_s = 24
levels = [
    'join.failed == 0', 'moq.failed == 0', 'media.loss_pct == 0', 'media.decrypt_errors == 0', 'publisher.returns == 1',
    'media.frames >= 300', 'moq.frames >= 300', 'delay.p50_ms <= 3000', 'moq.delay_p50_ms <= 3000',
]
[publisher]
clip = 'h264'
transport = 'moq'
simulcast = true
away = [{ at_s = 9, for_s = 1 }]
[[viewers]]
count = 2
decrypt = 1
[[viewers]]
count = 2
transport = 'moq'
";

#[test]
fn a_host_by_media_over_quic_is_seen_by_either_protocol() {
    let server = Server::start();
    let run = run(BY_QUIC, &server.base, &server.token, &[]);
    assert_eq!(run.broken(), [] as [String; 0], "{}", run.text);
    // The stamps have come through packets and groups alike, and say of which layer each picture is.
    assert!(
        run.measure("media.layer_f_kbps") > 500.0 && run.measure("publisher.layer_q_kbps") > 40.0,
        "{}",
        run.text
    );
}

const RESTART: &str = "
about = 'The server is killed in the middle of a sale'
duration_s = 40
levels = ['sale.oversold == 0', 'sale.double_holds == 0', 'sale.unconfirmed == 0', 'sale.mismatches == 0', 'publisher.returns >= 1']
[publisher]
clip = 'vp8'
[[viewers]]
count = 4
[[buyers]]
count = 30
tap_after_ms = [0, 4000]
decide_ms = [0, 2000]
repeat = 0.3
retries = 20
[sale]
at_s = 5
stock = 10
[[faults]]
name = 'the server is killed'
at_s = 6.5
for_s = 1
kill = 'server'
";

#[test]
fn a_server_that_is_killed_in_a_sale_is_found_again() {
    let server = Server::start();
    let (pid, start) = (server.pid().to_string(), server.start_command());
    let key = server.says(&["key", "--name", "loadtest"]);
    let run = run(
        RESTART,
        &server.base,
        &server.token,
        &["--allow-commands", "--server-pid", &pid, "--server-start", &start, "--api-key", &key],
    );
    let notes = run.report["notes"].as_array().unwrap();
    let said =
        |what: &str| notes.iter().filter_map(|note| note["text"].as_str()).find(|text| text.contains(what));
    let again = said("started again as process").map(|text| text.rsplit(' ').next().unwrap().to_owned());
    let again = again.unwrap_or_else(|| panic!("{}", run.text));
    assert!(again.parse::<u32>().is_ok_and(|again| again != server.pid()));
    let ended = std::process::Command::new("sh").args(["-c", "kill -KILL \"$0\"", &again]).status().unwrap();
    assert!(ended.success(), "it outlives the harness");
    assert_eq!(run.broken(), [] as [String; 0], "{}", run.text);
    assert_eq!(run.report["audit"]["webhook_orders"], run.report["audit"]["confirmed_orders"]);
    assert!(run.measure("media.ended") >= 4.0 && run.measure("join.attempts") >= 8.0, "{}", run.text);
}

#[test]
fn a_run_that_is_ended_leaves_neither_a_sale_nor_a_webhook() {
    let server = Server::start();
    let key = server.says(&["key", "--name", "loadtest"]);
    let before = server.sales_that_go_on();
    for signal in ["TERM", "INT"] {
        let mut run = support::begin(FLASH, &server.base, &server.token, &["--api-key", &key]);
        while server.webhooks(&key) == 0 || server.sales_that_go_on() == before {
            assert!(run.is_running(), "{}", run.text());
        }
        run.signal(signal);
        let text = run.end();
        assert!(text.contains(&format!("ended by SIG{signal}")), "{text}");
        assert_eq!(server.webhooks(&key), 0, "{text}");
        assert_eq!(server.sales_that_go_on(), before, "{text}");
    }
}

#[test]
fn a_run_that_could_not_begin_leaves_no_webhook() {
    let server = Server::start();
    let key = server.says(&["key", "--name", "loadtest"]);
    // The key is good, and the token is not.
    let run = support::begin(FLASH, &server.base, "nonsense", &["--api-key", &key, "--live", "demo"]);
    let text = run.end();
    assert!(text.contains("haul-loadtest: "), "{text}");
    assert_eq!(server.webhooks(&key), 0, "{text}");
}

#[test]
fn what_can_not_be_run_says_why() {
    let refuse = |args: &[&str], expected: &str| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_haul-loadtest")).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    };
    let smoke = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/loadtest/smoke.toml");
    let herd = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/loadtest/herd.toml");
    let media = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/loadtest/media.toml");
    let chaos = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/loadtest/chaos.toml");
    refuse(&["run", "nowhere.toml", "--whep", "http://127.0.0.1:1"], "can't read nowhere.toml");
    refuse(&["run", smoke, "--target", "http://127.0.0.1:1"], "give the host's token");
    refuse(&["run", smoke, "--whep", "http://127.0.0.1:1/w"], "needs a Haul server");
    refuse(&["run", herd, "--whep", "http://127.0.0.1:1/w"], "give --whip too");
    let foreign = ["--whep", "http://127.0.0.1:1/w", "--whip", "http://127.0.0.1:1/p"];
    refuse(&[&["run", media][..], &foreign].concat(), "give --moq");
    refuse(
        &["run", herd, "--whep", "http://127.0.0.1:1/w", "--whip", "http://127.0.0.1:1/p"],
        "can't connect",
    );
    let token = "e30.eyJsaXZlIjoiZGVtbyJ9.x";
    let chaos = ["run", chaos, "--target", "http://127.0.0.1:1", "--token", token];
    refuse(&chaos, "--allow-commands");
    refuse(&[&chaos[..], &["--allow-commands"]].concat(), "--redis-pid");
    refuse(&["compare", smoke, smoke], "is no report");
    refuse(&["compare", smoke], "several on each side of a --");
    // What would have been learnt after the run is found before it.
    let target = ["run", smoke, "--target", "http://127.0.0.1:1", "--token", token];
    let with = |more: &[&'static str]| [&target[..], more].concat();
    refuse(&with(&["--report", "/proc/nowhere"]), "give another directory");
    for number in ["nan", "inf", "-1", "0", "1e300"] {
        refuse(&with(&["--duration", number]), "and a week at most");
    }
    refuse(&with(&["--duration", "5"]), "sale.at_s: 10 is more than 5");
    refuse(&with(&["--count", "viewers=4000000000"]), "count: 4000000000 is more than 100000");
    refuse(&with(&["--threads", "0"]), "from 1 to 256");
    refuse(&["calibrate", "--only", "viewers"], "--only viewers needs a server");
}

const SHORT: &str = "
about = 'The place of the report is taken while the run goes on'
duration_s = 4
levels = ['join.attempts >= 1']
[publisher]
clip = 'vp8'
[[viewers]]
count = 1
[[faults]]
name = 'a file stands where the directory was'
at_s = 1
run = 'rm -r \"$PLACE\" && touch \"$PLACE\"'
";

#[test]
fn a_report_that_can_not_be_written_at_the_end_is_kept_elsewhere_and_told() {
    let (server, dir) = (Server::start(), support::Scratch::new());
    let (scenario, place) = (dir.path().join("short.toml"), dir.path().join("place"));
    std::fs::write(&scenario, SHORT).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_haul-loadtest"))
        .arg("run")
        .arg(&scenario)
        .args(["--target", &server.base, "--token", &server.token, "--allow-commands", "--report"])
        .arg(&place)
        .env("PLACE", &place)
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("join.attempts >= 1"), "the summary is printed all the same: {said}{complained}");
    assert!([2, 3].contains(&output.status.code().unwrap()), "{said}{complained}");
    let kept = complained.split("the report is in ").nth(1).and_then(|rest| rest.split(" instead").next());
    let kept = std::path::PathBuf::from(kept.unwrap_or_else(|| panic!("{complained}")));
    assert!(kept.starts_with(dir.path()) && kept.join("report.html").exists(), "{complained}");
}
