//! The house rules that a compiler does not know: which crate may know which (ARCHITECTURE.md says why).

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Which of our crates each of our crates may depend on. Arrows run downward: a line names only crates above it.
const ARROWS: &[(&str, &[&str])] = &[
    // The nouns.
    ("haul-model", &[]),
    ("haul-web", &[]),
    // A tool of the tests, which knows none of us.
    ("haul-test-link", &[]),
    // What decides: pure.
    ("haul-media", &["haul-model"]),
    ("haul-commerce", &["haul-model"]),
    ("haul-wire", &["haul-model"]),
    ("haul-room", &["haul-wire", "haul-model"]),
    // What reaches outside: sockets, stores, providers. None knows another.
    ("haul-webrtc", &["haul-media", "haul-model"]),
    ("haul-quic", &["haul-media", "haul-model"]),
    ("haul-store", &["haul-commerce", "haul-model"]),
    ("haul-courier", &["haul-commerce", "haul-model"]),
    ("haul-payments", &["haul-courier", "haul-commerce", "haul-model"]),
    // Where they meet.
    ("haul-live", &["haul-commerce", "haul-media", "haul-room", "haul-wire", "haul-model"]),
    (
        "haul-gateway",
        &[
            "haul-live",
            "haul-commerce",
            "haul-courier",
            "haul-payments",
            "haul-room",
            "haul-web",
            "haul-webrtc",
            "haul-wire",
            "haul-model",
        ],
    ),
    // The load harness measures from outside: it knows what is said on the wire, and nothing of who says it.
    ("haul-loadtest", &["haul-wire", "haul-model"]),
    // The binary picks stores and edges.
    (
        "haul",
        &[
            "haul-gateway",
            "haul-live",
            "haul-store",
            "haul-payments",
            "haul-courier",
            "haul-webrtc",
            "haul-quic",
            "haul-commerce",
            "haul-media",
            "haul-room",
            "haul-model",
        ],
    ),
];

/// Crates that decide and do nothing: time, randomness and bytes are given to them.
const PURE: &[&str] = &["haul-model", "haul-media", "haul-commerce", "haul-wire", "haul-room"];

/// What a pure crate must never know: runtimes, sockets, stores, protocol stacks.
const OUTSIDE: &[&str] =
    &["tokio", "mio", "axum", "hyper", "rtc", "webrtc", "redis", "sqlx", "tracing", "libc", "rustls"];

/// The only files with `unsafe` in them: the batched socket calls, of the server and of the load harness.
const UNSAFE: [&str; 2] = ["crates/webrtc/src/socket.rs", "loadtest/src/net.rs"];

struct Crate {
    name: String,
    directory: PathBuf,
    /// Names of what it is built from; what only its tests use is not among them.
    dependencies: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The workspace's crates, as cargo sees them.
fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let read = |package: &serde_json::Value| Crate {
        name: text(&package["name"]),
        directory: Path::new(&text(&package["manifest_path"])).parent().unwrap().to_owned(),
        dependencies: package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| text(&dependency["name"]))
            .collect(),
    };
    packages.iter().map(read).collect()
}

#[test]
fn arrows_run_downward_only() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for one in crates() {
        let Some(allowed) = allowed.get(one.name.as_str()) else {
            panic!("{} has no place in the house yet: give it one in ARROWS and ARCHITECTURE.md", one.name);
        };
        for dependency in one.dependencies.iter().filter(|name| name.starts_with("haul")) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{} must not know {dependency} (allowed: {allowed:?})",
                one.name
            );
        }
    }
}

#[test]
fn the_table_itself_has_no_circles() {
    for (at, (name, below)) in ARROWS.iter().enumerate() {
        for dependency in *below {
            assert!(
                ARROWS[..at].iter().any(|(above, _)| above == dependency),
                "{name} names {dependency}, which does not stand above it"
            );
        }
    }
}

#[test]
fn what_decides_knows_no_outside() {
    for one in crates().iter().filter(|one| PURE.contains(&one.name.as_str())) {
        for dependency in &one.dependencies {
            assert!(!OUTSIDE.contains(&dependency.as_str()), "{} must not know {dependency}", one.name);
        }
        let rules = fs::read_to_string(one.directory.join("clippy.toml")).unwrap_or_default();
        for clock in ["std::time::Instant::now", "std::time::SystemTime::now"] {
            assert!(rules.contains(clock), "{}/clippy.toml must forbid {clock}", one.directory.display());
        }
    }
}

#[test]
fn only_the_binary_picks_stores() {
    let knowing: Vec<_> =
        crates().into_iter().filter(|one| one.dependencies.iter().any(|name| name == "haul-store")).collect();
    assert_eq!(knowing.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["haul"]);
}

#[test]
fn every_crate_keeps_the_workspaces_lints() {
    for one in crates() {
        let manifest = fs::read_to_string(one.directory.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(lints, Some(&toml::Value::Boolean(true)), "{}", one.name);
    }
}

#[test]
fn unsafe_code_is_where_it_belongs() {
    let mut files = Vec::new();
    for one in crates() {
        sources(&one.directory.join("src"), &mut files);
    }
    let mut with_unsafe: Vec<_> = files
        .into_iter()
        .filter(|path| {
            let source = fs::read_to_string(path).unwrap();
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            let mut words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
            words.any(|word| word == "unsafe" || word == "unsafe_code")
        })
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    with_unsafe.sort();
    assert_eq!(with_unsafe, UNSAFE);
}

/// All Rust files under a directory.
fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}
