//! A host, and who watches.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use moq_net::{Timestamp, origin::Route, track};
use tokio::task::JoinSet;

use crate::{
    client::{Client, NEWEST, eventually, media_track, sealed, tell},
    server::Server,
};

/// The pictures of a host.
pub const FRAMES_A_SECOND: u32 = 30;
/// A keyframe is as large as so many other pictures.
const KEYFRAME_SHARE: u32 = 6;
/// A keyframe every two seconds.
const GOP: u32 = 2 * FRAMES_A_SECOND;
/// How old a group may get before a viewer gives it up.
const MAX_AGE: Duration = Duration::from_secs(2);

fn here(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The time of day, in microseconds since 1970.
pub fn wall_us() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64
}

/// Publishes pictures that take a given rate.
pub struct Host {
    client: Client,
    tasks: JoinSet<()>,
}

impl Host {
    pub async fn start(server: &Server, megabits: f64) -> Self {
        let mut host = Self::connect(server).await;
        host.begin(megabits);
        host
    }

    /// Somebody who has not begun yet.
    pub async fn connect(server: &Server) -> Self {
        let target = server.target("host");
        let connect = async || Client::connect(here(server.port()), NEWEST, &target).await;
        let mut client = None;
        // A server that has just begun may not listen yet.
        eventually("a server", async || {
            client = connect().await.ok();
            client.is_some()
        })
        .await;
        Self { client: client.unwrap(), tasks: JoinSet::new() }
    }

    pub fn begin(&mut self, megabits: f64) {
        let broadcast = self.client.broadcast("");
        let catalog =
            r#"{"video":{"renditions":{"video":{"codec":"vp8","codedWidth":1280,"codedHeight":720}}}}"#;
        let told = tell(&broadcast, catalog);
        let video = media_track(&broadcast, "video");
        broadcast.announce(Route::default()).unwrap();
        self.tasks.spawn(async move {
            let _kept = (broadcast, told);
            let parts = f64::from(GOP - 1 + KEYFRAME_SHARE);
            let a_part =
                (megabits * 1e6 / 8.0 * f64::from(GOP) / f64::from(FRAMES_A_SECOND) / parts) as usize;
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / FRAMES_A_SECOND);
            let mut group: Option<moq_net::group::Producer> = None;
            for number in 0_u32.. {
                ticks.tick().await;
                let keyframe = number.is_multiple_of(GOP);
                if keyframe {
                    if let Some(group) = group.take() {
                        let _ = group.finish();
                    }
                    group = video.append_group().ok();
                }
                let mut picture = vec![u8::from(!keyframe), 0, 0, 0x9D, 0x01, 0x2A, 0, 5, 0xD0, 2];
                picture
                    .resize(if keyframe { a_part * KEYFRAME_SHARE as usize } else { a_part }, number as u8);
                let us = wall_us();
                if let Some(group) = &mut group {
                    let _ = group.write_frame(Timestamp::from_micros(us).unwrap(), sealed(us, &picture));
                }
            }
        });
    }
}

/// A picture that has come.
#[derive(Debug, Clone, Copy)]
pub struct Picture {
    /// Microseconds since 1970.
    pub captured_us: u64,
    /// How much later than captured it came.
    pub late_ms: f64,
}

/// What one viewer has seen.
#[derive(Default)]
pub struct Seen {
    pub bytes: AtomicU64,
    /// Every picture, in order of arrival.
    pub pictures: Mutex<Vec<Picture>>,
    /// Groups that ended before they were whole.
    pub broken: AtomicU64,
}

/// Viewers of the host's pictures.
pub struct Crowd {
    pub seen: Vec<Arc<Seen>>,
    _clients: Vec<Arc<Client>>,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// So many, spread evenly over the ports. They watch what is there, or will be.
    pub async fn join(server: &Server, ports: &[u16], viewers: usize) -> Self {
        let target = server.target("viewer");
        let mut crowd = Self { seen: Vec::new(), _clients: Vec::new(), _tasks: JoinSet::new() };
        for index in 0..viewers {
            let port = ports[index % ports.len()];
            let client = Arc::new(Client::connect(here(port), NEWEST, &target).await.unwrap());
            let seen = Arc::<Seen>::default();
            crowd._tasks.spawn(watch(client.clone(), seen.clone()));
            crowd.seen.push(seen);
            crowd._clients.push(client);
        }
        crowd
    }

    pub fn bytes(&self) -> u64 {
        self.seen.iter().map(|seen| seen.bytes.load(Relaxed)).sum()
    }

    /// Waits until something has come to everybody.
    pub async fn all_see(&self) {
        eventually("pictures for all", async || self.seen.iter().all(|seen| seen.bytes.load(Relaxed) > 0))
            .await;
    }
}

async fn watch(client: Arc<Client>, seen: Arc<Seen>) {
    let broadcast = client.found().await;
    let wish = track::Subscription::default().with_max_age(MAX_AGE);
    let Ok(track) = broadcast.track("video") else { return };
    let Ok(track) = track.subscribe(wish).await else { return };
    let mut groups = track.ordered();
    while let Ok(Some(mut group)) = groups.next_group().await {
        loop {
            match group.read_frame().await {
                Ok(Some(frame)) => {
                    seen.bytes.fetch_add(frame.payload.len() as u64, Relaxed);
                    let captured_us =
                        u64::from_be_bytes(frame.payload[..8].try_into().unwrap()) & (u64::MAX >> 2);
                    let late_ms = (wall_us() as f64 - captured_us as f64) / 1_000.0;
                    seen.pictures.lock().unwrap().push(Picture { captured_us, late_ms });
                }
                Ok(None) => break,
                Err(_) => {
                    seen.broken.fetch_add(1, Relaxed);
                    break;
                }
            }
        }
    }
}
