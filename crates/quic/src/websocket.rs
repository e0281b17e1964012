//! MoQ over a websocket, for clients whose network carries no QUIC or that have no WebTransport: streams in the records of
//! `qmux` (draft-ietf-quic-qmux), one record a message.

use std::{net::IpAddr, sync::Arc};

use moq_net::ALPNS;
use qmux::{
    Config, Version,
    ws::{
        KeepAlive, Upgraded,
        tokio_tungstenite::WebSocketStream,
        tungstenite::{
            handshake::derive_accept_key,
            protocol::{Role, WebSocketConfig},
        },
    },
};
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    edge::{MAX_PUBLISHER_STREAMS, Shared},
    polled::Session,
    request::Target,
    session::{self, Failed, Ready},
    tcp::{FAREWELL, Head, Status, Stream, answer},
};

/// Drafts of the records, the newest first. What was spoken before the first of them has no flow control: a peer could
/// have us keep anything.
const DRAFTS: [Version; 3] = [Version::QMux02, Version::QMux01, Version::QMux00];
/// The largest message, in bytes: a record of the size that we announce, and the largest frame of the first draft.
const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// Bytes that wait for the socket, beside what the kernel keeps. A slower client's groups wait in the live's cache.
const MAX_WAITING_BYTES: usize = 256 * 1024;
/// Bytes a client may send before they are read, in all and of one stream: as over QUIC.
const RECEIVE_WINDOW_BYTES: u64 = 4 << 20;
const STREAM_RECEIVE_WINDOW_BYTES: u64 = 2 << 20;
/// Streams that a client may open at once to ask for something.
const MAX_QUESTIONS: u64 = crate::edge::MAX_STREAMS as u64;

/// What a client offers that wants a websocket (RFC 6455, 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) key: String,
    /// Subprotocols, the most wanted first.
    pub(crate) protocols: Vec<String>,
}

impl Offer {
    /// The subprotocol that is spoken: the newest version of MoQ, on the newest draft of the records. `qmux-02` alone leaves
    /// MoQ's version to the SETUP in the session.
    fn choose(&self) -> Option<String> {
        let with_version =
            ALPNS.iter().flat_map(|alpn| DRAFTS.map(|draft| format!("{}{alpn}", draft.prefix())));
        let bare = DRAFTS.map(|draft| draft.alpn().to_owned());
        with_version.chain(bare).find(|known| self.protocols.contains(known))
    }
}

/// Serves a client that wants a websocket, to the session's end. `rest` is what has come behind the head.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: Box<dyn Stream>,
    rest: Vec<u8>,
    head: Head,
    offer: Offer,
    client: IpAddr,
) {
    let began = timeout(shared.limits.handshake, begin(shared, &mut stream, &head, &offer, client)).await;
    let ended = match began {
        Ok(Ok((protocol, guest))) => {
            let session = upgraded(shared, stream, rest, &protocol).await;
            match timeout(shared.limits.handshake, session::accept(shared, session)).await {
                Ok(Ok((handshake, intake))) => {
                    let _counted = shared.counters.websockets.held();
                    session::run(shared, Ready { handshake, guest, intake }, None).await
                }
                Ok(Err(failed)) => Err(failed),
                Err(_) => Err(Failed::Handshake("it took too long".to_owned())),
            }
        }
        Ok(Err(failed)) => Err(failed),
        Err(_) => Err(Failed::Handshake("it took too long".to_owned())),
    };
    if let Err(failed) = ended {
        shared.count(client, &failed);
    }
}

type Guest = Box<dyn crate::Guest>;

/// Lets the client in, and tells them so; or why not.
async fn begin(
    shared: &Arc<Shared>,
    stream: &mut Box<dyn Stream>,
    head: &Head,
    offer: &Offer,
    client: IpAddr,
) -> Result<(String, Guest), Failed> {
    let failed = |error: std::io::Error| Failed::Handshake(error.to_string());
    let Some(protocol) = offer.choose() else {
        let _ = timeout(FAREWELL, answer(stream, Status(400, "Bad Request"), "no subprotocol is known here"))
            .await;
        return Err(Failed::Handshake("no subprotocol is known here".to_owned()));
    };
    let guest = match shared.admit(Target::parse(&head.target), client).await {
        Ok(guest) => guest,
        Err(refusal) => {
            let status = Status(refusal.status(), "Refused");
            let _ = timeout(FAREWELL, answer(stream, status, &refusal.to_string())).await;
            return Err(Failed::Refused(refusal));
        }
    };
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {}\r\nsec-websocket-protocol: {protocol}\r\n\r\n",
        derive_accept_key(offer.key.as_bytes())
    );
    stream.write_all(accepted.as_bytes()).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    Ok((protocol, guest))
}

async fn upgraded(shared: &Shared, stream: Box<dyn Stream>, rest: Vec<u8>, protocol: &str) -> Session {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WAITING_BYTES);
    let socket = WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(limits)).await;
    let silence = shared.limits.silence;
    let mut config = Config::default();
    config.max_streams_bidi = MAX_QUESTIONS;
    // Whoever is here may turn out to publish, and this can't be raised later.
    config.max_streams_uni = MAX_PUBLISHER_STREAMS.into();
    config.max_datagram_frame_size = 0;
    config.max_data = RECEIVE_WINDOW_BYTES;
    config.max_stream_data_uni = STREAM_RECEIVE_WINDOW_BYTES;
    config.max_idle_timeout = silence.as_millis() as u64;
    let session = Upgraded::new(socket)
        .with_alpn(protocol)
        .with_keep_alive(KeepAlive::new(silence / 3, silence))
        .with_session_config(config)
        .accept();
    Session::new(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_both_know_is_chosen() {
        let choose = |protocols: &[&str]| {
            let protocols = protocols.iter().map(|one| (*one).to_owned()).collect();
            Offer { key: String::new(), protocols }.choose()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(choose(&["webtransport", "qmux-00", "qmux-02"]), some("qmux-02"));
        assert_eq!(choose(&["qmux-01.moq-lite-04", "qmux-00.moq-lite-05"]), some("qmux-00.moq-lite-05"));
        assert_eq!(choose(&["qmux-00.moq-lite-04", "qmux-02.moq-lite-04"]), some("qmux-02.moq-lite-04"));
        assert_eq!(choose(&["qmux-02.moq-lite-05", "qmux-02.moq-lite-06"]), some("qmux-02.moq-lite-06"));
        assert_eq!(choose(&["webtransport"]), None, "it has no flow control");
        assert_eq!(choose(&[]), None);
    }
}
