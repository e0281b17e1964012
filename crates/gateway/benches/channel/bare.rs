//! The bare loops: accept and upgrade, and write ready-made bytes to all who have come.

use std::{
    io::{BufRead, Write},
    net::TcpStream,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::net::TcpListener;

pub(crate) fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let open = Arc::new(Mutex::new(Vec::new()));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    runtime.spawn(accept(listener, open.clone()));
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let &[frame_bytes, frames_a_write, writes_a_second, seconds] = numbers.as_slice() else {
            panic!("{line}")
        };
        let written =
            write(&mut open.lock().unwrap(), frame_bytes as usize, frames_a_write, writes_a_second, seconds);
        println!("{written}");
    }
    ExitCode::SUCCESS
}

async fn accept(listener: TcpListener, open: Arc<Mutex<Vec<TcpStream>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let open = open.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true).unwrap();
            let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
            let stream = socket.into_inner().into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            open.lock().unwrap().push(stream);
        });
    }
}

/// One thread, one buffer, one blocking write a socket: the least that this can cost. Gives the frames written.
fn write(
    open: &mut [TcpStream],
    frame_bytes: usize,
    frames_a_write: f64,
    writes_a_second: f64,
    seconds: f64,
) -> u64 {
    let most = frames_a_write.ceil() as usize;
    let mut ready = Vec::new();
    for _ in 0..most {
        ready.extend(frame(frame_bytes));
    }
    let (begun, every) = (Instant::now(), Duration::from_secs_f64(1.0 / writes_a_second));
    let (mut owed, mut written, mut turns) = (0.0, 0, 0);
    // As many writes as asked for, however long that takes: what is compared is processor time.
    while f64::from(turns) < writes_a_second * seconds {
        std::thread::sleep((begun + every * turns).saturating_duration_since(Instant::now()));
        turns += 1;
        // A part of a frame that is owed makes one more now and then.
        owed += frames_a_write;
        let frames = (owed as usize).clamp(1, most);
        owed -= frames as f64;
        let bytes = &ready[..ready.len() / most * frames];
        for stream in open.iter_mut() {
            stream.write_all(bytes).unwrap();
        }
        written += (open.len() * frames) as u64;
    }
    written
}

/// A text frame of `bytes` in all (RFC 6455, 5.2).
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = match bytes - 2 {
        payload @ ..=125 => vec![0x81, payload as u8],
        _ => [&[0x81, 126], &((bytes - 4) as u16).to_be_bytes()[..]].concat(),
    };
    frame.resize(bytes, b'x');
    frame
}
