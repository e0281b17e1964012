//! Servers of others, as far as the adapters speak with them: one request a connection.

// Each test file uses a part of it.
#![allow(dead_code)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned()
    }

    /// The body, or the query, as a form.
    pub(crate) fn form(&self) -> HashMap<String, String> {
        let text = match self.path.split_once('?') {
            Some((_, query)) => query,
            None => &self.body,
        };
        form_urlencoded::parse(text.as_bytes()).into_owned().collect()
    }
}

/// What to answer: a status and JSON; status 0 hangs up without a word, after the request was taken.
pub(crate) type Answer = (u16, String);

/// An answer, and whether it was given before.
pub(crate) struct Said {
    pub(crate) answer: Answer,
    pub(crate) replayed: bool,
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        Self { answer, replayed: false }
    }
}

/// A server that answers with `answer`, and remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(crate) async fn start<S: Into<Said>>(answer: impl Fn(&Asked) -> S + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, heard) = (Arc::new(answer), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, heard) = (answer.clone(), heard.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let asked = read(&mut stream).await;
                    let Said { answer: (status, body), replayed } = answer(&asked).into();
                    heard.lock().unwrap().push(asked);
                    if status > 0 {
                        write(stream.get_mut(), status, replayed, &body).await;
                    }
                });
            }
        });
        Self { url, asked }
    }

    /// All that it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Asked {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length: &String| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Asked { method, path, headers, body: String::from_utf8(body).unwrap() }
}

async fn write(stream: &mut TcpStream, status: u16, replayed: bool, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} .\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\r\n",
        if replayed { "idempotent-replayed: true\r\n" } else { "" },
        body.len()
    );
    let _ = stream.write_all((head + body).as_bytes()).await;
}
