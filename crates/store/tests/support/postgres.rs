//! A PostgreSQL server for tests and benchmarks: that of `HAUL_TEST_POSTGRES_URL`, or one that is started here.

// Each program uses a part of it.
#![allow(dead_code)]

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};

use super::{free_port, unique};

/// Runs the server `$@`, and stops it at once, like a crash, when standard input ends: also when the test is killed.
/// With a directory in `$1`, removes that afterwards.
const KEEPER: &str = r#"
    dir=$1; shift
    exec 3<&0
    "$@" 3<&- &
    server=$!
    (cat <&3 >/dev/null; kill -QUIT $server 2>/dev/null) &
    wait $server
    [ -z "$dir" ] || rm -rf "$dir"
"#;

/// A PostgreSQL server.
pub(crate) struct TestPostgres {
    /// The server, with a database that is always there.
    url: String,
    own: Option<Own>,
}

struct Own {
    dir: PathBuf,
    port: u16,
    keeper: Child,
    /// Closing it stops the server.
    leash: Option<ChildStdin>,
}

impl TestPostgres {
    /// Any server will do: one for all tests of this program. The databases that tests make in it stay behind.
    pub(crate) fn any() -> &'static Self {
        static ANY: OnceLock<TestPostgres> = OnceLock::new();
        ANY.get_or_init(|| match env::var("HAUL_TEST_POSTGRES_URL") {
            Ok(url) => Self { url, own: None },
            Err(_) => Self::start_one(true),
        })
    }

    /// A server that may be killed and started again.
    pub(crate) fn own() -> Self {
        Self::start_one(false)
    }

    /// The same, and it speaks TLS with these (PEM).
    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        let mut server = Self::own();
        let own = server.own.as_ref().expect("it was just started");
        let data = own.dir.join("data");
        // In the files it looks for by default, which must be its own and closed to others.
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = data.join(name).to_string_lossy().into_owned();
            let mut command = as_server(&["sh", "-c", "umask 077; cat > \"$1\"", "sh", &file]);
            let mut writer = command.stdin(Stdio::piped()).spawn().unwrap();
            writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(writer.wait().unwrap().success());
        }
        let mut setting = as_server(&["sh", "-c", "echo ssl=on >> \"$1\"", "sh"]);
        output(setting.arg(data.join("postgresql.conf")));
        server.kill();
        server.start_again();
        server
    }

    fn start_one(shared: bool) -> Self {
        let dir = output(&mut as_server(&["mktemp", "-d", "/tmp/haul-postgres-XXXXXX"]));
        let dir = PathBuf::from(dir.trim());
        let mut init = as_server(&[&program("initdb"), "--no-sync", "--auth=trust", "--username=postgres"]);
        init.args(["--encoding=UTF8", "--locale=C", "-D"]).arg(dir.join("data"));
        output(&mut init);
        // Between looking for a free port and using it, another test may take it.
        let own = (0..10)
            .find_map(|_| start(&dir, free_port(), shared))
            .expect("one of ten ports is free, and the server starts");
        Self { url: format!("postgres://postgres@127.0.0.1:{}/postgres", own.port), own: Some(own) }
    }

    /// A new and empty database; its URL.
    pub(crate) async fn database(&self) -> String {
        let name = unique("haul").replace('-', "_");
        let mut admin = PgConnection::connect(&self.url).await.unwrap();
        let create =
            format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
        let (server, _) = self.url.rsplit_once('/').unwrap();
        format!("{server}/{name}")
    }

    /// Ends the server as a crash would: nothing that is under way is finished.
    pub(crate) fn kill(&mut self) {
        let own = self.own.as_mut().expect("only an own server is killed");
        own.leash = None;
        own.keeper.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        let own = self.own.as_mut().expect("only an own server is started");
        *own = start(&own.dir, own.port, false).expect("the port was this server's before");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.leash = None;
        let _ = self.keeper.wait();
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            let dir = own.dir.clone();
            drop(own);
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// A server that is ready on `port`; `None` where it ended instead.
fn start(dir: &Path, port: u16, shared: bool) -> Option<Own> {
    let data = dir.join("data");
    // What an earlier one left behind would be taken for this one's.
    let _ = fs::remove_file(data.join("postmaster.pid"));
    let mut command = as_server(&["sh", "-c", KEEPER, "keeper"]);
    command.arg(if shared { dir.as_os_str() } else { "".as_ref() });
    command.arg(program("postgres")).arg("-D").arg(&data);
    for setting in [
        &*format!("port={port}"),
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=300",
        "log_min_messages=fatal",
    ] {
        command.arg("-c").arg(setting);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut keeper = command.spawn().unwrap();
    let leash = keeper.stdin.take();
    let deadline = Instant::now() + Duration::from_secs(60);
    // The server's own word, in a file that is no other server's.
    while !fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|text| text.contains("ready")) {
        if keeper.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(Instant::now() < deadline, "postgres on port {port} does not become ready");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(Own { dir: dir.to_owned(), port, keeper, leash })
}

/// PostgreSQL's server refuses to be root's.
fn as_server(words: &[&str]) -> Command {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let words: Vec<&str> = match root {
        true => [&["runuser", "-u", "postgres", "--"], words].concat(),
        false => words.to_vec(),
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir("/");
    command
}

/// On Debian, the server's programs are not on the path.
fn program(name: &str) -> String {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = debian.map(|version| version.path().join("bin").join(name)).collect();
    found.sort();
    let path = found.into_iter().rfind(|path| path.exists());
    path.map_or(name.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn output(command: &mut Command) -> String {
    let missing = "these tests need PostgreSQL: install postgresql, or set HAUL_TEST_POSTGRES_URL";
    let mut child =
        command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{missing} ({error})"));
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{missing} ({command:?} failed)");
    text
}
