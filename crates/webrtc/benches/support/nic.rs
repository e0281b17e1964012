//! A place that is like a network card: a private network namespace whose loopback queue is full, so that what is sent costs
//! its sender what it costs, and nobody receives it.

use std::process::Command;

/// Set for the process inside the namespace.
const INSIDE: &str = "HAUL_BENCH_INSIDE";

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Where this process measures, as cases are named.
pub fn place() -> &'static str {
    if is_inside() { "nic" } else { "loopback" }
}

/// Before anything is sent.
pub fn begin() {
    if is_inside() {
        run("ip", &["link", "set", "lo", "up"]);
    }
}

/// From here on the only packet that fits waits for ever.
pub fn fill() {
    if is_inside() {
        run("tc", &["qdisc", "add", "dev", "lo", "root", "bfifo", "limit", "1"]);
    }
}

/// Runs this program again, in a network namespace of its own, unless it is there.
pub fn enter() {
    if is_inside() {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let again = Command::new("unshare")
        .arg("--net")
        .arg(program)
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .status();
    match again {
        Ok(status) if status.success() => {}
        other => {
            eprintln!("the cases in a network namespace of their own did not run: {other:?}");
            std::process::exit(1);
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}
