//! Deliveries of a sale's many orders, to one endpoint that takes its time: many orders at once, each in its order.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use haul_commerce::{
    LedgerError,
    ledger::Answer,
    outbox::{Attempt, Delivery, DeliveryState, Due, Endpoint, Message, Outbox, Replay},
};
use haul_courier::{Client, Reach, webhooks::deliver};
use haul_model::{MerchantId, MessageId, UnixMillis, WebhookId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

const ORDERS: usize = 100;

/// Two messages about each of many orders, of which the second waits for the first.
struct Sale {
    endpoint: Endpoint,
    /// What is not delivered, in order, and what is under way.
    waiting: Mutex<Vec<Message>>,
    under_way: Mutex<HashSet<MessageId>>,
    /// How many the endpoint has, once these are as many as it may.
    full: watch::Sender<usize>,
    left: watch::Sender<usize>,
}

fn nothing<'a, T: Default + Send + 'a>() -> Answer<'a, T> {
    Box::pin(async { Ok(T::default()) })
}

impl Outbox for Sale {
    fn take_due<'a>(
        &'a self,
        _: UnixMillis,
        _: UnixMillis,
        limit: u32,
        busy: &'a [WebhookId],
    ) -> Answer<'a, Vec<Due>> {
        if busy.contains(&self.endpoint.id) {
            let at_once = self.under_way.lock().unwrap().len();
            self.full.send_if_modified(|full| *full == 0 && std::mem::replace(full, at_once) == 0);
            return nothing();
        }
        let (waiting, mut under_way) = (self.waiting.lock().unwrap(), self.under_way.lock().unwrap());
        let mut subjects = HashSet::new();
        let first = waiting.iter().filter(|message| subjects.insert(&message.subject));
        let free: Vec<Message> =
            first.filter(|message| !under_way.contains(&message.id)).take(limit as usize).cloned().collect();
        under_way.extend(free.iter().map(|message| message.id.clone()));
        let due =
            free.into_iter().map(|message| Due { endpoint: self.endpoint.clone(), message, attempts: 0 });
        let due = due.collect();
        Box::pin(async move { Ok(due) })
    }

    fn attempted<'a>(
        &'a self,
        _: &'a WebhookId,
        message: &'a MessageId,
        attempt: &'a Attempt,
    ) -> Answer<'a, ()> {
        assert_eq!(attempt.state, DeliveryState::Done, "{attempt:?}");
        let mut waiting = self.waiting.lock().unwrap();
        waiting.retain(|known| known.id != *message);
        self.left.send_replace(waiting.len());
        nothing()
    }

    fn forget_messages(&self, _: UnixMillis) -> Answer<'_, u64> {
        nothing()
    }

    fn put_endpoint<'a>(&'a self, _: &'a Endpoint) -> Answer<'a, ()> {
        nothing()
    }

    fn change_endpoint<'a>(&'a self, _: &'a Endpoint, _: &'a Endpoint) -> Answer<'a, bool> {
        unreachable!("nobody changes it here")
    }

    fn endpoint<'a>(&'a self, _: &'a MerchantId, _: &'a WebhookId) -> Answer<'a, Option<Endpoint>> {
        nothing()
    }

    fn endpoints<'a>(&'a self, _: &'a MerchantId) -> Answer<'a, Vec<Endpoint>> {
        nothing()
    }

    fn remove_endpoint<'a>(&'a self, _: &'a MerchantId, _: &'a WebhookId) -> Answer<'a, bool> {
        nothing()
    }

    fn post<'a>(&'a self, _: &'a Message) -> Answer<'a, ()> {
        nothing()
    }

    fn deliveries<'a>(
        &'a self,
        _: &'a MerchantId,
        _: &'a WebhookId,
        _: Option<DeliveryState>,
        _: Option<&'a (UnixMillis, MessageId)>,
        _: u32,
    ) -> Answer<'a, Vec<Delivery>> {
        nothing()
    }

    fn replay<'a>(
        &'a self,
        _: &'a MerchantId,
        _: &'a WebhookId,
        _: &'a Replay,
        _: UnixMillis,
    ) -> Answer<'a, u64> {
        Box::pin(async { Err(LedgerError::NotFound("nothing is replayed here".to_owned())) })
    }
}

impl Sale {
    fn new(port: u16) -> Self {
        let message = |n: usize, kind: &str| Message {
            id: format!("msg_{n}.{kind}").parse().unwrap(),
            merchant: MerchantId::main(),
            subject: format!("order_{n}"),
            kind: format!("order.{kind}"),
            body: "{}".to_owned(),
            at: UnixMillis(0),
        };
        let messages: Vec<_> = ["paying", "sold"]
            .into_iter()
            .flat_map(|kind| (0..ORDERS).map(move |n| message(n, kind)))
            .collect();
        Self {
            endpoint: Endpoint {
                id: "wh_1".parse().unwrap(),
                merchant: MerchantId::main(),
                url: format!("http://127.0.0.1:{port}/hook"),
                kinds: Vec::new(),
                secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
                old_secret: None,
                disabled: None,
                created_at: UnixMillis(0),
            },
            left: watch::Sender::new(messages.len()),
            waiting: Mutex::new(messages),
            under_way: Mutex::default(),
            full: watch::Sender::new(0),
        }
    }
}

/// Reads a request with a body of two bytes. Returns the message's id.
async fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n{}") {
        let read = stream.read_buf(&mut text).await.unwrap();
        assert!(read > 0, "it broke off");
    }
    let text = String::from_utf8(text).unwrap();
    let id = text.lines().find_map(|line| line.strip_prefix("webhook-id: "));
    id.unwrap_or_else(|| panic!("no id in {text}")).to_owned()
}

#[tokio::test]
async fn many_orders_at_once_and_each_in_its_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sale = Arc::new(Sale::new(listener.local_addr().unwrap().port()));
    let (full, mut left) = (sale.full.subscribe(), sale.left.subscribe());
    let told: Arc<Mutex<HashMap<String, Vec<String>>>> = Arc::default();
    let record = told.clone();
    // The endpoint answers nobody until it has as many as it may.
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut full, record) = (full.clone(), record.clone());
            tokio::spawn(async move {
                let id = request(&mut stream).await;
                full.wait_for(|full| *full > 0).await.unwrap();
                let (order, kind) = id.split_once('.').unwrap();
                record.lock().unwrap().entry(order.to_owned()).or_default().push(kind.to_owned());
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            });
        }
    });
    let delivering = tokio::spawn(deliver(sale.clone(), Client::new(Reach::Anywhere)));
    timeout(Duration::from_secs(60), async {
        let at_once = *sale.full.subscribe().wait_for(|full| *full > 0).await.unwrap();
        assert!((32..64).contains(&at_once), "{at_once} at once");
        left.wait_for(|left| *left == 0).await.unwrap();
    })
    .await
    .expect("everything is delivered");
    delivering.abort();
    serving.abort();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), ORDERS);
    assert!(told.values().all(|kinds| *kinds == ["paying", "sold"]), "{told:?}");
}
