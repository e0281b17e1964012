//! The integration walk-through of docs/selling.md, as it stands there.

use std::process::Stdio;

use crate::server::{Server, command};

/// The commands of the walk-through, in their order.
fn commands() -> String {
    let text = include_str!("../../docs/selling.md");
    let (_, walk) = text.split_once("## An integration, step by step").unwrap();
    let blocks: Vec<&str> =
        walk.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 8, "the walk-through has become short");
    blocks.join("\n")
}

#[tokio::test]
async fn the_walk_through_works_as_it_is_written() {
    let server = Server::start();
    let script = format!(
        "set -euo pipefail\nhaul() {{ \"$BINARY\" \"$@\"; }}\nHAUL={}\n{}\necho walked",
        server.url(""),
        commands()
    );
    let binary = command(server.data.path());
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &script]).current_dir(server.data.path()).stdin(Stdio::null());
    bash.env("BINARY", binary.get_program()).env("HAUL__DATA_DIR", server.data.path().join("data"));
    let done = tokio::task::spawn_blocking(move || bash.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.ends_with("walked\n"), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("evening: 1 sales, 0 differences"), "{said}");
    assert!(said.contains("\"partly_refunded\""), "{said}");
}
