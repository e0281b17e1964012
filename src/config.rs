//! The server's configuration: what can be set, the defaults, and what a good value is.
//!
//! A TOML file goes over the defaults, `HAUL__SECTION__KEY` variables go over both (`load`). Every key stands in
//! `configs/haul.toml` with its comment, and in [`KEYS`] with what is expected of it; tests keep the three together.

mod creators;
mod load;
mod value;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use haul_gateway::{
    client::Network,
    origin::{Allowed, Origins},
};
use haul_model::ContactNeed;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    creators::{Buyers, Creators},
    load::{environment, load},
    value::{Filter, GateUrl, Hidden, IceServer, LedgerUrl},
};

/// The most addresses of `media.bind`: each is a socket on every shard.
const MAX_BINDS: usize = 8;

/// All of it. `Default` is what a server without a file runs with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// Where everything is that must survive a restart.
    #[serde(deserialize_with = "value::path")]
    pub(crate) data_dir: PathBuf,
    /// Whether to seed the demo live with products and a sale. Off by default with a file, on without one.
    pub(crate) demo: bool,
    /// Pages, REST, the channel, signalling.
    pub(crate) http: Http,
    /// WebRTC's packets.
    pub(crate) media: Media,
    /// Media over QUIC.
    pub(crate) moq: Moq,
    /// Gate and ledger.
    pub(crate) store: Store,
    /// Tokens.
    pub(crate) auth: Auth,
    /// What clients are told about STUN and TURN.
    pub(crate) ice: Ice,
    /// Websockets and chat.
    pub(crate) channel: Channel,
    /// Defaults of flash sales.
    pub(crate) sale: Sale,
    /// Who brings buyers, and what they get for it.
    pub(crate) creators: Creators,
    /// What buyers come to.
    pub(crate) buyers: Buyers,
    /// Who collects the money.
    pub(crate) payments: Payments,
    /// What merchants are told.
    pub(crate) webhooks: Webhooks,
    /// Who may take how many holds.
    pub(crate) risk: Risk,
    /// What is logged, and how.
    pub(crate) log: Log,
}

/// Pages, REST, the channel, signalling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Http {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// What browsers call this server, without a slash at the end; empty: whatever their `Host` header says.
    #[serde(deserialize_with = "value::page_url")]
    pub(crate) public_url: String,
    /// Whose `X-Forwarded-For` and `Forwarded` are believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Which pages of other origins may talk to us and frame our pages.
    pub(crate) allowed_origins: Vec<Allowed>,
    /// Certificate chain, PEM; see [`Http::tls`].
    tls_cert: PathBuf,
    /// Its key, PEM; see [`Http::tls`].
    tls_key: PathBuf,
    /// TCP connections at once; more are closed at once.
    pub(crate) max_connections: usize,
}

/// WebRTC's packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Media {
    /// The first shard's port; the others follow it.
    pub(crate) udp_port: u16,
    /// See [`Media::shards`].
    shards: usize,
    /// The addresses the ports are bound to.
    pub(crate) bind: Vec<IpAddr>,
    /// The addresses that clients reach the ports at; empty: this machine's own.
    pub(crate) public_addresses: Vec<IpAddr>,
    /// See [`Media::ice_tcp_port`].
    ice_tcp_port: u16,
    /// Viewers' sessions at once; more are refused with "try later".
    pub(crate) max_viewers: usize,
    /// Publishers' sessions at once; more are refused with "try later".
    pub(crate) max_publishers: usize,
    /// Sessions at once from one client address.
    pub(crate) max_sessions_per_client: usize,
    /// Media sent to viewers at which further ones are refused; 0: no limit.
    pub(crate) max_egress_mbps: u64,
    /// Load of the least busy shard's processor at which further viewers are refused; 0: no limit.
    pub(crate) max_cpu_percent: u64,
    /// Who may publish on a live that somebody publishes on.
    pub(crate) takeover: Takeover,
}

/// Who may publish on a live that somebody publishes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Takeover {
    /// The host who is on air, from another device or after a crash.
    SameHost,
    /// Nobody: the session on air must end first.
    Refuse,
    /// Any host of the live.
    AnyHost,
}

/// Media over QUIC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moq {
    /// Where to listen; `None`: off.
    #[serde(with = "value::or_empty")]
    pub(crate) listen: Option<SocketAddr>,
    /// What browsers call it, without a slash at its end; empty: the page's host name, and the port.
    pub(crate) public_url: String,
    /// Certificate chain, PEM; see [`Moq::tls`].
    tls_cert: PathBuf,
    /// Its key, PEM; see [`Moq::tls`].
    tls_key: PathBuf,
    /// How connections find out how fast they may send.
    pub(crate) congestion: Congestion,
    /// QUIC connections, and TCP connections to the same port, at once; more are refused.
    pub(crate) max_connections: usize,
}

/// How a QUIC connection finds out how fast it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Congestion {
    /// By loss, growing back along a cubic curve.
    Cubic,
    /// By loss, growing back linearly.
    NewReno,
    /// The first, but for packets that are lost by chance.
    Discerning,
    /// By measured rate and round trip.
    Bbr,
}

/// Gate and ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Store {
    /// Who decides about stock.
    pub(crate) gate_url: GateUrl,
    /// Whether servers on the same gate share their rooms.
    pub(crate) share_rooms: bool,
    /// Where orders are written down; see [`Config::ledger_url`].
    ledger_url: LedgerUrl,
    /// How long to wait for the gate's answer, in milliseconds.
    pub(crate) gate_timeout_ms: u64,
    /// How many replicas of a Redis gate must have a change before it is answered.
    pub(crate) gate_wait_replicas: u32,
    /// How long they may take, in milliseconds.
    pub(crate) gate_wait_ms: u64,
}

/// Tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Auth {
    /// What signs tokens, at least [`haul_gateway::auth::MIN_SECRET_BYTES`]; empty: generated once and kept in `data_dir`.
    #[serde(deserialize_with = "value::long_or_empty")]
    pub(crate) secret: Hidden,
}

/// What clients are told about STUN and TURN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ice {
    /// The servers.
    pub(crate) servers: Vec<IceServer>,
}

/// Websockets and chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Channel {
    /// Websockets at once; more are closed with "try later".
    pub(crate) max_connections: usize,
    /// Chat lines a minute from one sender.
    pub(crate) chat_per_minute: u32,
    /// Guests' tokens an hour for one address; 0: no limit.
    pub(crate) guests_per_address: u32,
    /// What guests may not call themselves.
    pub(crate) reserved_names: Vec<String>,
}

/// Defaults of flash sales.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sale {
    /// How long units are set aside for a buyer who has not gone to pay, in seconds.
    pub(crate) hold_seconds: u64,
    /// How long a buyer who has gone to pay may take, in seconds.
    pub(crate) pay_seconds: u64,
    /// What a checkout must say of whom the order goes to.
    pub(crate) contact: ContactNeed,
}

/// Who collects the money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Payments {
    /// Which provider.
    pub(crate) provider: Provider,
    /// What signs the provider's callbacks; see [`Payments::secrets`].
    callback_secrets: Vec<Hidden>,
    /// The merchant's payment page, to which buyers are sent with the order in the URL.
    #[serde(deserialize_with = "value::absolute_url")]
    pub(crate) page_url: String,
    /// The merchant's endpoint that opens payments and sends money back.
    #[serde(deserialize_with = "value::absolute_url")]
    pub(crate) endpoint_url: String,
    /// Where Stripe sends buyers afterwards; see [`Payments::return_url`].
    #[serde(deserialize_with = "value::absolute_url")]
    return_url: String,
    /// Stripe's secret key.
    pub(crate) stripe_key: Hidden,
    /// Where Stripe's API is.
    #[serde(deserialize_with = "value::absolute_url")]
    pub(crate) stripe_url: String,
}

/// A payment provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Provider {
    /// No money moves: a page with two buttons.
    Sandbox,
    /// The merchant's own payment page, which calls back.
    Merchant,
    /// Stripe.
    Stripe,
}

/// What merchants are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Webhooks {
    /// Whether endpoints may be in private networks, and spoken with over plain HTTP.
    pub(crate) allow_private: bool,
}

/// Who may take how many holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Risk {
    /// Holds a minute of one account; 0: no limit.
    pub(crate) holds_per_account: u32,
    /// Holds a minute of one device, where tokens name one; 0: no limit.
    pub(crate) holds_per_device: u32,
    /// Holds a minute of one address; 0: no limit.
    pub(crate) holds_per_address: u32,
    /// The merchant's server that may refuse a hold; empty: nobody is asked.
    #[serde(deserialize_with = "value::absolute_url")]
    pub(crate) check_url: String,
    /// What signs the question.
    pub(crate) check_secret: Hidden,
    /// How long the answer may take, in milliseconds.
    pub(crate) check_ms: u64,
    /// What happens without an answer.
    pub(crate) check_fails: CheckFails,
}

/// What happens to a hold that could not be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CheckFails {
    /// It is allowed.
    Open,
    /// It is refused.
    Closed,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Log {
    /// Which lines.
    pub(crate) level: Filter,
    /// In which form.
    pub(crate) format: LogFormat,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            demo: true,
            http: Http {
                listen: (Ipv4Addr::UNSPECIFIED, 8080).into(),
                public_url: String::new(),
                trusted_proxies: Vec::new(),
                allowed_origins: Vec::new(),
                tls_cert: PathBuf::new(),
                tls_key: PathBuf::new(),
                // Below the 20,000 open files of a usual service, so that stores and media keep theirs.
                max_connections: 16_000,
            },
            media: Media {
                udp_port: 7000,
                shards: 0,
                bind: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
                public_addresses: Vec::new(),
                ice_tcp_port: 0,
                max_viewers: 10_000,
                max_publishers: 100,
                max_sessions_per_client: 500,
                // Four fifths of a 10 Gb/s card.
                max_egress_mbps: 8_000,
                max_cpu_percent: 85,
                takeover: Takeover::SameHost,
            },
            moq: Moq {
                listen: None,
                public_url: String::new(),
                tls_cert: PathBuf::new(),
                tls_key: PathBuf::new(),
                congestion: Congestion::Discerning,
                max_connections: 12_000,
            },
            store: Store {
                gate_url: GateUrl::Embedded,
                share_rooms: false,
                ledger_url: LedgerUrl::InDataDir,
                gate_timeout_ms: 500,
                gate_wait_replicas: 0,
                gate_wait_ms: 200,
            },
            auth: Auth { secret: Hidden::default() },
            ice: Ice { servers: Vec::new() },
            channel: Channel {
                max_connections: 12_000,
                chat_per_minute: 30,
                guests_per_address: 30,
                reserved_names: Vec::new(),
            },
            sale: Sale { hold_seconds: 120, pay_seconds: 600, contact: ContactNeed::Nothing },
            creators: Creators::default(),
            buyers: Buyers::default(),
            payments: Payments {
                provider: Provider::Sandbox,
                callback_secrets: Vec::new(),
                page_url: String::new(),
                endpoint_url: String::new(),
                return_url: String::new(),
                stripe_key: Hidden::default(),
                stripe_url: haul_payments::stripe::API_URL.to_owned(),
            },
            webhooks: Webhooks { allow_private: false },
            risk: Risk {
                holds_per_account: 0,
                holds_per_device: 0,
                holds_per_address: 0,
                check_url: String::new(),
                check_secret: Hidden::default(),
                check_ms: 300,
                check_fails: CheckFails::Open,
            },
            log: Log { level: Filter::default(), format: LogFormat::Text },
        }
    }
}

impl Config {
    /// The ledger's URL with a place: where none is configured, the file `haul.db` in `data_dir`.
    pub(crate) fn ledger_url(&self) -> Hidden {
        self.store.ledger_url.resolve(&self.data_dir)
    }

    /// What follows from orders.
    pub(crate) fn rules(&self) -> haul_commerce::follow::Rules {
        creators::rules(&self.creators, &self.buyers).expect("`check` has refused what can't be")
    }

    /// What no single key can be blamed for.
    fn check(&self) -> Result<(), String> {
        creators::rules(&self.creators, &self.buyers)?;
        if self.http.tls_cert.as_os_str().is_empty() != self.http.tls_key.as_os_str().is_empty() {
            return Err("http.tls_cert and http.tls_key: expected both or neither".to_owned());
        }
        if self.moq.tls_cert.as_os_str().is_empty() != self.moq.tls_key.as_os_str().is_empty() {
            return Err("moq.tls_cert and moq.tls_key: expected both or neither".to_owned());
        }
        let moq_url = &self.moq.public_url;
        if !moq_url.is_empty() && (!moq_url.starts_with("https://") || Origins::new(moq_url, vec![]).is_err())
        {
            return Err(format!(
                "moq.public_url: expected a URL such as https://media.example:4443, or nothing, got {moq_url:?}"
            ));
        }
        if self.store.gate_wait_replicas > 0 && self.store.gate_wait_ms >= self.store.gate_timeout_ms {
            return Err(format!(
                "store.gate_wait_ms: expected less than store.gate_timeout_ms ({}), got {}",
                self.store.gate_timeout_ms, self.store.gate_wait_ms
            ));
        }
        if self.store.gate_wait_replicas > 0 && self.store.gate_url == GateUrl::Embedded {
            return Err(
                "store.gate_wait_replicas: expected a gate in Redis (store.gate_url), it is embedded and has none"
                    .to_owned(),
            );
        }
        if self.store.share_rooms && self.store.gate_url == GateUrl::Embedded {
            return Err(
                "store.share_rooms: expected a gate in Redis (store.gate_url), it is embedded".to_owned()
            );
        }
        let last = usize::from(self.media.udp_port) + self.media.shards().get() - 1;
        if last > usize::from(u16::MAX) {
            return Err(format!(
                "media.udp_port and media.shards: expected ports up to {}, these would reach {last}",
                u16::MAX
            ));
        }
        if !(1..=MAX_BINDS).contains(&self.media.bind.len()) {
            return Err(format!(
                "media.bind: expected from 1 to {MAX_BINDS} addresses, got {}",
                self.media.bind.len()
            ));
        }
        // An address of a family that is not bound to would be told to nobody.
        let served = |address: &IpAddr| self.media.bind.iter().any(|ip| ip.is_ipv4() == address.is_ipv4());
        if let Some(address) = self.media.public_addresses.iter().find(|address| !served(address)) {
            let (expected, got) = if address.is_ipv6() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
            return Err(format!(
                "media.public_addresses: expected {expected} addresses, as all of media.bind are, got {address}: \
                 {got} is not served there"
            ));
        }
        let secret = self.risk.check_secret.expose();
        if !self.risk.check_url.is_empty() && haul_payments::SigningKey::parse(secret).is_none() {
            return Err(
                "risk.check_url: needs risk.check_secret, whsec_ and base64 of 24 bytes or more".to_owned()
            );
        }
        self.payments.check(&self.http)
    }
}

impl Payments {
    /// What signs the provider's callbacks.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.callback_secrets.iter().map(Hidden::expose)
    }

    /// Where Stripe sends buyers afterwards: as configured, or to the live's page.
    pub(crate) fn return_url(&self, http: &Http) -> String {
        match self.return_url.as_str() {
            "" => format!("{}/watch/{{live}}", http.public_url),
            url => url.to_owned(),
        }
    }

    /// What each provider cannot do without.
    fn check(&self, http: &Http) -> Result<(), String> {
        let needs = |what: &str| Err(format!("payments.provider: this one needs {what}"));
        match self.provider {
            Provider::Sandbox => Ok(()),
            _ if self.callback_secrets.is_empty() => needs("payments.callback_secrets"),
            Provider::Merchant if self.page_url.is_empty() == self.endpoint_url.is_empty() => {
                needs("either payments.page_url or payments.endpoint_url")
            }
            Provider::Merchant
                if self.secrets().any(|secret| haul_payments::SigningKey::parse(secret).is_none()) =>
            {
                needs("payments.callback_secrets that are whsec_ and base64 of 24 bytes or more")
            }
            Provider::Stripe if self.stripe_key.expose().is_empty() => needs("payments.stripe_key"),
            Provider::Stripe if self.secrets().any(str::is_empty) => {
                needs("payments.callback_secrets that are not empty")
            }
            Provider::Stripe if self.return_url.is_empty() && http.public_url.is_empty() => {
                needs("payments.return_url or http.public_url")
            }
            Provider::Merchant | Provider::Stripe => Ok(()),
        }
    }
}

impl Http {
    /// Certificate chain and key, where HTTPS is on.
    pub(crate) fn tls(&self) -> Option<(&Path, &Path)> {
        (!self.tls_cert.as_os_str().is_empty()).then_some((&*self.tls_cert, &*self.tls_key))
    }

    /// The rule for pages of other origins.
    pub(crate) fn origins(&self) -> Origins {
        Origins::new(&self.public_url, self.allowed_origins.clone())
            .expect("`load` refuses a public_url that has no origin")
    }
}

impl Http {
    /// Where a browser on this machine finds the server, or anybody, where `public_url` says so.
    pub(crate) fn base_url(&self) -> String {
        if !self.public_url.is_empty() {
            return self.public_url.clone();
        }
        let scheme = if self.tls().is_some() { "https" } else { "http" };
        match self.listen.ip() {
            ip if ip.is_unspecified() => format!("{scheme}://localhost:{}", self.listen.port()),
            _ => format!("{scheme}://{}", self.listen),
        }
    }
}

impl Moq {
    /// Certificate chain and key of its own, where there are any.
    pub(crate) fn tls(&self) -> Option<(&Path, &Path)> {
        (!self.tls_cert.as_os_str().is_empty()).then_some((&*self.tls_cert, &*self.tls_key))
    }
}

impl Media {
    /// How many media threads, each with a port of its own: as configured, or one a core.
    pub(crate) fn shards(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.shards)
            .or_else(|| std::thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN)
    }

    /// The port for media over TCP, where it is on.
    pub(crate) fn ice_tcp_port(&self) -> Option<u16> {
        (self.ice_tcp_port != 0).then_some(self.ice_tcp_port)
    }
}

/// What a key's value must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both included, in this unit.
    Integer(u64, u64, &'static str),
    /// A text that is this.
    Text(&'static str),
    /// A list of texts, each of which is this.
    List(&'static str),
}

/// Every key there is, in the order of `configs/haul.toml`.
pub(crate) const KEYS: &[(&str, Expect)] = &[
    ("data_dir", Expect::Text("the path of a directory")),
    ("demo", Expect::Bool),
    ("http.listen", Expect::Text("an IP address and a port, such as 0.0.0.0:8080")),
    ("http.public_url", Expect::Text("a URL such as https://live.example, or nothing")),
    ("http.trusted_proxies", Expect::List("an IP address or a CIDR block, such as 10.0.0.0/8")),
    ("http.allowed_origins", Expect::List("an origin such as https://shop.example, or *")),
    ("http.tls_cert", Expect::Text("the path of a PEM file, or nothing")),
    ("http.tls_key", Expect::Text("the path of a PEM file, or nothing")),
    ("http.max_connections", Expect::Integer(1, 1_000_000, "connections")),
    ("media.udp_port", Expect::Integer(1, 65_535, "as a port")),
    ("media.shards", Expect::Integer(0, 256, "threads")),
    ("media.bind", Expect::List("an IP address")),
    ("media.public_addresses", Expect::List("an IP address")),
    ("media.ice_tcp_port", Expect::Integer(0, 65_535, "as a port")),
    ("media.max_viewers", Expect::Integer(1, 1_000_000, "sessions")),
    ("media.max_publishers", Expect::Integer(1, 100_000, "sessions")),
    ("media.max_sessions_per_client", Expect::Integer(1, 1_000_000, "sessions")),
    ("media.max_egress_mbps", Expect::Integer(0, 1_000_000, "Mb/s")),
    ("media.max_cpu_percent", Expect::Integer(0, 100, "percent")),
    ("media.takeover", Expect::Text("same-host, refuse or any-host")),
    ("moq.listen", Expect::Text("an IP address and a port, such as 0.0.0.0:4443, or nothing")),
    ("moq.public_url", Expect::Text("a URL such as https://media.example:4443, or nothing")),
    ("moq.tls_cert", Expect::Text("the path of a PEM file, or nothing")),
    ("moq.tls_key", Expect::Text("the path of a PEM file, or nothing")),
    ("moq.congestion", Expect::Text("discerning, cubic, newreno or bbr")),
    ("moq.max_connections", Expect::Integer(1, 1_000_000, "connections")),
    ("store.gate_url", Expect::Text("embedded: or redis://HOST[:PORT][/DB]")),
    ("store.share_rooms", Expect::Bool),
    ("store.ledger_url", Expect::Text("sqlite:, sqlite://PATH or postgres://…")),
    ("store.gate_timeout_ms", Expect::Integer(10, 60_000, "milliseconds")),
    ("store.gate_wait_replicas", Expect::Integer(0, 16, "replicas")),
    ("store.gate_wait_ms", Expect::Integer(1, 60_000, "milliseconds")),
    ("auth.secret", Expect::Text("at least 32 bytes of text, or nothing for a generated one")),
    ("ice.servers", Expect::List("a server such as stun:HOST:3478 or turn:USER:PASSWORD@HOST:3478")),
    ("channel.max_connections", Expect::Integer(1, 1_000_000, "connections")),
    ("channel.chat_per_minute", Expect::Integer(1, 6_000, "lines")),
    ("channel.guests_per_address", Expect::Integer(0, 100_000, "guests an hour")),
    ("channel.reserved_names", Expect::List("a name")),
    ("sale.hold_seconds", Expect::Integer(1, 3_600, "seconds")),
    ("sale.pay_seconds", Expect::Integer(10, 86_400, "seconds")),
    ("sale.contact", Expect::Text("nothing, email or address")),
    ("creators.platform_bps", Expect::Integer(0, 10_000, "hundredths of a percent")),
    ("creators.agency_bps", Expect::Integer(0, 10_000, "hundredths of a percent")),
    ("creators.creator_bps", Expect::Integer(0, 10_000, "hundredths of a percent")),
    ("creators.click_window_hours", Expect::Integer(0, 8_784, "hours")),
    ("creators.join_window_hours", Expect::Integer(0, 8_784, "hours")),
    ("creators.signed_refs", Expect::Bool),
    ("buyers.order_milestones", Expect::List("a number of orders such as 5")),
    ("buyers.spend_milestones", Expect::List("a sum in minor units such as EUR:10000")),
    ("buyers.keep_touches_days", Expect::Integer(0, 36_500, "days")),
    ("buyers.keep_details_days", Expect::Integer(0, 36_500, "days")),
    ("payments.provider", Expect::Text("sandbox, merchant or stripe")),
    (
        "payments.callback_secrets",
        Expect::List("a secret such as whsec_… (with merchant: whsec_ and base64 of at least 24 bytes)"),
    ),
    ("payments.page_url", Expect::Text("a URL such as https://shop.example/pay, or nothing")),
    ("payments.endpoint_url", Expect::Text("a URL such as https://shop.example/haul, or nothing")),
    ("payments.return_url", Expect::Text("a URL such as https://shop.example/orders/{order}, or nothing")),
    ("payments.stripe_key", Expect::Text("Stripe's secret key, or nothing")),
    ("payments.stripe_url", Expect::Text("a URL such as https://api.stripe.com")),
    ("webhooks.allow_private", Expect::Bool),
    ("risk.holds_per_account", Expect::Integer(0, 100_000, "holds a minute")),
    ("risk.holds_per_device", Expect::Integer(0, 100_000, "holds a minute")),
    ("risk.holds_per_address", Expect::Integer(0, 100_000, "holds a minute")),
    ("risk.check_url", Expect::Text("a URL such as https://shop.example/check, or nothing")),
    ("risk.check_secret", Expect::Text("whsec_ and base64 of at least 24 bytes, or nothing")),
    ("risk.check_ms", Expect::Integer(10, 5_000, "milliseconds")),
    ("risk.check_fails", Expect::Text("open or closed")),
    ("log.level", Expect::Text("off, error, warn, info, debug or trace, or a list of TARGET=LEVEL")),
    ("log.format", Expect::Text("text or json")),
];

/// Keys whose values may hold secrets: no message quotes them.
const SECRET_KEYS: &[&str] = &[
    "auth.secret",
    "store.gate_url",
    "store.ledger_url",
    "ice.servers",
    "payments.callback_secrets",
    "payments.stripe_key",
    "risk.check_secret",
];

#[cfg(test)]
mod tests {
    use haul_commerce::sale::HOLD_MS;
    use haul_gateway::auth::MIN_SECRET_BYTES;

    use super::*;

    /// The dotted keys of a table's leaves, in its order.
    fn keys(table: &toml::Table, prefix: &str, into: &mut Vec<String>) {
        for (name, value) in table {
            match value {
                toml::Value::Table(table) => keys(table, &format!("{prefix}{name}."), into),
                _ => into.push(format!("{prefix}{name}")),
            }
        }
    }

    fn keys_of(table: &toml::Table) -> Vec<String> {
        let mut found = Vec::new();
        keys(table, "", &mut found);
        found.sort();
        found
    }

    fn known_keys() -> Vec<String> {
        let mut known: Vec<_> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
        known.sort();
        known
    }

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name)
    }

    #[test]
    fn every_key_says_what_is_expected_of_it() {
        assert_eq!(keys_of(&toml::Table::try_from(Config::default()).unwrap()), known_keys());
    }

    /// It is chosen by what was measured: whoever measures anew changes all three.
    #[test]
    fn the_congestion_controller_is_the_one_that_the_figures_speak_for() {
        let ours = Config::default().moq.congestion;
        assert_eq!(haul_quic::Congestion::from(ours), haul_quic::Congestion::default());
        let name = toml::Value::try_from(ours).unwrap();
        let name = name.as_str().unwrap();
        let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
        let figures = std::fs::read_to_string(figures).unwrap();
        assert!(
            figures.contains(&format!("the default is **`{name}`**")),
            "docs/performance.md has another than {name}"
        );
    }

    #[test]
    fn the_commented_file_has_every_key_with_its_default() {
        let text = std::fs::read_to_string(file("haul.toml")).unwrap();
        assert_eq!(keys_of(&text.parse().unwrap()), known_keys());
        assert_eq!(load(Some(&file("haul.toml")), Vec::new()).unwrap(), Config::default());
        let mut above = "";
        for line in text.lines() {
            assert!(
                !line.contains(" = ") || line.starts_with('#') || above.starts_with('#'),
                "no comment: {line}"
            );
            above = line;
        }
    }

    #[test]
    fn the_production_file_is_a_good_one() {
        let with = |names: &[&str]| {
            let secrets = names.iter().map(|name| (format!("HAUL__PAYMENTS__{name}"), "x".to_owned()));
            load(Some(&file("production.toml")), secrets.collect())
        };
        // Nothing is sold before it is said who collects the money, and with what.
        for (names, missing) in [(&[][..], "callback_secrets"), (&["CALLBACK_SECRETS"][..], "stripe_key")] {
            let refused = with(names).unwrap_err().to_string();
            assert!(refused.contains(missing), "{refused}");
        }
        let config = with(&["CALLBACK_SECRETS", "STRIPE_KEY"]).unwrap();
        assert!(!config.demo);
        assert_eq!(config.payments.provider, Provider::Stripe);
        assert!(matches!(config.store.gate_url, GateUrl::Redis(_)));
    }

    #[test]
    fn bounds_are_those_of_the_rest_of_the_program() {
        let bounds = |wanted: &str| {
            KEYS.iter().find_map(|(key, expect)| match expect {
                Expect::Integer(least, most, _) if *key == wanted => Some((*least, *most)),
                _ => None,
            })
        };
        assert_eq!(bounds("sale.hold_seconds"), Some((HOLD_MS.start() / 1000, HOLD_MS.end() / 1000)));
        assert_eq!(MIN_SECRET_BYTES, 32);
    }

    #[test]
    fn the_ledger_follows_the_data_directory() {
        let at = |dir: &str| {
            let config = Config { data_dir: dir.into(), ..Config::default() };
            config.ledger_url().expose().to_owned()
        };
        assert_eq!(at("data"), "sqlite://data/haul.db");
        assert_eq!(at("/var/lib/haul"), "sqlite:///var/lib/haul/haul.db");
        assert_eq!(at("/tmp/100%?"), "sqlite:///tmp/100%25%3F/haul.db");
    }
}
