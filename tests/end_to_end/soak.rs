//! A server that runs for long while viewers come and go takes no more memory, descriptors or threads than at its start.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    client::{Abilities, Client},
    server::Server,
};

const VIEWERS: usize = 200;
/// How many join and leave, each second.
const CHANGES_PER_SECOND: u32 = 3;
const PICTURES_PER_SECOND: u32 = 10;
const PICTURES_PER_GOP: u32 = 20;
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// Before the first sample that counts: the last who vanished in the beginning is given up after 15 s.
const WARM_UP: Duration = Duration::from_secs(45);

/// What the system says of a process.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    rss_kb: u64,
    descriptors: u64,
    threads: u64,
}

impl Sample {
    fn of(pid: u32, at: Duration) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        Self { at, rss_kb: number("VmRSS:"), descriptors, threads: number("Threads:") }
    }
}

/// How somebody leaves: by DELETE, by closing the connection, or without a word.
#[derive(Clone, Copy)]
enum Leave {
    Deletes,
    Closes,
    Vanishes,
}

struct Viewer {
    client: Client,
    resource: String,
    packets: u64,
}

impl Viewer {
    fn join(server: &Server) -> Self {
        let (mut client, offer) = Client::viewer(&Abilities::default());
        let (answer, resource) = post(&server.url("/whep/demo"), &offer, None);
        client.answer(&answer);
        Self { client, resource, packets: 0 }
    }

    fn turn(&mut self) {
        self.client.turn();
        self.packets += self.client.rtp.len() as u64;
        self.client.forget();
    }

    fn leave(self, server: &Server, how: Leave) {
        match how {
            Leave::Deletes => {
                let answer = ureq::delete(server.url(&self.resource)).call();
                assert!(answer.is_ok(), "{answer:?}: {}", log_about(server, &self.resource));
            }
            Leave::Closes => self.client.leave(),
            Leave::Vanishes => {}
        }
    }
}

/// Takes `HAUL_SOAK_SECONDS`, 900 by default. Run it against a release build (`HAUL_BINARY`), as an operator would.
#[test]
#[ignore = "takes 15 minutes"]
fn memory_descriptors_and_threads_stay_as_they_are() {
    let seconds = std::env::var("HAUL_SOAK_SECONDS").map_or(900, |text| text.parse().unwrap());
    let lasts = Duration::from_secs(seconds);
    assert!(lasts >= 2 * WARM_UP, "too short to tell anything");
    let server = Server::start();
    let (mut host, offer) = Client::publisher(&Abilities::default());
    let (answer, _) = post(&server.url("/whip/demo"), &offer, Some(&server.host_token));
    host.answer(&answer);

    let began = Instant::now();
    while !host.connected {
        assert!(began.elapsed() < Duration::from_secs(10), "the host does not connect");
        host.turn();
    }
    let mut viewers: Vec<Viewer> = Vec::new();
    let mut samples = Vec::new();
    let (mut joined, mut left, mut received, mut pictures) = (0_u64, 0_u64, 0_u64, 0_u32);
    let mut next_change = Duration::ZERO;
    while began.elapsed() < lasts {
        let now = began.elapsed();
        while pictures < (now.as_secs_f64() * f64::from(PICTURES_PER_SECOND)) as u32 {
            host.send_vp8(pictures, pictures.is_multiple_of(PICTURES_PER_GOP));
            host.send_opus(pictures);
            pictures += 1;
        }
        host.turn();
        host.forget();
        viewers.iter_mut().for_each(Viewer::turn);
        if now >= next_change {
            // At first they only come.
            let filling = viewers.len() < VIEWERS;
            let per_second = if filling { 5 * CHANGES_PER_SECOND } else { CHANGES_PER_SECOND };
            next_change = now + Duration::from_secs(1) / per_second;
            if !filling {
                // The one who is there longest, each time in another way.
                let viewer = viewers.remove(0);
                assert!(viewer.packets > 0, "viewer {left} has received nothing");
                received += viewer.packets;
                let how = [Leave::Deletes, Leave::Closes, Leave::Vanishes][left as usize % 3];
                viewer.leave(&server, how);
                left += 1;
            }
            viewers.push(Viewer::join(&server));
            joined += 1;
        }
        if samples.last().is_none_or(|last: &Sample| now - last.at >= SAMPLE_INTERVAL) {
            samples.push(Sample::of(server.pid(), now));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    received += viewers.iter().map(|viewer| viewer.packets).sum::<u64>();
    println!(
        "{seconds} s at {VIEWERS} viewers: {joined} joined, {left} left, {received} packets received, {pictures} pictures sent"
    );
    println!("{:>6} {:>10} {:>12} {:>8}", "s", "RSS, KB", "descriptors", "threads");
    // A table that fits on a page.
    for sample in samples.iter().step_by(samples.len().div_ceil(40)) {
        let Sample { at, rss_kb, descriptors, threads } = sample;
        println!("{:>6} {rss_kb:>10} {descriptors:>12} {threads:>8}", at.as_secs());
    }
    assert!(joined > seconds, "viewers came and went");

    let counting: Vec<_> = samples.into_iter().filter(|sample| sample.at >= WARM_UP).collect();
    let third = counting.len() / 3;
    let (first, last) = (&counting[..third], &counting[counting.len() - third..]);
    let rss = |part: &[Sample]| median(part.iter().map(|sample| sample.rss_kb));
    let descriptors = |part: &[Sample]| median(part.iter().map(|sample| sample.descriptors));
    let threads = |part: &[Sample]| median(part.iter().map(|sample| sample.threads));
    println!(
        "medians of the first and the last third after {} s: RSS {} and {} KB, descriptors {} and {}, threads {} and {}",
        WARM_UP.as_secs(),
        rss(first),
        rss(last),
        descriptors(first),
        descriptors(last),
        threads(first),
        threads(last)
    );
    assert!(rss(last) <= rss(first) * 105 / 100 + 2_048, "memory grows");
    assert!(descriptors(last) <= descriptors(first) + 4, "descriptors are left open");
    assert!(threads(last) <= threads(first) + 1, "threads are left behind");
}

/// What the server has said of a session.
fn log_about(server: &Server, resource: &str) -> String {
    let session = resource.rsplit('/').next().unwrap_or_default();
    server.log().lines().filter(|line| line.contains(session)).collect::<Vec<_>>().join("\n")
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Posts an offer; returns the answer and the resource.
fn post(url: &str, offer: &str, token: Option<&str>) -> (String, String) {
    let mut request = ureq::post(url).header("content-type", "application/sdp");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut response = request.send(offer).unwrap();
    assert_eq!(response.status(), 201);
    let resource = response.headers()["location"].to_str().unwrap().to_owned();
    (response.body_mut().read_to_string().unwrap(), resource)
}
