//! Whole runs against a server of the test's own: do the report's numbers agree with what the server itself has counted?
//!
//! Levels about times are not judged here: the machine that runs tests may be slow and busy. Those about correctness are.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Server, run};

const FLASH: &str = "
about = 'A short flash sale'
seed = 3
duration_s = 16
levels = [
    'channel.failed == 0', 'sale.offered == 300', 'sale.unanswered == 0', 'sale.errors == 0', 'sale.double_holds == 0',
    'sale.oversold == 0', 'sale.unconfirmed == 0', 'sale.mismatches == 0', 'stock_event.p50_ms <= 5000',
]
[[buyers]]
count = 300
join_over_s = 4
tap_after_ms = [0, 1500]
decide_ms = [100, 2000]
pay = 0.8
repeat = 0.2
[[chatters]]
count = 10
[sale]
at_s = 7
stock = 20
";

#[test]
fn smoke_agrees_with_the_servers_own_counters() {
    let server = Server::start();
    let pid = server.pid().to_string();
    let run = run("smoke", &server.base, &server.token, &["--server-pid", &pid]);
    let slow: Vec<_> = run.broken().into_iter().filter(|level| !level.contains("_ms ")).collect();
    assert_eq!(slow, [] as [String; 0], "{}", run.text);
    assert!(run.page.contains("smoke") && run.page.contains("<svg"));

    // Every packet the server has sent was received, lost, or under way to somebody who was leaving.
    let sent = server.counter("haul_egress_packets_total", "");
    let counted = run.measure("media.packets") + run.measure("media.duplicates") + run.measure("media.lost");
    let sessions = run.measure("join.attempts");
    assert!(sent >= counted, "the server sent {sent} and {counted} were counted\n{}", run.text);
    assert!(
        sent - counted <= 40.0 * sessions,
        "sent {sent}, counted {counted}, {sessions} sessions\n{}",
        run.text
    );
    assert!(run.measure("media.packets") > 20_000.0 && run.measure("media.frames") > 5_000.0, "{}", run.text);
    assert_eq!(server.counter("haul_sessions_connected_total", ""), sessions + 1.0, "and the publisher's");
    assert!(run.measure("media.decrypted") > 3_000.0 && run.measure("delay.p50_ms") > 0.0);
    assert!(run.measure("server.rss_mb") > 5.0 && run.measure("server.cpu_pct") > 0.0);

    // Every order is in both books.
    assert_eq!(
        server.counter("haul_orders_total", "state=\"sold\""),
        run.measure("sale.confirmed"),
        "{}",
        run.text
    );
    assert!(run.measure("sale.confirmed") >= 5.0 && run.measure("pin.p50_ms") >= 0.0);
    assert!(
        run.measure("chat.delivered") >= 10.0 * run.measure("chat.sent"),
        "each line comes to all readers"
    );
}

#[test]
fn a_short_flash_sale_sells_what_there_is_once() {
    let server = Server::start();
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
    assert_eq!(run.measure("sale.held") + run.measure("sale.refused"), 300.0, "everybody was told");
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
    let chaos = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/loadtest/chaos.toml");
    refuse(&["run", "nowhere.toml", "--whep", "http://127.0.0.1:1"], "can't read nowhere.toml");
    refuse(&["run", smoke, "--target", "http://127.0.0.1:1"], "give the host's token");
    refuse(&["run", smoke, "--whep", "http://127.0.0.1:1/w"], "needs a Haul server");
    refuse(&["run", herd, "--whep", "http://127.0.0.1:1/w"], "give --whip too");
    refuse(
        &["run", herd, "--whep", "http://127.0.0.1:1/w", "--whip", "http://127.0.0.1:1/p"],
        "can't connect",
    );
    let token = "e30.eyJsaXZlIjoiZGVtbyJ9.x";
    refuse(&["run", chaos, "--target", "http://127.0.0.1:1", "--token", token], "--allow-commands");
    refuse(&["compare", smoke, smoke], "is no report");
}
