//! The delay that the server adds: from a frame's last packet in to its last packet out.
//!
//! `cargo bench -p haul-webrtc --bench delay [-- WORD…]`: a word is part of a case's name; none means all.
//! `HAUL_BENCH_SECONDS` is how long each of the cases with many lives is measured.
//!
//! *In* is read from the clock right before a real host's last packet of the frame is given to the kernel (or, for the
//! large lives, before the frame is given to the relay). *Out* is the time that the kernel notes for the marker packet
//! where it arrives at the last viewer's socket (`SO_TIMESTAMPNS`): on loopback that is within the server's own system
//! call, and needs nobody on the other side to be awake. Both are of the real-time clock of one machine, so the error is
//! that of one system call, some microseconds, and always upwards.
//!
//! The shard's thread and this one run ahead of whatever else the machine does, if they may (`SCHED_FIFO`): what is
//! measured is the server, and not the compilers beside it. Clients that join meanwhile come behind them.

#![allow(clippy::unwrap_used, unsafe_code)]

mod support;

use std::{
    mem,
    net::UdpSocket,
    os::fd::AsRawFd,
    pin::Pin,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use haul_media::Relay;
use haul_model::Kind;
use haul_webrtc::{Answer, Edge, OfferError};
use rtc::sansio::Protocol;
use support::{
    Shape, Stage,
    client::{AUDIO, Abilities, Client, VIDEO},
    limit::Limit,
    median, percentile,
};

/// Viewers of each of many lives.
const VIEWERS: usize = 100;
/// The part of a core that they take.
const LOAD: f64 = 0.5;
/// Lives whose cost is measured first.
const CALIBRATION: usize = 4;
/// The most of them.
const MAX_LIVES: usize = 60;
const SECONDS: u64 = 6;
/// Newcomers a second, and how long at most (their offers are made before).
const JOINS_A_SECOND: usize = 500;
const P50_MAX_MS: f64 = 2.0;
const P99_MAX_MS: f64 = 10.0;

const LARGE: [usize; 2] = [1_000, 4_000];
const LARGE_FRAMES: usize = 40;
const LARGE_MAX: f64 = 1.3;

const KEYFRAMES: usize = 12;
const KEYFRAME_BYTES: usize = 100 * 1_200;
const SOUND_MAX_MS: f64 = 10.0;

const VIDEO_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
const PICTURE_BYTES: usize = 8 * 1_200;
const SOUND_BYTES: usize = 120;
/// How many joins are begun and not finished at most: where the clients' processor is too busy, fewer join.
const SHAKING: usize = 64;
/// How often sockets are emptied and hosts take what they were sent.
const CHORES: Duration = Duration::from_millis(20);

fn main() {
    let wanted = support::wanted();
    let runs = |case: &str| wanted.is_empty() || wanted.iter().any(|word| case.contains(word.as_str()));
    if runs("lives") || runs("joins") {
        lives(runs("lives"), runs("joins"));
    }
    for viewers in LARGE {
        if runs("large") {
            large(viewers);
        }
    }
    if runs("sound") {
        sound();
    }
}

/// Many lives at half a core's load, without and with joins.
fn lives(alone: bool, with_joins: bool) {
    let seconds = std::env::var("HAUL_BENCH_SECONDS").map_or(SECONDS, |seconds| seconds.parse().unwrap());
    let mut stage = Stage::new();
    let mut few = vec![Live::new(&mut stage, 1)];
    play(&stage, &mut few, Duration::from_secs(1));
    play(&stage, &mut few, Duration::from_secs(2)).print("delay/one viewer, nothing else", 1, None);

    let mut lives: Vec<Live> = (0..CALIBRATION).map(|_| Live::new(&mut stage, VIEWERS)).collect();
    play(&stage, &mut lives, Duration::from_secs(1));
    let cost = play(&stage, &mut lives, Duration::from_secs(2)).load / CALIBRATION as f64;
    let count = ((LOAD / cost).round() as usize).clamp(1, MAX_LIVES);
    eprintln!("a live of {VIEWERS} viewers takes {:.1} % of a core: {count} lives", cost * 100.0);
    while lives.len() < count {
        lives.push(Live::new(&mut stage, VIEWERS));
    }
    lives.truncate(count);
    play(&stage, &mut lives, Duration::from_secs(1));
    let goal = Some((P50_MAX_MS, P99_MAX_MS));
    if alone {
        play(&stage, &mut lives, Duration::from_secs(seconds)).print("delay/lives", VIEWERS * count, goal);
    }
    if with_joins {
        let newcomers = Newcomers::new(JOINS_A_SECOND * seconds as usize);
        let (relay, over) = (lives[0].relay.clone(), AtomicBool::new(false));
        let connected = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let edge = &stage.edge;
            let (over, connected) = (&over, &connected);
            scope.spawn(move || {
                // Behind hosts and the shard, and before whatever else runs here.
                // SAFETY: no pointers.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
                newcomers.join(edge, &relay, over, connected);
            });
            let played = play(&stage, &mut lives, Duration::from_secs(seconds));
            let joins = connected.load(Ordering::Relaxed) as f64 / seconds as f64;
            over.store(true, Ordering::Relaxed);
            eprintln!("{joins:.0} joins a second");
            played.print(&format!("delay/lives during {joins:.0} joins a second"), VIEWERS * count, goal);
        });
    }
}

/// One live whose viewers a core serves one after the other.
fn large(viewers: usize) {
    let mut stage = Stage::new();
    let mut live = stage.audience(viewers);
    let mut limit = Limit::new(&live.addresses());
    let mut ear = Ear::new(live.sockets.pop().unwrap());
    let packets = support::uniform(1)[0].packets.len();
    let _urgent = Urgent::new(&stage);
    let (mut sent, mut limits) = (Vec::new(), Vec::new());
    for shape in support::uniform(LARGE_FRAMES) {
        let before = support::Cpu::own().ns();
        limit.frame(&shape);
        limits.push((support::Cpu::own().ns() - before) as f64 / (viewers * packets) as f64);
        let before = stage.stats().rtp_packets_out;
        sent.push(real_time());
        live.frame(&shape);
        settle(&stage, before + (viewers * packets) as u64);
        ear.listen();
    }
    let (mut delays, lost) = ear.video.delays(&sent);
    delays.sort_by(f64::total_cmp);
    let (limit, p50, p99) = (median(limits), percentile(&delays, 0.5), percentile(&delays, 0.99));
    let ratio = p50 * 1e6 / ((viewers * packets) as f64 * limit);
    println!(
        "{{\"case\":\"delay/large\",\"viewers\":{viewers},\"frames\":{},\"lost\":{lost},\"p50_ms\":{p50:.2},\
         \"p99_ms\":{p99:.2},\"limit_ns_per_packet\":{limit:.0},\"ratio\":{ratio:.3},\"max\":{LARGE_MAX}}}",
        delays.len()
    );
}

/// A live's sound while a large live's keyframe is sent.
fn sound() {
    let mut stage = Stage::new();
    let mut large = stage.audience(LARGE[0]);
    let mut other = stage.audience(VIEWERS);
    let mut ear = Ear::new(other.sockets.pop().unwrap());
    let keyframe = Shape::new(Kind::Video, true, KEYFRAME_BYTES, Duration::ZERO);
    let note = Shape::new(Kind::Audio, true, SOUND_BYTES, Duration::ZERO);
    let _urgent = Urgent::new(&stage);
    let packets = (keyframe.packets.len() * LARGE[0]) as u64;
    let mut sent = Vec::new();
    for _ in 0..KEYFRAMES {
        let (before, begun) = (stage.stats().rtp_packets_out, Instant::now());
        large.frame(&keyframe);
        let mut notes = 0;
        while stage.stats().rtp_packets_out < before + packets + notes {
            sent.push(real_time());
            other.frame(&note);
            notes += VIEWERS as u64;
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(begun.elapsed());
        ear.listen();
    }
    let (mut delays, lost) = ear.audio.delays(&sent);
    delays.sort_by(f64::total_cmp);
    let (p50, p99, most) = (percentile(&delays, 0.5), percentile(&delays, 0.99), percentile(&delays, 1.0));
    println!(
        "{{\"case\":\"delay/sound behind a keyframe\",\"viewers\":{},\"packets\":{},\"lost\":{lost},\
         \"p50_ms\":{p50:.2},\"p99_ms\":{p99:.2},\"worst_ms\":{most:.2},\"max\":{SOUND_MAX_MS}}}",
        LARGE[0],
        delays.len()
    );
}

/// Waits until so many packets have left, and as long again: the kernel takes the processor from urgent threads that use
/// nearly all of it (`sched_rt_runtime_us`).
fn settle(stage: &Stage, packets: u64) {
    let start = Instant::now();
    while stage.stats().rtp_packets_out < packets {
        std::thread::sleep(Duration::from_millis(2));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", stage.stats());
    }
    std::thread::sleep(start.elapsed() + Duration::from_millis(5));
}

/// A host, and the last of the viewers. The others' sockets are there, and not read.
struct Live {
    relay: Arc<Relay>,
    host: Client,
    ear: Ear,
    _others: Vec<UdpSocket>,
    frames: [u32; 2],
}

impl Live {
    fn new(stage: &mut Stage, viewers: usize) -> Self {
        let relay = Relay::new();
        let host = stage.host_of(&relay);
        let mut sockets = stage.viewers(&relay, viewers);
        // Frames go to viewers in the order in which they came.
        let ear = Ear::new(sockets.pop().unwrap());
        Self { relay, host, ear, _others: sockets, frames: [0; 2] }
    }

    /// The host sends a frame. Returns when its last packet was about to be sent.
    fn send(&mut self, kind: Kind, keyframe: bool) -> u64 {
        let is_video = kind == Kind::Video;
        let number = &mut self.frames[usize::from(is_video)];
        *number += 1;
        let sizes = if is_video { vec![1_200; PICTURE_BYTES / 1_200] } else { vec![SOUND_BYTES] };
        self.host.send_sizes(*number, &sizes, keyframe, is_video);
        let mut last = None;
        while let Some(datagram) = self.host.connection.poll_write() {
            if let Some(before) = last.replace(datagram) {
                self.host.socket.send_to(&before.message, before.transport.peer_addr).unwrap();
            }
        }
        let last = last.unwrap();
        let at = real_time();
        self.host.socket.send_to(&last.message, last.transport.peer_addr).unwrap();
        at
    }
}

/// What came of some seconds of many lives.
struct Played {
    /// Milliseconds.
    delays: Vec<f64>,
    lost: usize,
    /// The shard's processor time, as a part of a core.
    load: f64,
    /// How late the sending thread woke up, in milliseconds, 99 % of the time at most: what the machine does to a thread
    /// that has the same priority as the shard's and nothing to do with it.
    late: f64,
}

impl Played {
    fn print(mut self, case: &str, viewers: usize, goal: Option<(f64, f64)>) {
        self.delays.sort_by(f64::total_cmp);
        let [p50, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(|part| percentile(&self.delays, part));
        let goal =
            goal.map_or(String::new(), |(p50, p99)| format!(",\"max_p50_ms\":{p50},\"max_p99_ms\":{p99}"));
        println!(
            "{{\"case\":\"{case}\",\"viewers\":{viewers},\"frames\":{},\"lost\":{},\"load\":{:.2},\
             \"p50_ms\":{p50:.2},\"p90_ms\":{p90:.2},\"p99_ms\":{p99:.2},\"worst_ms\":{most:.2},\"sender_late_p99_ms\":{:.2}{goal}}}",
            self.delays.len(),
            self.lost,
            self.load,
            self.late
        );
    }
}

/// All lives at their pace, none at the same moment as another.
fn play(stage: &Stage, lives: &mut [Live], time: Duration) -> Played {
    let count = lives.len() as u32;
    let mut events: Vec<(Duration, usize, Kind, bool)> = Vec::new();
    for (index, _) in lives.iter().enumerate() {
        for (kind, interval) in [(Kind::Video, VIDEO_INTERVAL), (Kind::Audio, AUDIO_INTERVAL)] {
            let first = interval * index as u32 / count;
            let frames = (time.as_nanos() / interval.as_nanos()) as u32;
            events.extend((0..frames).map(|frame| (first + interval * frame, index, kind, frame == 0)));
        }
    }
    events.sort_by_key(|(at, ..)| *at);
    let mut sent = vec![[Vec::new(), Vec::new()]; lives.len()];
    for live in lives.iter_mut() {
        live.ear.listen();
        live.ear.forget();
    }
    let _urgent = Urgent::new(stage);
    let (start, cpu) = (Instant::now(), stage.cpu.ns());
    let (mut chores, mut late) = (Duration::ZERO, Vec::new());
    for (at, index, kind, keyframe) in events {
        support::sleep_until(start + at);
        late.push(start.elapsed().saturating_sub(at).as_secs_f64() * 1e3);
        let moment = lives[index].send(kind, keyframe);
        sent[index][usize::from(kind == Kind::Video)].push(moment);
        if at >= chores {
            chores = at + CHORES;
            for live in lives.iter_mut() {
                live.ear.listen();
                live.host.turn();
                live.host.forget();
            }
        }
    }
    let load = (stage.cpu.ns() - cpu) as f64 / start.elapsed().as_nanos() as f64;
    late.sort_by(f64::total_cmp);
    std::thread::sleep(Duration::from_millis(100));
    let late = percentile(&late, 0.99);
    let mut played = Played { delays: Vec::new(), lost: 0, load, late };
    for (live, sent) in lives.iter_mut().zip(&sent) {
        live.ear.listen();
        for (heard, sent) in [(&live.ear.audio, &sent[0]), (&live.ear.video, &sent[1])] {
            let (delays, lost) = heard.delays(sent);
            played.delays.extend(delays);
            played.lost += lost;
        }
    }
    played
}

/// Clients that come, one after the other, and go as soon as they are connected.
struct Newcomers(Vec<(Client, String)>);

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, OfferError>> + 'a>>;

impl Newcomers {
    fn new(count: usize) -> Self {
        let viewer = |_| Client::viewer(&Abilities { video: "H264", ..Abilities::default() });
        Self((0..count).map(viewer).collect())
    }

    fn join(self, edge: &Edge, relay: &Arc<Relay>, over: &AtomicBool, connected: &AtomicUsize) {
        let start = Instant::now();
        let offers: Vec<(Client, String)> = self.0;
        let mut coming = offers.into_iter().enumerate();
        let mut asking: Vec<(Client, Answering<'_>)> = Vec::new();
        let mut shaking: Vec<Client> = Vec::new();
        let mut began = 0;
        let mut nobody = Context::from_waker(Waker::noop());
        while !over.load(Ordering::Relaxed) {
            let due = (start.elapsed().as_secs_f64() * JOINS_A_SECOND as f64) as usize;
            while began < due
                && asking.len() + shaking.len() < SHAKING
                && let Some((number, (client, offer))) = coming.next()
            {
                began += 1;
                let session = format!("n{number}").parse().unwrap();
                let (live, relay) = ("bench".parse().unwrap(), relay.clone());
                let answer = async move { edge.watch(session, live, relay, &offer).await };
                asking.push((client, Box::pin(answer)));
            }
            let mut waiting = Vec::new();
            for (mut client, mut answer) in asking {
                match answer.as_mut().poll(&mut nobody) {
                    Poll::Ready(answer) => {
                        client.answer(&answer.unwrap().sdp);
                        shaking.push(client);
                    }
                    Poll::Pending => waiting.push((client, answer)),
                }
            }
            asking = waiting;
            let mut turning = Vec::new();
            for mut client in shaking {
                client.turn();
                if client.connected {
                    connected.fetch_add(1, Ordering::Relaxed);
                    client.leave();
                } else {
                    turning.push(client);
                }
            }
            shaking = turning;
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// A viewer's socket, and when what arrived there arrived.
struct Ear {
    socket: UdpSocket,
    video: Heard,
    audio: Heard,
}

/// RTP timestamps of frames, and when their last packets came.
struct Heard {
    ticks: u32,
    frames: Vec<(u32, u64)>,
}

impl Heard {
    /// How long each frame that was sent took, in milliseconds, and how many did not come.
    fn delays(&self, sent: &[u64]) -> (Vec<f64>, usize) {
        let Some((first, _)) = self.frames.first() else { return (Vec::new(), sent.len()) };
        let delay = |(timestamp, at): &(u32, u64)| {
            let sent = sent.get((timestamp.wrapping_sub(*first) / self.ticks) as usize)?;
            Some(at.saturating_sub(*sent) as f64 / 1e6)
        };
        let delays: Vec<f64> = self.frames.iter().filter_map(delay).collect();
        let lost = sent.len() - delays.len();
        (delays, lost)
    }
}

impl Ear {
    fn new(socket: UdpSocket) -> Self {
        socket.set_nonblocking(true).unwrap();
        for (option, value) in [(libc::SO_TIMESTAMPNS, 1), (libc::SO_RCVBUFFORCE, 16 << 20)] {
            let value: libc::c_int = value;
            // SAFETY: the value is alive until the call returns, and as long as said.
            unsafe {
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), 4)
            };
        }
        let heard = |ticks| Heard { ticks, frames: Vec::new() };
        Self { socket, video: heard(3_000), audio: heard(960) }
    }

    fn forget(&mut self) {
        self.video.frames.clear();
        self.audio.frames.clear();
    }

    /// Takes what has come.
    fn listen(&mut self) {
        let mut bytes = [0_u8; 2_048];
        let mut control = [0_u64; 16];
        loop {
            let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            // SAFETY: all-zero is a valid `msghdr`: null pointers and zero lengths.
            let mut header: libc::msghdr = unsafe { mem::zeroed() };
            header.msg_iov = &mut vector;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control);
            // SAFETY: everything that the header points to is alive until the call returns.
            let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &mut header, libc::MSG_DONTWAIT) };
            if length < 0 {
                return;
            }
            let payload_type = bytes[1] & 0x7F;
            if length < 12 || bytes[0] >> 6 != 2 || (payload_type != VIDEO && payload_type != AUDIO) {
                continue;
            }
            // SAFETY: the kernel has filled the control buffer in, as long as the header says now.
            let at: libc::timespec = unsafe {
                let first = libc::CMSG_FIRSTHDR(&header);
                assert!(!first.is_null() && (*first).cmsg_type == libc::SCM_TIMESTAMPNS);
                ptr::read_unaligned(libc::CMSG_DATA(first).cast())
            };
            let at = at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64;
            let timestamp = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let is_video = payload_type == VIDEO;
            if is_video && bytes[1] & 0x80 == 0 {
                continue;
            }
            let heard = if is_video { &mut self.video } else { &mut self.audio };
            heard.frames.push((timestamp, at));
        }
    }
}

/// The clock that arrivals are noted by, in nanoseconds.
fn real_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Lets threads run before all that do not say the same of themselves, for a while.
struct Urgent([i32; 2]);

impl Urgent {
    /// The calling thread, and the shard's.
    fn new(stage: &Stage) -> Self {
        let threads = [0, stage.thread];
        // The shard's last, so that it need not wait to be told.
        let urgent = threads.map(|thread| schedule(thread, libc::SCHED_FIFO, 1));
        if urgent != [true; 2] {
            eprintln!("the shard shares its processor with whatever else runs here");
        }
        Self(threads)
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        let _ = self.0.map(|thread| schedule(thread, libc::SCHED_OTHER, 0));
    }
}

fn schedule(thread: i32, policy: libc::c_int, priority: libc::c_int) -> bool {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter is alive until the call returns.
    unsafe { libc::sched_setscheduler(thread, policy, &parameter) == 0 }
}
